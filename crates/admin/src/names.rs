//! Names of collections in paths (Kong 3.11: `admin_api_name`, `admin_api_nested_name`).

use tollgate_model::Kind;
use tollgate_model::kind::ForeignKey;

/// Collections whose name in paths is not the entity's: the entity, its name at the top of a path, and below
/// the entity it belongs to.
const RENAMED: [(&str, &str, &str); 7] = [
    ("keyauth_credentials", "key-auths", "key-auth"),
    ("basicauth_credentials", "basic-auths", "basic-auth"),
    ("hmacauth_credentials", "hmac-auths", "hmac-auth"),
    ("jwt_secrets", "jwts", "jwt"),
    ("oauth2_credentials", "oauth2", "oauth2"),
    ("key_sets", "key-sets", "key-sets"),
    ("filter_chains", "filter-chains", "filter-chains"),
];

/// Name of a kind's collection at the top of a path.
pub(crate) fn top(kind: Kind) -> &'static str {
    RENAMED.iter().find(|(entity, ..)| *entity == kind.plural()).map_or(kind.plural(), |(_, top, _)| top)
}

/// Name of a kind's collection below another entity.
pub(crate) fn nested(kind: Kind) -> &'static str {
    RENAMED.iter().find(|(entity, ..)| *entity == kind.plural()).map_or(kind.plural(), |(.., nested)| nested)
}

/// Kinds that have paths of their own; memberships in consumer groups are told of from both sides
/// ([`Groups`](crate::groups::Groups)).
pub(crate) fn with_paths() -> impl Iterator<Item = Kind> {
    Kind::ALL.into_iter().filter(|kind| *kind != Kind::ConsumerGroupConsumer)
}

/// The kind whose collection has this name at the top of a path.
pub(crate) fn by_top(name: &str) -> Option<Kind> {
    with_paths().find(|kind| top(*kind) == name)
}

/// The kind whose collection has this name below `parent`, and the field by which its members refer up.
pub(crate) fn child(parent: Kind, name: &str) -> Option<(Kind, &'static ForeignKey)> {
    with_paths()
        .filter(|kind| nested(*kind) == name)
        .find_map(|kind| kind.foreign_keys().iter().find(|key| key.to == parent).map(|key| (kind, key)))
}

/// Name of one entity of a kind, as JSON Schema paths have it: `service`, `key-auth`, …
pub(crate) fn singular(kind: Kind) -> &'static str {
    match nested(kind) {
        name if name == kind.plural() => name.strip_suffix('s').unwrap_or(name),
        name => name,
    }
}
