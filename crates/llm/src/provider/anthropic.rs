//! Anthropic: its Messages API for chats, its older API for text completions.

use std::borrow::Cow;

use super::{Asked, Provider, Sent, Stream, StreamWishes};
use crate::Operation;
use crate::convert::{anthropic_to_openai, chunks, openai_to_anthropic};
use crate::request::{Call, Rules};
use crate::usage::Seen;

/// Anthropic's API.
pub(super) struct Anthropic {
    /// `anthropic-version` that requests carry.
    pub(super) version: String,
}

impl Provider for Anthropic {
    fn name(&self) -> &'static str {
        "anthropic"
    }

    fn host(&self) -> Cow<'_, str> {
        "api.anthropic.com".into()
    }

    fn path(&self, operation: Operation) -> Option<Cow<'_, str>> {
        match operation {
            Operation::Chat => Some("/v1/messages".into()),
            Operation::Completions => Some("/v1/complete".into()),
            Operation::Embeddings | Operation::Preserve => None,
        }
    }

    fn headers(&self) -> Vec<(&'static str, Cow<'_, str>)> {
        vec![("anthropic-version", Cow::Borrowed(&self.version))]
    }

    fn request(&self, call: &Call<'_>, rules: &Rules<'_>) -> Result<Sent, String> {
        let body = match rules.operation {
            Operation::Completions => openai_to_anthropic::completion(call, rules),
            _ => openai_to_anthropic::chat(call, rules),
        };
        let failed = |reason: String| {
            format!("error transforming to anthropic://{}: {reason}", rules.operation.name())
        };
        Ok(Sent { body: body.map_err(failed)?, hide_usage: !chunks::usage_is_wanted(call) })
    }

    fn answer(
        &self,
        body: &[u8],
        asked: &Asked<'_>,
        seen: Option<&mut Seen>,
    ) -> Result<Option<Vec<u8>>, String> {
        match asked.operation {
            Operation::Completions => anthropic_to_openai::completion(body, asked, seen),
            _ => anthropic_to_openai::chat(body, asked, seen),
        }
        .map(Some)
    }

    fn stream(&self, asked: &Asked<'_>, wishes: StreamWishes) -> Box<dyn Stream> {
        Box::new(anthropic_to_openai::Events::new(asked, wishes))
    }

    fn translates(&self) -> bool {
        true
    }

    fn error(&self, _: u16, body: &[u8]) -> Option<Vec<u8>> {
        anthropic_to_openai::error(body)
    }
}
