//! OpenAI's API, as far as the mock knows it.

use bytes::Bytes;
use serde_json::{Value, json};
use tollgate_http::{Body, Method, RequestHead, Response, StatusCode};

use crate::{Events, Wishes, error, labelled, plain};

const CREATED: u64 = 1_741_569_952;
const ID: &str = "chatcmpl-mock-7PbQmXc2";

pub(crate) fn answer(head: &RequestHead, path: &str, body: &[u8], wishes: &Wishes) -> Response {
    let ends = |end: &str| path.trim_end_matches('/').ends_with(end);
    if head.method == Method::GET && path.contains("/models") {
        return models(path);
    }
    let known = ["/chat/completions", "/completions", "/embeddings"].iter().any(|end| ends(end));
    if !known {
        let message = format!("Invalid URL ({} {path})", head.method);
        return error(StatusCode::NOT_FOUND, &message, "invalid_request_error");
    }
    let Ok(Value::Object(request)) = serde_json::from_slice(body) else {
        let message = "We could not parse the JSON body of your request.";
        return error(StatusCode::BAD_REQUEST, message, "invalid_request_error");
    };
    let request = Value::Object(request);
    let needed = match path {
        _ if ends("/chat/completions") => "messages",
        _ if ends("/embeddings") => "input",
        _ => "prompt",
    };
    for name in ["model", needed] {
        if request[name].is_null() {
            let message = format!("Missing required parameter: '{name}'.");
            return error(StatusCode::BAD_REQUEST, &message, "invalid_request_error");
        }
    }
    if needed == "input" {
        return embeddings(&request);
    }
    let chat = needed == "messages";
    let reply = Reply::new(head, &request, body, chat, wishes);
    if request["stream"] == json!(true) {
        reply.streamed(wishes)
    } else {
        plain(StatusCode::OK, &reply.whole(wishes))
    }
}

/// The list of models, or one of them: any, for the mock answers under every name.
fn models(path: &str) -> Response {
    let model =
        |id: &str| json!({"id": id, "object": "model", "created": CREATED, "owned_by": "tollgate-mock"});
    match path.rsplit_once("/models/") {
        Some((_, id)) if !id.is_empty() => plain(StatusCode::OK, &model(id)),
        _ => plain(StatusCode::OK, &json!({"object": "list", "data": [model("gpt-4.1"), model("mock")]})),
    }
}

/// What the mock says.
struct Reply<'a> {
    request: &'a Value,
    chat: bool,
    words: Vec<String>,
    calls: Vec<Value>,
    prompt_tokens: usize,
}

impl<'a> Reply<'a> {
    fn new(head: &RequestHead, request: &'a Value, body: &[u8], chat: bool, wishes: &Wishes) -> Self {
        let question = last_question(request);
        let text = if wishes.echo {
            let headers: serde_json::Map<String, Value> = head
                .headers
                .iter()
                .map(|(name, value)| {
                    (
                        String::from_utf8_lossy(name).to_ascii_lowercase(),
                        String::from_utf8_lossy(value).into(),
                    )
                })
                .collect();
            let target = String::from_utf8_lossy(&head.target).into_owned();
            json!({"method": head.method.as_str(), "target": target, "headers": headers, "body": String::from_utf8_lossy(body)}).to_string()
        } else {
            format!("This is Tollgate's mock LLM, not a real model. You asked: {question}")
        };
        let mut words: Vec<String> = match wishes.echo {
            true => vec![text],
            false => text.split_inclusive(' ').map(str::to_owned).collect(),
        };
        if let Some(tokens) = wishes.tokens {
            words = (0..tokens).map(|number| format!("word{number} ")).collect();
        }
        let limit = request["max_tokens"].as_u64().or(request["max_completion_tokens"].as_u64());
        if let Some(limit) = limit {
            words.truncate(limit.max(1) as usize);
        }
        let prompt_tokens = body.len().div_ceil(4);
        Self { request, chat, words, calls: tool_calls(request, &question), prompt_tokens }
    }

    fn usage(&self) -> Value {
        let completion = self.words.len();
        json!({
            "prompt_tokens": self.prompt_tokens, "completion_tokens": completion, "total_tokens": self.prompt_tokens + completion,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}
        })
    }

    fn finish_reason(&self) -> &'static str {
        let limit = self.request["max_tokens"].as_u64().or(self.request["max_completion_tokens"].as_u64());
        if !self.calls.is_empty() {
            "tool_calls"
        } else if limit.is_some_and(|limit| limit as usize == self.words.len()) {
            "length"
        } else {
            "stop"
        }
    }

    fn frame(&self, object: &str, choices: Value) -> Value {
        json!({
            "id": ID, "object": object, "created": CREATED, "model": self.request["model"], "choices": choices,
            "service_tier": "default", "system_fingerprint": "fp_tollgate_mock"
        })
    }

    fn whole(&self, wishes: &Wishes) -> Value {
        let text = self.words.concat();
        let reason = self.finish_reason();
        let mut answer = if self.chat {
            let mut message =
                json!({"role": "assistant", "content": text, "refusal": null, "annotations": []});
            if !self.calls.is_empty() {
                message["content"] = Value::Null;
                message["tool_calls"] = Value::Array(self.calls.clone());
            }
            self.frame(
                "chat.completion",
                json!([{"index": 0, "message": message, "logprobs": null, "finish_reason": reason}]),
            )
        } else {
            self.frame(
                "text_completion",
                json!([{"index": 0, "text": text, "logprobs": null, "finish_reason": reason}]),
            )
        };
        if wishes.usage {
            answer["usage"] = self.usage();
        }
        answer
    }

    fn streamed(&self, wishes: &Wishes) -> Response {
        let event = |value: &Value| Bytes::from(format!("data: {value}\n\n"));
        let mut events = Vec::new();
        let choice = |delta: Value, reason: Value| json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": reason}]);
        if self.chat {
            let object = "chat.completion.chunk";
            events.push(self.frame(
                object,
                choice(json!({"role": "assistant", "content": "", "refusal": null}), Value::Null),
            ));
            for (index, call) in self.calls.iter().enumerate() {
                let mut first = call.clone();
                first["index"] = index.into();
                first["function"]["arguments"] = "".into();
                events.push(self.frame(object, choice(json!({"tool_calls": [first]}), Value::Null)));
                let arguments = call["function"]["arguments"].as_str().unwrap_or_default();
                let (one, two) = arguments.split_at(arguments.len() / 2);
                for part in [one, two] {
                    let delta = json!({"tool_calls": [{"index": index, "function": {"arguments": part}}]});
                    events.push(self.frame(object, choice(delta, Value::Null)));
                }
            }
            if self.calls.is_empty() {
                events.extend(
                    self.words
                        .iter()
                        .map(|word| self.frame(object, choice(json!({"content": word}), Value::Null))),
                );
            }
            events.push(self.frame(object, choice(json!({}), self.finish_reason().into())));
        } else {
            let choice = |text: &str, reason: Value| json!([{"index": 0, "text": text, "logprobs": null, "finish_reason": reason}]);
            events.extend(
                self.words.iter().map(|word| self.frame("text_completion", choice(word, Value::Null))),
            );
            events.push(self.frame("text_completion", choice("", self.finish_reason().into())));
        }
        if wishes.usage && self.request["stream_options"]["include_usage"] == json!(true) {
            for event in &mut events {
                event["usage"] = Value::Null;
            }
            let object = if self.chat { "chat.completion.chunk" } else { "text_completion" };
            let mut last = self.frame(object, json!([]));
            last["usage"] = self.usage();
            events.push(last);
        }
        let mut events: Vec<Bytes> = events.iter().map(event).collect();
        events.push(Bytes::from_static(b"data: [DONE]\n\n"));
        let mut response = labelled(StatusCode::OK);
        response.headers.set("Content-Type", "text/event-stream; charset=utf-8");
        response.body = Body::stream(Events {
            events: events.into_iter(),
            delay: wishes.chunk_delay,
            pause: None,
            abort_after: wishes.abort_after,
        });
        response
    }
}

/// The text of the last message, or the prompt.
fn last_question(request: &Value) -> String {
    let content = match request["messages"].as_array().and_then(|messages| messages.last()) {
        Some(message) => &message["content"],
        None => &request["prompt"],
    };
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    }
}

/// Calls of the tools that the request demands, or whose names the question holds.
fn tool_calls(request: &Value, question: &str) -> Vec<Value> {
    let answered = request["messages"]
        .as_array()
        .and_then(|messages| messages.last())
        .is_some_and(|last| last["role"] == "tool");
    let names: Vec<&str> = request["tools"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|tool| tool["function"]["name"].as_str())
        .collect();
    let chosen = request["tool_choice"]["function"]["name"].as_str();
    let wanted = names.iter().enumerate().filter(|(index, name)| {
        let demanded = chosen == Some(**name) || *index == 0 && request["tool_choice"] == "required";
        demanded || question.contains(**name) && request["tool_choice"] != "none"
    });
    if answered {
        return Vec::new();
    }
    wanted
        .map(|(index, name)| json!({"id": format!("call_mock_{index}"), "type": "function", "function": {"name": name, "arguments": "{\"mock\":true}"}}))
        .collect()
}

fn embeddings(request: &Value) -> Response {
    let inputs: Vec<String> = match &request["input"] {
        Value::Array(list) if list.iter().all(Value::is_string) => {
            list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
        }
        other => vec![other.to_string()],
    };
    let dimensions = request["dimensions"].as_u64().unwrap_or(8).clamp(1, 4096) as usize;
    let base64 = request["encoding_format"] == "base64";
    let data: Vec<Value> = inputs
        .iter()
        .enumerate()
        .map(|(index, input)| {
            let vector = vector(input, dimensions);
            let embedding = if base64 { encode(&vector).into() } else { json!(vector) };
            json!({"object": "embedding", "index": index, "embedding": embedding})
        })
        .collect();
    let tokens: usize = inputs.iter().map(|input| input.len().div_ceil(4)).sum();
    let answer = json!({"object": "list", "data": data, "model": request["model"], "usage": {"prompt_tokens": tokens, "total_tokens": tokens}});
    plain(StatusCode::OK, &answer)
}

/// The same vector of length one for the same text.
fn vector(input: &str, dimensions: usize) -> Vec<f32> {
    let mut state = input
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let raw: Vec<f32> = (0..dimensions)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect();
    let length = raw.iter().map(|value| value * value).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    raw.into_iter().map(|value| value / length).collect()
}

fn encode(vector: &[f32]) -> String {
    use base64::Engine;
    let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
