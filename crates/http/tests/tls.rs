//! TLS on both sides, and HTTP/2.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use common::{Answers, any_port, config, describe, soon, start_with, talk, text};
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tollgate_http::client::{Client, Endpoint, SendErrorKind, Timeouts, TlsProfile};
use tollgate_http::server::{Certificates, Limits, Listener, ServerConfig, self_signed, serve_beside};
use tollgate_http::{
    Body, BodyError, BodyStream, Headers, Method, Request, RequestHead, Response, StatusCode, Version,
};

fn tls_listener() -> Listener {
    Listener { ssl: true, http2: true, ..any_port() }
}

fn get(target: &'static str) -> RequestHead {
    let mut headers = Headers::new();
    headers.set("Host", "a");
    RequestHead {
        method: Method::GET,
        target: Bytes::from_static(target.as_bytes()),
        version: Version::HTTP_11,
        headers,
    }
}

async fn fetch(
    address: SocketAddr,
    profile: &Arc<TlsProfile>,
    name: &'static str,
) -> Result<String, SendErrorKind> {
    let tls = Some((profile.clone(), ServerName::try_from(name).unwrap()));
    let sent = Client::default()
        .send(&Endpoint { address, tls, http2: false }, &get("/"), &mut Body::Empty, &Timeouts::default())
        .await
        .map_err(|error| error.kind);
    let body = soon(sent?.body.buffer(10_000)).await.unwrap();
    Ok(String::from_utf8_lossy(&body).into_owned())
}

async fn tell_tls(request: Request) -> Response {
    let tls = request.connection.tls.clone().unwrap();
    text(StatusCode::OK, format!("{} {}", tls.server_name.unwrap_or_default(), tls.version))
}

fn named(name: &str) -> (String, String) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

#[tokio::test]
async fn the_server_name_chooses_the_certificate() {
    let default = named("default.test");
    let certificates = Arc::new(Certificates::new((&default.0, &default.1), true).unwrap());
    let kept = certificates.clone();
    let (_server, address) =
        start_with(ServerConfig { certificates, ..config(Limits::default(), tls_listener()) }, tell_tls);
    // The name certificates are stored under, and the name that is asked for.
    let cases = [
        ("a.example.test", "a.example.test"),
        ("*.example.test", "b.example.test"),
        ("first.example.*", "first.example.other"),
        ("*", "any.where"),
    ];
    let pairs: Vec<_> = cases.iter().map(|(_, asked)| named(asked)).collect();
    kept.set(
        cases
            .iter()
            .zip(&pairs)
            .map(|((name, _), (chain, key))| (*name, vec![(chain.as_str(), key.as_str())])),
    )
    .unwrap();
    for ((_, asked), (chain, _)) in cases.iter().zip(&pairs) {
        let profile = Arc::new(TlsProfile::new(true, &[chain], None).unwrap());
        assert_eq!(fetch(address, &profile, asked).await.unwrap(), format!("{asked} TLSv1.3"));
    }
    // Swapped while serving: what is unknown now gets the default, whose name does not fit.
    kept.set([]).unwrap();
    let profile = Arc::new(TlsProfile::new(true, &[&default.0], None).unwrap());
    assert_eq!(fetch(address, &profile, "default.test").await.unwrap(), "default.test TLSv1.3");
    assert_eq!(fetch(address, &profile, "any.where").await, Err(SendErrorKind::Tls));
    let unchecked = Arc::new(TlsProfile::new(false, &[], None).unwrap());
    assert_eq!(fetch(address, &unchecked, "any.where").await.unwrap(), "any.where TLSv1.3");
}

#[tokio::test]
async fn plain_requests_on_a_tls_port_are_refused() {
    let (_server, address) = start_with(config(Limits::default(), tls_listener()), describe);
    let answer = talk(address, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.ends_with("\r\n\r\nPlainOnTls"), "{answer:?}");
}

#[tokio::test]
async fn large_answers_pass_over_tls() {
    let (_server, address) =
        start_with(config(Limits::default(), Listener { http2: false, ..tls_listener() }), |_| async {
            text(StatusCode::OK, vec![b'x'; 1_000_000])
        });
    let profile = Arc::new(TlsProfile::new(false, &[], None).unwrap());
    let tls = Some((profile, ServerName::try_from("localhost").unwrap()));
    let endpoint = Endpoint { address, tls, http2: false };
    for _ in 0..3 {
        let sent = Client::default().send(&endpoint, &get("/"), &mut Body::Empty, &Timeouts::default()).await;
        assert_eq!(soon(sent.unwrap().body.buffer(2_000_000)).await.unwrap().len(), 1_000_000);
    }
}

type Sender<B> = hyper::client::conn::http2::SendRequest<B>;

/// A HTTP/2 connection, over TLS where a certificate is given.
async fn http2<B>(address: SocketAddr, certificate: Option<&str>) -> Sender<B>
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: std::error::Error + Send + Sync,
{
    let stream = TcpStream::connect(address).await.unwrap();
    let builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    match certificate {
        None => {
            let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            sender
        }
        Some(pem) => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let mut config = rustls::ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
            config.alpn_protocols = vec![b"h2".to_vec()];
            let name = ServerName::try_from("localhost").unwrap();
            let stream =
                tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            sender
        }
    }
}

#[tokio::test]
async fn http2_is_spoken_over_tls_and_without() {
    let pair = self_signed().unwrap();
    let certificates = Arc::new(Certificates::new((&pair.0, &pair.1), true).unwrap());
    for ssl in [true, false] {
        let listener = Listener { ssl, ..tls_listener() };
        let mut config = config(Limits::default(), listener);
        config.certificates = certificates.clone();
        let (_server, address) = start_with(config, describe);
        let mut sender = http2::<Full<Bytes>>(address, ssl.then_some(&pair.0)).await;
        let request = http::Request::post("https://a.test:8443/p?q")
            .header("X-One", "1")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .body(Full::from("hello"))
            .unwrap();
        let response = soon(sender.send_request(request)).await.unwrap();
        assert_eq!((response.status(), response.version()), (StatusCode::OK, Version::HTTP_2));
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let expected =
            "POST /p?q HTTP/2.0\nhost=a.test:8443\nx-one=1\ncontent-length=5\ncookie=a=1; b=2\nhello";
        assert_eq!(String::from_utf8_lossy(&body), expected);
        if !ssl {
            // The same port goes on speaking HTTP/1.
            let answer = talk(address, b"PUT / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
            assert!(answer.contains("PUT / HTTP/1.1\n"), "{answer:?}");
        }
    }
}

/// Passes on what is sent to it, then trailers.
struct Fed(mpsc::UnboundedReceiver<&'static str>);

impl BodyStream for Fed {
    fn poll_chunk(
        &mut self,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Bytes, BodyError>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| Ok(Bytes::from(piece))))
    }

    fn take_trailers(&mut self) -> Option<Headers> {
        let mut trailers = Headers::new();
        trailers.set("grpc-status", "0");
        Some(trailers)
    }
}

#[tokio::test]
async fn http2_streams_pass_pieces_and_trailers() {
    let (_server, address) = start_with(
        config(Limits::default(), Listener { ssl: false, ..tls_listener() }),
        |mut request| async move {
            let (feed, fed) = mpsc::unbounded_channel();
            tokio::spawn(async move {
                while let Some(Ok(piece)) = request.body.chunk().await {
                    assert_eq!(piece.as_ref(), b"ping");
                    feed.send("pong").unwrap();
                }
                assert_eq!(request.body.take_trailers().unwrap().get("t"), Some(&b"1"[..]));
            });
            let mut response = text(StatusCode::OK, "");
            response.headers.set("Connection", "keep-alive");
            response.body = Body::stream(Fed(fed));
            response
        },
    );
    let (feed, fed) = mpsc::unbounded_channel::<Frame<Bytes>>();
    let fed = futures_util::stream::unfold(fed, |mut fed| async move {
        fed.recv().await.map(|frame| (Ok::<_, Infallible>(frame), fed))
    });
    let mut sender = http2::<StreamBody<_>>(address, None).await;
    let request = http::Request::post("http://a/").body(StreamBody::new(Box::pin(fed))).unwrap();
    let response = soon(sender.send_request(request)).await.unwrap();
    assert!(!response.headers().contains_key("connection"));
    let mut body = response.into_body();
    for _ in 0..3 {
        feed.send(Frame::data(Bytes::from_static(b"ping"))).unwrap();
        let frame = soon(body.frame()).await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap().as_ref(), b"pong");
    }
    feed.send(Frame::trailers([("t".parse().unwrap(), "1".parse().unwrap())].into_iter().collect())).unwrap();
    drop(feed);
    let frame = soon(body.frame()).await.unwrap().unwrap();
    assert_eq!(frame.into_trailers().unwrap().get("grpc-status").unwrap(), "0");
}

/// Tells when it is dropped.
struct Told(mpsc::UnboundedSender<()>);

impl Drop for Told {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

#[tokio::test]
async fn a_reset_stream_drops_its_handler() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let (begin, mut begun) = mpsc::unbounded_channel();
    let (_server, address) =
        start_with(config(Limits::default(), Listener { ssl: false, ..tls_listener() }), move |_| {
            let (told, begin) = (Told(tell.clone()), begin.clone());
            async move {
                begin.send(()).unwrap();
                std::future::pending::<()>().await;
                drop(told);
                text(StatusCode::OK, "")
            }
        });
    let mut sender = http2::<Empty<Bytes>>(address, None).await;
    let sending =
        tokio::spawn(sender.send_request(http::Request::get("http://a/").body(Empty::new()).unwrap()));
    soon(begun.recv()).await.unwrap();
    sending.abort();
    soon(told.recv()).await.unwrap();
}

#[tokio::test]
async fn http2_requests_are_checked_too() {
    let limits = Limits { body: 4, ..Limits::default() };
    let (_server, address) = start_with(config(limits, Listener { ssl: false, ..tls_listener() }), describe);
    let mut sender = http2::<Full<Bytes>>(address, None).await;
    let mut ask = async |method: &str, target: &str, body: &'static str| {
        let request = http::Request::builder().method(method).uri(target).body(Full::from(body)).unwrap();
        let response = soon(sender.send_request(request)).await.unwrap();
        let status = response.status().as_u16();
        (
            status,
            String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap(),
        )
    };
    assert_eq!(ask("TRACE", "http://a/", "").await, (405, "MethodNotAllowed".to_owned()));
    assert_eq!(ask("GET", "http://a..b/", "").await, (400, "BadRequest".to_owned()));
    assert_eq!(ask("POST", "http://a/", "hello").await, (413, "BodyTooLarge".to_owned()));
    assert_eq!(ask("HEAD", "http://a/", "").await, (200, String::new()));
}

/// A frame of HTTP/2 (RFC 9113 §4.1).
fn http2_frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

#[tokio::test]
async fn streams_opened_to_be_reset_end_the_connection() {
    let listener = Listener { http2: true, ..any_port() };
    let (server, address) = start_with(config(Limits::default(), listener), describe);
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut attack = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    attack.extend(http2_frame(4, 0, 0, &[]));
    for number in 0..500 {
        // `GET`, `http`, `/` and an authority; then at once RST_STREAM with CANCEL.
        attack.extend(http2_frame(1, 5, number * 2 + 1, &[0x82, 0x86, 0x84, 0x41, 1, b'a']));
        attack.extend(http2_frame(3, 0, number * 2 + 1, &8_u32.to_be_bytes()));
    }
    tokio::io::AsyncWriteExt::write_all(&mut stream, &attack).await.unwrap();
    let mut received = Vec::new();
    let _ = soon(tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut received)).await;
    let mut rest = received.as_slice();
    let mut kinds = Vec::new();
    while let [high, middle, low, kind, ..] = rest {
        kinds.push(*kind);
        let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
        rest = rest.get(9 + length..).unwrap_or_default();
    }
    assert!(kinds.contains(&7), "no GOAWAY among {kinds:?}");
    soon(async {
        while server.open_connections() > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn http2_carries_many_streams_and_large_bodies_at_once() {
    let (_server, address) = start_with(
        config(Limits::default(), Listener { http2: true, ..any_port() }),
        |mut request| async move {
            let mut response = Response::new(StatusCode::OK);
            response.body = std::mem::take(&mut request.body);
            response
        },
    );
    let sender = http2::<Full<Bytes>>(address, None).await;
    let mut all = Vec::new();
    for number in 0..200_u32 {
        let mut sender = sender.clone();
        all.push(tokio::spawn(async move {
            let body = Bytes::from(vec![number as u8; 1000 * number as usize]);
            let request = http::Request::post("http://a/").body(Full::new(body.clone())).unwrap();
            let answer = sender.send_request(request).await.unwrap();
            let got = answer.into_body().collect().await.unwrap().to_bytes();
            assert!(got == body, "stream {number}: {} bytes", got.len());
        }));
    }
    for one in all {
        soon(one).await.unwrap();
    }
}

#[tokio::test]
async fn http2_fields_are_bounded() {
    let (_server, address) =
        start_with(config(Limits::default(), Listener { http2: true, ..any_port() }), describe);
    let mut sender = http2::<Empty<Bytes>>(address, None).await;
    let large = http::Request::get("http://a/").header("x", "a".repeat(40_000)).body(Empty::new()).unwrap();
    let refused = soon(sender.send_request(large)).await;
    assert!(refused.is_err() || refused.is_ok_and(|answer| answer.status() == 431));
    let small = http::Request::get("http://a/").body(Empty::new()).unwrap();
    assert_eq!(soon(sender.send_request(small)).await.unwrap().status(), 200);
}

#[tokio::test]
async fn stopping_lets_streams_end() {
    let (server, address) =
        start_with(config(Limits::default(), Listener { http2: true, ..any_port() }), |request| async move {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            describe(request).await
        });
    let mut sender = http2::<Empty<Bytes>>(address, None).await;
    let busy = sender.send_request(http::Request::get("http://a/busy").body(Empty::new()).unwrap());
    tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    let stopping = tokio::task::spawn_blocking(move || server.stop(common::PATIENCE));
    assert_eq!(soon(busy).await.unwrap().status(), 200);
    soon(stopping).await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_server_that_takes_over_loses_no_connection() {
    let pair = self_signed().unwrap();
    let certificates = Arc::new(Certificates::new((&pair.0, &pair.1), true).unwrap());
    let settings = |addresses: [SocketAddr; 2], workers| {
        let listener = |ssl, address| Listener { ssl, http2: true, ..Listener::plain(address) };
        let listeners = vec![listener(false, addresses[0]), listener(true, addresses[1])];
        let certificates = certificates.clone();
        ServerConfig { listeners, workers, certificates, ..config(Limits::default(), any_port()) }
    };
    let (mut server, _) = start_with(settings([any_port().address; 2], 3), describe);
    let [plain, tls] = [server.addresses()[0], server.addresses()[1]];
    let (done, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut load = Vec::new();
    for number in 0..8 {
        let (done, answered, certificate) = (done.clone(), answered.clone(), pair.0.clone());
        load.push(tokio::spawn(async move {
            while !done.load(Ordering::Relaxed) {
                match number % 4 {
                    0 | 1 => {
                        let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
                        let answer = talk(plain, request).await;
                        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer:?}");
                    }
                    kind => {
                        let (address, certificate) =
                            if kind == 2 { (plain, None) } else { (tls, Some(certificate.as_str())) };
                        let mut sender = http2::<Empty<Bytes>>(address, certificate).await;
                        let request = http::Request::get("http://a/").body(Empty::new()).unwrap();
                        assert_eq!(soon(sender.send_request(request)).await.unwrap().status(), 200);
                    }
                }
                answered.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    for round in 0..50 {
        // More workers than before, and fewer.
        let handler = Arc::new(Answers(Box::new(|request| Box::pin(describe(request)))));
        let next = serve_beside(settings([plain, tls], 1 + round * 2 % 5), handler, &server).unwrap();
        assert_eq!(next.addresses(), [plain, tls]);
        let old = std::mem::replace(&mut server, next);
        let before = answered.load(Ordering::Relaxed);
        tokio::task::spawn_blocking(move || old.stop(common::PATIENCE)).await.unwrap();
        soon(async {
            while answered.load(Ordering::Relaxed) < before + 8 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    done.store(true, Ordering::Relaxed);
    for one in load {
        soon(one).await.unwrap();
    }
}

/// Breaks off at once.
struct Breaks;

impl BodyStream for Breaks {
    fn poll_chunk(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Bytes, BodyError>>> {
        std::task::Poll::Ready(Some(Err(BodyError::Closed)))
    }
}

#[tokio::test]
async fn http2_is_spoken_to_upstreams_that_want_it() {
    let pair = named("localhost");
    for ssl in [false, true] {
        let certificates = Arc::new(Certificates::new((&pair.0, &pair.1), true).unwrap());
        let listener = Listener { ssl, http2: true, ..any_port() };
        let settings = ServerConfig { certificates, ..config(Limits::default(), listener) };
        let (server, address) = start_with(settings, |mut request| async move {
            if request.head.target.as_ref() == b"/fails" {
                let mut response = Response::new(StatusCode::OK);
                response.body = Body::stream(Breaks);
                return response;
            }
            let mut response = Response::new(StatusCode::OK);
            let host = request.head.headers.get("host").unwrap_or_default().to_vec();
            response
                .headers
                .set("x-seen", [format!("{:?} ", request.head.version).as_bytes(), &host].concat());
            response.body = std::mem::take(&mut request.body);
            response
        });
        let tls = ssl.then(|| {
            let profile = Arc::new(TlsProfile::new(true, &[&pair.0], None).unwrap());
            (profile, ServerName::try_from("localhost").unwrap())
        });
        let endpoint = Endpoint { address, tls, http2: true };
        let client = Client::default();
        for number in 0..5_usize {
            let mut head = get("/pkg.Service/Method?a");
            head.method = Method::POST;
            head.headers.set("Connection", "keep-alive");
            head.headers.set("TE", "trailers");
            let sent = Bytes::from(vec![b'x'; number * 50_000]);
            let mut body = Body::from(sent.clone());
            let mut response =
                soon(client.send(&endpoint, &head, &mut body, &Timeouts::default())).await.unwrap();
            assert_eq!(response.headers.get("x-seen"), Some(&b"HTTP/2.0 a"[..]));
            let got = soon(response.body.buffer(10_000_000)).await.unwrap();
            assert!(got == sent, "{} bytes", got.len());
        }
        assert_eq!(server.accepted_connections(), 1, "one connection carries all");
        let (head, mut none, timeouts) = (get("/fails"), Body::Empty, Timeouts::default());
        // The reset may come before the head is out.
        if let Ok(mut broken) = soon(client.send(&endpoint, &head, &mut none, &timeouts)).await {
            assert!(soon(broken.body.buffer(100)).await.is_err());
        }
        drop(server);
        let gone = soon(client.send(&endpoint, &get("/"), &mut Body::Empty, &Timeouts::default())).await;
        assert!(gone.is_err());
    }
}

#[tokio::test]
async fn trailers_of_http2_come_through() {
    let listener = Listener { http2: true, ..any_port() };
    let (_server, address) = start_with(config(Limits::default(), listener), |_| async {
        let mut response = Response::new(StatusCode::OK);
        let (feed, fed) = mpsc::unbounded_channel();
        feed.send("a").unwrap();
        feed.send("b").unwrap();
        response.body = Body::stream(Fed(fed));
        response
    });
    let endpoint = Endpoint { address, tls: None, http2: true };
    let mut response =
        Client::default().send(&endpoint, &get("/"), &mut Body::Empty, &Timeouts::default()).await.unwrap();
    let mut got = Vec::new();
    while let Some(chunk) = soon(response.body.chunk()).await {
        got.extend_from_slice(&chunk.unwrap());
    }
    assert_eq!(got, b"ab");
    assert_eq!(response.body.take_trailers().unwrap().get("grpc-status"), Some(&b"0"[..]));
}

#[tokio::test]
async fn an_early_answer_does_not_reset_a_stream_that_is_still_sent() {
    let listener = Listener { http2: true, ..any_port() };
    let (_server, address) =
        start_with(config(Limits::default(), listener), |_| async { text(StatusCode::UNAUTHORIZED, "") });
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    sent.extend(http2_frame(4, 0, 0, &[]));
    sent.extend(http2_frame(1, 4, 1, &[0x83, 0x86, 0x84, 0x41, 1, b'a']));
    tokio::io::AsyncWriteExt::write_all(&mut stream, &sent).await.unwrap();
    // Kinds of the frames of the stream, until it has ended on both sides; an answer to a ping comes after them.
    let (mut received, mut kinds) = (Vec::new(), Vec::new());
    let mut closed = false;
    'reading: loop {
        soon(tokio::io::AsyncReadExt::read_buf(&mut stream, &mut received)).await.unwrap();
        while let [high, middle, low, kind, flags, _, _, _, id, ..] = *received.as_slice() {
            let length = u32::from_be_bytes([0, high, middle, low]) as usize + 9;
            if received.len() < length {
                break;
            }
            received.drain(..length);
            match (kind, id) {
                (6, _) => break 'reading,
                (_, 1) => kinds.push(kind),
                _ => {}
            }
            if id == 1 && flags & 1 == 1 && !closed {
                closed = true;
                let rest = [http2_frame(0, 1, 1, b"late"), http2_frame(6, 0, 0, &[0; 8])].concat();
                tokio::io::AsyncWriteExt::write_all(&mut stream, &rest).await.unwrap();
            }
        }
    }
    assert!(closed && !kinds.contains(&3), "{kinds:?}");
}
