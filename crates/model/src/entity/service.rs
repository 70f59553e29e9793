//! `services`

use uuid::Uuid;

use super::rules;
use crate::schema::{Constraint, EntityCheck};
use crate::{Config, Reference, Set, Value};

/// An upstream service.
#[derive(Debug, Clone, Config)]
#[config(checks = [
    only_with("path", &["tcp", "tls", "udp", "grpc", "grpcs"], false),
    only_with("client_certificate", &["https", "tls"], true),
    only_with("tls_verify", &["https", "tls"], true),
    only_with("tls_verify_depth", &["https", "tls"], true),
    only_with("ca_certificates", &["https", "tls"], true),
])]
pub struct Service {
    /// Identifies the service.
    #[config(auto)]
    pub id: Option<Uuid>,
    /// When it was made, in seconds since 1970.
    #[config(auto, timestamp)]
    pub created_at: Option<i64>,
    /// When it was last changed, in seconds since 1970.
    #[config(auto, timestamp)]
    pub updated_at: Option<i64>,
    /// A name of your choice.
    #[config(unique, check = rules::name)]
    pub name: Option<String>,
    /// Further tries after the first one failed.
    #[config(default = 5, between(0, 32767))]
    pub retries: Option<i64>,
    /// How the service is spoken to.
    #[config(
        default = "http",
        one_of("grpc", "grpcs", "http", "https", "tcp", "tls", "tls_passthrough", "udp")
    )]
    pub protocol: String,
    /// Name or address of the service, or the name of an upstream.
    #[config(check = rules::host)]
    pub host: String,
    /// Port of the service.
    #[config(default = 80, between(0, 65535))]
    pub port: u16,
    /// Path in front of the request's.
    #[config(starts_with("/"), check = rules::path)]
    pub path: Option<String>,
    /// Milliseconds to connect in.
    #[config(default = 60000, between(1, 2_147_483_646))]
    pub connect_timeout: Option<i64>,
    /// Milliseconds between two writes.
    #[config(default = 60000, between(1, 2_147_483_646))]
    pub write_timeout: Option<i64>,
    /// Milliseconds between two reads.
    #[config(default = 60000, between(1, 2_147_483_646))]
    pub read_timeout: Option<i64>,
    /// Labels to select by.
    #[config(each(required, check = rules::tag))]
    pub tags: Option<Set<String>>,
    /// Certificate shown to the service.
    #[config(foreign = crate::Kind::Certificate)]
    pub client_certificate: Option<Reference>,
    /// Whether the service's certificate is checked; unset, the node's setting counts.
    pub tls_verify: Option<bool>,
    /// Longest chain of certificates that is accepted.
    #[config(between(0, 64))]
    pub tls_verify_depth: Option<i64>,
    /// Ids of the CA certificates that vouch for the service.
    pub ca_certificates: Option<Vec<Uuid>>,
    /// Whether its routes are served.
    #[config(default = true)]
    pub enabled: bool,
    /// Protocol, host, port and path in one.
    #[config(shorthand)]
    pub url: Option<String>,
}

/// A field that makes sense only with (or without) some protocols.
fn only_with(field: &'static str, protocols: &[&str], with: bool) -> EntityCheck {
    let protocols = protocols.iter().map(|protocol| Value::from(*protocol)).collect();
    EntityCheck::Conditional {
        if_field: "protocol",
        if_match: Box::new(if with { Constraint::NotOneOf(protocols) } else { Constraint::OneOf(protocols) }),
        then_field: field,
        then_match: Box::new(Constraint::Eq(Value::Null)),
        then_error: None,
    }
}
