//! Writing responses: the head, and the framing of the body.

use crate::date::write_date;
use crate::headers::glance;
use crate::outgoing::{put_field, put_length};
use crate::{Method, Response, StatusCode, Version};

/// How the client learns where the body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is none: HEAD, 1xx, 204, 304.
    None,
    Length(u64),
    Chunked,
    UntilClose,
}

/// The terms on which a request is answered.
#[derive(Debug, Clone)]
pub(super) struct Terms {
    pub(super) method: Method,
    pub(super) version: Version,
    pub(super) keep_alive: bool,
    pub(super) takes_trailers: bool,
}

impl Terms {
    /// The terms when there is no request to speak of.
    pub(super) fn unknown() -> Self {
        Self { method: Method::GET, version: Version::HTTP_11, keep_alive: false, takes_trailers: false }
    }

    pub(super) fn framing(&self, response: &Response) -> Framing {
        let status = response.status;
        if self.method == Method::HEAD
            || status.is_informational()
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        {
            return Framing::None;
        }
        match response.body.remaining() {
            Some(length) => Framing::Length(length),
            None if self.version == Version::HTTP_11 => Framing::Chunked,
            None => Framing::UntilClose,
        }
    }
}

/// Appends the status line and the fields.
pub(super) fn put_head(out: &mut Vec<u8>, response: &Response, framing: Framing, terms: &Terms) {
    let status = response.status;
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason(status).as_bytes());
    out.extend_from_slice(b"\r\n");

    const DATE: u32 = glance(b"date");
    const CONNECTION: u32 = glance(b"connection");
    const CONTENT_LENGTH: u32 = glance(b"content-length");
    const TRANSFER_ENCODING: u32 = glance(b"transfer-encoding");
    let (mut dated, mut asked_upgrade, mut given_length) = (false, false, None);
    response.headers.put_lines(out, |line| {
        match line.glance() {
            DATE => dated |= line.is(b"date"),
            CONNECTION if line.is(b"connection") => {
                asked_upgrade = line.value().eq_ignore_ascii_case(b"upgrade");
                return false;
            }
            CONTENT_LENGTH if line.is(b"content-length") => {
                given_length = Some(line.value());
                return false;
            }
            TRANSFER_ENCODING => return !line.is(b"transfer-encoding"),
            _ => {}
        }
        true
    });
    if !dated {
        out.extend_from_slice(b"Date: ");
        write_date(out);
        out.extend_from_slice(b"\r\n");
    }
    match framing {
        Framing::Length(length) => put_length(out, length),
        Framing::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        Framing::None if terms.method == Method::HEAD || status == StatusCode::NOT_MODIFIED => {
            match (given_length, response.body.remaining()) {
                (Some(value), _) if value.iter().all(u8::is_ascii_digit) => {
                    put_field(out, b"Content-Length", value)
                }
                (_, Some(length)) if length > 0 => put_length(out, length),
                _ => {}
            }
        }
        Framing::None | Framing::UntilClose => {}
    }
    out.extend_from_slice(match (status, asked_upgrade, terms.keep_alive) {
        (StatusCode::SWITCHING_PROTOCOLS, ..) => b"Connection: upgrade\r\n\r\n".as_slice(),
        (StatusCode::UPGRADE_REQUIRED, true, true) => b"Connection: Upgrade\r\n\r\n",
        (_, _, true) => b"Connection: keep-alive\r\n\r\n",
        (_, _, false) => b"Connection: close\r\n\r\n",
    });
}
/// The reason phrase: nginx's where it has its own, since clients of Kong see those.
fn reason(status: StatusCode) -> &'static str {
    match status.as_u16() {
        302 => "Moved Temporarily",
        405 => "Not Allowed",
        408 => "Request Time-out",
        413 => "Request Entity Too Large",
        414 => "Request-URI Too Large",
        416 => "Requested Range Not Satisfiable",
        503 => "Service Temporarily Unavailable",
        504 => "Gateway Time-out",
        _ => status.canonical_reason().unwrap_or(""),
    }
}
