//! `routes`

use std::collections::BTreeMap;
use std::sync::LazyLock;

use uuid::Uuid;

use super::rules;
use crate::constraint::shown;
use crate::schema::{Branch, Constraint, EntityCheck};
use crate::{Config, FieldErrors, Map, Record, Reference, Set, Value};

/// A rule that leads requests to a service.
#[derive(Debug, Clone, Config)]
#[config(checks = [
    EntityCheck::Conditional {
        if_field: "protocols",
        if_match: Box::new(Constraint::Elements(Box::new(Constraint::NotOneOf(
            ["grpcs", "https", "tls", "tls_passthrough"].map(Value::from).to_vec(),
        )))),
        then_field: "snis",
        then_match: Box::new(Constraint::LenEq(0)),
        then_error: Some("'snis' can only be set when 'protocols' is 'grpcs', 'https', 'tls' or 'tls_passthrough'"),
    },
    EntityCheck::CustomOn { fields: vec!["path_handling"], run_with_missing_fields: false, check: |_| Ok(()) },
    EntityCheck::CustomOn {
        fields: vec![
            "id", "protocols", "snis", "sources", "destinations", "methods", "hosts", "paths", "headers",
            "expression", "regex_priority", "priority",
        ],
        run_with_missing_fields: true,
        check: |_| Ok(()),
    },
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
    #[config(
        default = ["http", "https"],
        len_min(1),
        each(one_of("grpc", "grpcs", "http", "https", "tcp", "tls", "tls_passthrough", "udp")),
        exclusive_subsets(["http", "https"], ["tcp", "tls", "udp"], ["tls_passthrough"], ["grpc", "grpcs"])
    )]
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
    #[config(each(check = rules::server_name_or_wildcard))]
    pub snis: Option<Set<String>>,
    /// Client addresses that match.
    pub sources: Option<Set<Peer>>,
    /// Local addresses that match.
    pub destinations: Option<Set<Peer>>,
    /// Methods that match.
    #[config(each(matches(pattern = "^%u+$", regex = "^[A-Z]+$")))]
    pub methods: Option<Set<String>>,
    /// Hosts that match; `*` may stand for the first or last label.
    #[config(each(
        matches(
            pattern = "^[^*]*%*?[^*]*$",
            regex = r"^[^*]*\*?[^*]*$",
            error = "invalid wildcard: must have at most one wildcard"
        ),
        matches_any(
            patterns = ["^%*%.", "%.%*$", "^[^*]*$"],
            regex = r"^\*\.|\.\*$|^[^*]*$",
            error = "invalid wildcard: must be placed at leftmost or rightmost label"
        ),
        check = rules::route_host
    ))]
    pub hosts: Option<Vec<String>>,
    /// Paths that match: prefixes, or regexes after `~`.
    #[config(each(
        matches(pattern = "//", regex = "//", error = "must not have empty segments", negated),
        matches_any(
            patterns = ["^/", "^~/"],
            regex = "^~?/",
            error = "should start with: / (fixed path) or ~/ (regex path)"
        ),
        check = rules::route_path
    ))]
    pub paths: Option<Vec<String>>,
    /// Headers that match, with their values.
    #[config(keys(
        matches(
            pattern = "^[Hh][Oo][Ss][Tt]$",
            regex = "(?i)^host$",
            error = "cannot contain 'host' header, which must be specified in the 'hosts' attribute",
            negated
        ),
        check = rules::header_name
    ))]
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
    #[config(check = rules::ip_or_cidr)]
    pub ip: Option<String>,
    /// Port.
    #[config(between(0, 65535))]
    pub port: Option<u16>,
}

/// Routes are checked by the protocol they serve: the first that is known.
struct Subschemas {
    http: Record,
    grpc: Record,
    stream: Record,
}

static SUBSCHEMAS: LazyLock<Subschemas> = LazyLock::new(|| {
    let of = |names: &[&str], said: &'static [&'static str], checks: Vec<EntityCheck>| {
        let mut record = Route::schema().clone();
        for (name, error) in names.iter().zip(said) {
            forbid(&mut record, name, error);
        }
        record.checks.extend(checks);
        record
    };
    let mut grpc = of(
        &["methods", "sources", "destinations"],
        &[
            "cannot set 'methods' when 'protocols' is 'grpc' or 'grpcs'",
            "cannot set 'sources' when 'protocols' is 'grpc' or 'grpcs'",
            "cannot set 'destinations' when 'protocols' is 'grpc' or 'grpcs'",
        ],
        vec![one_of(vec![
            branch(
                contains("grpcs"),
                &["hosts", "headers", "paths", "snis"],
                "must set one of %s when 'protocols' is 'grpcs'",
            ),
            branch(
                contains("grpc"),
                &["hosts", "headers", "paths"],
                "must set one of %s when 'protocols' is 'grpc'",
            ),
        ])],
    );
    if let Some(field) = grpc.field_mut("strip_path") {
        field.shape.default = Some(Value::Bool(false));
        field.shape.constraints.push(Constraint::Ne(Value::Bool(true)));
        field.shape.error = Some("cannot set 'strip_path' when 'protocols' is 'grpc' or 'grpcs'");
    }
    Subschemas {
        http: of(
            &["sources", "destinations"],
            &[
                "cannot set 'sources' when 'protocols' is 'http' or 'https'",
                "cannot set 'destinations' when 'protocols' is 'http' or 'https'",
            ],
            vec![one_of(vec![
                branch(
                    contains("https"),
                    &["methods", "hosts", "headers", "paths", "snis"],
                    "must set one of %s when 'protocols' is 'https'",
                ),
                branch(
                    contains("http"),
                    &["methods", "hosts", "headers", "paths"],
                    "must set one of %s when 'protocols' is 'http'",
                ),
            ])],
        ),
        grpc,
        stream: of(
            &["methods", "hosts", "paths", "headers"],
            &[
                "cannot set 'methods' when 'protocols' is 'tcp', 'tls', 'tls_passthrough' or 'udp'",
                "cannot set 'hosts' when 'protocols' is 'tcp', 'tls', 'tls_passthrough' or 'udp'",
                "cannot set 'paths' when 'protocols' is 'tcp', 'tls', 'tls_passthrough' or 'udp'",
                "cannot set 'headers' when 'protocols' is 'tcp', 'tls', 'tls_passthrough' or 'udp'",
            ],
            vec![
                one_of(vec![branch(
                    all_in(&["tcp", "tls", "udp"]),
                    &["sources", "destinations", "snis"],
                    "must set one of %s when 'protocols' is 'tcp', 'tls' or 'udp'",
                )]),
                one_of(vec![branch(
                    all_in(&["tls_passthrough"]),
                    &["snis"],
                    "must set snis when 'protocols' is 'tls_passthrough'",
                )]),
            ],
        ),
    }
});

fn forbid(record: &mut Record, name: &str, error: &'static str) {
    if let Some(field) = record.field_mut(name) {
        field.shape.constraints.insert(0, Constraint::Eq(Value::Null));
        field.shape.error = Some(error);
    }
}

fn one_of(branches: Vec<Branch>) -> EntityCheck {
    EntityCheck::ConditionalAtLeastOneOf { if_field: "protocols", branches }
}

fn branch(matches: Constraint, names: &[&'static str], error: &'static str) -> Branch {
    Branch { matches, at_least_one_of: names.to_vec(), error: Some(error) }
}

fn contains(protocol: &str) -> Constraint {
    Constraint::Contains(protocol.into())
}

fn all_in(protocols: &[&str]) -> Constraint {
    let list = protocols.iter().map(|protocol| Value::from(*protocol)).collect();
    Constraint::Elements(Box::new(Constraint::OneOf(list)))
}

/// The schema by which a route of these fields is checked (Kong 3.11).
///
/// # Errors
/// Protocols that lead to none; nothing else is looked at then.
pub(crate) fn schema_for(fields: &Map<String, Value>) -> Result<&'static Record, FieldErrors> {
    let wrong = |message: String| Err(FieldErrors::of("protocols", message));
    let of = |protocol: &str| match protocol {
        "http" | "https" => Some(&SUBSCHEMAS.http),
        "grpc" | "grpcs" => Some(&SUBSCHEMAS.grpc),
        "tcp" | "tls" | "udp" | "tls_passthrough" => Some(&SUBSCHEMAS.stream),
        _ => None,
    };
    match fields.get("protocols") {
        None => Ok(&SUBSCHEMAS.http),
        Some(Value::Null) => wrong("required field missing".into()),
        Some(Value::String(protocol)) => {
            of(protocol).map_or_else(|| wrong(format!("unknown type: {protocol}")), Ok)
        }
        Some(Value::Array(list)) => match list.iter().filter_map(Value::as_str).find_map(of) {
            Some(record) => Ok(record),
            None => wrong(format!("unknown type: {}", list.first().map_or_else(|| "nil".to_owned(), shown))),
        },
        Some(_) => wrong("expected a set".into()),
    }
}
