//! Google's models: Gemini by AI Studio's API, and by Vertex, where Claude is served too.

use std::borrow::Cow;

use serde_json::Value;

use super::{Asked, Provider, Sent, Stream, StreamWishes, escaped};
use crate::convert::anthropic::request_writer::{Cloud, passed_to_cloud};
use crate::convert::chat::Chat;
use crate::convert::embeddings::Embeddings;
use crate::convert::gemini::{answer_reader, images, request_writer};
use crate::convert::images::Images;
use crate::convert::{anthropic, events};
use crate::json::quote;
use crate::request::{Call, Rules};
use crate::usage::Seen;
use crate::{Format, Operation};

/// The version of Anthropic's API that Vertex speaks.
const ANTHROPIC_VERSION: &str = "vertex-2023-10-16";

/// How Vertex takes Anthropic's requests.
const VERTEX: Cloud<'_> = Cloud {
    version: ANTHROPIC_VERSION,
    betas: &[
        "context-1m-2025-08-07",
        "context-management-2025-06-27",
        "fine-grained-tool-streaming-2025-05-14",
        "interleaved-thinking-2025-05-14",
    ],
    // Kong 3.15 takes it away too.
    refused: &["output_config"],
    path_says_stream: false,
};

/// Google's API.
pub(super) struct Gemini {
    /// Where Vertex is; AI Studio where this is not set.
    pub(super) vertex: Option<Vertex>,
}

/// Vertex's regional API.
pub(super) struct Vertex {
    pub(super) endpoint: String,
    pub(super) project: String,
    pub(super) location: String,
}

impl Gemini {
    /// Whether the model is Anthropic's, which speaks Anthropic's format.
    fn is_claude(&self, model: &str) -> bool {
        self.vertex.is_some() && model.starts_with("claude")
    }

    /// Whether the model speaks what the client speaks.
    fn passes(&self, format: Format, model: &str) -> bool {
        format == Format::Gemini && !self.is_claude(model)
    }

    fn action(&self, call: &Call<'_>, operation: Operation) -> Cow<'static, str> {
        let model = call.model.as_deref().unwrap_or_default();
        if !call.action.is_empty() {
            return call.action.to_string().into();
        }
        match operation {
            Operation::Embeddings if self.vertex.is_some() => "predict".into(),
            Operation::Embeddings => "batchEmbedContents".into(),
            _ => match (self.is_claude(model), call.stream) {
                (true, true) => "streamRawPredict".into(),
                (true, false) => "rawPredict".into(),
                (false, true) => "streamGenerateContent".into(),
                (false, false) => "generateContent".into(),
            },
        }
    }

    /// Path of something that Google keeps.
    fn kept_path(&self, kept: &str) -> String {
        match &self.vertex {
            Some(Vertex { project, location, .. }) => {
                format!("/v1/projects/{project}/locations/{location}{kept}")
            }
            None if kept.starts_with("/upload/") => "/upload/v1beta/files".to_owned(),
            None => format!("/v1beta{kept}"),
        }
    }

    /// Whether this API keeps such things: files and batches are AI Studio's, the others Vertex's.
    fn keeps(&self, kept: &str) -> bool {
        let kind = kept.split('/').nth(1).unwrap_or_default();
        matches!(kind, "upload" | "files" | "batches") == self.vertex.is_none()
    }

    fn write(&self, call: &Call<'_>, rules: &Rules<'_>) -> Result<Vec<u8>, String> {
        if call.is_of_kept() {
            return match self.keeps(&call.action) {
                true => Ok(call.body.text().into()),
                false if self.vertex.is_some() => Err(format!("Vertex has no '{}'", call.action)),
                false => Err(format!("AI Studio has no '{}'", call.action)),
            };
        }
        let model = call.model.as_deref().unwrap_or_default();
        if matches!(model, "" | "." | "..") {
            return Err(format!("'{model}' cannot be a model"));
        }
        if self.passes(rules.format, model) {
            return Ok(passing(call, rules));
        }
        let claude = self.is_claude(model);
        let sent = match rules.operation {
            Operation::Embeddings if self.vertex.is_some() => {
                request_writer::predictions(Embeddings::read(call, rules)?)
            }
            Operation::Embeddings => request_writer::embeddings(Embeddings::read(call, rules)?, model),
            Operation::Completions | Operation::Images | Operation::ImageEdits if claude => {
                return Err("Claude on Vertex has chats only".to_owned());
            }
            Operation::Images | Operation::ImageEdits => {
                Value::Object(images::request(Images::read(call, rules)?)?)
            }
            _ if claude && rules.format == Format::Anthropic => {
                return passed_to_cloud(call, rules, &VERTEX);
            }
            _ if claude => return anthropic::request_writer::chat_on_vertex(call, rules, ANTHROPIC_VERSION),
            Operation::Completions => {
                let chat = Chat::of_completion(call, rules)?;
                Value::Object(request_writer::chat(chat, call, rules, self.vertex.is_some())?)
            }
            _ => {
                let chat = Chat::read(call, rules)?;
                Value::Object(request_writer::chat(chat, call, rules, self.vertex.is_some())?)
            }
        };
        Ok(sent.to_string().into_bytes())
    }
}

/// A request in Gemini's format: nothing is edited but what proves who sends it.
fn passing(call: &Call<'_>, rules: &Rules<'_>) -> Vec<u8> {
    match rules.auth.filter(|auth| !(auth.keep_own && call.body.get(auth.name).is_some())) {
        Some(auth) => call.body.edit(&[(auth.name, Some(&quote(auth.value)))]),
        None => call.body.text().as_bytes().to_vec(),
    }
}

impl Provider for Gemini {
    fn name(&self) -> &'static str {
        "gemini"
    }

    fn host(&self) -> Cow<'_, str> {
        match &self.vertex {
            Some(vertex) => Cow::Borrowed(&vertex.endpoint),
            None => "generativelanguage.googleapis.com".into(),
        }
    }

    fn path(&self, operation: Operation) -> Option<Cow<'_, str>> {
        let served = [Operation::Chat, Operation::Completions, Operation::Embeddings];
        (served.contains(&operation) || operation.is_of_images()).then(|| "/v1beta/models".into())
    }

    fn has_call_paths(&self, _: Format, operation: Operation) -> bool {
        self.path(operation).is_some()
    }

    fn call_path(&self, call: &Call<'_>, format: Format, operation: Operation) -> String {
        if call.is_of_kept() {
            return self.kept_path(&call.action);
        }
        let own = call.model.as_deref().unwrap_or_default();
        let model = escaped(own.strip_prefix("models/").unwrap_or(own));
        let action = self.action(call, operation);
        let path = match &self.vertex {
            None => format!("/v1beta/models/{model}:{action}"),
            Some(Vertex { project, location, .. }) => {
                let publisher = if self.is_claude(own) { "anthropic" } else { "google" };
                format!(
                    "/v1/projects/{project}/locations/{location}/publishers/{publisher}/models/{model}:{action}"
                )
            }
        };
        match &*action {
            // A client of this format says itself how it wants to have the answer.
            "streamGenerateContent" if format != Format::Gemini => format!("{path}?alt=sse"),
            _ => path,
        }
    }

    fn request(&self, call: &Call<'_>, rules: &Rules<'_>) -> Result<Sent, String> {
        let failed =
            |reason: String| format!("error transforming to gemini://{}: {reason}", rules.operation.name());
        let body = self.write(call, rules).map_err(failed)?;
        Ok(Sent { body, hide_usage: !events::usage_is_wanted(call) })
    }

    fn answer(
        &self,
        body: &[u8],
        asked: &Asked<'_>,
        seen: Option<&mut Seen>,
    ) -> Result<Option<Vec<u8>>, String> {
        if self.passes(asked.format, asked.model) {
            if let Some(seen) = seen {
                answer_reader::look(body, asked, seen);
            }
            return Ok(None);
        }
        if self.is_claude(asked.model) && asked.format == Format::Anthropic {
            if let Some(seen) = seen {
                anthropic::answer_reader::look(body, seen);
            }
            return Ok(None);
        }
        match asked.operation {
            Operation::Embeddings => answer_reader::embeddings(body, asked, seen),
            operation if operation.is_of_images() => images::answer(body, asked, seen),
            _ if self.is_claude(asked.model) => anthropic::answer_reader::chat(body, asked, seen),
            _ => answer_reader::chat(body, asked, seen),
        }
        .map(Some)
    }

    fn stream(&self, asked: &Asked<'_>, wishes: StreamWishes) -> Box<dyn Stream> {
        if self.passes(asked.format, asked.model) {
            return events::Passed::stream(wishes, |wishes| answer_reader::Reader::new(asked, wishes));
        }
        match self.is_claude(asked.model) {
            true if asked.format == Format::Anthropic => {
                events::Passed::stream(wishes, |wishes| anthropic::answer_reader::Reader::new(asked, wishes))
            }
            true => Box::new(anthropic::answer_reader::Reader::new(asked, wishes)),
            false => Box::new(answer_reader::Reader::new(asked, wishes)),
        }
    }

    fn translates(&self, format: Format, _: Operation) -> bool {
        // Claude is served by Vertex alone, and speaks its own format there.
        format != Format::Gemini || self.vertex.is_some()
    }

    fn error(&self, status: u16, body: &[u8], format: Format) -> Option<Vec<u8>> {
        // Claude's errors come in Google's form where Google gives them, else in Anthropic's, which has the same names.
        answer_reader::error(status, body, format)
    }
}
