//! One connection to an upstream.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::{Endpoint, SendError, SendErrorKind, Timeouts, tunnel};
use crate::outgoing::Outgoing;
use crate::timer::Timer;
use crate::transport::Transport;

/// Free space asked for before a response is read.
pub(super) const READ_SPACE: usize = 16 * 1024;

pub(super) struct UpstreamConnection {
    pub(super) endpoint: Endpoint,
    pub(super) transport: Transport,
    /// Received and not yet taken.
    pub(super) buffer: BytesMut,
    /// What is to be written next.
    pub(super) out: Outgoing,
    pub(super) timeouts: Timeouts,
    timer: Timer,
    read_deadline: Option<Instant>,
    /// When it was taken from the pool, as long as nothing has had to wait since: the clock need not be asked again.
    pub(super) taken: Option<Instant>,
    write_deadline: Option<Instant>,
    /// Requests sent, the current one included.
    pub(super) requests: u64,
    pub(super) reused: bool,
    /// Whether any byte of the current request was written.
    pub(super) request_sent: bool,
    /// Whether any chunk of the current request's streamed body was taken.
    pub(super) body_taken: bool,
}

impl UpstreamConnection {
    pub(super) async fn open(endpoint: &Endpoint, timeouts: &Timeouts) -> Result<Box<Self>, SendError> {
        let address = endpoint.address;
        let connecting = async {
            let mut stream = TcpStream::connect(address).await.map_err(|error| {
                SendError::new(SendErrorKind::Connect, format_args!("connect to {address}: {error}"))
            })?;
            let _ = stream.set_nodelay(true);
            let Some((profile, name)) = &endpoint.tls else { return Ok(Transport::Plain(stream)) };
            if let Some(server) = profile.tunnel() {
                tunnel::open(&mut stream, server).await.map_err(|error| {
                    let reason = format_args!("the proxy {address} does not connect to {server}: {error}");
                    SendError::new(SendErrorKind::Connect, reason)
                })?;
            }
            let stream = profile.connect(stream, name.clone()).await.map_err(|error| {
                SendError::new(SendErrorKind::Tls, format_args!("TLS with {address}: {error}"))
            })?;
            Ok(Transport::Tls(Box::new(stream.into())))
        };
        let transport = tokio::time::timeout(timeouts.connect, connecting).await.unwrap_or_else(|_| {
            Err(SendError::new(
                SendErrorKind::ConnectTimeout,
                format_args!("connect to {address}: timed out"),
            ))
        })?;
        Ok(Box::new(Self {
            endpoint: endpoint.clone(),
            transport,
            buffer: BytesMut::with_capacity(READ_SPACE),
            out: Outgoing::default(),
            timeouts: *timeouts,
            timer: Timer::default(),
            read_deadline: None,
            taken: None,
            write_deadline: None,
            requests: 0,
            reused: false,
            request_sent: false,
            body_taken: false,
        }))
    }

    /// Whether an idle connection can take a request: the upstream has neither closed it nor sent anything.
    /// Costs no system call unless the kernel reported something.
    pub(super) fn is_alive(&mut self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        self.buffer.is_empty()
            && (self.transport.is_quiet()
                || self.transport.poll_fill(&mut context, &mut self.buffer, READ_SPACE).is_pending())
    }

    /// Makes the connection ready for the next request.
    pub(super) fn begin(&mut self, timeouts: &Timeouts) {
        self.requests += 1;
        self.request_sent = false;
        self.body_taken = false;
        self.timeouts = *timeouts;
        self.out.clear();
        self.read_deadline = None;
        self.write_deadline = None;
    }

    /// Writes what was put out.
    pub(super) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        while !self.out.is_empty() {
            match self.out.poll_write(context, &mut self.transport) {
                Poll::Ready(Ok(0)) => {
                    return Poll::Ready(Err(SendError::new(
                        SendErrorKind::Closed,
                        "the upstream takes no more",
                    )));
                }
                Poll::Ready(Ok(_)) => {
                    self.request_sent = true;
                    self.write_deadline = None;
                }
                Poll::Ready(Err(error)) => {
                    return Poll::Ready(Err(SendError::new(SendErrorKind::Closed, error)));
                }
                Poll::Pending => {
                    let deadline =
                        *self.write_deadline.get_or_insert_with(|| Instant::now() + self.timeouts.write);
                    ready!(self.timer.poll_expired(context, deadline));
                    return Poll::Ready(Err(SendError::new(
                        SendErrorKind::WriteTimeout,
                        "the request could not be sent in time",
                    )));
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads more into the buffer; `Ok(0)` is the end. The time allowed counts only while `timed`.
    pub(super) fn poll_more(
        &mut self,
        context: &mut Context<'_>,
        timed: bool,
    ) -> Poll<Result<usize, SendError>> {
        match self.transport.poll_fill(context, &mut self.buffer, READ_SPACE) {
            Poll::Ready(Ok(length)) => {
                self.read_deadline = None;
                self.taken = None;
                Poll::Ready(Ok(length))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(SendError::new(SendErrorKind::Closed, error))),
            Poll::Pending if !timed => {
                self.read_deadline = None;
                self.taken = None;
                Poll::Pending
            }
            Poll::Pending => {
                let mut begun = || self.taken.take().unwrap_or_else(Instant::now);
                let deadline = *self.read_deadline.get_or_insert_with(|| begun() + self.timeouts.read);
                ready!(self.timer.poll_expired(context, deadline));
                Poll::Ready(Err(SendError::new(SendErrorKind::ReadTimeout, "no answer in time")))
            }
        }
    }
}

/// The two-way stream after an upgrade. It ends with an error when nothing moves for the read timeout.
impl AsyncRead for UpstreamConnection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.buffer.is_empty() {
            match ready!(this.poll_more(context, true)) {
                Ok(_) => {}
                Err(error) if error.is_timeout() => return Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
                Err(_) => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            }
        }
        let length = this.buffer.len().min(buffer.remaining());
        buffer.put_slice(&this.buffer.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for UpstreamConnection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.transport).poll_write(context, bytes))?;
        if let Some(deadline) = &mut this.read_deadline {
            *deadline = Instant::now() + this.timeouts.read;
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().transport).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().transport).poll_shutdown(context)
    }
}
