//! Anthropic's Messages API, as far as the mock knows it.

use serde_json::{Value, json};
use tollgate_http::{RequestHead, Response, StatusCode};

use crate::reply::Reply;
use crate::{Wishes, plain, streamed};

const ID: &str = "msg_mock_7PbQmXc2";

pub(crate) fn answer(head: &RequestHead, path: &str, body: &[u8], wishes: &Wishes) -> Response {
    if !head.headers.contains("anthropic-version") {
        return error_of(StatusCode::BAD_REQUEST, "anthropic-version: header is required");
    }
    let Ok(Value::Object(request)) = serde_json::from_slice(body) else {
        return error_of(StatusCode::BAD_REQUEST, "The request body is not valid JSON.");
    };
    let request = Value::Object(request);
    let counts = path.ends_with("/count_tokens");
    for name in ["model", "messages", "max_tokens"] {
        if request[name].is_null() && !(counts && name == "max_tokens") {
            return error_of(StatusCode::BAD_REQUEST, &format!("{name}: Field required"));
        }
    }
    if counts {
        return plain(StatusCode::OK, &json!({"input_tokens": body.len().div_ceil(4)}));
    }
    let streams = request["stream"] == true;
    match said(head, &request, &request["model"], body, streams, wishes) {
        Said::Events(events) => {
            let events = events.iter().map(|event| {
                format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default()).into()
            });
            streamed("text/event-stream; charset=utf-8", events.collect(), wishes)
        }
        Said::Whole(answer) => plain(StatusCode::OK, &answer),
    }
}

/// What is said to a request, as the API puts it.
pub(crate) enum Said {
    Whole(Value),
    Events(Vec<Value>),
}

pub(crate) fn said(
    head: &RequestHead,
    request: &Value,
    model: &Value,
    body: &[u8],
    streams: bool,
    wishes: &Wishes,
) -> Said {
    let as_openai = as_openai(request);
    let reply = Reply::new(head, &as_openai, body, true, wishes);
    let message = Message { reply, model, usage: wishes.usage };
    match streams {
        true => Said::Events(message.events()),
        false => Said::Whole(message.whole()),
    }
}

/// An error of this status.
pub(crate) fn error_of(status: StatusCode, message: &str) -> Response {
    let kind = match status.as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    };
    let error =
        json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_mock"});
    plain(status, &error)
}

/// What the reply is made of, in OpenAI's words.
fn as_openai(request: &Value) -> Value {
    let tools: Vec<Value> = request["tools"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|tool| json!({"function": {"name": tool["name"]}}))
        .collect();
    let choice = match request["tool_choice"]["type"].as_str() {
        Some("any") => json!("required"),
        Some("tool") => json!({"function": {"name": request["tool_choice"]["name"]}}),
        Some(other) => json!(other),
        None => Value::Null,
    };
    let mut messages = request["messages"].clone();
    if let Some(last) = messages.as_array_mut().and_then(|messages| messages.last_mut())
        && last["content"][0]["type"] == "tool_result"
    {
        last["role"] = "tool".into();
    }
    json!({"messages": messages, "tools": tools, "tool_choice": choice, "max_tokens": request["max_tokens"]})
}

struct Message<'a> {
    reply: Reply<'a>,
    model: &'a Value,
    usage: bool,
}

impl Message<'_> {
    fn stop_reason(&self) -> &'static str {
        match self.reply.finish_reason() {
            "tool_calls" => "tool_use",
            "length" => "max_tokens",
            _ => "end_turn",
        }
    }

    fn message(&self, content: Value, stop_reason: Value, output_tokens: usize) -> Value {
        let mut message = json!({
            "id": ID, "type": "message", "role": "assistant", "model": self.model,
            "content": content, "stop_reason": stop_reason, "stop_sequence": null,
        });
        if self.usage {
            message["usage"] = json!({
                "input_tokens": self.reply.prompt_tokens, "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 0, "output_tokens": output_tokens, "service_tier": "standard",
            });
        }
        message
    }

    /// The calls as content blocks, with their arguments as JSON text.
    fn calls(&self) -> impl Iterator<Item = (Value, &str)> {
        self.reply.calls.iter().map(|call| {
            let block =
                json!({"type": "tool_use", "id": call["id"], "name": call["function"]["name"], "input": {}});
            (block, call["function"]["arguments"].as_str().unwrap_or_default())
        })
    }

    fn whole(&self) -> Value {
        let mut content: Vec<Value> = self
            .calls()
            .map(|(mut block, arguments)| {
                block["input"] = serde_json::from_str(arguments).unwrap_or_default();
                block
            })
            .collect();
        if content.is_empty() {
            content.push(json!({"type": "text", "text": self.reply.words.concat()}));
        }
        self.message(content.into(), self.stop_reason().into(), self.reply.words.len())
    }

    fn events(&self) -> Vec<Value> {
        let mut events =
            vec![json!({"type": "message_start", "message": self.message(json!([]), Value::Null, 1)})];
        let delta = |index: usize, delta: Value| json!({"type": "content_block_delta", "index": index, "delta": delta});
        let start = |index: usize, block: &Value| json!({"type": "content_block_start", "index": index, "content_block": block});
        let stop = |index: usize| json!({"type": "content_block_stop", "index": index});
        events.push(json!({"type": "ping"}));
        if self.reply.calls.is_empty() {
            events.push(start(0, &json!({"type": "text", "text": ""})));
            let words = self.reply.words.iter();
            events.extend(words.map(|word| delta(0, json!({"type": "text_delta", "text": word}))));
            events.push(stop(0));
        }
        for (index, (block, arguments)) in self.calls().enumerate() {
            events.push(start(index, &block));
            let (one, two) = arguments.split_at(arguments.len() / 2);
            for part in ["", one, two] {
                events.push(delta(index, json!({"type": "input_json_delta", "partial_json": part})));
            }
            events.push(stop(index));
        }
        let mut last = json!({"type": "message_delta", "delta": {"stop_reason": self.stop_reason(), "stop_sequence": null}});
        if self.usage {
            last["usage"] = json!({"output_tokens": self.reply.words.len()});
        }
        events.push(last);
        events.push(json!({"type": "message_stop"}));
        events
    }
}
