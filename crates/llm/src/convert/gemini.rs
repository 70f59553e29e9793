//! Gemini's `generateContent`, of AI Studio and of Vertex.

pub(crate) mod answer_reader;
mod answer_writer;
pub(crate) mod calls;
pub(crate) mod images;
mod objects;
mod request_reader;
pub(crate) mod request_writer;
mod schema;

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use super::ClientFormat;
use super::answer::{Answer, Failure};
use super::chat::Chat;
use super::events::Writer;
use crate::json::{Object, to_bytes};
use crate::provider::Asked;
use crate::request::{self, Call, Rules, Streaming};

/// As clients speak it.
pub(crate) struct Gemini;

/// Kept of a request where its answer is to be streamed as events, and not as a list: the client's argument `alt=sse`.
const ALT: &str = "alt";

/// What a path asks for: `/…/models/{model}:{action}`.
struct Place<'a> {
    model: Option<Cow<'a, str>>,
    action: &'a str,
}

impl<'a> Place<'a> {
    /// What the route's path has captured counts first (Kong 3.11).
    fn of(rules: &Rules<'a>) -> Self {
        let capture = |name: &str| {
            let found = rules.captures.iter().find(|(other, value)| **other == *name && !value.is_empty());
            found.map(|(_, value)| &**value)
        };
        let last = rules.path.rsplit_once("/models/").map(|(_, last)| last.trim_end_matches('/'));
        let (model, action) = match last.map(|last| last.rsplit_once(':').unwrap_or((last, ""))) {
            Some((model, action)) => (Some(model), action),
            None => (None, ""),
        };
        let model = capture("model").or(model).filter(|model| !model.is_empty());
        let decode = |model: &'a str| percent_decode_str(model).decode_utf8().unwrap_or(Cow::Borrowed(model));
        Self { model: model.map(decode), action: capture("operation").unwrap_or(action) }
    }
}

/// Path of something that Google keeps, below the API's version or Vertex's location; `None` where a model is asked.
fn kept<'a>(rules: &Rules<'a>) -> Option<&'a str> {
    if rules.path.contains("/models/") || rules.captures.iter().any(|(name, _)| **name == *"model") {
        return None;
    }
    // An upload says so before the version: `/upload/v1beta/files`.
    let upload = request::from_segment(rules.path, "upload").filter(|path| path.ends_with("/files"));
    let mut kinds = ["files", "batches", "batchPredictionJobs", "rankingConfigs"].into_iter();
    upload.or_else(|| kinds.find_map(|kind| request::from_segment(rules.path, kind)))
}

impl ClientFormat for Gemini {
    fn check<'a>(&self, body: Option<Object<'a>>, rules: &Rules<'a>) -> Result<Call<'a>, Cow<'static, str>> {
        let body = body.unwrap_or_default();
        if let Some(kept) = kept(rules) {
            return request::of_kept(kept, body, rules);
        }
        let place = Place::of(rules);
        let streams = place.action == "streamGenerateContent";
        let chats = streams || matches!(place.action, "generateContent" | "");
        let contents = body.get("contents").filter(|contents| !matches!(*contents, "null" | "[]" | "\"\""));
        if chats && contents.is_none() {
            return Err("request body doesn't contain valid prompts".into());
        }
        let model = request::fitting_model(rules, place.model)?
            .ok_or("model parameter not found in request, nor in gateway configuration")?;
        if streams && rules.streaming == Streaming::Deny {
            return Err("response streaming is not enabled for this LLM".into());
        }
        let stream = chats && (streams || rules.streaming == Streaming::Always);
        let as_events = rules.query.split('&').any(|argument| argument == "alt=sse");
        let kept = as_events.then(|| (ALT.to_owned(), "sse".into())).into_iter().collect();
        let action = if chats { "" } else { place.action };
        Ok(Call { body, model: Some(model), stream, kept, action: action.into() })
    }

    fn read(&self, body: Map<String, Value>) -> Result<Chat, String> {
        request_reader::read(body)
    }

    fn write(&self, answer: Answer, asked: &Asked<'_>) -> Vec<u8> {
        to_bytes(&answer_writer::write(answer, asked))
    }

    fn writer(&self, asked: &Asked<'_>, _: bool) -> Box<dyn Writer> {
        Box::new(answer_writer::Elements::new(asked))
    }

    fn error(&self, failure: &Failure<'_>) -> Value {
        answer_writer::error(failure.status, failure.message)
    }

    fn refusal(&self, status: u16, message: &str) -> Value {
        answer_writer::error(status, message)
    }

    fn stream_type(&self, asked: &Asked<'_>) -> &'static str {
        if asked.kept.contains_key(ALT) { "text/event-stream" } else { "application/json" }
    }
}
