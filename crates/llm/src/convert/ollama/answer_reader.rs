//! Ollama's answers, whole and line by line, read.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::convert::answer::{self, Answer, Block, Choice, Failure, Finish, Tokens, failed};
use crate::convert::embeddings::Vectors;
use crate::convert::events::Events;
use crate::convert::openai::answer_writer;
use crate::json::quote;
use crate::provider::{Asked, Stream, StreamWishes};
use crate::usage::Seen;
use crate::{Format, Operation};

/// Longest line that is read, in bytes.
const LONGEST_LINE: usize = 16 * 1024 * 1024;

/// A whole answer, or a line of a streamed one. Text stays JSON text, for it goes out as such.
#[derive(Deserialize)]
struct Line<'a> {
    model: Option<String>,
    #[serde(borrow)]
    message: Option<Message<'a>>,
    #[serde(borrow)]
    response: Option<&'a RawValue>,
    #[serde(default)]
    done: bool,
    done_reason: Option<String>,
    prompt_eval_count: Option<u64>,
    eval_count: Option<u64>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    thinking: Option<&'a RawValue>,
    #[serde(default)]
    tool_calls: Vec<Value>,
}

impl Line<'_> {
    fn tokens(&self) -> Option<Tokens> {
        let completion = self.eval_count?;
        Some(Tokens { prompt: self.prompt_eval_count.unwrap_or(0), completion, ..Tokens::default() })
    }

    fn finish(&self, called: bool) -> Finish {
        match self.done_reason.as_deref() {
            Some("length") => Finish::Length,
            _ if called => Finish::Calls,
            _ => Finish::Stop,
        }
    }
}

/// A whole answer, of a chat or of a completion.
///
/// # Errors
/// Why it cannot be understood, in Kong's words.
pub(crate) fn whole(
    provider: &str,
    body: &[u8],
    asked: &Asked<'_>,
    seen: Option<&mut Seen>,
) -> Result<Vec<u8>, String> {
    let undecoded = || failed(provider, asked.operation, "failed to decode ollama response");
    let line: Line<'_> = serde_json::from_slice(body).map_err(|_| undecoded())?;
    let text = |raw: Option<&RawValue>| raw.and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
    match (&line.message, line.response) {
        (Some(message), _) => {
            let mut choice = Choice::default();
            let thinking = text(message.thinking).map(|text| Block::Reasoning { text, signature: None });
            choice.blocks.extend(thinking);
            choice.blocks.extend(text(message.content).map(Block::Text));
            for (index, call) in message.tool_calls.iter().enumerate() {
                let function = &call["function"];
                let id = call_id(asked.id, index, call).into();
                choice.add_call(&id, &function["name"], &function["arguments"]);
            }
            choice.finish = line.finish(choice.calls());
            let (model, tokens) = (line.model.clone(), line.tokens());
            Ok(Answer { model, choices: vec![choice], tokens, ..Answer::default() }.write(asked, seen))
        }
        (None, Some(response)) => {
            let model = line.model.as_deref().unwrap_or(asked.model);
            let (tokens, finish) = (line.tokens(), line.finish(false));
            if let Some(seen) = seen {
                seen.model = Some(model.to_owned());
                seen.usage = tokens.map(Tokens::usage);
            }
            let written = json!({
                "id": format!("cmpl-{}", asked.id), "object": "text_completion", "created": asked.created, "model": model,
                "choices": [{
                    "index": 0, "text": text(Some(response)), "logprobs": null,
                    "finish_reason": answer_writer::finish_reason(&finish),
                }],
                "usage": tokens.map(answer_writer::usage),
            });
            Ok(written.to_string().into_bytes())
        }
        (None, None) => Err(undecoded()),
    }
}

/// Vectors.
///
/// # Errors
/// Why they cannot be understood, in Kong's words.
pub(crate) fn embeddings(
    provider: &str,
    body: &[u8],
    asked: &Asked<'_>,
    seen: Option<&mut Seen>,
) -> Result<Vec<u8>, String> {
    let undecoded = || failed(provider, asked.operation, "failed to decode ollama response");
    let mut given: Value = serde_json::from_slice(body).map_err(|_| undecoded())?;
    let tokens = given["prompt_eval_count"].as_u64();
    match given.get_mut("embeddings").map(Value::take) {
        Some(Value::Array(vectors)) => Ok(Vectors { vectors, tokens }.write(asked, seen)),
        _ => Err(undecoded()),
    }
}

/// Ollama's own id of a call, else one that is made for it.
fn call_id(id: &str, index: usize, call: &Value) -> String {
    call["id"].as_str().map_or_else(|| format!("call_{id}_{index}"), str::to_owned)
}

/// An error answer; `None` where it is not Ollama's.
pub(crate) fn error(status: u16, body: &[u8], format: Format) -> Option<Vec<u8>> {
    let given: Value = serde_json::from_slice(body).ok()?;
    let message = given["error"].as_str()?;
    let failure = Failure { message, kind: answer::kind_of(status), status };
    Some(failure.write(format).to_string().into_bytes())
}

/// A streamed answer: a line of JSON for each event.
pub(crate) struct Lines {
    tail: Vec<u8>,
    id: String,
    started: bool,
    calls: usize,
    is_chat: bool,
    events: Events,
}

impl Lines {
    pub fn new(asked: &Asked<'_>, wishes: StreamWishes) -> Self {
        Self {
            tail: Vec::new(),
            id: asked.id.to_owned(),
            started: false,
            calls: 0,
            is_chat: asked.operation == Operation::Chat,
            events: Events::new(asked, wishes),
        }
    }

    fn line(&mut self, line: &[u8]) {
        if line.trim_ascii().is_empty() {
            return;
        }
        let Ok(line) = serde_json::from_slice::<Line<'_>>(line) else {
            return self.events.fail("a line of Ollama's answer is no JSON", "server_error", 502);
        };
        if let Some(error) = &line.error {
            return self.events.fail(error, "server_error", 500);
        }
        if !self.started {
            self.started = true;
            self.events.name(None, line.model.as_deref());
            if self.is_chat {
                self.events.start();
            }
        }
        if let Some(message) = &line.message {
            if let Some(thinking) = message.thinking {
                self.events.reasoning(thinking.get());
            }
            if let Some(content) = message.content {
                self.events.text(content.get());
            }
            for call in &message.tool_calls {
                let name = call["function"]["name"].as_str().unwrap_or_default();
                self.events.call(&call_id(&self.id, self.calls, call), name);
                self.events.arguments(&quote(&call["function"]["arguments"].to_string()));
                self.events.end_call();
                self.calls += 1;
            }
        }
        if let Some(response) = line.response {
            self.events.text(response.get());
        }
        if line.done {
            self.events.tokens = line.tokens();
            self.events.finish(line.finish(self.calls > 0));
            self.events.done();
        }
    }
}

impl Stream for Lines {
    fn chunk(&mut self, chunk: Bytes) -> Bytes {
        let mut rest = &chunk[..];
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let (line, after) = rest.split_at(end + 1);
            rest = after;
            if self.tail.is_empty() {
                self.line(line);
            } else {
                self.tail.extend_from_slice(line);
                let whole = std::mem::take(&mut self.tail);
                self.line(&whole);
            }
        }
        self.tail.extend_from_slice(rest);
        if self.tail.len() > LONGEST_LINE {
            self.tail = Vec::new();
            self.events.fail("a line of Ollama's answer is too long", "server_error", 502);
        }
        self.events.take()
    }

    fn end(&mut self) -> Bytes {
        let rest = std::mem::take(&mut self.tail);
        self.line(&rest);
        self.events.close("Ollama");
        self.events.take()
    }

    fn take_seen(&mut self) -> Seen {
        self.events.take_seen()
    }
}
