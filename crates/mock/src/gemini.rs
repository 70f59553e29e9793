//! Gemini's `generateContent`, as far as the mock knows it.

use bytes::Bytes;
use serde_json::{Value, json};
use tollgate_http::{RequestHead, Response, StatusCode};

use crate::operations::PIXEL;
use crate::reply::Reply;
use crate::{Wishes, plain, streamed};

/// Whether a path asks for it.
pub(crate) fn is_it(path: &str) -> bool {
    path.ends_with(":generateContent") || path.ends_with(":streamGenerateContent")
}

pub(crate) fn answer(head: &RequestHead, path: &str, body: &[u8], wishes: &Wishes) -> Response {
    let Ok(Value::Object(request)) = serde_json::from_slice(body) else {
        return error_of(StatusCode::BAD_REQUEST, "Invalid JSON payload received.");
    };
    let request = Value::Object(request);
    if !request["contents"].is_array() {
        return error_of(StatusCode::BAD_REQUEST, "contents are not specified");
    }
    let modalities = request["generationConfig"]["responseModalities"].as_array();
    if modalities.is_some_and(|all| all.iter().any(|one| one == "IMAGE")) {
        return plain(StatusCode::OK, &pictured(path));
    }
    let as_openai = as_openai(&request);
    let reply = Reply::new(head, &as_openai, body, true, wishes);
    let model = model_of(path);
    let element = |parts: Value, last: bool| {
        let mut candidate = json!({"content": {"parts": parts, "role": "model"}, "index": 0});
        if last {
            let reason = if reply.finish_reason() == "length" { "MAX_TOKENS" } else { "STOP" };
            candidate["finishReason"] = reason.into();
        }
        let mut element =
            json!({"candidates": [candidate], "modelVersion": model, "responseId": "mock-7PbQmXc2"});
        if wishes.usage {
            let (prompt, words) = (reply.prompt_tokens, if last { reply.words.len() } else { 0 });
            element["usageMetadata"] = json!({
                "promptTokenCount": prompt, "candidatesTokenCount": words, "totalTokenCount": prompt + words,
            });
        }
        element
    };
    let calls: Vec<Value> = reply
        .calls
        .iter()
        .map(|call| {
            let arguments = call["function"]["arguments"].as_str().unwrap_or_default();
            let arguments: Value = serde_json::from_str(arguments).unwrap_or_default();
            json!({"functionCall": {"name": call["function"]["name"], "args": arguments}, "thoughtSignature": "bW9jaw=="})
        })
        .collect();
    if path.ends_with(":generateContent") {
        let parts = match calls.is_empty() {
            true => json!([{"text": reply.words.concat()}]),
            false => calls.into(),
        };
        return plain(StatusCode::OK, &element(parts, true));
    }
    let mut elements: Vec<Value> = match calls.is_empty() {
        true => reply.words.iter().map(|word| element(json!([{"text": word}]), false)).collect(),
        false => vec![element(calls.into(), false)],
    };
    elements.push(element(json!([{"text": ""}]), true));
    let target = String::from_utf8_lossy(&head.target);
    if target.contains("alt=sse") {
        let events = elements.iter().map(|element| Bytes::from(format!("data: {element}\r\n\r\n"))).collect();
        return streamed("text/event-stream", events, wishes);
    }
    let count = elements.len();
    let pieces = elements.iter().enumerate().map(|(index, element)| {
        let start = if index == 0 { "[" } else { ",\r\n" };
        let end = if index + 1 == count { "]" } else { "" };
        Bytes::from(format!("{start}{element}{end}"))
    });
    streamed("application/json", pieces.collect(), wishes)
}

/// The answer of a model that makes pictures.
fn pictured(path: &str) -> Value {
    let picture = json!({"inlineData": {"mimeType": "image/png", "data": PIXEL}});
    let parts = json!([{"text": "This is a picture of Tollgate's mock LLM."}, picture]);
    json!({
        "candidates": [{"content": {"parts": parts, "role": "model"}, "finishReason": "STOP", "index": 0}],
        "usageMetadata": {
            "promptTokenCount": 7, "candidatesTokenCount": 1290, "totalTokenCount": 1297,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 7}],
            "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1290}],
        },
        "modelVersion": model_of(path),
        "responseId": "mock-7PbQmXc2",
    })
}

/// The model that a path names.
fn model_of(path: &str) -> &str {
    path.rsplit('/').next().and_then(|last| last.split(':').next()).unwrap_or_default()
}

/// An error of this status.
pub(crate) fn error_of(status: StatusCode, message: &str) -> Response {
    let name = match status.as_u16() {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        503 => "UNAVAILABLE",
        400..=499 => "INVALID_ARGUMENT",
        _ => "INTERNAL",
    };
    plain(status, &json!({"error": {"code": status.as_u16(), "message": message, "status": name}}))
}

/// What the reply is made of, in OpenAI's words.
fn as_openai(request: &Value) -> Value {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let messages: Vec<Value> = list(&request["contents"])
        .iter()
        .map(|content| {
            let parts = list(&content["parts"]);
            let answers = parts.iter().any(|part| part.get("functionResponse").is_some());
            json!({"role": if answers { "tool" } else { "user" }, "content": parts})
        })
        .collect();
    let tools: Vec<Value> = list(&request["tools"])
        .iter()
        .flat_map(|tool| list(&tool["functionDeclarations"]))
        .map(|function| json!({"function": {"name": function["name"]}}))
        .collect();
    let config = &request["toolConfig"]["functionCallingConfig"];
    let choice = match (config["mode"].as_str(), &config["allowedFunctionNames"][0]) {
        (Some("ANY"), Value::String(name)) => json!({"function": {"name": name}}),
        (Some("ANY"), _) => json!("required"),
        (Some("NONE"), _) => json!("none"),
        _ => json!("auto"),
    };
    let limit = &request["generationConfig"]["maxOutputTokens"];
    json!({"messages": messages, "tools": tools, "tool_choice": choice, "max_tokens": limit})
}
