//! What can be read of a head that is refused: it decides how the refusal looks.

use crate::{Headers, Method, RequestHead, Version};

/// The request line and the fields up to the first that is broken or not all there; `None` where the request
/// line itself is broken.
pub(crate) fn read(received: &[u8]) -> Option<Box<RequestHead>> {
    let mut lines =
        received.split_inclusive(|byte| *byte == b'\n').map_while(|line| line.strip_suffix(b"\r\n"));
    let mut words = lines.next()?.split(|byte| *byte == b' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    let version = match version {
        b"HTTP/1.1" => Version::HTTP_11,
        b"HTTP/1.0" => Version::HTTP_10,
        _ => return None,
    };
    let method = Method::from_bytes(method).ok()?;
    let mut headers = Headers::new();
    for (name, value) in lines.map_while(split_field) {
        headers.append(name, value);
    }
    Some(Box::new(RequestHead { method, target: target.to_vec().into(), version, headers }))
}

/// Whether the request line names a version of HTTP from 2 on.
pub(crate) fn has_newer_version(received: &[u8]) -> bool {
    let line = received.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let version = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    matches!(version.strip_prefix(b"HTTP/"), Some([b'2'..=b'9', b'.', minor]) if minor.is_ascii_digit())
}

fn split_field(line: &[u8]) -> Option<(&str, &[u8])> {
    let (name, value) = line.split_at(memchr::memchr(b':', line)?);
    let name = std::str::from_utf8(name).ok()?;
    http::HeaderName::from_bytes(name.as_bytes()).ok()?;
    let value = value.get(1..)?.trim_ascii();
    http::HeaderValue::from_bytes(value).ok()?;
    Some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_before_the_fault_counts() {
        for (received, expected) in [
            ("GET / HTTP/1.1\r\nAccept: text/html\r\nX : 1\r\nHost: a\r\n\r\n", Some("Accept")),
            ("GET / HTTP/1.1\r\nAccept: text/html\r\nX: aaaa", Some("Accept")),
            ("GET / HTTP/1.1\r\nAccept: text/html\nHost: a\r\n", Some("")),
            ("GET / HTTP/1.0\r\n\r\n", Some("")),
            ("GET / HTTQ/1.1\r\nAccept: text/html\r\n\r\n", None),
            ("GET /", None),
            ("\x16\x03\x01", None),
        ] {
            let names = read(received.as_bytes()).map(|head| {
                head.headers
                    .iter()
                    .map(|(name, _)| String::from_utf8_lossy(name).into_owned())
                    .collect::<Vec<_>>()
                    .join(",")
            });
            assert_eq!(names.as_deref(), expected, "{received:?}");
        }
    }
}
