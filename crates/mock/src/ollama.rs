//! Ollama's chat API, as far as the mock knows it.

use bytes::Bytes;
use serde_json::{Value, json};
use tollgate_http::{RequestHead, Response, StatusCode};

use crate::reply::Reply;
use crate::{Wishes, plain, streamed};

const CREATED: &str = "2025-03-10T01:25:52Z";

pub(crate) fn answer(head: &RequestHead, body: &[u8], wishes: &Wishes) -> Response {
    let Ok(Value::Object(request)) = serde_json::from_slice(body) else {
        return error_of(StatusCode::BAD_REQUEST, "invalid character in the request body");
    };
    let mut request = Value::Object(request);
    if !request["model"].is_string() {
        return error_of(StatusCode::BAD_REQUEST, "model is required");
    }
    request["max_tokens"] = request["options"]["num_predict"].clone();
    let reply = Reply::new(head, &request, body, true, wishes);
    let line = |message: Value, done: bool| {
        let mut line =
            json!({"model": request["model"], "created_at": CREATED, "message": message, "done": done});
        if done {
            let reason = if reply.finish_reason() == "length" { "length" } else { "stop" };
            line["done_reason"] = reason.into();
        }
        if done && wishes.usage {
            line["prompt_eval_count"] = reply.prompt_tokens.into();
            line["eval_count"] = reply.words.len().into();
        }
        line
    };
    let calls: Vec<Value> = reply
        .calls
        .iter()
        .map(|call| {
            let arguments = call["function"]["arguments"].as_str().unwrap_or_default();
            let arguments: Value = serde_json::from_str(arguments).unwrap_or_default();
            json!({"function": {"name": call["function"]["name"], "arguments": arguments}})
        })
        .collect();
    let message = |text: &str| match calls.is_empty() {
        true => json!({"role": "assistant", "content": text}),
        false => json!({"role": "assistant", "content": "", "tool_calls": calls}),
    };
    // Ollama streams unless it is told not to.
    if request["stream"] == false {
        return plain(StatusCode::OK, &line(message(&reply.words.concat()), true));
    }
    let mut lines: Vec<Value> = match calls.is_empty() {
        true => reply.words.iter().map(|word| line(message(word), false)).collect(),
        false => vec![line(message(""), false)],
    };
    lines.push(line(json!({"role": "assistant", "content": ""}), true));
    let events = lines.iter().map(|line| Bytes::from(format!("{line}\n"))).collect();
    streamed("application/x-ndjson", events, wishes)
}

/// An error of this status.
pub(crate) fn error_of(status: StatusCode, message: &str) -> Response {
    plain(status, &json!({"error": message}))
}
