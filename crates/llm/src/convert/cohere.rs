//! Cohere's Chat in its second version, and its other operations.

pub(crate) mod answer_reader;
mod answer_writer;
mod request_reader;
pub(crate) mod request_writer;

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use super::ClientFormat;
use super::answer::{Answer, Failure};
use super::chat::Chat;
use super::events::Writer;
use crate::json::{Object, to_bytes};
use crate::provider::Asked;
use crate::request::{self, Call, Rules};

/// As clients speak it.
pub(crate) struct Cohere;

/// Operations that only Cohere serves: ends of paths, of either version.
const ACTIONS: [&str; 8] = [
    "/v1/chat",
    "/v1/rerank",
    "/v2/rerank",
    "/v1/embed",
    "/v2/embed",
    "/v1/generate",
    "/v1/tokenize",
    "/v1/classify",
];

impl ClientFormat for Cohere {
    /// A chat of the first version (`message` in place of `messages`) is Cohere's own too.
    fn check<'a>(&self, body: Option<Object<'a>>, rules: &Rules<'a>) -> Result<Call<'a>, Cow<'static, str>> {
        let body = body.unwrap_or_default();
        let path = rules.path.trim_end_matches('/');
        let action = match ACTIONS.iter().find(|action| path.ends_with(**action)) {
            Some(action) => action,
            None if body.get("message").is_some_and(|message| message.starts_with('"')) => "/v1/chat",
            None => "",
        };
        let filled =
            |name: &str| body.get(name).is_some_and(|value| !matches!(value, "null" | "[]" | "\"\""));
        let is_enough = match action {
            "" => filled("messages"),
            "/v1/chat" => filled("message"),
            _ => true,
        };
        if !is_enough {
            return Err("request body doesn't contain valid prompts".into());
        }
        let model = request::model(&body, rules)?
            .ok_or("model parameter not found in request, nor in gateway configuration")?;
        let chats = matches!(action, "" | "/v1/chat" | "/v1/generate");
        let stream = chats && request::streams(&body, rules)?;
        Ok(Call { body, model: Some(model), stream, action: action.into(), ..Call::default() })
    }

    fn read(&self, body: Map<String, Value>) -> Result<Chat, String> {
        request_reader::read(body)
    }

    fn write(&self, answer: Answer, asked: &Asked<'_>) -> Vec<u8> {
        to_bytes(&answer_writer::write(answer, asked))
    }

    fn writer(&self, asked: &Asked<'_>, _: bool) -> Box<dyn Writer> {
        Box::new(answer_writer::ChatEvents::new(asked))
    }

    fn error(&self, failure: &Failure<'_>) -> Value {
        json!({"message": failure.message})
    }

    /// Cohere's way to tell an error, and Kong's.
    fn refusal(&self, _: u16, message: &str) -> Value {
        json!({"message": message, "error": {"message": message}})
    }
}
