//! What of a request is hashed to choose its target (Kong 3.11: `hash_on`, `hash_fallback`).

use std::borrow::Cow;

use uuid::Uuid;

use crate::Exchange;
use crate::query;

/// What is hashed, and what else where that yields nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HashInput {
    /// First choice.
    pub first: HashSource,
    /// Second choice.
    pub fallback: HashSource,
}

/// A part of a request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum HashSource {
    /// Nothing.
    #[default]
    None,
    /// The consumer, else the credential.
    Consumer,
    /// The client's address.
    Ip,
    /// A header.
    Header(Box<str>),
    /// A cookie; a client without it is given one.
    Cookie {
        /// Its name.
        name: Box<str>,
        /// Path it is valid for.
        path: Box<str>,
    },
    /// The path.
    Path,
    /// A query argument.
    QueryArgument(Box<str>),
    /// A capture of the route's regex path, by name or number.
    Capture(Box<str>),
}

impl HashInput {
    /// The value that decides; `None` where the request has none. May leave a cookie for the client in the
    /// exchange.
    pub fn value(&self, exchange: &mut Exchange) -> Option<Vec<u8>> {
        self.first.value(exchange).or_else(|| self.fallback.value(exchange))
    }
}

impl HashSource {
    fn value(&self, exchange: &mut Exchange) -> Option<Vec<u8>> {
        match self {
            Self::None => None,
            Self::Consumer => {
                let id = exchange.consumer.as_ref().map(|consumer| consumer.id);
                let id = id.or_else(|| exchange.credential.as_ref().map(|credential| credential.id));
                id.map(|id| id.to_string().into_bytes())
            }
            Self::Ip => Some(exchange.client_ip.to_string().into_bytes()),
            Self::Header(name) => {
                let values: Vec<&[u8]> = exchange.head.headers.get_all(name).collect();
                (!values.is_empty()).then(|| values.join(&b", "[..]))
            }
            Self::Cookie { name, path } => Some(cookie(exchange, name, path)),
            Self::Path => Some(exchange.path.to_vec()),
            Self::QueryArgument(name) => argument(exchange.query.as_deref()?, name),
            Self::Capture(name) => {
                let capture = exchange.captures.iter().find(|(own, _)| own == name);
                capture.map(|(_, text)| text.as_bytes().to_vec())
            }
        }
    }
}

/// The values of an argument, sorted and joined; one without value counts as `true`.
fn argument(query: &[u8], name: &str) -> Option<Vec<u8>> {
    let named = query::parse(query).filter(|(own, _)| own == name);
    let mut values: Vec<Cow<'_, str>> =
        named.map(|(_, value)| value.unwrap_or(Cow::Borrowed("true"))).collect();
    values.sort();
    (!values.is_empty()).then(|| values.join(",").into_bytes())
}

/// The client's cookie, or a new one for it.
fn cookie(exchange: &mut Exchange, name: &str, path: &str) -> Vec<u8> {
    if let Some(value) = exchange.head.headers.get_all("cookie").find_map(|line| find_cookie(line, name)) {
        return value.to_vec();
    }
    let value = Uuid::new_v4().to_string();
    let line = format!("{name}={value}; Path={path}; Same-Site=Lax; HttpOnly");
    exchange.response_headers.append("Set-Cookie", line);
    value.into_bytes()
}

fn find_cookie<'a>(line: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let pairs = line.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    pairs.filter_map(|pair| pair.strip_prefix(name.as_bytes())).find_map(|rest| rest.strip_prefix(b"="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_sorted_and_joined() {
        for (query, expected) in [
            (&b"a=2&b=3&a=1"[..], Some("1,2")),
            (b"a", Some("true")),
            (b"a=", Some("")),
            (b"b=1", None),
            (b"", None),
        ] {
            assert_eq!(argument(query, "a").as_deref(), expected.map(str::as_bytes));
        }
    }

    #[test]
    fn cookies_are_found_by_their_whole_name() {
        for (line, expected) in
            [("a=1; b=2", Some("1")), ("ba=1;a=3", Some("3")), ("b=a=1", None), ("a", None), ("a=", Some(""))]
        {
            assert_eq!(find_cookie(line.as_bytes(), "a"), expected.map(str::as_bytes), "{line}");
        }
    }
}
