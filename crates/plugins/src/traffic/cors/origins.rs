//! Which origins are allowed (Kong 3.11).

use std::borrow::Cow;

use regex::Regex;
use tollgate_model::Value;

/// The allowed origins, compiled.
pub(super) enum Origins {
    All,
    /// One plain origin, told to everybody.
    One(Box<str>),
    Some(Vec<Entry>),
}

/// What a request's origin is answered with.
pub(super) enum Allowed<'a> {
    All,
    One(Cow<'a, str>),
    None,
}

pub(super) enum Entry {
    All,
    /// An origin without its default port.
    Plain(Box<str>),
    Pattern {
        pattern: Regex,
        /// Whether the host alone is looked at, not the whole origin.
        by_host: bool,
    },
}

/// An entry: `*`, or a regular expression (which every plain origin is, too).
pub(super) fn check(value: &Value) -> Result<(), String> {
    let entry = value.as_str().unwrap_or_default();
    if entry == "*" || Regex::new(entry).is_ok() {
        Ok(())
    } else {
        Err(format!("'{entry}' is not a valid regex"))
    }
}

/// Whether an entry is an origin as it stands, not a pattern.
fn is_plain(entry: &str) -> bool {
    entry.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".:/-".contains(&byte))
}

impl Origins {
    pub(super) fn new(entries: &[String]) -> Result<Self, String> {
        Ok(match entries {
            [] => Self::All,
            [only] if only == "*" => Self::All,
            [only] if is_plain(only) => Self::One(only.as_str().into()),
            entries => Self::Some(entries.iter().map(|entry| Entry::new(entry)).collect::<Result<_, _>>()?),
        })
    }

    /// Whether answers depend on the request's origin, as far as caches must know.
    pub(super) fn vary(&self) -> bool {
        !matches!(self, Self::All)
    }

    /// What an origin is answered with.
    pub(super) fn allow(&self, origin: Option<&[u8]>) -> Allowed<'_> {
        let entries = match self {
            Self::All => return Allowed::All,
            Self::One(origin) => return Allowed::One(Cow::Borrowed(origin)),
            Self::Some(entries) => entries,
        };
        let Some(origin) = origin.and_then(|origin| std::str::from_utf8(origin).ok()) else {
            return Allowed::None;
        };
        if entries.iter().any(|entry| matches!(entry, Entry::All)) {
            return Allowed::All;
        }
        let asked = Origin::read(origin);
        let found = entries.iter().any(|entry| match entry {
            Entry::All => true,
            Entry::Plain(allowed) => *asked.whole == **allowed,
            Entry::Pattern { pattern, by_host } => {
                pattern.is_match(if *by_host { &asked.host } else { &asked.whole })
            }
        });
        if found { Allowed::One(Cow::Owned(asked.whole.into_owned())) } else { Allowed::None }
    }
}

impl Entry {
    fn new(entry: &str) -> Result<Self, String> {
        if entry == "*" {
            return Ok(Self::All);
        }
        if is_plain(entry) {
            return Ok(Self::Plain(Origin::read(entry).whole.into()));
        }
        let bare = entry.strip_prefix('^').unwrap_or(entry);
        let end = if bare.ends_with('$') { "" } else { "$" };
        let pattern = Regex::new(&format!(r"\A(?:{bare}{end})"))
            .map_err(|_| format!("'{entry}' is not a valid regex"))?;
        Ok(Self::Pattern { pattern, by_host: !entry.contains(':') })
    }
}

/// An origin, as it is compared.
struct Origin<'a> {
    /// Scheme, host, and the port where it is not the scheme's own.
    whole: Cow<'a, str>,
    host: Cow<'a, str>,
}

impl<'a> Origin<'a> {
    fn read(text: &'a str) -> Self {
        let (scheme, rest) = match text.split_once("//") {
            Some((scheme, rest)) if scheme.is_empty() || scheme.ends_with(':') => {
                (scheme.trim_end_matches(':'), rest)
            }
            // No host can be told: `null`, or a bare name.
            _ => return Self { whole: Cow::Borrowed(text), host: Cow::Borrowed(text) },
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port).filter(|port| !port.is_empty())),
            _ => (authority, None),
        };
        if host.is_empty() {
            return Self { whole: Cow::Borrowed(text), host: Cow::Borrowed(text) };
        }
        let port = port.filter(|port| !matches!((scheme, *port), ("http", "80") | ("https", "443")));
        let mut whole = String::new();
        if !scheme.is_empty() {
            whole.push_str(scheme);
            whole.push_str("://");
        }
        whole.push_str(host);
        if let Some(port) = port {
            whole.push(':');
            whole.push_str(port);
        }
        Self { whole: Cow::Owned(whole), host: Cow::Borrowed(host) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn allow(entries: &[&str], origin: &str) -> Option<String> {
        let entries: Vec<String> = entries.iter().map(|entry| (*entry).to_owned()).collect();
        match Origins::new(&entries).unwrap().allow((!origin.is_empty()).then_some(origin.as_bytes())) {
            Allowed::All => Some("*".into()),
            Allowed::One(origin) => Some(origin.into_owned()),
            Allowed::None => None,
        }
    }

    #[test]
    fn origins_are_matched() {
        let two = &["http://a.test", "https://b.test:8443"][..];
        let pattern = &[r"(.*)[.]?foo[.]test"][..];
        for (entries, origin, expected) in [
            (&[][..], "http://x.test", Some("*")),
            (&["*"], "", Some("*")),
            (&["example.com"], "http://other.test", Some("example.com")),
            (&["a.test", "*"], "http://x.test", Some("*")),
            (&["a.test", "*"], "", None),
            (two, "http://a.test", Some("http://a.test")),
            (two, "http://a.test:80", Some("http://a.test")),
            (two, "https://b.test:8443", Some("https://b.test:8443")),
            (two, "https://b.test", None),
            (two, "https://a.test", None),
            (two, "http://a.test.evil", None),
            (two, "null", None),
            (&["null", "http://a.test"], "null", Some("null")),
            (pattern, "http://foo.test", Some("http://foo.test")),
            (pattern, "https://www.foo.test:90", Some("https://www.foo.test:90")),
            (pattern, "http://foo.test.evil", None),
            (&[r"^https?://(a|b)\.test$"], "https://b.test", Some("https://b.test")),
            (&[r"^https?://(a|b)\.test$"], "https://b.test:444", None),
            (&[r"https?://.+\.test"], "evil https://a.test", None),
        ] {
            assert_eq!(allow(entries, origin), expected.map(str::to_owned), "{entries:?} {origin}");
        }
    }

    #[test]
    fn a_wrong_pattern_is_named() {
        assert_eq!(check(&Value::from("*")), Ok(()));
        assert_eq!(check(&Value::from("[")), Err("'[' is not a valid regex".into()));
    }

    proptest! {
        #[test]
        fn any_origin_is_read(origin in ".{0,40}") {
            let _ = Origin::read(&origin);
        }
    }
}
