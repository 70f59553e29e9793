//! Answers to chats in OpenAI's format, whole and streamed, read for clients that speak another.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::Format;
use crate::convert::answer::{self, Answer, Block, Choice, Failure, Finish, Tokens, failed};
use crate::convert::audio::Audio;
use crate::convert::events::{Events, unquoted};
use crate::provider::{Asked, Stream, StreamWishes};
use crate::sse::{self, Splitter};
use crate::usage::Seen;

/// A whole answer of a provider.
///
/// # Errors
/// Why it cannot be understood, in Kong's words.
pub(crate) fn chat(
    provider: &str,
    body: &[u8],
    asked: &Asked<'_>,
    seen: Option<&mut Seen>,
) -> Result<Vec<u8>, String> {
    let name = asked.operation.name();
    let mut given: Map<String, Value> = serde_json::from_slice(body)
        .map_err(|_| failed(provider, asked.operation, &format!("failed to decode {name} response")))?;
    let Some(Value::Array(choices)) = given.shift_remove("choices") else {
        return Err(failed(provider, asked.operation, &format!("'choices' not in {name} response")));
    };
    let text = |name: &str| given.get(name).and_then(Value::as_str).map(str::to_owned);
    let answer = Answer {
        // Hugging Face's servers have no ids, and say so with an empty one.
        id: text("id").filter(|id| !id.is_empty()),
        model: text("model"),
        choices: choices.into_iter().map(choice).collect(),
        tokens: given.get("usage").and_then(tokens),
        ..Answer::default()
    };
    Ok(answer.write(asked, seen))
}

fn choice(mut given: Value) -> Choice {
    let mut choice = Choice {
        finish: finish(given["finish_reason"].as_str().unwrap_or("stop")),
        logprobs: given.get_mut("logprobs").map(Value::take).filter(|value| !value.is_null()),
        ..Choice::default()
    };
    let message = &given["message"];
    let string = |name: &str| message[name].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let thoughts = string("reasoning_content").or_else(|| string("reasoning"));
    choice.blocks.extend(thoughts.map(|text| Block::Reasoning { text, signature: None }));
    choice.blocks.extend(string("content").map(Block::Text));
    if message["audio"].is_object() {
        choice.blocks.push(Block::Audio(Audio::of_openai(&message["audio"])));
    }
    choice.blocks.extend(string("refusal").map(Block::Refusal));
    for call in message["tool_calls"].as_array().into_iter().flatten() {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        // Some have the object in place of its text.
        let arguments = match &call["function"]["arguments"] {
            object @ Value::Object(_) => object.to_string(),
            arguments => text(arguments),
        };
        choice.blocks.push(Block::Call {
            id: text(&call["id"]),
            name: text(&call["function"]["name"]),
            arguments: if arguments.trim().is_empty() { "{}".to_owned() } else { arguments },
        });
    }
    choice
}

fn finish(reason: &str) -> Finish {
    match reason {
        // Hugging Face's servers have words of their own.
        "stop" | "eos_token" => Finish::Stop,
        "stop_sequence" => Finish::Sequence(None),
        "length" => Finish::Length,
        "tool_calls" | "function_call" => Finish::Calls,
        "content_filter" => Finish::Filtered,
        "guardrail_intervened" => Finish::Guardrail,
        other => Finish::Other(other.to_owned()),
    }
}

pub(crate) fn tokens(usage: &Value) -> Option<Tokens> {
    Some(Tokens {
        prompt: usage["prompt_tokens"].as_u64()?,
        cached: usage["prompt_tokens_details"]["cached_tokens"].as_u64(),
        completion: usage["completion_tokens"].as_u64().unwrap_or(0),
        reasoning: usage["completion_tokens_details"]["reasoning_tokens"].as_u64(),
        prompt_audio: usage["prompt_tokens_details"]["audio_tokens"].as_u64(),
        completion_audio: usage["completion_tokens_details"]["audio_tokens"].as_u64(),
        ..Tokens::default()
    })
}

/// Whether this is an error in OpenAI's format, which not all give who speak it otherwise.
pub(crate) fn is_error(body: &[u8]) -> bool {
    serde_json::from_slice::<Value>(body).is_ok_and(|given| given["error"]["message"].is_string())
}

/// An error answer; `None` where it is not in OpenAI's format.
pub(crate) fn error(status: u16, body: &[u8], format: Format) -> Option<Vec<u8>> {
    let given: Value = serde_json::from_slice(body).ok()?;
    // Some tell it as a text, or beside `error`.
    let message = [&given["error"]["message"], &given["error"], &given["message"], &given["detail"]]
        .into_iter()
        .find_map(Value::as_str)?;
    let kind = given["error"]["type"].as_str().unwrap_or_else(|| answer::kind_of(status));
    Some(Failure { message, kind, status }.write(format).to_string().into_bytes())
}

/// A streamed answer.
pub(crate) struct Reader {
    provider: &'static str,
    splitter: Splitter,
    events: Events,
    /// Of each of the answers, by its index.
    calls: BTreeMap<u64, Calls>,
}

/// Calls may come interleaved: one that begins before the arguments of the one under way are complete is held
/// until they are.
#[derive(Default)]
struct Calls {
    under_way: Option<(u64, Balance)>,
    held: Vec<(u64, Held)>,
}

#[derive(Default)]
struct Held {
    id: String,
    name: String,
    /// JSON texts of strings.
    arguments: Vec<String>,
}

/// How far the text of a JSON object is.
#[derive(Default)]
struct Balance {
    depth: usize,
    in_string: bool,
    escaped: bool,
    complete: bool,
}

impl Balance {
    fn add(&mut self, text: &str) {
        for byte in text.bytes() {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_string => self.escaped = true,
                b'"' => self.in_string = !self.in_string,
                b'{' | b'[' if !self.in_string => self.depth += 1,
                b'}' | b']' if !self.in_string => {
                    self.depth = self.depth.saturating_sub(1);
                    self.complete = self.depth == 0;
                }
                _ => {}
            }
        }
    }
}

/// An event. Text stays JSON text, for it goes out as such.
#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    model: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    choices: Vec<StreamedChoice<'a>>,
    usage: Option<Value>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct StreamedChoice<'a> {
    #[serde(default)]
    index: u64,
    #[serde(borrow)]
    delta: Option<Delta<'a>>,
    #[serde(borrow)]
    finish_reason: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    reasoning_content: Option<&'a RawValue>,
    #[serde(borrow)]
    reasoning: Option<&'a RawValue>,
    #[serde(borrow)]
    refusal: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_calls: Option<Vec<CallDelta<'a>>>,
    audio: Option<Value>,
}

/// A piece of a call. Cohere writes it so too, without the index.
#[derive(Deserialize)]
pub(crate) struct CallDelta<'a> {
    index: Option<u64>,
    #[serde(borrow)]
    pub id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub function: Option<FunctionDelta<'a>>,
}

/// What a piece of a call says of its function.
#[derive(Deserialize)]
pub(crate) struct FunctionDelta<'a> {
    #[serde(borrow)]
    pub name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub arguments: Option<&'a RawValue>,
}

impl Reader {
    pub fn new(provider: &'static str, asked: &Asked<'_>, wishes: StreamWishes) -> Self {
        let events = Events::new(asked, wishes);
        Self { provider, splitter: Splitter::default(), events, calls: BTreeMap::new() }
    }

    fn event(events: &mut Events, calls: &mut BTreeMap<u64, Calls>, provider: &str, event: &[u8]) {
        for data in sse::data(event) {
            match data {
                b"" => {}
                b"[DONE]" => {
                    end_calls(calls, events);
                    events.close(provider);
                }
                data => match serde_json::from_slice::<Chunk<'_>>(data) {
                    Ok(chunk) => Self::translate(events, calls, &chunk),
                    Err(_) => {
                        let message = format!("an event of {provider}'s answer is no JSON");
                        events.fail(&message, "server_error", 502);
                    }
                },
            }
        }
    }

    fn translate(events: &mut Events, calls: &mut BTreeMap<u64, Calls>, chunk: &Chunk<'_>) {
        if let Some(error) = chunk.error.as_ref().filter(|error| !error.is_null()) {
            let message = error["message"].as_str().or(error.as_str()).unwrap_or("the provider failed");
            let status = [&error["status"], &error["code"]].into_iter().find_map(Value::as_u64);
            let status = status.and_then(|status| u16::try_from(status).ok()).unwrap_or(500);
            let kind = error["type"].as_str().unwrap_or_else(|| answer::kind_of(status));
            return events.fail(message, kind, status);
        }
        if events.seen.model.is_none() && (chunk.id.is_some() || chunk.model.is_some()) {
            events.name(chunk.id.as_deref().filter(|id| !id.is_empty()), chunk.model.as_deref());
        }
        if let Some(told) = chunk.usage.as_ref().and_then(tokens) {
            events.tokens = Some(told);
        }
        for choice in &chunk.choices {
            if events.choice(choice.index) {
                Self::choice(events, calls.entry(choice.index).or_default(), choice);
            }
        }
    }

    fn choice(events: &mut Events, calls: &mut Calls, choice: &StreamedChoice<'_>) {
        events.start();
        if let Some(delta) = &choice.delta {
            if let Some(thought) = delta.reasoning_content.or(delta.reasoning) {
                events.reasoning(thought.get());
            }
            if let Some(text) = delta.content {
                events.text(text.get());
            }
            if let Some(text) = delta.refusal {
                events.refusal(text.get());
            }
            if let Some(piece) = &delta.audio {
                events.audio(Audio::of_openai(piece));
            }
            delta.tool_calls.iter().flatten().for_each(|call| calls.add(events, call));
        }
        if let Some(reason) = &choice.finish_reason {
            calls.end(events);
            events.finish(finish(reason));
        }
    }
}

/// Tells all that is held.
fn end_calls(all: &mut BTreeMap<u64, Calls>, events: &mut Events) {
    for (index, calls) in all {
        if events.choice(*index) {
            calls.end(events);
        }
    }
}

impl Calls {
    fn add(&mut self, events: &mut Events, call: &CallDelta<'_>) {
        // Some number no calls; then each that has an id is another one.
        let last = self.held.last().map(|(index, _)| *index);
        let last = last.or(self.under_way.as_ref().map(|(index, _)| *index));
        let index = call.index.unwrap_or_else(|| match (&call.id, last) {
            (Some(_), Some(last)) => last + 1,
            (_, last) => last.unwrap_or(0),
        });
        let function = call.function.as_ref();
        let piece = function.and_then(|function| function.arguments).map(RawValue::get);
        if let Some((_, balance)) = self.under_way.as_mut().filter(|(under_way, _)| *under_way == index) {
            if let Some(piece) = piece {
                balance.add(&unquoted(piece));
                events.arguments(piece);
            }
            return self.go_on(events);
        }
        if let Some((_, held)) = self.held.iter_mut().find(|(other, _)| *other == index) {
            return held.arguments.extend(piece.map(str::to_owned));
        }
        let text = |text: Option<&Cow<'_, str>>| text.map(|text| text.clone().into_owned());
        let name = text(function.and_then(|function| function.name.as_ref())).unwrap_or_default();
        let held = Held {
            id: text(call.id.as_ref()).unwrap_or_else(|| format!("call_{index}")),
            name,
            arguments: piece.into_iter().map(str::to_owned).collect(),
        };
        self.held.push((index, held));
        self.go_on(events);
    }

    /// Begins the next call that is held, where none is under way whose arguments are not complete.
    fn go_on(&mut self, events: &mut Events) {
        while !self.held.is_empty() && self.under_way.as_ref().is_none_or(|(_, balance)| balance.complete) {
            self.begin(events);
        }
    }

    fn begin(&mut self, events: &mut Events) {
        let (index, held) = self.held.remove(0);
        events.call(&held.id, &held.name);
        let mut balance = Balance::default();
        for piece in &held.arguments {
            balance.add(&unquoted(piece));
            events.arguments(piece);
        }
        self.under_way = Some((index, balance));
    }

    /// Tells all that is held.
    fn end(&mut self, events: &mut Events) {
        while !self.held.is_empty() {
            self.begin(events);
        }
        self.under_way = None;
    }
}

impl Stream for Reader {
    fn chunk(&mut self, chunk: Bytes) -> Bytes {
        let Self { provider, splitter, events, calls } = self;
        splitter.watch(&chunk, |event| Self::event(events, calls, provider, event));
        self.events.take()
    }

    fn end(&mut self) -> Bytes {
        let rest = self.splitter.end();
        Self::event(&mut self.events, &mut self.calls, self.provider, &rest);
        end_calls(&mut self.calls, &mut self.events);
        self.events.close(self.provider);
        self.events.take()
    }

    fn take_seen(&mut self) -> Seen {
        self.events.take_seen()
    }
}
