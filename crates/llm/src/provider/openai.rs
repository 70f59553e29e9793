//! OpenAI, and every server that speaks its API: the client's bytes pass, edited where the route decides.

mod stream;

use std::borrow::Cow;

use serde_json::{Map, Value};

use crate::convert::chat::Chat;
use crate::convert::openai::{answer_reader, request_writer};
use crate::json::{Object, quote};
use crate::provider::{Asked, Provider, Sent, Shape, Stream, StreamWishes};
use crate::request::{Call, Rules};
use crate::usage::Seen;
use crate::{Format, Operation};

use stream::{Watched, WatchedResponse};

/// OpenAI's API as somebody serves it.
#[derive(Debug, Default)]
pub(super) struct OpenAi {
    pub(super) name: &'static str,
    pub(super) host: Cow<'static, str>,
    pub(super) base_path: String,
    pub(super) chat: Cow<'static, str>,
    /// Path of completions, where they are served.
    pub(super) completions: Option<Cow<'static, str>>,
    /// Path of embeddings, where they are served.
    pub(super) embeddings: Option<Cow<'static, str>>,
    /// Paths of operations that pass, where they are served.
    pub(super) others: Vec<(Operation, Cow<'static, str>)>,
    pub(super) query: Option<(&'static str, String)>,
    pub(super) headers: Vec<(&'static str, &'static str)>,
    /// Members that it refuses.
    pub(super) refused: &'static [&'static str],
    /// Whether it knows `top_k`.
    pub(super) takes_top_k: bool,
}

impl Provider for OpenAi {
    fn name(&self) -> &'static str {
        self.name
    }

    fn host(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.host)
    }

    fn path(&self, operation: Operation) -> Option<Cow<'_, str>> {
        let path = match operation {
            Operation::Chat => &self.chat,
            Operation::Completions => self.completions.as_ref()?,
            Operation::Embeddings => self.embeddings.as_ref()?,
            Operation::Preserve => return None,
            other => &self.others.iter().find(|(operation, _)| *operation == other)?.1,
        };
        Some(Cow::Borrowed(path))
    }

    fn base_path(&self) -> &str {
        &self.base_path
    }

    fn query(&self) -> Option<(&'static str, &str)> {
        self.query.as_ref().map(|(name, value)| (*name, value.as_str()))
    }

    fn headers(&self) -> Vec<(&'static str, Cow<'_, str>)> {
        self.headers.iter().map(|(name, value)| (*name, Cow::Borrowed(*value))).collect()
    }

    fn request(&self, call: &Call<'_>, rules: &Rules<'_>) -> Result<Sent, String> {
        if rules.format == Format::OpenAi {
            return Ok(self.edit(call, rules));
        }
        let failed = |reason: String| {
            format!("error transforming to {}://{}: {reason}", self.name, rules.operation.name())
        };
        let mut written = Chat::read(call, rules).and_then(request_writer::write).map_err(failed)?;
        fit(&mut written, call.model.as_deref().unwrap_or_default());
        let written = Value::Object(written).to_string();
        let body = Object::parse(written.as_bytes()).unwrap_or_default();
        let (model, stream) = (call.model.clone(), call.stream);
        Ok(self.edit(&Call { body, model, stream, ..Call::default() }, rules))
    }

    fn answer(
        &self,
        body: &[u8],
        asked: &Asked<'_>,
        seen: Option<&mut Seen>,
    ) -> Result<Option<Vec<u8>>, String> {
        if self.translates(asked.format, asked.operation) {
            return answer_reader::chat(self.name, body, asked, seen).map(Some);
        }
        let operation = asked.operation;
        let name = operation.name();
        let failed =
            |reason: &str| format!("transformation failed from type {}://{name}: {reason}", self.name);
        let Some(object) = Object::parse(body) else {
            return Err(failed(&format!("failed to decode {name} response")));
        };
        if operation.passes() {
            if let Some(seen) = seen {
                seen.take(&object);
            }
            return Ok(None);
        }
        let needed = if operation == Operation::Embeddings { "data" } else { "choices" };
        if object.get(needed).is_none() {
            return Err(failed(&format!("'{needed}' not in {name} response")));
        }
        if let Some(seen) = seen {
            seen.take(&object);
        }
        Ok(None)
    }

    fn stream(&self, asked: &Asked<'_>, wishes: StreamWishes) -> Box<dyn Stream> {
        match self.translates(asked.format, asked.operation) || wishes.shape == Shape::Whole {
            true => Box::new(answer_reader::Reader::new(self.name, asked, wishes)),
            false if asked.operation == Operation::Responses => Box::new(WatchedResponse::new(wishes)),
            false => Box::new(Watched::new(wishes)),
        }
    }

    fn translates(&self, format: Format, _: Operation) -> bool {
        format != Format::OpenAi
    }

    fn error(&self, status: u16, body: &[u8], format: Format) -> Option<Vec<u8>> {
        // Responses tell errors as chats do: what is in that format already passes, with its code.
        let passes = match format {
            Format::OpenAi => true,
            Format::Responses => answer_reader::is_error(body),
            _ => false,
        };
        if passes { None } else { answer_reader::error(status, body, format) }
    }
}

impl OpenAi {
    /// A request in OpenAI's format, edited where route and provider decide.
    fn edit(&self, call: &Call<'_>, rules: &Rules<'_>) -> Sent {
        let object = &call.body;
        let mut edits = Edits::new();
        let model = call.model.as_deref().unwrap_or_default();
        // A model that stands there already keeps its bytes.
        let quoted = quote(model);
        if object.get("model") != Some(&quoted) {
            edits.set("model", &quoted);
        }
        let options = rules.options;
        if rules.operation == Operation::Embeddings {
            edits.set_some("dimensions", options.dimensions.as_deref());
        } else {
            match &options.max_tokens {
                Some(count) if takes_completion_tokens(model) => {
                    edits.set("max_completion_tokens", count);
                    edits.remove("max_tokens");
                }
                count => edits.set_some("max_tokens", count.as_deref()),
            }
            edits.set_some("temperature", options.temperature.as_deref());
            edits.set_some("top_p", options.top_p.as_deref());
            match self.takes_top_k {
                true => edits.set_some("top_k", options.top_k.as_deref()),
                false => edits.remove("top_k"),
            }
            edits.set("stream", if call.stream { "true" } else { "false" });
        }
        // Clients of other formats are always told.
        let wants_usage = rules.want_usage || self.translates(rules.format, rules.operation);
        let asks_usage = call.stream && wants_usage && !self.refused.contains(&"stream_options");
        let stream_options = asks_usage.then(|| usage_option(object)).flatten();
        edits.set_some("stream_options", stream_options.as_deref());
        let auth = rules.auth.filter(|auth| !(auth.keep_own && object.get(auth.name).is_some()));
        let secret = auth.map(|auth| quote(auth.value));
        if let (Some(auth), Some(secret)) = (auth, &secret) {
            edits.set(auth.name, secret);
        }
        self.refused.iter().for_each(|name| edits.remove(name));
        Sent { body: object.edit(&edits.0), hide_usage: stream_options.is_some() }
    }
}

/// Members to set or to remove.
struct Edits<'a>(Vec<(&'a str, Option<&'a str>)>);

impl<'a> Edits<'a> {
    fn new() -> Self {
        Self(Vec::with_capacity(8))
    }

    fn set(&mut self, name: &'a str, value: &'a str) {
        self.0.push((name, Some(value)));
    }

    fn set_some(&mut self, name: &'a str, value: Option<&'a str>) {
        self.0.extend(value.map(|value| (name, Some(value))));
    }

    fn remove(&mut self, name: &'a str) {
        self.0.push((name, None));
    }
}

/// `stream_options` that ask for usage; `None` where the client's do already.
fn usage_option(object: &Object<'_>) -> Option<String> {
    let own = object.get("stream_options").and_then(|options| Object::parse(options.as_bytes()));
    let Some(options) = own else { return Some(r#"{"include_usage":true}"#.to_owned()) };
    if options.get("include_usage") == Some("true") {
        return None;
    }
    String::from_utf8(options.edit(&[("include_usage", Some("true"))])).ok()
}

/// Takes from a request what the model would refuse, and its client cannot know of.
fn fit(written: &mut Map<String, Value>, model: &str) {
    if takes_completion_tokens(model) {
        if let Some(count) = written.shift_remove("max_tokens") {
            written.insert("max_completion_tokens".to_owned(), count);
        }
        written.retain(|name, _| !matches!(name.as_str(), "temperature" | "top_p"));
    }
    if ["gpt-3", "gpt-4", "chatgpt-4"].iter().any(|start| model.starts_with(start)) {
        written.shift_remove("reasoning_effort");
    }
}

/// OpenAI's reasoning models know `max_completion_tokens` only (Kong 3.13).
fn takes_completion_tokens(model: &str) -> bool {
    ["o1", "o3", "o4", "gpt-5"].iter().any(|start| model.starts_with(start))
}
