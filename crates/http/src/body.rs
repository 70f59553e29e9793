//! Message bodies: none, whole, or a stream of chunks.

use bytes::{Bytes, BytesMut};
use std::task::{Context, Poll};

use crate::Headers;

/// Why a body could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// More bytes than the limit allows.
    #[error("the body is larger than {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The peer closed the connection before the end of the body.
    #[error("the connection closed before the end of the body")]
    Closed,
    /// Nothing arrived within the time allowed.
    #[error("no data arrived in time")]
    TimedOut,
    /// Bytes that are not valid framing.
    #[error("the body is not framed as HTTP demands: {0}")]
    Malformed(&'static str),
    /// The connection failed.
    #[error("the connection failed: {0}")]
    Io(#[from] std::io::Error),
}

/// A body that arrives in chunks.
pub trait BodyStream: Send {
    /// The next chunk, as soon as it is there; `None` at the end. Chunks are never empty.
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>>;

    /// The exact number of bytes still to come, where it is known.
    fn remaining(&self) -> Option<u64> {
        None
    }

    /// Trailer fields; meaningful once `poll_chunk` has returned `None`.
    fn take_trailers(&mut self) -> Option<Headers> {
        None
    }

    /// The server has put out the head of the answer this is the body of: so many bytes.
    fn head_sent(&mut self, bytes: u64) {
        let _ = bytes;
    }

    /// The server has written so many bytes of the answer, head and framing included.
    fn sent(&mut self, bytes: u64) {
        let _ = bytes;
    }
}

/// The body of a request or response. Dropping an unfinished stream abandons it: what was sending is closed.
#[derive(Default)]
pub enum Body {
    /// No body at all.
    #[default]
    Empty,
    /// All of it, in memory.
    Full(Bytes),
    /// Chunks as they come.
    Stream(Box<dyn BodyStream>),
}

impl Body {
    /// A streamed body.
    pub fn stream(stream: impl BodyStream + 'static) -> Self {
        Self::Stream(Box::new(stream))
    }

    /// The exact number of bytes still to come, where it is known.
    pub fn remaining(&self) -> Option<u64> {
        match self {
            Self::Empty => Some(0),
            Self::Full(bytes) => Some(bytes.len() as u64),
            Self::Stream(stream) => stream.remaining(),
        }
    }

    /// Polls for the next chunk; `None` at the end.
    pub fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        match self {
            Self::Empty => Poll::Ready(None),
            Self::Full(_) => {
                let Self::Full(bytes) = std::mem::take(self) else { return Poll::Ready(None) };
                Poll::Ready((!bytes.is_empty()).then_some(Ok(bytes)))
            }
            Self::Stream(stream) => stream.poll_chunk(context),
        }
    }

    /// Trailer fields; meaningful once `poll_chunk` has returned `None`.
    pub fn take_trailers(&mut self) -> Option<Headers> {
        match self {
            Self::Stream(stream) => stream.take_trailers(),
            Self::Empty | Self::Full(_) => None,
        }
    }

    /// Tells a stream how large the head before it is.
    pub(crate) fn head_sent(&mut self, bytes: u64) {
        if let Self::Stream(stream) = self {
            stream.head_sent(bytes);
        }
    }

    /// Tells a stream what has been written.
    pub(crate) fn sent(&mut self, bytes: u64) {
        if let Self::Stream(stream) = self {
            stream.sent(bytes);
        }
    }

    /// The next chunk; `None` at the end.
    pub async fn chunk(&mut self) -> Option<Result<Bytes, BodyError>> {
        std::future::poll_fn(|context| self.poll_chunk(context)).await
    }

    /// Reads the rest into memory and leaves the body whole (`Full` or `Empty`), so that it can be read and
    /// sent again. One that is too large is left as it was: what has been read of it stands before the rest.
    ///
    /// # Errors
    /// [`BodyError::TooLarge`] when it is larger than `limit` bytes; else what the connection reports.
    pub async fn buffer(&mut self, limit: usize) -> Result<Bytes, BodyError> {
        if self.remaining().is_some_and(|length| length > limit as u64) {
            return Err(BodyError::TooLarge { limit });
        }
        if let Self::Full(bytes) = self {
            return Ok(bytes.clone());
        }
        let mut whole = BytesMut::new();
        let mut only: Option<Bytes> = None;
        while let Some(chunk) = self.chunk().await {
            let chunk = chunk?;
            match only.take() {
                None if whole.is_empty() => only = Some(chunk),
                first => {
                    whole.extend_from_slice(first.as_deref().unwrap_or_default());
                    whole.extend_from_slice(&chunk);
                }
            }
            if whole.len() + only.as_ref().map_or(0, Bytes::len) > limit {
                let read = only.unwrap_or_else(|| whole.freeze());
                *self = Self::stream(ReadAhead { read, rest: std::mem::take(self) });
                return Err(BodyError::TooLarge { limit });
            }
        }
        let whole = only.unwrap_or_else(|| whole.freeze());
        *self = if whole.is_empty() { Self::Empty } else { Self::Full(whole.clone()) };
        Ok(whole)
    }
}

/// A body of which a part has been read already.
struct ReadAhead {
    read: Bytes,
    rest: Body,
}

impl BodyStream for ReadAhead {
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if self.read.is_empty() {
            return self.rest.poll_chunk(context);
        }
        Poll::Ready(Some(Ok(std::mem::take(&mut self.read))))
    }

    fn remaining(&self) -> Option<u64> {
        self.rest.remaining().map(|length| length + self.read.len() as u64)
    }

    fn take_trailers(&mut self) -> Option<Headers> {
        self.rest.take_trailers()
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() { Self::Empty } else { Self::Full(bytes) }
    }
}

impl std::fmt::Debug for Body {
    /// The length only: content may be private.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Body({:?} bytes)", self.remaining())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    struct Pieces(std::vec::IntoIter<&'static str>);

    impl BodyStream for Pieces {
        fn poll_chunk(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
            Poll::Ready(self.0.next().map(|piece| Ok(Bytes::from_static(piece.as_bytes()))))
        }
    }

    /// What is ready at once.
    fn now<T>(future: impl Future<Output = T>) -> T {
        let mut future = std::pin::pin!(future);
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => value,
            Poll::Pending => unreachable!("the pieces are all there"),
        }
    }

    #[test]
    fn a_body_that_is_too_large_to_hold_is_still_whole() {
        for (limit, fits) in [(0, false), (2, false), (5, false), (6, true)] {
            let mut body = Body::stream(Pieces(vec!["ab", "cd", "ef"].into_iter()));
            assert_eq!(now(body.buffer(limit)).is_ok(), fits, "{limit}");
            let mut whole = Vec::new();
            while let Some(chunk) = now(body.chunk()) {
                whole.extend_from_slice(&chunk.unwrap());
            }
            assert_eq!(whole, b"abcdef", "{limit}");
        }
    }
}
