//! One request and its response on an upstream connection.

use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::connection::UpstreamConnection;
use super::{PoolSettings, SendError, SendErrorKind, Timeouts, pool};
use crate::framing::Decoded;
use crate::framing::Decoder;
use crate::head::{
    HeadLimits, HeadScanner, MOST_FIELDS, ParsedResponse, ResponseFraming, parse_response, plain_response,
};
use crate::headers::glance;
use crate::outgoing::{Outgoing, put_length};
use crate::{Body, BodyError, BodyStream, Headers, Method, RequestHead, Response, StatusCode};

/// Bounds on a response head.
const HEAD_LIMITS: HeadLimits = HeadLimits { line: 64 * 1024, total: 64 * 1024, fields: MOST_FIELDS };
/// Most interim responses (1xx) that are skipped before the final one.
const MOST_INTERIM: usize = 16;

/// Sends a request on `connection` and reads the head of the response.
pub(super) async fn run(
    mut connection: Box<UpstreamConnection>,
    head: &RequestHead,
    body: &mut Body,
    timeouts: &Timeouts,
    settings: &PoolSettings,
) -> Result<Response, SendError> {
    connection.begin(timeouts);
    match exchange(&mut connection, head, body).await {
        Ok((parsed, sending)) => respond(connection, parsed, sending, body, settings),
        Err(error) => {
            let UpstreamConnection { request_sent, reused, body_taken: body_lost, .. } = *connection;
            Err(SendError { request_sent, reused, body_lost, ..error })
        }
    }
}

/// How far sending the request is.
#[derive(Debug, Clone, Copy)]
struct Sending {
    /// The request asks for another protocol.
    upgrades: bool,
    chunked: bool,
    /// Bytes still to come from a body of known length.
    left: u64,
    /// Whether all of the body has been put out.
    put: bool,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Writing,
    Written,
    /// The upstream takes no more; it may have answered all the same.
    Failed,
}

impl Sending {
    /// Puts and writes the body as it comes. An error means that the exchange is over.
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        connection: &mut UpstreamConnection,
        body: &mut Body,
    ) -> Poll<Result<(), SendError>> {
        loop {
            let mut waits = false;
            while !self.put && !waits && !connection.out.is_full() {
                match body.poll_chunk(context) {
                    Poll::Pending => waits = true,
                    Poll::Ready(Some(Ok(data))) => {
                        self.left = match self.left.checked_sub(data.len() as u64) {
                            Some(left) => left,
                            None => return Poll::Ready(Err(too_long())),
                        };
                        connection.body_taken = true;
                        connection.out.put(data, self.chunked);
                    }
                    Poll::Ready(Some(Err(error))) => {
                        let kind = match error {
                            BodyError::TooLarge { .. } => SendErrorKind::BodyTooLarge,
                            BodyError::TimedOut => SendErrorKind::BodyTimeout,
                            _ => SendErrorKind::Body,
                        };
                        return Poll::Ready(Err(SendError::new(kind, error)));
                    }
                    Poll::Ready(None) => {
                        self.put = true;
                        if self.chunked {
                            connection.out.put_end(body.take_trailers().as_ref());
                        } else if self.left > 0 {
                            return Poll::Ready(Err(SendError::new(SendErrorKind::Body, BodyError::Closed)));
                        }
                    }
                }
            }
            match ready!(connection.poll_flush(context)) {
                Ok(()) => {}
                Err(error) if error.kind == SendErrorKind::Closed => {
                    self.stage = Stage::Failed;
                    return Poll::Ready(Ok(()));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
            if self.put {
                self.stage = Stage::Written;
                return Poll::Ready(Ok(()));
            }
            if waits {
                return Poll::Pending;
            }
        }
    }
}

fn malformed(what: &'static str) -> SendError {
    SendError::new(SendErrorKind::Malformed, what)
}

fn too_long() -> SendError {
    SendError::new(SendErrorKind::Body, BodyError::Malformed("it is longer than announced"))
}

/// Writes the request and reads the head of the response, both at once.
async fn exchange(
    connection: &mut UpstreamConnection,
    head: &RequestHead,
    body: &mut Body,
) -> Result<(ParsedResponse, Sending), SendError> {
    let mut sending = put_request(&mut connection.out, head, body)?;
    let mut scanner = HeadScanner::default();
    let mut interim = 0;
    std::future::poll_fn(|context| {
        if sending.stage == Stage::Writing
            && let Poll::Ready(Err(error)) = sending.poll(context, connection, body)
        {
            return Poll::Ready(Err(error));
        }
        loop {
            let mut plain = None;
            if scanner.is_fresh() {
                plain = plain_response(&connection.buffer, &HEAD_LIMITS);
            }
            let end = match &plain {
                Some(plain) => Some(plain.end),
                None => scanner
                    .find_end(&connection.buffer, &HEAD_LIMITS, true)
                    .map_err(|_| malformed("the response head is too large"))?,
            };
            if let Some(end) = end {
                let received = connection.buffer.split_to(end).freeze();
                let parsed = parse_response(received, plain, &head.method).map_err(malformed)?;
                if !parsed.status.is_informational() || parsed.status == StatusCode::SWITCHING_PROTOCOLS {
                    return Poll::Ready(Ok((parsed, sending)));
                }
                scanner = HeadScanner::default();
                interim += 1;
                if interim > MOST_INTERIM {
                    return Poll::Ready(Err(malformed("too many interim responses")));
                }
                continue;
            }
            match ready!(connection.poll_more(context, sending.stage != Stage::Writing)) {
                Ok(0) => {
                    let reason = "the upstream closed before it answered";
                    return Poll::Ready(Err(SendError::new(SendErrorKind::Closed, reason)));
                }
                Ok(_) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    })
    .await
}

/// Puts out the head, and a body that is whole.
fn put_request(out: &mut Outgoing, head: &RequestHead, body: &Body) -> Result<Sending, SendError> {
    if head.target.is_empty() || head.target.iter().any(|byte| *byte <= b' ' || *byte == 0x7f) {
        return Err(SendError::new(
            SendErrorKind::InvalidRequest,
            "the target holds a space or a control byte",
        ));
    }
    let start = out.start();
    start.extend_from_slice(head.method.as_str().as_bytes());
    start.push(b' ');
    start.extend_from_slice(&head.target);
    start.extend_from_slice(b" HTTP/1.1\r\n");
    const EXPECT: u32 = glance(b"expect");
    const UPGRADE: u32 = glance(b"upgrade");
    const CONNECTION: u32 = glance(b"connection");
    const KEEP_ALIVE: u32 = glance(b"keep-alive");
    const CONTENT_LENGTH: u32 = glance(b"content-length");
    const PROXY_CONNECTION: u32 = glance(b"proxy-connection");
    const TRANSFER_ENCODING: u32 = glance(b"transfer-encoding");
    let (mut upgrades, mut has_length) = (false, false);
    head.headers.put_lines(start, |line| {
        match line.glance() {
            EXPECT => return !line.is(b"expect"),
            UPGRADE => upgrades |= line.is(b"upgrade"),
            CONNECTION => return !line.is(b"connection"),
            KEEP_ALIVE => return !line.is(b"keep-alive"),
            CONTENT_LENGTH if line.is(b"content-length") => {
                has_length = true;
                return false;
            }
            PROXY_CONNECTION => return !line.is(b"proxy-connection"),
            TRANSFER_ENCODING => return !line.is(b"transfer-encoding"),
            _ => {}
        }
        true
    });
    let length = body.remaining();
    match (length, body) {
        // A body of no bytes is announced where one is usual, or was announced to us.
        (_, Body::Empty) => {
            if has_length || matches!(head.method, Method::POST | Method::PUT | Method::PATCH) {
                put_length(start, 0);
            }
        }
        (Some(length), _) => put_length(start, length),
        (None, _) => start.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
    }
    start.extend_from_slice(if upgrades {
        b"Connection: keep-alive, Upgrade\r\n\r\n".as_slice()
    } else {
        b"Connection: keep-alive\r\n\r\n"
    });
    let put = match body {
        Body::Empty => true,
        Body::Full(bytes) => {
            out.put(bytes.clone(), false);
            true
        }
        Body::Stream(_) => false,
    };
    Ok(Sending {
        upgrades,
        chunked: length.is_none(),
        left: length.unwrap_or(u64::MAX),
        put,
        stage: Stage::Writing,
    })
}

/// Makes the response of a head, and of what else was received.
fn respond(
    mut connection: Box<UpstreamConnection>,
    parsed: ParsedResponse,
    sending: Sending,
    body: &mut Body,
    settings: &PoolSettings,
) -> Result<Response, SendError> {
    let mut response =
        Response { status: parsed.status, headers: parsed.headers, body: Body::Empty, upgrade: None };
    if parsed.status == StatusCode::SWITCHING_PROTOCOLS {
        if !sending.upgrades {
            return Err(SendError {
                request_sent: true,
                reused: connection.reused,
                ..malformed("the upstream switched protocols unasked")
            });
        }
        response.upgrade = Some(connection);
        return Ok(response);
    }
    let keep_alive = parsed.keep_alive && sending.stage != Stage::Failed;
    let written = sending.stage == Stage::Written;
    let decoder = match parsed.framing {
        ResponseFraming::None => {
            if keep_alive && written && connection.buffer.is_empty() {
                pool::put(connection, settings);
            }
            return Ok(response);
        }
        ResponseFraming::Length(length) => {
            let whole = usize::try_from(length).ok().filter(|length| *length <= connection.buffer.len());
            if let Some(length) = whole.filter(|_| written) {
                response.body = Body::Full(connection.buffer.split_to(length).freeze());
                if keep_alive && connection.buffer.is_empty() {
                    pool::put(connection, settings);
                }
                return Ok(response);
            }
            Decoder::Length(length)
        }
        ResponseFraming::Chunked => Decoder::chunked(),
        ResponseFraming::UntilClose => Decoder::UntilClose,
    };
    let sending = (sending.stage == Stage::Writing).then(|| (sending, std::mem::take(body)));
    response.body = Body::stream(Received {
        connection: Some(connection),
        decoder,
        keep_alive,
        sending,
        settings: *settings,
    });
    Ok(response)
}

/// The streamed body of a response. Dropped before its end, it closes the connection.
struct Received {
    connection: Option<Box<UpstreamConnection>>,
    decoder: Decoder,
    keep_alive: bool,
    /// The request, while it is still being sent.
    sending: Option<(Sending, Body)>,
    settings: PoolSettings,
}

impl Received {
    /// Gives the connection back, or closes it.
    fn finish(&mut self) {
        if let Some(connection) = self.connection.take()
            && self.keep_alive
            && self.sending.is_none()
            && connection.buffer.is_empty()
        {
            pool::put(connection, &self.settings);
        }
    }
}

impl BodyStream for Received {
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let Some(connection) = &mut self.connection else { return Poll::Ready(None) };
        if let Some((sending, body)) = &mut self.sending {
            match sending.poll(context, connection, body) {
                Poll::Pending => {}
                Poll::Ready(outcome) => {
                    self.keep_alive &= outcome.is_ok() && sending.stage == Stage::Written;
                    self.sending = None;
                }
            }
        }
        let failure = loop {
            match self.decoder.decode(&mut connection.buffer) {
                Ok(Decoded::Data(data)) => {
                    if self.decoder.is_done() {
                        self.finish();
                    }
                    return Poll::Ready(Some(Ok(data)));
                }
                Ok(Decoded::End) => {
                    self.finish();
                    return Poll::Ready(None);
                }
                Ok(Decoded::More) => {}
                Err(error) => break error,
            }
            match ready!(connection.poll_more(context, true)) {
                Ok(0) if matches!(self.decoder, Decoder::UntilClose) => {
                    self.connection = None;
                    return Poll::Ready(None);
                }
                Ok(0) => break BodyError::Closed,
                Ok(_) => {}
                Err(error) if error.is_timeout() => break BodyError::TimedOut,
                Err(_) => break BodyError::Closed,
            }
        };
        self.connection = None;
        Poll::Ready(Some(Err(failure)))
    }

    fn remaining(&self) -> Option<u64> {
        self.decoder.remaining()
    }

    fn take_trailers(&mut self) -> Option<Headers> {
        self.decoder.take_trailers()
    }
}
