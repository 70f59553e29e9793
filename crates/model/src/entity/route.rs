//! `routes`

use std::collections::BTreeMap;

use uuid::Uuid;

use super::rules;
use crate::schema::EntityCheck;
use crate::{Config, FieldErrors, Map, Reference, Set, Value};

/// A rule that leads requests to a service.
#[derive(Debug, Clone, Config)]
#[config(checks = [
    EntityCheck::Custom("protocols", exclusive_protocols),
    EntityCheck::Custom("matching fields", matching_fields),
])]
pub struct Route {
    /// Identifies the route.
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
    /// Protocols that the route serves.
    #[config(default = ["http", "https"], len_min(1), each(required, one_of("grpc", "grpcs", "http", "https", "tcp", "tls", "tls_passthrough", "udp")))]
    pub protocols: Set<String>,
    /// Answer to a plain request where the route serves only https.
    #[config(default = 426, one_of(426, 301, 302, 307, 308))]
    pub https_redirect_status_code: u16,
    /// Whether the matched path is taken off before the request goes on.
    #[config(default = true)]
    pub strip_path: bool,
    /// Whether the client's `Host` goes on.
    #[config(default = false)]
    pub preserve_host: bool,
    /// Whether a body is read whole before it goes on.
    #[config(default = true)]
    pub request_buffering: bool,
    /// Whether an answer is read whole before it goes back.
    #[config(default = true)]
    pub response_buffering: bool,
    /// Labels to select by.
    #[config(each(required, check = rules::tag))]
    pub tags: Option<Set<String>>,
    /// The service requests go to.
    #[config(foreign = crate::Kind::Service)]
    pub service: Option<Reference>,
    /// Server names of TLS that match.
    #[config(each(check = rules::server_name))]
    pub snis: Option<Set<String>>,
    /// Client addresses that match.
    pub sources: Option<Set<Peer>>,
    /// Local addresses that match.
    pub destinations: Option<Set<Peer>>,
    /// Methods that match.
    #[config(each(matches(pattern = "^%u+$", regex = "^[A-Z]+$")))]
    pub methods: Option<Set<String>>,
    /// Hosts that match; `*` may stand for the first or last label.
    #[config(each(check = rules::route_host))]
    pub hosts: Option<Vec<String>>,
    /// Paths that match: prefixes, or regexes after `~`.
    #[config(each(check = rules::route_path))]
    pub paths: Option<Vec<String>>,
    /// Headers that match, with their values.
    #[config(keys(check = rules::header_name, check = not_host), values(len_min(1)))]
    pub headers: Option<BTreeMap<String, Vec<String>>>,
    /// Order among regex paths; higher first.
    #[config(default = 0)]
    pub regex_priority: Option<i64>,
    /// How service path and request path are joined.
    #[config(default = "v0")]
    pub path_handling: Option<PathHandling>,
}

/// How service path and request path are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Config)]
pub enum PathHandling {
    /// With a slash between.
    V0,
    /// As they are.
    V1,
}

/// An address, a port, or both.
#[derive(Debug, Clone, PartialEq, Config)]
#[config(checks = [EntityCheck::AtLeastOneOf(vec!["ip", "port"])])]
pub struct Peer {
    /// Address or CIDR range.
    pub ip: Option<String>,
    /// Port.
    #[config(between(0, 65535))]
    pub port: Option<u16>,
}

fn not_host(name: &Value) -> Result<(), String> {
    match name.as_str() {
        Some(name) if name.eq_ignore_ascii_case("host") => {
            Err("cannot contain 'host' header, which must be specified in the 'hosts' attribute".into())
        }
        _ => Ok(()),
    }
}

fn protocols(fields: &Map<String, Value>) -> Vec<&str> {
    fields
        .get("protocols")
        .and_then(Value::as_array)
        .map(|list| list.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default()
}

fn exclusive_protocols(fields: &Map<String, Value>) -> Result<(), FieldErrors> {
    let groups: [&[&str]; 4] =
        [&["http", "https"], &["tcp", "tls", "udp"], &["tls_passthrough"], &["grpc", "grpcs"]];
    let used = protocols(fields);
    if groups.iter().filter(|group| used.iter().any(|protocol| group.contains(protocol))).count() > 1 {
        let sets: Vec<String> = groups
            .iter()
            .map(|group| {
                format!("({})", group.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", "))
            })
            .collect();
        return Err(FieldErrors::of(
            "protocols",
            format!("these sets are mutually exclusive: {}", sets.join(", ")),
        ));
    }
    Ok(())
}

/// What each protocol needs and forbids (Kong 3.11).
fn matching_fields(fields: &Map<String, Value>) -> Result<(), FieldErrors> {
    let used = protocols(fields);
    let has = |protocol: &str| used.contains(&protocol);
    let set = |name: &str| match fields.get(name) {
        Some(Value::Array(list)) => !list.is_empty(),
        Some(Value::Object(map)) => !map.is_empty(),
        Some(Value::Bool(value)) => *value,
        _ => false,
    };
    let mut errors = FieldErrors::new();
    let mut need = |protocol: &str, names: &[&str]| {
        if !names.iter().any(|name| set(name)) {
            let list = names.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
            errors.add_entity(format!("must set one of {list} when 'protocols' is {protocol}"));
        }
    };
    if has("https") {
        need("'https'", &["methods", "hosts", "headers", "paths", "snis"]);
    } else if has("http") {
        need("'http'", &["methods", "hosts", "headers", "paths"]);
    } else if has("grpcs") {
        need("'grpcs'", &["hosts", "headers", "paths", "snis"]);
    } else if has("grpc") {
        need("'grpc'", &["hosts", "headers", "paths"]);
    } else if has("tcp") || has("tls") || has("udp") {
        need("'tcp', 'tls' or 'udp'", &["sources", "destinations", "snis"]);
    } else if has("tls_passthrough") && !set("snis") {
        errors.add_entity("must set snis when 'protocols' is 'tls_passthrough'");
    }
    let stream = ["tcp", "tls", "udp", "tls_passthrough"].iter().any(|protocol| has(protocol));
    let grpc = has("grpc") || has("grpcs");
    if set("snis") && !["https", "grpcs", "tls", "tls_passthrough"].iter().any(|protocol| has(protocol)) {
        errors.add(
            "snis",
            "'snis' can only be set when 'protocols' is 'grpcs', 'https', 'tls' or 'tls_passthrough'",
        );
    }
    for name in ["sources", "destinations"] {
        if set(name) && (has("http") || has("https")) {
            errors.add(name, format!("cannot set '{name}' when 'protocols' is 'http' or 'https'"));
        } else if set(name) && grpc {
            errors.add(name, format!("cannot set '{name}' when 'protocols' is 'grpc' or 'grpcs'"));
        }
    }
    if stream {
        for name in ["methods", "hosts", "paths", "headers"] {
            if set(name) {
                errors.add(
                    name,
                    format!(
                        "cannot set '{name}' when 'protocols' is 'tcp', 'tls', 'tls_passthrough' or 'udp'"
                    ),
                );
            }
        }
    }
    if grpc {
        for name in ["methods", "strip_path"] {
            if set(name) {
                errors.add(name, format!("cannot set '{name}' when 'protocols' is 'grpc' or 'grpcs'"));
            }
        }
    }
    errors.into_result()
}
