//! `tollgate mock-llm`: what it answers, by header and by flag.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::io::{Read, Write};

use common::cases::{check_answer, request_bytes};
use common::mock::Mock;
use common::{connect, exchange};
use serde_json::Value;

#[test]
fn answers() {
    let mock = Mock::start(&[]);
    let cases: Vec<Value> = serde_json::from_str(include_str!("mock_llm/answers.json")).unwrap();
    for case in &cases {
        let answer = exchange(mock.port, &request_bytes(case["route"].as_str().unwrap(), &case["request"]));
        assert_eq!(answer.header("x-mock-llm"), Some("tollgate"), "{}", case["title"]);
        check_answer(&answer, &case["expect"]).unwrap_or_else(|error| panic!("{}: {error}", case["title"]));
        for part in case["contains"].as_array().into_iter().flatten() {
            let part = part.as_str().unwrap();
            assert!(answer.text().contains(part), "{}: no {part} in {}", case["title"], answer.text());
        }
    }
}

#[test]
fn abrupt_ends() {
    let mock = Mock::start(&["--abort-after", "2"]);
    for stream in [true, false] {
        let body = format!(r#"{{"model":"m","messages":[{{"content":"x"}}],"stream":{stream}}}"#);
        let mut client = connect(mock.port);
        write!(
            client,
            "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut received = Vec::new();
        let _ = client.read_to_end(&mut received);
        let text = String::from_utf8_lossy(&received);
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
        assert!(!text.ends_with("0\r\n\r\n") && !text.contains("[DONE]"), "{text}");
        assert_eq!(text.matches("data: ").count(), if stream { 2 } else { 0 }, "{text}");
    }
}

#[test]
fn flags_stand_for_headers() {
    let body = serde_json::json!({"method": "POST", "body": {"model": "m", "messages": [{"content": "x"}]}});
    let ask = |mock: &Mock| exchange(mock.port, &request_bytes("v1/chat/completions", &body));
    assert_eq!(ask(&Mock::start(&["--status", "429"])).status, 429);
    let malformed = ask(&Mock::start(&["--malformed"]));
    assert!(serde_json::from_slice::<Value>(&malformed.body).is_err());
    assert_eq!(ask(&Mock::start(&["--tokens", "3"])).json()["usage"]["completion_tokens"], 3);
}
