//! Llama 2 behind a server that knows of no chats, only of texts to go on with (`llama2_format: raw`); in its other
//! formats it is a server of Ollama's or OpenAI's API.

use std::borrow::Cow;

use super::{Asked, Provider, Sent, Stream, StreamWishes};
use crate::convert::huggingface::answer_reader::{self, Reader};
use crate::convert::{events, llama2};
use crate::request::{Call, Rules};
use crate::usage::Seen;
use crate::{Format, Operation};

/// A server of Hugging Face's text generation, or one like it; it is found by `upstream_url`.
pub(super) struct Raw;

impl Provider for Raw {
    fn name(&self) -> &'static str {
        "llama2"
    }

    fn host(&self) -> Cow<'_, str> {
        "localhost".into()
    }

    fn path(&self, operation: Operation) -> Option<Cow<'_, str>> {
        matches!(operation, Operation::Chat | Operation::Completions).then(|| "/".into())
    }

    fn request(&self, call: &Call<'_>, rules: &Rules<'_>) -> Result<Sent, String> {
        let body = match rules.operation {
            Operation::Completions => llama2::completion(call, rules),
            _ => llama2::chat(call, rules),
        };
        let route = rules.operation.name();
        let body = body.map_err(|reason| format!("error transforming to llama2://{route}/raw: {reason}"))?;
        Ok(Sent { body: body.to_string().into_bytes(), hide_usage: !events::usage_is_wanted(call) })
    }

    fn answer(
        &self,
        body: &[u8],
        asked: &Asked<'_>,
        seen: Option<&mut Seen>,
    ) -> Result<Option<Vec<u8>>, String> {
        llama2::whole(body, asked, seen).map(Some)
    }

    fn stream(&self, asked: &Asked<'_>, wishes: StreamWishes) -> Box<dyn Stream> {
        Box::new(Reader::new("Llama 2", asked, wishes).without_prompt(llama2::without_prompt))
    }

    fn translates(&self, _: Format, _: Operation) -> bool {
        true
    }

    fn error(&self, status: u16, body: &[u8], format: Format) -> Option<Vec<u8>> {
        answer_reader::error(status, body, format)
    }
}
