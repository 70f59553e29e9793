//! Connections over time: upgrades, streams, clients and upstreams that leave, targets that fall ill, and the end
//! of the node.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use common::upstream::{Upstream, chunk, respond};
use common::{Answers, Tollgate, connect, eventually, exchange, find};
use serde_json::json;

/// A node with one service, its route under `/`.
fn proxy(port: u16, service: serde_json::Value, route: serde_json::Value) -> Tollgate {
    let mut own = json!({"name": "s", "host": "127.0.0.1", "port": port});
    own.as_object_mut().unwrap().extend(service.as_object().unwrap().clone());
    let mut its = json!({"name": "r", "paths": ["/"]});
    its.as_object_mut().unwrap().extend(route.as_object().unwrap().clone());
    own["routes"] = json!([its]);
    Tollgate::with_file(&json!({"_format_version": "3.0", "services": [own]}).to_string(), &[])
}

/// An upstream whose connections are handled one by one, each by `handle`.
fn raw_upstream(handle: impl Fn(TcpStream) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let handle = Arc::new(handle);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let handle = Arc::clone(&handle);
            std::thread::spawn(move || handle(stream));
        }
    });
    port
}

/// Reads until `part` came; all that was read.
fn read_until(stream: &mut TcpStream, part: &[u8]) -> Vec<u8> {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
    while find(&all, part).is_none() {
        let count = stream.read(&mut buffer).unwrap();
        assert!(
            count > 0,
            "ended before {:?}: {:?}",
            String::from_utf8_lossy(part),
            String::from_utf8_lossy(&all)
        );
        all.extend_from_slice(&buffer[..count]);
    }
    all
}

const HANDSHAKE: &[u8] = b"GET /chat HTTP/1.1\r\nHost: a.test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://a.test\r\n\r\n";
const ACCEPTED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// A text frame; those of clients are masked.
fn frame(text: &str, masked: bool) -> Vec<u8> {
    let mut frame = vec![0x81, text.len() as u8 | if masked { 0x80 } else { 0 }];
    let mask: &[u8] = if masked { &[1, 2, 3, 4] } else { &[] };
    frame.extend_from_slice(mask);
    frame.extend(text.bytes().enumerate().map(|(at, byte)| byte ^ mask.get(at % 4).copied().unwrap_or(0)));
    frame
}

#[test]
fn websockets_pass_both_ways_and_end_in_halves() {
    // Greets with the handshake, answers every frame, and has a last word once the client has ended its side.
    let port = raw_upstream(|mut stream| {
        let handshake = String::from_utf8(read_until(&mut stream, b"\r\n\r\n")).unwrap();
        for line in [
            "GET /chat HTTP/1.1",
            "Upgrade: websocket",
            "Connection: keep-alive, Upgrade",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        ] {
            assert!(handshake.contains(&format!("{line}\r\n")), "{handshake}");
        }
        stream.write_all(&[ACCEPTED, &frame("welcome", false)].concat()).unwrap();
        let mut buffer = [0; 1024];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            let received = &buffer[..count];
            assert!(received.starts_with(&[0x81]));
            stream.write_all(&frame(&format!("{} bytes", received.len()), false)).unwrap();
        }
        let _ = stream.write_all(&frame("goodbye", false));
    });
    let tollgate = proxy(port, json!({}), json!({}));
    let mut client = connect(tollgate.proxy());
    // The first frame comes on the heels of the handshake.
    client.write_all(&[HANDSHAKE, &frame("hello", true)].concat()).unwrap();
    let head = read_until(&mut client, b"11 bytes");
    let head = String::from_utf8_lossy(&head).into_owned();
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    for part in [
        "Upgrade: websocket\r\n",
        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n",
        "X-Kong-Request-Id: ",
        "welcome",
        "11 bytes",
    ] {
        assert!(head.contains(part), "{part}: {head}");
    }
    assert_eq!(head.to_ascii_lowercase().matches("connection: upgrade\r\n").count(), 1, "{head}");
    client.write_all(&frame("again and again", true)).unwrap();
    read_until(&mut client, b"21 bytes");
    client.shutdown(Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, frame("goodbye", false));
}

#[test]
fn a_refused_upgrade_is_an_answer_like_others() {
    let upstream = Upstream::start(|request, stream| {
        respond(stream, request.method, "403 Forbidden", "text/plain", "", b"no")
    });
    let tollgate = proxy(upstream.port, json!({}), json!({}));
    let mut client = connect(tollgate.proxy());
    let mut answers = |request: &[u8]| {
        client.write_all(request).unwrap();
        let answer = Answers::new(&mut client).next(false);
        (answer.status, answer.text())
    };
    assert_eq!(answers(HANDSHAKE), (403, "no".to_owned()));
    assert_eq!(answers(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), (403, "no".to_owned()));
}

#[test]
fn a_client_that_leaves_takes_the_upstream_along() {
    let upstream = Upstream::start(|request, stream| {
        if request.path == "/stream" {
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            chunk(stream, b"first")?;
        }
        // Nothing more: the reading end of this connection tells when the gateway closes it.
        Ok(())
    });
    let tollgate = proxy(upstream.port, json!({}), json!({}));
    for (path, expected) in [("/silent", None), ("/stream", Some(&b"first"[..]))] {
        let mut client = connect(tollgate.proxy());
        write!(client, "GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        eventually("the upstream has the request", || upstream.open.load(Ordering::SeqCst) == 1);
        if let Some(expected) = expected {
            read_until(&mut client, expected);
        }
        drop(client);
        eventually("the upstream's connection is closed", || upstream.open.load(Ordering::SeqCst) == 0);
    }
}

#[test]
fn bodies_pass_while_they_are_sent() {
    let (told, heard) = std::sync::mpsc::channel();
    let port = raw_upstream(move |mut stream| {
        read_until(&mut stream, b"one");
        told.send("one").unwrap();
        read_until(&mut stream, b"two");
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        chunk(&mut stream, b"three").unwrap();
        read_until(&mut stream, b"more");
        chunk(&mut stream, b"four").unwrap();
        stream.write_all(b"0\r\n\r\n").unwrap();
    });
    let tollgate = proxy(port, json!({}), json!({"request_buffering": false, "response_buffering": false}));
    let mut client = connect(tollgate.proxy());
    client
        .write_all(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        .unwrap();
    assert_eq!(heard.recv_timeout(Duration::from_secs(20)), Ok("one"));
    client.write_all(b"3\r\ntwo\r\n").unwrap();
    // The answer begins before the request has ended.
    read_until(&mut client, b"three");
    client.write_all(b"4\r\nmore\r\n0\r\n\r\n").unwrap();
    read_until(&mut client, b"0\r\n\r\n");
}

#[test]
fn services_of_grpc_are_spoken_to_in_http2() {
    // A second node stands in for a server of gRPC; it passes on what it got to one that echoes.
    let echo = Upstream::start(|request, stream| {
        respond(stream, request.method, "200 OK", "application/grpc", "grpc-status: 0\r\n", request.whole)
    });
    let config = json!({"_format_version": "3.0", "services": [{"name": "echo", "host": "127.0.0.1", "port": echo.port, "routes": [{"name": "r", "paths": ["/"]}]}]});
    let server = Tollgate::with_file(
        &config.to_string(),
        &[("KONG_PROXY_LISTEN", "127.0.0.1:0 http2, 127.0.0.1:0 http2 ssl")],
    );
    for (protocol, port) in [("grpc", server.proxy()), ("grpcs", server.port("proxy_tls"))] {
        let tollgate = proxy(port, json!({"protocol": protocol}), json!({"strip_path": false}));
        for body in ["", "message"] {
            let request = format!(
                "POST /pkg.Service/Method HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            let answer = exchange(tollgate.proxy(), request.as_bytes());
            let seen = answer.text();
            assert_eq!((answer.status, answer.header("grpc-status")), (200, Some("0")), "{seen}");
            let product = concat!("tollgate/", env!("CARGO_PKG_VERSION"));
            assert_eq!(answer.header("via"), Some(format!("1.1 {product}, 2 {product}").as_str()));
            assert!(
                seen.starts_with("POST /pkg.Service/Method HTTP/1.1\r\n") && seen.ends_with(body),
                "{seen}"
            );
            assert!(
                seen.to_ascii_lowercase().contains(&format!("via: 1.1 {product}, 2 {product}\r\n")),
                "{seen}"
            );
        }
    }
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let tollgate = proxy(nobody, json!({"protocol": "grpc"}), json!({}));
    assert_eq!(
        exchange(tollgate.proxy(), b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").status,
        502
    );
}

#[test]
fn an_answer_that_breaks_off_does_not_look_whole() {
    let upstream = Upstream::start(|request, stream| {
        match request.path {
            "/length" => stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")?,
            _ => stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")?,
        }
        Err(std::io::ErrorKind::ConnectionAborted.into())
    });
    let tollgate = proxy(upstream.port, json!({}), json!({}));
    for (path, end) in [("/length", "Content-Length: 10"), ("/chunks", "Transfer-Encoding: chunked")] {
        let mut client = connect(tollgate.proxy());
        write!(client, "GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let mut all = Vec::new();
        // A reset is as good an end as a close.
        let _ = client.read_to_end(&mut all);
        let all = String::from_utf8(all).unwrap();
        assert!(all.contains(end) && all.contains("half") && !all.ends_with("0\r\n\r\n"), "{all:?}");
    }
    assert_eq!(upstream.requests.lock().unwrap().len(), 2, "an answer that has begun is not asked for again");
}

#[test]
fn a_restarted_upstream_loses_no_request() {
    // Every connection serves one request and is closed some time after its answer, as by a server that restarts.
    let served = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&served);
    let port = raw_upstream(move |mut stream| {
        read_until(&mut stream, b"\r\n\r\n");
        counted.fetch_add(1, Ordering::SeqCst);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
        std::thread::sleep(Duration::from_millis(1));
    });
    let tollgate = proxy(port, json!({}), json!({}));
    let mut client = connect(tollgate.proxy());
    for number in 0..200 {
        let method = if number % 2 == 0 { "GET" } else { "PUT" };
        write!(client, "{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx").unwrap();
        assert_eq!(Answers::new(&mut client).next(false).status, 200, "request {number}");
        if number % 10 == 0 {
            std::thread::sleep(Duration::from_millis(3));
        }
    }
    assert_eq!(served.load(Ordering::SeqCst), 200);
}

#[test]
fn targets_are_asked_how_they_are() {
    let sick = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&sick);
    let upstream = Upstream::start(move |request, stream| {
        let status =
            if request.path == "/health" && told.load(Ordering::SeqCst) { "500 Sick" } else { "200 OK" };
        respond(stream, request.method, status, "text/plain", "", b"ok")
    });
    let checks = json!({
        "type": "http", "http_path": "/health", "timeout": 5, "headers": {"X-Probe": ["yes"]},
        "healthy": {"interval": 0.05, "successes": 2, "http_statuses": [200]},
        "unhealthy": {"interval": 0.05, "http_failures": 2, "http_statuses": [500]},
    });
    let config = json!({
        "_format_version": "3.0",
        "services": [{"name": "s", "host": "up", "routes": [{"name": "r", "paths": ["/"]}]}],
        "upstreams": [{"name": "up", "targets": [{"target": format!("127.0.0.1:{}", upstream.port)}], "healthchecks": {"active": checks}}],
    });
    let tollgate = Tollgate::with_file(&config.to_string(), &[]);
    let status =
        || exchange(tollgate.proxy(), b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").status;
    assert_eq!(status(), 200);
    eventually("the target is asked", || {
        upstream.requests.lock().unwrap().iter().any(|request| {
            find(request, b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Probe: yes\r\n").is_some()
        })
    });
    for _ in 0..2 {
        sick.store(true, Ordering::SeqCst);
        eventually("the target is taken for sick", || status() == 503);
        sick.store(false, Ordering::SeqCst);
        eventually("the target is taken for well", || status() == 200);
    }
}

#[test]
fn requests_under_way_outlive_the_nodes_end() {
    let upstream = Upstream::start(|request, stream| {
        std::thread::sleep(Duration::from_millis(300));
        respond(stream, request.method, "200 OK", "text/plain", "", b"late")
    });
    let tollgate = proxy(upstream.port, json!({}), json!({}));
    let mut idle = connect(tollgate.proxy());
    let mut busy = connect(tollgate.proxy());
    busy.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    eventually("the upstream has the request", || upstream.open.load(Ordering::SeqCst) == 1);
    let stopped =
        std::process::Command::new("kill").args(["-QUIT", &tollgate.id().to_string()]).status().unwrap();
    assert!(stopped.success());
    assert_eq!(idle.read(&mut [0; 16]).unwrap(), 0, "an idle connection is closed");
    let mut answers = Answers::new(&mut busy);
    let answer = answers.next(false);
    assert_eq!(
        (answer.status, answer.text().as_str(), answer.header("connection")),
        (200, "late", Some("close"))
    );
    assert!(answers.is_closed());
    eventually("nobody listens any more", || TcpStream::connect(("127.0.0.1", tollgate.proxy())).is_err());
}
