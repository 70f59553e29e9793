//! Bytes on their way out, put together so that one write takes them.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use crate::Headers;
use crate::framing::write_chunk_size;
use crate::transport::Transport;

/// Pieces up to this size are copied behind what was put before, larger ones are written from where they are.
const COPY_AT_MOST: usize = 8 * 1024;

thread_local! {
    /// Where the next bytes are put together. Mostly they are written at once, and the same memory, which is near the
    /// processor then, serves the connection that is next.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// What was put together, then at most one large piece, then its end.
#[derive(Default)]
pub(crate) struct Outgoing {
    start: Vec<u8>,
    large: Bytes,
    end: &'static [u8],
    written: usize,
}

impl Outgoing {
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that are still to be written.
    pub(crate) fn len(&self) -> usize {
        self.start.len() + self.large.len() + self.end.len() - self.written
    }

    /// Whether this must be written before more can be put.
    pub(crate) fn is_full(&self) -> bool {
        !self.large.is_empty() || self.start.len() >= 4 * COPY_AT_MOST
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        if self.start.capacity() > 0 {
            self.start.clear();
            SPARE.set(std::mem::take(&mut self.start));
        }
        self.large = Bytes::new();
        self.end = b"";
        self.written = 0;
    }

    /// Where a head is put together. Only when not full.
    pub(crate) fn start(&mut self) -> &mut Vec<u8> {
        if self.start.capacity() == 0 {
            self.start = SPARE.take();
        }
        &mut self.start
    }

    /// Puts a piece of a body. Only when not full.
    pub(crate) fn put(&mut self, data: Bytes, chunked: bool) {
        let start = self.start();
        if chunked {
            write_chunk_size(start, data.len());
        }
        if data.len() > COPY_AT_MOST {
            self.large = data;
            self.end = if chunked { b"\r\n" } else { b"" };
            return;
        }
        start.extend_from_slice(&data);
        if chunked {
            start.extend_from_slice(b"\r\n");
        }
    }

    /// Puts the end of a chunked body. Only when not full.
    pub(crate) fn put_end(&mut self, trailers: Option<&Headers>) {
        let start = self.start();
        start.extend_from_slice(b"0\r\n");
        for (name, value) in trailers.into_iter().flat_map(Headers::iter) {
            put_field(start, name, value);
        }
        start.extend_from_slice(b"\r\n");
    }

    /// Writes some of it and tells how much; `Ok(0)` once all is written, or when nothing can be.
    pub(crate) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        transport: &mut Transport,
    ) -> Poll<io::Result<usize>> {
        if self.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let mut parts = [self.start.as_slice(), &self.large, self.end].map(IoSlice::new);
        let mut rest = parts.as_mut_slice();
        IoSlice::advance_slices(&mut rest, self.written);
        let used = rest.iter().rposition(|part| !part.is_empty()).map_or(0, |last| last + 1);
        let length = ready!(transport.poll_write_parts(context, rest.get(..used).unwrap_or_default()))?;
        self.written += length;
        if self.is_empty() {
            self.clear();
        }
        Poll::Ready(Ok(length))
    }
}

/// Appends a header line.
pub(crate) fn put_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Appends a `Content-Length` line.
pub(crate) fn put_length(out: &mut Vec<u8>, length: u64) {
    put_field(out, b"Content-Length", itoa::Buffer::new().format(length).as_bytes());
}
