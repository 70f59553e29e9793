//! One HTTP/1 connection, request after request.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::AsyncWrite;
use tokio::time::Instant;

use super::respond::{Framing, Terms, put_head};
use super::wire::{BodyPlan, HeldWire, Wire};
use super::worker::{FIRST_REQUEST, Shared, State};
use super::{Limits, http2, tunnel};
use crate::framing::Decoder;
use crate::head::{
    HeadLimits, HeadScanner, MOST_FIELDS, ParsedRequest, RequestFraming, ScanError, parse_request, partial,
    plain_request,
};
use crate::outgoing::Outgoing;
use crate::timer::Timer;
use crate::transport::Transport;
use crate::{Body, Connection, Duplex, Handler, Refusal, Request, RequestHead, Response, StatusCode};

/// What a client of HTTP/2 with prior knowledge opens with (RFC 9113 §3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";
/// Most of an unread request body that is read and thrown away so that the connection can be kept.
const DRAIN_AT_MOST: u64 = 1024 * 1024;
/// How long, and for how many bytes, a client may go on sending after the connection was given up.
const LINGER: Duration = Duration::from_secs(5);
const LINGER_BYTES: u64 = 16 * 1024 * 1024;

/// Serves HTTP/1 on `transport` until either side ends it; HTTP/2 where `http2` allows it and the client opens with it.
pub(super) async fn serve<H: Handler>(
    transport: Transport,
    connection: Arc<Connection>,
    http2: bool,
    shared: &Shared<H>,
) {
    let mut served = Served::new(transport, shared);
    let mut stopped = pin!(shared.state.stopped.notified());
    stopped.as_mut().enable();
    // Registered once: the waker of a task does not change, and the flag says what the notice was.
    std::future::poll_fn(|context| {
        let _ = stopped.as_mut().poll(context);
        Poll::Ready(())
    })
    .await;

    let mut count = 0;
    loop {
        let parsed = match served.read_request(shared, http2, count == 0).await {
            Ok(parsed) => parsed,
            Err(End::Quiet) => return,
            Err(End::Http2) => {
                http2::serve(served.wire, connection, shared).await;
                return;
            }
            Err(End::Refused(refusal, head)) => {
                served.refuse(shared, refusal, head.as_deref(), &connection).await;
                return;
            }
        };
        count += 1;
        let terms = Terms {
            method: parsed.head.method.clone(),
            version: parsed.head.version,
            keep_alive: parsed.keep_alive && count < shared.limits.requests,
            takes_trailers: parsed.takes_trailers,
        };
        let body;
        (served, body) = served.body(&parsed, shared).await;
        let request = Request { head: parsed.head, body, connection: connection.clone() };
        if !served.exchange(request, terms, shared).await {
            return;
        }
    }
}

/// Refuses whatever a connection was about to say.
pub(super) async fn refuse<H: Handler>(
    transport: Transport,
    refusal: Refusal,
    connection: Connection,
    shared: &Shared<H>,
) {
    Served::new(transport, shared).refuse(shared, refusal, None, &connection).await;
}

/// Why there is no request.
enum End {
    /// Nothing to answer: the client has gone or was idle.
    Quiet,
    /// The client speaks HTTP/2.
    Http2,
    Refused(Refusal, Option<Box<RequestHead>>),
}

struct Served<'a> {
    wire: HeldWire,
    timer: Timer,
    out: Outgoing,
    limits: &'a Limits,
    state: &'a State,
}

impl<'a> Served<'a> {
    fn new<H>(transport: Transport, shared: &'a Shared<H>) -> Self {
        Self {
            wire: HeldWire::new(transport),
            timer: Timer::of_one_task(),
            out: Outgoing::default(),
            limits: &shared.limits,
            state: &shared.state,
        }
    }

    /// The next request head.
    async fn read_request<H>(
        &mut self,
        shared: &Shared<H>,
        http2: bool,
        first: bool,
    ) -> Result<ParsedRequest, End> {
        let head_limits = HeadLimits {
            line: shared.limits.head_line,
            total: shared.limits.head_total,
            fields: MOST_FIELDS,
        };
        let mut scanner = HeadScanner::default();
        let mut deadline = None;
        let (mut begun, mut hurried) = (false, false);
        let Self { wire, timer, state, limits, .. } = self;
        let (head, plain) = std::future::poll_fn(|context| {
            let mut wire = wire.hold();
            loop {
                if !begun {
                    skip_empty_lines(&mut wire.buffer);
                    if !wire.buffer.is_empty() && wire.buffer.as_ref() != b"\r" {
                        begun = true;
                        deadline = None;
                    }
                }
                if begun {
                    if http2 && wire.buffer.starts_with(HTTP2_PREFACE) {
                        return Poll::Ready(Err(End::Http2));
                    }
                    if scanner.is_fresh()
                        && let Some(plain) = plain_request(&wire.buffer, &head_limits)
                    {
                        let head = wire.buffer.split_to(plain.end).freeze();
                        return Poll::Ready(Ok((head, Some(plain))));
                    }
                    match scanner.find_end(&wire.buffer, &head_limits, false) {
                        Ok(Some(end)) => return Poll::Ready(Ok((wire.buffer.split_to(end).freeze(), None))),
                        Ok(None) => {}
                        Err(error) => {
                            let (refusal, head) = match error {
                                ScanError::FirstLineTooLong => (Refusal::UriTooLong, None),
                                ScanError::BareLineFeed => (Refusal::BadRequest, partial::read(&wire.buffer)),
                                ScanError::TooLong => (Refusal::HeadersTooLarge, partial::read(&wire.buffer)),
                            };
                            return Poll::Ready(Err(End::Refused(refusal, head)));
                        }
                    }
                }
                match wire.poll_more(context) {
                    Poll::Ready(true) => {}
                    Poll::Ready(false) => return Poll::Ready(Err(End::Quiet)),
                    Poll::Pending => break,
                }
            }
            let allowed = match (begun, state.is_stopping()) {
                (true, _) => limits.head_timeout,
                (false, false) => limits.idle_timeout,
                // The client may have sent it before it can know.
                (false, true) if first => {
                    if !hurried {
                        (hurried, deadline) = (true, None);
                    }
                    FIRST_REQUEST.min(limits.idle_timeout)
                }
                (false, true) => return Poll::Ready(Err(End::Quiet)),
            };
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + allowed);
            timer.poll_expired(context, deadline).map(|()| {
                Err(match begun {
                    true => End::Refused(Refusal::Timeout, partial::read(&wire.buffer)),
                    false => End::Quiet,
                })
            })
        })
        .await?;
        let parsed = parse_request(head, plain, &head_limits)
            .map_err(|(refusal, head)| End::Refused(refusal, head))?;
        match (parsed.framing, shared.limits.body) {
            (RequestFraming::Length(length), most) if most > 0 && length > most => {
                Err(End::Refused(Refusal::BodyTooLarge, Some(Box::new(parsed.head))))
            }
            _ => Ok(parsed),
        }
    }

    /// Has a request answered. Tells whether the connection can take another one.
    async fn exchange<H: Handler>(&mut self, request: Request, mut terms: Terms, shared: &Shared<H>) -> bool {
        let answered = {
            let mut handling = pin!(shared.handler.handle(request));
            std::future::poll_fn(|context| {
                loop {
                    if let Poll::Ready(response) = handling.as_mut().poll(context) {
                        return Poll::Ready(Some(response));
                    }
                    match watch(&mut self.wire, &mut self.timer, context) {
                        Watched::Waiting => return Poll::Pending,
                        Watched::Gone => return Poll::Ready(None),
                        Watched::BodyExpired => {}
                    }
                }
            })
            .await
        };
        let Some(mut response) = answered else { return false };
        {
            let wire = self.wire.hold();
            terms.keep_alive &=
                !self.state.is_stopping() && !wire.gone && !wire.is_continue_owed() && !wire.is_body_broken();
        }
        if response.status == StatusCode::SWITCHING_PROTOCOLS
            && let Some(upstream) = response.upgrade.take()
        {
            self.tunnel(response, upstream, &terms).await;
            return false;
        }
        if self.respond(response, &mut terms).await.is_err() {
            return false;
        }
        if !terms.keep_alive {
            self.close().await;
            return false;
        }
        let mut bound = DRAIN_AT_MOST;
        let timeout = self.limits.body_timeout;
        let drained = self.timed(timeout, |wire, context| wire.poll_drain(context, &mut bound)).await;
        if drained != Some(true) {
            self.close().await;
        }
        drained == Some(true)
    }

    /// The request's body: whole when it is here already, else a stream.
    async fn body<H>(mut self, parsed: &ParsedRequest, shared: &Shared<H>) -> (Self, Body) {
        let decoder = match parsed.framing {
            RequestFraming::None => return (self, Body::Empty),
            RequestFraming::Chunked => Decoder::chunked(),
            RequestFraming::Length(length) => {
                let mut wire = self.wire.hold();
                if let Some(length) =
                    usize::try_from(length).ok().filter(|length| *length <= wire.buffer.len())
                {
                    let body = Body::Full(wire.buffer.split_to(length).freeze());
                    drop(wire);
                    return (self, body);
                }
                Decoder::Length(length)
            }
        };
        let plan = BodyPlan {
            decoder,
            limit: Some(shared.limits.body).filter(|most| *most > 0),
            timeout: self.limits.body_timeout,
            expects_continue: parsed.expects_continue,
        };
        let driver = std::future::poll_fn(|context| Poll::<Waker>::Ready(context.waker().clone())).await;
        let (wire, body) = self.wire.begin_body(plan, driver);
        (Self { wire, ..self }, Body::stream(body))
    }

    /// Writes a response. An error means that the connection must not be used any more.
    async fn respond(&mut self, mut response: Response, terms: &mut Terms) -> Result<(), Broken> {
        let framing = terms.framing(&response);
        if framing == Framing::UntilClose {
            terms.keep_alive = false;
        }
        put_head(self.out.start(), &response, framing, terms);
        let mut body = std::mem::take(&mut response.body);
        drop(response);
        body.head_sent(self.out.len() as u64);
        if framing == Framing::None {
            return self.send(&mut body).await;
        }
        let mut left = match framing {
            Framing::Length(length) => length,
            _ => u64::MAX,
        };
        loop {
            let gathered = std::future::poll_fn(|context| {
                loop {
                    if self.out.is_full() {
                        return Poll::Ready(Gathered::More);
                    }
                    match body.poll_chunk(context) {
                        Poll::Ready(Some(Ok(data))) => match left.checked_sub(data.len() as u64) {
                            Some(rest) => {
                                left = rest;
                                self.out.put(data, framing == Framing::Chunked);
                            }
                            None => return Poll::Ready(Gathered::Failed),
                        },
                        Poll::Ready(Some(Err(_))) => return Poll::Ready(Gathered::Failed),
                        Poll::Ready(None) => {
                            if framing == Framing::Chunked {
                                let trailers = if terms.takes_trailers { body.take_trailers() } else { None };
                                self.out.put_end(trailers.as_ref());
                            } else if matches!(framing, Framing::Length(_)) && left > 0 {
                                return Poll::Ready(Gathered::Failed);
                            }
                            return Poll::Ready(Gathered::All);
                        }
                        Poll::Pending if !self.out.is_empty() => return Poll::Ready(Gathered::More),
                        Poll::Pending => match watch(&mut self.wire, &mut self.timer, context) {
                            Watched::Waiting => return Poll::Pending,
                            Watched::Gone => return Poll::Ready(Gathered::Gone),
                            Watched::BodyExpired => {}
                        },
                    }
                }
            })
            .await;
            match gathered {
                Gathered::More => self.send(&mut body).await?,
                Gathered::All => return self.send(&mut body).await,
                Gathered::Gone => return Err(Broken),
                Gathered::Failed => {
                    // What came before the failure is the client's; the missing end tells it that more was due.
                    self.send(&mut body).await?;
                    self.wire.hold().transport.break_off();
                    return Err(Broken);
                }
            }
        }
    }

    /// Writes all that is to go out, and tells the body.
    async fn send(&mut self, body: &mut Body) -> Result<(), Broken> {
        let bytes = self.out.len() as u64;
        self.flush().await?;
        body.sent(bytes);
        Ok(())
    }

    /// Writes all that is to go out.
    async fn flush(&mut self) -> Result<(), Broken> {
        let Self { wire, timer, out, limits, .. } = self;
        let mut deadline = None;
        std::future::poll_fn(|context| {
            let mut wire = wire.hold();
            while !out.is_empty() {
                match out.poll_write(context, &mut wire.transport) {
                    Poll::Ready(Ok(length)) if length > 0 => deadline = None,
                    Poll::Ready(_) => return Poll::Ready(Err(Broken)),
                    Poll::Pending => {
                        let deadline = *deadline.get_or_insert_with(|| Instant::now() + limits.send_timeout);
                        return timer.poll_expired(context, deadline).map(|()| Err(Broken));
                    }
                }
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// Writes the head of a 101 answer, then joins both streams until either ends.
    async fn tunnel(&mut self, mut response: Response, upstream: Box<dyn Duplex>, terms: &Terms) {
        put_head(self.out.start(), &response, Framing::None, terms);
        response.body.head_sent(self.out.len() as u64);
        if self.send(&mut response.body).await.is_err() {
            return;
        }
        tunnel::join(&mut self.wire, upstream).await;
    }

    /// Answers what did not become a request, and closes.
    async fn refuse<H: Handler>(
        &mut self,
        shared: &Shared<H>,
        refusal: Refusal,
        head: Option<&RequestHead>,
        connection: &Connection,
    ) {
        let mut terms = Terms::unknown();
        if let Some(head) = head {
            terms.method = head.method.clone();
            terms.version = head.version;
        }
        let response = shared.handler.refuse(refusal, head, connection);
        if self.respond(response, &mut terms).await.is_ok() {
            self.close().await;
        }
    }

    /// Closes so that the client can read the answer: its unread bytes would make the kernel send a reset,
    /// which can overtake what was written.
    async fn close(&mut self) {
        let mut bound = LINGER_BYTES;
        let mut shut = false;
        self.timed(LINGER, |wire, context| {
            if !shut {
                ready!(Pin::new(&mut wire.transport).poll_shutdown(context)).ok();
                shut = true;
            }
            loop {
                let received = wire.buffer.len() as u64;
                wire.buffer.clear();
                match bound.checked_sub(received) {
                    Some(rest) => bound = rest,
                    None => return Poll::Ready(()),
                }
                if !ready!(wire.poll_more(context)) {
                    return Poll::Ready(());
                }
            }
        })
        .await;
    }

    /// Runs `step` until it is ready, `None` when that takes longer than `allowed` in all.
    async fn timed<T>(
        &mut self,
        allowed: Duration,
        mut step: impl FnMut(&mut Wire, &mut Context<'_>) -> Poll<T>,
    ) -> Option<T> {
        let Self { wire, timer, .. } = self;
        let mut deadline = None;
        std::future::poll_fn(|context| {
            if let Poll::Ready(done) = step(&mut wire.hold(), context) {
                return Poll::Ready(Some(done));
            }
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + allowed);
            timer.poll_expired(context, deadline).map(|()| None)
        })
        .await
    }
}

/// The connection cannot be used any more.
struct Broken;

/// How far putting a body together came.
enum Gathered {
    More,
    All,
    Gone,
    Failed,
}

/// What the client did while its request is being answered.
enum Watched {
    Waiting,
    Gone,
    /// The body was waited for too long; whoever waits must look again.
    BodyExpired,
}

fn watch(wire: &mut HeldWire, timer: &mut Timer, context: &mut Context<'_>) -> Watched {
    let mut wire = wire.hold();
    if wire.poll_gone(context).is_ready() {
        return Watched::Gone;
    }
    if let Some(deadline) = wire.body_deadline()
        && timer.poll_expired(context, deadline).is_ready()
    {
        wire.expire_body();
        return Watched::BodyExpired;
    }
    Watched::Waiting
}

/// Skips the empty lines that some clients send after a body (RFC 9112 §2.2).
fn skip_empty_lines(buffer: &mut BytesMut) {
    while buffer.starts_with(b"\r\n") {
        buffer.advance(2);
    }
}
