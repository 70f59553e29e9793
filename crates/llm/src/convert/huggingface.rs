//! Hugging Face's text generation, as Text Generation Inference serves it: a text, and how the model goes on with it.

pub(crate) mod answer_reader;
mod answer_writer;
mod request_reader;
pub(crate) mod request_writer;

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::ClientFormat;
use super::answer::{Answer, Failure, kind_of};
use super::chat::Chat;
use super::events::Writer;
use crate::json::{Object, to_bytes};
use crate::provider::Asked;
use crate::request::{self, Call, Rules, Streaming};

/// As clients speak it.
pub(crate) struct Generation;

/// Kept of a request to a server's root, which answers with a list.
pub(crate) const LIST: &str = "list";

/// Kept of a request whose answer is to tell why it ended, and its tokens.
const DETAILS: &str = "details";

/// Kept of a request whose answer is to begin with the prompt: that prompt.
const PROMPT: &str = "inputs";

impl ClientFormat for Generation {
    /// The path says whether the answer is streamed: `/generate`, `/generate_stream`; below any other the body does.
    fn check<'a>(&self, body: Option<Object<'a>>, rules: &Rules<'a>) -> Result<Call<'a>, Cow<'static, str>> {
        let body = body.unwrap_or_default();
        if body.get("inputs").is_none_or(|inputs| matches!(inputs, "null" | "[]" | "\"\"")) {
            return Err("request body doesn't contain valid prompts".into());
        }
        let model = request::model(&body, rules)?
            .ok_or("model parameter not found in request, nor in gateway configuration")?;
        let (asks_stream, is_list) = match rules.path.trim_end_matches('/').rsplit_once('/') {
            Some((_, "generate_stream")) => (true, false),
            Some((_, "generate")) => (false, false),
            _ => (body.is_truthy("stream"), true),
        };
        if asks_stream && rules.streaming == Streaming::Deny {
            return Err("response streaming is not enabled for this LLM".into());
        }
        let stream = asks_stream || rules.streaming == Streaming::Always;
        let parameters = body.get("parameters").and_then(|parameters| Object::parse(parameters.as_bytes()));
        let wants = |name: &str| parameters.as_ref().is_some_and(|all| all.get(name) == Some("true"));
        let prompt = body.get_str("inputs").filter(|_| wants("return_full_text"));
        let kept = [
            (LIST, is_list.then_some(Value::Bool(true))),
            (DETAILS, wants("details").then_some(Value::Bool(true))),
            (PROMPT, prompt.map(|prompt| prompt.as_ref().into())),
        ];
        let kept = kept.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
        Ok(Call { body, model: Some(model), stream, kept, ..Call::default() })
    }

    fn read(&self, body: Map<String, Value>) -> Result<Chat, String> {
        request_reader::read(body)
    }

    fn write(&self, answer: Answer, asked: &Asked<'_>) -> Vec<u8> {
        to_bytes(&answer_writer::write(answer, asked))
    }

    fn writer(&self, asked: &Asked<'_>, _: bool) -> Box<dyn Writer> {
        Box::new(answer_writer::Pieces::new(asked))
    }

    fn error(&self, failure: &Failure<'_>) -> Value {
        answer_writer::error(failure)
    }

    fn refusal(&self, status: u16, message: &str) -> Value {
        answer_writer::error(&Failure { message, kind: kind_of(status), status })
    }
}
