//! Answers of Cohere's Chat (version 2), whole and event by event.

use bytes::BytesMut;
use serde_json::{Value, json};

use crate::convert::answer::{Answer, Block, Failure, Finish, Tokens};
use crate::convert::events::Writer;
use crate::provider::Asked;

/// A whole answer.
pub(super) fn write(answer: Answer, asked: &Asked<'_>) -> Value {
    let choice = answer.choices.into_iter().next().unwrap_or_default();
    let reason = finish_reason(&choice.finish);
    let calls_tools = choice.calls();
    let (mut content, mut calls, mut plan) = (Vec::new(), Vec::new(), String::new());
    for block in choice.blocks {
        match block {
            Block::Text(text) if calls_tools => plan.push_str(&text),
            Block::Text(text) | Block::Refusal(text) => content.push(json!({"type": "text", "text": text})),
            Block::Reasoning { text, .. } => content.push(json!({"type": "thinking", "thinking": text})),
            Block::Redacted(_) | Block::Image(_) | Block::Audio(_) => {}
            Block::Call { id, name, arguments } => calls.push(
                json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}),
            ),
        }
    }
    let mut message = json!({"role": "assistant"});
    if !plan.is_empty() {
        message["tool_plan"] = plan.into();
    }
    if !content.is_empty() || calls.is_empty() {
        message["content"] = content.into();
    }
    if !calls.is_empty() {
        message["tool_calls"] = calls.into();
    }
    let id = answer.id.as_deref().unwrap_or(asked.id);
    let mut written = json!({"id": id, "finish_reason": reason, "message": message});
    if let Some(tokens) = answer.tokens {
        written["usage"] = usage(tokens);
    }
    written
}

fn finish_reason(finish: &Finish) -> &'static str {
    match finish {
        Finish::Stop | Finish::Other(_) => "COMPLETE",
        Finish::Sequence(_) => "STOP_SEQUENCE",
        Finish::Length => "MAX_TOKENS",
        Finish::Calls => "TOOL_CALL",
        Finish::Filtered | Finish::Guardrail => "ERROR",
    }
}

fn usage(tokens: Tokens) -> Value {
    let counts = json!({"input_tokens": tokens.prompt, "output_tokens": tokens.completion});
    json!({"billed_units": counts, "tokens": counts})
}

/// The events of a streamed answer.
pub(super) struct ChatEvents {
    id: String,
    /// How many blocks have begun.
    index: usize,
    open: Option<Open>,
    finish: Option<&'static str>,
}

/// The block of content under way.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    Text,
    Thinking,
}

impl Open {
    fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Thinking => "thinking",
        }
    }
}

impl ChatEvents {
    pub fn new(asked: &Asked<'_>) -> Self {
        Self { id: asked.id.to_owned(), index: 0, open: None, finish: None }
    }

    fn piece(&mut self, out: &mut BytesMut, kind: Open, quoted: &str) {
        let name = kind.name();
        if self.open != Some(kind) {
            self.close(out);
            self.open = Some(kind);
            let start = json!({
                "type": "content-start", "index": self.index,
                "delta": {"message": {"content": {"type": name, name: ""}}},
            });
            put(out, "content-start", &start.to_string());
        }
        let delta = format!(
            r#"{{"type":"content-delta","index":{},"delta":{{"message":{{"content":{{"{name}":{quoted}}}}}}}}}"#,
            self.index
        );
        put(out, "content-delta", &delta);
    }

    fn close(&mut self, out: &mut BytesMut) {
        if self.open.take().is_some() {
            let end = json!({"type": "content-end", "index": self.index});
            put(out, "content-end", &end.to_string());
            self.index += 1;
        }
    }
}

impl Writer for ChatEvents {
    fn name(&mut self, id: Option<&str>, _: Option<&str>) {
        if let Some(id) = id {
            id.clone_into(&mut self.id);
        }
    }

    fn start(&mut self, out: &mut BytesMut, _: Option<Tokens>) {
        let message =
            json!({"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []});
        let start = json!({"type": "message-start", "id": self.id, "delta": {"message": message}});
        put(out, "message-start", &start.to_string());
    }

    fn text(&mut self, out: &mut BytesMut, quoted: &str) {
        self.piece(out, Open::Text, quoted);
    }

    fn reasoning(&mut self, out: &mut BytesMut, quoted: &str) {
        self.piece(out, Open::Thinking, quoted);
    }

    fn call(&mut self, out: &mut BytesMut, index: usize, id: &str, name: &str) {
        self.close(out);
        let call = json!({"id": id, "type": "function", "function": {"name": name, "arguments": ""}});
        let start =
            json!({"type": "tool-call-start", "index": index, "delta": {"message": {"tool_calls": call}}});
        put(out, "tool-call-start", &start.to_string());
    }

    fn arguments(&mut self, out: &mut BytesMut, index: usize, quoted: &str) {
        let delta = format!(
            r#"{{"type":"tool-call-delta","index":{index},"delta":{{"message":{{"tool_calls":{{"function":{{"arguments":{quoted}}}}}}}}}}}"#
        );
        put(out, "tool-call-delta", &delta);
    }

    fn end_call(&mut self, out: &mut BytesMut, index: usize) {
        put(out, "tool-call-end", &json!({"type": "tool-call-end", "index": index}).to_string());
    }

    fn finish(&mut self, out: &mut BytesMut, finish: &Finish) {
        self.close(out);
        self.finish = Some(finish_reason(finish));
    }

    fn done(&mut self, out: &mut BytesMut, tokens: Option<Tokens>) {
        self.close(out);
        let mut delta = json!({"finish_reason": self.finish.unwrap_or("COMPLETE")});
        if let Some(tokens) = tokens {
            delta["usage"] = usage(tokens);
        }
        let end = json!({"type": "message-end", "id": self.id, "delta": delta});
        put(out, "message-end", &end.to_string());
    }

    fn fail(&mut self, out: &mut BytesMut, failure: &Failure<'_>) {
        let delta = json!({"finish_reason": "ERROR", "error": failure.message});
        let end = json!({"type": "message-end", "id": self.id, "delta": delta});
        put(out, "message-end", &end.to_string());
    }
}

fn put(out: &mut BytesMut, name: &str, data: &str) {
    for piece in ["event: ", name, "\ndata: ", data, "\n\n"] {
        out.extend_from_slice(piece.as_bytes());
    }
}
