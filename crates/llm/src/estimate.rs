//! Tokens where the provider does not tell: Kong's estimates.

use serde_json::Value;

use crate::json;

/// Tokens of a prompt: its words, weighted higher where the answer is streamed (Kong 3.11: 1.8 and 1.0,
/// rounded half up). Numbers count as one each.
pub fn prompt_tokens(body: &[u8], stream: bool) -> u64 {
    let Ok(body) = serde_json::from_slice::<Value>(body) else { return 0 };
    let words = match (&body["messages"], &body["prompt"], &body["input"]) {
        (Value::Array(messages), _, _) => messages.iter().map(|message| words(&message["content"])).sum(),
        (_, Value::Null, Value::Null) => {
            ["texts", "inputText", "inputs"].iter().map(|name| words(&body[*name])).sum()
        }
        (_, Value::Null, input) => words(input),
        (_, prompt, _) => words(prompt),
    };
    let factor = if stream { 1.8 } else { 1.0 };
    (words as f64 * factor + 0.5).floor() as u64
}

/// Tokens of a chat in Anthropic's format, for providers that do not count them beforehand: one for four bytes of
/// what is said and of what the tools are, and as many as Anthropic counts at most for a picture.
pub fn message_tokens(body: &[u8]) -> u64 {
    let Ok(body) = serde_json::from_slice::<Value>(body) else { return 0 };
    let length: usize = ["system", "messages", "tools"].iter().map(|name| length(&body[*name])).sum();
    length.div_ceil(4) as u64
}

/// Length of a picture, in bytes of text that cost as much.
const PICTURE: usize = 1600 * 4;

fn length(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(length).sum(),
        Value::Object(source) if source.get("type").is_some_and(|kind| kind == "base64") => PICTURE,
        Value::Object(members) => members
            .iter()
            .filter(|(name, _)| !matches!(name.as_str(), "signature" | "cache_control"))
            .map(|(name, value)| name.len() + length(value))
            .sum(),
        Value::Number(_) | Value::Bool(_) => 4,
        Value::Null => 0,
    }
}

fn words(content: &Value) -> usize {
    match content {
        Value::String(text) => text.split_whitespace().count(),
        Value::Array(parts) => parts
            .iter()
            .map(|part| match part {
                Value::Object(part) if part.get("type").is_none_or(|kind| kind == "text") => {
                    part.get("text").and_then(Value::as_str).map_or(0, |text| text.split_whitespace().count())
                }
                Value::Object(_) => 0,
                other => words(other),
            })
            .sum(),
        Value::Number(_) => 1,
        _ => 0,
    }
}

/// The text of a streamed answer: its length, and the text itself where it is kept.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Text {
    /// Bytes, without white space at either end.
    length: usize,
    /// White space at the end so far.
    trailing: usize,
    /// The text, where it is kept.
    pub kept: Option<String>,
}

/// Most text that is kept of an answer, in bytes.
const LONGEST_TEXT: usize = 1024 * 1024;

impl Text {
    /// Adds a piece that is JSON text of a string.
    pub fn add(&mut self, quoted: &[u8], keep: bool) {
        let Some(piece) = json::unquote(quoted) else { return };
        let start = if self.length == 0 { piece.trim_ascii_start() } else { &*piece };
        let end = start.trim_ascii_end();
        if end.is_empty() {
            self.trailing += start.len();
        } else {
            self.length += self.trailing + end.len();
            self.trailing = start.len() - end.len();
        }
        if self.length == 0 {
            self.trailing = 0;
        }
        if keep {
            let kept = self.kept.get_or_insert_default();
            if kept.len() + piece.len() <= LONGEST_TEXT {
                kept.push_str(&piece);
            }
        }
    }

    /// Its tokens: four bytes each (Kong 3.11).
    pub fn tokens(&self) -> u64 {
        self.length.div_ceil(4) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn messages_cost_their_bytes() {
        let picture = json!({"type": "image", "source": {"type": "base64", "data": "a".repeat(100_000)}});
        for (body, expected) in [
            (json!({}), 0),
            (json!({"messages": [{"role": "user", "content": "x".repeat(400)}]}), 104),
            (json!({"messages": [{"role": "user", "content": [picture]}]}), 1608),
        ] {
            assert_eq!(message_tokens(body.to_string().as_bytes()), expected, "{body}");
        }
        let tools = json!([{"name": "f", "input_schema": {"type": "object"}}]);
        assert_eq!(message_tokens(json!({"system": "a", "tools": tools}).to_string().as_bytes()), 7);
        assert_eq!(message_tokens(b"x"), 0);
    }

    #[test]
    fn words_of_every_shape() {
        let apples = "apple ".repeat(10);
        for (body, plain, streamed) in [
            (json!({"messages": [{"content": apples}]}), 10, 18),
            (
                json!({"messages": [{"content": [{"type": "text", "text": apples}, {"type": "text", "text": apples}]}]}),
                20,
                36,
            ),
            (
                json!({"messages": [{"content": [{"type": "not_text", "text": apples}, {"type": "text"}]}]}),
                0,
                0,
            ),
            (json!({"messages": [{"content": "a b c"}, {"content": null}]}), 3, 5),
            (json!({"prompt": "What are you?"}), 3, 5),
            (json!({"prompt": [1, 2, 3]}), 3, 5),
            (json!({"input": ["one two", "three"]}), 3, 5),
            (json!({"inputs": "one two three"}), 3, 5),
        ] {
            let text = body.to_string();
            assert_eq!(
                (prompt_tokens(text.as_bytes(), false), prompt_tokens(text.as_bytes(), true)),
                (plain, streamed),
                "{text}"
            );
        }
    }

    #[test]
    fn text_is_counted_without_its_ends() {
        let mut text = Text::default();
        for piece in [r#""  ""#, r#"" The answer""#, r#"" to 1 + 1 is 2.""#, r#"" \n""#] {
            text.add(piece.as_bytes(), true);
        }
        assert_eq!((text.length, text.tokens()), ("The answer to 1 + 1 is 2.".len(), 7));
        assert_eq!(text.kept.as_deref(), Some("   The answer to 1 + 1 is 2. \n"));
    }
}
