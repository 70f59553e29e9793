//! Cohere's Chat in its second version, as far as the mock knows it.

use bytes::Bytes;
use serde_json::{Value, json};
use tollgate_http::{RequestHead, Response, StatusCode};

use crate::reply::Reply;
use crate::{Wishes, plain, streamed};

const ID: &str = "mock-7PbQmXc2";

pub(crate) fn answer(head: &RequestHead, body: &[u8], wishes: &Wishes) -> Response {
    let Ok(Value::Object(request)) = serde_json::from_slice(body) else {
        return error_of(StatusCode::BAD_REQUEST, "invalid request: the body is no JSON object");
    };
    let mut request = Value::Object(request);
    if !request["messages"].is_array() {
        return error_of(StatusCode::BAD_REQUEST, "invalid request: messages must be given");
    }
    request["tool_choice"] = match request["tool_choice"].as_str() {
        Some("REQUIRED") => "required".into(),
        Some("NONE") => "none".into(),
        _ => Value::Null,
    };
    let reply = Reply::new(head, &request, body, true, wishes);
    let reason = match reply.finish_reason() {
        "tool_calls" => "TOOL_CALL",
        "length" => "MAX_TOKENS",
        _ => "COMPLETE",
    };
    let units = json!({"input_tokens": reply.prompt_tokens, "output_tokens": reply.words.len()});
    let usage = wishes.usage.then(|| json!({"billed_units": units, "tokens": units}));
    if request["stream"] != true {
        let message = match reply.calls.is_empty() {
            true => json!({"role": "assistant", "content": [{"type": "text", "text": reply.words.concat()}]}),
            false => json!({"role": "assistant", "tool_calls": reply.calls}),
        };
        let mut whole = json!({"id": ID, "finish_reason": reason, "message": message});
        if let Some(usage) = usage {
            whole["usage"] = usage;
        }
        return plain(StatusCode::OK, &whole);
    }
    let of = |message: Value| json!({"message": message});
    let mut events = vec![
        json!({"type": "message-start", "id": ID, "delta": of(json!({"role": "assistant", "content": []}))}),
    ];
    if reply.calls.is_empty() {
        let content = |text: &str| of(json!({"content": {"type": "text", "text": text}}));
        events.push(json!({"type": "content-start", "index": 0, "delta": content("")}));
        let words = reply.words.iter();
        events.extend(words.map(|word| json!({"type": "content-delta", "index": 0, "delta": content(word)})));
        events.push(json!({"type": "content-end", "index": 0}));
    }
    for (index, call) in reply.calls.iter().enumerate() {
        let mut begun = call.clone();
        begun["function"]["arguments"] = "".into();
        let arguments = json!({"function": {"arguments": call["function"]["arguments"]}});
        events.push(
            json!({"type": "tool-call-start", "index": index, "delta": of(json!({"tool_calls": begun}))}),
        );
        events.push(
            json!({"type": "tool-call-delta", "index": index, "delta": of(json!({"tool_calls": arguments}))}),
        );
        events.push(json!({"type": "tool-call-end", "index": index}));
    }
    let mut delta = json!({"finish_reason": reason});
    if let Some(usage) = usage {
        delta["usage"] = usage;
    }
    events.push(json!({"type": "message-end", "id": ID, "delta": delta}));
    let write = |event: &Value| {
        Bytes::from(format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default()))
    };
    streamed("text/event-stream", events.iter().map(write).collect(), wishes)
}

/// An error of this status.
pub(crate) fn error_of(status: StatusCode, message: &str) -> Response {
    plain(status, &json!({"message": message}))
}
