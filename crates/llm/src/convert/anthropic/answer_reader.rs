//! Anthropic's answers, whole and streamed, read.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::convert::answer::{Answer, Block, Choice, Failure, Finish, Tokens, failed};
use crate::convert::events::Events;
use crate::provider::{Asked, Stream, StreamWishes};
use crate::sse::{self, Splitter};
use crate::usage::Seen;
use crate::{Format, Operation};

const NAME: &str = "anthropic";

/// A whole answer of a chat.
///
/// # Errors
/// Why it cannot be understood, in Kong's words.
pub(crate) fn chat(body: &[u8], asked: &Asked<'_>, seen: Option<&mut Seen>) -> Result<Vec<u8>, String> {
    let given = read(body, asked.operation)?;
    let Some(blocks) = given.get("content").and_then(Value::as_array) else {
        return Err(failed(NAME, asked.operation, "'content' not in anthropic://llm/v1/chat response"));
    };
    let reason = text(&given, "stop_reason").unwrap_or_default();
    let finish = finish(reason, text(&given, "stop_sequence"));
    let mut choice = Choice { joint: "\n", finish, ..Choice::default() };
    for block in blocks {
        let string = |name: &str| block[name].as_str().unwrap_or_default().to_owned();
        match block["type"].as_str() {
            Some("text") => choice.blocks.push(Block::Text(string("text"))),
            Some("thinking") => choice.blocks.push(Block::Reasoning {
                text: string("thinking"),
                signature: block["signature"].as_str().map(str::to_owned),
            }),
            Some("redacted_thinking") => choice.blocks.push(Block::Redacted(string("data"))),
            Some("tool_use") => choice.add_call(&block["id"], &block["name"], &block["input"]),
            _ => {}
        }
    }
    let answer = Answer {
        id: text(&given, "id").map(str::to_owned),
        model: text(&given, "model").map(str::to_owned),
        choices: vec![choice],
        tokens: given.get("usage").and_then(tokens),
        without_tokens: match given.get("usage") {
            None | Some(Value::Null) => "no usage data returned from upstream".into(),
            Some(_) => json!({}),
        },
        ..Answer::default()
    };
    Ok(answer.write(asked, seen))
}

/// Takes in what a whole answer says that passes as it is.
pub(crate) fn look(body: &[u8], seen: &mut Seen) {
    let Ok(given) = serde_json::from_slice::<Map<String, Value>>(body) else { return };
    seen.model = text(&given, "model").map(str::to_owned);
    seen.usage = given.get("usage").and_then(tokens).map(Tokens::usage);
}

/// A whole text completion.
///
/// # Errors
/// Why it cannot be understood, in Kong's words.
pub(crate) fn completion(body: &[u8], asked: &Asked<'_>, seen: Option<&mut Seen>) -> Result<Vec<u8>, String> {
    let given = read(body, asked.operation)?;
    let Some(completion) = text(&given, "completion") else {
        return Err(failed(NAME, asked.operation, "'completion' not in anthropic://llm/v1/chat response"));
    };
    let model = text(&given, "model").unwrap_or(asked.model);
    if let Some(seen) = seen {
        seen.model = Some(model.to_owned());
    }
    let answer = json!({
        "id": text(&given, "id").unwrap_or(asked.id),
        "object": "text_completion",
        "created": asked.created,
        "model": model,
        "choices": [{"index": 0, "text": completion, "logprobs": null, "finish_reason": given.get("stop_reason")}],
    });
    Ok(answer.to_string().into_bytes())
}

/// An error answer; `None` where it is not Anthropic's.
pub(crate) fn error(status: u16, body: &[u8], format: Format) -> Option<Vec<u8>> {
    let given: Value = serde_json::from_slice(body).ok()?;
    let error = &given["error"];
    let failure = Failure { message: error["message"].as_str()?, kind: error["type"].as_str()?, status };
    Some(failure.write(format).to_string().into_bytes())
}

fn read(body: &[u8], operation: Operation) -> Result<Map<String, Value>, String> {
    serde_json::from_slice(body).map_err(|_| failed(NAME, operation, "failed to decode anthropic response"))
}

fn text<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    object.get(name).and_then(Value::as_str)
}

fn finish(reason: &str, sequence: Option<&str>) -> Finish {
    match reason {
        "max_tokens" | "model_context_window_exceeded" => Finish::Length,
        "tool_use" => Finish::Calls,
        "refusal" => Finish::Filtered,
        "stop_sequence" => Finish::Sequence(sequence.map(str::to_owned)),
        _ => Finish::Stop,
    }
}

/// Anthropic's `usage`; of one that tells iterations, their sum. `None` where it tells nothing.
fn tokens(usage: &Value) -> Option<Tokens> {
    if let Some(iterations) = usage["iterations"].as_array().filter(|list| !list.is_empty()) {
        let mut sum = Tokens { service_tier: service_tier(usage), ..Tokens::default() };
        for each in iterations.iter().filter_map(tokens_of_one) {
            sum.prompt += each.prompt;
            sum.completion += each.completion;
            sum.cached = each.cached.map(|cached| sum.cached.unwrap_or(0) + cached).or(sum.cached);
            let written = each.cache_written.map(|count| sum.cache_written.unwrap_or(0) + count);
            sum.cache_written = written.or(sum.cache_written);
            let hour = each.cache_written_hour.map(|count| sum.cache_written_hour.unwrap_or(0) + count);
            sum.cache_written_hour = hour.or(sum.cache_written_hour);
            sum.reasoning = each.reasoning.map(|count| sum.reasoning.unwrap_or(0) + count).or(sum.reasoning);
        }
        return Some(sum);
    }
    tokens_of_one(usage)
}

fn service_tier(usage: &Value) -> Option<&'static str> {
    let told = usage["service_tier"].as_str()?;
    ["standard", "priority", "batch"].into_iter().find(|tier| *tier == told)
}

fn tokens_of_one(usage: &Value) -> Option<Tokens> {
    let count = |name: &str| usage[name].as_u64();
    let (fresh, completion) = (count("input_tokens"), count("output_tokens"));
    if fresh.is_none() && completion.is_none() {
        return None;
    }
    let (read, written) = (count("cache_read_input_tokens"), count("cache_creation_input_tokens"));
    Some(Tokens {
        prompt: fresh.unwrap_or(0) + read.unwrap_or(0) + written.unwrap_or(0),
        cached: read,
        cache_written: written,
        cache_written_hour: usage["cache_creation"]["ephemeral_1h_input_tokens"].as_u64(),
        completion: completion.unwrap_or(0),
        reasoning: usage["output_tokens_details"]["thinking_tokens"].as_u64(),
        service_tier: service_tier(usage),
        ..Tokens::default()
    })
}

/// A streamed answer.
pub(crate) struct Reader {
    splitter: Splitter,
    translation: Translation,
}

/// What Anthropic's events become.
struct Translation {
    events: Events,
    /// `usage` as told so far: later events replace what they name.
    usage: Map<String, Value>,
}

/// An event. Text stays JSON text, for it goes out as such.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    message: Option<Message<'a>>,
    #[serde(borrow)]
    content_block: Option<StreamedBlock<'a>>,
    #[serde(borrow)]
    delta: Option<Delta<'a>>,
    usage: Option<Map<String, Value>>,
    error: Option<Value>,
    #[serde(borrow)]
    completion: Option<&'a RawValue>,
    #[serde(borrow)]
    stop_reason: Option<Cow<'a, str>>,
    #[serde(borrow)]
    model: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    model: Option<Cow<'a, str>>,
    usage: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
struct StreamedBlock<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(borrow)]
    thinking: Option<&'a RawValue>,
    #[serde(borrow)]
    signature: Option<&'a RawValue>,
    #[serde(borrow)]
    partial_json: Option<&'a RawValue>,
    #[serde(borrow)]
    stop_reason: Option<Cow<'a, str>>,
    stop_sequence: Option<String>,
}

impl Reader {
    pub fn new(asked: &Asked<'_>, wishes: StreamWishes) -> Self {
        let translation = Translation { events: Events::new(asked, wishes), usage: Map::new() };
        Self { splitter: Splitter::default(), translation }
    }
}

impl Stream for Reader {
    fn chunk(&mut self, chunk: Bytes) -> Bytes {
        let Self { splitter, translation } = self;
        splitter.watch(&chunk, |event| translation.event(event));
        self.translation.events.take()
    }

    fn end(&mut self) -> Bytes {
        let rest = self.splitter.end();
        self.translation.event(&rest);
        let events = &mut self.translation.events;
        events.close("Anthropic");
        events.take()
    }

    fn take_seen(&mut self) -> Seen {
        self.translation.events.take_seen()
    }
}

impl Translation {
    fn event(&mut self, event: &[u8]) {
        for data in sse::data(event) {
            match serde_json::from_slice::<Event<'_>>(data) {
                Ok(event) => self.translate(&event),
                Err(_) => self.events.fail("an event of Anthropic's answer is no JSON", "server_error", 502),
            }
        }
    }

    fn translate(&mut self, event: &Event<'_>) {
        let events = &mut self.events;
        match &*event.kind {
            "message_start" => {
                if let Some(message) = &event.message {
                    events.name(message.id.as_deref(), message.model.as_deref());
                    self.count(message.usage.as_ref());
                }
                self.events.start();
            }
            "content_block_start" => {
                let Some(block) = &event.content_block else { return };
                match (&*block.kind, &block.id, &block.name, block.text) {
                    ("tool_use", Some(id), Some(name), _) => events.call(id, name),
                    ("text", _, _, Some(text)) => events.text(text.get()),
                    ("redacted_thinking", ..) => {
                        if let Some(data) = block.data {
                            events.redacted(data.get());
                        }
                    }
                    _ => {}
                }
            }
            "content_block_delta" => {
                let Some(delta) = &event.delta else { return };
                if let Some(text) = delta.text {
                    events.text(text.get());
                } else if let Some(arguments) = delta.partial_json {
                    events.arguments(arguments.get());
                } else if let Some(thinking) = delta.thinking {
                    events.reasoning(thinking.get());
                } else if let Some(signature) = delta.signature {
                    events.signature(signature.get());
                }
            }
            "content_block_stop" => events.end_call(),
            "message_delta" => {
                self.count(event.usage.as_ref());
                let Some(delta) = &event.delta else { return };
                if let Some(reason) = &delta.stop_reason {
                    let sequence = delta.stop_sequence.as_deref();
                    self.events.finish(finish(reason, sequence));
                }
            }
            "message_stop" => events.done(),
            "completion" => {
                if events.seen.model.is_none() {
                    events.name(None, event.model.as_deref());
                }
                if let Some(text) = event.completion {
                    events.text(text.get());
                }
                if let Some(reason) = &event.stop_reason {
                    events.finish(Finish::Other(reason.clone().into_owned()));
                    events.done();
                }
            }
            "error" => {
                let error = event.error.clone().unwrap_or_default();
                let kind = error["type"].as_str().unwrap_or("api_error");
                let message =
                    error["message"].as_str().unwrap_or("Anthropic tells of an error, but not of which");
                events.fail(message, kind, status_of(kind));
            }
            _ => {}
        }
    }

    fn count(&mut self, usage: Option<&Map<String, Value>>) {
        let Some(usage) = usage else { return };
        let told = usage.iter().filter(|(_, value)| !value.is_null());
        self.usage.extend(told.map(|(name, value)| (name.clone(), value.clone())));
        let usage = Value::Object(std::mem::take(&mut self.usage));
        self.events.tokens = tokens(&usage);
        if let Value::Object(usage) = usage {
            self.usage = usage;
        }
    }
}

/// The status that an error would have as an answer.
fn status_of(kind: &str) -> u16 {
    match kind {
        "invalid_request_error" => 400,
        "authentication_error" => 401,
        "billing_error" => 402,
        "permission_error" => 403,
        "not_found_error" => 404,
        "request_too_large" => 413,
        "rate_limit_error" => 429,
        "timeout_error" => 504,
        "overloaded_error" => 529,
        _ => 500,
    }
}
