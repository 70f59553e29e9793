//! Bedrock's Converse and ConverseStream, and what passes to its models as it is.

pub(crate) mod answer_reader;
mod answer_writer;
pub(crate) mod embeddings;
mod event_writer;
pub(crate) mod images;
pub(crate) mod invoked;
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
use crate::request::{self, Call, Rules, Streaming};

/// As clients speak it.
pub(crate) struct Converse;

impl ClientFormat for Converse {
    fn check<'a>(&self, body: Option<Object<'a>>, rules: &Rules<'a>) -> Result<Call<'a>, Cow<'static, str>> {
        let body = body.unwrap_or_default();
        let (own, operation) = addressed(rules);
        let (action, stream) = match operation {
            "converse" => ("", false),
            "converse-stream" => ("", true),
            "invoke" => ("invoke", false),
            "invoke-with-response-stream" => ("invoke", true),
            _ => {
                return Err(
                    "the path must end in /model/{model}/converse, /converse-stream, /invoke or /invoke-with-response-stream"
                        .into(),
                );
            }
        };
        let model = request::fitting_model(rules, own)?
            .ok_or("model parameter not found in request, nor in gateway configuration")?;
        // A prompt that is stored with AWS has messages of its own.
        let has_messages = body.get("messages").is_some_and(|messages| {
            let rest = messages.strip_prefix('[').map(str::trim_ascii_start);
            rest.is_some_and(|rest| !rest.starts_with(']'))
        });
        if action.is_empty() && !has_messages && !model.contains(":prompt/") {
            return Err("request body doesn't contain valid prompts".into());
        }
        if stream && rules.streaming == Streaming::Deny {
            return Err("response streaming is not enabled for this LLM".into());
        }
        Ok(Call { body, model: Some(model), stream, action: action.into(), kept: Map::new() })
    }

    fn read(&self, body: Map<String, Value>) -> Result<Chat, String> {
        request_reader::read(body)
    }

    fn write(&self, answer: Answer, _: &Asked<'_>) -> Vec<u8> {
        to_bytes(&answer_writer::write(answer))
    }

    fn writer(&self, _: &Asked<'_>, _: bool) -> Box<dyn Writer> {
        Box::new(event_writer::ConverseEvents::default())
    }

    fn error(&self, failure: &Failure<'_>) -> Value {
        json!({"message": failure.message})
    }

    fn refusal(&self, _: u16, message: &str) -> Value {
        json!({"message": message})
    }

    fn error_header(&self, status: u16) -> Option<(&'static str, &'static str)> {
        Some(("x-amzn-ErrorType", answer_writer::exception_of(status)))
    }

    fn stream_type(&self, _: &Asked<'_>) -> &'static str {
        "application/vnd.amazon.eventstream"
    }
}

/// Model and operation that a request is for: what the route's path has captured under these names, else what its
/// path ends in (Kong 3.11).
fn addressed<'a>(rules: &Rules<'a>) -> (Option<Cow<'a, str>>, &'a str) {
    let captured =
        |name: &str| rules.captures.iter().find(|(other, _)| **other == *name).map(|(_, value)| &**value);
    let path = rules.path.trim_end_matches('/');
    let in_path = path.rsplit_once("/model/").and_then(|(_, rest)| rest.rsplit_once('/'));
    let operation = captured("operation").or(in_path.map(|(_, operation)| operation));
    let model = captured("model").or(in_path.map(|(model, _)| model)).filter(|model| !model.is_empty());
    (model.map(unescaped), operation.unwrap_or_default())
}

/// A segment of a path without its `%` escapes; as it stands where that is no text.
fn unescaped(segment: &str) -> Cow<'_, str> {
    if !segment.contains('%') {
        return segment.into();
    }
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((first, others)) = rest.split_first() {
        let digits =
            others.get(..2).filter(|_| *first == b'%').and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = others.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = others;
            }
        }
    }
    String::from_utf8(bytes).map_or(Cow::Borrowed(segment), Cow::Owned)
}
