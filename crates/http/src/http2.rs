//! What HTTP/2 has in common towards clients and towards upstreams: bodies and fields in hyper's terms and ours.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::timer::Timer;
use crate::{Body, BodyError, BodyStream, Headers};

/// How much of an unread request body is thrown away, and for how long.
const DRAIN_AT_MOST: usize = 64 * 1024;
const DRAIN_FOR: Duration = Duration::from_secs(5);

/// Fields that mean something on one HTTP/1 connection only (RFC 9113 §8.2.2).
const CONNECTION_FIELDS: [&str; 5] =
    ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];

/// Whether a field must not stand in a message of HTTP/2.
pub(crate) fn is_connection_field(name: &[u8]) -> bool {
    CONNECTION_FIELDS.iter().any(|field| name.eq_ignore_ascii_case(field.as_bytes()))
}

/// Fields of hyper's as ours.
pub(crate) fn read_fields(fields: &http::HeaderMap) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in fields {
        headers.append(name.as_str(), value.as_bytes());
    }
    headers
}

/// A body of hyper's as one of ours.
pub(crate) struct Received {
    /// Taken only on drop.
    incoming: Option<Incoming>,
    /// Whether what nobody reads is read and thrown away.
    drains: bool,
    left: u64,
    limit: u64,
    timeout: Duration,
    timer: Timer,
    deadline: Option<Instant>,
    trailers: Option<Headers>,
}

impl Received {
    /// A request's body of at most `limit` bytes, with a bound on the time between two pieces. What is left unread
    /// is thrown away within a bound: a stream that ends before its request has is reset, and some clients take
    /// that for a failure of the answer.
    pub(crate) fn request(incoming: Incoming, limit: u64, timeout: Duration) -> Self {
        Self::new(incoming, true, limit, timeout)
    }

    /// A response's body, with a bound on the time between two pieces. Dropped before its end, it ends the stream.
    pub(crate) fn response(incoming: Incoming, timeout: Duration) -> Self {
        Self::new(incoming, false, u64::MAX, timeout)
    }

    fn new(incoming: Incoming, drains: bool, limit: u64, timeout: Duration) -> Self {
        Self {
            incoming: Some(incoming),
            drains,
            left: limit,
            limit,
            timeout,
            timer: Timer::default(),
            deadline: None,
            trailers: None,
        }
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        let unread = self.incoming.take().filter(|incoming| self.drains && !incoming.is_end_stream());
        if let (Some(mut unread), Ok(runtime)) = (unread, tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move {
                let mut left = DRAIN_AT_MOST;
                let drain = async {
                    while let Some(Ok(frame)) =
                        poll_fn(|context| Pin::new(&mut unread).poll_frame(context)).await
                    {
                        left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
                        if left == 0 {
                            break;
                        }
                    }
                };
                let _ = tokio::time::timeout(DRAIN_FOR, drain).await;
            });
        }
    }
}

impl BodyStream for Received {
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            let Some(incoming) = &mut self.incoming else { return Poll::Ready(None) };
            let frame = match Pin::new(incoming).poll_frame(context) {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    let deadline = *self.deadline.get_or_insert_with(|| Instant::now() + self.timeout);
                    ready!(self.timer.poll_expired(context, deadline));
                    return Poll::Ready(Some(Err(BodyError::TimedOut)));
                }
            };
            self.deadline = None;
            let frame = match frame {
                None => return Poll::Ready(None),
                Some(Err(_)) => return Poll::Ready(Some(Err(BodyError::Closed))),
                Some(Ok(frame)) => frame,
            };
            match frame.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) => {
                    return Poll::Ready(Some(match self.left.checked_sub(data.len() as u64) {
                        Some(left) => {
                            self.left = left;
                            Ok(data)
                        }
                        None => Err(BodyError::TooLarge {
                            limit: usize::try_from(self.limit).unwrap_or(usize::MAX),
                        }),
                    }));
                }
                Err(frame) => {
                    self.trailers = frame.trailers_ref().map(read_fields);
                }
            }
        }
    }

    fn remaining(&self) -> Option<u64> {
        self.incoming.as_ref().and_then(|incoming| incoming.size_hint().exact())
    }

    fn take_trailers(&mut self) -> Option<Headers> {
        self.trailers.take()
    }
}

/// A body of ours as one of hyper's.
pub(crate) struct Outgoing(pub(crate) Body);

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let body = &mut self.get_mut().0;
        Poll::Ready(match ready!(body.poll_chunk(context)) {
            Some(chunk) => Some(chunk.map(Frame::data)),
            None => {
                let mut fields = http::HeaderMap::new();
                for (name, value) in body.take_trailers().iter().flat_map(Headers::iter) {
                    if let (Ok(name), Ok(value)) =
                        (http::HeaderName::from_bytes(name), http::HeaderValue::from_bytes(value))
                    {
                        fields.append(name, value);
                    }
                }
                (!fields.is_empty()).then(|| Ok(Frame::trailers(fields)))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.0, Body::Empty)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.remaining().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
