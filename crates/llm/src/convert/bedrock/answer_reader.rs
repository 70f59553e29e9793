//! Bedrock's answers to Converse and ConverseStream, read.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use aws_smithy_types::event_stream::Message;

use crate::Format;
use crate::aws_events::{Broken, Messages, header};
use crate::convert::answer::{self, Answer, Block, Choice, Failure, Finish, Tokens, failed};
use crate::convert::events::Events;
use crate::provider::{Asked, Stream, StreamWishes};
use crate::usage::Seen;

const NAME: &str = "bedrock";

/// A whole answer.
///
/// # Errors
/// Why it cannot be understood, in Kong's words.
pub(crate) fn chat(body: &[u8], asked: &Asked<'_>, seen: Option<&mut Seen>) -> Result<Vec<u8>, String> {
    let given: Map<String, Value> = serde_json::from_slice(body)
        .map_err(|_| failed(NAME, asked.operation, "failed to decode response from Bedrock"))?;
    let blocks = given.get("output").and_then(|output| output["message"]["content"].as_array());
    let Some(blocks) = blocks else {
        let reason = "no generation candidates received from Bedrock, or max_tokens too short";
        return Err(failed(NAME, asked.operation, reason));
    };
    let reason = given.get("stopReason").and_then(Value::as_str).unwrap_or_default();
    let mut choice = Choice { finish: finish(reason), ..Choice::default() };
    for block in blocks {
        let reasoning = &block["reasoningContent"];
        let call = &block["toolUse"];
        if let Some(text) = block["text"].as_str() {
            choice.blocks.push(Block::Text(text.to_owned()));
        } else if let Some(text) = reasoning["reasoningText"]["text"].as_str() {
            let signature = reasoning["reasoningText"]["signature"].as_str().map(str::to_owned);
            choice.blocks.push(Block::Reasoning { text: text.to_owned(), signature });
        } else if let Some(data) = reasoning["redactedContent"].as_str() {
            choice.blocks.push(Block::Redacted(data.to_owned()));
        } else if call.is_object() {
            choice.add_call(&call["toolUseId"], &call["name"], &call["input"]);
        }
    }
    let tokens = given.get("usage").and_then(tokens);
    let more = given.get("trace").map(|trace| ("trace".to_owned(), trace.clone())).into_iter().collect();
    Ok(Answer { choices: vec![choice], tokens, more, ..Answer::default() }.write(asked, seen))
}

/// Takes in what a whole answer says that passes as it is.
pub(crate) fn look(body: &[u8], seen: &mut Seen) {
    let Ok(given) = serde_json::from_slice::<Value>(body) else { return };
    seen.usage = tokens(&given["usage"]).map(Tokens::usage);
}

/// An error answer; `None` where it is not AWS's.
pub(crate) fn error(status: u16, body: &[u8], format: Format) -> Option<Vec<u8>> {
    let given: Value = serde_json::from_slice(body).ok()?;
    let message = given["message"].as_str().or(given["Message"].as_str())?;
    let failure = Failure { message, kind: answer::kind_of(status), status };
    Some(failure.write(format).to_string().into_bytes())
}

fn finish(reason: &str) -> Finish {
    match reason {
        "max_tokens" | "model_context_window_exceeded" => Finish::Length,
        "tool_use" => Finish::Calls,
        "content_filtered" => Finish::Filtered,
        "guardrail_intervened" => Finish::Guardrail,
        "stop_sequence" => Finish::Sequence(None),
        _ => Finish::Stop,
    }
}

fn tokens(usage: &Value) -> Option<Tokens> {
    let count = |name: &str| usage[name].as_u64();
    let (read, written) = (count("cacheReadInputTokens"), count("cacheWriteInputTokens"));
    Some(Tokens {
        prompt: count("inputTokens")? + read.unwrap_or(0) + written.unwrap_or(0),
        cached: read,
        cache_written: written,
        completion: count("outputTokens")?,
        ..Tokens::default()
    })
}

/// A streamed answer.
pub(crate) struct Reader {
    messages: Messages,
    events: Events,
}

/// The payload of an event. Text stays JSON text, for it goes out as such.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payload<'a> {
    #[serde(borrow)]
    start: Option<Start<'a>>,
    #[serde(borrow)]
    delta: Option<Delta<'a>>,
    #[serde(borrow)]
    stop_reason: Option<Cow<'a, str>>,
    usage: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Start<'a> {
    #[serde(borrow)]
    tool_use: Option<ToolStart<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ToolStart<'a> {
    #[serde(borrow)]
    tool_use_id: Cow<'a, str>,
    #[serde(borrow)]
    name: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Delta<'a> {
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_use: Option<ToolDelta<'a>>,
    #[serde(borrow)]
    reasoning_content: Option<Reasoning<'a>>,
}

#[derive(Deserialize)]
struct ToolDelta<'a> {
    #[serde(borrow)]
    input: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reasoning<'a> {
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(borrow)]
    signature: Option<&'a RawValue>,
    #[serde(borrow)]
    redacted_content: Option<&'a RawValue>,
}

impl Reader {
    pub fn new(asked: &Asked<'_>, wishes: StreamWishes) -> Self {
        Self { messages: Messages::default(), events: Events::new(asked, wishes) }
    }

    fn message(&mut self, message: &Message) {
        if let Some(Failed { text, kind, status }) = failure(message) {
            return self.events.fail(&text, &kind, status);
        }
        let Some(kind) = header(message, ":event-type") else { return };
        let Ok(payload) = serde_json::from_slice::<Payload<'_>>(message.payload()) else {
            return self.events.fail("an event of Bedrock's answer is no JSON", "server_error", 502);
        };
        self.event(kind, &payload);
    }

    fn event(&mut self, kind: &str, payload: &Payload<'_>) {
        let events = &mut self.events;
        match kind {
            "messageStart" => events.start(),
            "contentBlockStart" => {
                if let Some(tool) = payload.start.as_ref().and_then(|start| start.tool_use.as_ref()) {
                    events.call(&tool.tool_use_id, &tool.name);
                }
            }
            "contentBlockDelta" => {
                let Some(delta) = &payload.delta else { return };
                if let Some(text) = delta.text {
                    events.text(text.get());
                } else if let Some(input) = delta.tool_use.as_ref().and_then(|tool| tool.input) {
                    events.arguments(input.get());
                } else if let Some(text) = delta.reasoning_content.as_ref().and_then(|content| content.text) {
                    events.reasoning(text.get());
                } else if let Some(reasoning) = &delta.reasoning_content {
                    if let Some(signature) = reasoning.signature {
                        events.signature(signature.get());
                    }
                    if let Some(data) = reasoning.redacted_content {
                        events.redacted(data.get());
                    }
                }
            }
            "contentBlockStop" => events.end_call(),
            "messageStop" => events.finish(finish(payload.stop_reason.as_deref().unwrap_or_default())),
            "metadata" => {
                events.tokens = payload.usage.as_ref().and_then(tokens);
                events.done();
            }
            _ => {}
        }
    }
}

impl Stream for Reader {
    fn chunk(&mut self, chunk: Bytes) -> Bytes {
        self.messages.add(&chunk);
        loop {
            match self.messages.next() {
                Ok(Some(message)) => self.message(&message),
                Ok(None) => break,
                Err(Broken) => {
                    self.messages = Messages::default();
                    let text = "the answer of Bedrock is damaged: a checksum or a length does not fit";
                    self.events.fail(text, "server_error", 502);
                    break;
                }
            }
        }
        self.events.take()
    }

    fn end(&mut self) -> Bytes {
        self.events.close("Bedrock");
        self.events.take()
    }

    fn take_seen(&mut self) -> Seen {
        self.events.take_seen()
    }
}

/// What a message says that stands for an error.
pub(super) struct Failed {
    pub text: String,
    pub kind: String,
    pub status: u16,
}

/// The error that a message tells of; `None` where it tells of none.
pub(super) fn failure(message: &Message) -> Option<Failed> {
    match header(message, ":message-type") {
        Some("exception") => {
            let kind = header(message, ":exception-type").unwrap_or("exception");
            let given: Value = serde_json::from_slice(message.payload()).unwrap_or_default();
            let text = given["originalMessage"].as_str().or(given["message"].as_str()).unwrap_or(kind);
            Some(Failed { text: text.to_owned(), kind: kind.to_owned(), status: status_of(kind) })
        }
        Some("error") => {
            let kind = header(message, ":error-code").unwrap_or("error");
            let text = header(message, ":error-message").unwrap_or(kind);
            Some(Failed { text: text.to_owned(), kind: kind.to_owned(), status: 500 })
        }
        _ => None,
    }
}

/// The status that an exception would have as an answer.
fn status_of(kind: &str) -> u16 {
    match kind {
        "validationException" => 400,
        "modelStreamErrorException" => 424,
        "throttlingException" => 429,
        "serviceUnavailableException" => 503,
        _ => 500,
    }
}
