//! HTTP/2 from clients, through hyper.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::service_fn;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::Shared;
use crate::{Body, BodyError, BodyStream, Connection, Handler, Headers, Method, Refusal, Request, RequestHead, Response, Version};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Whether a plain connection opens with HTTP/2's preface.
pub(super) async fn has_preface(stream: &TcpStream) -> bool {
    let mut start = [0; PREFACE.len()];
    loop {
        match stream.peek(&mut start).await {
            Ok(0) | Err(_) => return false,
            Ok(count) if start.get(..count) != PREFACE.get(..count) => return false,
            Ok(count) if count == PREFACE.len() => return true,
            Ok(_) => tokio::time::sleep(std::time::Duration::from_millis(2)).await,
        }
    }
}

/// Serves a connection until either side is done with it.
pub(super) async fn serve<S, H>(stream: S, connection: Arc<Connection>, shared: Arc<Shared>, handler: Arc<H>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Handler,
{
    let limits = shared.limits;
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (handler, connection) = (Arc::clone(&handler), Arc::clone(&connection));
        async move { Ok::<_, Infallible>(answer(request, &*handler, connection, limits.body).await) }
    });
    let mut builder = hyper::server::conn::http2::Builder::new(Executor);
    builder.max_concurrent_streams(128).max_header_list_size(limits.head_total as u32).timer(Clock);
    builder.keep_alive_interval(Some(limits.idle_timeout)).keep_alive_timeout(limits.idle_timeout);
    let mut serving = std::pin::pin!(builder.serve_connection(Io(stream), service));
    loop {
        tokio::select! {
            _ = serving.as_mut() => return,
            () = tokio::time::sleep(std::time::Duration::from_secs(1)) => {
                if shared.stopping.load(std::sync::atomic::Ordering::Relaxed) {
                    serving.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

async fn answer<H: Handler>(request: hyper::Request<Incoming>, handler: &H, connection: Arc<Connection>, limit: u64) -> hyper::Response<Outgoing> {
    let (parts, incoming) = request.into_parts();
    let mut headers = Headers::new();
    if let Some(authority) = parts.uri.authority() {
        headers.append("host", authority.as_str());
    }
    for (name, value) in &parts.headers {
        if name != "host" || parts.uri.authority().is_none() {
            headers.append(name.as_str(), value.as_bytes());
        }
    }
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let head = RequestHead { method: parts.method, target: Bytes::copy_from_slice(target.as_bytes()), version: Version::HTTP_2, headers };
    let hosts = head.headers.get_all("host").count();
    let to_head = head.method == Method::HEAD;
    let length = incoming.size_hint().exact();
    let response = if hosts != 1 || head.headers.get("host").is_none_or(|host| !crate::head::valid_host(host)) {
        handler.refuse(Refusal::BadRequest, Some(&head), &connection)
    } else if matches!(head.method, Method::TRACE | Method::CONNECT) {
        handler.refuse(Refusal::MethodNotAllowed, Some(&head), &connection)
    } else if limit > 0 && length.is_some_and(|length| length > limit) {
        handler.refuse(Refusal::BodyTooLarge, Some(&head), &connection)
    } else {
        let body = if incoming.is_end_stream() { Body::Empty } else { Body::stream(StreamBody { incoming, limit, taken: 0, trailers: None }) };
        handler.handle(Request { head, body, connection }).await
    };
    outgoing(response, to_head)
}

fn outgoing(response: Response, to_head: bool) -> hyper::Response<Outgoing> {
    let length = response.body.remaining();
    let mut built = hyper::Response::new(Outgoing { body: if to_head { Body::Empty } else { response.body }, ended: false });
    *built.status_mut() = response.status;
    let headers = built.headers_mut();
    for (name, value) in response.headers.iter() {
        let connection = [&b"connection"[..], b"keep-alive", b"transfer-encoding", b"upgrade", b"proxy-connection"];
        if connection.iter().any(|other| name.eq_ignore_ascii_case(other)) || name.eq_ignore_ascii_case(b"content-length") && !to_head {
            continue;
        }
        if let (Ok(name), Ok(value)) = (http::HeaderName::from_bytes(name), http::HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    if let (Some(length), false) = (length, to_head) {
        headers.insert(http::header::CONTENT_LENGTH, length.into());
    }
    built
}

/// A request body of hyper's.
struct StreamBody {
    incoming: Incoming,
    limit: u64,
    taken: u64,
    trailers: Option<Headers>,
}

impl BodyStream for StreamBody {
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            let Some(frame) = ready!(Pin::new(&mut self.incoming).poll_frame(context)) else { return Poll::Ready(None) };
            let frame = match frame {
                Ok(frame) => frame,
                Err(_) => return Poll::Ready(Some(Err(BodyError::Closed))),
            };
            match frame.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) => {
                    self.taken += data.len() as u64;
                    if self.limit > 0 && self.taken > self.limit {
                        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
                        return Poll::Ready(Some(Err(BodyError::TooLarge { limit })));
                    }
                    return Poll::Ready(Some(Ok(data)));
                }
                Err(frame) => {
                    if let Ok(fields) = frame.into_trailers() {
                        let mut trailers = Headers::new();
                        fields.iter().for_each(|(name, value)| trailers.append(name.as_str(), value.as_bytes()));
                        self.trailers = Some(trailers);
                    }
                }
            }
        }
    }

    fn remaining(&self) -> Option<u64> {
        self.incoming.size_hint().exact()
    }

    fn take_trailers(&mut self) -> Option<Headers> {
        self.trailers.take()
    }
}

/// An answer's body as hyper wants it.
struct Outgoing {
    body: Body,
    ended: bool,
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        if let Some(chunk) = ready!(this.body.poll_chunk(context)) {
            return Poll::Ready(Some(chunk.map(Frame::data)));
        }
        this.ended = true;
        let Body::Stream(stream) = &mut this.body else { return Poll::Ready(None) };
        let Some(trailers) = stream.take_trailers() else { return Poll::Ready(None) };
        let mut fields = http::HeaderMap::new();
        for (name, value) in trailers.iter() {
            if let (Ok(name), Ok(value)) = (http::HeaderName::from_bytes(name), http::HeaderValue::from_bytes(value)) {
                fields.append(name, value);
            }
        }
        Poll::Ready(Some(Ok(Frame::trailers(fields))))
    }

    fn size_hint(&self) -> SizeHint {
        self.body.remaining().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// Spawns hyper's tasks on the worker.
#[derive(Clone)]
struct Executor;

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        tokio::spawn(future);
    }
}

/// A stream as hyper wants it.
struct Io<S>(S);

impl<S: AsyncRead + Unpin> hyper::rt::Read for Io<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, mut cursor: hyper::rt::ReadBufCursor<'_>) -> Poll<std::io::Result<()>> {
        let mut space = [0; 16 * 1024];
        let limit = cursor.remaining().min(space.len());
        let mut buffer = ReadBuf::new(space.get_mut(..limit).unwrap_or_default());
        ready!(Pin::new(&mut self.get_mut().0).poll_read(context, &mut buffer))?;
        cursor.put_slice(buffer.filled());
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> hyper::rt::Write for Io<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(context)
    }
}

/// hyper's timers on tokio's.
struct Clock;

struct Sleep(Pin<Box<tokio::time::Sleep>>);

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(context)
    }
}

impl hyper::rt::Sleep for Sleep {}

impl hyper::rt::Timer for Clock {
    fn sleep(&self, duration: std::time::Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(Sleep(Box::pin(tokio::time::sleep(duration))))
    }

    fn sleep_until(&self, deadline: std::time::Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(Sleep(Box::pin(tokio::time::sleep_until(deadline.into()))))
    }
}
