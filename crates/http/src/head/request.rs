//! Request heads, read so that nobody down the line can read them differently.

use std::mem::MaybeUninit;
use std::ops::Range;

use bytes::Bytes;

use super::target::{self, valid_host};
use super::{HeadLimits, MOST_FIELDS, has_token, parse_length, partial, ranges};
use crate::headers::{Lines, glance};
use crate::{Headers, Method, Refusal, RequestHead, Version};

/// How the end of a request's body is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestFraming {
    None,
    Length(u64),
    Chunked,
}

/// A request head with what its fields say about the connection.
#[derive(Debug)]
pub(crate) struct ParsedRequest {
    pub(crate) head: RequestHead,
    pub(crate) framing: RequestFraming,
    pub(crate) keep_alive: bool,
    /// The client waits for `100 Continue`.
    pub(crate) expects_continue: bool,
    /// The client understands trailers (`TE: trailers`).
    pub(crate) takes_trailers: bool,
}

/// A refusal, with the head as far as it could be read.
pub(crate) type Refused = (Refusal, Option<Box<RequestHead>>);

/// A request head as nearly all are.
pub(crate) struct PlainRequest {
    method: Method,
    target: Range<usize>,
    lines: Lines,
    /// Where it ends.
    pub(crate) end: usize,
}

/// Reads a head in one pass, where all of it is in `bytes` and nothing about it is unusual. `None` says nothing
/// about it: [`HeadScanner`](super::HeadScanner) and [`parse_request`] judge.
pub(crate) fn plain_request(bytes: &[u8], limits: &HeadLimits) -> Option<PlainRequest> {
    let method_end = bytes.iter().position(|byte| !byte.is_ascii_uppercase())?;
    let (method, rest) = bytes.split_at(method_end);
    let rest = rest.strip_prefix(b" ")?;
    let length = rest.iter().position(|byte| !byte.is_ascii_graphic())?;
    let target = method_end + 1..method_end + 1 + length;
    let first_line_end = b" HTTP/1.1\r\n";
    if !rest.get(length..)?.starts_with(first_line_end) {
        return None;
    }
    let start = target.end + first_line_end.len();
    let (lines, end) = Lines::read(bytes, start, limits.fields.min(MOST_FIELDS))?;
    let fits = !target.is_empty() && end <= limits.line && end <= limits.total;
    fits.then_some(PlainRequest { method: Method::from_bytes(method).ok()?, target, lines, end })
}

/// Reads a complete head, empty line included; `plain` is what [`plain_request`] has read of it.
pub(crate) fn parse_request(
    bytes: Bytes,
    plain: Option<PlainRequest>,
    limits: &HeadLimits,
) -> Result<ParsedRequest, Refused> {
    let mut head = match plain {
        Some(plain) => RequestHead {
            method: plain.method,
            target: bytes.slice(plain.target),
            version: Version::HTTP_11,
            headers: plain.lines.over(bytes),
        },
        None => parse_head(bytes, limits)?,
    };
    let said = Said::read(&head.headers, head.version);
    let is_clear = target::reduce(&mut head) && target::is_sound(head.path());
    if !is_clear {
        // The request line comes first: what the fields say does not count any more.
        head.headers = Headers::new();
        return Err((Refusal::BadRequest, Some(Box::new(head))));
    }
    let forbidden = matches!(head.method, Method::TRACE | Method::CONNECT);
    let refusal = said.refusal.or(forbidden.then_some(Refusal::MethodNotAllowed));
    if let Some(refusal) = refusal {
        return Err((refusal, Some(Box::new(head))));
    }
    Ok(ParsedRequest {
        framing: match (said.chunked, said.length) {
            (true, _) => RequestFraming::Chunked,
            (false, None | Some(0)) => RequestFraming::None,
            (false, Some(length)) => RequestFraming::Length(length),
        },
        keep_alive: !said.close && (head.version == Version::HTTP_11 || said.keep_alive),
        expects_continue: said.expects_continue && head.version == Version::HTTP_11,
        takes_trailers: said.takes_trailers,
        head,
    })
}

/// Reads a head of any kind.
fn parse_head(bytes: Bytes, limits: &HeadLimits) -> Result<RequestHead, Refused> {
    let mut fields = [const { MaybeUninit::uninit() }; MOST_FIELDS];
    let most = limits.fields.min(MOST_FIELDS);
    let mut parsed = httparse::Request::new(&mut []);
    match parsed.parse_with_uninit_headers(&bytes, fields.get_mut(..most).unwrap_or_default()) {
        Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
        Err(httparse::Error::TooManyHeaders) => {
            return Err((Refusal::HeadersTooLarge, partial::read(&bytes)));
        }
        _ if partial::has_newer_version(&bytes) => return Err((Refusal::VersionNotSupported, None)),
        _ => return Err((Refusal::BadRequest, partial::read(&bytes))),
    }
    let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version) else {
        return Err((Refusal::BadRequest, None));
    };
    let Ok(method) = Method::from_bytes(method.as_bytes()) else { return Err((Refusal::BadRequest, None)) };
    let version = if version == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
    let target = bytes.slice_ref(target.as_bytes());
    let base = bytes.as_ptr() as usize;
    let headers = Headers::from_received(bytes.clone(), ranges(base, parsed.headers));
    Ok(RequestHead { method, target, version, headers })
}

/// What the fields say that the server must act on.
#[derive(Default)]
struct Said {
    hosts: usize,
    length: Option<u64>,
    chunked: bool,
    keep_alive: bool,
    close: bool,
    expects_continue: bool,
    takes_trailers: bool,
    /// Bits of the fields that may be sent once and were.
    sent: u8,
    refusal: Option<Refusal>,
}

impl Said {
    fn read(headers: &Headers, version: Version) -> Self {
        const HOST: u32 = glance(b"host");
        const CONNECTION: u32 = glance(b"connection");
        const CONTENT_LENGTH: u32 = glance(b"content-length");
        const TRANSFER_ENCODING: u32 = glance(b"transfer-encoding");
        const EXPECT: u32 = glance(b"expect");
        const TE: u32 = glance(b"te");
        const IF_RANGE: u32 = glance(b"if-range");
        const AUTHORIZATION: u32 = glance(b"authorization");
        const CONTENT_RANGE: u32 = glance(b"content-range");
        const IF_MODIFIED_SINCE: u32 = glance(b"if-modified-since");
        const IF_UNMODIFIED_SINCE: u32 = glance(b"if-unmodified-since");
        let mut said = Self::default();
        for line in headers.lines() {
            let value = line.value();
            match line.glance() {
                HOST if line.is(b"host") => {
                    said.hosts += 1;
                    if said.hosts > 1 || !valid_host(value) {
                        said.refuse(Refusal::BadRequest);
                    }
                }
                CONNECTION if line.is(b"connection") => {
                    said.close |= has_token(value, "close");
                    said.keep_alive |= has_token(value, "keep-alive");
                }
                CONTENT_LENGTH if line.is(b"content-length") => match parse_length(value) {
                    Some(length) if said.length.is_none() => said.length = Some(length),
                    _ => said.refuse(Refusal::BadRequest),
                },
                TRANSFER_ENCODING if line.is(b"transfer-encoding") => {
                    if said.chunked || version == Version::HTTP_10 {
                        said.refuse(Refusal::BadRequest);
                    } else if !value.eq_ignore_ascii_case(b"chunked") {
                        said.refuse(Refusal::NotImplemented);
                    }
                    said.chunked = true;
                }
                // Other expectations are passed over (nginx).
                EXPECT if line.is(b"expect") => {
                    said.only_once(0);
                    said.expects_continue = value.eq_ignore_ascii_case(b"100-continue");
                }
                TE if line.is(b"te") => said.takes_trailers |= has_token(value, "trailers"),
                IF_RANGE if line.is(b"if-range") => said.only_once(1),
                AUTHORIZATION if line.is(b"authorization") => said.only_once(2),
                CONTENT_RANGE if line.is(b"content-range") => said.only_once(3),
                IF_MODIFIED_SINCE if line.is(b"if-modified-since") => said.only_once(4),
                IF_UNMODIFIED_SINCE if line.is(b"if-unmodified-since") => said.only_once(5),
                _ => {}
            }
        }
        if said.chunked && said.length.is_some() || said.hosts == 0 && version == Version::HTTP_11 {
            said.refuse(Refusal::BadRequest);
        }
        said
    }

    /// Notes a field that makes no sense twice (nginx refuses repeats).
    fn only_once(&mut self, bit: u8) {
        if self.sent & 1 << bit != 0 {
            self.refuse(Refusal::BadRequest);
        }
        self.sent |= 1 << bit;
    }

    /// A malformed message outweighs a wish that cannot be met.
    fn refuse(&mut self, refusal: Refusal) {
        if self.refusal.is_none() || refusal == Refusal::BadRequest {
            self.refusal = Some(refusal);
        }
    }
}
