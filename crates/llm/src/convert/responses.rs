//! OpenAI's Responses, for providers that do not serve them: a call is sent as a chat, and nothing is stored.

mod answer_writer;
mod events;
mod items;
mod request_reader;

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::ClientFormat;
use super::answer::{Answer, Failure};
use super::chat::Chat;
use super::events::Writer;
use super::openai::OpenAi;
use crate::json::{Object, to_bytes};
use crate::provider::Asked;
use crate::request::{self, Call, Rules};

/// As clients speak it.
pub(crate) struct Responses;

/// Members of the request that the answer repeats.
const REPEATED: [&str; 11] = [
    "instructions",
    "max_output_tokens",
    "metadata",
    "parallel_tool_calls",
    "reasoning",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_p",
    "user",
];

/// Members that ask for something stored, which there is not.
const STORED: [&str; 3] = ["previous_response_id", "conversation", "prompt"];

impl ClientFormat for Responses {
    fn check<'a>(&self, body: Option<Object<'a>>, rules: &Rules<'a>) -> Result<Call<'a>, Cow<'static, str>> {
        let body = body.unwrap_or_default();
        let filled =
            |name: &str| body.get(name).is_some_and(|value| !matches!(value, "null" | "\"\"" | "[]"));
        if !filled("input") {
            return Err("request body doesn't contain valid input".into());
        }
        for name in STORED {
            if filled(name) {
                return Err(format!(
                    "'{name}' cannot be used with this provider: nothing is stored; send the whole conversation as 'input'"
                )
                .into());
            }
        }
        if body.is_truthy("background") {
            return Err("'background' cannot be used with this provider".into());
        }
        let model = request::model(&body, rules)?
            .ok_or("model parameter not found in request, nor in gateway configuration")?;
        let stream = request::streams(&body, rules)?;
        let kept = REPEATED
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), serde_json::from_str(body.get(name)?).ok()?)));
        Ok(Call { model: Some(model), stream, kept: kept.collect(), body, ..Call::default() })
    }

    fn read(&self, body: Map<String, Value>) -> Result<Chat, String> {
        request_reader::read(body)
    }

    fn write(&self, answer: Answer, asked: &Asked<'_>) -> Vec<u8> {
        to_bytes(&answer_writer::write(answer, asked))
    }

    fn writer(&self, asked: &Asked<'_>, _: bool) -> Box<dyn Writer> {
        Box::new(events::ResponseEvents::new(asked))
    }

    fn error(&self, failure: &Failure<'_>) -> Value {
        OpenAi.error(failure)
    }

    fn refusal(&self, status: u16, message: &str) -> Value {
        OpenAi.refusal(status, message)
    }
}
