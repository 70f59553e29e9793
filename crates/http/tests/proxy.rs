//! The client and the server together: a proxy between raw connections.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{describe, read_all, read_until, soon, start, talk, text, upstream};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tollgate_http::client::{Client, Endpoint, SendErrorKind, Timeouts};
use tollgate_http::server::{Limits, ServerHandle};
use tollgate_http::{Request, Response, StatusCode};

/// Passes requests on; failures are told as text.
async fn pass(mut request: Request, address: SocketAddr, timeouts: Timeouts) -> Response {
    let endpoint = Endpoint { address, tls: None, http2: false };
    match Client::default().send(&endpoint, &request.head, &mut request.body, &timeouts).await {
        Ok(response) => response,
        Err(error) => text(
            StatusCode::BAD_GATEWAY,
            format!("{:?} sent={} reused={}", error.kind, error.request_sent, error.reused),
        ),
    }
}

fn proxy(address: SocketAddr) -> (ServerHandle, SocketAddr) {
    start(Limits::default(), move |request| pass(request, address, Timeouts::default()))
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const LAST_GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// Answers every request of a connection with the same bytes.
async fn always(mut stream: TcpStream, answer: &[u8]) {
    let mut received = Vec::new();
    while let Ok(1..) = stream.read_buf(&mut received).await {
        while let Some(end) = received.windows(4).position(|part| part == b"\r\n\r\n") {
            received.drain(..end + 4);
            stream.write_all(answer).await.unwrap();
        }
    }
}

#[tokio::test]
async fn requests_go_out_exactly() {
    let (seen, mut seeing) = mpsc::unbounded_channel();
    let upstream = upstream(move |mut stream, _| {
        let seen = seen.clone();
        async move {
            let mut received = vec![0; 4096];
            let length = stream.read(&mut received).await.unwrap();
            seen.send(String::from_utf8_lossy(&received[..length]).into_owned()).unwrap();
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                .await
                .unwrap();
        }
    })
    .await;
    let (_server, address) = proxy(upstream);
    let cases = [
        (
            "GET /a?b HTTP/1.1\r\nHost: a\r\nX-CaSe: 1\r\nConnection: close\r\nKeep-Alive: 1\r\nProxy-Connection: x\r\n\r\n",
            "GET /a?b HTTP/1.1\r\nHost: a\r\nX-CaSe: 1\r\nConnection: keep-alive\r\n\r\n",
        ),
        (
            "POST / HTTP/1.1\r\nhost: a\r\nConnection: close\r\nContent-Length: 2\r\n\r\nxy",
            "POST / HTTP/1.1\r\nhost: a\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nxy",
        ),
        (
            "POST / HTTP/1.1\r\nhost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n",
        ),
        (
            "PUT / HTTP/1.1\r\nhost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nxy\r\n1\r\nz\r\n0\r\nT: 1\r\n\r\n",
            "PUT / HTTP/1.1\r\nhost: a\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n2\r\nxy\r\n1\r\nz\r\n0\r\nT: 1\r\n\r\n",
        ),
    ];
    for (bytes, expected) in cases {
        assert!(talk(address, bytes.as_bytes()).await.starts_with("HTTP/1.1 200 OK\r\n"));
        assert_eq!(seeing.recv().await.unwrap(), expected);
    }
}

/// Answers of an upstream, and what the client gets.
const ANSWERS: &[(&str, &str)] = &[
    (
        "HTTP/1.1 200 OK\r\nDate: x\r\nx-LOW: 1\r\nContent-Length: 2\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nDate: x\r\nx-LOW: 1\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi",
    ),
    (
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 404 Gone?\r\nDate: x\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 404 Not Found\r\nDate: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    ),
    (
        "HTTP/1.1 200 OK\r\nDate: x\r\nTransfer-Encoding: chunked\r\n\r\n2;e=1\r\nhi\r\n1\r\n!\r\n0\r\nT: 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nDate: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\nhi\r\n1\r\n!\r\n0\r\n\r\n",
    ),
    (
        "HTTP/1.0 200 OK\r\nDate: x\r\n\r\nuntil the end",
        "HTTP/1.1 200 OK\r\nDate: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\nd\r\nuntil the end\r\n0\r\n\r\n",
    ),
    (
        "HTTP/1.1 204 No Content\r\nDate: x\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 204 No Content\r\nDate: x\r\nConnection: close\r\n\r\n",
    ),
    (
        "HTTP/1.1 304 Not Modified\r\nDate: x\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nDate: x\r\nContent-Length: 5\r\nConnection: close\r\n\r\n",
    ),
];

/// Answers that are none.
const MALFORMED: &[&str] = &[
    "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nX : 1\r\n\r\n",
    "HTTP/1.1 200 OK\r\nX: 1\r\n 2\r\n\r\n",
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    "SSH-2.0-x\r\n\r\n",
];

#[tokio::test]
async fn answers_come_back_exactly() {
    let malformed = MALFORMED.iter().map(|answer| (*answer, "Malformed sent=true reused=false"));
    for (answer, expected) in ANSWERS.iter().copied().chain(malformed) {
        let upstream = upstream(move |mut stream, _| async move {
            let mut received = [0; 1000];
            let _ = stream.read(&mut received).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
        })
        .await;
        let (_server, address) = proxy(upstream);
        let got = talk(address, LAST_GET).await;
        assert!(
            got == expected || got.ends_with(expected) && expected.starts_with("Malformed"),
            "{answer:?}: {got:?}"
        );
    }
}

#[tokio::test]
async fn connections_are_reused() {
    let accepted = Arc::new(AtomicUsize::new(0));
    let counting = accepted.clone();
    let upstream = upstream(move |stream, _| {
        counting.fetch_add(1, Ordering::Relaxed);
        async move {
            always(stream, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n").await;
        }
    })
    .await;
    let (server, address) = proxy(upstream);
    let mut client = TcpStream::connect(address).await.unwrap();
    for _ in 0..10 {
        client.write_all(GET).await.unwrap();
        read_until(&mut client, "0\r\n\r\n").await;
        assert!(talk(address, LAST_GET).await.contains("200 OK"));
    }
    assert_eq!(accepted.load(Ordering::Relaxed), 1);
    assert_eq!(server.accepted_connections(), 11);
}

#[tokio::test]
async fn a_restarted_upstream_loses_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (_server, address) = proxy(listener.local_addr().unwrap());
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    for method in ["GET", "POST", "GET", "PUT"] {
        // Every connection serves one request and is closed without a word, as when a process ends.
        let serving = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut received = [0; 1000];
            let _ = stream.read(&mut received).await.unwrap();
            stream.write_all(answer).await.unwrap();
            stream
        };
        let request =
            format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx");
        let (stream, got) = tokio::join!(serving, talk(address, request.as_bytes()));
        assert!(got.starts_with("HTTP/1.1 200 OK"), "{method}: {got:?}");
        drop(stream);
        // Another round trip through the worker, so that it has heard of the end.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_connection_that_dies_under_a_request_is_replaced_where_that_is_safe() {
    for (method, expected) in [("GET", "HTTP/1.1 200 OK"), ("POST", "Closed sent=true reused=true")] {
        // The first connection answers once, then takes a request and closes.
        let upstream = upstream(|mut stream, number| async move {
            let mut received = [0; 1000];
            let _ = stream.read(&mut received).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
            let _ = stream.read(&mut received).await.unwrap();
            assert!(number <= 1);
        })
        .await;
        let (_server, address) = proxy(upstream);
        assert!(talk(address, LAST_GET).await.starts_with("HTTP/1.1 200 OK"));
        let request = format!("{method} / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let got = talk(address, request.as_bytes()).await;
        assert!(got.contains(expected), "{method}: {got:?}");
    }
}

#[tokio::test]
async fn an_early_answer_is_returned_while_the_body_is_sent() {
    let (heard, mut hearing) = mpsc::unbounded_channel();
    let upstream = upstream(move |mut stream, _| {
        let heard = heard.clone();
        async move {
            read_until(&mut stream, "\r\n\r\n").await;
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nearly\r\n")
                .await
                .unwrap();
            // The rest of the request arrives after the answer began.
            read_until(&mut stream, "0\r\n\r\n").await;
            stream.write_all(b"4\r\nlate\r\n0\r\n\r\n").await.unwrap();
            heard.send(()).unwrap();
        }
    })
    .await;
    let (_server, address) = proxy(upstream);
    let mut client = TcpStream::connect(address).await.unwrap();
    client
        .write_all(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        .await
        .unwrap();
    read_until(&mut client, "early").await;
    client.write_all(b"1\r\nb\r\n0\r\n\r\n").await.unwrap();
    read_until(&mut client, "late\r\n0\r\n\r\n").await;
    soon(hearing.recv()).await.unwrap();
}

#[tokio::test]
async fn a_refusal_before_the_body_was_read_reaches_the_client() {
    let upstream = upstream(|mut stream, _| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        stream
            .write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
            .await
            .unwrap();
    })
    .await;
    let (_server, address) = proxy(upstream);
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 90000000\r\n\r\n").await.unwrap();
    let (mut reading, mut writing) = client.into_split();
    let sending = tokio::spawn(async move {
        let piece = vec![0; 64 * 1024];
        while writing.write_all(&piece).await.is_ok() {}
    });
    let mut got = vec![0; 4096];
    let length = soon(reading.read(&mut got)).await.unwrap();
    assert!(got[..length].starts_with(b"HTTP/1.1 413 Request Entity Too Large\r\n"));
    drop(reading);
    soon(sending).await.unwrap();
}

/// Tells when the proxy closes its connection.
async fn tell_end(mut stream: TcpStream, answer: &'static [u8], ended: mpsc::UnboundedSender<()>) {
    let mut received = [0; 4096];
    let _ = stream.read(&mut received).await.unwrap();
    stream.write_all(answer).await.unwrap();
    while let Ok(1..) = stream.read(&mut received).await {}
    ended.send(()).unwrap();
}

#[tokio::test]
async fn a_client_that_leaves_closes_the_upstream() {
    let chunk: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n";
    let post: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc";
    // Before the head, while the body streams, while the request is still being sent.
    for (request, answer) in [(GET, &b""[..]), (GET, chunk), (post, &b""[..]), (post, chunk)] {
        for half in [false, true] {
            let (ended, mut ending) = mpsc::unbounded_channel();
            let upstream = upstream(move |stream, _| tell_end(stream, answer, ended.clone())).await;
            let (_server, address) = proxy(upstream);
            let mut client = TcpStream::connect(address).await.unwrap();
            client.write_all(request).await.unwrap();
            if answer.is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            } else {
                read_until(&mut client, "1\r\na\r\n").await;
            }
            if half {
                client.shutdown().await.unwrap();
            } else {
                drop(client);
            }
            soon(ending.recv()).await.unwrap();
        }
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_does_not_end_cleanly() {
    let cases: [&'static [u8]; 3] = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nx\r\n",
    ];
    for answer in cases {
        let upstream = upstream(move |mut stream, _| async move {
            let mut received = [0; 1000];
            let _ = stream.read(&mut received).await.unwrap();
            stream.write_all(answer).await.unwrap();
            // Lets the beginning pass before the end.
            tokio::time::sleep(Duration::from_millis(30)).await;
        })
        .await;
        let (_server, address) = proxy(upstream);
        for version in ["1.1", "1.0"] {
            let mut client = TcpStream::connect(address).await.unwrap();
            client.write_all(format!("GET / HTTP/{version}\r\nHost: a\r\n\r\n").as_bytes()).await.unwrap();
            read_until(&mut client, "abc").await;
            let mut rest = Vec::new();
            let end = soon(client.read_to_end(&mut rest)).await;
            assert!(end.is_err(), "{version} {answer:?} {rest:?}");
            assert!(!String::from_utf8_lossy(&rest).contains("0\r\n\r\n"));
        }
    }
}

#[tokio::test]
async fn chunks_pass_the_moment_they_come() {
    let (next, waiting) = mpsc::unbounded_channel::<()>();
    let waiting = Arc::new(tokio::sync::Mutex::new(waiting));
    let upstream = upstream(move |mut stream, _| {
        let waiting = waiting.clone();
        async move {
            let mut received = [0; 1000];
            let _ = stream.read(&mut received).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
            for number in 0..3 {
                waiting.lock().await.recv().await.unwrap();
                stream.write_all(format!("8\r\ndata: {number}\n\r\n").as_bytes()).await.unwrap();
            }
            stream.write_all(b"0\r\n\r\n").await.unwrap();
        }
    })
    .await;
    let (_server, address) = proxy(upstream);
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(GET).await.unwrap();
    read_until(&mut client, "\r\n\r\n").await;
    let mut got = String::new();
    for number in 0..3 {
        next.send(()).unwrap();
        got = read_until(&mut client, &format!("data: {number}\n\r\n")).await;
        assert!(got.starts_with("8\r\n"), "{got:?}");
    }
    // The end may have come along with the last chunk.
    if !got.ends_with("\r\n0\r\n\r\n") {
        read_until(&mut client, "0\r\n\r\n").await;
    }
}

#[tokio::test]
async fn upgrades_join_both_sides() {
    let upstream = upstream(|mut stream, _| async move {
        let request = read_until(&mut stream, "\r\n\r\n").await;
        assert!(
            request.contains("\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\r\n"),
            "{request:?}"
        );
        // The first bytes of the new protocol come along with the answer.
        stream
            .write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nDate: x\r\n\r\nhello")
            .await
            .unwrap();
        let mut received = [0; 4];
        stream.read_exact(&mut received).await.unwrap();
        stream.write_all(&received).await.unwrap();
    })
    .await;
    let (_server, address) = proxy(upstream);
    let mut client = TcpStream::connect(address).await.unwrap();
    let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nping";
    client.write_all(request).await.unwrap();
    let expected = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nDate: x\r\nConnection: upgrade\r\n\r\nhelloping";
    assert_eq!(read_all(&mut client).await, expected);
}

#[tokio::test]
async fn failures_say_what_failed() {
    let nothing = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (_server, address) = proxy(nothing);
    assert!(talk(address, LAST_GET).await.ends_with("Connect sent=false reused=false"));

    let closing = upstream(|mut stream, _| async move {
        let _ = stream.read(&mut [0; 1000]).await.unwrap();
    })
    .await;
    let (_server, address) = proxy(closing);
    assert!(talk(address, LAST_GET).await.ends_with("Closed sent=true reused=false"));

    let silent =
        upstream(|mut stream, _| async move { while let Ok(1..) = stream.read(&mut [0; 4096]).await {} })
            .await;
    let quick = Timeouts { read: Duration::from_millis(50), ..Timeouts::default() };
    let (_server, address) = start(Limits::default(), move |request| pass(request, silent, quick));
    assert!(talk(address, LAST_GET).await.ends_with("ReadTimeout sent=true reused=false"));

    let deaf = upstream(|stream, _| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let quick = Timeouts { write: Duration::from_millis(50), ..Timeouts::default() };
    let endpoint = Endpoint { address: deaf, tls: None, http2: false };
    let (_server, address) = start(Limits::default(), move |request| {
        let endpoint = endpoint.clone();
        async move {
            let mut body = bytes::Bytes::from(vec![0; 64 << 20]).into();
            let error =
                Client::default().send(&endpoint, &request.head, &mut body, &quick).await.unwrap_err();
            assert!(error.kind == SendErrorKind::WriteTimeout && error.request_sent);
            text(StatusCode::OK, "as expected")
        }
    });
    assert!(talk(address, LAST_GET).await.ends_with("as expected"));
}

#[tokio::test]
async fn large_bodies_pass_unchanged() {
    let (_echo, echo) = start(Limits::default(), |mut request| async move {
        let mut response = Response::new(StatusCode::OK);
        response.body = std::mem::take(&mut request.body);
        response
    });
    let (_server, address) = proxy(echo);
    let sent: Vec<u8> =
        (0..3_000_000u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut client = TcpStream::connect(address).await.unwrap();
    let (mut reading, mut writing) = client.split();
    let head =
        format!("POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", sent.len());
    let mut got = Vec::new();
    let (_, _) = soon(async {
        tokio::join!(
            async {
                writing.write_all(head.as_bytes()).await.unwrap();
                writing.write_all(&sent).await.unwrap();
            },
            async { reading.read_to_end(&mut got).await.unwrap() }
        )
    })
    .await;
    let end = got.windows(4).position(|part| part == b"\r\n\r\n").unwrap() + 4;
    assert!(got[end..] == sent, "{} bytes", got.len() - end);
}

#[tokio::test]
async fn stopping_lets_requests_end() {
    let (server, address) = start(Limits::default(), |request| async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        describe(request).await
    });
    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(GET).await.unwrap();
    read_until(&mut idle, "Host=a\n").await;
    let mut new = TcpStream::connect(address).await.unwrap();
    let mut busy = TcpStream::connect(address).await.unwrap();
    busy.write_all(GET).await.unwrap();
    tokio::time::sleep(Duration::from_millis(30)).await;
    let stopping = tokio::task::spawn_blocking(move || server.stop(common::PATIENCE));
    assert_eq!(read_all(&mut idle).await, "");
    new.write_all(GET).await.unwrap();
    let got = read_all(&mut new).await;
    assert!(got.starts_with("HTTP/1.1 200 OK") && got.contains("Connection: close"), "{got:?}");
    let got = read_all(&mut busy).await;
    assert!(got.starts_with("HTTP/1.1 200 OK") && got.contains("Connection: close"), "{got:?}");
    soon(stopping).await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

/// An answer, and its body.
fn answer() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let text = prop::sample::select(vec![
        "",
        "x",
        "\r\n",
        "0\r\n\r\n",
        "HTTP/1.1 500 Evil\r\n\r\n",
        "5\r\nhello\r\n",
    ]);
    let body = prop::collection::vec(text, 0..5).prop_map(|parts| parts.concat().into_bytes());
    (body, prop::option::of(1..9_usize), any::<bool>()).prop_map(|(body, chunked, hinted)| {
        let mut bytes =
            if hinted { b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n".to_vec() } else { Vec::new() };
        match chunked {
            None => {
                bytes.extend(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes());
                bytes.extend(&body);
            }
            Some(size) => {
                bytes.extend(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                for chunk in body.chunks(size) {
                    bytes.extend(format!("{:X};ext\r\n", chunk.len()).as_bytes());
                    bytes.extend(chunk);
                    bytes.extend(b"\r\n");
                }
                bytes.extend(b"0\r\nT: 1\r\n\r\n");
            }
        }
        (bytes, body)
    })
}

#[test]
fn answers_on_one_connection_stay_apart() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let cuts = prop::collection::vec(any::<prop::sample::Index>(), 0..6);
    proptest!(ProptestConfig::with_cases(96), |(answers in prop::collection::vec((answer(), cuts), 1..6))| {
        let got = runtime.block_on(async {
            let connections = Arc::new(AtomicUsize::new(0));
            let (counted, told) = (connections.clone(), answers.clone());
            let address = upstream(move |mut stream, _| {
                counted.fetch_add(1, Ordering::SeqCst);
                let told = told.clone();
                async move {
                    stream.set_nodelay(true).unwrap();
                    for ((bytes, _), cuts) in told {
                        read_until(&mut stream, "\r\n\r\n").await;
                        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
                        cuts.push(bytes.len());
                        cuts.sort_unstable();
                        let mut from = 0;
                        for cut in cuts {
                            stream.write_all(&bytes[from..cut]).await.unwrap();
                            tokio::task::yield_now().await;
                            from = cut;
                        }
                    }
                    let _ = stream.read(&mut [0; 16]).await;
                }
            })
            .await;
            let endpoint = Endpoint { address, tls: None, http2: false };
            let mut headers = tollgate_http::Headers::new();
            headers.set("Host", "a");
            let head = tollgate_http::RequestHead {
                method: tollgate_http::Method::GET,
                target: bytes::Bytes::from_static(b"/"),
                version: tollgate_http::Version::HTTP_11,
                headers,
            };
            let mut got = Vec::new();
            for _ in &answers {
                let mut none = tollgate_http::Body::Empty;
                let sent = Client::default();
                let mut response = soon(sent.send(&endpoint, &head, &mut none, &Timeouts::default())).await.unwrap();
                got.push(soon(response.body.buffer(10_000)).await.unwrap().to_vec());
            }
            assert_eq!(connections.load(Ordering::SeqCst), 1, "a connection was not used again");
            got
        });
        let expected: Vec<Vec<u8>> = answers.iter().map(|((_, body), _)| body.clone()).collect();
        prop_assert_eq!(got, expected);
    });
}
