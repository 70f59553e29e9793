//! Anthropic's Messages.

pub(crate) mod answer_reader;
mod answer_writer;
pub(crate) mod event_writer;
mod request_reader;
pub(crate) mod request_writer;

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use super::ClientFormat;
use super::answer::{Answer, Failure};
use super::chat::Chat;
use super::events::Writer;
use crate::Operation;
use crate::json::{Object, to_bytes};
use crate::provider::Asked;
use crate::request::{self, Call, Rules};

/// As clients speak it.
pub(crate) struct Messages;

impl ClientFormat for Messages {
    fn check<'a>(&self, body: Option<Object<'a>>, rules: &Rules<'a>) -> Result<Call<'a>, Cow<'static, str>> {
        let body = body.unwrap_or_default();
        if let Some(batches) = request::from_segment(rules.path, "messages/batches") {
            return request::of_kept(batches.strip_prefix("/messages").unwrap_or(batches), body, rules);
        }
        let preserves = rules.operation == Operation::Preserve;
        let has_messages = body.get("messages").is_some_and(|messages| {
            let rest = messages.strip_prefix('[').map(str::trim_ascii_start);
            rest.is_some_and(|rest| !rest.starts_with(']'))
        });
        if !preserves && !has_messages {
            return Err("request body doesn't contain valid prompts".into());
        }
        let model = request::model(&body, rules)?;
        if model.is_none() && !preserves {
            return Err("model parameter not found in request, nor in gateway configuration".into());
        }
        if rules.path.trim_end_matches('/').ends_with("/count_tokens") {
            return Ok(Call { body, model, action: "count_tokens".into(), ..Call::default() });
        }
        let stream = request::streams(&body, rules)?;
        Ok(Call { body, model, stream, ..Call::default() })
    }

    fn read(&self, body: Map<String, Value>) -> Result<Chat, String> {
        request_reader::read(body)
    }

    fn write(&self, answer: Answer, asked: &Asked<'_>) -> Vec<u8> {
        to_bytes(&answer_writer::write(answer, asked))
    }

    fn writer(&self, asked: &Asked<'_>, _: bool) -> Box<dyn Writer> {
        Box::new(event_writer::MessageEvents::new(asked))
    }

    fn error(&self, failure: &Failure<'_>) -> Value {
        answer_writer::error(failure)
    }

    fn refusal(&self, status: u16, message: &str) -> Value {
        json!({"type": "error", "error": {"type": answer_writer::kind_of(status), "message": message}})
    }
}
