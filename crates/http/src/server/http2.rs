//! HTTP/2 connections, spoken by hyper.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;

use super::Limits;
use super::worker::{FIRST_REQUEST, Shared};
use crate::head::{is_sound, valid_host};
use crate::http2::{Outgoing, Received, is_connection_field};
use crate::{
    Body, BodyError, Connection, Handler, Headers, Method, Refusal, Request, RequestHead, Response,
    StatusCode,
};

/// Concurrent streams of one connection (nginx: `http2_max_concurrent_streams`).
const MOST_STREAMS: u32 = 128;
/// What precedes the bytes of a frame (RFC 9113 §4.1).
const FRAME_HEADER: usize = 9;
/// How often a silent peer is asked whether it lives.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// Streams reset by the client before they were looked at, beyond which the connection is ended: a client that
/// opens streams to reset them costs much and gets nothing (CVE-2023-44487).
const MOST_EARLY_RESETS: usize = 20;

/// What the streams of one connection share.
struct Streams<H> {
    handler: Arc<H>,
    limits: Limits,
    connection: Arc<Connection>,
    active: AtomicUsize,
    begun: AtomicU64,
    first: Notify,
}

/// Serves HTTP/2 on `stream` until either side ends it.
pub(super) async fn serve<H: Handler>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    connection: Arc<Connection>,
    shared: &Shared<H>,
) {
    let limits = shared.limits;
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MOST_STREAMS)
        .max_pending_accept_reset_streams(MOST_EARLY_RESETS)
        .max_header_list_size(u32::try_from(limits.head_total).unwrap_or(u32::MAX))
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(limits.send_timeout);
    let streams = Arc::new(Streams {
        handler: shared.handler.clone(),
        limits,
        connection,
        active: AtomicUsize::new(0),
        begun: AtomicU64::new(0),
        first: Notify::new(),
    });
    let service = {
        let streams = streams.clone();
        hyper::service::service_fn(move |request| {
            let streams = streams.clone();
            async move { Ok::<_, std::convert::Infallible>(answer(streams, request).await) }
        })
    };
    let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut stopped = pin!(shared.state.stopped.notified());
    stopped.as_mut().enable();
    // Before a first stream there may be a preface under way, and a connection that says farewell without it is
    // simply closed.
    let farewell = async {
        if !shared.state.is_stopping() {
            stopped.await;
        }
        if streams.begun.load(Ordering::Relaxed) == 0 {
            let _ = tokio::time::timeout(FIRST_REQUEST, streams.first.notified()).await;
        }
    };
    let mut farewell = pin!(farewell);
    let mut begun_before = 0;
    let mut stopping = false;
    loop {
        tokio::select! {
            _ = serving.as_mut() => return,
            () = farewell.as_mut(), if !stopping => {
                stopping = true;
                serving.as_mut().graceful_shutdown();
            }
            () = tokio::time::sleep(limits.idle_timeout) => {
                let begun = streams.begun.load(Ordering::Relaxed);
                if streams.active.load(Ordering::Relaxed) == 0 && begun == begun_before {
                    serving.as_mut().graceful_shutdown();
                }
                begun_before = begun;
            }
        }
    }
}

/// Answers one stream. hyper drops this when the client resets it.
async fn answer<H: Handler>(
    streams: Arc<Streams<H>>,
    request: http::Request<Incoming>,
) -> http::Response<Answered<H>> {
    if streams.begun.fetch_add(1, Ordering::Relaxed) == 0 {
        streams.first.notify_one();
    }
    streams.active.fetch_add(1, Ordering::Relaxed);
    let active = Active(streams.clone());
    let limits = &streams.limits;
    let most = if limits.body == 0 { u64::MAX } else { limits.body };
    let (parts, incoming) = request.into_parts();
    let (head, refusal) = read_head(parts);
    let length = incoming.size_hint().exact();
    let refusal =
        refusal.or_else(|| length.is_some_and(|length| length > most).then_some(Refusal::BodyTooLarge));
    let is_head = head.method == Method::HEAD;
    let body = match incoming.is_end_stream() {
        true => Body::Empty,
        false => Body::stream(Received::request(incoming, most, limits.body_timeout)),
    };
    let response = match refusal {
        Some(refusal) => streams.handler.refuse(refusal, Some(&head), &streams.connection),
        None => streams.handler.handle(Request { head, body, connection: streams.connection.clone() }).await,
    };
    write_head(response, is_head, active)
}

/// The head in the form HTTP/1 gives it, and why it is refused, if it is.
fn read_head(parts: http::request::Parts) -> (RequestHead, Option<Refusal>) {
    let mut headers = Headers::new();
    let authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes().to_vec());
    let own = parts.headers.get_all("host").iter().count();
    let host = authority.or_else(|| parts.headers.get("host").map(|host| host.as_bytes().to_vec()));
    if let Some(host) = &host {
        headers.append("host", host);
    }
    // HTTP/2 may split cookies over fields, HTTP/1 may not (RFC 9113 §8.2.3).
    let cookies: Vec<&[u8]> =
        parts.headers.get_all("cookie").iter().map(http::HeaderValue::as_bytes).collect();
    for (name, value) in &parts.headers {
        match name.as_str() {
            "host" | "cookie" => {}
            name => headers.append(name, value.as_bytes()),
        }
    }
    if !cookies.is_empty() {
        headers.append("cookie", cookies.join(b"; ".as_slice()));
    }
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let target = match target.as_bytes().first() {
        Some(b'/') => Bytes::copy_from_slice(target.as_bytes()),
        Some(b'*') => Bytes::from_static(b"*"),
        _ => Bytes::from(format!("/{target}")),
    };
    let head = RequestHead { method: parts.method, target, version: parts.version, headers };
    let refusal = if matches!(head.method, Method::TRACE | Method::CONNECT) {
        Some(Refusal::MethodNotAllowed)
    } else if own > 1
        || !host.is_some_and(|host| valid_host(&host))
        || head.target.as_ref() == b"*"
        || !is_sound(head.path())
    {
        Some(Refusal::BadRequest)
    } else {
        None
    };
    (head, refusal)
}

fn write_head<H>(mut response: Response, is_head: bool, active: Active<H>) -> http::Response<Answered<H>> {
    // Protocols are not switched on a stream (RFC 9113 §8.6).
    if response.status.is_informational() {
        response = Response::new(StatusCode::BAD_GATEWAY);
    }
    let bodiless = is_head || matches!(response.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let mut answer = http::Response::new(Answered { body: Outgoing(Body::Empty), active });
    *answer.status_mut() = response.status;
    let fields = answer.headers_mut();
    for (name, value) in response.headers.iter() {
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        if is_connection_field(name) || is("content-length") && !bodiless {
            continue;
        }
        if let (Ok(name), Ok(value)) =
            (http::HeaderName::from_bytes(name), http::HeaderValue::from_bytes(value))
        {
            fields.append(name, value);
        }
    }
    match response.body.remaining() {
        Some(length) if !bodiless || is_head && length > 0 => {
            fields.entry("content-length").or_insert_with(|| http::HeaderValue::from(length));
        }
        _ => {}
    }
    // What hyper writes is not seen; this is what it would be without compression.
    let head: usize = answer.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    response.body.head_sent((head + FRAME_HEADER) as u64);
    response.body.sent((head + FRAME_HEADER) as u64);
    if !bodiless {
        answer.body_mut().body = Outgoing(response.body);
    }
    answer
}

/// Counts a stream for as long as it is held.
struct Active<H>(Arc<Streams<H>>);

impl<H> Drop for Active<H> {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A response body, with the stream it is for.
struct Answered<H> {
    body: Outgoing,
    #[allow(dead_code, reason = "held for its drop")]
    active: Active<H>,
}

impl<H> http_body::Body for Answered<H> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let body = &mut self.get_mut().body;
        let frame = ready!(Pin::new(&mut *body).poll_frame(context));
        if let Some(data) = frame.as_ref().and_then(|frame| frame.as_ref().ok()).and_then(Frame::data_ref) {
            body.0.sent((data.len() + FRAME_HEADER) as u64);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
