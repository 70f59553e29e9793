//! `services`

use uuid::Uuid;

use super::rules;
use crate::schema::{Constraint, EntityCheck};
use crate::{Config, Map, Reference, Set, Value, json};

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
    #[config(
        starts_with("/"),
        matches(pattern = "//", regex = "//", error = "must not have empty segments", negated),
        check = rules::path
    )]
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
    #[config(default = null, between(0, 64))]
    pub tls_verify_depth: Option<i64>,
    /// Ids of the CA certificates that vouch for the service.
    pub ca_certificates: Option<Vec<Uuid>>,
    /// Whether its routes are served.
    #[config(default = true)]
    pub enabled: bool,
    /// Protocol, host, port and path in one.
    #[config(shorthand(expand = parts_of_url))]
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

/// What a URL stands for. Like Kong's parser this one takes whatever it is given apart, so that the checks of
/// the parts name what is wrong (Kong 3.11).
fn parts_of_url(value: &Value) -> Map<String, Value> {
    // Lua's text of a null.
    let text = value.as_str().unwrap_or("userdata: NULL");
    let rest = text.split_once('#').map_or(text, |(before, _)| before);
    let (scheme, rest) = match rest.split_once(':') {
        Some((scheme, rest)) if is_scheme(scheme) => (Some(scheme), rest),
        _ => (None, rest),
    };
    let (authority, rest) = match rest.strip_prefix("//") {
        Some(rest) => {
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            (Some(&rest[..end]), &rest[end..])
        }
        None => (None, rest),
    };
    let path = rest.split(['?', ';']).next().unwrap_or_default();
    let authority = authority.map(|all| all.split_once('@').map_or(all, |(_, host)| host));
    let (host, port) = match authority.and_then(|all| all.rsplit_once(':')) {
        Some((host, port)) if !port.contains(']') => (Some(host), Some(port)),
        _ => (authority, None),
    };
    let host = host.filter(|host| !host.is_empty());
    let bare = host.and_then(|host| host.strip_prefix('[')?.strip_suffix(']')).or(host);
    let number = port.and_then(|port| port.parse::<i64>().ok());
    let protocol = scheme.unwrap_or(if number == Some(443) { "https" } else { "http" });
    let port = match (number, port) {
        (Some(number), _) => json!(number),
        (None, Some(text)) => json!(text),
        (None, None) => json!(if protocol == "https" { 443 } else { 80 }),
    };
    Map::from_iter([
        ("protocol".to_owned(), json!(protocol)),
        ("host".to_owned(), json!(bare)),
        ("port".to_owned(), port),
        ("path".to_owned(), json!((!path.is_empty()).then_some(path))),
    ])
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}
