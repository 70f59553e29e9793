//! The access log: one line a request, in the form Kong 3.11 gives nginx (`combined` and the request id).

use std::io::Write;
use std::net::IpAddr;

use crate::time::Moment;

/// What a line says.
#[derive(Debug)]
pub struct Line<'a> {
    /// The client's address.
    pub client: IpAddr,
    /// The request line in pieces, secrets already taken out; none where there was no request.
    pub request: &'a [&'a [u8]],
    /// Status sent.
    pub status: u16,
    /// Bytes sent after the head.
    pub body_bytes: u64,
    /// The request's `Referer`.
    pub referer: Option<&'a [u8]>,
    /// The request's `User-Agent`.
    pub user_agent: Option<&'a [u8]>,
    /// The request's id, where there is one.
    pub request_id: Option<&'a str>,
}

impl Line<'_> {
    /// The line with its line feed. Who the client says it is (`$remote_user`) is left out: it may be half of a
    /// credential.
    pub fn write(&self) -> Vec<u8> {
        let mut line = Vec::with_capacity(256);
        // Writing to a vector cannot fail.
        let _ = write!(line, "{} - - [", self.client);
        Moment::put_common_now(&mut line);
        line.extend_from_slice(b"] \"");
        self.request.iter().for_each(|piece| put_escaped(&mut line, piece));
        let _ = write!(line, "\" {} {}", self.status, self.body_bytes);
        for value in [self.referer, self.user_agent] {
            line.extend_from_slice(b" \"");
            put_escaped(&mut line, value.unwrap_or(b"-"));
            line.push(b'"');
        }
        if let Some(id) = self.request_id {
            let _ = write!(line, " kong_request_id: \"{id}\"");
        }
        line.push(b'\n');
        line
    }
}

/// nginx's default escaping: quotes, backslashes and what is not printable ASCII as `\xHH`.
fn put_escaped(out: &mut Vec<u8>, value: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in value {
        match byte {
            b'"' | b'\\' | 0..=0x1f | 0x7f..=0xff => {
                let (high, low) = (usize::from(byte >> 4), usize::from(byte & 15));
                out.extend_from_slice(&[b'\\', b'x', DIGITS[high], DIGITS[low]]);
            }
            plain => out.push(*plain),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_nginx_s() {
        let mut line = Line {
            client: [127, 0, 0, 1].into(),
            request: &[b"GET", b" /\"\x01\xff HTTP/1.1"],
            status: 200,
            body_bytes: 12,
            referer: None,
            user_agent: Some(b"curl/8"),
            request_id: Some("abc"),
        };
        let text = String::from_utf8(line.write()).unwrap();
        let (start, end) = text.split_once('[').unwrap();
        assert_eq!(start, "127.0.0.1 - - ");
        assert_eq!(
            end.split_once(']').unwrap().1,
            " \"GET /\\x22\\x01\\xFF HTTP/1.1\" 200 12 \"-\" \"curl/8\" kong_request_id: \"abc\"\n"
        );
        line.request_id = None;
        assert!(line.write().ends_with(b"\"-\" \"curl/8\"\n"));
    }
}
