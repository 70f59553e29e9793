//! Alibaba's DashScope: OpenAI's API for chats and vectors, and one of its own for pictures.
//!
//! Pictures, new ones and edits, are asked for where they are answered at once (`multimodal-generation`: Qwen-Image,
//! Qwen-Image-Edit and those like them). Models that answer with a task to be asked about later (`image-synthesis`)
//! cannot be served as OpenAI's images, which wait.

use std::borrow::Cow;

use super::openai::OpenAi;
use super::{Asked, Provider, Sent, Settings, Stream, StreamWishes, openai_like};
use crate::convert::dashscope;
use crate::convert::openai::answer_reader;
use crate::request::{Call, Rules};
use crate::usage::Seen;
use crate::{Format, Operation};

/// Where pictures are made.
const IMAGES: &str = "/api/v1/services/aigc/multimodal-generation/generation";

/// DashScope's API.
pub(super) struct DashScope {
    chats: OpenAi,
}

impl DashScope {
    pub(super) fn new(settings: &Settings) -> Self {
        let host = match settings.dashscope_in_china {
            true => "dashscope.aliyuncs.com",
            false => "dashscope-intl.aliyuncs.com",
        };
        let chats = OpenAi {
            chat: "/compatible-mode/v1/chat/completions".into(),
            embeddings: Some("/compatible-mode/v1/embeddings".into()),
            ..openai_like::chat_only("dashscope", host)
        };
        Self { chats }
    }
}

impl Provider for DashScope {
    fn name(&self) -> &'static str {
        self.chats.name()
    }

    fn host(&self) -> Cow<'_, str> {
        self.chats.host()
    }

    fn path(&self, operation: Operation) -> Option<Cow<'_, str>> {
        if operation.is_of_images() { Some(IMAGES.into()) } else { self.chats.path(operation) }
    }

    fn request(&self, call: &Call<'_>, rules: &Rules<'_>) -> Result<Sent, String> {
        if !rules.operation.is_of_images() {
            return self.chats.request(call, rules);
        }
        let failed = |reason: String| {
            format!("error transforming to dashscope://{}: {reason}", rules.operation.name())
        };
        Ok(Sent { body: dashscope::request(call, rules).map_err(failed)?, hide_usage: false })
    }

    fn answer(
        &self,
        body: &[u8],
        asked: &Asked<'_>,
        seen: Option<&mut Seen>,
    ) -> Result<Option<Vec<u8>>, String> {
        match asked.operation.is_of_images() {
            true => dashscope::answer(body, asked, seen).map(Some),
            false => self.chats.answer(body, asked, seen),
        }
    }

    fn stream(&self, asked: &Asked<'_>, wishes: StreamWishes) -> Box<dyn Stream> {
        self.chats.stream(asked, wishes)
    }

    fn translates(&self, format: Format, operation: Operation) -> bool {
        operation.is_of_images() || self.chats.translates(format, operation)
    }

    fn error(&self, status: u16, body: &[u8], format: Format) -> Option<Vec<u8>> {
        // Its own API tells errors in a way of its own.
        match answer_reader::is_error(body) {
            true => self.chats.error(status, body, format),
            false => answer_reader::error(status, body, format),
        }
    }
}
