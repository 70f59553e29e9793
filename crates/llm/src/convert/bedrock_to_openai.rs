//! Bedrock's answers to Converse and ConverseStream in OpenAI's format.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use aws_smithy_types::event_stream::Message;

use super::answer::{self, Answer, Tokens, failed};
use super::chunks::Chunks;
use crate::aws_events::{Broken, Messages, header};
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
    let mut answer = Answer {
        id: format!("chatcmpl-{}", asked.id),
        finish_reason: finish_reason(reason),
        ..Answer::default()
    };
    for block in blocks {
        let reasoning = &block["reasoningContent"]["reasoningText"]["text"];
        let call = &block["toolUse"];
        if let Some(text) = block["text"].as_str() {
            answer.text.get_or_insert_default().push_str(text);
        } else if let Some(text) = reasoning.as_str() {
            answer.reasoning.get_or_insert_default().push_str(text);
        } else if call.is_object() {
            let input = if call["input"].is_object() { call["input"].to_string() } else { "{}".to_owned() };
            answer.add_call(&call["toolUseId"], &call["name"], input);
        }
    }
    let tokens = given.get("usage").and_then(tokens);
    answer.usage = tokens.map(Tokens::write).unwrap_or_default();
    if let Some(seen) = seen {
        seen.model = Some(asked.model.to_owned());
        seen.usage = tokens.map(Tokens::usage);
    }
    let mut written = answer.write(asked, asked.model);
    if let Some(trace) = given.get("trace") {
        written["trace"] = trace.clone();
    }
    Ok(written.to_string().into_bytes())
}

/// An error answer; `None` where it is not AWS's.
pub(crate) fn error(status: u16, body: &[u8]) -> Option<Vec<u8>> {
    let given: Value = serde_json::from_slice(body).ok()?;
    let message = given["message"].as_str().or(given["Message"].as_str())?;
    Some(answer::error(message, answer::kind_of(status)).to_string().into_bytes())
}

fn finish_reason(reason: &str) -> &'static str {
    match reason {
        "max_tokens" | "model_context_window_exceeded" => "length",
        "tool_use" => "tool_calls",
        "content_filtered" => "content_filter",
        // Kong keeps it, for clients to tell it from the model's own refusals.
        "guardrail_intervened" => "guardrail_intervened",
        _ => "stop",
    }
}

fn tokens(usage: &Value) -> Option<Tokens> {
    let count = |name: &str| usage[name].as_u64();
    let (read, written) = (count("cacheReadInputTokens"), count("cacheWriteInputTokens"));
    Some(Tokens {
        prompt: count("inputTokens")? + read.unwrap_or(0) + written.unwrap_or(0),
        cached: read,
        completion: count("outputTokens")?,
        reasoning: None,
    })
}

/// A streamed answer.
pub(crate) struct Events {
    messages: Messages,
    chunks: Chunks,
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
struct Reasoning<'a> {
    #[serde(borrow)]
    text: Option<&'a RawValue>,
}

impl Events {
    pub fn new(asked: &Asked<'_>, wishes: StreamWishes) -> Self {
        Self { messages: Messages::default(), chunks: Chunks::new(asked, wishes) }
    }

    fn message(&mut self, message: &Message) {
        match header(message, ":message-type") {
            Some("exception") => {
                let kind = header(message, ":exception-type").unwrap_or("exception");
                let given: Value = serde_json::from_slice(message.payload()).unwrap_or_default();
                let text = given["originalMessage"].as_str().or(given["message"].as_str());
                return self.chunks.fail(text.unwrap_or(kind), kind, status_of(kind));
            }
            Some("error") => {
                let kind = header(message, ":error-code").unwrap_or("error");
                let text = header(message, ":error-message").unwrap_or(kind);
                return self.chunks.fail(text, kind, 500);
            }
            _ => {}
        }
        let Some(kind) = header(message, ":event-type") else { return };
        let Ok(payload) = serde_json::from_slice::<Payload<'_>>(message.payload()) else {
            return self.chunks.fail("an event of Bedrock's answer is no JSON", "server_error", 502);
        };
        self.event(kind, &payload);
    }

    fn event(&mut self, kind: &str, payload: &Payload<'_>) {
        let chunks = &mut self.chunks;
        match kind {
            "messageStart" => chunks.start(),
            "contentBlockStart" => {
                if let Some(tool) = payload.start.as_ref().and_then(|start| start.tool_use.as_ref()) {
                    chunks.call(&tool.tool_use_id, &tool.name);
                }
            }
            "contentBlockDelta" => {
                let Some(delta) = &payload.delta else { return };
                if let Some(text) = delta.text {
                    chunks.text(text.get());
                } else if let Some(input) = delta.tool_use.as_ref().and_then(|tool| tool.input) {
                    chunks.arguments(input.get());
                } else if let Some(text) = delta.reasoning_content.as_ref().and_then(|content| content.text) {
                    chunks.reasoning(text.get());
                }
            }
            "contentBlockStop" => chunks.end_call(),
            "messageStop" => chunks.finish(finish_reason(payload.stop_reason.as_deref().unwrap_or_default())),
            "metadata" => {
                chunks.tokens = payload.usage.as_ref().and_then(tokens);
                chunks.done();
            }
            _ => {}
        }
    }
}

impl Stream for Events {
    fn chunk(&mut self, chunk: Bytes) -> Bytes {
        self.messages.add(&chunk);
        loop {
            match self.messages.next() {
                Ok(Some(message)) => self.message(&message),
                Ok(None) => break,
                Err(Broken) => {
                    self.messages = Messages::default();
                    let text = "the answer of Bedrock is damaged: a checksum or a length does not fit";
                    self.chunks.fail(text, "server_error", 502);
                    break;
                }
            }
        }
        self.chunks.take()
    }

    fn end(&mut self) -> Bytes {
        self.chunks.close("Bedrock");
        self.chunks.take()
    }

    fn take_seen(&mut self) -> Seen {
        self.chunks.take_seen()
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
