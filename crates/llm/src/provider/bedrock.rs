//! AWS Bedrock: Converse and ConverseStream, whatever the model.

use std::borrow::Cow;

use super::{Asked, Provider, Sent, Stream, StreamWishes, escaped};
use crate::convert::bedrock::{answer_reader, request_writer};
use crate::convert::events;
use crate::request::{Call, Rules};
use crate::usage::Seen;
use crate::{Format, Operation};

/// Bedrock's runtime API.
pub(super) struct Bedrock {
    pub(super) region: String,
    pub(super) anthropic_version: Option<String>,
    /// Latency class asked for.
    pub(super) latency: Option<String>,
}

impl Provider for Bedrock {
    fn name(&self) -> &'static str {
        "bedrock"
    }

    fn host(&self) -> Cow<'_, str> {
        format!("bedrock-runtime.{}.amazonaws.com", self.region).into()
    }

    fn path(&self, operation: Operation) -> Option<Cow<'_, str>> {
        (operation == Operation::Chat).then_some("/model".into())
    }

    fn has_call_paths(&self, _: Format, _: Operation) -> bool {
        true
    }

    fn call_path(&self, call: &Call<'_>, _: Format, _: Operation) -> String {
        let mut path = format!("/model/{}", escaped(call.model.as_deref().unwrap_or_default()));
        path.push_str(if call.stream { "/converse-stream" } else { "/converse" });
        path
    }

    fn request(&self, call: &Call<'_>, rules: &Rules<'_>) -> Result<Sent, String> {
        let model = call.model.as_deref().unwrap_or_default();
        let body = match model {
            "" | "." | ".." => Err(format!("'{model}' cannot be a model")),
            _ => {
                request_writer::chat(call, rules, self.anthropic_version.as_deref(), self.latency.as_deref())
            }
        };
        let failed =
            |reason: String| format!("error transforming to bedrock://{}: {reason}", rules.operation.name());
        Ok(Sent { body: body.map_err(failed)?, hide_usage: !events::usage_is_wanted(call) })
    }

    fn answer(
        &self,
        body: &[u8],
        asked: &Asked<'_>,
        seen: Option<&mut Seen>,
    ) -> Result<Option<Vec<u8>>, String> {
        answer_reader::chat(body, asked, seen).map(Some)
    }

    fn stream(&self, asked: &Asked<'_>, wishes: StreamWishes) -> Box<dyn Stream> {
        Box::new(answer_reader::Reader::new(asked, wishes))
    }

    fn takes_system(&self, model: &str) -> bool {
        request_writer::takes_system(model)
    }

    fn wants_signature(&self) -> bool {
        true
    }

    fn translates(&self, _: Format) -> bool {
        true
    }

    fn error(&self, status: u16, body: &[u8], format: Format) -> Option<Vec<u8>> {
        answer_reader::error(status, body, format)
    }
}
