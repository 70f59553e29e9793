//! Collections of Kong and Konnect whose entities are not there: they list as empty, so that decK goes on, and
//! refuse what cannot be kept.

use tollgate_http::{Method, StatusCode};
use tollgate_model::{Value, json};

use crate::Call;
use crate::answer::{Answer, Failure, method_not_allowed, not_found, nothing, ok};

/// What listing a collection answers.
#[derive(Clone, Copy, PartialEq)]
enum Listing {
    /// An empty page.
    Empty,
    /// Not found in Kong's API, an empty page in Konnect's: a plugin that open-source Kong does not have.
    OnlyInKonnect,
    /// Kong's refusal where no Wasm filters run.
    NeedsWasm,
}

/// Collections at the top of a path.
const COLLECTIONS: [(&str, Listing); 20] = [
    ("acls", Listing::Empty),
    ("ai-models", Listing::Empty),
    ("basic-auths", Listing::Empty),
    ("cloned-plugins", Listing::Empty),
    ("custom-plugins", Listing::Empty),
    ("degraphql_routes", Listing::Empty),
    ("filter-chains", Listing::NeedsWasm),
    ("graphql-rate-limiting-advanced/costs", Listing::Empty),
    ("hmac-auths", Listing::Empty),
    ("jwts", Listing::Empty),
    ("key-sets", Listing::Empty),
    ("keys", Listing::Empty),
    ("licenses", Listing::Empty),
    ("mtls-auths", Listing::OnlyInKonnect),
    ("oauth2", Listing::Empty),
    ("partials", Listing::Empty),
    ("rbac/roles", Listing::Empty),
    ("rbac/users", Listing::Empty),
    ("vaults", Listing::Empty),
    // A control plane has no workspaces inside.
    ("workspaces", Listing::Empty),
];

/// Collections below an entity: its collection, their name.
const NESTED: [(&str, &str); 8] = [
    ("consumers", "acls"),
    ("consumers", "basic-auth"),
    ("consumers", "hmac-auth"),
    ("consumers", "jwt"),
    ("consumers", "mtls-auth"),
    ("consumers", "oauth2"),
    ("services", "degraphql/routes"),
    ("services", "graphql-rate-limiting-advanced/costs"),
];

/// A collection that is not there, or one of its entities.
pub(crate) struct Absent {
    name: &'static str,
    listing: Listing,
    item: bool,
}

impl Absent {
    /// Whether a first segment belongs to such a collection.
    pub(crate) fn is_name(segment: &str) -> bool {
        COLLECTIONS.iter().any(|(path, _)| path.split('/').next() == Some(segment))
    }

    /// The collection that a path leads to or into.
    pub(crate) fn of(segments: &[&str]) -> Option<Self> {
        let path = segments.join("/");
        let top = COLLECTIONS.iter().find_map(|(name, listing)| {
            let rest = path.strip_prefix(name)?;
            let item = rest.starts_with('/');
            (item || rest.is_empty()).then_some(Self { name, listing: *listing, item })
        });
        top.or_else(|| {
            let (parents, below) = (segments.first()?, segments.get(2..)?.join("/"));
            NESTED.iter().find_map(|(above, name)| {
                let rest = below.strip_prefix(name).filter(|_| above == parents)?;
                let item = rest.starts_with('/');
                (item || rest.is_empty()).then_some(Self { name, listing: Listing::Empty, item })
            })
        })
    }

    pub(crate) fn methods(&self) -> &'static [&'static str] {
        if self.item {
            &["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"]
        } else {
            &["GET", "HEAD", "OPTIONS", "POST"]
        }
    }

    pub(crate) fn answer(&self, call: &Call) -> Answer {
        match (self.listing, &call.method) {
            (Listing::NeedsWasm, _) => {
                let message = "this endpoint is only available when wasm is enabled";
                Err(Failure::message(StatusCode::BAD_REQUEST, message))
            }
            (Listing::OnlyInKonnect, _) if !call.konnect => Err(not_found()),
            (_, &Method::GET) if self.item => Err(not_found()),
            (_, &Method::GET) => ok(json!({"data": [], "next": null})),
            // What is not there is gone.
            (_, &Method::DELETE) if self.item => nothing(),
            (_, &Method::POST | &Method::PUT | &Method::PATCH) => {
                let message = format!("Tollgate does not have '{}' yet", self.name);
                Err(Failure::message(StatusCode::NOT_IMPLEMENTED, &message))
            }
            _ => Err(method_not_allowed()),
        }
    }
}

/// Schema of the older plugins of consumer groups, which decK reads although it binds plugins to groups as to
/// anything (Kong 3.11: only rate-limiting-advanced can be overridden for a group).
pub(crate) fn consumer_group_plugins() -> Value {
    json!({"entity_checks": [], "fields": [
        {"id": {"type": "string", "uuid": true, "auto": true}},
        {"created_at": {"type": "integer", "timestamp": true, "auto": true}},
        {"updated_at": {"type": "integer", "timestamp": true, "auto": true}},
        {"consumer_group": {"type": "foreign", "reference": "consumer_groups", "required": true, "on_delete": "cascade"}},
        {"name": {"type": "string", "required": true}},
        {"config": {"type": "record", "required": true, "fields": [
            {"window_size": {"type": "array", "elements": {"type": "number"}, "required": true}},
            {"window_type": {"type": "string", "one_of": ["fixed", "sliding"], "default": "sliding"}},
            {"limit": {"type": "array", "elements": {"type": "number"}, "required": true}},
            {"retry_after_jitter_max": {"type": "number", "default": 0}}
        ]}}
    ]})
}
