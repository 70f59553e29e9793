//! Requests, responses, and what answers them.

use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{Body, Headers, Method, StatusCode, Version};

/// The connection a request came on.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Address of the connecting peer (the PROXY-protocol source where the listener has `proxy_protocol`).
    pub peer: SocketAddr,
    /// Local address the connection was accepted on.
    pub local: SocketAddr,
    /// What TLS negotiated; `None` on a plain connection.
    pub tls: Option<TlsInfo>,
    /// How many connections this process had accepted with this one.
    pub number: u64,
    /// Requests begun on it.
    pub requests: Arc<AtomicU64>,
    /// What the handler tells of it with every request that it passes on, once it has made that up.
    pub told: OnceLock<Headers>,
}

/// What TLS negotiated.
#[derive(Debug, Clone)]
pub struct TlsInfo {
    /// Server name the client asked for.
    pub server_name: Option<String>,
    /// Protocol version, such as `TLSv1.3`.
    pub version: &'static str,
    /// Cipher suite name.
    pub cipher: &'static str,
    /// DER of the client's certificate chain, leaf first.
    pub client_certificates: Vec<Vec<u8>>,
}

/// Method, target, version and header fields of a request.
#[derive(Debug, Clone)]
pub struct RequestHead {
    /// The method as sent.
    pub method: Method,
    /// Path and query exactly as sent (origin form; an absolute-form target is reduced to it). Never empty.
    pub target: Bytes,
    /// Protocol version the client spoke.
    pub version: Version,
    /// Header fields as sent. HTTP/2's `:authority` appears as `host`.
    pub headers: Headers,
}

impl RequestHead {
    /// The path as sent, without the query.
    pub fn path(&self) -> &[u8] {
        let end = memchr::memchr(b'?', &self.target).unwrap_or(self.target.len());
        &self.target[..end]
    }

    /// The query as sent, without `?`; `None` where there is no `?`.
    pub fn query(&self) -> Option<&[u8]> {
        memchr::memchr(b'?', &self.target).map(|at| &self.target[at + 1..])
    }
}

/// A request as it came in.
#[derive(Debug)]
pub struct Request {
    /// The head.
    pub head: RequestHead,
    /// The body; reading it is what sends `100 Continue` where the client waits for it.
    pub body: Body,
    /// The connection it came on.
    pub connection: Arc<Connection>,
}

/// Two-way byte stream, for upgraded connections.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A response, from an upstream or made here.
pub struct Response {
    /// Status code.
    pub status: StatusCode,
    /// Header fields. Framing fields (`Content-Length`, `Transfer-Encoding`, `Connection`) are written by the
    /// server from `body`; only a `Content-Length` on an answer to HEAD (or a 304) is passed on as given.
    pub headers: Headers,
    /// The body.
    pub body: Body,
    /// With status 101: the stream to join with the client's connection once the head is written.
    pub upgrade: Option<Box<dyn Duplex>>,
}

impl Response {
    /// A response with this status and no body.
    pub fn new(status: StatusCode) -> Self {
        Self { status, headers: Headers::new(), body: Body::Empty, upgrade: None }
    }
}

impl std::fmt::Debug for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("headers", &self.headers)
            .field("body", &self.body)
            .finish()
    }
}

/// Why the server refuses bytes before they are a request for the handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Not HTTP, or HTTP that could be read in two ways (400).
    BadRequest,
    /// The request line is longer than allowed (414).
    UriTooLong,
    /// A header line, or all of them, are longer than allowed (Kong answers 400).
    HeadersTooLarge,
    /// The head did not arrive in time (408).
    Timeout,
    /// The announced body is larger than `client_max_body_size` (413).
    BodyTooLarge,
    /// A method that is not served at all: TRACE, CONNECT (405).
    MethodNotAllowed,
    /// A `Transfer-Encoding` other than `chunked` (501).
    NotImplemented,
    /// A version of HTTP that does not come this way (505).
    VersionNotSupported,
    /// Plain HTTP on a TLS port (400).
    PlainOnTls,
}

/// What answers requests. One is shared by all workers.
pub trait Handler: Send + Sync + 'static {
    /// Answers a request. Dropped before it is done when the client has gone.
    fn handle(&self, request: Request) -> impl Future<Output = Response> + Send;

    /// The answer to something that did not become a request; `head` is what could be read of it. The server
    /// closes the connection after it.
    fn refuse(&self, refusal: Refusal, head: Option<&RequestHead>, connection: &Connection) -> Response;
}
