//! What the tests over sockets share: a server around a closure, and raw connections.
#![allow(dead_code, reason = "every test file uses its own part")]

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tollgate_http::client::PoolSettings;
use tollgate_http::server::{Certificates, Limits, Listener, ServerConfig, ServerHandle, self_signed, serve};
use tollgate_http::{Body, Connection, Handler, Refusal, Request, RequestHead, Response, StatusCode};

/// Longer than anything a passing test waits for.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub type Answer = Pin<Box<dyn Future<Output = Response> + Send>>;

/// A handler made of a closure. Refusals are answered with their names.
pub struct Answers(pub Box<dyn Fn(Request) -> Answer + Send + Sync>);

impl Handler for Answers {
    fn handle(&self, request: Request) -> impl Future<Output = Response> + Send {
        (self.0)(request)
    }

    fn refuse(&self, refusal: Refusal, _: Option<&RequestHead>, _: &Connection) -> Response {
        let status = match refusal {
            Refusal::UriTooLong => StatusCode::URI_TOO_LONG,
            Refusal::Timeout => StatusCode::REQUEST_TIMEOUT,
            Refusal::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Refusal::VersionNotSupported => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Refusal::NotImplemented => StatusCode::NOT_IMPLEMENTED,
            _ => StatusCode::BAD_REQUEST,
        };
        text(status, format!("{refusal:?}"))
    }
}

/// A response with a text, and a fixed date so that all of its bytes are known.
pub fn text(status: StatusCode, text: impl Into<Bytes>) -> Response {
    let mut response = Response::new(status);
    response.headers.set("Date", "now");
    response.body = Body::from(text.into());
    response
}

pub fn config(limits: Limits, listener: Listener) -> ServerConfig {
    let (chain, key) = self_signed().unwrap();
    let certificates = Arc::new(Certificates::new((&chain, &key), true).unwrap());
    ServerConfig {
        listeners: vec![listener],
        workers: 1,
        limits,
        certificates,
        pool: PoolSettings::default(),
    }
}

pub fn any_port() -> Listener {
    Listener::plain("127.0.0.1:0".parse().unwrap())
}

/// Serves with a closure on a free port.
pub fn start<F, A>(limits: Limits, answer: F) -> (ServerHandle, SocketAddr)
where
    F: Fn(Request) -> A + Send + Sync + 'static,
    A: Future<Output = Response> + Send + 'static,
{
    start_with(config(limits, any_port()), answer)
}

pub fn start_with<F, A>(config: ServerConfig, answer: F) -> (ServerHandle, SocketAddr)
where
    F: Fn(Request) -> A + Send + Sync + 'static,
    A: Future<Output = Response> + Send + 'static,
{
    let handler = Answers(Box::new(move |request| Box::pin(answer(request))));
    let server = serve(config, Arc::new(handler)).unwrap();
    let address = server.addresses()[0];
    (server, address)
}

/// Answers with what was understood: method, target, version, fields, body.
pub async fn describe(mut request: Request) -> Response {
    let mut said = format!(
        "{} {} {:?}\n",
        request.head.method,
        String::from_utf8_lossy(&request.head.target),
        request.head.version
    );
    for (name, value) in request.head.headers.iter() {
        said += &format!("{}={}\n", String::from_utf8_lossy(name), String::from_utf8_lossy(value));
    }
    match request.body.buffer(usize::MAX).await {
        Ok(body) => said += &String::from_utf8_lossy(&body),
        Err(error) => said += &format!("{error:?}"),
    }
    text(StatusCode::OK, said)
}

/// Waits, but not for ever.
pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("took too long")
}

/// Sends bytes and reads all that comes until the server closes.
pub async fn talk(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The server may close before it has read everything.
    let _ = stream.write_all(bytes).await;
    read_all(&mut stream).await
}

/// All that comes until the end or a failure.
pub async fn read_all(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let _ = soon(stream.read_to_end(&mut all)).await;
    String::from_utf8_lossy(&all).into_owned()
}

/// Reads until what came contains `part`; returns all of it.
pub async fn read_until(stream: &mut TcpStream, part: &str) -> String {
    let mut all = Vec::new();
    loop {
        let read = soon(stream.read_buf(&mut all)).await.unwrap();
        let said = String::from_utf8_lossy(&all).into_owned();
        if said.contains(part) {
            return said;
        }
        assert!(read > 0, "ended before {part:?}: {said:?}");
    }
}

/// An upstream that hands each connection to a closure.
pub async fn upstream<F, A>(each: F) -> SocketAddr
where
    F: Fn(TcpStream, usize) -> A + Send + 'static,
    A: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for number in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(each(stream, number));
        }
    });
    address
}
