//! Requests over HTTP/2, for gRPC: one connection to an endpoint on each worker thread carries them all.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::{Endpoint, SendError, SendErrorKind, Timeouts};
use crate::http2::{Outgoing, Received, is_connection_field, read_fields};
use crate::{Body, RequestHead, Response};

type Sender = SendRequest<Outgoing>;

struct Known {
    sender: Sender,
    /// When it last took a request.
    used: Instant,
}

thread_local! {
    static CONNECTIONS: RefCell<HashMap<Endpoint, Known, foldhash::fast::RandomState>> = RefCell::default();
}

/// Lets go of connections that have taken no request for `idle`; they close when their last stream has ended.
pub(super) fn sweep(idle: Duration) {
    let now = Instant::now();
    CONNECTIONS.with_borrow_mut(|known| {
        known.retain(|_, known| now - known.used < idle && !known.sender.is_closed())
    });
}

/// The sender of an open connection to `endpoint`.
fn known(endpoint: &Endpoint) -> Option<Sender> {
    CONNECTIONS.with_borrow_mut(|known| {
        let known = known.get_mut(endpoint).filter(|known| !known.sender.is_closed())?;
        known.used = Instant::now();
        Some(known.sender.clone())
    })
}

/// Sends a request; the answer is there with its head. As for HTTP/1, a body that is whole stays in `body`.
pub(super) async fn send(
    endpoint: &Endpoint,
    head: &RequestHead,
    body: &mut Body,
    timeouts: &Timeouts,
) -> Result<Response, SendError> {
    let mut sender = match known(endpoint) {
        Some(sender) => sender,
        None => {
            let sender = connect(endpoint, timeouts).await?;
            let opened = Known { sender: sender.clone(), used: Instant::now() };
            CONNECTIONS.with_borrow_mut(|known| known.insert(endpoint.clone(), opened));
            sender
        }
    };
    let streamed = matches!(body, Body::Stream(_));
    let outgoing = match body {
        Body::Full(bytes) => Body::Full(bytes.clone()),
        Body::Empty | Body::Stream(_) => std::mem::take(body),
    };
    let request = request(endpoint, head, Outgoing(outgoing))?;
    let failed = |kind, reason: &dyn std::fmt::Display| SendError {
        request_sent: true,
        body_lost: streamed,
        ..SendError::new(kind, reason)
    };
    let answer = tokio::time::timeout(timeouts.read, sender.send_request(request))
        .await
        .map_err(|_| failed(SendErrorKind::ReadTimeout, &"no answer in time"))?
        .map_err(|error| match error.is_parse() {
            true => failed(SendErrorKind::Malformed, &error),
            false => failed(SendErrorKind::Closed, &error),
        })?;
    let (parts, incoming) = answer.into_parts();
    let mut response = Response::new(parts.status);
    response.headers = read_fields(&parts.headers);
    response.body = Body::stream(Received::response(incoming, timeouts.read));
    Ok(response)
}

fn request(
    endpoint: &Endpoint,
    head: &RequestHead,
    body: Outgoing,
) -> Result<http::Request<Outgoing>, SendError> {
    let invalid = |reason: &dyn std::fmt::Display| SendError::new(SendErrorKind::InvalidRequest, reason);
    let target = std::str::from_utf8(&head.target).map_err(|error| invalid(&error))?;
    let authority = head.headers.get_str("host").unwrap_or_default();
    let scheme = if endpoint.tls.is_some() { "https" } else { "http" };
    let uri = http::Uri::builder()
        .scheme(scheme)
        .authority(authority)
        .path_and_query(target)
        .build()
        .map_err(|error| invalid(&error))?;
    let mut request = http::Request::new(body);
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = uri;
    *request.version_mut() = http::Version::HTTP_2;
    for (name, value) in head.headers.iter() {
        let is_framing =
            ["host", "content-length"].iter().any(|own| name.eq_ignore_ascii_case(own.as_bytes()));
        if is_framing || is_connection_field(name) {
            continue;
        }
        if let (Ok(name), Ok(value)) =
            (http::HeaderName::from_bytes(name), http::HeaderValue::from_bytes(value))
        {
            request.headers_mut().append(name, value);
        }
    }
    Ok(request)
}

async fn connect(endpoint: &Endpoint, timeouts: &Timeouts) -> Result<Sender, SendError> {
    let address = endpoint.address;
    let connecting = async {
        let stream = TcpStream::connect(address).await.map_err(|error| {
            SendError::new(SendErrorKind::Connect, format_args!("connect to {address}: {error}"))
        })?;
        let _ = stream.set_nodelay(true);
        let Some((profile, name)) = &endpoint.tls else { return handshake(stream).await };
        let stream = profile.connect_http2(stream, name.clone()).await.map_err(|error| {
            SendError::new(SendErrorKind::Tls, format_args!("TLS with {address}: {error}"))
        })?;
        handshake(stream).await
    };
    tokio::time::timeout(timeouts.connect, connecting).await.unwrap_or_else(|_| {
        Err(SendError::new(SendErrorKind::ConnectTimeout, format_args!("connect to {address}: timed out")))
    })
}

async fn handshake(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<Sender, SendError> {
    let (sender, connection) = Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| SendError::new(SendErrorKind::Closed, error))?;
    tokio::spawn(async move {
        // How it ended is told to the requests on it.
        let _ = connection.await;
    });
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn connections_that_idle_are_let_go() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Endpoint { address: listener.local_addr().unwrap(), tls: None, http2: true };
        let sender = connect(&endpoint, &Timeouts::default()).await.unwrap();
        let opened = Known { sender, used: Instant::now() };
        CONNECTIONS.with_borrow_mut(|known| known.insert(endpoint.clone(), opened));
        sweep(Duration::from_secs(60));
        assert!(known(&endpoint).is_some());
        sweep(Duration::ZERO);
        assert!(known(&endpoint).is_none());
    }
}
