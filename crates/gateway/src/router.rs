//! Which route a request belongs to (Kong 3.11, `traditional_compatible`).
//!
//! A route with several paths is split into groups: one of all its regex paths, one for each length of plain
//! path. Each group has a priority; the first that matches in order of priority wins. The result is that of
//! walking all groups in that order; an index over hosts and path prefixes leaves few to look at.

mod group;
mod index;
mod pattern;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use tollgate_http::Headers;
use uuid::Uuid;

use group::{Group, Paths};
use index::Index;
use pattern::{Pattern, Patterns};

/// What a route demands of requests, as its entity says. A field that is empty demands nothing.
#[derive(Debug, Clone, Default)]
pub struct RouteRule {
    /// Index of the route, returned by [`Router::find`]. Routes that are equal in all else go by it.
    pub route: usize,
    /// Breaks ties: earlier routes first.
    pub created_at: i64,
    /// Breaks ties of routes made at the same time: lower ids first.
    pub id: Uuid,
    /// Methods.
    pub methods: Vec<String>,
    /// Hosts; `*` may stand for the first or last label, a port may follow.
    pub hosts: Vec<String>,
    /// Paths: prefixes, or regexes after `~`.
    pub paths: Vec<String>,
    /// Headers and their values; `~*` opens a regex.
    pub headers: BTreeMap<String, Vec<String>>,
    /// Server names; `*` may stand at either end.
    pub snis: Vec<String>,
    /// Order among regex paths.
    pub regex_priority: i64,
}

/// What is known of a request.
pub struct MatchInput<'a> {
    /// The method.
    pub method: &'a str,
    /// `Host` as sent, with its port.
    pub host: &'a str,
    /// Path in normal form.
    pub path: &'a [u8],
    /// Header fields.
    pub headers: &'a Headers,
    /// Server name of TLS.
    pub server_name: Option<&'a str>,
    /// Port the client used.
    pub port: u16,
    /// Whether the request came over TLS.
    pub tls: bool,
}

/// A match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// Index of the route.
    pub route: usize,
    /// Bytes of the path that matched; 0 where the route has no paths.
    pub matched_length: usize,
    /// Captures of a regex path: each by its number, and by its name where it has one.
    pub captures: Captures,
}

/// Names or numbers, and what was captured.
pub type Captures = Vec<(Box<str>, Box<str>)>;

/// A route cannot be compiled.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{field}: '{pattern}' is not a regex this router can run: {reason}")]
pub struct RouterError {
    /// Index of the route.
    pub route: usize,
    /// The field at fault, such as `paths` or `headers.x-version`.
    pub field: String,
    /// The pattern.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: String,
}

/// What a route demands, compiled: how it stands in a router.
pub struct RouteGroups(Vec<Arc<Group>>);

impl RouteGroups {
    /// Compiles what a route demands. Regexes that it had `before` too are taken over: compiling them is what
    /// takes time.
    ///
    /// # Errors
    /// The first regex that cannot be compiled.
    pub fn new(rule: &RouteRule, before: Option<&Self>) -> Result<Self, RouterError> {
        let patterns = Patterns::new(before);
        let group = |(paths, prefix)| Group::new(rule, paths, prefix, &patterns).map(Arc::new);
        split_paths(rule, &patterns)?.into_iter().map(group).collect::<Result<_, _>>().map(Self)
    }

    fn patterns(&self) -> impl Iterator<Item = &Arc<Pattern>> {
        self.0.iter().flat_map(|group| group.patterns())
    }
}

/// Finds the route of a request. Cloning is cheap, and so is adding and removing a route: all else stays shared.
#[derive(Clone, Default)]
pub struct Router {
    index: Index,
}

impl Router {
    /// A router for these routes.
    ///
    /// # Errors
    /// The first regex that cannot be compiled.
    pub fn new(rules: &[RouteRule]) -> Result<Self, RouterError> {
        let mut router = Self::default();
        for rule in rules {
            router.add(&RouteGroups::new(rule, None)?);
        }
        Ok(router)
    }

    /// Adds a route.
    pub fn add(&mut self, route: &RouteGroups) {
        route.0.iter().for_each(|group| self.index.add(group));
    }

    /// Removes a route that was added.
    pub fn remove(&mut self, route: &RouteGroups) {
        route.0.iter().for_each(|group| self.index.remove(group));
    }

    /// The route of a request. Allocates only for the captures of a regex path.
    pub fn find(&self, input: &MatchInput<'_>) -> Option<Match> {
        let (host, host_port) = split_port(input.host);
        let port = host_port.unwrap_or(input.port);
        let group = self.index.first(host, input.path, |group| group.accepts(input, host, port))?;
        group.describe(input.path)
    }
}

/// The groups a route's paths fall into, each with the length of its prefixes (none for regexes).
fn split_paths(
    rule: &RouteRule,
    patterns: &Patterns<'_>,
) -> Result<Vec<(Paths, Option<usize>)>, RouterError> {
    if rule.paths.is_empty() {
        return Ok(vec![(Paths::Any, Some(0))]);
    }
    let mut regexes = Vec::new();
    let mut by_length: BTreeMap<usize, Vec<Box<[u8]>>> = BTreeMap::new();
    for path in &rule.paths {
        match path.strip_prefix('~') {
            Some(pattern) => regexes.push(patterns.path(rule.route, pattern)?),
            None => by_length.entry(path.len()).or_default().push(path.as_bytes().into()),
        }
    }
    let plain = by_length.into_iter().map(|(length, paths)| (Paths::Plain(paths), Some(length)));
    let regex = (!regexes.is_empty()).then_some((Paths::Regex(regexes), None));
    Ok(regex.into_iter().chain(plain).collect())
}

/// Host and port of a `Host` value or of a route's host. What follows the last colon is a port where it is
/// one and the host is no bare IPv6 address.
fn split_port(host: &str) -> (&str, Option<u16>) {
    let split =
        memchr::memrchr(b':', host.as_bytes()).and_then(|at| Some((host.get(..at)?, host.get(at + 1..)?)));
    let split = split.filter(|(name, _)| name.ends_with(']') || !name.contains(':'));
    match split.map(|(name, port)| (name, port.parse())) {
        Some((name, Ok(port))) => (name, Some(port)),
        _ => (host, None),
    }
}
