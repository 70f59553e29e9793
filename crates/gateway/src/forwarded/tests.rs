use std::sync::{Arc, OnceLock};

use proptest::prelude::*;
use tollgate_http::TlsInfo;

use super::*;

fn headers(fields: &[(&str, &str)]) -> Headers {
    let mut headers = Headers::new();
    fields.iter().for_each(|(name, value)| headers.append(name, value));
    headers
}

fn lines(headers: &Headers) -> Vec<String> {
    headers
        .iter()
        .map(|(name, value)| format!("{}: {}", String::from_utf8_lossy(name), String::from_utf8_lossy(value)))
        .collect()
}

fn connection(peer: &str, tls: bool) -> Connection {
    let info =
        || TlsInfo { server_name: None, version: "TLSv1.3", cipher: "", client_certificates: Vec::new() };
    let peer = SocketAddr::new(peer.parse().unwrap(), 50000);
    Connection {
        peer,
        local: "127.0.0.1:8000".parse().unwrap(),
        tls: tls.then(info),
        number: 1,
        requests: Arc::default(),
        told: OnceLock::new(),
    }
}

fn trusting(header: &str, recursive: bool) -> TrustSettings {
    let trusted = ["10.0.0.0/8", "fd00::/8"].map(|net| net.parse().unwrap()).to_vec();
    TrustSettings { trusted, real_ip_header: header.into(), recursive }
}

#[test]
fn the_client_is_whom_a_trusted_peer_names() {
    let ip = "X-Real-IP";
    let list = "X-Forwarded-For";
    for (header, recursive, peer, fields, expected) in [
        (ip, false, "1.2.3.4", &[(ip, "9.9.9.9")][..], "1.2.3.4"),
        (ip, false, "10.0.0.1", &[(ip, "9.9.9.9")], "9.9.9.9"),
        (ip, false, "::ffff:10.0.0.1", &[(ip, "9.9.9.9")], "9.9.9.9"),
        (ip, false, "::ffff:1.2.3.4", &[], "1.2.3.4"),
        (ip, false, "fd00::1", &[(ip, "[2001:db8::1]:99")], "2001:db8::1"),
        (ip, false, "fd00::1", &[(ip, "[2001:db8::1]")], "2001:db8::1"),
        (ip, false, "10.0.0.1", &[(ip, "9.9.9.9:80")], "9.9.9.9"),
        (ip, false, "10.0.0.1", &[(ip, "nobody")], "10.0.0.1"),
        (ip, false, "10.0.0.1", &[], "10.0.0.1"),
        (list, false, "10.0.0.1", &[(list, "8.8.8.8, 10.0.0.2")], "10.0.0.2"),
        (list, true, "10.0.0.1", &[(list, "7.7.7.7, 8.8.8.8, 10.0.0.2")], "8.8.8.8"),
        (list, true, "10.0.0.1", &[(list, "7.7.7.7, 8.8.8.8"), (list, "10.0.0.3,10.0.0.2")], "8.8.8.8"),
        (list, true, "10.0.0.1", &[(list, "10.0.0.3, 10.0.0.2")], "10.0.0.3"),
        (list, true, "10.0.0.1", &[(list, "8.8.8.8, garbage, 10.0.0.2")], "10.0.0.2"),
        ("proxy_protocol", false, "10.0.0.1", &[(list, "8.8.8.8")], "10.0.0.1"),
    ] {
        let found = client(&trusting(header, recursive), &headers(fields), &connection(peer, false));
        assert_eq!(found.ip, expected.parse::<IpAddr>().unwrap(), "{peer} {fields:?}");
    }
}

#[test]
fn the_scheme_is_what_a_trusted_peer_says() {
    for (peer, tls, said, expected) in [
        ("1.2.3.4", false, Some("https"), "http"),
        ("1.2.3.4", true, Some("http"), "https"),
        ("10.0.0.1", false, Some("HTTPS"), "https"),
        ("10.0.0.1", true, Some("http"), "http"),
        ("10.0.0.1", true, Some("gopher"), "https"),
        ("10.0.0.1", false, None, "http"),
    ] {
        let fields = said.map(|said| ("x-forwarded-proto", said));
        let found =
            client(&trusting("X-Real-IP", false), &headers(fields.as_slice()), &connection(peer, tls));
        assert_eq!(found.scheme, expected, "{peer} {said:?}");
    }
}

fn told(trusted: bool, stripped: Option<&str>, fields: &[(&str, &str)]) -> Vec<String> {
    let origin = Origin {
        trusted,
        peer: "10.0.0.1".parse().unwrap(),
        client: "9.9.9.9".parse().unwrap(),
        scheme: "http",
        port: 8000,
        path: b"/a//b",
        stripped: stripped.unwrap_or_default().as_bytes(),
    };
    let mut headers = headers(fields);
    origin.tell(&mut headers, &OnceLock::new());
    let mut lines = lines(&headers);
    lines.retain(|line| !line.starts_with("Host"));
    lines.sort();
    lines
}

#[test]
fn an_untrusted_peers_word_is_replaced() {
    let own = [
        "X-Forwarded-For: 9.9.9.9",
        "X-Forwarded-Host: a.example",
        "X-Forwarded-Path: /a//b",
        "X-Forwarded-Port: 8000",
        "X-Forwarded-Prefix: /a",
        "X-Forwarded-Proto: http",
        "X-Real-IP: 9.9.9.9",
    ];
    let host = ("Host", "A.Example.:8000");
    assert_eq!(told(false, Some("/a"), &[host]), own);
    let said = [
        host,
        ("X-Forwarded-Host", "evil"),
        ("X-Forwarded-Path", "/evil"),
        ("X-Forwarded-Port", "1"),
        ("X-Forwarded-Prefix", "/evil"),
        ("X-Forwarded-Proto", "https"),
        ("X-Real-IP", "6.6.6.6"),
    ];
    assert_eq!(told(false, Some("/a"), &said), own);
    for stripped in [None, Some("/")] {
        assert_eq!(told(false, stripped, &said).len(), 6, "no prefix where none was stripped");
    }
    assert!(told(false, None, &[]).contains(&"X-Forwarded-Host: kong".to_owned()));
}

#[test]
fn a_trusted_peers_word_is_kept() {
    let said = [
        ("Host", "[::1]:80"),
        ("X-Forwarded-For", "7.7.7.7"),
        ("X-Forwarded-For", "8.8.8.8"),
        ("X-Forwarded-Host", "Front"),
        ("X-Forwarded-Path", "/front"),
        ("X-Forwarded-Port", "443"),
        ("X-Forwarded-Prefix", "/front"),
        ("X-Forwarded-Proto", "HTTPS"),
    ];
    let kept = [
        "X-Forwarded-For: 7.7.7.7, 8.8.8.8, 10.0.0.1",
        "X-Forwarded-Host: Front",
        "X-Forwarded-Path: /front",
        "X-Forwarded-Port: 443",
        "X-Forwarded-Prefix: /front",
        "X-Forwarded-Proto: HTTPS",
        "X-Real-IP: 9.9.9.9",
    ];
    assert_eq!(told(true, Some("/a"), &said), kept);
    assert_eq!(told(true, None, &said), kept);
    assert!(told(true, None, &said[..1]).contains(&"X-Forwarded-Host: [::1]".to_owned()));
}

#[test]
fn what_concerns_one_connection_stays_there() {
    for (fields, expected) in [
        (&[("Connection", "keep-alive"), ("Keep-Alive", "5"), ("A", "1")][..], &["A: 1"][..]),
        (
            &[("Connection", "close, a"), ("connection", " B ,"), ("A", "1"), ("b", "2"), ("C", "3")],
            &["C: 3"],
        ),
        (
            &[
                ("Proxy", "1"),
                ("Proxy-Connection", "1"),
                ("Expect", "100-continue"),
                ("Transfer-Encoding", "chunked"),
            ],
            &[],
        ),
        (&[("Proxy-Authorization", "x"), ("Close", "1")], &["Proxy-Authorization: x", "Close: 1"]),
        (&[("Connection", "Upgrade"), ("Upgrade", "WebSocket")], &["Upgrade: websocket"]),
        (&[("Connection", "Upgrade"), ("Upgrade", "h2c")], &[]),
        (&[("TE", "gzip, Trailers")], &["TE: trailers"]),
        (&[("TE", "gzip")], &[]),
        (
            &[
                ("Connection", "X-Consumer-ID, x-forwarded-for"),
                ("X-Consumer-ID", "1"),
                ("X-Forwarded-For", "2"),
            ],
            &["X-Consumer-ID: 1", "X-Forwarded-For: 2"],
        ),
    ] {
        let mut headers = headers(fields);
        clean_request(&mut headers);
        assert_eq!(lines(&headers), expected, "{fields:?}");
    }
}

#[test]
fn answers_lose_what_concerned_the_upstreams_connection() {
    let all = [
        ("Connection", "keep-alive, x-a"),
        ("Keep-Alive", "timeout=5"),
        ("X-A", "1"),
        ("Upgrade", "websocket"),
        ("Trailer", "T"),
        ("X-Accel-Redirect", "/inside"),
        ("x-accel-buffering", "no"),
        ("Transfer-Encoding", "chunked"),
        ("Content-Length", "3"),
    ];
    for (asked, expected) in [
        (&[][..], &["Content-Length: 3"][..]),
        (&[("upgrade", "WebSocket")], &["Upgrade: websocket", "Content-Length: 3"]),
        (&[("upgrade", "other")], &["Content-Length: 3"]),
        (&[("TE", "trailers")], &["Trailer: T", "Content-Length: 3"]),
    ] {
        let mut headers = headers(&all);
        clean_response(&mut headers, &self::headers(asked));
        assert_eq!(lines(&headers), expected);
    }
}

#[test]
fn via_lists_every_hop() {
    for (fields, expected) in [
        (&[][..], "1.1 tollgate/1"),
        (&[("Via", "1.0 a")], "1.0 a, 1.1 tollgate/1"),
        (&[("via", "1.0 a"), ("Via", "1.1 b")], "1.0 a, 1.1 b, 1.1 tollgate/1"),
    ] {
        let mut headers = headers(fields);
        add_via(&mut headers, "1.1", "tollgate/1");
        assert_eq!(headers.get_all("via").collect::<Vec<_>>(), [expected.as_bytes()]);
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(value: Vec<u8>) {
        let mut headers = Headers::new();
        for name in ["X-Forwarded-For", "Connection", "Host", "TE", "Via", "Upgrade", "X-Forwarded-Proto"] {
            headers.append(name, &value);
        }
        client(&trusting("X-Forwarded-For", true), &headers, &connection("10.0.0.1", false));
        let ip = "::1".parse().unwrap();
        Origin { trusted: true, peer: ip, client: ip, scheme: "http", port: 1, path: &value, stripped: &value }.tell(&mut headers, &OnceLock::new());
        clean_request(&mut headers);
        add_via(&mut headers, "1.1", "p");
        clean_response(&mut headers, &Headers::new());
    }
}
