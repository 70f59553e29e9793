//! Hugging Face: chats as OpenAI has them, and vectors of texts by a task of its own, `feature-extraction`.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::openai::OpenAi;
use super::{Asked, Provider, Sent, Settings, Stream, StreamWishes, escaped, openai_like};
use crate::convert::answer::failed;
use crate::convert::embeddings::{Embeddings, Vectors};
use crate::request::{Call, Rules};
use crate::usage::Seen;
use crate::{Format, Operation};

/// Hugging Face's router.
pub(super) struct HuggingFace {
    chats: OpenAi,
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
        Self { chats: OpenAi { headers: fields.into_iter().flatten().collect(), ..chats } }
    }
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
            Operation::Embeddings => Some(MODELS.into()),
            other => self.chats.path(other),
        }
    }

    fn has_call_paths(&self, _: Format, operation: Operation) -> bool {
        operation == Operation::Embeddings
    }

    fn call_path(&self, call: &Call<'_>, _: Format, _: Operation) -> String {
        let model = call.model.as_deref().unwrap_or_default();
        // An owner and a name, which are two segments.
        let segments: Vec<String> = model.split('/').map(escaped).collect();
        format!("{MODELS}/{}/pipeline/feature-extraction", segments.join("/"))
    }

    fn headers(&self) -> Vec<(&'static str, Cow<'_, str>)> {
        self.chats.headers()
    }

    fn request(&self, call: &Call<'_>, rules: &Rules<'_>) -> Result<Sent, String> {
        if rules.operation != Operation::Embeddings {
            return self.chats.request(call, rules);
        }
        let failed = |reason: String| {
            format!("error transforming to {}://{}: {reason}", self.name(), rules.operation.name())
        };
        let model = call.model.as_deref().unwrap_or_default();
        if model.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
            return Err(failed(format!("'{model}' cannot be a model")));
        }
        let Embeddings { texts, extra, .. } = Embeddings::read(call, rules).map_err(failed)?;
        let mut sent = Map::new();
        sent.insert("inputs".to_owned(), texts.into());
        sent.extend(extra);
        Ok(Sent { body: Value::Object(sent).to_string().into_bytes(), hide_usage: false })
    }

    fn answer(
        &self,
        body: &[u8],
        asked: &Asked<'_>,
        seen: Option<&mut Seen>,
    ) -> Result<Option<Vec<u8>>, String> {
        if asked.operation != Operation::Embeddings {
            return self.chats.answer(body, asked, seen);
        }
        let vectors = vectors(body).map_err(|reason| failed(self.name(), asked.operation, &reason))?;
        Ok(Some(Vectors { vectors, tokens: None }.write(asked, seen)))
    }

    fn stream(&self, asked: &Asked<'_>, wishes: StreamWishes) -> Box<dyn Stream> {
        self.chats.stream(asked, wishes)
    }

    fn translates(&self, format: Format) -> bool {
        self.chats.translates(format)
    }

    fn error(&self, status: u16, body: &[u8], format: Format) -> Option<Vec<u8>> {
        self.chats.error(status, body, format)
    }
}

/// Where the models of its own servers are.
const MODELS: &str = "/hf-inference/models";

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
