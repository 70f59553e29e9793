//! Servers that speak Ollama's own API, under the name they are configured by.

use std::borrow::Cow;

use super::{Asked, Provider, Sent, Stream, StreamWishes};
use crate::convert::events;
use crate::convert::ollama::{answer_reader, request_writer};
use crate::request::{Call, Rules};
use crate::usage::Seen;
use crate::{Format, Operation};

/// A server that speaks Ollama's API; it is found by `upstream_url`.
pub(super) struct Ollama {
    pub(super) name: &'static str,
    /// What stands behind the route type in errors (Kong 3.11: `/ollama` where the format is an option).
    pub(super) format: &'static str,
}

impl Provider for Ollama {
    fn name(&self) -> &'static str {
        self.name
    }

    fn host(&self) -> Cow<'_, str> {
        "localhost".into()
    }

    fn path(&self, operation: Operation) -> Option<Cow<'_, str>> {
        match operation {
            Operation::Chat => Some("/api/chat".into()),
            Operation::Completions => Some("/api/generate".into()),
            Operation::Embeddings => Some("/api/embed".into()),
            _ => None,
        }
    }

    fn request(&self, call: &Call<'_>, rules: &Rules<'_>) -> Result<Sent, String> {
        let body = match rules.operation {
            Operation::Completions => request_writer::completion(call, rules),
            Operation::Embeddings => request_writer::embeddings(call, rules),
            _ => request_writer::chat(call, rules),
        };
        let (name, route, format) = (self.name, rules.operation.name(), self.format);
        let failed = |reason: String| format!("error transforming to {name}://{route}{format}: {reason}");
        Ok(Sent { body: body.map_err(failed)?, hide_usage: !events::usage_is_wanted(call) })
    }

    fn answer(
        &self,
        body: &[u8],
        asked: &Asked<'_>,
        seen: Option<&mut Seen>,
    ) -> Result<Option<Vec<u8>>, String> {
        match asked.operation {
            Operation::Embeddings => answer_reader::embeddings(self.name, body, asked, seen),
            _ => answer_reader::whole(self.name, body, asked, seen),
        }
        .map(Some)
    }

    fn stream(&self, asked: &Asked<'_>, wishes: StreamWishes) -> Box<dyn Stream> {
        Box::new(answer_reader::Lines::new(asked, wishes))
    }

    fn translates(&self, _: Format, _: Operation) -> bool {
        true
    }

    fn error(&self, status: u16, body: &[u8], format: Format) -> Option<Vec<u8>> {
        answer_reader::error(status, body, format)
    }
}
