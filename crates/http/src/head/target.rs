//! Targets and hosts of requests.

use super::alphanumeric_and;
use crate::RequestHead;

/// Reduces an absolute-form target to origin form, its authority becoming `Host` (RFC 9112 §3.2.2); false for
/// a target in neither form (`*` is not served: nginx).
pub(super) fn reduce(head: &mut RequestHead) -> bool {
    if head.target.starts_with(b"/") {
        return true;
    }
    let scheme = ["http://", "https://"].iter().find(|scheme| {
        head.target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme.as_bytes()))
    });
    let Some(scheme) = scheme else { return false };
    let rest = head.target.slice(scheme.len()..);
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(rest.len());
    let (authority, path) = (rest.slice(..end), rest.slice(end..));
    if !valid_host(&authority) {
        return false;
    }
    head.headers.set("Host", &authority);
    head.target = if path.starts_with(b"/") { path } else { [b"/", path.as_ref()].concat().into() };
    true
}

/// Whether a `Host` value is a host with an optional port: no user, no path, no empty label, no odd bytes.
pub(crate) fn valid_host(value: &[u8]) -> bool {
    let (host, port) = if value.starts_with(b"[") {
        let Some(end) = memchr::memchr(b']', value) else { return false };
        let (host, port) = value.split_at(end + 1);
        let address = host.get(1..end).unwrap_or_default();
        if address.is_empty()
            || !address.iter().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'))
        {
            return false;
        }
        (host, port)
    } else {
        value.split_at(memchr::memchr(b':', value).unwrap_or(value.len()))
    };
    let name_is_fine = host.starts_with(b"[") || is_name(host);
    let port_is_fine = match port.split_first() {
        None => true,
        Some((b':', digits)) => {
            digits.len() <= 5
                && digits.iter().all(u8::is_ascii_digit)
                && digits.iter().fold(0u32, |port, digit| port * 10 + u32::from(digit - b'0')) <= 65535
        }
        Some(_) => false,
    };
    name_is_fine && port_is_fine
}

/// Bytes that may stand in a host's name (RFC 3986 §3.2.2).
const IN_NAME: [bool; 256] = alphanumeric_and(b"-._~!$&'()*+;=%");

/// Whether a host has such bytes only, and no empty label but the last.
fn is_name(host: &[u8]) -> bool {
    let mut previous = b'.';
    for byte in host {
        if !IN_NAME[usize::from(*byte)] || *byte == b'.' && previous == b'.' {
            return false;
        }
        previous = *byte;
    }
    !host.is_empty()
}

/// Whether a path is one that can be read in one way only: every `%` opens a triplet, none of them is of NUL,
/// and its dot segments do not climb above the root (nginx refuses the others with 400).
pub(crate) fn is_sound(path: &[u8]) -> bool {
    if memchr::memchr2(b'%', b'.', path).is_none() {
        return true;
    }
    let mut depth = 0_i32;
    let mut segment = Segment::Empty;
    let mut rest = path.iter();
    while let Some(byte) = rest.next() {
        let byte = match byte {
            b'%' => {
                let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
                match (digit(rest.next()), digit(rest.next())) {
                    (Some(0), Some(0)) => return false,
                    (Some(high), Some(low)) => (high << 4 | low) as u8,
                    _ => return false,
                }
            }
            byte => *byte,
        };
        if byte == b'/' {
            depth += segment.step();
            segment = Segment::Empty;
        } else {
            segment = segment.with(byte);
        }
        if depth < 0 {
            return false;
        }
    }
    depth + segment.step() >= 0
}

/// What a segment is, as far as dots go.
#[derive(Clone, Copy)]
enum Segment {
    Empty,
    Dot,
    TwoDots,
    Name,
}

impl Segment {
    fn with(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::Empty, b'.') => Self::Dot,
            (Self::Dot, b'.') => Self::TwoDots,
            _ => Self::Name,
        }
    }

    /// How far it leads down.
    fn step(self) -> i32 {
        match self {
            Self::Empty | Self::Dot => 0,
            Self::TwoDots => -1,
            Self::Name => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_can_be_read_in_two_ways_are_found_out() {
        for (path, expected) in [
            ("/", true),
            ("/a/b.c/../d", true),
            ("/a/..", true),
            ("/..", false),
            ("/a/../..", false),
            ("/a/../../b", false),
            ("//../a", false),
            ("/./..", false),
            ("/%2e%2E/a", false),
            ("/a%2f..%2F..", false),
            ("/...", true),
            ("/..a", true),
            ("/%", false),
            ("/%4", false),
            ("/%zz", false),
            ("/%00", false),
            ("/%0a%7f%25", true),
        ] {
            assert_eq!(is_sound(path.as_bytes()), expected, "{path}");
        }
    }

    #[test]
    fn hosts() {
        for host in ["a", "a.b:80", "a:", "[::1]", "[::1]:8080", "a_b", "1.2.3.4", "a.", "xn--a"] {
            assert!(valid_host(host.as_bytes()), "{host}");
        }
        for host in ["", ":80", "a:b", "a:70000", "a/b", "u@a", "a b", "[::1", "[]", "[::1]x", ".a", "a..b"] {
            assert!(!valid_host(host.as_bytes()), "{host}");
        }
    }
}
