//! Cohere: its Chat in the second version (Kong 3.14), its text completions, its embeddings.

use std::borrow::Cow;

use super::{Asked, Provider, Sent, Stream, StreamWishes};
use crate::convert::cohere::{answer_reader, request_writer};
use crate::convert::embeddings::Embeddings;
use crate::convert::events;
use crate::json::quote;
use crate::request::{Call, Rules};
use crate::usage::Seen;
use crate::{Format, Operation};

/// Cohere's API.
pub(super) struct Cohere {
    /// What embeddings are for.
    pub(super) input_type: String,
}

/// A request in Cohere's format: only what the route decides is edited.
fn passing(call: &Call<'_>, rules: &Rules<'_>) -> Vec<u8> {
    let model = quote(call.model.as_deref().unwrap_or_default());
    let auth = rules.auth.filter(|auth| !(auth.keep_own && call.body.get(auth.name).is_some()));
    let secret = auth.map(|auth| quote(auth.value));
    let mut edits = Vec::new();
    if call.body.get("model") != Some(&model) {
        edits.push(("model", Some(model.as_str())));
    }
    if call.stream && !call.body.is_truthy("stream") {
        edits.push(("stream", Some("true")));
    }
    if let (Some(auth), Some(secret)) = (auth, &secret) {
        edits.push((auth.name, Some(secret)));
    }
    call.body.edit(&edits)
}

impl Provider for Cohere {
    fn name(&self) -> &'static str {
        "cohere"
    }

    fn host(&self) -> Cow<'_, str> {
        "api.cohere.com".into()
    }

    fn path(&self, operation: Operation) -> Option<Cow<'_, str>> {
        match operation {
            Operation::Chat => Some("/v2/chat".into()),
            Operation::Completions => Some("/v1/generate".into()),
            Operation::Embeddings => Some("/v2/embed".into()),
            _ => None,
        }
    }

    fn has_call_paths(&self, format: Format, _: Operation) -> bool {
        format == Format::Cohere
    }

    /// A client of this format says by its path which operation it means.
    fn call_path(&self, call: &Call<'_>, _: Format, _: Operation) -> String {
        if call.action.is_empty() { "/v2/chat".to_owned() } else { call.action.to_string() }
    }

    fn request(&self, call: &Call<'_>, rules: &Rules<'_>) -> Result<Sent, String> {
        if rules.format == Format::Cohere {
            return Ok(Sent { body: passing(call, rules), hide_usage: false });
        }
        let sent = match rules.operation {
            Operation::Completions => request_writer::completion(call, rules),
            Operation::Embeddings => Embeddings::read(call, rules).map(|asked| {
                let model = call.model.as_deref().unwrap_or_default();
                request_writer::embeddings(asked, model, &self.input_type)
            }),
            _ => request_writer::chat(call, rules),
        };
        let failed =
            |reason: String| format!("error transforming to cohere://{}: {reason}", rules.operation.name());
        let body = sent.map_err(failed)?.to_string().into_bytes();
        Ok(Sent { body, hide_usage: !events::usage_is_wanted(call) })
    }

    fn answer(
        &self,
        body: &[u8],
        asked: &Asked<'_>,
        seen: Option<&mut Seen>,
    ) -> Result<Option<Vec<u8>>, String> {
        match (asked.format, asked.operation) {
            (Format::Cohere, _) => {
                if let Some(seen) = seen {
                    answer_reader::look(body, asked, seen);
                }
                Ok(None)
            }
            (_, Operation::Embeddings) => answer_reader::embeddings(body, asked, seen).map(Some),
            _ => answer_reader::whole(body, asked, seen).map(Some),
        }
    }

    fn stream(&self, asked: &Asked<'_>, wishes: StreamWishes) -> Box<dyn Stream> {
        match self.translates(asked.format, asked.operation) {
            true => Box::new(answer_reader::Reader::new(asked, wishes)),
            false => events::Passed::stream(wishes, |wishes| answer_reader::Reader::new(asked, wishes)),
        }
    }

    fn translates(&self, format: Format, _: Operation) -> bool {
        format != Format::Cohere
    }

    fn error(&self, status: u16, body: &[u8], format: Format) -> Option<Vec<u8>> {
        answer_reader::error(status, body, format)
    }
}
