//! Requests to upstreams: HTTP/1.1 over pooled connections, HTTP/2 where an endpoint asks for it; one pool per
//! worker thread.

mod connection;
mod exchange;
mod http2;
mod pool;
mod resolver;
mod tls;
mod tunnel;

use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;

pub use pool::sweep;
pub use resolver::resolve;
pub use tls::{TlsProfile, TlsProfileError};
pub(crate) use tls::{read_chain, read_key};

use crate::{Body, Method, RequestHead, Response};
use connection::UpstreamConnection;

/// Where to connect to, and how.
#[derive(Clone)]
pub struct Endpoint {
    /// The address.
    pub address: SocketAddr,
    /// TLS, with the name the certificate must have; `None` for plain.
    pub tls: Option<(Arc<TlsProfile>, ServerName<'static>)>,
    /// Whether HTTP/2 is spoken, without asking first.
    pub http2: bool,
}

impl Endpoint {
    /// What TLS connections must have in common to stand in for each other.
    fn identity(&self) -> Option<(u64, &ServerName<'static>)> {
        self.tls.as_ref().map(|(profile, name)| (profile.identity(), name))
    }
}

impl PartialEq for Endpoint {
    fn eq(&self, other: &Self) -> bool {
        self.address == other.address && self.http2 == other.http2 && self.identity() == other.identity()
    }
}

impl Eq for Endpoint {}

impl Hash for Endpoint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self.address {
            SocketAddr::V4(address) => {
                state.write_u64(u64::from(address.ip().to_bits()) << 16 | u64::from(address.port()));
            }
            SocketAddr::V6(address) => address.hash(state),
        }
        if let Some(identity) = self.identity() {
            identity.hash(state);
        }
    }
}

/// How long the parts of an exchange may take (Kong 3.11: a service's timeouts).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// To connect, TLS included.
    pub connect: Duration,
    /// Between two writes.
    pub write: Duration,
    /// Between two reads.
    pub read: Duration,
}

impl Default for Timeouts {
    /// Kong 3.11: 60 s each.
    fn default() -> Self {
        let minute = Duration::from_secs(60);
        Self { connect: minute, write: minute, read: minute }
    }
}

/// What went wrong with an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendErrorKind {
    /// No connection.
    Connect,
    /// No connection in time.
    ConnectTimeout,
    /// TLS was not agreed upon.
    Tls,
    /// The request could not be sent in time.
    WriteTimeout,
    /// No answer in time.
    ReadTimeout,
    /// The upstream closed before it answered.
    Closed,
    /// The answer is not HTTP.
    Malformed,
    /// The client's body broke off, or is not framed as it should be.
    Body,
    /// The client's body is larger than allowed.
    BodyTooLarge,
    /// The client's body did not come in time.
    BodyTimeout,
    /// The request cannot be written: its target holds bytes that would end the request line.
    InvalidRequest,
}

/// A failed exchange.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{reason}")]
pub struct SendError {
    /// What went wrong.
    pub kind: SendErrorKind,
    /// Whether any of the request may have reached the upstream.
    pub request_sent: bool,
    /// Whether the connection had served a request before.
    pub reused: bool,
    /// Whether part of a streamed body is lost, so that the request cannot be sent again.
    pub body_lost: bool,
    /// The reason, for the log.
    pub reason: String,
}

impl SendError {
    fn new(kind: SendErrorKind, reason: impl std::fmt::Display) -> Self {
        Self { kind, request_sent: false, reused: false, body_lost: false, reason: reason.to_string() }
    }

    /// Whether time ran out.
    pub fn is_timeout(&self) -> bool {
        matches!(
            self.kind,
            SendErrorKind::ConnectTimeout | SendErrorKind::WriteTimeout | SendErrorKind::ReadTimeout
        )
    }

    /// Whether another try is safe (nginx: `proxy_next_upstream error timeout`, not for methods that are not
    /// idempotent once sent, not after an answer that is no HTTP).
    pub fn may_retry(&self, method: &Method) -> bool {
        let idempotent = !matches!(*method, Method::POST | Method::PATCH) && method.as_str() != "LOCK";
        let upstream_failed = match self.kind {
            SendErrorKind::Connect
            | SendErrorKind::ConnectTimeout
            | SendErrorKind::Tls
            | SendErrorKind::WriteTimeout
            | SendErrorKind::ReadTimeout
            | SendErrorKind::Closed => true,
            SendErrorKind::Malformed
            | SendErrorKind::Body
            | SendErrorKind::BodyTooLarge
            | SendErrorKind::BodyTimeout
            | SendErrorKind::InvalidRequest => false,
        };
        upstream_failed && !self.body_lost && (idempotent || !self.request_sent)
    }
}

/// Bounds on the pools (nginx: `upstream_keepalive_*` of Kong).
#[derive(Debug, Clone, Copy)]
pub struct PoolSettings {
    /// Idle connections kept for an endpoint, on each worker.
    pub size: usize,
    /// How long a connection may idle.
    pub idle: Duration,
    /// Requests a connection serves before it is closed.
    pub requests: u64,
}

impl Default for PoolSettings {
    /// Kong 3.11: 512 connections, 60 s, 10000 requests.
    fn default() -> Self {
        Self { size: 512, idle: Duration::from_secs(60), requests: 10_000 }
    }
}

/// Sends requests to upstreams.
#[derive(Debug, Clone, Default)]
pub struct Client {
    pool: PoolSettings,
}

impl Client {
    /// A client with these bounds on its pools.
    pub fn new(pool: PoolSettings) -> Self {
        Self { pool }
    }

    /// Sends a request and returns the answer as soon as its head is there. Dropping the answer's unfinished
    /// body closes the connection; an answer read to its end leaves it to the pool.
    ///
    /// The fields of `head` go out as given, but for those that frame the message or speak of the connection:
    /// these follow from `body`, and from whether `head` has an `Upgrade`. A body that is whole stays in `body`
    /// and can be sent again; of a stream, what was sent is gone. When the answer begins before a streamed body
    /// ends, sending goes on while the answer is read.
    ///
    /// # Errors
    /// Tells what went wrong and whether the upstream may have seen the request. A pooled connection that
    /// turns out to be dead is replaced once, where nothing is lost by it.
    pub async fn send(
        &self,
        endpoint: &Endpoint,
        head: &RequestHead,
        body: &mut Body,
        timeouts: &Timeouts,
    ) -> Result<Response, SendError> {
        // What is rare is boxed, so that every request's future need not have room for it.
        if endpoint.http2 {
            return Box::pin(http2::send(endpoint, head, body, timeouts)).await;
        }
        if let Some(pooled) = pool::take(endpoint, &self.pool) {
            match exchange::run(pooled, head, body, timeouts, &self.pool).await {
                Err(error) if error.kind == SendErrorKind::Closed && error.may_retry(&head.method) => {}
                outcome => return outcome,
            }
        }
        Box::pin(self.send_anew(endpoint, head, body, timeouts)).await
    }

    /// Sends a request on a new connection.
    async fn send_anew(
        &self,
        endpoint: &Endpoint,
        head: &RequestHead,
        body: &mut Body,
        timeouts: &Timeouts,
    ) -> Result<Response, SendError> {
        let connection = UpstreamConnection::open(endpoint, timeouts).await?;
        exchange::run(connection, head, body, timeouts, &self.pool).await
    }
}
