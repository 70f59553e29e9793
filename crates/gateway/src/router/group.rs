//! One group of a route's paths with all else the route demands.

use std::sync::Arc;

use tollgate_http::Headers;

use super::pattern::{Pattern, Patterns};
use super::{Match, MatchInput, RouteRule, RouterError, split_port};

/// What a request must have to belong to a route.
pub(super) struct Group {
    pub(super) order: Order,
    route: usize,
    pub(super) paths: Paths,
    pub(super) hosts: Vec<HostRule>,
    /// Whether being found under one of its hosts does not tell yet that the host matches.
    check_hosts: bool,
    methods: Box<[Box<str>]>,
    headers: Box<[HeaderRule]>,
    snis: Box<[Wildcard]>,
}

/// Which group goes before which; no two groups of a router are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Order {
    /// Lower for what has priority.
    rank: u128,
    /// Earlier routes first.
    created_at: i64,
    id: u128,
    route: usize,
}

impl Order {
    /// After all others.
    pub(super) const LAST: Self =
        Self { rank: u128::MAX, created_at: i64::MAX, id: u128::MAX, route: usize::MAX };

    /// What decides before what, most significant first: the fields of Kong 3.11's 64-bit priority, without its
    /// limits on their range (so that a negative `regex_priority` does what it says). The prefix is the length of
    /// the group's plain paths, `None` for regexes.
    pub(super) fn new(rule: &RouteRule, prefix: Option<usize>) -> Self {
        let plain_hosts = !rule.hosts.is_empty() && !rule.hosts.iter().any(|host| host.contains('*'));
        let empty = [
            rule.methods.is_empty(),
            rule.hosts.is_empty(),
            rule.headers.is_empty(),
            rule.snis.is_empty(),
            rule.paths.is_empty(),
        ];
        let mut rank = empty.iter().filter(|empty| !**empty).count() as u128;
        rank = rank << 1 | u128::from(plain_hosts);
        rank = rank << 8 | u128::from(u8::try_from(rule.headers.len()).unwrap_or(u8::MAX));
        rank = rank << 1 | u128::from(prefix.is_none());
        let regex_priority = if prefix.is_none() { rule.regex_priority } else { 0 };
        rank = rank << 64 | u128::from(regex_priority.abs_diff(i64::MIN));
        rank = rank << 32 | u128::from(u32::try_from(prefix.unwrap_or(0)).unwrap_or(u32::MAX));
        Self { rank: !rank, created_at: rule.created_at, id: rule.id.as_u128(), route: rule.route }
    }
}

/// The paths of a group.
pub(super) enum Paths {
    /// Every path.
    Any,
    /// Prefixes, all of one length.
    Plain(Vec<Box<[u8]>>),
    /// Patterns.
    Regex(Vec<Arc<Pattern>>),
}

/// One of a route's hosts.
pub(super) struct HostRule {
    pub(super) name: Wildcard,
    port: Option<u16>,
}

/// A name of which the beginning or the end may be open.
pub(super) enum Wildcard {
    Exact(Box<str>),
    /// `*.x`, kept as `.x`
    Ends(Box<str>),
    /// `x.*`, kept as `x.`
    Starts(Box<str>),
}

struct HeaderRule {
    /// Lower case, with `-` for `_`.
    name: Box<[u8]>,
    values: Box<[HeaderValue]>,
}

enum HeaderValue {
    Exact(Box<[u8]>),
    Regex(Arc<Pattern>),
}

impl Group {
    pub(super) fn new(
        rule: &RouteRule,
        paths: Paths,
        prefix: Option<usize>,
        patterns: &Patterns<'_>,
    ) -> Result<Self, RouterError> {
        let hosts: Vec<HostRule> = rule.hosts.iter().map(|host| HostRule::new(host)).collect();
        Ok(Self {
            order: Order::new(rule, prefix),
            route: rule.route,
            paths,
            check_hosts: hosts.iter().any(|host| host.port.is_some() || !host.name.is_by_label()),
            hosts,
            methods: rule.methods.iter().map(|method| method.as_str().into()).collect(),
            headers: rule
                .headers
                .iter()
                .map(|(name, values)| HeaderRule::new(rule.route, name, values, patterns))
                .collect::<Result<_, _>>()?,
            // The last dot of a fully qualified name says nothing (Kong 3.11).
            snis: rule
                .snis
                .iter()
                .map(|name| Wildcard::new(name.strip_suffix('.').unwrap_or(name)))
                .collect(),
        })
    }

    /// Whether a request that was found under one of the group's hosts and path beginnings belongs to it.
    pub(super) fn accepts(&self, input: &MatchInput<'_>, host: &str, port: u16) -> bool {
        (self.methods.is_empty() || self.methods.iter().any(|method| **method == *input.method))
            && (!self.check_hosts || self.hosts.iter().any(|rule| rule.matches(host, port)))
            && (self.snis.is_empty() || !input.tls || self.has_sni(input.server_name))
            && self.headers.iter().all(|rule| rule.matches(input.headers))
            && match &self.paths {
                Paths::Any | Paths::Plain(_) => true,
                Paths::Regex(regexes) => regexes.iter().any(|pattern| pattern.regex.is_match(input.path)),
            }
    }

    /// Its regexes.
    pub(super) fn patterns(&self) -> impl Iterator<Item = &Arc<Pattern>> {
        let paths = match &self.paths {
            Paths::Regex(regexes) => regexes.as_slice(),
            Paths::Any | Paths::Plain(_) => &[],
        };
        let values = self.headers.iter().flat_map(|rule| &rule.values).filter_map(|value| match value {
            HeaderValue::Regex(pattern) => Some(pattern),
            HeaderValue::Exact(_) => None,
        });
        paths.iter().chain(values)
    }

    fn has_sni(&self, name: Option<&str>) -> bool {
        let Some(name) = name else { return false };
        let name = name.strip_suffix('.').unwrap_or(name);
        self.snis.iter().any(|sni| sni.matches(name))
    }

    /// The match of a request that the group accepts.
    pub(super) fn describe(&self, path: &[u8]) -> Option<Match> {
        let (matched_length, captures) = match &self.paths {
            Paths::Any => (0, Vec::new()),
            Paths::Plain(prefixes) => (prefixes.first()?.len(), Vec::new()),
            Paths::Regex(regexes) => regexes.iter().find_map(|pattern| pattern.describe(path))?,
        };
        Some(Match { route: self.route, matched_length, captures })
    }
}

impl HostRule {
    fn new(host: &str) -> Self {
        let (name, port) = split_port(host);
        Self { name: Wildcard::new(name), port }
    }

    fn matches(&self, host: &str, port: u16) -> bool {
        self.port.is_none_or(|wanted| wanted == port) && self.name.matches(host)
    }
}

impl Wildcard {
    fn new(text: &str) -> Self {
        match (text.strip_prefix('*'), text.strip_suffix('*')) {
            (Some(end), _) => Self::Ends(end.into()),
            (None, Some(start)) => Self::Starts(start.into()),
            (None, None) => Self::Exact(text.into()),
        }
    }

    /// Whether what is open is whole labels, as it should be.
    pub(super) fn is_by_label(&self) -> bool {
        match self {
            Self::Exact(_) => true,
            Self::Ends(end) => end.starts_with('.'),
            Self::Starts(start) => start.ends_with('.'),
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

impl HeaderRule {
    fn new(
        route: usize,
        name: &str,
        values: &[String],
        patterns: &Patterns<'_>,
    ) -> Result<Self, RouterError> {
        let value = |value: &String| match value.strip_prefix("~*") {
            Some(pattern) => patterns.header(route, name, pattern).map(HeaderValue::Regex),
            None => Ok(HeaderValue::Exact(value.as_bytes().into())),
        };
        Ok(Self {
            name: name.bytes().map(plain_name_byte).collect(),
            values: values.iter().map(value).collect::<Result<_, _>>()?,
        })
    }

    /// Whether a field of that name has one of the values.
    fn matches(&self, headers: &Headers) -> bool {
        let is_named = |name: &[u8]| {
            name.len() == self.name.len()
                && name.iter().zip(&*self.name).all(|(byte, own)| plain_name_byte(*byte) == *own)
        };
        headers.iter().any(|(name, value)| {
            is_named(name)
                && self.values.iter().any(|wanted| match wanted {
                    HeaderValue::Exact(exact) => exact.eq_ignore_ascii_case(value),
                    HeaderValue::Regex(pattern) => pattern.regex.is_match(value),
                })
        })
    }
}

/// Names ignore case and do not tell `_` from `-` (Kong 3.11).
fn plain_name_byte(byte: u8) -> u8 {
    if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() }
}
