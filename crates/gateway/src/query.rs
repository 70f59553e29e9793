//! Query strings and form bodies: reading and writing `a=1&b=%20`.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, utf8_percent_encode};

/// How many arguments are looked at (Kong 3.11: `lua_max_uri_args`, `lua_max_post_args`).
pub const MAX_ARGUMENTS: usize = 100;

/// What `ngx.encode_args` leaves as it is, besides letters and digits.
const ARGUMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'!')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')');

/// Reads `name=value` pairs, decoded; the value is `None` where there is no `=`. At most
/// [`MAX_ARGUMENTS`]. `+` is a space.
pub fn parse(query: &[u8]) -> impl Iterator<Item = (Cow<'_, str>, Option<Cow<'_, str>>)> + '_ {
    query.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()).take(MAX_ARGUMENTS).map(|pair| {
        match memchr::memchr(b'=', pair) {
            Some(at) => (decode(&pair[..at]), Some(decode(&pair[at + 1..]))),
            None => (decode(pair), None),
        }
    })
}

/// Writes pairs as a query string.
pub fn write<'a>(pairs: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) -> String {
    let mut out = String::new();
    for (name, value) in pairs {
        if !out.is_empty() {
            out.push('&');
        }
        out.extend(utf8_percent_encode(name, ARGUMENT));
        if let Some(value) = value {
            out.push('=');
            out.extend(utf8_percent_encode(value, ARGUMENT));
        }
    }
    out
}

/// Percent-decodes one name or value; bytes that are not UTF-8 become U+FFFD.
pub fn decode(bytes: &[u8]) -> Cow<'_, str> {
    if memchr::memchr2(b'%', b'+', bytes).is_none() {
        return String::from_utf8_lossy(bytes);
    }
    let spaced: Vec<u8> = bytes.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    let decoded: Vec<u8> = percent_decode(&spaced).collect();
    Cow::Owned(String::from_utf8_lossy(&decoded).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes() {
        let pairs: Vec<_> = parse(b"a=1&b&c=&api%6B%65%79=x+y%2f&&=z").collect();
        let plain: Vec<(&str, Option<&str>)> = pairs.iter().map(|(n, v)| (&**n, v.as_deref())).collect();
        assert_eq!(
            plain,
            [("a", Some("1")), ("b", None), ("c", Some("")), ("apikey", Some("x y/")), ("", Some("z"))]
        );
        assert_eq!(write(plain), "a=1&b&c=&apikey=x%20y%2F&=z");
    }
}
