//! An HTTP/1 connection from a client, from its first byte to its last.

use std::io::IoSlice;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout};

use super::Shared;
use super::request_body::{READ_SPACE, RequestBody, SharedWire, Wire, lock};
use crate::framing::{Decoder, write_chunk_size};
use crate::head::{HeadLimits, HeadScanner, ParsedRequest, RequestFraming, ScanError, parse_request};
use crate::timer::Timer;
use crate::transport::{Prefixed, Transport};
use crate::{Body, Connection, Handler, Method, Refusal, Request, RequestHead, Response, StatusCode, Version};

/// How much of an unread body is taken in to keep the connection.
const DRAINED: u64 = 256 * 1024;
/// What is ready is written together up to this many bytes.
const COALESCED: usize = 64 * 1024;

/// What became of waiting for a request.
enum Arrival {
    Request(Box<ParsedRequest>),
    Refused(Refusal, Option<Box<RequestHead>>),
    /// The client has gone, or has nothing more to say.
    Gone,
}

/// Serves a connection until either side is done with it.
pub(super) async fn serve<H: Handler>(transport: Transport, connection: Arc<Connection>, shared: Arc<Shared>, handler: Arc<H>) {
    let wire: SharedWire = Arc::new(Mutex::new(Wire {
        transport,
        received: BytesMut::new(),
        decoder: Decoder::Done,
        wants_continue: false,
        interim: &[],
        taken: 0,
    }));
    let limits = shared.limits;
    let mut timer = Timer::default();
    let mut out = Vec::with_capacity(1024);
    let mut served = 0;
    loop {
        let parsed = match next_request(&wire, &mut timer, &shared, served == 0).await {
            Arrival::Request(parsed) => *parsed,
            Arrival::Gone => return,
            Arrival::Refused(refusal, head) => {
                let response = handler.refuse(refusal, head.as_deref(), &connection);
                return refuse_with(&wire, response, head.as_deref(), &mut timer, &mut out, limits.send_timeout).await;
            }
        };
        served += 1;
        let ParsedRequest { head, framing, keep_alive, expects_continue, takes_trailers } = parsed;
        if let RequestFraming::Length(length) = framing
            && limits.body > 0
            && length > limits.body
        {
            let response = handler.refuse(Refusal::BodyTooLarge, Some(&head), &connection);
            return refuse_with(&wire, response, Some(&head), &mut timer, &mut out, limits.send_timeout).await;
        }
        let body = open_body(&wire, framing, expects_continue, &shared);
        let (method, version) = (head.method.clone(), head.version);
        let request = Request { head, body, connection: Arc::clone(&connection) };
        let mut answering = pin!(handler.handle(request));
        let answered = std::future::poll_fn(|context| {
            if let Poll::Ready(response) = answering.as_mut().poll(context) {
                return Poll::Ready(Some(response));
            }
            poll_gone(&wire, context).map(|()| None)
        })
        .await;
        let Some(mut response) = answered else { return };
        let stopping = shared.stopping.load(Ordering::Relaxed);
        let reusable = keep_alive && served < limits.requests && !stopping;
        if let (StatusCode::SWITCHING_PROTOCOLS, Some(upstream)) = (response.status, response.upgrade.take()) {
            return upgrade(wire, response, upstream, &mut out).await;
        }
        let plan = Plan { to_head: method == Method::HEAD, modern: version == Version::HTTP_11, keep_alive: reusable, takes_trailers };
        match write_response(&wire, response, &plan, &mut timer, &mut out, limits.send_timeout).await {
            Written::Whole { kept: true } => {}
            Written::Whole { kept: false } => return close(&wire, limits.send_timeout).await,
            Written::Broken => return,
        }
        if !drain(&wire, limits.body_timeout).await {
            return close(&wire, limits.send_timeout).await;
        }
        if out.capacity() > 4 * COALESCED {
            out = Vec::with_capacity(1024);
        }
    }
}

/// Refuses whatever a connection was about to say.
pub(super) async fn refuse<H: Handler>(transport: Transport, refusal: Refusal, connection: &Connection, handler: &H) {
    let response = handler.refuse(refusal, None, connection);
    let wire: SharedWire = Arc::new(Mutex::new(Wire {
        transport,
        received: BytesMut::new(),
        decoder: Decoder::Done,
        wants_continue: false,
        interim: &[],
        taken: 0,
    }));
    refuse_with(&wire, response, None, &mut Timer::default(), &mut Vec::new(), Duration::from_secs(10)).await;
}

async fn refuse_with(wire: &SharedWire, response: Response, head: Option<&RequestHead>, timer: &mut Timer, out: &mut Vec<u8>, limit: Duration) {
    let to_head = head.is_some_and(|head| head.method == Method::HEAD);
    let plan = Plan { to_head, modern: true, keep_alive: false, takes_trailers: false };
    if let Written::Whole { .. } = write_response(wire, response, &plan, timer, out, limit).await {
        close(wire, limit).await;
    }
}

fn open_body(wire: &SharedWire, framing: RequestFraming, expects_continue: bool, shared: &Shared) -> Body {
    let mut state = lock(wire);
    state.taken = 0;
    state.wants_continue = expects_continue;
    state.decoder = match framing {
        RequestFraming::None => {
            state.decoder = Decoder::Done;
            return Body::Empty;
        }
        RequestFraming::Length(length) => {
            if state.received.len() as u64 >= length {
                state.decoder = Decoder::Done;
                return Body::Full(state.received.split_to(length as usize).freeze());
            }
            Decoder::Length(length)
        }
        RequestFraming::Chunked => Decoder::chunked(),
    };
    drop(state);
    Body::stream(RequestBody {
        wire: Arc::clone(wire),
        limit: shared.limits.body,
        idle: shared.limits.body_timeout,
        timer: Timer::default(),
        deadline: None,
    })
}

/// Waits for the head of the next request.
async fn next_request(wire: &SharedWire, timer: &mut Timer, shared: &Shared, first: bool) -> Arrival {
    let limits = &shared.limits;
    let head_limits = HeadLimits { line: limits.head_line, total: limits.head_total, ..HeadLimits::default() };
    let mut scanner = HeadScanner::default();
    let mut started = first || !lock(wire).received.is_empty();
    let mut deadline = Instant::now() + if started { limits.head_timeout } else { limits.idle_timeout };
    std::future::poll_fn(|context| {
        let mut wire = lock(wire);
        loop {
            if scanner == HeadScanner::default() {
                // Empty lines before a request line are passed over (RFC 9112 §2.2).
                while wire.received.starts_with(b"\r\n") {
                    let _ = wire.received.split_to(2);
                }
            }
            if !wire.received.is_empty() {
                match scanner.find_end(&wire.received, &head_limits, false) {
                    Ok(Some(end)) => {
                        let bytes = wire.received.split_to(end).freeze();
                        return Poll::Ready(match parse_request(bytes, &head_limits) {
                            Ok(parsed) => Arrival::Request(Box::new(parsed)),
                            Err((refusal, head)) => Arrival::Refused(refusal, head),
                        });
                    }
                    Ok(None) => {}
                    Err(ScanError::FirstLineTooLong) => return Poll::Ready(Arrival::Refused(Refusal::UriTooLong, None)),
                    Err(ScanError::TooLong) => return Poll::Ready(Arrival::Refused(Refusal::HeadersTooLarge, None)),
                    Err(ScanError::BareLineFeed) => return Poll::Ready(Arrival::Refused(Refusal::BadRequest, None)),
                }
            }
            let wire = &mut *wire;
            match wire.transport.poll_fill(context, &mut wire.received, READ_SPACE) {
                Poll::Ready(Ok(1..)) => {
                    if !started {
                        started = true;
                        deadline = Instant::now() + limits.head_timeout;
                    }
                }
                Poll::Ready(_) => return Poll::Ready(Arrival::Gone),
                Poll::Pending => {
                    if !started && shared.stopping.load(Ordering::Relaxed) {
                        return Poll::Ready(Arrival::Gone);
                    }
                    // An idle connection is looked at now and then, so that stopping does not wait for it.
                    let soon = if started { deadline } else { deadline.min(Instant::now() + Duration::from_secs(1)) };
                    ready!(timer.poll_expired(context, soon));
                    if soon < deadline {
                        continue;
                    }
                    let slow = started && !wire.received.is_empty();
                    return Poll::Ready(if slow { Arrival::Refused(Refusal::Timeout, None) } else { Arrival::Gone });
                }
            }
        }
    })
    .await
}

/// Ready once the client has closed its side. Bytes of a next request are kept.
fn poll_gone(wire: &SharedWire, context: &mut Context<'_>) -> Poll<()> {
    let wire = &mut *lock(wire);
    // While a body is being read, reading it is what notices.
    if !wire.decoder.is_done() || wire.received.len() >= COALESCED {
        return Poll::Pending;
    }
    loop {
        match ready!(wire.transport.poll_fill(context, &mut wire.received, READ_SPACE)) {
            Ok(1..) if wire.received.len() < COALESCED => {}
            Ok(1..) => return Poll::Pending,
            _ => return Poll::Ready(()),
        }
    }
}

/// What the request says about its answer.
struct Plan {
    to_head: bool,
    modern: bool,
    keep_alive: bool,
    takes_trailers: bool,
}

/// What became of an answer.
enum Written {
    Whole { kept: bool },
    Broken,
}

/// How the end of an answer's body is marked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Marked {
    Nothing,
    Length,
    Chunks,
    Close,
}

/// Writes the head, and each piece of the body the moment it is there; what is ready together goes out
/// together.
async fn write_response(wire: &SharedWire, response: Response, plan: &Plan, timer: &mut Timer, out: &mut Vec<u8>, limit: Duration) -> Written {
    out.clear();
    let Response { status, headers, mut body, .. } = response;
    let bodiless = plan.to_head || status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let length = body.remaining();
    let marked = match (bodiless, length) {
        (true, _) => Marked::Nothing,
        (_, Some(_)) => Marked::Length,
        (_, None) if plan.modern => Marked::Chunks,
        _ => Marked::Close,
    };
    let kept = plan.keep_alive && marked != Marked::Close;
    write_status(out, status);
    let mut dated = false;
    for (name, value) in headers.iter() {
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        let skip = match name.len() {
            4 => {
                dated |= is("date");
                false
            }
            10 => is("connection") || is("keep-alive"),
            14 => is("content-length") && !(bodiless && status != StatusCode::NO_CONTENT),
            17 => is("transfer-encoding"),
            _ => false,
        };
        if !skip {
            write_field(out, name, value);
        }
    }
    if !dated {
        out.extend_from_slice(b"Date: ");
        crate::date::write_date(out);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(if kept { b"Connection: keep-alive\r\n" } else { b"Connection: close\r\n" });
    match (marked, length) {
        (Marked::Length, Some(length)) => write_field(out, b"Content-Length", itoa::Buffer::new().format(length).as_bytes()),
        (Marked::Chunks, _) => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        _ => {}
    }
    out.extend_from_slice(b"\r\n");
    if bodiless {
        body = Body::Empty;
    }

    let mut written = 0;
    let mut ended = false;
    let mut progress: Option<Instant> = None;
    let mut sent = 0u64;
    let whole = std::future::poll_fn(|context| {
        loop {
            // Take what is ready.
            while !ended && out.len() - written < COALESCED {
                match body.poll_chunk(context) {
                    Poll::Ready(Some(Ok(chunk))) => {
                        sent += chunk.len() as u64;
                        if marked == Marked::Chunks {
                            write_chunk_size(out, chunk.len());
                        }
                        out.extend_from_slice(&chunk);
                        if marked == Marked::Chunks {
                            out.extend_from_slice(b"\r\n");
                        }
                    }
                    Poll::Ready(Some(Err(_))) => return Poll::Ready(false),
                    Poll::Ready(None) => {
                        ended = true;
                        if marked == Marked::Chunks {
                            write_last_chunk(out, &mut body, plan.takes_trailers);
                        }
                    }
                    Poll::Pending => break,
                }
            }
            if written == out.len() {
                if ended {
                    return Poll::Ready(true);
                }
                out.clear();
                written = 0;
                // Waiting for the body: notice a client that leaves.
                ready!(poll_gone(wire, context));
                return Poll::Ready(false);
            }
            let mut state = lock(wire);
            match state.transport.poll_write_parts(context, &[IoSlice::new(out.get(written..).unwrap_or_default())]) {
                Poll::Ready(Ok(count)) if count > 0 => {
                    written += count;
                    progress = None;
                }
                Poll::Ready(_) => return Poll::Ready(false),
                Poll::Pending => {
                    drop(state);
                    let deadline = *progress.get_or_insert_with(|| Instant::now() + limit);
                    ready!(timer.poll_expired(context, deadline));
                    return Poll::Ready(false);
                }
            }
        }
    })
    .await;
    if !whole || (marked == Marked::Length && length != Some(sent)) {
        // What came must not pass for the whole.
        lock(wire).transport.break_off();
        return Written::Broken;
    }
    Written::Whole { kept }
}

fn write_status(out: &mut Vec<u8>, status: StatusCode) {
    if status == StatusCode::OK {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        return;
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or("Unknown").as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn write_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn write_last_chunk(out: &mut Vec<u8>, body: &mut Body, takes_trailers: bool) {
    out.extend_from_slice(b"0\r\n");
    if let Body::Stream(stream) = body
        && takes_trailers
        && let Some(trailers) = stream.take_trailers()
    {
        trailers.iter().for_each(|(name, value)| write_field(out, name, value));
    }
    out.extend_from_slice(b"\r\n");
}

/// Takes in what is left of the request's body; whether the connection can serve another request.
async fn drain(wire: &SharedWire, idle: Duration) -> bool {
    let (done, waits) = {
        let state = lock(wire);
        (state.decoder.is_done(), state.wants_continue)
    };
    if done {
        return true;
    }
    // A client still waiting for `100 Continue` may or may not send the body: the connection cannot be kept.
    if waits {
        return false;
    }
    let mut budget = DRAINED;
    let drained = timeout(idle, std::future::poll_fn(|context| {
        loop {
            match ready!(lock(wire).poll_body(context)) {
                Some(Ok(chunk)) if (chunk.len() as u64) < budget => budget -= chunk.len() as u64,
                None => return Poll::Ready(true),
                _ => return Poll::Ready(false),
            }
        }
    }));
    drained.await.unwrap_or(false)
}

/// Closes our side and takes in what the client still sends for a moment, so that it can read the answer
/// before the connection is reset.
async fn close(wire: &SharedWire, limit: Duration) {
    let shut = std::future::poll_fn(|context| {
        let mut state = lock(wire);
        tokio::io::AsyncWrite::poll_shutdown(std::pin::Pin::new(&mut state.transport), context)
    });
    if !matches!(timeout(limit, shut).await, Ok(Ok(()))) {
        return;
    }
    let linger = std::future::poll_fn(|context| {
        let state = &mut *lock(wire);
        let mut taken = 0;
        loop {
            state.received.clear();
            match ready!(state.transport.poll_fill(context, &mut state.received, READ_SPACE)) {
                Ok(count @ 1..) if taken < DRAINED => taken += count as u64,
                _ => return Poll::Ready(()),
            }
        }
    });
    let _ = timeout(Duration::from_secs(5), linger).await;
}

/// Joins the client's connection with the upstream's until either ends.
async fn upgrade(wire: SharedWire, response: Response, mut upstream: Box<dyn crate::Duplex>, out: &mut Vec<u8>) {
    out.clear();
    write_status(out, response.status);
    for (name, value) in response.headers.iter() {
        if !name.eq_ignore_ascii_case(b"connection") {
            write_field(out, name, value);
        }
    }
    out.extend_from_slice(b"Connection: upgrade\r\n\r\n");
    // The request's body, the other holder, ended with the handler.
    let Some(wire) = Arc::into_inner(wire) else { return };
    let wire = wire.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut client = Prefixed::new(wire.received, wire.transport);
    if client.write_all(out).await.is_ok() {
        let _ = tokio::io::copy_bidirectional(&mut client, &mut upstream).await;
    }
    drop(response.body);
}
