//! Ollama's answers, whole and line by line, in OpenAI's format.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::answer::{self, Answer, Tokens, failed};
use super::chunks::Chunks;
use crate::Operation;
use crate::json::quote;
use crate::provider::{Asked, Stream, StreamWishes};
use crate::usage::Seen;

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

    fn finish_reason(&self, called: bool) -> &'static str {
        match self.done_reason.as_deref() {
            Some("length") => "length",
            _ if called => "tool_calls",
            _ => "stop",
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
    let model = line.model.as_deref().unwrap_or(asked.model);
    let tokens = line.tokens();
    if let Some(seen) = seen {
        seen.model = Some(model.to_owned());
        seen.usage = tokens.map(Tokens::usage);
    }
    let usage = tokens.map(Tokens::write).unwrap_or_default();
    let text = |raw: Option<&RawValue>| raw.and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
    let written = match (&line.message, line.response) {
        (Some(message), _) => {
            let mut answer = Answer {
                id: format!("chatcmpl-{}", asked.id),
                text: text(message.content),
                reasoning: text(message.thinking),
                usage,
                ..Answer::default()
            };
            for (index, call) in message.tool_calls.iter().enumerate() {
                let arguments = call["function"]["arguments"].to_string();
                answer.add_call(&call_id(asked.id, index, call).into(), &call["function"]["name"], arguments);
            }
            answer.finish_reason = line.finish_reason(!answer.calls.is_empty());
            answer.write(asked, model)
        }
        (None, Some(response)) => json!({
            "id": format!("cmpl-{}", asked.id), "object": "text_completion", "created": asked.created, "model": model,
            "choices": [{"index": 0, "text": text(Some(response)), "logprobs": null, "finish_reason": line.finish_reason(false)}],
            "usage": usage,
        }),
        (None, None) => return Err(undecoded()),
    };
    Ok(written.to_string().into_bytes())
}

/// Ollama's own id of a call, else one that is made for it.
fn call_id(id: &str, index: usize, call: &Value) -> String {
    call["id"].as_str().map_or_else(|| format!("call_{id}_{index}"), str::to_owned)
}

/// An error answer; `None` where it is not Ollama's.
pub(crate) fn error(status: u16, body: &[u8]) -> Option<Vec<u8>> {
    let given: Value = serde_json::from_slice(body).ok()?;
    let message = given["error"].as_str()?;
    Some(answer::error(message, answer::kind_of(status)).to_string().into_bytes())
}

/// A streamed answer: a line of JSON for each event.
pub(crate) struct Lines {
    tail: Vec<u8>,
    id: String,
    started: bool,
    calls: usize,
    is_chat: bool,
    chunks: Chunks,
}

impl Lines {
    pub fn new(asked: &Asked<'_>, wishes: StreamWishes) -> Self {
        Self {
            tail: Vec::new(),
            id: asked.id.to_owned(),
            started: false,
            calls: 0,
            is_chat: asked.operation == Operation::Chat,
            chunks: Chunks::new(asked, wishes),
        }
    }

    fn line(&mut self, line: &[u8]) {
        if line.trim_ascii().is_empty() {
            return;
        }
        let Ok(line) = serde_json::from_slice::<Line<'_>>(line) else {
            return self.chunks.fail("a line of Ollama's answer is no JSON", "server_error", 502);
        };
        if let Some(error) = &line.error {
            return self.chunks.fail(error, "server_error", 500);
        }
        if !self.started {
            self.started = true;
            self.chunks.name(None, line.model.as_deref());
            if self.is_chat {
                self.chunks.start();
            }
        }
        if let Some(message) = &line.message {
            if let Some(thinking) = message.thinking {
                self.chunks.reasoning(thinking.get());
            }
            if let Some(content) = message.content {
                self.chunks.text(content.get());
            }
            for call in &message.tool_calls {
                let name = call["function"]["name"].as_str().unwrap_or_default();
                self.chunks.call(&call_id(&self.id, self.calls, call), name);
                self.chunks.arguments(&quote(&call["function"]["arguments"].to_string()));
                self.chunks.end_call();
                self.calls += 1;
            }
        }
        if let Some(response) = line.response {
            self.chunks.text(response.get());
        }
        if line.done {
            self.chunks.tokens = line.tokens();
            self.chunks.finish(line.finish_reason(self.calls > 0));
            self.chunks.done();
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
            self.chunks.fail("a line of Ollama's answer is too long", "server_error", 502);
        }
        self.chunks.take()
    }

    fn end(&mut self) -> Bytes {
        let rest = std::mem::take(&mut self.tail);
        self.line(&rest);
        self.chunks.close("Ollama");
        self.chunks.take()
    }

    fn take_seen(&mut self) -> Seen {
        self.chunks.take_seen()
    }
}
