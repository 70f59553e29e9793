//! The body of a request on HTTP/1, read from the connection when someone asks for it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use crate::framing::{Decoded, Decoder};
use crate::timer::Timer;
use crate::transport::Transport;
use crate::{BodyError, BodyStream, Headers};

/// Free space to read into.
pub(super) const READ_SPACE: usize = 16 * 1024;

/// The client's side of a connection. Shared between the connection and the body of the current request, on
/// one thread; the lock is never contended.
pub(super) struct Wire {
    pub(super) transport: Transport,
    pub(super) received: BytesMut,
    pub(super) decoder: Decoder,
    /// The client waits to be told to go on.
    pub(super) wants_continue: bool,
    /// What of the `100 Continue` is still to be written.
    pub(super) interim: &'static [u8],
    /// Bytes of body taken.
    pub(super) taken: u64,
}

pub(super) type SharedWire = Arc<Mutex<Wire>>;

pub(super) fn lock(wire: &SharedWire) -> MutexGuard<'_, Wire> {
    wire.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Wire {
    /// The next piece of the body.
    pub(super) fn poll_body(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            match self.decoder.decode(&mut self.received) {
                Ok(Decoded::Data(data)) => {
                    self.taken += data.len() as u64;
                    return Poll::Ready(Some(Ok(data)));
                }
                Ok(Decoded::End) => return Poll::Ready(None),
                Ok(Decoded::More) => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
            if std::mem::take(&mut self.wants_continue) {
                self.interim = b"HTTP/1.1 100 Continue\r\n\r\n";
            }
            while !self.interim.is_empty() {
                let count = ready!(self.transport.poll_write_parts(context, &[std::io::IoSlice::new(self.interim)]));
                match count {
                    Ok(count) => self.interim = self.interim.get(count..).unwrap_or_default(),
                    Err(error) => return Poll::Ready(Some(Err(error.into()))),
                }
            }
            match ready!(self.transport.poll_fill(context, &mut self.received, READ_SPACE)) {
                Ok(0) => return Poll::Ready(Some(Err(BodyError::Closed))),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
        }
    }
}

/// The body of the current request.
pub(super) struct RequestBody {
    pub(super) wire: SharedWire,
    pub(super) limit: u64,
    pub(super) idle: Duration,
    pub(super) timer: Timer,
    pub(super) deadline: Option<Instant>,
}

impl BodyStream for RequestBody {
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let mut wire = lock(&self.wire);
        match wire.poll_body(context) {
            Poll::Ready(Some(Ok(_))) if self.limit > 0 && wire.taken > self.limit => {
                Poll::Ready(Some(Err(BodyError::TooLarge { limit: usize::try_from(self.limit).unwrap_or(usize::MAX) })))
            }
            Poll::Ready(result) => {
                self.deadline = None;
                Poll::Ready(result)
            }
            Poll::Pending => {
                let deadline = *self.deadline.get_or_insert_with(|| Instant::now() + self.idle);
                ready!(self.timer.poll_expired(context, deadline));
                Poll::Ready(Some(Err(BodyError::TimedOut)))
            }
        }
    }

    fn remaining(&self) -> Option<u64> {
        lock(&self.wire).decoder.remaining()
    }

    fn take_trailers(&mut self) -> Option<Headers> {
        lock(&self.wire).decoder.take_trailers()
    }
}
