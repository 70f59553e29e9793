//! Bedrock's Converse and ConverseStream, and `invoke` of Claude, of Titan's embeddings and of pictures, as far as the
//! mock knows them. Signatures are not verified, only asked for.

use aws_smithy_eventstream::frame::write_message_to;
use aws_smithy_types::event_stream::{Header, HeaderValue, Message};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};
use tollgate_http::{RequestHead, Response, StatusCode};

use crate::operations::PIXEL;
use crate::reply::Reply;
use crate::{Wishes, anthropic, plain, streamed};

/// What its paths end in.
pub(crate) const OPERATIONS: [&str; 4] =
    ["/converse", "/converse-stream", "/invoke", "/invoke-with-response-stream"];

pub(crate) fn answer(head: &RequestHead, path: &str, body: &[u8], wishes: &Wishes) -> Response {
    let signature = head.headers.get_str("authorization").unwrap_or_default();
    if !signature.starts_with("AWS4-HMAC-SHA256 Credential=") || !head.headers.contains("x-amz-date") {
        return error_of(StatusCode::FORBIDDEN, "Missing Authentication Token");
    }
    let Ok(Value::Object(request)) = serde_json::from_slice(body) else {
        return error_of(StatusCode::BAD_REQUEST, "The request body is not valid JSON.");
    };
    let request = Value::Object(request);
    if path.contains("/invoke") {
        return invoked(head, path, &request, body, wishes);
    }
    if !request["messages"].is_array() {
        return error_of(StatusCode::BAD_REQUEST, "messages: required");
    }
    let as_openai = as_openai(&request);
    let said = Said { reply: Reply::new(head, &as_openai, body, true, wishes), usage: wishes.usage };
    match path.ends_with("/converse-stream") {
        true => streamed("application/vnd.amazon.eventstream", said.events(), wishes),
        false => plain(StatusCode::OK, &said.whole()),
    }
}

/// The answer of a model in its own format.
fn invoked(head: &RequestHead, path: &str, request: &Value, body: &[u8], wishes: &Wishes) -> Response {
    if request["inputText"].is_string() {
        let answer = json!({"embedding": [0.6, 0.8], "inputTextTokenCount": body.len().div_ceil(4)});
        return plain(StatusCode::OK, &answer);
    }
    if request["taskType"].is_string() {
        let count = request["imageGenerationConfig"]["numberOfImages"].as_u64().unwrap_or(1).min(5);
        let images: Vec<&str> = (0..count).map(|_| PIXEL).collect();
        return plain(StatusCode::OK, &json!({"images": images, "error": null}));
    }
    for name in ["anthropic_version", "max_tokens", "messages"] {
        if request[name].is_null() {
            return error_of(StatusCode::BAD_REQUEST, &format!("{name}: Field required"));
        }
    }
    if !request["model"].is_null() || !request["stream"].is_null() {
        return error_of(StatusCode::BAD_REQUEST, "model: Extra inputs are not permitted");
    }
    let streams = path.ends_with("/invoke-with-response-stream");
    match anthropic::said(head, request, &json!("claude-mock"), body, streams, wishes) {
        anthropic::Said::Events(events) => {
            let chunk = |said: &Value| event("chunk", &json!({"bytes": STANDARD.encode(said.to_string())}));
            let events = events.iter().map(chunk).collect();
            streamed("application/vnd.amazon.eventstream", events, wishes)
        }
        anthropic::Said::Whole(answer) => plain(StatusCode::OK, &answer),
    }
}

/// An error of this status.
pub(crate) fn error_of(status: StatusCode, message: &str) -> Response {
    let mut response = plain(status, &json!({"message": message}));
    let kind = match status.as_u16() {
        403 => "AccessDeniedException",
        404 => "ResourceNotFoundException",
        429 => "ThrottlingException",
        503 => "ServiceUnavailableException",
        400..=499 => "ValidationException",
        _ => "InternalServerException",
    };
    response.headers.set("x-amzn-ErrorType", kind);
    response
}

/// What the reply is made of, in OpenAI's words.
fn as_openai(request: &Value) -> Value {
    let tools: Vec<Value> = request["toolConfig"]["tools"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|tool| tool["toolSpec"].is_object())
        .map(|tool| json!({"function": {"name": tool["toolSpec"]["name"]}}))
        .collect();
    let choice = &request["toolConfig"]["toolChoice"];
    let choice = match (choice["any"].is_object(), choice["tool"]["name"].as_str()) {
        (true, _) => json!("required"),
        (_, Some(name)) => json!({"function": {"name": name}}),
        _ => Value::Null,
    };
    let mut messages = request["messages"].clone();
    if let Some(last) = messages.as_array_mut().and_then(|messages| messages.last_mut())
        && last["content"][0]["toolResult"].is_object()
    {
        last["role"] = "tool".into();
    }
    let limit = &request["inferenceConfig"]["maxTokens"];
    json!({"messages": messages, "tools": tools, "tool_choice": choice, "max_tokens": limit})
}

struct Said<'a> {
    reply: Reply<'a>,
    usage: bool,
}

impl Said<'_> {
    fn stop_reason(&self) -> &'static str {
        match self.reply.finish_reason() {
            "tool_calls" => "tool_use",
            "length" => "max_tokens",
            _ => "end_turn",
        }
    }

    fn usage(&self) -> Value {
        let (input, output) = (self.reply.prompt_tokens, self.reply.words.len());
        json!({"inputTokens": input, "outputTokens": output, "totalTokens": input + output})
    }

    fn whole(&self) -> Value {
        let mut content: Vec<Value> = self
            .reply
            .calls
            .iter()
            .map(|call| {
                let arguments = call["function"]["arguments"].as_str().unwrap_or_default();
                let input: Value = serde_json::from_str(arguments).unwrap_or_default();
                json!({"toolUse": {"toolUseId": call["id"], "name": call["function"]["name"], "input": input}})
            })
            .collect();
        if content.is_empty() {
            content.push(json!({"text": self.reply.words.concat()}));
        }
        let mut answer = json!({
            "output": {"message": {"role": "assistant", "content": content}},
            "stopReason": self.stop_reason(),
            "metrics": {"latencyMs": 1},
        });
        if self.usage {
            answer["usage"] = self.usage();
        }
        answer
    }

    fn events(&self) -> Vec<Bytes> {
        let mut events = vec![event("messageStart", &json!({"role": "assistant"}))];
        let delta = |index: usize, delta: Value| {
            event("contentBlockDelta", &json!({"contentBlockIndex": index, "delta": delta}))
        };
        let stop = |index: usize| event("contentBlockStop", &json!({"contentBlockIndex": index}));
        if self.reply.calls.is_empty() {
            events.extend(self.reply.words.iter().map(|word| delta(0, json!({"text": word}))));
            events.push(stop(0));
        }
        for (index, call) in self.reply.calls.iter().enumerate() {
            let tool = json!({"toolUseId": call["id"], "name": call["function"]["name"]});
            let start = json!({"contentBlockIndex": index, "start": {"toolUse": tool}});
            events.push(event("contentBlockStart", &start));
            let arguments = call["function"]["arguments"].as_str().unwrap_or_default();
            let (one, two) = arguments.split_at(arguments.len() / 2);
            for part in ["", one, two] {
                events.push(delta(index, json!({"toolUse": {"input": part}})));
            }
            events.push(stop(index));
        }
        events.push(event("messageStop", &json!({"stopReason": self.stop_reason()})));
        if self.usage {
            events.push(event("metadata", &json!({"usage": self.usage(), "metrics": {"latencyMs": 1}})));
        }
        events
    }
}

/// An event as AWS frames it.
fn event(kind: &'static str, payload: &Value) -> Bytes {
    let header =
        |name: &'static str, value: &'static str| Header::new(name, HeaderValue::String(value.into()));
    let headers = vec![
        header(":event-type", kind),
        header(":content-type", "application/json"),
        header(":message-type", "event"),
    ];
    let mut bytes = Vec::new();
    let message = Message::new_from_parts(headers, payload.to_string().into_bytes());
    // Only headers and payloads beyond what the mock writes are too long.
    write_message_to(&message, &mut bytes).ok().map(|()| bytes.into()).unwrap_or_default()
}
