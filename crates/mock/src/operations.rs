//! OpenAI's operations beyond chats, completions and embeddings. Nothing is stored: what is asked for by id is there,
//! whatever the id.

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Map, Value, json};
use tokio::io::DuplexStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use tollgate_http::{Body, Method, RequestHead, Response, StatusCode};

use crate::reply::Reply;
use crate::{Wishes, error, labelled, plain, streamed};

const CREATED: u64 = 1_741_569_952;

/// The smallest PNG there is: one pixel.
pub(crate) const PIXEL: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

/// The answer, where the path is of such an operation.
pub(crate) fn answer(head: &RequestHead, path: &str, body: &[u8], wishes: &Wishes) -> Option<Response> {
    let (kind, rest) = ["/responses", "/files", "/batches", "/audio", "/images", "/realtime"]
        .into_iter()
        .find_map(|kind| Some((kind, path.find(kind).map(|at| &path[at + kind.len()..])?)))?;
    let rest = rest.trim_matches('/');
    Some(match kind {
        "/responses" => responses(head, rest, body, wishes),
        "/files" => files(&head.method, rest, body),
        "/batches" => batches(&head.method, rest, body),
        "/audio" => audio(rest, body),
        "/images" => images(body),
        _ => realtime(head),
    })
}

fn missing(name: &str) -> Response {
    let message = format!("Missing required parameter: '{name}'.");
    error(StatusCode::BAD_REQUEST, &message, "invalid_request_error")
}

/// A member of a JSON body, or the content of the part of this name; empty where there is none.
fn field(body: &[u8], name: &str) -> String {
    if let Ok(request) = serde_json::from_slice::<Map<String, Value>>(body) {
        return request.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    }
    let text = String::from_utf8_lossy(body);
    let Some((_, rest)) = text.split_once(&format!("name=\"{name}\"")) else { return String::new() };
    let Some((_, content)) = rest.split_once("\r\n\r\n") else { return String::new() };
    content.split("\r\n").next().unwrap_or_default().to_owned()
}

fn files(method: &Method, rest: &str, body: &[u8]) -> Response {
    let file = |id: &str, purpose: &str| {
        json!({
            "id": id, "object": "file", "bytes": body.len(), "created_at": CREATED, "filename": "mock.jsonl",
            "purpose": purpose, "status": "processed",
        })
    };
    match (method.as_str(), rest.split_once('/').unwrap_or((rest, ""))) {
        ("POST", ("", _)) => match field(body, "purpose") {
            purpose if purpose.is_empty() => missing("purpose"),
            purpose => plain(StatusCode::OK, &file("file-mock", &purpose)),
        },
        ("GET", ("", _)) => plain(
            StatusCode::OK,
            &json!({"object": "list", "data": [file("file-mock", "batch")], "has_more": false}),
        ),
        ("GET", (_, "content")) => {
            let mut response = labelled(StatusCode::OK);
            response.headers.set("Content-Type", "application/octet-stream");
            response.body = Body::from(Bytes::from_static(b"{\"mock\":true}\n"));
            response
        }
        ("DELETE", (id, _)) => plain(StatusCode::OK, &json!({"id": id, "object": "file", "deleted": true})),
        (_, (id, _)) => plain(StatusCode::OK, &file(id, "batch")),
    }
}

fn batches(method: &Method, rest: &str, body: &[u8]) -> Response {
    let batch = |id: &str, status: &str, endpoint: &str, input: &str| {
        json!({
            "id": id, "object": "batch", "endpoint": endpoint, "input_file_id": input, "status": status,
            "completion_window": "24h", "created_at": CREATED, "output_file_id": "file-mock-output",
            "request_counts": {"total": 1, "completed": 1, "failed": 0},
        })
    };
    match (method.as_str(), rest.split_once('/').unwrap_or((rest, ""))) {
        ("POST", ("", _)) => match (field(body, "input_file_id"), field(body, "endpoint")) {
            (input, _) if input.is_empty() => missing("input_file_id"),
            (input, endpoint) => plain(StatusCode::OK, &batch("batch_mock", "validating", &endpoint, &input)),
        },
        ("POST", (id, "cancel")) => {
            plain(StatusCode::OK, &batch(id, "cancelling", "/v1/chat/completions", "file-mock"))
        }
        ("GET", ("", _)) => {
            let batch = batch("batch_mock", "completed", "/v1/chat/completions", "file-mock");
            plain(StatusCode::OK, &json!({"object": "list", "data": [batch], "has_more": false}))
        }
        (_, (id, _)) => plain(StatusCode::OK, &batch(id, "completed", "/v1/chat/completions", "file-mock")),
    }
}

fn audio(rest: &str, body: &[u8]) -> Response {
    if field(body, "model").is_empty() {
        return missing("model");
    }
    if rest == "speech" {
        let mut response = labelled(StatusCode::OK);
        response.headers.set("Content-Type", "audio/mpeg");
        response.body = Body::from(Bytes::from(format!("ID3 mock speech: {}", field(body, "input"))));
        return response;
    }
    let usage = json!({
        "type": "tokens", "input_tokens": 14, "output_tokens": 6, "total_tokens": 20,
        "input_token_details": {"text_tokens": 0, "audio_tokens": 14},
    });
    plain(
        StatusCode::OK,
        &json!({"text": "This is Tollgate's mock LLM, which hears nothing.", "usage": usage}),
    )
}

fn images(body: &[u8]) -> Response {
    if field(body, "prompt").is_empty() {
        return missing("prompt");
    }
    let usage = json!({
        "input_tokens": 10, "output_tokens": 100, "total_tokens": 110,
        "input_tokens_details": {"text_tokens": 10, "image_tokens": 0},
    });
    plain(StatusCode::OK, &json!({"created": CREATED, "data": [{"b64_json": PIXEL}], "usage": usage}))
}

fn responses(head: &RequestHead, rest: &str, body: &[u8], wishes: &Wishes) -> Response {
    if head.method != Method::POST || !rest.is_empty() {
        let (id, action) = rest.split_once('/').unwrap_or((rest, ""));
        if head.method == Method::DELETE {
            return plain(StatusCode::OK, &json!({"id": id, "object": "response", "deleted": true}));
        }
        let status = if action == "cancel" { "cancelled" } else { "completed" };
        return plain(StatusCode::OK, &response(id, status, &json!("mock"), Vec::new(), Value::Null));
    }
    let Ok(Value::Object(request)) = serde_json::from_slice(body) else {
        let message = "We could not parse the JSON body of your request.";
        return error(StatusCode::BAD_REQUEST, message, "invalid_request_error");
    };
    for name in ["model", "input"] {
        if !request.contains_key(name) {
            return missing(name);
        }
    }
    let as_chat = chat_of(&request);
    let reply = Reply::new(head, &as_chat, body, true, wishes);
    let item = match reply.calls.first() {
        Some(call) => json!({
            "id": "fc_mock", "type": "function_call", "status": "completed", "call_id": call["id"],
            "name": call["function"]["name"], "arguments": call["function"]["arguments"],
        }),
        None => json!({
            "id": "msg_mock", "type": "message", "status": "completed", "role": "assistant",
            "content": [{"type": "output_text", "text": reply.words.concat(), "annotations": []}],
        }),
    };
    let (prompt, completion) = (reply.prompt_tokens, reply.words.len());
    let usage = match wishes.usage {
        true => json!({
            "input_tokens": prompt, "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": completion, "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": prompt + completion,
        }),
        false => Value::Null,
    };
    let model = request.get("model").cloned().unwrap_or_default();
    let whole = response("resp_mock", "completed", &model, vec![item.clone()], usage);
    if request.get("stream") != Some(&true.into()) {
        return plain(StatusCode::OK, &whole);
    }
    let begun = response("resp_mock", "in_progress", &model, Vec::new(), Value::Null);
    let mut events = vec![
        json!({"type": "response.created", "response": begun}),
        json!({"type": "response.in_progress", "response": begun}),
    ];
    let mut empty = item.clone();
    empty["status"] = "in_progress".into();
    let place = |kind: &str| json!({"type": kind, "item_id": item["id"], "output_index": 0});
    match item["arguments"].as_str() {
        Some(arguments) => {
            empty["arguments"] = "".into();
            events.push(json!({"type": "response.output_item.added", "output_index": 0, "item": empty}));
            let (one, two) = arguments.split_at(arguments.len() / 2);
            for piece in [one, two] {
                let mut delta = place("response.function_call_arguments.delta");
                delta["delta"] = piece.into();
                events.push(delta);
            }
            let mut done = place("response.function_call_arguments.done");
            done["arguments"] = arguments.into();
            events.push(done);
        }
        None => {
            empty["content"] = json!([]);
            events.push(json!({"type": "response.output_item.added", "output_index": 0, "item": empty}));
            let of_part = |kind: &str, members: Value| {
                let mut event = place(kind);
                event["content_index"] = 0.into();
                if let (Some(event), Value::Object(members)) = (event.as_object_mut(), members) {
                    event.extend(members);
                }
                event
            };
            let part = json!({"type": "output_text", "text": "", "annotations": []});
            events.push(of_part("response.content_part.added", json!({"part": part})));
            for word in &reply.words {
                events.push(of_part("response.output_text.delta", json!({"delta": word, "logprobs": []})));
            }
            let text = reply.words.concat();
            events.push(of_part("response.output_text.done", json!({"text": text, "logprobs": []})));
            let part = item["content"][0].clone();
            events.push(of_part("response.content_part.done", json!({"part": part})));
        }
    }
    events.push(json!({"type": "response.output_item.done", "output_index": 0, "item": item}));
    events.push(json!({"type": "response.completed", "response": whole}));
    let written = events.into_iter().enumerate().map(|(number, mut event)| {
        event["sequence_number"] = number.into();
        let kind = event["type"].as_str().unwrap_or_default();
        Bytes::from(format!("event: {kind}\ndata: {event}\n\n"))
    });
    streamed("text/event-stream; charset=utf-8", written.collect(), wishes)
}

fn response(id: &str, status: &str, model: &Value, output: Vec<Value>, usage: Value) -> Value {
    json!({
        "id": id, "object": "response", "created_at": CREATED, "status": status, "error": null,
        "incomplete_details": null, "instructions": null, "metadata": {}, "model": model, "output": output,
        "parallel_tool_calls": true, "temperature": 1.0, "tool_choice": "auto", "tools": [], "top_p": 1.0,
        "usage": usage,
    })
}

/// The request as one for a chat, as far as the mock looks into it.
fn chat_of(request: &Map<String, Value>) -> Value {
    let get = |name: &str| request.get(name).cloned().unwrap_or_default();
    let message = |item: &Value| match item["type"].as_str() {
        Some("function_call_output") => json!({"role": "tool", "content": item["output"]}),
        _ => item.clone(),
    };
    let messages = match get("input") {
        Value::Array(items) => items.iter().map(message).collect(),
        text => json!([{"role": "user", "content": text}]),
    };
    let tools: Vec<Value> = get("tools")
        .as_array()
        .into_iter()
        .flatten()
        .map(|tool| json!({"type": "function", "function": tool}))
        .collect();
    let choice = match get("tool_choice") {
        Value::Object(choice) => json!({"function": choice}),
        choice => choice,
    };
    json!({"messages": messages, "tools": tools, "tool_choice": choice, "max_tokens": get("max_output_tokens")})
}

/// A conversation over a WebSocket, as far as it takes to try one: every `response.create` is answered.
fn realtime(head: &RequestHead) -> Response {
    let Some(key) = head.headers.get_str("sec-websocket-key") else {
        let message = "You must connect to this endpoint with a WebSocket.";
        return error(StatusCode::BAD_REQUEST, message, "invalid_request_error");
    };
    if !head.query().is_some_and(|query| query.windows(6).any(|name| name == b"model=")) {
        return missing("model");
    }
    let mut response = labelled(StatusCode::SWITCHING_PROTOCOLS);
    response.headers.set("Connection", "Upgrade");
    response.headers.set("Upgrade", "websocket");
    response.headers.set("Sec-WebSocket-Accept", &*derive_accept_key(key.as_bytes()));
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    tokio::spawn(converse(ours));
    response.upgrade = Some(Box::new(theirs));
    response
}

async fn converse(stream: DuplexStream) {
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
    let session =
        json!({"id": "sess_mock", "object": "realtime.session", "type": "realtime", "model": "mock"});
    let mut answers = vec![json!({"type": "session.created", "session": session})];
    loop {
        for (number, mut answer) in answers.drain(..).enumerate() {
            answer["event_id"] = format!("event_mock_{number}").into();
            if socket.send(Message::text(answer.to_string())).await.is_err() {
                return;
            }
        }
        let Some(Ok(message)) = socket.next().await else { return };
        let Ok(text) = message.to_text() else { continue };
        let event: Value = serde_json::from_str(text).unwrap_or_default();
        answers = match event["type"].as_str() {
            Some("session.update") => vec![json!({"type": "session.updated", "session": session})],
            Some("conversation.item.create") => {
                let mut item = event["item"].clone();
                item["id"] = "item_mock".into();
                vec![json!({"type": "conversation.item.created", "item": item, "previous_item_id": null})]
            }
            Some("response.create") => spoken(),
            _ => Vec::new(),
        };
    }
}

fn spoken() -> Vec<Value> {
    let text = "This is Tollgate's mock LLM, not a real model.";
    let usage = json!({"total_tokens": 20, "input_tokens": 12, "output_tokens": 8});
    let place =
        json!({"response_id": "resp_mock", "item_id": "item_mock", "output_index": 0, "content_index": 0});
    let with = |kind: &str, name: &str| {
        let mut event = place.clone();
        event["type"] = kind.into();
        event[name] = text.into();
        event
    };
    let response = |status: &str| json!({"id": "resp_mock", "object": "realtime.response", "status": status, "output": [], "usage": usage});
    vec![
        json!({"type": "response.created", "response": response("in_progress")}),
        with("response.output_text.delta", "delta"),
        with("response.output_text.done", "text"),
        json!({"type": "response.done", "response": response("completed")}),
    ]
}
