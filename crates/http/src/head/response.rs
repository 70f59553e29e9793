//! Response heads from upstreams.

use std::mem::MaybeUninit;

use bytes::Bytes;

use super::{HeadLimits, MOST_FIELDS, has_token, parse_length, ranges};
use crate::headers::{Lines, glance, text_length};
use crate::{Headers, Method, StatusCode};

/// How the end of a response's body is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ResponseFraming {
    None,
    Length(u64),
    Chunked,
    UntilClose,
}

/// A response head with what its fields say about the connection.
#[derive(Debug)]
pub(crate) struct ParsedResponse {
    pub(crate) status: StatusCode,
    pub(crate) headers: Headers,
    pub(crate) framing: ResponseFraming,
    pub(crate) keep_alive: bool,
}

/// A response head as nearly all are.
pub(crate) struct PlainResponse {
    status: StatusCode,
    lines: Lines,
    /// Where it ends.
    pub(crate) end: usize,
}

/// Reads a head in one pass, where all of it is in `bytes` and nothing about it is unusual. `None` says nothing
/// about it: [`HeadScanner`](super::HeadScanner) and [`parse_response`] judge.
pub(crate) fn plain_response(bytes: &[u8], limits: &HeadLimits) -> Option<PlainResponse> {
    let (digits, rest) = bytes.strip_prefix(b"HTTP/1.1 ")?.split_first_chunk::<3>()?;
    let status = StatusCode::from_bytes(digits).ok()?;
    let length = text_length(rest)?;
    if !rest.starts_with(b" ") || !rest.get(length..)?.starts_with(b"\r\n") {
        return None;
    }
    let start = bytes.len() - rest.len() + length + 2;
    let (lines, end) = Lines::read(bytes, start, limits.fields.min(MOST_FIELDS))?;
    (end <= limits.line && end <= limits.total).then_some(PlainResponse { status, lines, end })
}

/// Reads a complete head, empty line included, of the answer to a request with this method; `plain` is what
/// [`plain_response`] has read of it.
pub(crate) fn parse_response(
    bytes: Bytes,
    plain: Option<PlainResponse>,
    method: &Method,
) -> Result<ParsedResponse, &'static str> {
    let (status, modern, headers) = match plain {
        Some(plain) => (plain.status, true, plain.lines.over(bytes)),
        None => parse_head(bytes)?,
    };
    const CONNECTION: u32 = glance(b"connection");
    const CONTENT_LENGTH: u32 = glance(b"content-length");
    const TRANSFER_ENCODING: u32 = glance(b"transfer-encoding");
    let (mut length, mut chunked, mut close, mut keep_alive) = (None, false, false, false);
    for line in headers.lines() {
        match line.glance() {
            CONNECTION if line.is(b"connection") => match line.value() {
                b"keep-alive" => keep_alive = true,
                tokens => {
                    close |= has_token(tokens, "close");
                    keep_alive |= has_token(tokens, "keep-alive");
                }
            },
            CONTENT_LENGTH if line.is(b"content-length") => match parse_length(line.value()) {
                Some(value) if length.is_none() => length = Some(value),
                _ => return Err("the response has an invalid or repeated Content-Length"),
            },
            TRANSFER_ENCODING if line.is(b"transfer-encoding") => {
                if chunked || !line.value().eq_ignore_ascii_case(b"chunked") {
                    return Err("the response has a Transfer-Encoding other than chunked");
                }
                chunked = true;
            }
            _ => {}
        }
    }
    if chunked && length.is_some() {
        return Err("the response has both Content-Length and Transfer-Encoding");
    }
    let bodiless = *method == Method::HEAD
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let framing = match (bodiless, chunked, length) {
        (true, ..) | (_, false, Some(0)) => ResponseFraming::None,
        (_, true, _) => ResponseFraming::Chunked,
        (_, _, Some(length)) => ResponseFraming::Length(length),
        (_, _, None) => ResponseFraming::UntilClose,
    };
    Ok(ParsedResponse {
        status,
        headers,
        framing,
        keep_alive: framing != ResponseFraming::UntilClose && !close && (modern || keep_alive && !chunked),
    })
}

/// Reads a head of any kind: status, whether its version is 1.1, and the fields.
fn parse_head(bytes: Bytes) -> Result<(StatusCode, bool, Headers), &'static str> {
    let mut fields = [const { MaybeUninit::uninit() }; MOST_FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    match httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut parsed,
        &bytes,
        &mut fields,
    ) {
        Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
        Err(httparse::Error::TooManyHeaders) => return Err("the response has too many header fields"),
        _ => return Err("the response head is malformed"),
    }
    let status = parsed
        .code
        .and_then(|code| StatusCode::from_u16(code).ok())
        .ok_or("the response has no valid status")?;
    let base = bytes.as_ptr() as usize;
    let headers = Headers::from_received(bytes.clone(), ranges(base, parsed.headers));
    Ok((status, parsed.version == Some(1), headers))
}
