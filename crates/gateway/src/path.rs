//! Request paths: the form routes are matched by, and the path that is sent on.

use bytes::Bytes;
pub use tollgate_model::entity::PathHandling;

/// Punctuation that may stand in a path as it is (RFC 3986 §2).
const PUNCTUATION: &[u8] = b"-._~!*'();:@&=+$,/[]";

/// Bytes whose triplets stay triplets: decoded they could mean something else (RFC 3986 §2.2).
const RESERVED: &[u8] = b"!*'();:@&=+$,/?%#[]";

/// Bytes that may stand in a path as they are.
const ALLOWED: [bool; 256] = {
    let mut allowed = [false; 256];
    let mut at = 0;
    while at < 256 {
        allowed[at] = (at as u8).is_ascii_alphanumeric();
        at += 1;
    }
    at = 0;
    while at < PUNCTUATION.len() {
        allowed[PUNCTUATION[at] as usize] = true;
        at += 1;
    }
    allowed
};

fn is_allowed(byte: u8) -> bool {
    ALLOWED[usize::from(byte)]
}

/// The normal form (Kong 3.11): triplets are decoded, those of reserved bytes upper-cased, dot segments
/// resolved, slashes merged. A `%` that opens no triplet becomes `%25`, so that nobody after us can read one
/// into it. A path in normal form, as nearly all are, is returned as it is.
pub fn normalize(path: Bytes) -> Bytes {
    if is_normal(&path) { path } else { rebuild(&path) }
}

fn rebuild(path: &[u8]) -> Bytes {
    let decoded = decode(path);
    let mut normal = Vec::with_capacity(decoded.len() + 1);
    let mut open = true;
    for segment in decoded.split(|byte| *byte == b'/') {
        open = matches!(segment, b"" | b"." | b"..");
        if segment == b".." {
            normal.truncate(memchr::memrchr(b'/', &normal).unwrap_or(0));
        } else if !open {
            normal.push(b'/');
            normal.extend_from_slice(segment);
        }
    }
    if open {
        normal.push(b'/');
    }
    normal.into()
}

/// Whether the path surely is in normal form; false at any dot segment, double slash, triplet or odd byte.
fn is_normal(path: &[u8]) -> bool {
    let mut previous = 0;
    for byte in path {
        if !is_allowed(*byte) || previous == b'/' && matches!(byte, b'/' | b'.') {
            return false;
        }
        previous = *byte;
    }
    path.first() == Some(&b'/')
}

/// Decodes triplets of bytes that are not reserved, and makes the others regular.
fn decode(path: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match (first, after) {
            (b'%', [high, low, after @ ..]) if let (Some(high), Some(low)) = (digit(*high), digit(*low)) => {
                rest = after;
                let byte = high << 4 | low;
                if RESERVED.contains(&byte) { encode(byte, &mut decoded) } else { decoded.push(byte) }
            }
            (b'%', _) => encode(b'%', &mut decoded),
            (byte, _) => decoded.push(*byte),
        }
    }
    decoded
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

fn encode(byte: u8, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.extend_from_slice(&[b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
}

/// The path to send on: the service's path and what is left of the request's in normal form, with bytes
/// encoded that must not stand in a path (Kong 3.11's table for `strip_path` and `path_handling`). `matched`
/// is the length of what matched; 0 where the route has no paths, and nothing is stripped then.
pub fn join(service: &str, path: &Bytes, matched: usize, strip: bool, handling: PathHandling) -> Bytes {
    let strip = strip && matched > 0;
    let rest = if strip { without_dots(path.slice(matched.min(path.len())..)) } else { path.clone() };
    let joined = match (service, handling) {
        ("/", _) if rest.starts_with(b"/") => rest,
        ("/", _) if rest.is_empty() => return Bytes::from_static(b"/"),
        (_, PathHandling::V0) => join_with_slash(service, path, &rest, strip).into(),
        (_, PathHandling::V1) => join_as_it_is(service, &rest, strip).into(),
    };
    make_sendable(joined)
}

/// What stripping leaves must not climb: a dot segment it begins with goes.
fn without_dots(rest: Bytes) -> Bytes {
    let dots = rest.iter().take_while(|byte| **byte == b'.').count();
    match rest.get(dots) {
        _ if !(1..=2).contains(&dots) => rest,
        None => Bytes::new(),
        Some(b'/') => rest.slice(dots + 1..),
        Some(_) => rest,
    }
}

/// `v0`: one slash between service path and rest.
fn join_with_slash(service: &str, path: &[u8], rest: &[u8], strip: bool) -> Vec<u8> {
    let closed = service.strip_suffix('/').unwrap_or(service).as_bytes();
    let ends_open = service.ends_with('/');
    if rest.is_empty() {
        // The last slash goes with the prefix, where neither the request nor a bare `/` keeps it.
        let keeps = if ends_open {
            service == "/" || path.ends_with(b"/")
        } else {
            path.len() > 1 && path.ends_with(b"/")
        };
        return [closed, if keeps { b"/" } else { b"" }].concat();
    }
    if !strip && path == b"/" {
        return service.into();
    }
    let slash: &[u8] = if rest.starts_with(b"/") { b"" } else { b"/" };
    [closed, slash, rest].concat()
}

/// `v1`: service path and rest as they are, but for a double slash.
fn join_as_it_is(service: &str, rest: &[u8], strip: bool) -> Vec<u8> {
    let drop_slash = !strip || service.ends_with('/');
    let rest = rest.strip_prefix(b"/").filter(|_| drop_slash).unwrap_or(rest);
    [service.as_bytes(), rest].concat()
}

fn make_sendable(path: Bytes) -> Bytes {
    let is_sendable = |byte: u8| is_allowed(byte) || byte == b'%';
    if path.iter().all(|byte| is_sendable(*byte)) {
        return path;
    }
    let mut out = Vec::with_capacity(path.len() + 16);
    for byte in path {
        if is_sendable(byte) { out.push(byte) } else { encode(byte, &mut out) }
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn normal_forms() {
        for (path, normal) in [
            ("/", "/"),
            ("", "/"),
            ("x/y", "/x/y"),
            ("/fo%6F//bar/./x/../y%3a", "/foo/bar/y%3A"),
            ("/a/..", "/"),
            ("/a/../", "/"),
            ("/../../a", "/a"),
            ("/a/.", "/a/"),
            ("//a///b//", "/a/b/"),
            ("/a%2fb%2F..%2f", "/a%2Fb%2F..%2F"),
            ("/a/%2e%2E/b/%2e", "/b/"),
            ("/route%2e%2E/req", "/route../req"),
            ("/%20%7C%C3%A9", "/ |é"),
            ("/a%zz%4", "/a%25zz%254"),
            ("/%%32e%%32e/a", "/%252e%252e/a"),
            ("/%", "/%25"),
            ("/.hidden/..x/...", "/.hidden/..x/..."),
        ] {
            assert_eq!(normalize(Bytes::from_static(path.as_bytes())), normal.as_bytes(), "{path}");
        }
    }

    /// Every row of the table: service path, route path (- for none), strip, handling, request path, result.
    #[test]
    fn service_and_request_paths_are_joined_as_the_table_says() {
        for line in include_str!("../cases/paths.txt").lines().filter(|line| !line.starts_with('#')) {
            let [service, route, strip, handling, request, expected] =
                line.split(' ').collect::<Vec<_>>()[..]
            else {
                panic!("{line}")
            };
            for strip in
                [true, false].into_iter().filter(|value| strip == "any" || strip == value.to_string())
            {
                for handling_value in [PathHandling::V0, PathHandling::V1] {
                    if handling != "any" && handling != handling_value.name() {
                        continue;
                    }
                    let path = normalize(Bytes::copy_from_slice(request.as_bytes()));
                    let matched = if route == "-" { 0 } else { route.len() };
                    let joined = join(service, &path, matched, strip, handling_value);
                    assert_eq!(
                        joined,
                        expected.as_bytes(),
                        "{line} (strip {strip}, {})",
                        handling_value.name()
                    );
                }
            }
        }
    }

    #[test]
    fn what_stands_alone_after_stripping_does_not_climb() {
        for (service, path, matched, expected) in [
            ("/s", "/r..", 2, "/s"),
            ("/s", "/r.", 2, "/s"),
            ("/s", "/r../x", 2, "/s/x"),
            ("/s", "/r...", 2, "/s/..."),
            ("/s", "/r é", 2, "/s/%20%C3%A9"),
            ("/", "/a|b", 0, "/a%7Cb"),
            ("/", "/r", 9, "/"),
        ] {
            let joined = join(service, &Bytes::from_static(path.as_bytes()), matched, true, PathHandling::V0);
            assert_eq!(joined, expected.as_bytes(), "{service} {path}");
        }
    }

    /// Paths with much of what normalising is about.
    fn odd_path() -> impl Strategy<Value = Bytes> {
        let part = prop_oneof![
            Just(b"/".to_vec()),
            Just(b".".to_vec()),
            Just(b"%2e".to_vec()),
            Just(b"%2F".to_vec()),
            Just(b"%".to_vec()),
            any::<u8>().prop_map(|byte| format!("%{byte:02x}").into_bytes()),
            any::<u8>().prop_map(|byte| vec![byte]),
        ];
        proptest::collection::vec(part, 0..24)
            .prop_map(|parts| Bytes::from([b"/", &parts.concat()[..]].concat()))
    }

    proptest! {
        #[test]
        fn the_normal_form_has_no_dots_and_no_double_slashes(path in odd_path()) {
            let normal = normalize(path.clone());
            prop_assert!(normal.starts_with(b"/"));
            for segment in normal[1..].split(|byte| *byte == b'/').rev().skip(1) {
                prop_assert!(!matches!(segment, b"" | b"." | b".."), "{normal:?}");
            }
            prop_assert_eq!(normalize(normal.clone()), normal);
        }

        #[test]
        fn what_looks_normal_is(path in "/?([a-z.~;]{0,2}/?){0,6}") {
            let path = Bytes::from(path);
            prop_assert!(!is_normal(&path) || rebuild(&path) == path);
        }

        #[test]
        fn what_is_sent_on_is_a_path(path in odd_path(), matched in 0..30_usize, strip: bool, service in "(/[a-z]{0,3}){1,3}") {
            for handling in [PathHandling::V0, PathHandling::V1] {
                let joined = join(&service, &normalize(path.clone()), matched, strip, handling);
                prop_assert!(joined.starts_with(b"/"));
                prop_assert!(joined.iter().all(|byte| is_allowed(*byte) || *byte == b'%'), "{joined:?}");
            }
        }
    }
}
