//! The byte stream under a connection: plain TCP, or TLS over it.

use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use rustix::net::SendFlags;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

/// A connected stream.
pub(crate) enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Transport {
    /// Reads what is there into the free space of `buffer`, making at least `space` bytes of it when there is
    /// less. `Ready(Ok(0))` is the end of the stream.
    ///
    /// A read that does not fill the space clears tokio's readiness, so the next poll costs no system call
    /// until the kernel reports more.
    pub(crate) fn poll_fill(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut BytesMut,
        space: usize,
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => {
                // Mostly there is nothing yet, and then no room is needed.
                ready!(stream.poll_read_ready(context))?;
                make_room(buffer, space);
                pin!(stream.read_buf(buffer)).poll(context)
            }
            Self::Tls(stream) => {
                make_room(buffer, space);
                pin!(stream.read_buf(buffer)).poll(context)
            }
        }
    }

    /// Whether nothing has come, not even the end, as far as tokio has been told; nobody is woken when something does.
    pub(crate) fn is_quiet(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.try_io(Interest::READABLE, || Ok(())).is_err(),
            Self::Tls(_) => false,
        }
    }

    /// Writes some of `parts`, in order, and tells how many bytes.
    pub(crate) fn poll_write_parts(
        &mut self,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match (self, parts) {
            (Self::Plain(stream), [only]) => loop {
                ready!(stream.poll_write_ready(context))?;
                // Straight to the kernel: the C library's call is prepared for being cancelled, which costs four
                // locked instructions.
                let sent = stream.try_io(Interest::WRITABLE, || {
                    Ok(rustix::net::send(&*stream, only, SendFlags::NOSIGNAL)?)
                });
                match sent {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    sent => return Poll::Ready(sent),
                }
            },
            (Self::Plain(stream), parts) => Pin::new(stream).poll_write_vectored(context, parts),
            (Self::Tls(stream), parts) => {
                let written = Pin::new(&mut **stream).poll_write_vectored(context, parts);
                // rustls buffers records; they must not wait there.
                if let Poll::Ready(Ok(_)) = written
                    && let Poll::Ready(Err(error)) = Pin::new(&mut **stream).poll_flush(context)
                {
                    return Poll::Ready(Err(error));
                }
                written
            }
        }
    }

    /// Makes the close abortive (RST), so that the peer cannot take what came so far for the whole.
    pub(crate) fn break_off(&self) {
        let stream = match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        };
        let _ = socket2::SockRef::from(stream).set_linger(Some(std::time::Duration::ZERO));
    }
}

/// Makes at least `space` bytes of room where there is much less.
fn make_room(buffer: &mut BytesMut, space: usize) {
    // Where all was taken and let go, the same memory is used again, from its beginning.
    let is_back = buffer.is_empty() && buffer.try_reclaim(space);
    if !is_back && buffer.capacity() - buffer.len() < space / 4 {
        buffer.reserve(space);
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, parts),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_write_vectored(context, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_shutdown(context),
        }
    }
}
