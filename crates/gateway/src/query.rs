//! Query strings and form bodies: reading and writing `a=1&b=%20`.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, percent_encode};

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

/// A name and its value, decoded to bytes.
pub type Pair<'a> = (Cow<'a, [u8]>, Option<Cow<'a, [u8]>>);

/// Reads `name=value` pairs, decoded; the value is `None` where there is no `=`. At most
/// [`MAX_ARGUMENTS`]. `+` is a space.
pub fn pairs(query: &[u8]) -> impl Iterator<Item = Pair<'_>> + '_ {
    query.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()).take(MAX_ARGUMENTS).map(|pair| {
        match memchr::memchr(b'=', pair) {
            Some(at) => (decode_bytes(&pair[..at]), Some(decode_bytes(&pair[at + 1..]))),
            None => (decode_bytes(pair), None),
        }
    })
}

/// As [`pairs`], for text: bytes that are not UTF-8 become U+FFFD.
pub fn parse(query: &[u8]) -> impl Iterator<Item = (Cow<'_, str>, Option<Cow<'_, str>>)> + '_ {
    pairs(query).map(|(name, value)| (text(name), value.map(text)))
}

fn text(bytes: Cow<'_, [u8]>) -> Cow<'_, str> {
    match bytes {
        Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes),
        Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
    }
}

/// Writes pairs as a query string.
pub fn write<T: AsRef<[u8]>>(pairs: impl IntoIterator<Item = (T, Option<T>)>) -> String {
    let mut out = String::new();
    for (name, value) in pairs {
        if !out.is_empty() {
            out.push('&');
        }
        out.extend(percent_encode(name.as_ref(), ARGUMENT));
        if let Some(value) = value {
            out.push('=');
            out.extend(percent_encode(value.as_ref(), ARGUMENT));
        }
    }
    out
}

/// Percent-decodes one name or value; bytes that are not UTF-8 become U+FFFD.
pub fn decode(bytes: &[u8]) -> Cow<'_, str> {
    text(decode_bytes(bytes))
}

fn decode_bytes(bytes: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr2(b'%', b'+', bytes).is_none() {
        return Cow::Borrowed(bytes);
    }
    let spaced: Vec<u8> = bytes.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    Cow::Owned(percent_decode(&spaced).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes() {
        let parsed: Vec<_> = parse(b"a=1&b&c=&api%6B%65%79=x+y%2f&&=z").collect();
        let plain: Vec<(&str, Option<&str>)> = parsed.iter().map(|(n, v)| (&**n, v.as_deref())).collect();
        assert_eq!(
            plain,
            [("a", Some("1")), ("b", None), ("c", Some("")), ("apikey", Some("x y/")), ("", Some("z"))]
        );
        assert_eq!(write(plain), "a=1&b&c=&apikey=x%20y%2F&=z");
        assert_eq!(write(pairs(b"a=%ff%FE&b=%zz")), "a=%FF%FE&b=%25zz", "bytes stay what they are");
    }
}
