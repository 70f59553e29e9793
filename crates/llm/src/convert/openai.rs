//! OpenAI's chat completions, and its older text completions.

pub(crate) mod answer_reader;
pub(crate) mod answer_writer;
pub(crate) mod completion;
pub(crate) mod request_reader;
pub(crate) mod request_writer;

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use super::ClientFormat;
use super::answer::{Answer, Failure};
use super::chat::Chat;
use super::events::Writer;
use crate::json::Object;
use crate::provider::Asked;
use crate::request::{self, Call, Rules};

/// As clients speak it.
pub(crate) struct OpenAi;

impl ClientFormat for OpenAi {
    fn check<'a>(&self, body: Option<Object<'a>>, rules: &Rules<'a>) -> Result<Call<'a>, Cow<'static, str>> {
        request::check_openai(body, rules)
    }

    fn read(&self, body: Map<String, Value>) -> Result<Chat, String> {
        request_reader::read(body)
    }

    fn write(&self, answer: Answer, asked: &Asked<'_>) -> Vec<u8> {
        answer_writer::write(answer, asked)
    }

    fn writer(&self, asked: &Asked<'_>, hide_usage: bool) -> Box<dyn Writer> {
        Box::new(answer_writer::Chunks::new(asked, hide_usage))
    }

    fn error(&self, failure: &Failure<'_>) -> Value {
        answer_writer::error(failure)
    }

    fn refusal(&self, _: u16, message: &str) -> Value {
        json!({"error": {"message": message}})
    }
}
