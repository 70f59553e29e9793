//! AWS Bedrock: Converse and ConverseStream, whatever the model.

use std::borrow::Cow;

use super::{Asked, Provider, Sent, Stream, StreamWishes};
use crate::Operation;
use crate::convert::{bedrock_to_openai, chunks, openai_to_bedrock};
use crate::request::{Call, Rules};
use crate::usage::Seen;

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

    fn call_path(&self, model: &str, stream: bool) -> Option<String> {
        let mut path = "/model/".to_owned();
        for byte in model.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => path.push(byte.into()),
                other => path.push_str(&format!("%{other:02X}")),
            }
        }
        path.push_str(if stream { "/converse-stream" } else { "/converse" });
        Some(path)
    }

    fn request(&self, call: &Call<'_>, rules: &Rules<'_>) -> Result<Sent, String> {
        let model = call.model.as_deref().unwrap_or_default();
        let body = match model {
            "" | "." | ".." => Err(format!("'{model}' cannot be a model")),
            _ => openai_to_bedrock::chat(
                call,
                rules,
                self.anthropic_version.as_deref(),
                self.latency.as_deref(),
            ),
        };
        let failed =
            |reason: String| format!("error transforming to bedrock://{}: {reason}", rules.operation.name());
        Ok(Sent { body: body.map_err(failed)?, hide_usage: !chunks::usage_is_wanted(call) })
    }

    fn answer(
        &self,
        body: &[u8],
        asked: &Asked<'_>,
        seen: Option<&mut Seen>,
    ) -> Result<Option<Vec<u8>>, String> {
        bedrock_to_openai::chat(body, asked, seen).map(Some)
    }

    fn stream(&self, asked: &Asked<'_>, wishes: StreamWishes) -> Box<dyn Stream> {
        Box::new(bedrock_to_openai::Events::new(asked, wishes))
    }

    fn wants_signature(&self) -> bool {
        true
    }

    fn translates(&self) -> bool {
        true
    }

    fn error(&self, status: u16, body: &[u8]) -> Option<Vec<u8>> {
        bedrock_to_openai::error(status, body)
    }
}
