//! OpenAI's API, as far as the mock knows it.

use bytes::Bytes;
use serde_json::{Value, json};
use tollgate_http::{Method, RequestHead, Response, StatusCode};

use crate::reply::Reply;
use crate::{Wishes, error, operations, plain, streamed};

const CREATED: u64 = 1_741_569_952;
const ID: &str = "chatcmpl-mock-7PbQmXc2";

pub(crate) fn answer(head: &RequestHead, path: &str, body: &[u8], wishes: &Wishes) -> Response {
    let ends = |end: &str| path.trim_end_matches('/').ends_with(end);
    if head.method == Method::GET && path.contains("/models") {
        return models(path);
    }
    if let Some(answer) = operations::answer(head, path, body, wishes) {
        return answer;
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

/// An error of this status.
pub(crate) fn error_of(status: StatusCode, message: &str) -> Response {
    let kind = match status.as_u16() {
        401 => "invalid_request_error",
        429 => "rate_limit_exceeded",
        400..=499 => "invalid_request_error",
        _ => "server_error",
    };
    error(status, message, kind)
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

impl Reply<'_> {
    fn usage(&self) -> Value {
        let completion = self.words.len();
        json!({
            "prompt_tokens": self.prompt_tokens, "completion_tokens": completion, "total_tokens": self.prompt_tokens + completion,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}
        })
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
        streamed("text/event-stream; charset=utf-8", events, wishes)
    }
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

/// A vector of length one: the same for the same text, and the nearer to another's the more words they share.
fn vector(input: &str, dimensions: usize) -> Vec<f32> {
    let mut sum = vec![0.0f32; dimensions];
    let words = input.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty());
    let mut add = |word: &str| {
        let direction = direction(&word.to_lowercase(), dimensions);
        sum.iter_mut().zip(direction).for_each(|(sum, number)| *sum += number);
    };
    let count = words.map(&mut add).count();
    if count == 0 {
        add(input);
    }
    normalised(sum)
}

/// A direction that a word has, and hardly any other.
fn direction(word: &str, dimensions: usize) -> Vec<f32> {
    let mut state = word
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let number = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    normalised((0..dimensions).map(number).collect())
}

fn normalised(vector: Vec<f32>) -> Vec<f32> {
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    vector.into_iter().map(|value| value / length).collect()
}

fn encode(vector: &[f32]) -> String {
    use base64::Engine;
    let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
