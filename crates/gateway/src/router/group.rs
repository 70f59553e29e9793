//! One group of a route's paths with all else the route demands.

use regex::bytes::{Regex, RegexBuilder};
use regex_syntax::hir::Look;
use regex_syntax::hir::literal::Extractor;
use tollgate_http::Headers;

use super::{Captures, Match, MatchInput, RouteRule, RouterError, split_port};

/// What a request must have to belong to a route.
pub(super) struct Group {
    route: usize,
    pub(super) paths: Paths,
    pub(super) hosts: Vec<HostRule>,
    /// Whether being found under one of its hosts does not tell yet that the host matches.
    check_hosts: bool,
    methods: Box<[Box<str>]>,
    headers: Box<[HeaderRule]>,
    snis: Box<[Wildcard]>,
}

/// The paths of a group.
pub(super) enum Paths {
    /// Every path.
    Any,
    /// Prefixes, all of one length.
    Plain(Vec<Box<[u8]>>),
    /// Patterns.
    Regex(Vec<PathRegex>),
}

/// A regex path.
pub(super) struct PathRegex {
    /// Bytes that every matching path begins with.
    pub(super) literal: Box<[u8]>,
    regex: Regex,
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
    Regex(Regex),
}

impl Group {
    pub(super) fn new(rule: &RouteRule, paths: Paths) -> Result<Self, RouterError> {
        let hosts: Vec<HostRule> = rule.hosts.iter().map(|host| HostRule::new(host)).collect();
        Ok(Self {
            route: rule.route,
            paths,
            check_hosts: hosts.iter().any(|host| host.port.is_some() || !host.name.is_by_label()),
            hosts,
            methods: rule.methods.iter().map(|method| method.as_str().into()).collect(),
            headers: rule
                .headers
                .iter()
                .map(|(name, values)| HeaderRule::new(rule.route, name, values))
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
                Paths::Regex(regexes) => regexes.iter().any(|path| path.regex.is_match(input.path)),
            }
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
            Paths::Regex(regexes) => regexes.iter().find_map(|regex| regex.describe(path))?,
        };
        Some(Match { route: self.route, matched_length, captures })
    }
}

impl PathRegex {
    /// Kong 3.11: anchored at the start, open at the end.
    pub(super) fn new(route: usize, pattern: &str) -> Result<Self, RouterError> {
        let anchored = format!("^{pattern}");
        let regex = Regex::new(&anchored).map_err(|error| refuse(route, "paths".into(), pattern, &error))?;
        Ok(Self { literal: literal_beginning(&anchored), regex })
    }

    /// Length of what matches, and the captures.
    fn describe(&self, path: &[u8]) -> Option<(usize, Captures)> {
        if self.regex.captures_len() == 1 {
            return self.regex.find(path).map(|found| (found.len(), Vec::new()));
        }
        let found = self.regex.captures(path)?;
        let mut captures = Vec::new();
        for (number, name) in self.regex.capture_names().enumerate().skip(1) {
            let Some(text) = found.get(number) else { continue };
            let text: Box<str> = String::from_utf8_lossy(text.as_bytes()).into();
            if let Some(name) = name {
                captures.push((name.into(), text.clone()));
            }
            captures.push((number.to_string().into(), text));
        }
        Some((found.get(0)?.len(), captures))
    }
}

/// What every path that an anchored pattern matches begins with, as far as that is plain to see.
fn literal_beginning(anchored: &str) -> Box<[u8]> {
    let parsed = regex_syntax::ParserBuilder::new().utf8(false).build().parse(anchored);
    // An alternative that the anchor does not bind, as in `^/a|/b`, may match further on.
    parsed
        .ok()
        .filter(|hir| hir.properties().look_set_prefix().contains(Look::Start))
        .and_then(|hir| Extractor::new().extract(&hir).longest_common_prefix().map(Box::from))
        .unwrap_or_default()
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
    fn new(route: usize, name: &str, values: &[String]) -> Result<Self, RouterError> {
        let field = || format!("headers.{name}");
        let value = |value: &String| match value.strip_prefix("~*") {
            // Letters of either case match: the value counts in lower case (Kong 3.11).
            Some(pattern) => match RegexBuilder::new(pattern).case_insensitive(true).build() {
                Ok(regex) => Ok(HeaderValue::Regex(regex)),
                Err(error) => Err(refuse(route, field(), pattern, &error)),
            },
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
                    HeaderValue::Regex(regex) => regex.is_match(value),
                })
        })
    }
}

/// Names ignore case and do not tell `_` from `-` (Kong 3.11).
fn plain_name_byte(byte: u8) -> u8 {
    if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() }
}

fn refuse(route: usize, field: String, pattern: &str, error: &regex::Error) -> RouterError {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    let mut reason = last.strip_prefix("error: ").unwrap_or(last).to_owned();
    if ["(?=", "(?!", "(?<=", "(?<!", "(?>"].iter().any(|feature| pattern.contains(feature)) {
        reason.push_str(" (look-around and atomic groups of PCRE cannot be used here)");
    } else if text.contains("backreference") {
        reason.push_str(" (back-references of PCRE cannot be used here)");
    }
    RouterError { route, field, pattern: pattern.to_owned(), reason }
}
