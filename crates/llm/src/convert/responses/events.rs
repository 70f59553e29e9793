//! A streamed response: items that begin, grow and end, one after the other.

use bytes::BytesMut;
use serde_json::{Map, Value, json};

use super::{answer_writer, items};
use crate::convert::answer::{Failure, Finish, Image, Tokens};
use crate::convert::events::{Writer, unquoted};
use crate::provider::Asked;
use crate::{Format, Operation};

/// The events of a streamed response.
pub(super) struct ResponseEvents {
    id: String,
    created: u64,
    kept: Map<String, Value>,
    model: String,
    sequence: u64,
    /// Items that have ended.
    output: Vec<Value>,
    open: Option<Open>,
    finish: Finish,
}

/// The item under way, as far as it has come.
struct Open {
    kind: Kind,
    text: String,
}

#[derive(PartialEq, Eq)]
enum Kind {
    Text,
    Refusal,
    Reasoning { signature: String },
    Call { id: String, name: String },
}

impl ResponseEvents {
    pub(super) fn new(asked: &Asked<'_>) -> Self {
        Self {
            id: asked.id.to_owned(),
            created: asked.created,
            kept: asked.kept.clone(),
            model: asked.model.to_owned(),
            sequence: 0,
            output: Vec::new(),
            open: None,
            finish: Finish::Stop,
        }
    }

    fn asked(&self) -> Asked<'_> {
        Asked {
            format: Format::Responses,
            operation: Operation::Chat,
            model: &self.model,
            id: &self.id,
            created: self.created,
            kept: &self.kept,
            action: "",
        }
    }

    fn put(&mut self, out: &mut BytesMut, kind: &str, members: Value) {
        let mut event = Map::new();
        event.insert("type".to_owned(), kind.into());
        event.insert("sequence_number".to_owned(), self.sequence.into());
        if let Value::Object(members) = members {
            event.extend(members);
        }
        self.sequence += 1;
        out.extend_from_slice(format!("event: {kind}\ndata: {}\n\n", Value::Object(event)).as_bytes());
    }

    fn response(&self) -> Map<String, Value> {
        let asked = self.asked();
        let mut response = answer_writer::frame(&asked, &answer_writer::id(&asked), &self.model);
        response.insert("output".to_owned(), self.output.clone().into());
        response
    }

    fn index(&self) -> usize {
        self.output.len()
    }

    /// The item under way, as it stands.
    fn item(&self, open: &Open, status: &str) -> Value {
        let (asked, index, text) = (self.asked(), self.index(), &open.text);
        let parts = |part: fn(&str) -> Value| match status {
            "in_progress" => Vec::new(),
            _ => vec![part(text)],
        };
        match &open.kind {
            Kind::Text => answer_writer::message(&asked, index, status, parts(answer_writer::output_text)),
            Kind::Refusal => answer_writer::message(&asked, index, status, parts(answer_writer::refusal)),
            Kind::Reasoning { signature } => {
                let secret = Some(&**signature).filter(|signature| !signature.is_empty());
                items::reasoning(&asked, index, text, secret)
            }
            Kind::Call { id, name } => answer_writer::call(&asked, index, id, name, text, status),
        }
    }

    /// Begins an item.
    fn begin(&mut self, out: &mut BytesMut, kind: Kind) {
        self.close(out);
        let open = Open { kind, text: String::new() };
        let item = self.item(&open, "in_progress");
        let (index, id) = (self.index(), item["id"].clone());
        self.put(out, "response.output_item.added", json!({"output_index": index, "item": item}));
        let place = json!({"item_id": id, "output_index": index});
        match &open.kind {
            Kind::Text | Kind::Refusal => {
                let part = match open.kind {
                    Kind::Text => answer_writer::output_text(""),
                    _ => answer_writer::refusal(""),
                };
                self.put(
                    out,
                    "response.content_part.added",
                    with(place, [("content_index", 0.into()), ("part", part)]),
                );
            }
            Kind::Reasoning { .. } => {
                let part = json!({"type": "summary_text", "text": ""});
                self.put(
                    out,
                    "response.reasoning_summary_part.added",
                    with(place, [("summary_index", 0.into()), ("part", part)]),
                );
            }
            Kind::Call { .. } => {}
        }
        self.open = Some(open);
    }

    /// A piece of the item under way.
    fn grow(&mut self, out: &mut BytesMut, quoted: &str) {
        let Some(mut open) = self.open.take() else { return };
        let piece = unquoted(quoted);
        open.text.push_str(&piece);
        let id = self.item(&open, "in_progress")["id"].clone();
        let place = json!({"item_id": id, "output_index": self.index(), "delta": &*piece});
        match &open.kind {
            Kind::Text => self.put(
                out,
                "response.output_text.delta",
                with(place, [("content_index", 0.into()), ("logprobs", json!([]))]),
            ),
            Kind::Refusal => {
                self.put(out, "response.refusal.delta", with(place, [("content_index", 0.into())]));
            }
            Kind::Reasoning { .. } => self.put(
                out,
                "response.reasoning_summary_text.delta",
                with(place, [("summary_index", 0.into())]),
            ),
            // The text that a tool takes is known when all arguments are there.
            Kind::Call { name, .. } if items::takes_text(&self.asked(), name) => {}
            Kind::Call { .. } => self.put(out, "response.function_call_arguments.delta", place),
        }
        self.open = Some(open);
    }

    /// Ends the item under way.
    fn close(&mut self, out: &mut BytesMut) {
        let Some(open) = self.open.take() else { return };
        let item = self.item(&open, "completed");
        let place = json!({"item_id": item["id"], "output_index": self.index()});
        let text = &open.text;
        match &open.kind {
            Kind::Text => {
                let at = with(place, [("content_index", 0.into())]);
                let done = with(at.clone(), [("text", json!(text)), ("logprobs", json!([]))]);
                self.put(out, "response.output_text.done", done);
                let part = answer_writer::output_text(text);
                self.put(out, "response.content_part.done", with(at, [("part", part)]));
            }
            Kind::Refusal => {
                let at = with(place, [("content_index", 0.into())]);
                self.put(out, "response.refusal.done", with(at.clone(), [("refusal", json!(text))]));
                self.put(
                    out,
                    "response.content_part.done",
                    with(at, [("part", answer_writer::refusal(text))]),
                );
            }
            Kind::Reasoning { .. } => {
                let at = with(place, [("summary_index", 0.into())]);
                let done = with(at.clone(), [("text", json!(text))]);
                self.put(out, "response.reasoning_summary_text.done", done);
                let part = json!({"type": "summary_text", "text": text});
                self.put(out, "response.reasoning_summary_part.done", with(at, [("part", part)]));
            }
            Kind::Call { .. } if item["type"] == "custom_tool_call" => {
                let input = item["input"].clone();
                let delta = with(place.clone(), [("delta", input.clone())]);
                self.put(out, "response.custom_tool_call_input.delta", delta);
                self.put(out, "response.custom_tool_call_input.done", with(place, [("input", input)]));
            }
            Kind::Call { name, .. } => {
                let done = with(place, [("name", json!(name)), ("arguments", json!(text))]);
                self.put(out, "response.function_call_arguments.done", done);
            }
        }
        let index = self.index();
        self.put(out, "response.output_item.done", json!({"output_index": index, "item": item}));
        self.output.push(item);
    }

    /// An item that comes whole.
    fn whole(&mut self, out: &mut BytesMut, item: Value) {
        let index = self.index();
        for kind in ["response.output_item.added", "response.output_item.done"] {
            self.put(out, kind, json!({"output_index": index, "item": item}));
        }
        self.output.push(item);
    }

    fn add(&mut self, out: &mut BytesMut, kind: Kind, quoted: &str) {
        let same = |open: &Open| std::mem::discriminant(&open.kind) == std::mem::discriminant(&kind);
        if !self.open.as_ref().is_some_and(same) {
            self.begin(out, kind);
        }
        self.grow(out, quoted);
    }
}

fn with<const N: usize>(mut place: Value, members: [(&str, Value); N]) -> Value {
    for (name, value) in members {
        place[name] = value;
    }
    place
}

impl Writer for ResponseEvents {
    fn name(&mut self, _: Option<&str>, model: Option<&str>) {
        if let Some(model) = model {
            model.clone_into(&mut self.model);
        }
    }

    fn start(&mut self, out: &mut BytesMut, _: Option<Tokens>) {
        for kind in ["response.created", "response.in_progress"] {
            let response = self.response();
            self.put(out, kind, json!({"response": response}));
        }
    }

    fn text(&mut self, out: &mut BytesMut, quoted: &str) {
        self.add(out, Kind::Text, quoted);
    }

    fn reasoning(&mut self, out: &mut BytesMut, quoted: &str) {
        self.add(out, Kind::Reasoning { signature: String::new() }, quoted);
    }

    fn signature(&mut self, _: &mut BytesMut, quoted: &str) {
        if let Some(Open { kind: Kind::Reasoning { signature }, .. }) = &mut self.open {
            signature.push_str(&unquoted(quoted));
        }
    }

    fn redacted(&mut self, out: &mut BytesMut, quoted: &str) {
        self.close(out);
        let item = items::reasoning(&self.asked(), self.index(), "", Some(&unquoted(quoted)));
        self.whole(out, item);
    }

    fn image(&mut self, out: &mut BytesMut, _: usize, image: Image) {
        self.close(out);
        let item = answer_writer::image(&self.asked(), self.index(), image);
        self.whole(out, item);
    }

    fn refusal(&mut self, out: &mut BytesMut, quoted: &str) {
        self.add(out, Kind::Refusal, quoted);
    }

    fn call(&mut self, out: &mut BytesMut, _: usize, id: &str, name: &str) {
        self.begin(out, Kind::Call { id: id.to_owned(), name: name.to_owned() });
    }

    fn arguments(&mut self, out: &mut BytesMut, _: usize, quoted: &str) {
        self.grow(out, quoted);
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
        let mut response = self.response();
        answer_writer::end(&mut response, &self.finish, tokens);
        let kind =
            if response["status"] == "completed" { "response.completed" } else { "response.incomplete" };
        self.put(out, kind, json!({"response": response}));
    }

    fn fail(&mut self, out: &mut BytesMut, failure: &Failure<'_>) {
        self.open = None;
        let mut response = self.response();
        response.insert("status".to_owned(), "failed".into());
        response.insert(
            "error".to_owned(),
            json!({"code": answer_writer::error_code(failure.status), "message": failure.message}),
        );
        self.put(out, "response.failed", json!({"response": response}));
    }
}
