//! AWS Bedrock: Converse and ConverseStream whatever the model, and `invoke` for what only that can do.

use std::borrow::Cow;

use super::{Asked, Provider, Sent, Stream, StreamWishes, escaped};
use crate::convert::anthropic;
use crate::convert::anthropic::request_writer::{Cloud, passed_to_cloud};
use crate::convert::bedrock::{answer_reader, embeddings, images, invoked, request_writer};
use crate::convert::events::{self, Passed};
use crate::request::{Call, Rules};
use crate::usage::Seen;
use crate::{Format, Operation};

/// Bedrock's runtime API.
pub(super) struct Bedrock {
    pub(super) region: String,
    pub(super) anthropic_version: Option<String>,
    /// Latency class asked for.
    pub(super) latency: Option<String>,
    /// Whether embeddings are made of length 1.
    pub(super) normalizes: Option<bool>,
    /// What embeddings of Cohere's models are for.
    pub(super) input_type: Option<String>,
}

/// Features to come that Bedrock lets through to its Claude models.
const BETAS: [&str; 13] = [
    "compact-2026-01-12",
    "computer-use-2024-10-22",
    "computer-use-2025-01-24",
    "computer-use-2025-11-24",
    "context-1m-2025-08-07",
    "context-management-2025-06-27",
    "dev-full-thinking-2025-05-14",
    "effort-2025-11-24",
    "interleaved-thinking-2025-05-14",
    "output-128k-2025-02-19",
    "token-efficient-tools-2025-02-19",
    "tool-examples-2025-10-29",
    "tool-search-tool-2025-10-19",
];

/// How a call is made.
#[derive(Debug, PartialEq, Eq)]
enum Way {
    /// By Converse.
    Converse,
    /// By Converse, as the client wrote it.
    Passed,
    /// By `invoke`, as the client wrote it.
    PassedInvoke,
    /// By `invoke` of a Claude, which speaks the client's format: nothing is lost on the way.
    Messages,
    /// By `invoke`, for vectors.
    Embeddings,
    /// By `invoke`, for pictures.
    Images,
}

impl Way {
    fn of(format: Format, operation: Operation, action: &str, model: &str) -> Self {
        match (format, action) {
            _ if operation == Operation::Embeddings => Self::Embeddings,
            _ if operation.is_of_images() => Self::Images,
            (Format::Bedrock, "invoke") => Self::PassedInvoke,
            (Format::Bedrock, _) => Self::Passed,
            (Format::Anthropic, _) if model.contains("anthropic.") => Self::Messages,
            _ => Self::Converse,
        }
    }

    fn of_asked(asked: &Asked<'_>) -> Self {
        Self::of(asked.format, asked.operation, asked.action, asked.model)
    }
}

impl Provider for Bedrock {
    fn name(&self) -> &'static str {
        "bedrock"
    }

    fn host(&self) -> Cow<'_, str> {
        format!("bedrock-runtime.{}.amazonaws.com", self.region).into()
    }

    fn path(&self, operation: Operation) -> Option<Cow<'_, str>> {
        let is_served =
            matches!(operation, Operation::Chat | Operation::Embeddings) || operation.is_of_images();
        is_served.then_some("/model".into())
    }

    fn has_call_paths(&self, _: Format, _: Operation) -> bool {
        true
    }

    fn call_path(&self, call: &Call<'_>, format: Format, operation: Operation) -> String {
        let model = call.model.as_deref().unwrap_or_default();
        let mut path = format!("/model/{}", escaped(model));
        path.push_str(match (Way::of(format, operation, &call.action, model), call.stream) {
            (Way::Converse | Way::Passed, false) => "/converse",
            (Way::Converse | Way::Passed, true) => "/converse-stream",
            (_, false) => "/invoke",
            (_, true) => "/invoke-with-response-stream",
        });
        path
    }

    fn request(&self, call: &Call<'_>, rules: &Rules<'_>) -> Result<Sent, String> {
        let model = call.model.as_deref().unwrap_or_default();
        let version = self.anthropic_version.as_deref();
        let body = match (model, Way::of(rules.format, rules.operation, &call.action, model)) {
            ("" | "." | "..", _) => Err(format!("'{model}' cannot be a model")),
            (_, Way::Converse) => request_writer::chat(call, rules, version, self.latency.as_deref()),
            (_, Way::Passed) => Ok(request_writer::passed(call, rules)),
            (_, Way::PassedInvoke) => Ok(call.body.text().as_bytes().to_vec()),
            (_, Way::Messages) => {
                let cloud = Cloud {
                    version: version.unwrap_or("bedrock-2023-05-31"),
                    betas: &BETAS,
                    refused: &[],
                    path_says_stream: true,
                };
                passed_to_cloud(call, rules, &cloud)
            }
            (_, Way::Embeddings) => {
                embeddings::request(call, rules, self.normalizes, self.input_type.as_deref())
            }
            (_, Way::Images) => images::request(call, rules),
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
        let look: fn(&[u8], &mut Seen) = match Way::of_asked(asked) {
            Way::Converse => return answer_reader::chat(body, asked, seen).map(Some),
            Way::Embeddings => return embeddings::answer(body, asked, seen).map(Some),
            Way::Images => return images::answer(body, asked, seen).map(Some),
            Way::Passed => answer_reader::look,
            Way::PassedInvoke => invoked::look,
            Way::Messages => anthropic::answer_reader::look,
        };
        if let Some(seen) = seen {
            look(body, seen);
        }
        Ok(None)
    }

    fn stream(&self, asked: &Asked<'_>, wishes: StreamWishes) -> Box<dyn Stream> {
        match Way::of_asked(asked) {
            Way::Converse | Way::Embeddings | Way::Images => {
                Box::new(answer_reader::Reader::new(asked, wishes))
            }
            Way::Passed => Passed::stream(wishes, |wishes| answer_reader::Reader::new(asked, wishes)),
            Way::PassedInvoke => Passed::stream(wishes, |_| invoked::Invocation::default()),
            Way::Messages => Box::new(invoked::MessageEvents::new(asked, wishes)),
        }
    }

    fn takes_system(&self, model: &str) -> bool {
        request_writer::takes_system(model)
    }

    fn wants_signature(&self) -> bool {
        true
    }

    fn translates(&self, format: Format, _: Operation) -> bool {
        format != Format::Bedrock
    }

    fn error(&self, status: u16, body: &[u8], format: Format) -> Option<Vec<u8>> {
        (format != Format::Bedrock).then(|| answer_reader::error(status, body, format)).flatten()
    }
}
