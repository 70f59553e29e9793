//! The client's side of a connection, shared by the connection's task and the body of the current request.

use std::io::{self, IoSlice};
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::framing::{Decoded, Decoder};
use crate::transport::Transport;
use crate::{BodyError, BodyStream, Headers};

/// Free space asked for before a head is read.
const HEAD_SPACE: usize = 8 * 1024;
/// Free space asked for before a body is read.
const BODY_SPACE: usize = 32 * 1024;
/// Bytes that are read ahead of what was asked for.
const READ_AHEAD: usize = 64 * 1024;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

pub(super) struct Wire {
    pub(super) transport: Transport,
    /// Received and not yet taken.
    pub(super) buffer: BytesMut,
    /// The client has closed its side, or the connection has failed.
    pub(super) gone: bool,
    incoming: Option<Incoming>,
    requests: u64,
}

/// The body of the current request.
struct Incoming {
    decoder: Decoder,
    taken: u64,
    limit: u64,
    timeout: Duration,
    /// How much of `100 Continue` is still to be written before the client sends.
    interim: &'static [u8],
    /// While the body is waited for: until when.
    deadline: Option<Instant>,
    /// Who waits for the body, where that is not the connection's task.
    waiting: Option<Waker>,
    failure: Option<BodyError>,
}

/// The connection as a plain stream, what was read ahead coming first: for upgrades and other protocols.
impl AsyncRead for HeldWire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut wire = self.get_mut().hold();
        if wire.buffer.is_empty() {
            return Pin::new(&mut wire.transport).poll_read(context, buffer);
        }
        let length = wire.buffer.len().min(buffer.remaining());
        buffer.put_slice(&wire.buffer.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for HeldWire {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().hold().transport).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().hold().transport).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().hold().transport).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().hold().transport).poll_shutdown(context)
    }
}

/// What a request's body is made of.
pub(super) struct BodyPlan {
    pub(super) decoder: Decoder,
    pub(super) limit: Option<u64>,
    pub(super) timeout: Duration,
    pub(super) expects_continue: bool,
}

/// The connection's hold on its wire: its own, until a body that is still to come is given away, which shares it.
pub(super) enum HeldWire {
    Own(Box<Wire>),
    Shared(Arc<Mutex<Wire>>),
}

/// Access to the wire.
pub(super) enum Hold<'a> {
    Own(&'a mut Wire),
    Shared(MutexGuard<'a, Wire>),
}

impl Deref for Hold<'_> {
    type Target = Wire;

    fn deref(&self) -> &Wire {
        match self {
            Self::Own(wire) => wire,
            Self::Shared(wire) => wire,
        }
    }
}

impl DerefMut for Hold<'_> {
    fn deref_mut(&mut self) -> &mut Wire {
        match self {
            Self::Own(wire) => wire,
            Self::Shared(wire) => wire,
        }
    }
}

/// Never waits: all users run on one thread, unless a handler moves a body elsewhere.
fn lock(wire: &Mutex<Wire>) -> MutexGuard<'_, Wire> {
    wire.lock().unwrap_or_else(PoisonError::into_inner)
}

impl HeldWire {
    pub(super) fn new(transport: Transport) -> Self {
        Self::Own(Box::new(Wire {
            transport,
            buffer: BytesMut::new(),
            gone: false,
            incoming: None,
            requests: 0,
        }))
    }

    pub(super) fn hold(&mut self) -> Hold<'_> {
        match self {
            Self::Own(wire) => Hold::Own(wire),
            Self::Shared(wire) => Hold::Shared(lock(wire)),
        }
    }

    /// Begins a request body. `driver` is the connection's task.
    pub(super) fn begin_body(self, plan: BodyPlan, driver: Waker) -> (Self, RequestBody) {
        let shared = match self {
            Self::Own(wire) => Arc::new(Mutex::new(*wire)),
            Self::Shared(wire) => wire,
        };
        let request = lock(&shared).begin_body(plan);
        (Self::Shared(Arc::clone(&shared)), RequestBody { wire: shared, request, driver })
    }
}

impl Wire {
    /// Begins a request body, and tells the number of its request.
    fn begin_body(&mut self, plan: BodyPlan) -> u64 {
        self.requests += 1;
        self.incoming = Some(Incoming {
            decoder: plan.decoder,
            taken: 0,
            limit: plan.limit.unwrap_or(u64::MAX),
            timeout: plan.timeout,
            interim: if plan.expects_continue { CONTINUE } else { b"" },
            deadline: None,
            waiting: None,
            failure: None,
        });
        self.requests
    }

    /// Reads more of a head. `Ready(false)` is the end of the connection.
    pub(super) fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        self.transport.poll_fill(context, &mut self.buffer, HEAD_SPACE).map(|read| {
            let more = matches!(read, Ok(length) if length > 0);
            self.gone |= !more;
            more
        })
    }

    /// Watches the client while its request is being answered: ready once it has gone. What it sends
    /// meanwhile is read ahead within a bound.
    pub(super) fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.incoming.as_ref().is_some_and(|incoming| incoming.waiting.is_some()) {
            // Another task reads; its waker must stay registered. It tells when the client goes.
            return if self.gone { Poll::Ready(()) } else { Poll::Pending };
        }
        while !self.gone {
            if self.buffer.len() >= READ_AHEAD {
                return Poll::Pending;
            }
            match self.transport.poll_fill(context, &mut self.buffer, HEAD_SPACE) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(length)) if length > 0 => {}
                Poll::Ready(_) => self.gone = true,
            }
        }
        Poll::Ready(())
    }

    /// Until when the body may be waited for, while somebody waits.
    pub(super) fn body_deadline(&self) -> Option<Instant> {
        self.incoming.as_ref().and_then(|incoming| incoming.deadline)
    }

    /// Ends a wait for the body that took too long.
    pub(super) fn expire_body(&mut self) {
        if let Some(incoming) = &mut self.incoming {
            incoming.deadline = None;
            incoming.failure = Some(BodyError::TimedOut);
            if let Some(waker) = incoming.waiting.take() {
                waker.wake();
            }
        }
    }

    /// Whether the client still waits for `100 Continue`, so that it may or may not send its body.
    pub(super) fn is_continue_owed(&self) -> bool {
        self.incoming.as_ref().is_some_and(|incoming| !incoming.interim.is_empty())
    }

    /// Whether the body of the request cannot be read to its end.
    pub(super) fn is_body_broken(&self) -> bool {
        self.incoming.as_ref().is_some_and(|incoming| incoming.failure.is_some())
    }

    /// Throws away the unread rest of the request body. `Ready(true)` once the next request can be read,
    /// `Ready(false)` when it cannot: the rest is longer than `bound`, broken, or the client has gone.
    pub(super) fn poll_drain(&mut self, context: &mut Context<'_>, bound: &mut u64) -> Poll<bool> {
        let Some(incoming) = &mut self.incoming else { return Poll::Ready(true) };
        if incoming.failure.is_some() || incoming.decoder.remaining().is_some_and(|rest| rest > *bound) {
            return Poll::Ready(false);
        }
        loop {
            match incoming.decoder.decode(&mut self.buffer) {
                Ok(Decoded::End) => {
                    self.incoming = None;
                    return Poll::Ready(true);
                }
                Ok(Decoded::Data(data)) => match bound.checked_sub(data.len() as u64) {
                    Some(rest) => *bound = rest,
                    None => return Poll::Ready(false),
                },
                Ok(Decoded::More) => match self.transport.poll_fill(context, &mut self.buffer, BODY_SPACE) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(length)) if length > 0 => {}
                    Poll::Ready(_) => {
                        self.gone = true;
                        return Poll::Ready(false);
                    }
                },
                Err(_) => return Poll::Ready(false),
            }
        }
    }

    fn poll_body(
        &mut self,
        context: &mut Context<'_>,
        driver: &Waker,
    ) -> Poll<Option<Result<Bytes, BodyError>>> {
        let Some(incoming) = &mut self.incoming else { return Poll::Ready(None) };
        if let Some(failure) = &incoming.failure {
            return Poll::Ready(Some(Err(repeat(failure))));
        }
        let failure = loop {
            match incoming.decoder.decode(&mut self.buffer) {
                Ok(Decoded::Data(data)) => {
                    incoming.taken += data.len() as u64;
                    if incoming.taken > incoming.limit {
                        break BodyError::TooLarge {
                            limit: usize::try_from(incoming.limit).unwrap_or(usize::MAX),
                        };
                    }
                    incoming.deadline = None;
                    incoming.waiting = None;
                    return Poll::Ready(Some(Ok(data)));
                }
                Ok(Decoded::End) => {
                    incoming.deadline = None;
                    incoming.waiting = None;
                    return Poll::Ready(None);
                }
                Ok(Decoded::More) if self.gone => break BodyError::Closed,
                Ok(Decoded::More) => {}
                Err(error) => break error,
            }
            let step = match incoming.interim {
                [] => self.transport.poll_fill(context, &mut self.buffer, BODY_SPACE),
                interim => self.transport.poll_write_parts(context, &[IoSlice::new(interim)]),
            };
            match step {
                Poll::Pending => {
                    incoming.deadline.get_or_insert_with(|| Instant::now() + incoming.timeout);
                    if !driver.will_wake(context.waker()) {
                        incoming.waiting = Some(context.waker().clone());
                        // The connection's task keeps the time.
                        driver.wake_by_ref();
                    }
                    return Poll::Pending;
                }
                Poll::Ready(Ok(0)) => self.gone = true,
                Poll::Ready(Ok(length)) => match incoming.interim {
                    [] => {}
                    interim => incoming.interim = interim.get(length..).unwrap_or_default(),
                },
                Poll::Ready(Err(error)) => {
                    self.gone = true;
                    break BodyError::Io(error);
                }
            }
        };
        incoming.deadline = None;
        incoming.waiting = None;
        incoming.failure = Some(repeat(&failure));
        if self.gone {
            driver.wake_by_ref();
        }
        Poll::Ready(Some(Err(failure)))
    }
}

fn repeat(failure: &BodyError) -> BodyError {
    match failure {
        BodyError::TooLarge { limit } => BodyError::TooLarge { limit: *limit },
        BodyError::TimedOut => BodyError::TimedOut,
        BodyError::Malformed(what) => BodyError::Malformed(what),
        BodyError::Closed | BodyError::Io(_) => BodyError::Closed,
    }
}

/// The streamed body of a request.
pub(super) struct RequestBody {
    wire: Arc<Mutex<Wire>>,
    request: u64,
    driver: Waker,
}

impl BodyStream for RequestBody {
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let mut wire = lock(&self.wire);
        if wire.requests != self.request {
            return Poll::Ready(Some(Err(BodyError::Closed)));
        }
        wire.poll_body(context, &self.driver)
    }

    fn remaining(&self) -> Option<u64> {
        let wire = lock(&self.wire);
        wire.incoming
            .as_ref()
            .filter(|_| wire.requests == self.request)
            .and_then(|incoming| incoming.decoder.remaining())
    }

    fn take_trailers(&mut self) -> Option<Headers> {
        let mut wire = lock(&self.wire);
        if wire.requests != self.request {
            return None;
        }
        wire.incoming.as_mut().and_then(|incoming| incoming.decoder.take_trailers())
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let mut wire = lock(&self.wire);
        if wire.requests == self.request
            && let Some(incoming) = &mut wire.incoming
        {
            incoming.deadline = None;
            if incoming.waiting.take().is_some() {
                self.driver.wake_by_ref();
            }
        }
    }
}
