//! Hugging Face: chats as OpenAI has them, and tasks of its own: texts gone on with (`text-generation`), which its
//! clients may also ask for in its own format, and vectors of texts (`feature-extraction`).

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::openai::OpenAi;
use super::{Asked, Provider, Sent, Settings, Stream, StreamWishes, escaped, openai_like};
use crate::convert::answer::failed;
use crate::convert::embeddings::{Embeddings, Vectors};
use crate::convert::events;
use crate::convert::huggingface::answer_reader::{self, Reader, Unreadable};
use crate::convert::huggingface::{LIST, request_writer};
use crate::json::quote;
use crate::request::{Call, Rules};
use crate::usage::Seen;
use crate::{Format, Operation};

/// What is called so in errors.
const NAME: &str = "Hugging Face";

/// Where the models of its own servers are.
const MODELS: &str = "/hf-inference/models";

/// Hugging Face's router, or a server of Text Generation Inference.
pub(super) struct HuggingFace {
    chats: OpenAi,
    own_server: bool,
}

impl HuggingFace {
    pub(super) fn new(settings: &Settings) -> Self {
        let field = |name, value| match value {
            Some(true) => Some((name, "true")),
            Some(false) => Some((name, "false")),
            None => None,
        };
        let fields = [
            field("X-Use-Cache", settings.huggingface_use_cache),
            field("X-Wait-For-Model", settings.huggingface_wait_for_model),
        ];
        let chats = openai_like::chat_only("huggingface", "router.huggingface.co");
        let chats = OpenAi { headers: fields.into_iter().flatten().collect(), ..chats };
        Self { chats, own_server: settings.own_server }
    }

    /// Whether texts of the client's own format are gone on with: below two paths where the server is one's own, and
    /// at the root, which looks into the body for whether to stream, and answers with a list.
    fn is_at_root(&self, call: &Call<'_>) -> bool {
        !self.own_server || call.kept.contains_key(LIST)
    }

    /// A request in the format of its own: only what the route decides is edited.
    fn passing(&self, call: &Call<'_>, rules: &Rules<'_>) -> Vec<u8> {
        let auth = rules.auth.filter(|auth| !(auth.keep_own && call.body.get(auth.name).is_some()));
        let secret = auth.map(|auth| quote(auth.value));
        let mut edits = Vec::new();
        if call.stream && self.is_at_root(call) && !call.body.is_truthy("stream") {
            edits.push(("stream", Some("true")));
        }
        if let (Some(auth), Some(secret)) = (auth, &secret) {
            edits.push((auth.name, Some(secret)));
        }
        call.body.edit(&edits)
    }
}

/// Whether an operation is OpenAI's, and not a task of Hugging Face's own.
fn is_openais(format: Format, operation: Operation) -> bool {
    format != Format::HuggingFace && !matches!(operation, Operation::Embeddings | Operation::Completions)
}

impl Provider for HuggingFace {
    fn name(&self) -> &'static str {
        self.chats.name
    }

    fn host(&self) -> Cow<'_, str> {
        self.chats.host()
    }

    fn path(&self, operation: Operation) -> Option<Cow<'_, str>> {
        match operation {
            Operation::Embeddings | Operation::Completions => Some(MODELS.into()),
            other => self.chats.path(other),
        }
    }

    fn has_call_paths(&self, format: Format, operation: Operation) -> bool {
        !is_openais(format, operation)
    }

    fn call_path(&self, call: &Call<'_>, _: Format, operation: Operation) -> String {
        let model = call.model.as_deref().unwrap_or_default();
        // An owner and a name, which are two segments.
        let segments: Vec<String> = model.split('/').map(escaped).collect();
        let place = format!("{MODELS}/{}", segments.join("/"));
        match operation {
            Operation::Embeddings => format!("{place}/pipeline/feature-extraction"),
            _ if !self.own_server => place,
            Operation::Completions => "/".to_owned(),
            _ if self.is_at_root(call) => "/".to_owned(),
            _ if call.stream => "/generate_stream".to_owned(),
            _ => "/generate".to_owned(),
        }
    }

    fn headers(&self) -> Vec<(&'static str, Cow<'_, str>)> {
        self.chats.headers()
    }

    fn request(&self, call: &Call<'_>, rules: &Rules<'_>) -> Result<Sent, String> {
        if is_openais(rules.format, rules.operation) {
            return self.chats.request(call, rules);
        }
        let failed = |reason: String| {
            format!("error transforming to {}://{}: {reason}", self.name(), rules.operation.name())
        };
        let model = call.model.as_deref().unwrap_or_default();
        if model.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
            return Err(failed(format!("'{model}' cannot be a model")));
        }
        let body = match rules.operation {
            Operation::Embeddings => {
                let Embeddings { texts, extra, .. } = Embeddings::read(call, rules).map_err(failed)?;
                let mut sent = Map::new();
                sent.insert("inputs".to_owned(), texts.into());
                sent.extend(extra);
                Value::Object(sent).to_string().into_bytes()
            }
            Operation::Completions => {
                request_writer::completion(call, rules).map_err(failed)?.to_string().into_bytes()
            }
            _ => self.passing(call, rules),
        };
        Ok(Sent { body, hide_usage: !events::usage_is_wanted(call) })
    }

    fn answer(
        &self,
        body: &[u8],
        asked: &Asked<'_>,
        seen: Option<&mut Seen>,
    ) -> Result<Option<Vec<u8>>, String> {
        let failed = |reason: &str| failed(self.name(), asked.operation, reason);
        match (asked.format, asked.operation) {
            (_, Operation::Embeddings) => {
                let vectors = vectors(body).map_err(|reason| failed(&reason))?;
                Ok(Some(Vectors { vectors, tokens: None }.write(asked, seen)))
            }
            (_, Operation::Completions) => {
                let answer = answer_reader::read(body).map_err(|unreadable| match unreadable {
                    Unreadable::NoJson => failed("Failed to decode response"),
                    Unreadable::Error(error) => failed(&format!("API error: {error}")),
                    _ => failed("Invalid response format"),
                })?;
                Ok(Some(answer.write(asked, seen)))
            }
            (Format::HuggingFace, _) => {
                if let Some(seen) = seen {
                    answer_reader::look(body, asked, seen);
                }
                Ok(None)
            }
            _ => self.chats.answer(body, asked, seen),
        }
    }

    fn stream(&self, asked: &Asked<'_>, wishes: StreamWishes) -> Box<dyn Stream> {
        match (asked.format, asked.operation) {
            (_, Operation::Completions) => Box::new(Reader::new(NAME, asked, wishes)),
            (Format::HuggingFace, _) => {
                events::Passed::stream(wishes, |wishes| Reader::new(NAME, asked, wishes))
            }
            _ => self.chats.stream(asked, wishes),
        }
    }

    fn translates(&self, format: Format, operation: Operation) -> bool {
        match (format, operation) {
            (_, Operation::Completions) => true,
            (Format::HuggingFace, _) => false,
            _ => self.chats.translates(format, operation),
        }
    }

    fn error(&self, status: u16, body: &[u8], format: Format) -> Option<Vec<u8>> {
        match format {
            Format::HuggingFace => None,
            format => self.chats.error(status, body, format),
        }
    }
}

/// The vectors of an answer: a list of them, or one alone where one was asked for.
fn vectors(body: &[u8]) -> Result<Vec<Value>, String> {
    let given: Value = serde_json::from_slice(body).map_err(|_| "Failed to decode response".to_owned())?;
    let is_vector = |value: &Value| {
        value.as_array().is_some_and(|list| !list.is_empty() && list.iter().all(Value::is_number))
    };
    match given {
        one if is_vector(&one) => Ok(vec![one]),
        Value::Array(all) if !all.is_empty() && all.iter().all(is_vector) => Ok(all),
        Value::Object(said) => {
            match said.get("error").or_else(|| said.get("message")).and_then(Value::as_str) {
                Some(error) => Err(format!("API error: {error}")),
                None => Err("Invalid response format".to_owned()),
            }
        }
        _ => Err("Invalid response format".to_owned()),
    }
}
