//! Request heads, read so that nobody down the line can read them differently.

use std::mem::MaybeUninit;

use bytes::Bytes;

use super::target::{self, valid_host};
use super::{HeadLimits, MOST_FIELDS, has_token, parse_length, partial, ranges};
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

/// Reads a complete head, empty line included.
pub(crate) fn parse_request(bytes: Bytes, limits: &HeadLimits) -> Result<ParsedRequest, Refused> {
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
    let said = Said::read(parsed.headers, version);
    let base = bytes.as_ptr() as usize;
    let target = bytes.slice_ref(target.as_bytes());
    let headers = Headers::from_received(bytes.clone(), ranges(base, parsed.headers));
    let mut head = RequestHead { method, target, version, headers };

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
        head,
        framing: match (said.chunked, said.length) {
            (true, _) => RequestFraming::Chunked,
            (false, None | Some(0)) => RequestFraming::None,
            (false, Some(length)) => RequestFraming::Length(length),
        },
        keep_alive: !said.close && (version == Version::HTTP_11 || said.keep_alive),
        expects_continue: said.expects_continue && version == Version::HTTP_11,
        takes_trailers: said.takes_trailers,
    })
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
    fn read(fields: &[httparse::Header<'_>], version: Version) -> Self {
        let mut said = Self::default();
        for field in fields {
            let is = |name: &str| field.name.eq_ignore_ascii_case(name);
            match field.name.len() {
                2 if is("te") => said.takes_trailers |= has_token(field.value, "trailers"),
                4 if is("host") => {
                    said.hosts += 1;
                    if said.hosts > 1 || !valid_host(field.value) {
                        said.refuse(Refusal::BadRequest);
                    }
                }
                // Other expectations are passed over (nginx).
                6 if is("expect") => {
                    said.only_once(0);
                    said.expects_continue = field.value.eq_ignore_ascii_case(b"100-continue");
                }
                8 if is("if-range") => said.only_once(1),
                13 if is("authorization") => said.only_once(2),
                13 if is("content-range") => said.only_once(3),
                17 if is("if-modified-since") => said.only_once(4),
                19 if is("if-unmodified-since") => said.only_once(5),
                10 if is("connection") => {
                    said.close |= has_token(field.value, "close");
                    said.keep_alive |= has_token(field.value, "keep-alive");
                }
                14 if is("content-length") => match parse_length(field.value) {
                    Some(length) if said.length.is_none() => said.length = Some(length),
                    _ => said.refuse(Refusal::BadRequest),
                },
                17 if is("transfer-encoding") => {
                    if said.chunked || version == Version::HTTP_10 {
                        said.refuse(Refusal::BadRequest);
                    } else if !field.value.eq_ignore_ascii_case(b"chunked") {
                        said.refuse(Refusal::NotImplemented);
                    }
                    said.chunked = true;
                }
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
