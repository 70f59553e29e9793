//! Upstreams of the tests.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;

use super::find;

/// An upstream in this process; ends with the test process.
#[derive(Clone)]
pub struct Upstream {
    pub port: u16,
    /// Requests received, in full.
    pub requests: Arc<Mutex<Vec<Vec<u8>>>>,
    /// Connections that are open now.
    pub open: Arc<AtomicUsize>,
    /// Connections ever accepted.
    pub accepted: Arc<AtomicUsize>,
}

/// A request as an upstream got it.
pub struct Received<'a> {
    pub whole: &'a [u8],
    pub method: &'a str,
    pub path: &'a str,
    pub body: &'a [u8],
}

impl Upstream {
    /// Serves every connection with `answer`, which writes to the stream; an error ends the connection.
    pub fn start(
        answer: impl Fn(&Received<'_>, &mut TcpStream) -> std::io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let upstream = Self {
            port: listener.local_addr().unwrap().port(),
            requests: Arc::default(),
            open: Arc::default(),
            accepted: Arc::default(),
        };
        let answer = Arc::new(answer);
        let shared = upstream.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, shared) = (Arc::clone(&answer), shared.clone());
                shared.open.fetch_add(1, Ordering::SeqCst);
                shared.accepted.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || {
                    let _ = serve(stream, &shared, &*answer);
                    shared.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        upstream
    }

    /// Answers `{"ok":true}`, and a chat completion under `/v1/chat/completions`.
    pub fn canned() -> Self {
        Self::start(|request, stream| {
            let body = if request.path.starts_with("/v1/chat/completions") {
                CHAT.as_bytes()
            } else {
                br#"{"ok":true}"#
            };
            respond(stream, request.method, "200 OK", "application/json", "Server: upstream\r\n", body)
        })
    }

    /// Answers with the request it got; under `/v1/chat/completions` like OpenAI, with its errors on demand.
    pub fn echo() -> Self {
        Self::start(|request, stream| {
            if !request.path.starts_with("/v1/chat/completions") {
                return respond(
                    stream,
                    request.method,
                    "200 OK",
                    "text/plain",
                    "Server: echo\r\n",
                    request.whole,
                );
            }
            let asked: serde_json::Value = serde_json::from_slice(request.body).unwrap_or_default();
            if asked["stream"] == json!(true) && request.path == "/v1/chat/completions" {
                return stream_chat(stream);
            }
            let extra = "Server: echo\r\nx-request-id: req_abc\r\nopenai-processing-ms: 5\r\n";
            let (status, body): (_, &[u8]) = match request.path.rsplit('/').next() {
                Some("401") => ("401 Unauthorized", UNAUTHORIZED.as_bytes()),
                Some("500") => (
                    "500 Internal Server Error",
                    br#"{"error":{"message":"The server had an error","type":"server_error"}}"#,
                ),
                Some("notjson") => ("200 OK", b"this is not json"),
                _ => ("200 OK", ECHO_CHAT.as_bytes()),
            };
            respond(stream, request.method, status, "application/json", extra, body)
        })
    }
}

const CHAT: &str = r#"{"id":"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT","object":"chat.completion","created":1741569952,"model":"gpt-4.1-2025-04-14","choices":[{"index":0,"message":{"role":"assistant","content":"Hello! How can I assist you today?","refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}},"service_tier":"default"}"#;
const ECHO_CHAT: &str = r#"{"id": "chatcmpl-B9", "object": "chat.completion", "created": 1741569952, "model": "gpt-4.1-2025-04-14", "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello!"}, "logprobs": null, "finish_reason": "stop"}], "usage": {"prompt_tokens": 19, "completion_tokens": 10, "total_tokens": 29}}"#;
const UNAUTHORIZED: &str = "{\n    \"error\": {\n        \"message\": \"Incorrect API key provided: x. You can find your API key at https://platform.openai.com/account/api-keys.\",\n        \"type\": \"invalid_request_error\",\n        \"param\": null,\n        \"code\": \"invalid_api_key\"\n    }\n}\n";

/// Writes an answer with a length.
pub fn respond(
    stream: &mut TcpStream,
    method: &str,
    status: &str,
    kind: &str,
    extra: &str,
    body: &[u8],
) -> std::io::Result<()> {
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n{extra}\r\n", body.len());
    let body = if method == "HEAD" { &[][..] } else { body };
    stream.write_all(&[head.as_bytes(), body].concat())
}

/// Writes one chunk of a chunked body.
pub fn chunk(stream: &mut TcpStream, data: &[u8]) -> std::io::Result<()> {
    stream.write_all(&[format!("{:x}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat())
}

fn stream_chat(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\nx-request-id: req_abc\r\nopenai-processing-ms: 5\r\n\r\n")?;
    let event = |choices: serde_json::Value, usage: Option<serde_json::Value>| {
        let mut event = json!({"id": "chatcmpl-B9", "object": "chat.completion.chunk", "created": 1741569952, "model": "gpt-4.1-2025-04-14", "choices": choices});
        if let Some(usage) = usage {
            event["usage"] = usage;
        }
        format!("data: {event}\n\n")
    };
    let choice = |delta: serde_json::Value, reason: serde_json::Value| json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": reason}]);
    let null = serde_json::Value::Null;
    for text in ["", "Hello", " world", "!"] {
        let delta = if text.is_empty() {
            json!({"role": "assistant", "content": ""})
        } else {
            json!({"content": text})
        };
        chunk(stream, event(choice(delta, null.clone()), None).as_bytes())?;
        std::thread::sleep(Duration::from_millis(10));
    }
    chunk(stream, event(choice(json!({}), json!("stop")), None).as_bytes())?;
    chunk(
        stream,
        event(json!([]), Some(json!({"prompt_tokens": 19, "completion_tokens": 3, "total_tokens": 22})))
            .as_bytes(),
    )?;
    chunk(stream, b"data: [DONE]\n\n")?;
    stream.write_all(b"0\r\n\r\n")
}

fn serve(
    mut stream: TcpStream,
    upstream: &Upstream,
    answer: &(dyn Fn(&Received<'_>, &mut TcpStream) -> std::io::Result<()> + Send + Sync),
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut received = Vec::new();
    let mut buffer = [0; 64 * 1024];
    loop {
        while let Some((head, length)) = whole_request(&received) {
            let whole: Vec<u8> = received.drain(..length).collect();
            let line = String::from_utf8_lossy(&whole[..find(&whole, b"\r\n").unwrap_or(0)]).into_owned();
            let mut words = line.split(' ');
            let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
            let path = target.split('?').next().unwrap_or("");
            upstream.requests.lock().unwrap().push(whole.clone());
            answer(&Received { whole: &whole, method, path, body: &whole[head..] }, &mut stream)?;
        }
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        received.extend_from_slice(&buffer[..count]);
    }
}

/// Lengths of head and of the whole request, once it is all there.
fn whole_request(received: &[u8]) -> Option<(usize, usize)> {
    let head = find(received, b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&received[..head]).to_ascii_lowercase();
    let field = |name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name).map(|value| value.trim().to_owned()))
    };
    if field("transfer-encoding:").as_deref() == Some("chunked") {
        let end = find(&received[head..], b"0\r\n\r\n")? + head + 5;
        return Some((head, end));
    }
    let length = head + field("content-length:").map_or(0, |length| length.parse::<usize>().unwrap_or(0));
    (received.len() >= length).then_some((head, length))
}
