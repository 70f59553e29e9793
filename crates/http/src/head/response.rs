//! Response heads from upstreams.

use std::mem::MaybeUninit;

use bytes::Bytes;

use super::{MOST_FIELDS, has_token, parse_length, ranges};
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

/// Reads a complete head, empty line included, of the answer to a request with this method.
pub(crate) fn parse_response(bytes: Bytes, method: &Method) -> Result<ParsedResponse, &'static str> {
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
    let modern = parsed.version == Some(1);
    let (mut length, mut chunked, mut close, mut keep_alive) = (None, false, false, false);
    for field in parsed.headers.iter() {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        match field.name.len() {
            10 if is("connection") => {
                close |= has_token(field.value, "close");
                keep_alive |= has_token(field.value, "keep-alive");
            }
            14 if is("content-length") => match parse_length(field.value) {
                Some(value) if length.is_none() => length = Some(value),
                _ => return Err("the response has an invalid or repeated Content-Length"),
            },
            17 if is("transfer-encoding") => {
                if chunked || !field.value.eq_ignore_ascii_case(b"chunked") {
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
    let base = bytes.as_ptr() as usize;
    Ok(ParsedResponse {
        status,
        headers: Headers::from_received(bytes.clone(), ranges(base, parsed.headers)),
        framing,
        keep_alive: framing != ResponseFraming::UntilClose && !close && (modern || keep_alive && !chunked),
    })
}
