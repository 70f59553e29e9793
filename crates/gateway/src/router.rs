//! Which route a request belongs to (Kong 3.11, `traditional_compatible`).
//!
//! A route with several paths is split into groups: one of all its regex paths, one for each length of plain
//! path. Each group has a priority; the first that matches in order of priority wins.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use regex::Regex;
use tollgate_http::Headers;

/// What a route demands of requests, as its entity says.
#[derive(Debug, Clone, Default)]
pub struct RouteRule {
    /// Index of the route, returned by [`Router::find`].
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
    /// Captures of a regex path, numbered ones by number.
    pub captures: Vec<(Box<str>, Box<str>)>,
}

/// A route cannot be compiled.
#[derive(Debug, Clone, thiserror::Error)]
#[error("paths: '{pattern}' is not a regex this router can run: {reason}")]
pub struct RouterError {
    /// Index of the route.
    pub route: usize,
    /// The pattern.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Finds the route of a request.
#[derive(Default)]
pub struct Router {
    /// In order of priority.
    groups: Vec<Group>,
    /// Groups that demand a plain host, by host: places in `groups`, ascending.
    by_host: HashMap<Box<str>, Vec<u32>>,
    /// Groups that demand no plain host but plain paths only, by first segment of the path.
    by_segment: HashMap<Box<[u8]>, Vec<u32>>,
    /// All others.
    others: Vec<u32>,
}

struct Group {
    route: usize,
    methods: Vec<String>,
    hosts: Vec<HostRule>,
    paths: Paths,
    headers: Vec<(Box<str>, Vec<HeaderRule>)>,
    snis: Vec<Wildcard>,
}

enum Paths {
    Any,
    Plain(Vec<Box<[u8]>>),
    Regex(Vec<Regex>),
}

struct HostRule {
    name: Wildcard,
    port: Option<u16>,
}

enum Wildcard {
    Exact(Box<str>),
    /// `*.x`, kept as `.x`
    Ends(Box<str>),
    /// `x.*`, kept as `x.`
    Starts(Box<str>),
}

enum HeaderRule {
    Value(Box<str>),
    Regex(Regex),
}

impl Wildcard {
    fn new(text: &str) -> Self {
        match (text.strip_prefix('*'), text.strip_suffix('*')) {
            (Some(end), _) => Self::Ends(end.into()),
            (_, Some(start)) => Self::Starts(start.into()),
            _ => Self::Exact(text.into()),
        }
    }

    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Exact(exact) => **exact == *name,
            Self::Ends(end) => name.ends_with(&**end),
            Self::Starts(start) => name.starts_with(&**start),
        }
    }
}

/// Host and port of a `Host` value or of a route's host.
fn split_port(host: &str) -> (&str, Option<u16>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') || name.ends_with(']') => match port.parse() {
            Ok(port) => (name, Some(port)),
            Err(_) => (host, None),
        },
        _ => (host, None),
    }
}

/// The 64-bit priority of a group (Kong 3.11).
fn priority(rule: &RouteRule, regex: bool, length: usize) -> u64 {
    let fields = [
        !rule.methods.is_empty(),
        !rule.hosts.is_empty(),
        !rule.headers.is_empty(),
        !rule.snis.is_empty(),
        !rule.paths.is_empty(),
    ];
    let weight = fields.into_iter().filter(|set| *set).count() as u64;
    let plain_hosts = !rule.hosts.is_empty() && !rule.hosts.iter().any(|host| host.contains('*'));
    let headers = rule.headers.len().min(255) as u64;
    let regex_priority = if regex { rule.regex_priority.clamp(0, i64::from(u32::MAX)) as u64 } else { 0 };
    weight << 61
        | u64::from(plain_hosts) << 60
        | headers << 52
        | u64::from(regex) << 51
        | regex_priority << 19
        | (length as u64).min((1 << 19) - 1)
}

impl Router {
    /// Compiles routes.
    ///
    /// # Errors
    /// The first regex that cannot be compiled.
    pub fn new(rules: &[RouteRule]) -> Result<Self, RouterError> {
        let mut sorted: Vec<(u64, i64, Group)> = Vec::new();
        for rule in rules {
            let mut by_length: BTreeMap<usize, Vec<Box<[u8]>>> = BTreeMap::new();
            let mut regexes = Vec::new();
            for path in &rule.paths {
                match path.strip_prefix('~') {
                    Some(pattern) => regexes.push(compile(rule.route, &format!("^(?:{pattern})"))?),
                    None => by_length.entry(path.len()).or_default().push(path.as_bytes().into()),
                }
            }
            let mut add = |regex: bool, length: usize, paths: Paths| -> Result<(), RouterError> {
                // Below zero a regex stands behind all others of its kind.
                let behind = if regex { rule.regex_priority.min(0) } else { 0 };
                sorted.push((priority(rule, regex, length), behind, Group::new(rule, paths)?));
                Ok(())
            };
            if rule.paths.is_empty() {
                add(false, 0, Paths::Any)?;
            }
            if !regexes.is_empty() {
                add(true, 0, Paths::Regex(regexes))?;
            }
            for (length, paths) in by_length {
                add(false, length, Paths::Plain(paths))?;
            }
        }
        let created: HashMap<usize, i64> = rules.iter().map(|rule| (rule.route, rule.created_at)).collect();
        sorted.sort_by_key(|(priority, behind, group)| (Reverse(*priority), Reverse(*behind), created.get(&group.route).copied(), group.route));
        Ok(Self::index(sorted.into_iter().map(|(_, _, group)| group).collect()))
    }

    fn index(groups: Vec<Group>) -> Self {
        let mut router = Self { groups, ..Self::default() };
        for (place, group) in router.groups.iter().enumerate() {
            let place = place as u32;
            let exact = |rule: &HostRule| match &rule.name {
                Wildcard::Exact(name) => Some(name.clone()),
                _ => None,
            };
            let hosts: Option<Vec<Box<str>>> = group.hosts.iter().map(exact).collect();
            let segments: Option<Vec<Box<[u8]>>> = match &group.paths {
                Paths::Plain(paths) => paths.iter().map(|path| whole_segment(path).map(Box::from)).collect(),
                _ => None,
            };
            match (hosts.filter(|hosts| !hosts.is_empty()), segments) {
                (Some(hosts), _) => hosts.into_iter().for_each(|host| push(router.by_host.entry(host).or_default(), place)),
                (None, Some(segments)) => {
                    segments.into_iter().for_each(|segment| push(router.by_segment.entry(segment).or_default(), place));
                }
                (None, None) => router.others.push(place),
            }
        }
        router
    }

    /// The route of a request.
    pub fn find(&self, input: &MatchInput<'_>) -> Option<Match> {
        let (host, port) = split_port(input.host);
        let by_host = if self.by_host.is_empty() { None } else { self.by_host.get(host) };
        let by_segment = if self.by_segment.is_empty() { None } else { self.by_segment.get(first_segment(input.path)) };
        let lists = [by_host.map_or(&[][..], Vec::as_slice), by_segment.map_or(&[][..], Vec::as_slice), &self.others];
        let mut at = [0; 3];
        // The three lists are in order of priority: walk them as one.
        loop {
            let next = (0..3).filter_map(|list| lists[list].get(at[list]).map(|place| (*place, list))).min()?;
            at[next.1] += 1;
            let group = &self.groups[next.0 as usize];
            if let Some(found) = group.matches(input, host, port) {
                return Some(found);
            }
        }
    }
}

fn push(list: &mut Vec<u32>, place: u32) {
    if list.last() != Some(&place) {
        list.push(place);
    }
}

/// First segment of a prefix, where the prefix holds all of it: `/a/…` but not `/a`, which `/ab` matches too.
fn whole_segment(path: &[u8]) -> Option<&[u8]> {
    let rest = path.get(1..)?;
    memchr::memchr(b'/', rest).map(|end| &rest[..end])
}

fn first_segment(path: &[u8]) -> &[u8] {
    let rest = path.get(1..).unwrap_or_default();
    memchr::memchr(b'/', rest).map_or(rest, |end| &rest[..end])
}

fn compile(route: usize, pattern: &str) -> Result<Regex, RouterError> {
    Regex::new(pattern).map_err(|error| RouterError { route, pattern: pattern.to_owned(), reason: error.to_string() })
}

impl Group {
    fn new(rule: &RouteRule, paths: Paths) -> Result<Self, RouterError> {
        let hosts = rule.hosts.iter().map(|host| {
            let (name, port) = split_port(host);
            HostRule { name: Wildcard::new(name), port }
        });
        let mut headers = Vec::new();
        for (name, values) in &rule.headers {
            let values = values.iter().map(|value| match value.strip_prefix("~*") {
                Some(pattern) => Ok(HeaderRule::Regex(compile(rule.route, pattern)?)),
                None => Ok(HeaderRule::Value(value.to_ascii_lowercase().into())),
            });
            headers.push((name.as_str().into(), values.collect::<Result<_, _>>()?));
        }
        Ok(Self {
            route: rule.route,
            methods: rule.methods.clone(),
            hosts: hosts.collect(),
            paths,
            headers,
            snis: rule.snis.iter().map(|name| Wildcard::new(name.trim_end_matches('.'))).collect(),
        })
    }

    fn matches(&self, input: &MatchInput<'_>, host: &str, port: Option<u16>) -> Option<Match> {
        let (matched_length, regex) = match &self.paths {
            Paths::Any => (0, None),
            Paths::Plain(paths) => (paths.iter().find(|path| input.path.starts_with(path))?.len(), None),
            Paths::Regex(regexes) => {
                let path = std::str::from_utf8(input.path).ok()?;
                let regex = regexes.iter().find(|regex| regex.is_match(path))?;
                (0, Some((regex, path)))
            }
        };
        let fits = (self.methods.is_empty() || self.methods.iter().any(|method| method == input.method))
            && (self.hosts.is_empty()
                || self.hosts.iter().any(|rule| {
                    rule.name.matches(host) && rule.port.is_none_or(|wanted| wanted == port.unwrap_or(input.port))
                }))
            && (self.snis.is_empty()
                || !input.tls
                || input.server_name.is_some_and(|name| self.snis.iter().any(|sni| sni.matches(name.trim_end_matches('.')))))
            && self.headers.iter().all(|(name, rules)| has_header(input.headers, name, rules));
        if !fits {
            return None;
        }
        let Some((regex, path)) = regex else { return Some(Match { route: self.route, matched_length, captures: Vec::new() }) };
        let found = regex.captures(path)?;
        let mut captures = Vec::new();
        for (number, name) in regex.capture_names().enumerate() {
            let Some(text) = found.get(number).map(|text| Box::<str>::from(text.as_str())) else { continue };
            if let Some(name) = name {
                captures.push((name.into(), text.clone()));
            }
            captures.push((number.to_string().into(), text));
        }
        Some(Match { route: self.route, matched_length: found.get(0)?.end(), captures })
    }
}

/// Whether a header has one of the values; its name ignores case and takes `_` for `-`.
fn has_header(headers: &Headers, name: &str, rules: &[HeaderRule]) -> bool {
    let same_name = |other: &[u8]| {
        other.len() == name.len()
            && other.iter().zip(name.bytes()).all(|(a, b)| {
                let plain = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
                plain(*a) == plain(b)
            })
    };
    headers.iter().filter(|(other, _)| same_name(other)).any(|(_, value)| {
        let value = String::from_utf8_lossy(value).to_ascii_lowercase();
        rules.iter().any(|rule| match rule {
            HeaderRule::Value(wanted) => **wanted == *value,
            HeaderRule::Regex(regex) => regex.is_match(&value),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(route: usize, paths: &[&str], hosts: &[&str]) -> RouteRule {
        let list = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect();
        RouteRule { route, paths: list(paths), hosts: list(hosts), created_at: route as i64, ..RouteRule::default() }
    }

    fn find(router: &Router, method: &str, host: &str, path: &str) -> Option<(usize, usize)> {
        let headers = Headers::new();
        let input = MatchInput { method, host, path: path.as_bytes(), headers: &headers, server_name: None, port: 8000, tls: false };
        router.find(&input).map(|found| (found.route, found.matched_length))
    }

    #[test]
    fn the_longest_prefix_wins_and_regexes_go_first() {
        let router = Router::new(&[
            rule(0, &["/"], &[]),
            rule(1, &["/a", "/long/path"], &[]),
            rule(2, &["/long"], &[]),
            rule(3, &["~/lo(?<rest>ng.)x"], &[]),
        ])
        .unwrap();
        assert_eq!(find(&router, "GET", "h", "/zzz"), Some((0, 1)));
        assert_eq!(find(&router, "GET", "h", "/ab"), Some((1, 2)));
        assert_eq!(find(&router, "GET", "h", "/long/path/x"), Some((1, 10)));
        assert_eq!(find(&router, "GET", "h", "/long/pa"), Some((2, 5)));
        assert_eq!(find(&router, "GET", "h", "/long/x/more"), Some((3, 7)));
    }

    #[test]
    fn more_fields_win_and_plain_hosts_beat_wildcards() {
        let mut with_method = rule(3, &["/"], &["*.example.com"]);
        with_method.methods = vec!["POST".into()];
        let router = Router::new(&[
            rule(0, &[], &["*.example.com"]),
            rule(1, &[], &["api.example.com"]),
            rule(2, &["/x"], &[]),
            with_method,
            rule(4, &[], &["ported.com:9000"]),
            rule(5, &[], &["start.*"]),
        ])
        .unwrap();
        assert_eq!(find(&router, "GET", "api.example.com:80", "/"), Some((1, 0)));
        assert_eq!(find(&router, "GET", "www.example.com", "/"), Some((0, 0)));
        assert_eq!(find(&router, "POST", "www.example.com", "/"), Some((3, 1)));
        assert_eq!(find(&router, "GET", "other", "/xy"), Some((2, 2)));
        assert_eq!(find(&router, "GET", "ported.com:9000", "/"), Some((4, 0)));
        assert_eq!(find(&router, "GET", "ported.com", "/"), None);
        assert_eq!(find(&router, "GET", "start.org", "/"), Some((5, 0)));
        assert_eq!(find(&router, "GET", "none", "/"), None);
    }

    /// The index finds what walking all groups in order finds.
    #[test]
    fn the_index_agrees_with_walking_all_groups() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut pick = |list: &[&str], most: usize| -> Vec<String> {
            (0..random.usize(0..=most)).map(|_| list[random.usize(0..list.len())].to_owned()).collect()
        };
        let paths = ["/", "/a", "/a/", "/a/b", "/ab", "~/a.*b", "/b/c/d"];
        let hosts = ["x.com", "*.x.com", "x.*", "y.org:8000", "y.org"];
        for _ in 0..300 {
            let rules: Vec<_> = (0..6)
                .map(|route| RouteRule { route, paths: pick(&paths, 3), hosts: pick(&hosts, 2), methods: pick(&["GET", "POST"], 1), ..RouteRule::default() })
                .collect();
            let router = Router::new(&rules).unwrap();
            for path in ["/", "/a", "/a/b/c", "/abc", "/axxb", "/b/c/d", "/zz"] {
                for host in ["x.com", "www.x.com", "y.org", "y.org:8000", "other"] {
                    let headers = Headers::new();
                    let input = MatchInput { method: "GET", host, path: path.as_bytes(), headers: &headers, server_name: None, port: 8000, tls: false };
                    let (name, port) = split_port(host);
                    let walked = router.groups.iter().find_map(|group| group.matches(&input, name, port));
                    assert_eq!(router.find(&input), walked, "{path} {host}");
                }
            }
        }
    }
}
