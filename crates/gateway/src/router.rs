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

use std::cmp::Reverse;
use std::collections::BTreeMap;

use tollgate_http::Headers;

use group::{Group, Paths};
use index::Index;
use pattern::Patterns;

/// What a route demands of requests, as its entity says. A field that is empty demands nothing.
#[derive(Debug, Clone, Default)]
pub struct RouteRule {
    /// Index of the route, returned by [`Router::find`]. Routes that are equal in all else go by it.
    pub route: usize,
    /// Breaks ties: earlier routes first.
    pub created_at: i64,
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

/// Finds the route of a request.
#[derive(Default)]
pub struct Router {
    /// In order of priority; a group's place is its rank.
    groups: Vec<Group>,
    index: Index,
}

impl Router {
    /// Compiles routes. Regexes that `previous` has too are taken over from it: compiling them is what takes
    /// time.
    ///
    /// # Errors
    /// The first regex that cannot be compiled.
    pub fn new(rules: &[RouteRule], previous: Option<&Router>) -> Result<Self, RouterError> {
        let patterns = Patterns::new(previous.map_or(&[], |router| &router.groups));
        let mut sorted = Vec::with_capacity(rules.len());
        for rule in rules {
            for (paths, length) in split_paths(rule, &patterns)? {
                let priority = Priority::new(rule, matches!(paths, Paths::Regex(_)), length);
                sorted.push((
                    Reverse(priority),
                    rule.created_at,
                    rule.route,
                    Group::new(rule, paths, &patterns)?,
                ));
            }
        }
        sorted.sort_by(|a, b| (&a.0, a.1, a.2).cmp(&(&b.0, b.1, b.2)));
        let groups: Vec<Group> = sorted.into_iter().map(|(.., group)| group).collect();
        let index = Index::new(&groups);
        Ok(Self { groups, index })
    }

    /// The route of a request. Allocates only for the captures of a regex path.
    pub fn find(&self, input: &MatchInput<'_>) -> Option<Match> {
        let (host, host_port) = split_port(input.host);
        let port = host_port.unwrap_or(input.port);
        let rank =
            self.index.lowest(host, input.path, |rank| self.groups[rank].accepts(input, host, port))?;
        self.groups[rank].describe(input.path)
    }
}

/// The groups a route's paths fall into, each with the length of its prefixes (0 for regexes).
fn split_paths(rule: &RouteRule, patterns: &Patterns<'_>) -> Result<Vec<(Paths, usize)>, RouterError> {
    if rule.paths.is_empty() {
        return Ok(vec![(Paths::Any, 0)]);
    }
    let mut regexes = Vec::new();
    let mut by_length: BTreeMap<usize, Vec<Box<[u8]>>> = BTreeMap::new();
    for path in &rule.paths {
        match path.strip_prefix('~') {
            Some(pattern) => regexes.push(patterns.path(rule.route, pattern)?),
            None => by_length.entry(path.len()).or_default().push(path.as_bytes().into()),
        }
    }
    let plain = by_length.into_iter().map(|(length, paths)| (Paths::Plain(paths), length));
    let regex = (!regexes.is_empty()).then_some((Paths::Regex(regexes), 0));
    Ok(regex.into_iter().chain(plain).collect())
}

/// What decides before what, most significant first: the fields of Kong 3.11's 64-bit priority, without its
/// limits on their range (so that a negative `regex_priority` does what it says).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Priority {
    /// How many kinds of field the route demands.
    fields: u8,
    /// Whether it demands hosts, all without wildcard.
    plain_hosts: bool,
    /// How many headers it demands; 255 at most.
    headers: u8,
    regex: bool,
    regex_priority: i64,
    prefix_length: usize,
}

impl Priority {
    fn new(rule: &RouteRule, regex: bool, prefix_length: usize) -> Self {
        let empty = [
            rule.methods.is_empty(),
            rule.hosts.is_empty(),
            rule.headers.is_empty(),
            rule.snis.is_empty(),
            rule.paths.is_empty(),
        ];
        Self {
            fields: empty.iter().map(|empty| u8::from(!empty)).sum(),
            plain_hosts: !rule.hosts.is_empty() && !rule.hosts.iter().any(|host| host.contains('*')),
            headers: u8::try_from(rule.headers.len()).unwrap_or(u8::MAX),
            regex,
            regex_priority: if regex { rule.regex_priority } else { 0 },
            prefix_length,
        }
    }
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
