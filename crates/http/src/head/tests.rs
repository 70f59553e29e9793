use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::{Headers, Method};

/// Pieces of heads, well-formed and not.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let known = prop::sample::select(vec![
        "GET / HTTP/1.1\r\n",
        "POST /a?b HTTP/1.0\r\n",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.0 404\r\n",
        "Host: a\r\n",
        "Content-Length: 3\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Connection: close, x\r\n",
        "X: \t y \r\n",
        ": \r\n",
        "X :1\r\n",
        " folded\r\n",
        "\r\n",
        "\n",
        "\r",
        "\0",
    ]);
    prop_oneof![4 => known.prop_map(|text| text.as_bytes().to_vec()), 1 => prop::collection::vec(any::<u8>(), 0..8)]
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let any = prop::collection::vec(piece(), 0..10).prop_map(|pieces| pieces.concat());
    prop_oneof![any, near_plain()]
}

/// Heads of which nearly all is as it usually is.
fn near_plain() -> impl Strategy<Value = Vec<u8>> {
    let first = prop::sample::select(vec![
        "GET / HTTP/1.1\r\n",
        "POST /a?b HTTP/1.1\r\n",
        "get \u{e4} HTTP/1.1\r\n",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 204 \r\n",
        "HTTP/1.1 099 x\r\n",
        "HTTP/1.1 500 \u{e4}\r\n",
        "HTTP/1.1 2000 x\r\n",
    ]);
    let name = prop_oneof![
        8 => prop::sample::select(vec!["Host", "host", "Content-Length", "Transfer-Encoding", "Connection", "Te", "X"])
            .prop_map(|name| name.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..3),
    ];
    let separator =
        prop_oneof![12 => Just(": "), 1 => Just(":"), 1 => Just(":  "), 1 => Just(":\t"), 1 => Just(" : ")];
    let value = prop_oneof![
        4 => prop::sample::select(vec!["a", "0", "3", "chunked", "close", "keep-alive, x", "trailers", "a value of some length"])
            .prop_map(|value| value.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..12),
    ];
    let end = prop_oneof![12 => Just("\r\n"), 1 => Just(" \r\n"), 1 => Just("\n"), 1 => Just("\r")];
    let line = (name, separator, value, end).prop_map(|(name, separator, value, end)| {
        [&name[..], separator.as_bytes(), &value, end.as_bytes()].concat()
    });
    let lines = prop::collection::vec(line, 0..5).prop_map(|lines| lines.concat());
    let rest = prop_oneof![4 => Just("\r\n"), 4 => Just("\r\nGET"), 1 => Just("\r"), 1 => Just("")];
    (first, lines, rest).prop_map(|(first, lines, rest)| [first.as_bytes(), &lines, rest.as_bytes()].concat())
}

fn fields(headers: &Headers) -> Vec<(Vec<u8>, Vec<u8>)> {
    headers.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
}

/// The line and the fields as they would be sent.
fn written(line: String, headers: &Headers) -> Bytes {
    let mut out = line.into_bytes();
    for (name, value) in headers.iter() {
        crate::outgoing::put_field(&mut out, name, value);
    }
    out.extend_from_slice(b"\r\n");
    out.into()
}

const SMALL: HeadLimits = HeadLimits { line: 40, total: 120, fields: 6 };

proptest! {
    #[test]
    fn the_end_is_found_however_the_bytes_come(all in bytes(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6), bare: bool) {
        for limits in [SMALL, HeadLimits::default()] {
            let whole = HeadScanner::default().find_end(&all, &limits, bare);
            let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(all.len() + 1)).collect();
            ends.push(all.len());
            ends.sort_unstable();
            let mut scanner = HeadScanner::default();
            let mut found = Ok(None);
            for end in ends {
                found = scanner.find_end(&all[..end], &limits, bare);
                if found != Ok(None) {
                    break;
                }
            }
            prop_assert_eq!(found, whole);
        }
    }

    #[test]
    fn a_request_that_is_read_reads_the_same_again(all in bytes()) {
        let _ = partial::read(&all);
        let Ok(Some(end)) = HeadScanner::default().find_end(&all, &HeadLimits::default(), false) else { return Ok(()) };
        let Ok(first) = parse_request(Bytes::copy_from_slice(&all[..end]), None, &HeadLimits::default()) else { return Ok(()) };
        let line = format!("{} {} {:?}\r\n", first.head.method, String::from_utf8_lossy(&first.head.target), first.head.version);
        let again = parse_request(written(line, &first.head.headers), None, &HeadLimits::default());
        let again = again.map_err(|(refusal, _)| TestCaseError::fail(format!("{refusal:?}")))?;
        prop_assert_eq!(fields(&again.head.headers), fields(&first.head.headers));
        prop_assert_eq!(again.framing, first.framing);
        prop_assert_eq!(again.keep_alive, first.keep_alive);
        // No reader can take it for something else.
        let count = |name: &str| first.head.headers.get_all(name).count();
        prop_assert!(count("content-length") + count("transfer-encoding") <= 1 && count("host") <= 1);
    }

    #[test]
    fn what_is_read_in_one_pass_reads_the_same_by_lines(all in bytes(), to_head: bool) {
        for limits in [SMALL, HeadLimits::default()] {
            if let Some(plain) = plain_request(&all, &limits) {
                prop_assert_eq!(HeadScanner::default().find_end(&all, &limits, false), Ok(Some(plain.end)));
                let head = Bytes::copy_from_slice(&all[..plain.end]);
                let read = |plain| match parse_request(head.clone(), plain, &limits) {
                    Ok(parsed) => format!("{parsed:?} {:?}", fields(&parsed.head.headers)),
                    Err(refused) => format!("{refused:?}"),
                };
                prop_assert_eq!(read(Some(plain)), read(None));
            }
            let method = if to_head { Method::HEAD } else { Method::GET };
            if let Some(plain) = plain_response(&all, &limits) {
                prop_assert_eq!(HeadScanner::default().find_end(&all, &limits, true), Ok(Some(plain.end)));
                let head = Bytes::copy_from_slice(&all[..plain.end]);
                let read = |plain| parse_response(head.clone(), plain, &method).map(|parsed| {
                    format!("{parsed:?} {:?}", fields(&parsed.headers))
                });
                prop_assert_eq!(read(Some(plain)), read(None));
            }
        }
    }

    #[test]
    fn a_response_that_is_read_reads_the_same_again(all in bytes(), to_head: bool) {
        let method = if to_head { Method::HEAD } else { Method::GET };
        let Ok(Some(end)) = HeadScanner::default().find_end(&all, &HeadLimits::default(), true) else { return Ok(()) };
        let Ok(first) = parse_response(Bytes::copy_from_slice(&all[..end]), None, &method) else { return Ok(()) };
        let version = if all.starts_with(b"HTTP/1.0") { "HTTP/1.0" } else { "HTTP/1.1" };
        let line = format!("{version} {} x\r\n", first.status.as_u16());
        let again = parse_response(written(line, &first.headers), None, &method).map_err(TestCaseError::fail)?;
        prop_assert_eq!(fields(&again.headers), fields(&first.headers));
        prop_assert_eq!((again.framing, again.keep_alive), (first.framing, first.keep_alive));
    }
}
