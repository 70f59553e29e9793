//! Cohere's answers, whole and streamed, of its Chat in both versions and of its text completions, read.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::convert::answer::{self, Answer, Block, Choice, Failure, Finish, Tokens, failed};
use crate::convert::embeddings::Vectors;
use crate::convert::events::Events;
use crate::convert::lines::{Lines, json_of};
use crate::convert::openai::answer_reader::CallDelta;
use crate::json::quote;
use crate::provider::{Asked, Stream, StreamWishes};
use crate::usage::Seen;
use crate::{Format, Operation};

const NAME: &str = "cohere";

/// A whole answer, of a chat or a text completion.
///
/// # Errors
/// Why it cannot be understood, in Kong's words.
pub(crate) fn whole(body: &[u8], asked: &Asked<'_>, seen: Option<&mut Seen>) -> Result<Vec<u8>, String> {
    let failed = |reason| failed(NAME, asked.operation, reason);
    let given: Value =
        serde_json::from_slice(body).map_err(|_| failed("failed to decode cohere response"))?;
    let id = given["id"].as_str().or(given["generation_id"].as_str()).map(str::to_owned);
    let (choices, tokens) = if given["message"].is_object() {
        (vec![message(&given)], tokens(&given["usage"]))
    } else if let Some(text) = given["text"].as_str() {
        (
            vec![first_version(text, &given, asked)],
            tokens(&given["meta"]).or_else(|| counted(&given["token_count"])),
        )
    } else if let Some(generations) = given["generations"].as_array() {
        let choices = generations.iter().map(|one| Choice {
            blocks: vec![Block::Text(one["text"].as_str().unwrap_or_default().to_owned())],
            finish: finish(one["finish_reason"].as_str().unwrap_or_default()),
            ..Choice::default()
        });
        (choices.collect(), tokens(&given["meta"]))
    } else {
        return Err(failed("'text' or 'generations' missing from cohere response body"));
    };
    Ok(Answer { id, choices, tokens, ..Answer::default() }.write(asked, seen))
}

/// The answer of the second version.
fn message(given: &Value) -> Choice {
    let message = &given["message"];
    let mut choice = Choice {
        finish: finish(given["finish_reason"].as_str().unwrap_or_default()),
        logprobs: given["logprobs"].as_array().map(|all| logprobs(all)),
        ..Choice::default()
    };
    let text = |value: &Value| value.as_str().map(str::to_owned);
    choice.blocks.extend(text(&message["tool_plan"]).map(Block::Text));
    for part in message["content"].as_array().into_iter().flatten() {
        let thought = text(&part["thinking"]).map(|text| Block::Reasoning { text, signature: None });
        choice.blocks.extend(thought.or_else(|| text(&part["text"]).map(Block::Text)));
    }
    choice.blocks.extend(text(&message["content"]).map(Block::Text));
    for call in message["tool_calls"].as_array().into_iter().flatten() {
        let arguments = call["function"]["arguments"].as_str().unwrap_or_default();
        choice.blocks.push(Block::Call {
            id: text(&call["id"]).unwrap_or_default(),
            name: text(&call["function"]["name"]).unwrap_or_default(),
            arguments: if arguments.trim().is_empty() { "{}".to_owned() } else { arguments.to_owned() },
        });
    }
    choice
}

fn first_version(text: &str, given: &Value, asked: &Asked<'_>) -> Choice {
    let mut choice = Choice { blocks: vec![Block::Text(text.to_owned())], ..Choice::default() };
    for (index, call) in given["tool_calls"].as_array().into_iter().flatten().enumerate() {
        let id = format!("call_{}_{index}", asked.id).into();
        choice.add_call(&id, &call["name"], &call["parameters"]);
    }
    choice.finish = match finish(given["finish_reason"].as_str().unwrap_or_default()) {
        Finish::Stop if choice.calls() => Finish::Calls,
        finish => finish,
    };
    choice
}

fn finish(reason: &str) -> Finish {
    match reason {
        "MAX_TOKENS" | "ERROR_LIMIT" => Finish::Length,
        "TOOL_CALL" => Finish::Calls,
        "ERROR_TOXIC" => Finish::Filtered,
        "STOP_SEQUENCE" => Finish::Sequence(None),
        _ => Finish::Stop,
    }
}

/// What is billed; else what was counted.
fn tokens(usage: &Value) -> Option<Tokens> {
    let of = |units: &Value| {
        let prompt = units["input_tokens"].as_f64()?;
        let completion = units["output_tokens"].as_f64().unwrap_or(0.0) as u64;
        Some(Tokens { prompt: prompt as u64, completion, ..Tokens::default() })
    };
    let told = of(&usage["billed_units"]).or_else(|| of(&usage["tokens"]))?;
    Some(Tokens { cached: usage["cached_tokens"].as_f64().map(|count| count as u64), ..told })
}

fn counted(count: &Value) -> Option<Tokens> {
    let completion = count["response_tokens"].as_u64().unwrap_or(0);
    Some(Tokens { prompt: count["prompt_tokens"].as_u64()?, completion, ..Tokens::default() })
}

/// Probabilities as OpenAI tells them.
fn logprobs(all: &[Value]) -> Value {
    let content = all.iter().map(|piece| {
        let text = piece["text"].as_str().unwrap_or_default();
        json!({"token": text, "logprob": piece["logprobs"][0], "bytes": text.as_bytes(), "top_logprobs": []})
    });
    json!({"content": content.collect::<Vec<_>>(), "refusal": null})
}

/// Vectors.
///
/// # Errors
/// Why they cannot be understood, in Kong's words.
pub(crate) fn embeddings(body: &[u8], asked: &Asked<'_>, seen: Option<&mut Seen>) -> Result<Vec<u8>, String> {
    let failed = |reason| failed(NAME, asked.operation, reason);
    let mut given: Value =
        serde_json::from_slice(body).map_err(|_| failed("failed to decode cohere response"))?;
    let tokens = tokens(&given["meta"]).map(|tokens| tokens.prompt);
    let embeddings = match given["embeddings"].take() {
        Value::Object(mut by_type) => by_type.shift_remove("float").unwrap_or_default(),
        list => list,
    };
    match embeddings {
        Value::Array(vectors) => Ok(Vectors { vectors, tokens }.write(asked, seen)),
        _ => Err(failed("'embeddings' missing from cohere response body")),
    }
}

/// Takes in what a whole answer says that passes as it is. What ranks or embeds bills its own units.
pub(crate) fn look(body: &[u8], asked: &Asked<'_>, seen: &mut Seen) {
    let Ok(given) = serde_json::from_slice::<Value>(body) else { return };
    seen.model = Some(asked.model.to_owned());
    let told = tokens(&given["usage"]).or_else(|| tokens(&given["meta"]));
    seen.usage = told.map(Tokens::usage);
    if told.is_none() && (given["results"].is_array() || given["embeddings"].is_object()) {
        seen.usage = Some(Tokens::default().usage());
    }
}

/// An error answer; `None` where it is not Cohere's, or the client's format already.
pub(crate) fn error(status: u16, body: &[u8], format: Format) -> Option<Vec<u8>> {
    if format == Format::Cohere {
        return None;
    }
    let given: Value = serde_json::from_slice(body).ok()?;
    let failure = Failure { message: given["message"].as_str()?, kind: answer::kind_of(status), status };
    Some(failure.write(format).to_string().into_bytes())
}

/// A streamed answer: events, or lines of JSON.
pub(crate) struct Reader {
    lines: Lines,
    translation: Translation,
}

struct Translation {
    events: Events,
    id: String,
    chat: bool,
    calls: usize,
}

/// An event of either version. Text stays JSON text, for it goes out as such.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    event_type: Option<Cow<'a, str>>,
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    generation_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    /// Which of several text completions it is of.
    index: Option<u64>,
    #[serde(borrow)]
    delta: Option<Delta<'a>>,
    tool_calls: Option<Vec<Value>>,
    #[serde(borrow)]
    finish_reason: Option<Cow<'a, str>>,
    response: Option<Value>,
    message: Option<String>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow)]
    message: Option<Message<'a>>,
    #[serde(borrow)]
    finish_reason: Option<Cow<'a, str>>,
    error: Option<String>,
    usage: Option<Value>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_plan: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_calls: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(borrow)]
    thinking: Option<&'a RawValue>,
}

impl Reader {
    pub fn new(asked: &Asked<'_>, wishes: StreamWishes) -> Self {
        let translation = Translation {
            events: Events::new(asked, wishes),
            id: asked.id.to_owned(),
            chat: asked.operation == Operation::Chat,
            calls: 0,
        };
        Self { lines: Lines::default(), translation }
    }
}

impl Stream for Reader {
    fn chunk(&mut self, chunk: Bytes) -> Bytes {
        let Self { lines, translation } = self;
        if lines.watch(&chunk, |line| translation.line(line)).is_err() {
            translation.events.fail("a line of Cohere's answer is too long", "server_error", 502);
        }
        translation.events.take()
    }

    fn end(&mut self) -> Bytes {
        let rest = self.lines.end();
        self.translation.line(&rest);
        let events = &mut self.translation.events;
        events.close("Cohere");
        events.take()
    }

    fn take_seen(&mut self) -> Seen {
        self.translation.events.take_seen()
    }
}

impl Translation {
    fn line(&mut self, line: &[u8]) {
        let Some(json) = json_of(line) else { return };
        match serde_json::from_slice::<Event<'_>>(json) {
            Ok(event) => self.event(&event),
            Err(_) => self.events.fail("an event of Cohere's answer is no JSON", "server_error", 502),
        }
    }

    fn event(&mut self, event: &Event<'_>) {
        let events = &mut self.events;
        match event.kind.as_deref().or(event.event_type.as_deref()).unwrap_or_default() {
            "message-start" | "stream-start" => {
                events.name(event.id.as_deref().or(event.generation_id.as_deref()), None);
                if self.chat {
                    events.start();
                }
            }
            "text-generation" => {
                if let Some(text) = event.text.filter(|_| events.choice(event.index.unwrap_or(0))) {
                    events.text(text.get());
                }
            }
            "tool-calls-generation" => {
                for call in event.tool_calls.iter().flatten() {
                    let id = format!("call_{}_{}", self.id, self.calls);
                    self.calls += 1;
                    events.call(&id, call["name"].as_str().unwrap_or_default());
                    events.arguments(&quote(&call["parameters"].to_string()));
                    events.end_call();
                }
            }
            "stream-end" => {
                let response = event.response.as_ref().unwrap_or(&Value::Null);
                events.tokens = tokens(&response["meta"]);
                // Several text completions end each for a reason of its own.
                for ended in response["generations"].as_array().into_iter().flatten() {
                    if let Some(reason) = ended["finish_reason"].as_str()
                        && events.choice(ended["index"].as_u64().unwrap_or(0))
                    {
                        events.finish(finish(reason));
                    }
                }
                events.choice(0);
                let reason = event.finish_reason.as_deref().unwrap_or_default();
                events.finish(match finish(reason) {
                    Finish::Stop if self.calls > 0 => Finish::Calls,
                    finish => finish,
                });
                events.done();
            }
            "message-end" => {
                let Some(delta) = &event.delta else { return };
                events.tokens = delta.usage.as_ref().and_then(tokens);
                if let Some(message) = &delta.error {
                    return events.fail(message, "server_error", 500);
                }
                let reason = delta.finish_reason.as_deref().unwrap_or_default();
                if matches!(reason, "ERROR" | "TIMEOUT") {
                    let message = format!("Cohere's answer ended with {reason}");
                    return events.fail(
                        &message,
                        "server_error",
                        if reason == "TIMEOUT" { 504 } else { 500 },
                    );
                }
                events.finish(finish(reason));
                events.done();
            }
            "tool-call-end" => events.end_call(),
            "content-start" | "content-delta" | "tool-plan-delta" | "tool-call-start" | "tool-call-delta" => {
                if let Some(message) = event.delta.as_ref().and_then(|delta| delta.message.as_ref()) {
                    self.message(message);
                }
            }
            "" => {
                if let Some(message) = &event.message {
                    events.fail(message, "server_error", 500);
                }
            }
            _ => {}
        }
    }

    fn message(&mut self, message: &Message<'_>) {
        let content = message.content.and_then(|raw| serde_json::from_str::<Content<'_>>(raw.get()).ok());
        if let Some(content) = content {
            match (content.text, content.thinking) {
                (Some(text), _) => self.events.text(text.get()),
                (None, Some(thought)) => self.events.reasoning(thought.get()),
                (None, None) => {}
            }
        }
        if let Some(plan) = message.tool_plan {
            self.events.text(plan.get());
        }
        let call = message.tool_calls.and_then(|raw| serde_json::from_str::<CallDelta<'_>>(raw.get()).ok());
        if let Some(call) = call {
            let function = call.function.as_ref();
            if let (Some(id), Some(name)) = (&call.id, function.and_then(|function| function.name.as_ref())) {
                self.calls += 1;
                self.events.call(id, name);
            }
            if let Some(arguments) = function.and_then(|function| function.arguments) {
                self.events.arguments(arguments.get());
            }
        }
    }
}
