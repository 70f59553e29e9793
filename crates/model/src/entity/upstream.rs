//! `upstreams` and `targets`

use std::collections::BTreeMap;

use uuid::Uuid;

use super::rules;
use crate::schema::{Constraint, EntityCheck};
use crate::{Config, Map, Reference, Set, Value};

/// A virtual host with targets to balance over.
#[derive(Debug, Clone, Config)]
#[config(checks = [
    needs("hash_on", "^header$", "hash_on_header"),
    needs("hash_fallback", "^header$", "hash_fallback_header"),
    needs("hash_on", "^cookie$", "hash_on_cookie"),
    needs("hash_fallback", "^cookie$", "hash_on_cookie"),
    fallback("^none$", &["none"]),
    fallback("^cookie$", &["none"]),
    fallback("^consumer$", &["none", "ip", "header", "cookie", "path", "query_arg", "uri_capture"]),
    fallback("^ip$", &["none", "consumer", "header", "cookie", "path", "query_arg", "uri_capture"]),
    fallback("^path$", &["none", "consumer", "header", "cookie", "query_arg", "ip", "uri_capture"]),
    EntityCheck::Distinct(vec!["hash_on_header", "hash_fallback_header"]),
    needs("hash_on", "^query_arg$", "hash_on_query_arg"),
    needs("hash_fallback", "^query_arg$", "hash_fallback_query_arg"),
    EntityCheck::Distinct(vec!["hash_on_query_arg", "hash_fallback_query_arg"]),
    needs("hash_on", "^uri_capture$", "hash_on_uri_capture"),
    needs("hash_fallback", "^uri_capture$", "hash_fallback_uri_capture"),
    EntityCheck::Distinct(vec!["hash_on_uri_capture", "hash_fallback_uri_capture"]),
])]
pub struct Upstream {
    /// Identifies the upstream.
    #[config(auto)]
    pub id: Option<Uuid>,
    /// When it was made, in seconds since 1970.
    #[config(auto, timestamp)]
    pub created_at: Option<i64>,
    /// The name services give as their host.
    #[config(unique, check = upstream_name)]
    pub name: String,
    /// When it was last changed, in seconds since 1970.
    #[config(auto, timestamp)]
    pub updated_at: Option<i64>,
    /// How a target is chosen.
    #[config(default = "round-robin")]
    pub algorithm: Option<Algorithm>,
    /// What is hashed to choose a target.
    #[config(default = "none")]
    pub hash_on: Option<HashOn>,
    /// What is hashed where the first yields nothing.
    #[config(default = "none")]
    pub hash_fallback: Option<HashOn>,
    /// Header that is hashed.
    #[config(check = rules::header_name)]
    pub hash_on_header: Option<String>,
    /// Header that is hashed where the first yields nothing.
    #[config(check = rules::header_name)]
    pub hash_fallback_header: Option<String>,
    /// Cookie that is hashed; set where the client has none.
    #[config(check = rules::cookie_name)]
    pub hash_on_cookie: Option<String>,
    /// Path of that cookie.
    #[config(
        default = "/",
        starts_with("/"),
        matches(pattern = "//", regex = "//", error = "must not have empty segments", negated),
        check = rules::path
    )]
    pub hash_on_cookie_path: Option<String>,
    /// Query argument that is hashed.
    #[config(len_min(1))]
    pub hash_on_query_arg: Option<String>,
    /// Query argument that is hashed where the first yields nothing.
    #[config(len_min(1))]
    pub hash_fallback_query_arg: Option<String>,
    /// Capture of the route's regex that is hashed.
    #[config(len_min(1))]
    pub hash_on_uri_capture: Option<String>,
    /// Capture that is hashed where the first yields nothing.
    #[config(len_min(1))]
    pub hash_fallback_uri_capture: Option<String>,
    /// Points of the hash ring.
    #[config(default = 10000, between(10, 65536))]
    pub slots: Option<i64>,
    /// How targets are watched.
    #[config(required, record_default("active", "passive"))]
    pub healthchecks: Option<Healthchecks>,
    /// Labels to select by.
    #[config(each(required, check = rules::tag))]
    pub tags: Option<Set<String>>,
    /// `Host` that targets are sent.
    #[config(check = rules::host_with_optional_port)]
    pub host_header: Option<String>,
    /// Certificate shown to targets.
    #[config(foreign = crate::Kind::Certificate)]
    pub client_certificate: Option<Reference>,
    /// Whether targets are sent their SRV name as `Host`.
    #[config(default = false)]
    pub use_srv_name: Option<bool>,
    /// Choosing an algorithm may say what is hashed.
    #[config(shorthand(expand = of_algorithm), rename = "algorithm")]
    pub chosen_algorithm: Option<String>,
    /// Choosing what is hashed says which algorithm.
    #[config(shorthand(expand = of_hash_on), rename = "hash_on")]
    pub chosen_hash: Option<String>,
}

/// How a target is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Config)]
pub enum Algorithm {
    /// The same target for the same hash.
    ConsistentHashing,
    /// The target with the fewest requests under way.
    LeastConnections,
    /// In turn, by weight.
    RoundRobin,
    /// The target that answers fastest.
    Latency,
}

/// What is hashed to choose a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Config)]
pub enum HashOn {
    /// Nothing.
    None,
    /// The consumer.
    Consumer,
    /// The client's address.
    Ip,
    /// A header.
    Header,
    /// A cookie.
    Cookie,
    /// The path.
    Path,
    /// A query argument.
    #[config(rename = "query_arg")]
    QueryArg,
    /// A capture of the route's regex.
    #[config(rename = "uri_capture")]
    UriCapture,
}

/// How targets are watched.
#[derive(Debug, Clone, Config)]
pub struct Healthchecks {
    /// By requests of the gateway's own.
    #[config(required, record_default())]
    pub active: Option<Active>,
    /// By the requests that are proxied.
    #[config(required, record_default())]
    pub passive: Option<Passive>,
    /// Percentage of weight that must be available.
    #[config(default = 0, between(0, 100))]
    pub threshold: Option<f64>,
}

/// Watching by requests of the gateway's own.
#[derive(Debug, Clone, Config)]
pub struct Active {
    /// How targets are asked.
    #[config(default = "http", one_of("tcp", "http", "https", "grpc", "grpcs"))]
    pub r#type: Option<String>,
    /// Seconds for an answer.
    #[config(default = 1, between(0, 65535))]
    pub timeout: Option<f64>,
    /// Targets asked at a time.
    #[config(default = 10, between(1, 2_147_483_648i64))]
    pub concurrency: Option<i64>,
    /// Path that is asked for.
    #[config(
        default = "/",
        starts_with("/"),
        matches(pattern = "//", regex = "//", error = "must not have empty segments", negated),
        check = rules::path
    )]
    pub http_path: Option<String>,
    /// Server name for TLS.
    #[config(optional, check = rules::server_name)]
    pub https_sni: Option<String>,
    /// Whether the target's certificate is checked.
    #[config(default = true)]
    pub https_verify_certificate: bool,
    /// Headers that are sent.
    #[config(optional, keys(check = rules::header_name))]
    pub headers: Option<BTreeMap<String, Vec<String>>>,
    /// What makes a target healthy.
    #[config(required, record_default())]
    pub healthy: Option<ActiveHealthy>,
    /// What makes a target unhealthy.
    #[config(required, record_default())]
    pub unhealthy: Option<ActiveUnhealthy>,
}

/// What makes a target healthy when asked.
#[derive(Debug, Clone, Config)]
pub struct ActiveHealthy {
    /// Seconds between questions to healthy targets; 0 for none.
    #[config(default = 0, between(0, 65535))]
    pub interval: Option<f64>,
    /// Statuses that count as a success.
    #[config(default = [200, 302], each(between(100, 999)))]
    pub http_statuses: Option<Vec<i64>>,
    /// Successes that make a target healthy; 0 for never.
    #[config(default = 0, between(0, 255))]
    pub successes: Option<i64>,
}

/// What makes a target unhealthy when asked.
#[derive(Debug, Clone, Config)]
pub struct ActiveUnhealthy {
    /// Seconds between questions to unhealthy targets; 0 for none.
    #[config(default = 0, between(0, 65535))]
    pub interval: Option<f64>,
    /// Statuses that count as a failure.
    #[config(default = [429, 404, 500, 501, 502, 503, 504, 505], each(between(100, 999)))]
    pub http_statuses: Option<Vec<i64>>,
    /// Failures to connect that make a target unhealthy; 0 for never.
    #[config(default = 0, between(0, 255))]
    pub tcp_failures: Option<i64>,
    /// Time-outs that make a target unhealthy; 0 for never.
    #[config(default = 0, between(0, 255))]
    pub timeouts: Option<i64>,
    /// Failing statuses that make a target unhealthy; 0 for never.
    #[config(default = 0, between(0, 255))]
    pub http_failures: Option<i64>,
}

/// Watching by the requests that are proxied.
#[derive(Debug, Clone, Config)]
pub struct Passive {
    /// What the answers are taken for.
    #[config(default = "http", one_of("tcp", "http", "https", "grpc", "grpcs"))]
    pub r#type: Option<String>,
    /// What makes a target healthy.
    #[config(required, record_default())]
    pub healthy: Option<PassiveHealthy>,
    /// What makes a target unhealthy.
    #[config(required, record_default())]
    pub unhealthy: Option<PassiveUnhealthy>,
}

/// What makes a target healthy by its answers.
#[derive(Debug, Clone, Config)]
pub struct PassiveHealthy {
    /// Statuses that count as a success.
    #[config(default = [200, 201, 202, 203, 204, 205, 206, 207, 208, 226, 300, 301, 302, 303, 304, 305, 306, 307, 308], each(between(100, 999)))]
    pub http_statuses: Option<Vec<i64>>,
    /// Successes that make a target healthy; 0 for never.
    #[config(default = 0, between(0, 255))]
    pub successes: Option<i64>,
}

/// What makes a target unhealthy by its answers.
#[derive(Debug, Clone, Config)]
pub struct PassiveUnhealthy {
    /// Statuses that count as a failure.
    #[config(default = [429, 500, 503], each(between(100, 999)))]
    pub http_statuses: Option<Vec<i64>>,
    /// Failures to connect that make a target unhealthy; 0 for never.
    #[config(default = 0, between(0, 255))]
    pub tcp_failures: Option<i64>,
    /// Time-outs that make a target unhealthy; 0 for never.
    #[config(default = 0, between(0, 255))]
    pub timeouts: Option<i64>,
    /// Failing statuses that make a target unhealthy; 0 for never.
    #[config(default = 0, between(0, 255))]
    pub http_failures: Option<i64>,
}

/// An address an upstream balances to.
#[derive(Debug, Clone, Config)]
pub struct Target {
    /// Identifies the target.
    #[config(auto)]
    pub id: Option<Uuid>,
    /// When it was made, in seconds since 1970.
    #[config(auto, timestamp)]
    pub created_at: Option<f64>,
    /// When it was last changed, in seconds since 1970.
    #[config(auto, timestamp)]
    pub updated_at: Option<f64>,
    /// The upstream it belongs to.
    #[config(foreign = crate::Kind::Upstream)]
    pub upstream: Reference,
    /// Host and port; the port is 8000 where none is given.
    #[config(check = target_address)]
    pub target: String,
    /// Its share of requests; 0 for none.
    #[config(default = 100, between(0, 65535))]
    pub weight: Option<i64>,
    /// Labels to select by.
    #[config(each(required, check = rules::tag))]
    pub tags: Option<Set<String>>,
}

/// Setting an algorithm that hashes nothing (Kong 3.11).
fn of_algorithm(value: &Value) -> Map<String, Value> {
    let mut fields = Map::from_iter([("algorithm".to_owned(), value.clone())]);
    if matches!(value.as_str(), Some("least-connections" | "latency")) {
        fields.insert("hash_on".into(), Value::Null);
    }
    fields
}

/// Setting `hash_on` chooses the algorithm that goes with it (Kong 3.11).
fn of_hash_on(value: &Value) -> Map<String, Value> {
    let algorithm = match value.as_str() {
        None => return Map::from_iter([("hash_on".to_owned(), "none".into())]),
        Some("none") => "round-robin",
        Some(_) => "consistent-hashing",
    };
    Map::from_iter([("hash_on".to_owned(), value.clone()), ("algorithm".to_owned(), algorithm.into())])
}

/// `pattern` is both a Lua pattern and a regex.
fn chosen(pattern: &'static str) -> Box<Constraint> {
    Box::new(Constraint::Match { pattern, regex: pattern, error: None, negated: false })
}

fn needs(hash: &'static str, pattern: &'static str, field: &'static str) -> EntityCheck {
    EntityCheck::Conditional {
        if_field: hash,
        if_match: chosen(pattern),
        then_field: field,
        then_match: Box::new(Constraint::Required),
        then_error: None,
    }
}

/// What the fallback may be beside a choice of `hash_on`.
fn fallback(pattern: &'static str, values: &[&str]) -> EntityCheck {
    EntityCheck::Conditional {
        if_field: "hash_on",
        if_match: chosen(pattern),
        then_field: "hash_fallback",
        then_match: Box::new(Constraint::OneOf(values.iter().map(|value| Value::from(*value)).collect())),
        then_error: None,
    }
}

fn upstream_name(value: &Value) -> Result<(), String> {
    let name = value.as_str().unwrap_or_default();
    let wrong = |why: &str| Err(format!("Invalid name ('{name}'); {why}"));
    match rules::Address::parse(name) {
        Err(_) => wrong("must be a valid hostname"),
        Ok(address) if !address.is_name => wrong("no ip addresses allowed"),
        Ok(address) if address.port.is_some() => wrong("no port allowed"),
        Ok(_) => Ok(()),
    }
}

fn target_address(value: &Value) -> Result<(), String> {
    let target = value.as_str().unwrap_or_default();
    match Target::split(target) {
        Some(_) => Ok(()),
        None => Err(format!("Invalid target ('{target}'); not a valid hostname or ip address")),
    }
}

impl Target {
    /// Host and port of a target; the port is 8000 where none is given, an IPv6 address is written out in
    /// brackets (Kong 3.11).
    pub fn split(target: &str) -> Option<(String, u16)> {
        const DEFAULT_PORT: u16 = 8000;
        let address = rules::Address::parse(target).ok()?;
        Some((address.host, address.port.unwrap_or(DEFAULT_PORT)))
    }
}
