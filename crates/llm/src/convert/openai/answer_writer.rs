//! Answers to chats in OpenAI's format, whole and event by event, written for providers that speak another; and
//! streamed text completions.

use bytes::BytesMut;
use serde_json::{Value, json};

use crate::Operation;
use crate::convert::answer::{Answer, Block, Choice, Failure, Finish, Tokens};
use crate::convert::events::Writer;
use crate::json::quote;
use crate::provider::Asked;

/// A whole answer, of a chat or of a text completion.
pub(crate) fn write(answer: Answer, asked: &Asked<'_>) -> Value {
    if asked.operation == Operation::Completions {
        return completion(answer, asked);
    }
    let usage = answer.tokens.map_or(answer.without_tokens, usage);
    let choices: Vec<Value> = answer.choices.into_iter().enumerate().map(choice).collect();
    let mut written = json!({
        "id": answer.id.unwrap_or_else(|| format!("chatcmpl-{}", asked.id)),
        "object": "chat.completion",
        "created": asked.created,
        "model": answer.model.as_deref().unwrap_or(asked.model),
        "choices": choices,
        "usage": usage,
    });
    if let Some(members) = written.as_object_mut() {
        members.extend(answer.more);
    }
    written
}

fn completion(answer: Answer, asked: &Asked<'_>) -> Value {
    let choices: Vec<Value> = answer
        .choices
        .into_iter()
        .enumerate()
        .map(|(index, choice)| {
            let (text, reason) = (choice.text().unwrap_or_default(), finish_reason(&choice.finish));
            json!({"index": index, "text": text, "logprobs": choice.logprobs, "finish_reason": reason})
        })
        .collect();
    json!({
        "id": answer.id.unwrap_or_else(|| format!("cmpl-{}", asked.id)),
        "object": "text_completion",
        "created": asked.created,
        "model": answer.model.as_deref().unwrap_or(asked.model),
        "choices": choices,
        "usage": answer.tokens.map_or(answer.without_tokens, usage),
    })
}

fn choice((index, choice): (usize, Choice)) -> Value {
    let (text, reasoning) = (choice.text(), choice.reasoning());
    let (mut calls, mut refusal) = (Vec::new(), None);
    for block in choice.blocks {
        match block {
            Block::Call { id, name, arguments } => calls.push(
                json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}),
            ),
            Block::Refusal(text) => refusal = Some(text),
            Block::Text(_) | Block::Reasoning { .. } | Block::Redacted(_) => {}
        }
    }
    let mut message = json!({"role": "assistant", "content": text, "refusal": refusal});
    if let Some(reasoning) = reasoning {
        message["reasoning_content"] = reasoning.into();
    }
    if !calls.is_empty() {
        message["tool_calls"] = calls.into();
    }
    let reason = finish_reason(&choice.finish);
    json!({"index": index, "message": message, "logprobs": choice.logprobs, "finish_reason": reason})
}

/// OpenAI's word for why an answer ended.
pub(crate) fn finish_reason(finish: &Finish) -> &str {
    match finish {
        Finish::Stop | Finish::Sequence(_) => "stop",
        Finish::Length => "length",
        Finish::Calls => "tool_calls",
        Finish::Filtered => "content_filter",
        // Kong keeps it, for clients to tell it from the model's own refusals.
        Finish::Guardrail => "guardrail_intervened",
        Finish::Other(reason) => reason,
    }
}

/// An error.
pub(crate) fn error(failure: &Failure<'_>) -> Value {
    json!({"error": {"message": failure.message, "type": failure.kind, "param": null, "code": null}})
}

/// Tokens as OpenAI tells them.
pub(crate) fn usage(tokens: Tokens) -> Value {
    let mut usage = json!({
        "prompt_tokens": tokens.prompt,
        "completion_tokens": tokens.completion,
        "total_tokens": tokens.prompt + tokens.completion,
    });
    if let Some(cached) = tokens.cached {
        usage["prompt_tokens_details"] = json!({"cached_tokens": cached});
    }
    if let Some(reasoning) = tokens.reasoning {
        usage["completion_tokens_details"] = json!({"reasoning_tokens": reasoning});
    }
    usage
}

/// The events of a streamed answer.
pub(crate) struct Chunks {
    /// What every event begins with: all before its delta.
    head: Vec<u8>,
    chat: bool,
    model: String,
    id: String,
    created: u64,
    /// The client has not asked for the tokens.
    hide_usage: bool,
}

impl Chunks {
    pub fn new(asked: &Asked<'_>, hide_usage: bool) -> Self {
        let mut chunks = Self {
            head: Vec::new(),
            chat: asked.operation == Operation::Chat,
            model: asked.model.to_owned(),
            id: format!("chatcmpl-{}", asked.id),
            created: asked.created,
            hide_usage,
        };
        chunks.write_head();
        chunks
    }

    fn object(&self) -> &'static str {
        if self.chat { "chat.completion.chunk" } else { "text_completion" }
    }

    fn write_head(&mut self) {
        let (id, object, created, model) = (quote(&self.id), self.object(), self.created, quote(&self.model));
        let member = if self.chat { "delta" } else { "text" };
        self.head = format!(
            r#"data: {{"id":{id},"object":"{object}","created":{created},"model":{model},"choices":[{{"index":0,"{member}":"#
        )
        .into_bytes();
    }

    fn delta(&self, out: &mut BytesMut, delta: &[&[u8]]) {
        self.event(out, delta, "null");
    }

    fn event(&self, out: &mut BytesMut, pieces: &[&[u8]], reason: &str) {
        out.extend_from_slice(&self.head);
        pieces.iter().for_each(|piece| out.extend_from_slice(piece));
        out.extend_from_slice(br#","logprobs":null,"finish_reason":"#);
        out.extend_from_slice(reason.as_bytes());
        out.extend_from_slice(b"}]}\n\n");
    }
}

impl Writer for Chunks {
    fn name(&mut self, id: Option<&str>, model: Option<&str>) {
        if let Some(id) = id {
            id.clone_into(&mut self.id);
        }
        if let Some(model) = model {
            model.clone_into(&mut self.model);
        }
        self.write_head();
    }

    fn start(&mut self, out: &mut BytesMut, _: Option<Tokens>) {
        if self.chat {
            self.delta(out, &[br#"{"role":"assistant","content":""}"#]);
        }
    }

    fn text(&mut self, out: &mut BytesMut, quoted: &str) {
        match self.chat {
            true => self.delta(out, &[br#"{"content":"#, quoted.as_bytes(), b"}"]),
            false => self.delta(out, &[quoted.as_bytes()]),
        }
    }

    fn reasoning(&mut self, out: &mut BytesMut, quoted: &str) {
        // A completion has no place for it.
        if !self.chat {
            return;
        }
        self.delta(out, &[br#"{"reasoning_content":"#, quoted.as_bytes(), b"}"]);
    }

    fn refusal(&mut self, out: &mut BytesMut, quoted: &str) {
        self.delta(out, &[br#"{"refusal":"#, quoted.as_bytes(), b"}"]);
    }

    fn call(&mut self, out: &mut BytesMut, index: usize, id: &str, name: &str) {
        let call = format!(
            r#"{{"tool_calls":[{{"index":{index},"id":{},"type":"function","function":{{"name":{},"arguments":""}}}}]}}"#,
            quote(id),
            quote(name)
        );
        self.delta(out, &[call.as_bytes()]);
    }

    fn arguments(&mut self, out: &mut BytesMut, index: usize, quoted: &str) {
        let start = format!(r#"{{"tool_calls":[{{"index":{index},"function":{{"arguments":"#);
        self.delta(out, &[start.as_bytes(), quoted.as_bytes(), b"}}]}"]);
    }

    fn finish(&mut self, out: &mut BytesMut, finish: &Finish) {
        let nothing: &[u8] = if self.chat { b"{}" } else { br#""""# };
        self.event(out, &[nothing], &quote(finish_reason(finish)));
    }

    fn done(&mut self, out: &mut BytesMut, tokens: Option<Tokens>) {
        if let Some(tokens) = tokens.filter(|_| !self.hide_usage) {
            let event = json!({
                "id": self.id, "object": self.object(), "created": self.created,
                "model": self.model, "choices": [], "usage": usage(tokens),
            });
            put(out, &event);
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
    }

    fn fail(&mut self, out: &mut BytesMut, failure: &Failure<'_>) {
        let mut told = error(failure);
        told["error"]["status"] = failure.status.into();
        put(out, &told);
    }
}

fn put(out: &mut BytesMut, event: &Value) {
    out.extend_from_slice(format!("data: {event}\n\n").as_bytes());
}
