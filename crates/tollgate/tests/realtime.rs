//! Conversations over a WebSocket (`realtime/v1/realtime`): every frame passes as it is, and what the provider says of
//! tokens is in the log and the metrics.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::io::{Read, Write};
use std::net::Shutdown;

use common::upstream::Upstream;
use common::{Tollgate, cases, connect, exchange, logging};
use serde_json::{Value, json};

const LOG: &str = "entries.log";

/// A part of a message, as a server sends it.
fn frame(first: u8, payload: &str) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    [&[first, 126], &length[..], payload.as_bytes()].concat()
}

/// What a provider says in two answers; the second is told in two parts, with a ping between.
fn said() -> Vec<u8> {
    let event = |event: Value| event.to_string();
    let done = |id: &str, cached: u64| {
        event(json!({"type": "response.done", "event_id": id, "response": {
            "id": "resp_1", "object": "realtime.response", "status": "completed", "output": [],
            "usage": {
                "total_tokens": 1000, "input_tokens": 600, "output_tokens": 400,
                "input_token_details": {"text_tokens": 100, "audio_tokens": 500, "cached_tokens": cached},
                "output_token_details": {"text_tokens": 50, "audio_tokens": 350},
            },
        }}))
    };
    let session = json!({"id": "sess_1", "object": "realtime.session", "model": "gpt-realtime-2025-08-28"});
    let created = event(json!({"type": "response.created", "response": {"status": "in_progress"}}));
    let sound = event(json!({"type": "response.output_audio.delta", "delta": "U".repeat(20_000)}));
    let second = done("event_2", 128);
    let (begins, ends) = second.split_at(300);
    [
        frame(0x81, &event(json!({"type": "session.created", "session": session}))),
        frame(0x81, &created),
        frame(0x81, &sound),
        frame(0x81, &done("event_1", 0)),
        frame(0x81, &created),
        frame(0x01, begins),
        frame(0x89, "ping"),
        frame(0x80, ends),
    ]
    .concat()
}

fn provider() -> Upstream {
    Upstream::start(|_, stream| {
        stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")?;
        for piece in said().chunks(997) {
            stream.write_all(piece)?;
        }
        // Until the client has said all, which is nothing that is looked at.
        stream.read_to_end(&mut Vec::new())?;
        Err(std::io::ErrorKind::ConnectionAborted.into())
    })
}

fn start(upstream: u16) -> Tollgate {
    let folder = tempfile::tempdir().unwrap();
    let plugin = |statistics: bool| {
        let options = json!({
            "upstream_url": format!("http://127.0.0.1:{upstream}/v1/realtime"), "input_cost": 4, "output_cost": 16,
        });
        json!({"name": "ai-proxy-advanced", "config": {
            "genai_category": "realtime/generation",
            "targets": [{
                "route_type": "realtime/v1/realtime", "logging": {"log_statistics": statistics},
                "auth": {"header_name": "Authorization", "header_value": "Bearer CANARY"},
                "model": {"provider": "openai", "name": "gpt-realtime", "options": options},
            }],
        }})
    };
    let file = json!({
        "_format_version": "3.0",
        "plugins": [
            {"name": "file-log", "config": {"path": folder.path().join(LOG)}},
            {"name": "prometheus", "config": {"ai_metrics": true}},
        ],
        "services": [{"name": "never-contacted", "host": "localhost", "port": 1, "routes": [
            {"name": "told", "paths": ["/told"], "plugins": [plugin(true)]},
            {"name": "untold", "paths": ["/untold"], "plugins": [plugin(false)]},
        ]}],
    });
    let path = folder.path().join("kong.yml");
    std::fs::write(&path, file.to_string()).unwrap();
    let settings = [("KONG_DATABASE", "off"), ("KONG_DECLARATIVE_CONFIG", path.to_str().unwrap())];
    Tollgate::start_in(folder, &settings)
}

/// Has a whole conversation: the answer's head, and what was said.
fn converse(tollgate: &Tollgate, route: &str) -> (String, Vec<u8>) {
    let mut client = connect(tollgate.proxy());
    let handshake = format!(
        "GET /{route} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
    );
    client.write_all(&[handshake.as_bytes(), b"\x81\x82\x01\x02\x03\x04ab"].concat()).unwrap();
    let (mut received, mut buffer) = (Vec::new(), [0; 4096]);
    let heard =
        |received: &[u8]| common::find(received, b"\r\n\r\n").map_or(0, |end| received.len() - end - 4);
    while heard(&received) < said().len() {
        let count = client.read(&mut buffer).unwrap();
        assert!(count > 0, "{}", String::from_utf8_lossy(&received));
        received.extend_from_slice(&buffer[..count]);
    }
    client.shutdown(Shutdown::Write).unwrap();
    client.read_to_end(&mut received).unwrap();
    let end = received.len() - heard(&received);
    (String::from_utf8(received[..end].to_vec()).unwrap(), received[end..].to_vec())
}

#[test]
fn tokens_of_all_answers_are_told() {
    let upstream = provider();
    let tollgate = start(upstream.port);
    let (head, heard) = converse(&tollgate, "told");
    assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("X-Kong-LLM-Model: openai/gpt-realtime\r\n"));
    assert!(heard == said(), "the frames have changed");
    let entry = logging::entry(&tollgate.folder.path().join(LOG), |_| true);
    assert!(!entry.to_string().contains("CANARY"));
    let expected = json!({
        "meta": {
            "provider_name": "openai", "request_model": "gpt-realtime", "request_mode": "realtime",
            "response_model": "gpt-realtime-2025-08-28", "llm_latency": "*",
        },
        "usage": {
            "prompt_tokens": 1200, "completion_tokens": 800, "total_tokens": 2000,
            "input_tokens": 1200, "output_tokens": 800,
            "input_tokens_details": {"text_tokens": 200, "audio_tokens": 1000, "cached_tokens": 128},
            "output_tokens_details": {"text_tokens": 100, "audio_tokens": 700},
            // 1.2 thousandths of 4, and 0.8 thousandths of 16.
            "cost": 0.0176,
        },
        "tried_targets": [{"route_type": "realtime/v1/realtime", "upstream_uri": "/v1/realtime"}],
    });
    cases::matches(&expected, &entry["ai"]["proxy"], "ai.proxy").unwrap();
    let metrics =
        exchange(tollgate.port("status"), b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            .text();
    let tokens = metrics.lines().find(|line| {
        line.starts_with("kong_ai_llm_tokens_total{") && line.contains("token_type=\"total_tokens\"")
    });
    assert!(tokens.is_some_and(|line| line.ends_with(" 2000")), "{metrics}");
    let received = String::from_utf8(upstream.requests.lock().unwrap()[0].clone()).unwrap();
    assert!(received.starts_with("GET /v1/realtime?model=gpt-realtime HTTP/1.1\r\n"), "{received}");
    // Nobody could read what is compressed.
    assert!(!received.to_ascii_lowercase().contains("sec-websocket-extensions"), "{received}");
}

#[test]
fn what_nobody_wants_to_know_is_left_alone() {
    let upstream = provider();
    let tollgate = start(upstream.port);
    let (_, heard) = converse(&tollgate, "untold");
    assert!(heard == said(), "the frames have changed");
    let entry = logging::entry(&tollgate.folder.path().join(LOG), |_| true);
    assert!(entry.get("ai").is_none(), "{entry}");
    let received = String::from_utf8(upstream.requests.lock().unwrap()[0].clone()).unwrap();
    assert!(received.contains("Sec-WebSocket-Extensions: permessage-deflate\r\n"), "{received}");
}
