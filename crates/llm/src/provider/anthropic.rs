//! Anthropic: its Messages API for chats, its older API for text completions.

use std::borrow::Cow;

use super::{Asked, Provider, Sent, Stream, StreamWishes};
use crate::convert::anthropic::{answer_reader, request_writer};
use crate::convert::events::{self, Passed};
use crate::request::{Call, Rules};
use crate::usage::Seen;
use crate::{Format, Operation};

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
            _ => None,
        }
    }

    fn has_call_paths(&self, format: Format, operation: Operation) -> bool {
        format == Format::Anthropic && operation == Operation::Chat
    }

    fn call_path(&self, call: &Call<'_>, _: Format, _: Operation) -> String {
        match &*call.action {
            "" => "/v1/messages".to_owned(),
            kept if call.is_of_kept() => format!("/v1/messages{kept}"),
            action => format!("/v1/messages/{action}"),
        }
    }

    fn headers(&self) -> Vec<(&'static str, Cow<'_, str>)> {
        vec![("anthropic-version", Cow::Borrowed(&self.version))]
    }

    fn request(&self, call: &Call<'_>, rules: &Rules<'_>) -> Result<Sent, String> {
        if call.is_of_kept() {
            return Ok(Sent { body: call.body.text().into(), hide_usage: false });
        }
        if rules.format == Format::Anthropic {
            return Ok(Sent { body: request_writer::passed(call, rules), hide_usage: false });
        }
        let body = match rules.operation {
            Operation::Completions => request_writer::completion(call, rules),
            _ => request_writer::chat(call, rules),
        };
        let failed = |reason: String| {
            format!("error transforming to anthropic://{}: {reason}", rules.operation.name())
        };
        Ok(Sent { body: body.map_err(failed)?, hide_usage: !events::usage_is_wanted(call) })
    }

    fn answer(
        &self,
        body: &[u8],
        asked: &Asked<'_>,
        seen: Option<&mut Seen>,
    ) -> Result<Option<Vec<u8>>, String> {
        if asked.format == Format::Anthropic {
            if let Some(seen) = seen {
                answer_reader::look(body, seen);
            }
            return Ok(None);
        }
        match asked.operation {
            Operation::Completions => answer_reader::completion(body, asked, seen),
            _ => answer_reader::chat(body, asked, seen),
        }
        .map(Some)
    }

    fn stream(&self, asked: &Asked<'_>, wishes: StreamWishes) -> Box<dyn Stream> {
        if asked.format == Format::Anthropic {
            return Passed::stream(wishes, |wishes| answer_reader::Reader::new(asked, wishes));
        }
        Box::new(answer_reader::Reader::new(asked, wishes))
    }

    fn translates(&self, format: Format, _: Operation) -> bool {
        format != Format::Anthropic
    }

    fn error(&self, status: u16, body: &[u8], format: Format) -> Option<Vec<u8>> {
        (format != Format::Anthropic).then(|| answer_reader::error(status, body, format)).flatten()
    }
}
