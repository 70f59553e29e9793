//! Streamed answers in OpenAI's format, written event by event for providers that speak another.

use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};

use super::answer::Tokens;
use crate::Operation;
use crate::json::{Object, quote};
use crate::provider::{Asked, StreamWishes};
use crate::request::Call;
use crate::usage::Seen;

/// Whether the client asks for the tokens of a streamed answer.
pub(crate) fn usage_is_wanted(call: &Call<'_>) -> bool {
    let options = call.body.get("stream_options").and_then(|options| Object::parse(options.as_bytes()));
    options.is_some_and(|options| options.get("include_usage") == Some("true"))
}

/// The events that go to the client, and what is known of the answer by them.
pub(crate) struct Chunks {
    out: BytesMut,
    /// What every event begins with: all before its delta.
    head: Vec<u8>,
    asked: Head,
    wishes: StreamWishes,
    pub seen: Seen,
    /// Tokens as far as they are told.
    pub tokens: Option<Tokens>,
    /// The tool whose call is under way: its index, and whether anything of its arguments has come.
    call: Option<(usize, bool)>,
    calls: usize,
    /// Why the model is done has been said.
    finished: bool,
    state: State,
}

/// How far the answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    UnderWay,
    /// `[DONE]` has been said.
    Done,
    /// An error has been told; nothing follows.
    Failed,
}

struct Head {
    chat: bool,
    model: String,
    id: String,
    created: u64,
}

impl Chunks {
    pub fn new(asked: &Asked<'_>, wishes: StreamWishes) -> Self {
        let head = Head {
            chat: asked.operation == Operation::Chat,
            model: asked.model.to_owned(),
            id: format!("chatcmpl-{}", asked.id),
            created: asked.created,
        };
        Self {
            out: BytesMut::new(),
            head: head.write(),
            asked: head,
            wishes,
            seen: Seen::default(),
            tokens: None,
            call: None,
            calls: 0,
            finished: false,
            state: State::UnderWay,
        }
    }

    /// Names the answer and who gives it, in all that follows.
    pub fn name(&mut self, id: Option<&str>, model: Option<&str>) {
        if let Some(id) = id {
            id.clone_into(&mut self.asked.id);
        }
        if let Some(model) = model {
            model.clone_into(&mut self.asked.model);
            self.seen.model = Some(model.to_owned());
        }
        self.head = self.asked.write();
    }

    /// Says that the assistant speaks.
    pub fn start(&mut self) {
        self.delta(&[br#"{"role":"assistant","content":""}"#]);
    }

    /// A piece of text, as JSON text of a string.
    pub fn text(&mut self, quoted: &str) {
        if !quoted.starts_with('"') || quoted == "\"\"" {
            return;
        }
        self.seen.text.add(quoted.as_bytes(), self.wishes.keep_text);
        match self.asked.chat {
            true => self.delta(&[br#"{"content":"#, quoted.as_bytes(), b"}"]),
            false => self.event(&[quoted.as_bytes()], "null"),
        }
    }

    /// A piece of the model's thoughts, as JSON text of a string.
    pub fn reasoning(&mut self, quoted: &str) {
        if quoted.starts_with('"') && quoted != "\"\"" {
            self.delta(&[br#"{"reasoning_content":"#, quoted.as_bytes(), b"}"]);
        }
    }

    /// A call of a tool begins.
    pub fn call(&mut self, id: &str, name: &str) {
        let index = self.calls;
        self.calls += 1;
        self.call = Some((index, false));
        let call = format!(
            r#"{{"tool_calls":[{{"index":{index},"id":{},"type":"function","function":{{"name":{},"arguments":""}}}}]}}"#,
            quote(id),
            quote(name)
        );
        self.delta(&[call.as_bytes()]);
    }

    /// A piece of the arguments of the call under way, as JSON text of a string.
    pub fn arguments(&mut self, quoted: &str) {
        let Some((index, any)) = &mut self.call else { return };
        if !quoted.starts_with('"') || quoted == "\"\"" {
            return;
        }
        *any = true;
        let start = format!(r#"{{"tool_calls":[{{"index":{index},"function":{{"arguments":"#);
        self.delta(&[start.as_bytes(), quoted.as_bytes(), b"}}]}"]);
    }

    /// The call under way has ended. One without arguments has an empty object of them.
    pub fn end_call(&mut self) {
        if matches!(self.call, Some((_, false))) {
            self.arguments(r#""{}""#);
        }
        self.call = None;
    }

    /// The model is done, for this reason.
    pub fn finish(&mut self, reason: &str) {
        self.finished = true;
        if self.wishes.keep_text {
            self.seen.finish_reason = Some(reason.to_owned());
        }
        let nothing: &[u8] = if self.asked.chat { b"{}" } else { br#""""# };
        self.event(&[nothing], &quote(reason));
    }

    /// The last event, behind the usage where the client asked for that.
    pub fn done(&mut self) {
        if self.state != State::UnderWay {
            return;
        }
        if let Some(tokens) = self.tokens {
            self.seen.usage = Some(tokens.usage());
            if !self.wishes.hide_usage {
                let event = json!({
                    "id": self.asked.id, "object": self.asked.object(), "created": self.asked.created,
                    "model": self.asked.model, "choices": [], "usage": tokens.write(),
                });
                self.put(&event);
            }
        }
        self.out.extend_from_slice(b"data: [DONE]\n\n");
        self.state = State::Done;
    }

    /// An error where the answer should go on; `status` is what it would be as an answer.
    pub fn fail(&mut self, message: &str, kind: &str, status: u16) {
        if self.state != State::UnderWay {
            return;
        }
        let mut error = super::answer::error(message, kind);
        error["error"]["status"] = status.into();
        self.put(&error);
        self.state = State::Failed;
    }

    /// The provider, called so, has stopped: that is an error where the answer was not over.
    pub fn close(&mut self, provider: &str) {
        match self.finished {
            true => self.done(),
            false => {
                let message = format!("the answer of {provider} ended before it was complete");
                self.fail(&message, "server_error", 502);
            }
        }
    }

    /// What is to go to the client now.
    pub fn take(&mut self) -> Bytes {
        self.out.split().freeze()
    }

    /// Gives away what is known. Of an answer that broke off, the prompt's tokens may have been told, and the text
    /// is counted.
    pub fn take_seen(&mut self) -> Seen {
        let mut seen = std::mem::take(&mut self.seen);
        if let (None, Some(tokens)) = (&seen.usage, self.tokens) {
            let completion = tokens.completion.max(seen.text.tokens());
            seen.usage = Some(Tokens { completion, ..tokens }.usage());
        }
        seen
    }

    fn delta(&mut self, delta: &[&[u8]]) {
        self.event(delta, "null");
    }

    fn event(&mut self, pieces: &[&[u8]], reason: &str) {
        if self.state != State::UnderWay {
            return;
        }
        self.out.extend_from_slice(&self.head);
        pieces.iter().for_each(|piece| self.out.extend_from_slice(piece));
        self.out.extend_from_slice(br#","logprobs":null,"finish_reason":"#);
        self.out.extend_from_slice(reason.as_bytes());
        self.out.extend_from_slice(b"}]}\n\n");
    }

    fn put(&mut self, event: &Value) {
        self.out.extend_from_slice(format!("data: {event}\n\n").as_bytes());
    }
}

impl Head {
    fn object(&self) -> &'static str {
        if self.chat { "chat.completion.chunk" } else { "text_completion" }
    }

    fn write(&self) -> Vec<u8> {
        let (id, object, created, model) = (quote(&self.id), self.object(), self.created, quote(&self.model));
        let member = if self.chat { "delta" } else { "text" };
        format!(
            r#"data: {{"id":{id},"object":"{object}","created":{created},"model":{model},"choices":[{{"index":0,"{member}":"#
        )
        .into_bytes()
    }
}
