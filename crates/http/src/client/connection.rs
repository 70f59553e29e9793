//! One connection to an upstream.

use std::io::IoSlice;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::{Endpoint, PoolSettings, SendError, SendErrorKind, Timeouts, pool};
use crate::framing::{Decoded, Decoder, write_chunk_size};
use crate::head::{HeadLimits, HeadScanner, ParsedResponse, ResponseFraming, parse_response};
use crate::timer::Timer;
use crate::transport::{Prefixed, Transport};
use crate::{Body, BodyError, BodyStream, Headers, RequestHead, Response, StatusCode};

/// Bounds on an answer's head.
const HEAD_LIMITS: HeadLimits = HeadLimits { line: 32 * 1024, total: 64 * 1024, fields: 256 };
/// Free space to read into.
const READ_SPACE: usize = 16 * 1024;
/// Bodies up to this go out in one write with the head.
const COALESCED: usize = 64 * 1024;

/// A connection to an upstream, between or inside exchanges.
pub(super) struct Upstream {
    transport: Transport,
    received: BytesMut,
    out: Vec<u8>,
    timer: Timer,
    requests: u64,
    /// Whether a byte of the current answer came.
    answered: bool,
    /// Whether the request was sent whole, so that the connection can be used again.
    request_done: bool,
    /// Whether the connection was found closed with nothing of the request acknowledged.
    reset_at_write: bool,
}

impl Upstream {
    pub(super) async fn connect(endpoint: &Endpoint, timeouts: &Timeouts) -> Result<Self, SendError> {
        let address = endpoint.address;
        let open = async {
            let stream = TcpStream::connect(address)
                .await
                .map_err(|error| SendError::new(SendErrorKind::Connect, false, format!("connect to {address}: {error}")))?;
            let _ = stream.set_nodelay(true);
            match &endpoint.tls {
                None => Ok(Transport::Plain(stream)),
                Some((profile, name)) => profile
                    .connect(stream, name.clone())
                    .await
                    .map(|stream| Transport::Tls(Box::new(stream.into())))
                    .map_err(|error| SendError::new(SendErrorKind::Tls, false, format!("TLS with {address}: {error}"))),
            }
        };
        let transport = match timeout(timeouts.connect, open).await {
            Ok(transport) => transport?,
            Err(_) => return Err(SendError::new(SendErrorKind::ConnectTimeout, false, format!("connect to {address}: timed out"))),
        };
        Ok(Self {
            transport,
            received: BytesMut::new(),
            out: Vec::new(),
            timer: Timer::default(),
            requests: 0,
            answered: false,
            request_done: false,
            reset_at_write: false,
        })
    }

    pub(super) fn requests(&self) -> u64 {
        self.requests
    }

    pub(super) fn has_received(&self) -> bool {
        self.answered
    }

    pub(super) fn was_idle_closed(&self) -> bool {
        self.reset_at_write
    }

    /// Whether an idle connection is still open and silent. Costs no system call unless something happened.
    pub(super) fn is_quiet(&mut self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        self.received.is_empty() && self.transport.poll_fill(&mut context, &mut self.received, 1024).is_pending()
    }

    /// Sends a request and reads the head of its answer.
    pub(super) async fn exchange(&mut self, head: &RequestHead, body: &mut Body, timeouts: &Timeouts) -> Result<ParsedResponse, SendError> {
        self.requests += 1;
        (self.answered, self.request_done, self.reset_at_write) = (false, false, false);
        self.out.clear();
        let chunked = write_request_head(&mut self.out, head, body);
        let mut rest: Option<Bytes> = None;
        if let Body::Full(bytes) = &*body {
            if bytes.len() <= COALESCED {
                self.out.extend_from_slice(bytes);
            } else {
                rest = Some(bytes.clone());
            }
        }
        let mut sending = Sending { written: 0, rest, chunked, body_done: !matches!(body, Body::Stream(_)), failed: false };
        let mut scanner = HeadScanner::default();
        let mut deadline = Instant::now() + timeouts.write;
        std::future::poll_fn(|context| {
            loop {
                let sent_before = sending.written;
                if !self.request_done && !sending.failed {
                    match self.poll_send(context, &mut sending, body) {
                        Poll::Ready(Ok(())) => {
                            self.request_done = true;
                            deadline = Instant::now() + timeouts.read;
                        }
                        Poll::Ready(Err(error)) if error.kind == SendErrorKind::Closed => {
                            // An early answer may have come before the upstream stopped reading.
                            sending.failed = true;
                            self.reset_at_write = true;
                        }
                        Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                        Poll::Pending if sending.written != sent_before => deadline = Instant::now() + timeouts.write,
                        Poll::Pending => {}
                    }
                }
                match self.poll_head(context, &mut scanner, head) {
                    Poll::Ready(result) => return Poll::Ready(result),
                    Poll::Pending if self.answered => deadline = Instant::now() + timeouts.read,
                    Poll::Pending => {}
                }
                ready!(self.timer.poll_expired(context, deadline));
                let (kind, what) = match self.request_done {
                    true => (SendErrorKind::ReadTimeout, "no answer in time"),
                    false => (SendErrorKind::WriteTimeout, "the request could not be sent in time"),
                };
                return Poll::Ready(Err(SendError::new(kind, true, what)));
            }
        })
        .await
    }

    fn poll_send(&mut self, context: &mut Context<'_>, sending: &mut Sending, body: &mut Body) -> Poll<Result<(), SendError>> {
        loop {
            while sending.written < self.out.len() + sending.rest_len() {
                let parts = match sending.written.checked_sub(self.out.len()) {
                    None => [&self.out[sending.written..], sending.rest.as_deref().unwrap_or_default()],
                    Some(past) => [sending.rest.as_deref().unwrap_or_default().get(past..).unwrap_or_default(), &[]],
                };
                let parts = parts.map(IoSlice::new);
                let parts = if parts[1].is_empty() { &parts[..1] } else { &parts[..] };
                match ready!(self.transport.poll_write_parts(context, parts)) {
                    Ok(count) if count > 0 => sending.written += count,
                    Ok(_) => return Poll::Ready(Err(closed("the upstream takes no more of the request"))),
                    Err(error) => return Poll::Ready(Err(closed(&error.to_string()))),
                }
            }
            if sending.body_done {
                return Poll::Ready(Ok(()));
            }
            self.out.clear();
            sending.written = 0;
            match ready!(body.poll_chunk(context)) {
                Some(Ok(chunk)) if sending.chunked => {
                    write_chunk_size(&mut self.out, chunk.len());
                    self.out.extend_from_slice(&chunk);
                    self.out.extend_from_slice(b"\r\n");
                }
                Some(Ok(chunk)) => self.out.extend_from_slice(&chunk),
                None => {
                    sending.body_done = true;
                    if sending.chunked {
                        self.out.extend_from_slice(b"0\r\n\r\n");
                    }
                }
                Some(Err(error)) => return Poll::Ready(Err(SendError::new(SendErrorKind::Body, true, error.to_string()))),
            }
        }
    }

    fn poll_head(&mut self, context: &mut Context<'_>, scanner: &mut HeadScanner, head: &RequestHead) -> Poll<Result<ParsedResponse, SendError>> {
        loop {
            let malformed = |reason: &str| Poll::Ready(Err(SendError::new(SendErrorKind::Malformed, true, reason)));
            if !self.received.is_empty() {
                match scanner.find_end(&self.received, &HEAD_LIMITS, true) {
                    Ok(Some(end)) => {
                        let bytes = self.received.split_to(end).freeze();
                        let parsed = match parse_response(bytes, &head.method) {
                            Ok(parsed) => parsed,
                            Err(reason) => return malformed(reason),
                        };
                        if parsed.status.is_informational() && parsed.status != StatusCode::SWITCHING_PROTOCOLS {
                            *scanner = HeadScanner::default();
                            continue;
                        }
                        return Poll::Ready(Ok(parsed));
                    }
                    Ok(None) => {}
                    Err(_) => return malformed("the answer's head is too long"),
                }
            }
            match ready!(self.transport.poll_fill(context, &mut self.received, READ_SPACE)) {
                Ok(0) => return Poll::Ready(Err(closed("the upstream closed before it answered"))),
                Ok(_) => self.answered = true,
                Err(error) => return Poll::Ready(Err(closed(&error.to_string()))),
            }
        }
    }

    /// The answer, whose body goes on reading from this connection.
    pub(super) fn into_response(mut self, parsed: ParsedResponse, key: pool::Key, settings: PoolSettings, timeouts: &Timeouts) -> Response {
        let mut response = Response { status: parsed.status, headers: parsed.headers, body: Body::Empty, upgrade: None };
        if parsed.status == StatusCode::SWITCHING_PROTOCOLS {
            response.upgrade = Some(Box::new(Prefixed::new(self.received, self.transport)));
            return response;
        }
        let reusable = parsed.keep_alive && self.request_done;
        let decoder = match parsed.framing {
            ResponseFraming::None => Decoder::Done,
            ResponseFraming::Length(length) => {
                let length_here = usize::try_from(length).unwrap_or(usize::MAX);
                if self.received.len() >= length_here {
                    response.body = Body::Full(self.received.split_to(length_here).freeze());
                    Decoder::Done
                } else {
                    Decoder::Length(length)
                }
            }
            ResponseFraming::Chunked => Decoder::chunked(),
            ResponseFraming::UntilClose => Decoder::UntilClose,
        };
        if decoder.is_done() {
            if reusable {
                pool::put(key, self, &settings);
            }
            return response;
        }
        response.body = Body::stream(UpstreamBody {
            upstream: Some(self),
            decoder,
            reusable,
            key,
            settings,
            read: timeouts.read,
            deadline: None,
        });
        response
    }
}

/// How far a request has been sent.
struct Sending {
    written: usize,
    /// A body too large to be copied next to the head.
    rest: Option<Bytes>,
    chunked: bool,
    body_done: bool,
    failed: bool,
}

impl Sending {
    fn rest_len(&self) -> usize {
        self.rest.as_ref().map_or(0, Bytes::len)
    }
}

fn closed(reason: &str) -> SendError {
    SendError::new(SendErrorKind::Closed, true, reason)
}

/// Writes request line and fields; tells whether the body goes out in chunks.
fn write_request_head(out: &mut Vec<u8>, head: &RequestHead, body: &Body) -> bool {
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(&head.target);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let mut upgrade = false;
    for (name, value) in head.headers.iter() {
        upgrade |= name.eq_ignore_ascii_case(b"upgrade");
        out.extend_from_slice(name);
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(if upgrade { b"Connection: keep-alive, Upgrade\r\n" } else { b"Connection: keep-alive\r\n" });
    let length = body.remaining();
    match length {
        Some(0) if matches!(body, Body::Empty) && !matches!(head.method.as_str(), "POST" | "PUT" | "PATCH") => {}
        Some(length) => {
            out.extend_from_slice(b"Content-Length: ");
            out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        None => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
    }
    out.extend_from_slice(b"\r\n");
    length.is_none()
}

/// The body of an answer. The connection goes back to the pool at its end.
struct UpstreamBody {
    upstream: Option<Upstream>,
    decoder: Decoder,
    reusable: bool,
    key: pool::Key,
    settings: PoolSettings,
    read: Duration,
    deadline: Option<Instant>,
}

impl UpstreamBody {
    fn release(&mut self) {
        if let Some(upstream) = self.upstream.take()
            && self.reusable
            && upstream.received.is_empty()
        {
            pool::put(self.key.clone(), upstream, &self.settings);
        }
    }
}

impl BodyStream for UpstreamBody {
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            let Some(upstream) = &mut self.upstream else { return Poll::Ready(None) };
            match self.decoder.decode(&mut upstream.received) {
                Ok(Decoded::Data(data)) => {
                    self.deadline = None;
                    if self.decoder.is_done() {
                        self.release();
                    }
                    return Poll::Ready(Some(Ok(data)));
                }
                Ok(Decoded::End) => {
                    self.release();
                    return Poll::Ready(None);
                }
                Ok(Decoded::More) => {}
                Err(error) => {
                    self.upstream = None;
                    return Poll::Ready(Some(Err(error)));
                }
            }
            match upstream.transport.poll_fill(context, &mut upstream.received, READ_SPACE) {
                Poll::Ready(Ok(0)) => {
                    self.upstream = None;
                    let whole = matches!(self.decoder, Decoder::UntilClose);
                    return Poll::Ready((!whole).then_some(Err(BodyError::Closed)));
                }
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => {
                    self.upstream = None;
                    return Poll::Ready(Some(Err(error.into())));
                }
                Poll::Pending => {
                    let deadline = *self.deadline.get_or_insert_with(|| Instant::now() + self.read);
                    ready!(upstream.timer.poll_expired(context, deadline));
                    self.upstream = None;
                    return Poll::Ready(Some(Err(BodyError::TimedOut)));
                }
            }
        }
    }

    fn remaining(&self) -> Option<u64> {
        self.decoder.remaining()
    }

    fn take_trailers(&mut self) -> Option<Headers> {
        self.decoder.take_trailers()
    }
}
