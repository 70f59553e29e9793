//! Request paths: the form routes are matched by, and the path that is sent on.

use bytes::Bytes;
pub use tollgate_model::entity::PathHandling;

/// Whether the path is in normal form already, which nearly all are.
fn is_normal(path: &[u8]) -> bool {
    let mut previous = b'/';
    for (index, byte) in path.iter().enumerate() {
        let odd = match byte {
            b'%' => true,
            b'/' => previous == b'/' && index > 0,
            b'.' => previous == b'/',
            byte => !is_allowed(*byte),
        };
        if odd {
            return false;
        }
        previous = *byte;
    }
    true
}

/// Bytes that may stand unencoded in a path that is sent on.
fn is_allowed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!*'();:@&=+$,/[]".contains(&byte)
}

/// The normal form (Kong 3.11): triplets of unreserved bytes decoded, the others upper-cased, dot segments
/// resolved, slashes merged. A path in normal form is returned as it is.
pub fn normalize(path: &Bytes) -> Bytes {
    if is_normal(path) {
        return path.clone();
    }
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest: &[u8] = path;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let triplet = (*first == b'%').then(|| hex(after)).flatten();
        match triplet {
            Some(byte) => {
                rest = &after[2..];
                if b"!*'();:@&=+$,/?%#[]".contains(&byte) || byte <= b' ' || byte == 0x7f || !is_allowed(byte) && byte < 0x80 && byte != b'|' {
                    encode(byte, &mut decoded);
                } else {
                    decoded.push(byte);
                }
            }
            None => decoded.push(*first),
        }
    }
    let mut segments: Vec<&[u8]> = Vec::new();
    let mut open = false;
    for segment in decoded.split(|byte| *byte == b'/').skip(1) {
        open = false;
        match segment {
            b"" | b"." => open = true,
            b".." => {
                segments.pop();
                open = true;
            }
            segment => segments.push(segment),
        }
    }
    let mut normal = Vec::with_capacity(decoded.len());
    for segment in &segments {
        normal.push(b'/');
        normal.extend_from_slice(segment);
    }
    if open || segments.is_empty() {
        normal.push(b'/');
    }
    normal.into()
}

fn hex(bytes: &[u8]) -> Option<u8> {
    let digits = bytes.get(..2)?;
    let text = std::str::from_utf8(digits).ok().filter(|_| digits.iter().all(u8::is_ascii_hexdigit))?;
    u8::from_str_radix(text, 16).ok()
}

fn encode(byte: u8, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.extend_from_slice(&[b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
}

/// The path to send on: the service's path and what is left of the request's (Kong 3.11's table for
/// `strip_path` and `path_handling`). `matched` is the length of the matched prefix.
pub fn join(service: &str, path: &Bytes, matched: usize, strip: bool, handling: PathHandling) -> Bytes {
    let rest = if strip { path.slice(matched.min(path.len())..) } else { path.clone() };
    let rest = if strip && matched > 0 { drop_dots(rest) } else { rest };
    if service == "/" && rest.first() == Some(&b'/') {
        return if is_sendable(&rest) { rest } else { reencode(&rest) };
    }
    let joined = match handling {
        PathHandling::V1 => join_v1(service, path, &rest, strip && matched > 0),
        PathHandling::V0 => join_v0(service, path, &rest, strip && matched > 0),
    };
    let joined = Bytes::from(joined);
    if is_sendable(&joined) { joined } else { reencode(&joined) }
}

fn is_sendable(path: &[u8]) -> bool {
    path.iter().all(|byte| is_allowed(*byte) || *byte == b'%')
}

fn reencode(path: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(path.len() + 8);
    for byte in path {
        if is_allowed(*byte) || *byte == b'%' { out.push(*byte) } else { encode(*byte, &mut out) }
    }
    out.into()
}

/// What stripping leaves must not climb: leading dot segments go.
fn drop_dots(rest: Bytes) -> Bytes {
    let dots = rest.iter().take_while(|byte| **byte == b'.').count();
    match rest.get(dots) {
        None if (1..=2).contains(&dots) => rest.slice(dots..),
        Some(b'/') if (1..=2).contains(&dots) => rest.slice(dots + 1..),
        _ => rest,
    }
}

fn join_v0(service: &str, path: &[u8], rest: &[u8], strip: bool) -> Vec<u8> {
    let base = service.as_bytes();
    let ends_open = path.len() > 1 && path.ends_with(b"/");
    if let Some(trimmed) = base.strip_suffix(b"/") {
        return match (strip, rest.is_empty()) {
            (true, true) if base == b"/" => b"/".to_vec(),
            (true, true) if path.ends_with(b"/") => base.to_vec(),
            (true, true) => trimmed.to_vec(),
            (true, false) if rest.starts_with(b"/") => [trimmed, rest].concat(),
            (true, false) => [base, rest].concat(),
            (false, _) => [base, path.strip_prefix(b"/").unwrap_or(path)].concat(),
        };
    }
    match (strip, rest.is_empty()) {
        (true, true) if ends_open => [base, b"/"].concat(),
        (true, true) => base.to_vec(),
        (true, false) if rest.starts_with(b"/") => [base, rest].concat(),
        (true, false) => [base, b"/", rest].concat(),
        (false, _) if path == b"/" => base.to_vec(),
        (false, _) => [base, path].concat(),
    }
}

fn join_v1(service: &str, path: &[u8], rest: &[u8], strip: bool) -> Vec<u8> {
    let base = service.as_bytes();
    if !strip {
        return [base, path.strip_prefix(b"/").unwrap_or(path)].concat();
    }
    match base.strip_suffix(b"/") {
        Some(trimmed) if rest.starts_with(b"/") => [trimmed, rest].concat(),
        _ => [base, rest].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_forms() {
        for (path, normal) in [
            ("/", "/"),
            ("/fo%6F//bar/./x/../y%3a", "/foo/bar/y%3A"),
            ("/a/..", "/"),
            ("/../../a", "/a"),
            ("/a/.", "/a/"),
            ("/a%2fb", "/a%2Fb"),
            ("/route%2e%2E/req", "/route../req"),
            ("/a%zz", "/a%zz"),
            ("/%", "/%"),
            ("/.hidden/..x", "/.hidden/..x"),
        ] {
            assert_eq!(normalize(&Bytes::from_static(path.as_bytes())), normal.as_bytes(), "{path}");
        }
    }

    /// Every row of the table: service path, route path (- for none), strip, handling, request path, result.
    #[test]
    fn service_and_request_paths_are_joined_as_the_table_says() {
        for line in include_str!("../cases/paths.txt").lines().filter(|line| !line.starts_with('#')) {
            let [service, route, strip, handling, request, expected] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
            for strip in [true, false].into_iter().filter(|value| strip == "any" || strip == value.to_string()) {
                for handling_value in [PathHandling::V0, PathHandling::V1] {
                    if handling != "any" && handling != handling_value.name() {
                        continue;
                    }
                    let path = normalize(&Bytes::copy_from_slice(request.as_bytes()));
                    let matched = if route == "-" { 0 } else { route.len() };
                    let joined = join(service, &path, matched, strip, handling_value);
                    assert_eq!(joined, expected.as_bytes(), "{line} (strip {strip}, {})", handling_value.name());
                }
            }
        }
    }
}
