//! A streamed answer collected into a whole one, for clients that have not asked for a stream of providers that give
//! one nevertheless.

use std::collections::BTreeMap;

use bytes::BytesMut;
use serde_json::{Map, Value};

use super::answer::{Answer, Block, Choice, Failure, Finish, Image, Tokens};
use super::audio::Audio;
use super::events::{Writer, unquoted};
use crate::provider::Asked;
use crate::{Format, Operation};

/// Writes nothing until all is there; then the answer, or the error that stands for it.
pub(crate) struct Collected {
    format: Format,
    operation: Operation,
    model: String,
    id: String,
    created: u64,
    kept: Map<String, Value>,
    action: String,
    answer: Answer,
    /// Which of the answers is told of, and what it is so far.
    index: u64,
    choice: Choice,
    /// The others.
    others: BTreeMap<u64, Choice>,
}

impl Collected {
    pub fn new(asked: &Asked<'_>) -> Self {
        Self {
            format: asked.format,
            operation: asked.operation,
            model: asked.model.to_owned(),
            id: asked.id.to_owned(),
            created: asked.created,
            kept: asked.kept.clone(),
            action: asked.action.to_owned(),
            answer: Answer::default(),
            index: 0,
            choice: Choice::default(),
            others: BTreeMap::new(),
        }
    }
}

impl Writer for Collected {
    fn name(&mut self, id: Option<&str>, model: Option<&str>) {
        self.answer.id = id.map(str::to_owned);
        self.answer.model = model.map(str::to_owned);
    }

    fn choice(&mut self, index: u64) -> bool {
        let next = self.others.remove(&index).unwrap_or_default();
        let before = std::mem::replace(&mut self.choice, next);
        self.others.insert(std::mem::replace(&mut self.index, index), before);
        true
    }

    fn start(&mut self, _: &mut BytesMut, _: Option<Tokens>) {}

    fn text(&mut self, _: &mut BytesMut, quoted: &str) {
        match self.choice.blocks.last_mut() {
            Some(Block::Text(text)) => text.push_str(&unquoted(quoted)),
            _ => self.choice.blocks.push(Block::Text(unquoted(quoted).into_owned())),
        }
    }

    fn reasoning(&mut self, _: &mut BytesMut, quoted: &str) {
        match self.choice.blocks.last_mut() {
            // A signature ends what was thought.
            Some(Block::Reasoning { text, signature: None }) => text.push_str(&unquoted(quoted)),
            _ => {
                let text = unquoted(quoted).into_owned();
                self.choice.blocks.push(Block::Reasoning { text, signature: None });
            }
        }
    }

    fn signature(&mut self, _: &mut BytesMut, quoted: &str) {
        if let Some(Block::Reasoning { signature, .. }) = self.choice.blocks.last_mut() {
            signature.get_or_insert_default().push_str(&unquoted(quoted));
        }
    }

    fn redacted(&mut self, _: &mut BytesMut, quoted: &str) {
        self.choice.blocks.push(Block::Redacted(unquoted(quoted).into_owned()));
    }

    fn refusal(&mut self, _: &mut BytesMut, quoted: &str) {
        match self.choice.blocks.last_mut() {
            Some(Block::Refusal(text)) => text.push_str(&unquoted(quoted)),
            _ => self.choice.blocks.push(Block::Refusal(unquoted(quoted).into_owned())),
        }
    }

    fn image(&mut self, _: &mut BytesMut, _: usize, image: Image) {
        self.choice.blocks.push(Block::Image(image));
    }

    fn audio(&mut self, _: &mut BytesMut, piece: Audio) {
        match self.choice.blocks.last_mut() {
            Some(Block::Audio(audio)) => audio.add(piece),
            _ => self.choice.blocks.push(Block::Audio(piece)),
        }
    }

    fn call(&mut self, _: &mut BytesMut, _: usize, id: &str, name: &str) {
        let (id, name) = (id.to_owned(), name.to_owned());
        self.choice.blocks.push(Block::Call { id, name, arguments: String::new() });
    }

    fn arguments(&mut self, _: &mut BytesMut, _: usize, quoted: &str) {
        if let Some(Block::Call { arguments, .. }) = self.choice.blocks.last_mut() {
            arguments.push_str(&unquoted(quoted));
        }
    }

    fn finish(&mut self, _: &mut BytesMut, finish: &Finish) {
        self.choice.finish = finish.clone();
    }

    fn done(&mut self, out: &mut BytesMut, tokens: Option<Tokens>) {
        let mut answer = std::mem::take(&mut self.answer);
        let mut choices = std::mem::take(&mut self.others);
        choices.insert(self.index, std::mem::take(&mut self.choice));
        answer.choices = choices.into_values().collect();
        answer.tokens = tokens;
        let asked = Asked {
            format: self.format,
            operation: self.operation,
            model: &self.model,
            id: &self.id,
            created: self.created,
            kept: &self.kept,
            action: &self.action,
        };
        out.extend_from_slice(&answer.write(&asked, None));
    }

    fn fail(&mut self, out: &mut BytesMut, failure: &Failure<'_>) {
        out.extend_from_slice(failure.write(self.format).to_string().as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::{self, Settings, Shape, StreamWishes};
    use bytes::Bytes;
    use serde_json::json;

    fn collect(provider: &str, format: Format, events: &[Value]) -> (Value, Option<u16>) {
        let settings = Settings::default();
        let provider = provider::configured(provider, &settings).unwrap();
        let kept = Map::new();
        let asked = Asked {
            format,
            operation: Operation::Chat,
            model: "m",
            id: "i",
            created: 1,
            kept: &kept,
            action: "",
        };
        let wishes = StreamWishes { shape: Shape::Whole, ..StreamWishes::default() };
        let mut stream = provider.stream(&asked, wishes);
        let mut out = Vec::new();
        for event in events {
            out.extend_from_slice(&stream.chunk(Bytes::from(format!("data: {event}\n\n"))));
        }
        out.extend_from_slice(&stream.end());
        (serde_json::from_slice(&out).unwrap(), stream.take_seen().failed)
    }

    fn openai_events() -> Vec<Value> {
        let chunk = |delta: Value, reason: Value| {
            json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt",
                "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})
        };
        vec![
            chunk(json!({"role": "assistant", "content": ""}), Value::Null),
            chunk(json!({"content": "Say \"a"}), Value::Null),
            chunk(json!({"content": "\n\u{e9}"}), Value::Null),
            chunk(
                json!({"tool_calls": [{"index": 0, "id": "t", "function": {"name": "f", "arguments": ""}}]}),
                Value::Null,
            ),
            chunk(json!({"tool_calls": [{"index": 0, "function": {"arguments": "{\"x\":"}}]}), Value::Null),
            chunk(json!({"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]}), Value::Null),
            chunk(json!({}), json!("tool_calls")),
            json!({"id": "c", "model": "gpt", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}}),
        ]
    }

    #[test]
    fn of_the_clients_own_format() {
        let (answer, failed) = collect("openai", Format::OpenAi, &openai_events());
        let call =
            json!({"id": "t", "type": "function", "function": {"name": "f", "arguments": "{\"x\":1}"}});
        let message =
            json!({"role": "assistant", "content": "Say \"a\n\u{e9}", "refusal": null, "tool_calls": [call]});
        let expected = json!({
            "id": "c", "object": "chat.completion", "created": 1, "model": "gpt",
            "choices": [{"index": 0, "message": message, "logprobs": null, "finish_reason": "tool_calls"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
        });
        assert_eq!((answer, failed), (expected, None));
    }

    #[test]
    fn of_another_format() {
        let (answer, failed) = collect("openai", Format::Anthropic, &openai_events());
        assert_eq!(failed, None);
        assert_eq!(
            answer["content"],
            json!([
                {"type": "text", "text": "Say \"a\n\u{e9}"},
                {"type": "tool_use", "id": "t", "name": "f", "input": {"x": 1}},
            ])
        );
        assert_eq!(answer["stop_reason"], "tool_use");
    }

    #[test]
    fn thoughts_keep_their_signatures() {
        let delta = |delta: Value| json!({"type": "content_block_delta", "index": 0, "delta": delta});
        let events = [
            json!({"type": "message_start", "message": {"id": "a", "model": "claude", "usage": {"input_tokens": 5, "output_tokens": 1}}}),
            delta(json!({"type": "thinking_delta", "thinking": "one "})),
            delta(json!({"type": "thinking_delta", "thinking": "two"})),
            delta(json!({"type": "signature_delta", "signature": "s"})),
            delta(json!({"type": "text_delta", "text": "Hi"})),
            json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}}),
            json!({"type": "message_stop"}),
        ];
        let (answer, failed) = collect("anthropic", Format::Anthropic, &events);
        assert_eq!(failed, None);
        let thoughts = json!({"type": "thinking", "thinking": "one two", "signature": "s"});
        assert_eq!(answer["content"], json!([thoughts, {"type": "text", "text": "Hi"}]));
        assert_eq!(
            (&answer["usage"]["input_tokens"], &answer["usage"]["output_tokens"]),
            (&json!(5), &json!(9))
        );
    }

    #[test]
    fn what_breaks_off_is_an_error() {
        let (answer, failed) = collect("openai", Format::OpenAi, &openai_events()[..3]);
        assert_eq!(failed, Some(502));
        assert_eq!(answer["error"]["message"], "the answer of openai ended before it was complete");
        let event = json!({"type": "error", "error": {"type": "overloaded_error", "message": "busy"}});
        let (answer, failed) = collect("anthropic", Format::OpenAi, &[event]);
        assert_eq!((&answer["error"]["message"], failed), (&json!("busy"), Some(529)));
    }
}
