//! Answers as Hugging Face's text generation gives them, whole and piece by piece. Tools have no place in them:
//! their calls are left out.

use bytes::BytesMut;
use serde_json::{Value, json};

use super::{DETAILS, LIST, PROMPT};
use crate::convert::answer::{Answer, Block, Choice, Failure, Finish, Tokens};
use crate::convert::events::{Writer, unquoted};
use crate::json::quote;
use crate::provider::Asked;

/// A whole answer. What single tokens were is not known of another provider's.
pub(super) fn write(answer: Answer, asked: &Asked<'_>) -> Value {
    let choice = answer.choices.into_iter().next().unwrap_or_default();
    let text = [prompt(asked), &text(&choice)].concat();
    let mut written = json!({"generated_text": text});
    if asked.kept.contains_key(DETAILS) {
        written["details"] = json!({
            "finish_reason": finish_reason(&choice.finish),
            "generated_tokens": answer.tokens.map_or(0, |tokens| tokens.completion),
            "seed": null,
            "prefill": [],
            "tokens": [],
        });
    }
    if asked.kept.contains_key(LIST) { json!([written]) } else { written }
}

fn text(choice: &Choice) -> String {
    let said = choice.blocks.iter().filter_map(|block| match block {
        Block::Text(text) | Block::Refusal(text) => Some(&**text),
        Block::Reasoning { .. }
        | Block::Redacted(_)
        | Block::Image(_)
        | Block::Audio(_)
        | Block::Call { .. } => None,
    });
    said.collect::<Vec<_>>().join(choice.joint)
}

/// What stands before the answer.
fn prompt<'a>(asked: &Asked<'a>) -> &'a str {
    asked.kept.get(PROMPT).and_then(Value::as_str).unwrap_or_default()
}

/// The format's word for why an answer ended: it knows three reasons.
fn finish_reason(finish: &Finish) -> &'static str {
    match finish {
        Finish::Length => "length",
        Finish::Sequence(_) => "stop_sequence",
        Finish::Stop | Finish::Calls | Finish::Filtered | Finish::Guardrail | Finish::Other(_) => "eos_token",
    }
}

/// An error.
pub(super) fn error(failure: &Failure<'_>) -> Value {
    json!({"error": failure.message, "error_type": error_type(failure)})
}

/// The format's word for an error; of those that its servers do not know, the cause's.
fn error_type<'a>(failure: &Failure<'a>) -> &'a str {
    match failure.status {
        429 | 503 | 529 => "overloaded",
        400 | 413 | 422 => "validation",
        401..=404 => failure.kind,
        _ => "generation",
    }
}

/// The pieces of a streamed answer, each told as a token; its number and how likely it was are not known.
pub(super) struct Pieces {
    count: u64,
    /// All that was said so far.
    text: String,
    details: bool,
    finish: &'static str,
}

impl Pieces {
    pub fn new(asked: &Asked<'_>) -> Self {
        let details = asked.kept.contains_key(DETAILS);
        Self { count: 0, text: prompt(asked).to_owned(), details, finish: "eos_token" }
    }

    fn token(&mut self, out: &mut BytesMut, quoted: &str, is_last: bool, end: &str) {
        self.count += 1;
        let count = self.count;
        let event = format!(
            r#"data: {{"index":{count},"token":{{"id":0,"text":{quoted},"logprob":0.0,"special":{is_last}}},{end}}}"#
        );
        out.extend_from_slice(event.as_bytes());
        out.extend_from_slice(b"\n\n");
    }
}

impl Writer for Pieces {
    fn name(&mut self, _: Option<&str>, _: Option<&str>) {}

    fn start(&mut self, _: &mut BytesMut, _: Option<Tokens>) {}

    fn text(&mut self, out: &mut BytesMut, quoted: &str) {
        self.text.push_str(&unquoted(quoted));
        self.token(out, quoted, false, r#""generated_text":null,"details":null"#);
    }

    fn reasoning(&mut self, _: &mut BytesMut, _: &str) {}

    fn call(&mut self, _: &mut BytesMut, _: usize, _: &str, _: &str) {}

    fn arguments(&mut self, _: &mut BytesMut, _: usize, _: &str) {}

    fn finish(&mut self, _: &mut BytesMut, finish: &Finish) {
        self.finish = finish_reason(finish);
    }

    /// The last token says nothing: it stands for the model's own sign of the end.
    fn done(&mut self, out: &mut BytesMut, tokens: Option<Tokens>) {
        let details = self.details.then(|| {
            json!({
                "finish_reason": self.finish,
                "generated_tokens": tokens.map_or(self.count, |tokens| tokens.completion),
                "input_length": tokens.map_or(0, |tokens| tokens.prompt),
                "seed": null,
            })
        });
        let (text, details) = (quote(&self.text), details.unwrap_or_default());
        self.token(out, r#""""#, true, &format!(r#""generated_text":{text},"details":{details}"#));
    }

    fn fail(&mut self, out: &mut BytesMut, failure: &Failure<'_>) {
        out.extend_from_slice(format!("data: {}\n\n", error(failure)).as_bytes());
    }
}
