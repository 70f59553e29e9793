//! A streamed message: blocks that begin, grow and end, one after the other.

use bytes::BytesMut;
use serde_json::json;

use super::answer_writer::{error, id, stop_reason, usage};
use crate::convert::answer::{Failure, Finish, Tokens};
use crate::convert::events::Writer;
use crate::json::{Object, quote};
use crate::provider::Asked;

/// The events of a streamed message.
pub(super) struct MessageEvents {
    asked: String,
    id: String,
    model: String,
    /// Of the block under way, else of the next one.
    index: usize,
    open: Option<Kind>,
    calls: bool,
    finish: Finish,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Thinking,
    Call,
}

impl MessageEvents {
    pub(super) fn new(asked: &Asked<'_>) -> Self {
        Self {
            asked: asked.id.to_owned(),
            id: id(None, asked.id),
            model: asked.model.to_owned(),
            index: 0,
            open: None,
            calls: false,
            finish: Finish::Stop,
        }
    }

    /// Begins a block, unless one of its kind is under way that can go on.
    fn open(&mut self, out: &mut BytesMut, kind: Kind, block: &str) {
        if self.open == Some(kind) && kind != Kind::Call {
            return;
        }
        self.close(out);
        self.open = Some(kind);
        self.start_block(out, block);
    }

    fn start_block(&self, out: &mut BytesMut, block: &str) {
        let index = self.index;
        let data = format!(r#"{{"type":"content_block_start","index":{index},"content_block":{block}}}"#);
        put(out, "content_block_start", &data);
    }

    fn close(&mut self, out: &mut BytesMut) {
        if self.open.take().is_some() {
            self.stop_block(out);
        }
    }

    fn stop_block(&mut self, out: &mut BytesMut) {
        let data = format!(r#"{{"type":"content_block_stop","index":{}}}"#, self.index);
        put(out, "content_block_stop", &data);
        self.index += 1;
    }

    fn delta(&self, out: &mut BytesMut, kind: &str, member: &str, quoted: &str) {
        let index = self.index;
        let start = format!(
            "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":{index},\"delta\":{{\"type\":\"{kind}\",\"{member}\":"
        );
        for piece in [start.as_str(), quoted, "}}\n\n"] {
            out.extend_from_slice(piece.as_bytes());
        }
    }
}

impl Writer for MessageEvents {
    fn name(&mut self, id: Option<&str>, model: Option<&str>) {
        self.id = self::id(id, &self.asked);
        if let Some(model) = model {
            model.clone_into(&mut self.model);
        }
    }

    fn start(&mut self, out: &mut BytesMut, tokens: Option<Tokens>) {
        let message = json!({
            "id": self.id, "type": "message", "role": "assistant", "model": self.model, "content": [],
            "stop_reason": null, "stop_sequence": null, "usage": usage(tokens.unwrap_or_default()),
        });
        put(out, "message_start", &json!({"type": "message_start", "message": message}).to_string());
    }

    fn text(&mut self, out: &mut BytesMut, quoted: &str) {
        self.open(out, Kind::Text, r#"{"type":"text","text":""}"#);
        self.delta(out, "text_delta", "text", quoted);
    }

    fn reasoning(&mut self, out: &mut BytesMut, quoted: &str) {
        self.open(out, Kind::Thinking, r#"{"type":"thinking","thinking":"","signature":""}"#);
        self.delta(out, "thinking_delta", "thinking", quoted);
    }

    fn signature(&mut self, out: &mut BytesMut, quoted: &str) {
        // A signature without thoughts is one of thoughts that are kept back.
        self.open(out, Kind::Thinking, r#"{"type":"thinking","thinking":"","signature":""}"#);
        self.delta(out, "signature_delta", "signature", quoted);
    }

    fn redacted(&mut self, out: &mut BytesMut, quoted: &str) {
        self.close(out);
        self.start_block(out, &format!(r#"{{"type":"redacted_thinking","data":{quoted}}}"#));
        self.stop_block(out);
    }

    fn call(&mut self, out: &mut BytesMut, _: usize, id: &str, name: &str) {
        self.calls = true;
        let (id, name) = (quote(id), quote(name));
        self.open(out, Kind::Call, &format!(r#"{{"type":"tool_use","id":{id},"name":{name},"input":{{}}}}"#));
    }

    fn arguments(&mut self, out: &mut BytesMut, _: usize, quoted: &str) {
        self.delta(out, "input_json_delta", "partial_json", quoted);
    }

    fn end_call(&mut self, out: &mut BytesMut, _: usize) {
        self.close(out);
    }

    fn finish(&mut self, out: &mut BytesMut, finish: &Finish) {
        self.close(out);
        self.finish = finish.clone();
    }

    fn done(&mut self, out: &mut BytesMut, tokens: Option<Tokens>) {
        self.close(out);
        let (reason, sequence) = stop_reason(&self.finish, self.calls);
        let last = json!({
            "type": "message_delta",
            "delta": {"stop_reason": reason, "stop_sequence": sequence},
            "usage": usage(tokens.unwrap_or_default()),
        });
        put(out, "message_delta", &last.to_string());
        put(out, "message_stop", r#"{"type":"message_stop"}"#);
    }

    fn fail(&mut self, out: &mut BytesMut, failure: &Failure<'_>) {
        put(out, "error", &error(failure).to_string());
    }
}

/// Writes an event.
fn put(out: &mut BytesMut, name: &str, data: &str) {
    for piece in ["event: ", name, "\ndata: ", data, "\n\n"] {
        out.extend_from_slice(piece.as_bytes());
    }
}

/// Passes on an event of which there is only the data, and returns its type; `None` where it has none.
pub(crate) fn pass(data: &str, out: &mut BytesMut) -> Option<String> {
    let kind = Object::parse(data.as_bytes())?.get_str("type")?.into_owned();
    put(out, &kind, data);
    Some(kind)
}
