//! What HTTP/1 clients may and may not send: exact bytes in, exact bytes out.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::time::Duration;

use common::{config, describe, read_all, read_until, soon, start, talk, text};
use proptest::prelude::*;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tollgate_http::server::{Limits, Listener};
use tollgate_http::{Body, StatusCode};

fn limits() -> Limits {
    Limits::default()
}

/// Requests that are refused, and how.
const REFUSED: &[(&str, &str, &str)] = &[
    (
        "differing lengths",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        "BadRequest",
    ),
    (
        "a repeated length",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        "BadRequest",
    ),
    ("a list of lengths", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\nx", "BadRequest"),
    ("a signed length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\nx", "BadRequest"),
    ("an empty length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\nx", "BadRequest"),
    (
        "a huge length",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\nx",
        "BadRequest",
    ),
    (
        "length and coding",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "BadRequest",
    ),
    (
        "another coding",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "NotImplemented",
    ),
    (
        "an odd coding",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "NotImplemented",
    ),
    (
        "another coding and a length",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx",
        "BadRequest",
    ),
    (
        "a repeated coding",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "BadRequest",
    ),
    (
        "a coding on 1.0",
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "BadRequest",
    ),
    ("a folded line", "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n", "BadRequest"),
    ("a space before the colon", "GET / HTTP/1.1\r\nHost: a\r\nX : 1\r\n\r\n", "BadRequest"),
    ("a bare line feed", "GET / HTTP/1.1\r\nHost: a\r\nX: 1\nY: 2\r\n\r\n", "BadRequest"),
    ("bare line feeds at the end", "GET / HTTP/1.1\r\nHost: a\n\n", "BadRequest"),
    ("a bare carriage return", "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r2\r\n\r\n", "BadRequest"),
    ("NUL in a value", "GET / HTTP/1.1\r\nHost: a\r\nX: 1\x002\r\n\r\n", "BadRequest"),
    ("a control byte in a value", "GET / HTTP/1.1\r\nHost: a\r\nX: 1\x012\r\n\r\n", "BadRequest"),
    ("an empty name", "GET / HTTP/1.1\r\nHost: a\r\n: 1\r\n\r\n", "BadRequest"),
    ("no host", "GET / HTTP/1.1\r\n\r\n", "BadRequest"),
    ("an empty host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", "BadRequest"),
    ("two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "BadRequest"),
    ("a host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "BadRequest"),
    ("a host with a user", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", "BadRequest"),
    ("a host with an odd port", "GET / HTTP/1.1\r\nHost: a:99999\r\n\r\n", "BadRequest"),
    ("no version", "GET /\r\n\r\n", "BadRequest"),
    ("a newer version", "GET / HTTP/3.0\r\nHost: a\r\n\r\n", "VersionNotSupported"),
    ("another version", "GET / HTTP/0.9\r\nHost: a\r\n\r\n", "BadRequest"),
    (
        "two authorizations",
        "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: a\r\nAuthorization: b\r\n\r\n",
        "BadRequest",
    ),
    ("two expectations", "GET / HTTP/1.1\r\nHost: a\r\nExpect: a\r\nExpect: b\r\n\r\n", "BadRequest"),
    ("another target", "GET a HTTP/1.1\r\nHost: a\r\n\r\n", "BadRequest"),
    ("a scheme that is not served", "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", "BadRequest"),
    ("a star for GET", "GET * HTTP/1.1\r\nHost: a\r\n\r\n", "BadRequest"),
    ("a star for OPTIONS", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "BadRequest"),
    ("a path that climbs above the root", "GET /a/../.. HTTP/1.1\r\nHost: a\r\n\r\n", "BadRequest"),
    ("a percent sign that opens no triplet", "GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", "BadRequest"),
    ("NUL in a path", "GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n", "BadRequest"),
    ("TRACE", "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", "MethodNotAllowed"),
    ("CONNECT", "CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", "BadRequest"),
    ("CONNECT of a path", "CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", "MethodNotAllowed"),
    ("TLS on a plain port", "\x16\x03\x01\x02\n", "BadRequest"),
    ("HTTP/2 where it is not spoken", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "VersionNotSupported"),
];

#[tokio::test]
async fn ambiguous_requests_are_refused() {
    let (_server, address) = start(limits(), describe);
    for (what, bytes, refusal) in REFUSED {
        let answer = talk(address, bytes.as_bytes()).await;
        assert!(answer.ends_with(&format!("\r\n\r\n{refusal}")), "{what}: {answer:?}");
        assert!(answer.contains("\r\nConnection: close\r\n"), "{what}: {answer:?}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{what}: {answer:?}");
    }
}

/// Bodies that break off with an error for whoever reads them.
const BROKEN_CHUNKS: &[(&str, &str)] = &[
    ("no number", "x\r\n"),
    ("an empty size", "\r\n"),
    ("a sign", "+1\r\na\r\n0\r\n\r\n"),
    ("a prefix", "0x1\r\na\r\n0\r\n\r\n"),
    ("a size that overflows", "fffffffffffffffff\r\n"),
    ("a bare line feed", "1\na\r\n0\r\n\r\n"),
    ("a space after the size", "1 \r\na\r\n0\r\n\r\n"),
    ("a control byte in an extension", "1;a\x01\r\na\r\n0\r\n\r\n"),
    ("too much data", "1\r\nab\r\n0\r\n\r\n"),
    ("a malformed trailer", "0\r\na b\r\n\r\n"),
    ("a trailer with a bare line feed", "0\r\na: b\n\r\n"),
];

#[tokio::test]
async fn malformed_chunks_break_the_body() {
    let (_server, address) = start(limits(), describe);
    for (what, body) in BROKEN_CHUNKS {
        let bytes = format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        let answer = talk(address, bytes.as_bytes()).await;
        assert!(answer.contains("Malformed("), "{what}: {answer:?}");
    }
    let long = format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(2000));
    let many = format!("1;{}\r\na\r\n", "x".repeat(900)).repeat(20) + "0\r\n\r\n";
    for body in [long, many] {
        let bytes = format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        assert!(talk(address, bytes.as_bytes()).await.contains("Malformed("));
    }
}

#[tokio::test]
async fn heads_are_bounded() {
    let (_server, address) = start(limits(), describe);
    let host = "Host: a\r\n";
    let cases = [
        (format!("GET /{} HTTP/1.1\r\n{host}\r\n", "a".repeat(8200)), "UriTooLong"),
        (format!("GET / HTTP/1.1\r\n{host}X: {}\r\n\r\n", "a".repeat(8200)), "HeadersTooLarge"),
        (
            format!("GET / HTTP/1.1\r\n{host}{}\r\n", format!("X: {}\r\n", "a".repeat(8000)).repeat(5)),
            "HeadersTooLarge",
        ),
        (format!("GET / HTTP/1.1\r\n{host}{}\r\n", "X: 1\r\n".repeat(300)), "HeadersTooLarge"),
        // Refused before the line ends.
        ("x".repeat(9000), "UriTooLong"),
    ];
    for (bytes, refusal) in cases {
        let answer = talk(address, bytes.as_bytes()).await;
        assert!(answer.ends_with(&format!("\r\n\r\n{refusal}")), "{answer:?}");
    }
    let fits = format!("GET /{} HTTP/1.1\r\n{host}Connection: close\r\n\r\n", "a".repeat(8000));
    assert!(talk(address, fits.as_bytes()).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn answers_are_exact() {
    let (_server, address) = start(limits(), |request| async move {
        match request.head.target.as_ref() {
            b"/none" => text(StatusCode::NO_CONTENT, ""),
            b"/stream" => {
                let mut response = text(StatusCode::OK, "");
                response.body = Body::stream(Pieces(vec!["bc", "a"]));
                response
            }
            _ => text(StatusCode::OK, "hello"),
        }
    });
    let get = |target: &str, version: &str, fields: &str| {
        format!("GET {target} HTTP/{version}\r\nHost: a\r\n{fields}\r\n")
    };
    let fixed = "HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 5\r\n";
    let cases = [
        (get("/", "1.1", "Connection: close\r\n"), format!("{fixed}Connection: close\r\n\r\nhello")),
        (get("/", "1.0", ""), format!("{fixed}Connection: close\r\n\r\nhello")),
        // Two requests in one write, the second one ends the connection.
        (
            get("/", "1.1", "") + &get("/none", "1.1", "Connection: Close\r\n"),
            format!(
                "{fixed}Connection: keep-alive\r\n\r\nhelloHTTP/1.1 204 No Content\r\nDate: now\r\nConnection: close\r\n\r\n"
            ),
        ),
        (
            get("/", "1.0", "Connection: keep-alive\r\n") + &get("/", "1.0", ""),
            format!("{fixed}Connection: keep-alive\r\n\r\nhello{fixed}Connection: close\r\n\r\nhello"),
        ),
        (
            "HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".to_owned(),
            format!("{fixed}Connection: close\r\n\r\n"),
        ),
        (
            get("/stream", "1.1", "Connection: close\r\n"),
            "HTTP/1.1 200 OK\r\nDate: now\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"
                .to_owned(),
        ),
        (
            get("/stream", "1.0", "Connection: keep-alive\r\n"),
            "HTTP/1.1 200 OK\r\nDate: now\r\nConnection: close\r\n\r\nabc".to_owned(),
        ),
    ];
    for (bytes, expected) in cases {
        assert_eq!(talk(address, bytes.as_bytes()).await, expected, "{bytes:?}");
    }
}

/// A body of unknown length; the last piece comes first.
struct Pieces(Vec<&'static str>);

impl tollgate_http::BodyStream for Pieces {
    fn poll_chunk(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<bytes::Bytes, tollgate_http::BodyError>>> {
        std::task::Poll::Ready(self.0.pop().map(|piece| Ok(piece.into())))
    }
}

#[tokio::test]
async fn absolute_targets_are_reduced() {
    let (_server, address) = start(limits(), describe);
    let cases = [
        ("http://b:81/p?q", "GET /p?q HTTP/1.1\nHost=b:81\n"),
        ("HTTP://b?q", "GET /?q HTTP/1.1\nHost=b\n"),
        ("https://b", "GET / HTTP/1.1\nHost=b\n"),
    ];
    for (target, expected) in cases {
        let answer = talk(
            address,
            format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes(),
        )
        .await;
        assert!(answer.contains(expected), "{answer:?}");
    }
}

#[tokio::test]
async fn continue_is_sent_when_the_body_is_wanted() {
    let (_server, address) = start(limits(), |request| async move {
        match request.head.target.as_ref() {
            b"/unread" => text(StatusCode::OK, "no"),
            _ => describe(request).await,
        }
    });
    let expecting = |target: &str| {
        format!("POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    };
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(expecting("/").as_bytes()).await.unwrap();
    assert_eq!(read_until(&mut stream, "\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"xy").await.unwrap();
    assert!(read_until(&mut stream, "xy").await.starts_with("HTTP/1.1 200 OK\r\n"));
    // Whether the body of this one follows cannot be known, so the connection ends.
    stream.write_all(expecting("/unread").as_bytes()).await.unwrap();
    let answer = read_all(&mut stream).await;
    assert!(answer.contains("Connection: close\r\n\r\nno") && !answer.contains("100 Continue"), "{answer:?}");
}

#[tokio::test]
async fn large_bodies_are_refused_or_broken() {
    let (_server, address) = start(Limits { body: 4, ..limits() }, describe);
    let announced = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabcde";
    assert!(talk(address, announced.as_bytes()).await.ends_with("\r\n\r\nBodyTooLarge"));
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n";
    assert!(talk(address, chunked.as_bytes()).await.contains("TooLarge { limit: 4 }"));
    let fits = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n4\r\nabcd\r\n0\r\n\r\n";
    assert!(talk(address, fits.as_bytes()).await.ends_with("chunked\nConnection=close\nabcd"));
}

#[tokio::test]
async fn unread_bodies_do_not_become_requests() {
    let (_server, address) = start(limits(), |_| async { text(StatusCode::OK, "ok") });
    let smuggled = "GET /evil HTTP/1.1\r\nHost: a\r\n\r\n";
    let bytes = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{smuggled}GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        smuggled.len()
    );
    let answer = talk(address, bytes.as_bytes()).await;
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 2, "{answer:?}");
    // Far too long to be read for nothing: the connection ends, with the answer.
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\nabc").await.unwrap();
    assert!(read_all(&mut stream).await.ends_with("\r\n\r\nok"));
}

#[tokio::test]
async fn slow_clients_are_ended() {
    let quick = Duration::from_millis(100);
    let slow = Limits { head_timeout: quick, body_timeout: quick, idle_timeout: quick, ..limits() };
    let (server, address) = start(slow, describe);
    assert!(talk(address, b"GET / HTTP/1.1\r\nHost:").await.ends_with("\r\n\r\nTimeout"));
    assert_eq!(talk(address, b"").await, "");
    let answer = talk(address, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc").await;
    assert!(answer.contains("TimedOut"), "{answer:?}");
    let answer = talk(address, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(answer.contains("Connection: keep-alive"), "{answer:?}");
    soon(async {
        while server.open_connections() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn connections_end_after_their_requests() {
    let (_server, address) = start(Limits { requests: 2, ..limits() }, describe);
    let answer = talk(address, "GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(3).as_bytes()).await;
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 2);
    assert_eq!(answer.matches("Connection: close").count(), 1);
}

#[tokio::test]
async fn the_proxy_protocol_names_the_client() {
    let listener = Listener { proxy_protocol: true, ..common::any_port() };
    let (_server, address) = common::start_with(config(limits(), listener), |request| async move {
        text(StatusCode::OK, request.connection.peer.to_string())
    });
    let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let version_1 = b"PROXY TCP4 1.2.3.4 5.6.7.8 1000 80\r\n".to_vec();
    let mut version_2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    version_2.extend([1, 2, 3, 4, 5, 6, 7, 8, 3, 0xe8, 0, 80]);
    for mut bytes in [version_1, version_2] {
        bytes.extend(request);
        assert!(talk(address, &bytes).await.ends_with("\r\n\r\n1.2.3.4:1000"));
    }
    assert_eq!(talk(address, request).await, "");
}

#[test]
fn any_split_gives_the_same_requests() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (_server, address) = start(limits(), describe);
    let bytes = b"POST /a?b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello\
        \r\nPUT /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nT: 1\r\n\r\n\
        GET /d HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let whole = runtime.block_on(talk(address, bytes));
    assert_eq!(whole.matches("HTTP/1.1 200 OK").count(), 3);
    proptest!(ProptestConfig::with_cases(64), |(mut cuts in prop::collection::vec(0..bytes.len(), 0..12))| {
        cuts.sort_unstable();
        let answer = runtime.block_on(async {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let mut from = 0;
            for cut in cuts {
                stream.write_all(&bytes[from..cut]).await.unwrap();
                tokio::task::yield_now().await;
                from = cut;
            }
            stream.write_all(&bytes[from..]).await.unwrap();
            read_all(&mut stream).await
        });
        prop_assert_eq!(&answer, &whole);
    });
}

/// A request with a body that looks like much, and how it is to be understood.
fn request() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let text = prop::sample::select(vec![
        "",
        "x",
        "\r\n",
        "0\r\n\r\n",
        "GET /evil HTTP/1.1\r\nHost: e\r\n\r\n",
        "5\r\nhello\r\n",
    ]);
    let body = prop::collection::vec(text, 0..5).prop_map(|parts| parts.concat().into_bytes());
    (body, prop::option::of(1..9_usize)).prop_map(|(body, chunked)| {
        let bytes = match chunked {
            None => {
                let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
                [head.as_bytes(), &body].concat()
            }
            Some(size) => {
                let mut bytes = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
                for chunk in body.chunks(size) {
                    bytes.extend_from_slice(format!("{:x};ext\r\n", chunk.len()).as_bytes());
                    bytes.extend_from_slice(chunk);
                    bytes.extend_from_slice(b"\r\n");
                }
                bytes.extend_from_slice(b"0\r\nT: 1\r\n\r\n");
                bytes
            }
        };
        (bytes, body)
    })
}

#[test]
fn requests_on_one_connection_stay_apart() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    // Answers with the body behind its length, or leaves it unread.
    let (_server, address) = start(limits(), |mut request| async move {
        match request.head.headers.contains("x-unread") {
            true => text(StatusCode::OK, "unread"),
            false => text(StatusCode::OK, request.body.buffer(usize::MAX).await.unwrap()),
        }
    });
    let one = (request(), any::<bool>());
    proptest!(ProptestConfig::with_cases(96), |(requests in prop::collection::vec(one, 1..6), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12))| {
        let (mut sent, mut expected) = (Vec::new(), Vec::new());
        for ((bytes, body), unread) in &requests {
            let mut bytes = bytes.clone();
            if *unread {
                let at = bytes.windows(7).position(|part| part == b"Host: a").unwrap();
                bytes.splice(at..at, b"X-Unread: 1\r\n".iter().copied());
            }
            sent.extend_from_slice(&bytes);
            let body = if *unread { b"unread" } else { body.as_slice() };
            expected.extend_from_slice(format!("HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: {}\r\nConnection: keep-alive\r\n\r\n", body.len()).as_bytes());
            expected.extend_from_slice(body);
        }
        sent.extend_from_slice(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        expected.extend_from_slice(b"HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(sent.len())).collect();
        cuts.push(sent.len());
        cuts.sort_unstable();
        let answer = runtime.block_on(async {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let mut from = 0;
            for cut in cuts {
                stream.write_all(&sent[from..cut]).await.unwrap();
                tokio::task::yield_now().await;
                from = cut;
            }
            read_all(&mut stream).await
        });
        prop_assert_eq!(answer, String::from_utf8_lossy(&expected));
    });
}

#[test]
fn garbage_is_answered_or_closed() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let quick = Duration::from_millis(50);
    let (_server, address) =
        start(Limits { head_timeout: quick, body_timeout: quick, idle_timeout: quick, ..limits() }, describe);
    let line = prop::sample::select(vec![
        "GET / HTTP/1.1\r\n",
        "Host: a\r\n",
        "\r\n",
        "Content-Length: 3\r\n",
        "Transfer-Encoding: chunked\r\n",
        "1\r\na\r\n",
        "0\r\n\r\n",
        "\n",
        "\0",
        " ",
        "HTTP/1.1 200 OK\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "Expect: 100-continue\r\n",
    ]);
    let part = prop_oneof![
        line.prop_map(|line| line.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..20)
    ];
    proptest!(ProptestConfig::with_cases(128), |(parts in prop::collection::vec(part, 1..12))| {
        let answer = runtime.block_on(talk(address, &parts.concat()));
        prop_assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 "), "{answer:?}");
    });
    assert!(runtime.block_on(talk(address, b"GET / HTTP/1.0\r\n\r\n")).starts_with("HTTP/1.1 200 OK"));
}
