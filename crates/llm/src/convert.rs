//! From one format to another, by way of what they have in common: a chat ([`chat`]), its whole answer
//! ([`answer`]) and its streamed one ([`events`]). A folder for each format says how requests are read
//! (`request_reader`) and written (`request_writer`), and answers (`answer_reader`, `answer_writer`).

pub(crate) mod answer;
pub(crate) mod anthropic;
pub(crate) mod audio;
pub(crate) mod bedrock;
pub(crate) mod chat;
pub(crate) mod cohere;
pub(crate) mod dashscope;
pub(crate) mod embeddings;
pub(crate) mod events;
pub(crate) mod gemini;
pub(crate) mod huggingface;
pub(crate) mod images;
pub(crate) mod lines;
pub(crate) mod llama2;
pub(crate) mod ollama;
pub(crate) mod openai;
pub(crate) mod responses;
pub(crate) mod whole;

use std::borrow::Cow;

use serde_json::{Map, Value};

use crate::json::Object;
use crate::provider::Asked;
use crate::request::{Call, Rules};

use answer::{Answer, Failure};
use chat::Chat;
use events::Writer;

/// Takes a member out; `null` where there is none, and where `from` is no object (indexing for a change would panic).
pub(crate) fn taken(from: &mut Value, name: &str) -> Value {
    from.get_mut(name).map(Value::take).unwrap_or_default()
}

/// Adds members; of those that are objects on both sides, what they hold is added.
pub(crate) fn merge(into: &mut Map<String, Value>, from: Map<String, Value>) {
    for (name, value) in from {
        match (into.get_mut(&name), value) {
            (Some(Value::Object(has)), Value::Object(more)) => has.extend(more),
            (_, value) => drop(into.insert(name, value)),
        }
    }
}

/// A format that clients speak. Which there are is in [`Format::client`](crate::Format).
pub(crate) trait ClientFormat: Sync {
    /// Checks a request against what the route allows, and finds model and manner of the answer; `None` stands for
    /// a body that could not be read.
    ///
    /// # Errors
    /// Kong's message; the status is 400.
    fn check<'a>(&self, body: Option<Object<'a>>, rules: &Rules<'a>) -> Result<Call<'a>, Cow<'static, str>>;

    /// Reads a chat.
    ///
    /// # Errors
    /// What cannot be understood, and where.
    fn read(&self, body: Map<String, Value>) -> Result<Chat, String>;

    /// Writes a whole answer to a chat.
    fn write(&self, answer: Answer, asked: &Asked<'_>) -> Vec<u8>;

    /// What writes a streamed answer; `hide_usage` where the client has not asked for tokens and may.
    fn writer(&self, asked: &Asked<'_>, hide_usage: bool) -> Box<dyn Writer>;

    /// Writes an error of the provider's.
    fn error(&self, failure: &Failure<'_>) -> Value;

    /// Writes an error of the gateway's own.
    fn refusal(&self, status: u16, message: &str) -> Value;

    /// A header field, name and value, that errors of this status carry.
    fn error_header(&self, status: u16) -> Option<(&'static str, &'static str)> {
        let _ = status;
        None
    }

    /// `Content-Type` of streamed answers.
    fn stream_type(&self, asked: &Asked<'_>) -> &'static str {
        let _ = asked;
        "text/event-stream"
    }
}
