//! Request heads, read so that nobody down the line can read them differently.

use std::mem::MaybeUninit;

use bytes::Bytes;

use super::{HeadLimits, MOST_FIELDS, has_token, parse_length, ranges};
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
        Err(httparse::Error::TooManyHeaders) => return Err((Refusal::HeadersTooLarge, None)),
        _ => return Err((Refusal::BadRequest, None)),
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

    let refusal = said
        .refusal
        .or_else(|| {
            matches!(head.method, Method::TRACE | Method::CONNECT).then_some(Refusal::MethodNotAllowed)
        })
        .or_else(|| (!reduce_target(&mut head)).then_some(Refusal::BadRequest));
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
                6 if is("expect") => {
                    said.expects_continue = field.value.eq_ignore_ascii_case(b"100-continue");
                    if !said.expects_continue {
                        said.refuse(Refusal::ExpectationFailed);
                    }
                }
                10 if is("connection") => {
                    said.close |= has_token(field.value, "close");
                    said.keep_alive |= has_token(field.value, "keep-alive");
                }
                14 if is("content-length") => match parse_length(field.value) {
                    Some(length) if said.length.is_none() => said.length = Some(length),
                    _ => said.refuse(Refusal::BadRequest),
                },
                17 if is("transfer-encoding") => {
                    if said.chunked
                        || version == Version::HTTP_10
                        || !field.value.eq_ignore_ascii_case(b"chunked")
                    {
                        said.refuse(Refusal::BadRequest);
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

    /// A malformed message outweighs a wish that cannot be met.
    fn refuse(&mut self, refusal: Refusal) {
        if self.refusal.is_none() || refusal == Refusal::BadRequest {
            self.refusal = Some(refusal);
        }
    }
}

/// Reduces an absolute-form target to origin form, its authority becoming `Host` (RFC 9112 §3.2.2).
fn reduce_target(head: &mut RequestHead) -> bool {
    if head.target.starts_with(b"/") {
        return true;
    }
    if head.target.as_ref() == b"*" {
        return head.method == Method::OPTIONS;
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
    let in_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=%".contains(byte);
    let name_is_fine = host.starts_with(b"[")
        || (!host.is_empty()
            && host.iter().all(in_name)
            && !host.starts_with(b".")
            && !host.windows(2).any(|two| two == b".."));
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
