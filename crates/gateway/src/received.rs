//! How much was received of a request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use tollgate_http::{Body, BodyError, BodyStream, Headers, RequestHead};

/// Bytes of a request's head; for HTTP/2 what they would be without compression.
pub(crate) fn head_size(head: &RequestHead) -> u64 {
    let received = match head.headers.received_bytes() {
        0 => {
            head.headers.iter().fold(head.target.len() + head.method.as_str().len(), |sum, (name, value)| {
                sum + name.len() + value.len()
            })
        }
        received => received,
    };
    received as u64
}

/// Counts the bytes of a body whose length nobody has told.
pub(crate) fn count_unknown(body: &mut Body) -> Option<Arc<AtomicU64>> {
    struct Counted(Box<dyn BodyStream>, Arc<AtomicU64>);
    impl BodyStream for Counted {
        fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
            let chunk = self.0.poll_chunk(context);
            if let Poll::Ready(Some(Ok(chunk))) = &chunk {
                self.1.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            }
            chunk
        }

        fn take_trailers(&mut self) -> Option<Headers> {
            self.0.take_trailers()
        }
    }
    if body.remaining().is_some() {
        return None;
    }
    match std::mem::take(body) {
        Body::Stream(stream) => {
            let count = Arc::new(AtomicU64::new(0));
            *body = Body::stream(Counted(stream, Arc::clone(&count)));
            Some(count)
        }
        known => {
            *body = known;
            None
        }
    }
}
