//! LLM formats and providers as pure functions over bytes and JSON: no sockets, no clocks.
//!
//! A call goes through three steps, each in its own place:
//!
//! 1. [`request`] reads the client's body and checks it against what the route allows, whoever the provider is;
//! 2. a [`provider`] (one file each) makes of it what is sent, and checks or translates what comes back;
//! 3. [`usage`] and [`estimate`] say what it cost.
//!
//! Where client and provider speak the same format, bytes pass and only the members that must change are
//! edited ([`json::Object`]). Where they do not, `convert` reads the one and writes the other, by way of what all
//! formats have in common.

mod aws_events;
mod convert;
pub mod estimate;
pub mod json;
pub mod prompt;
pub mod provider;
pub mod request;
pub mod sigv4;
pub mod sse;
pub mod template;
pub mod usage;

pub use provider::Provider;

/// What a client speaks, by Kong's names (`llm_format`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// OpenAI's API.
    #[default]
    OpenAi,
}

impl Format {
    /// The format of this name; `None` for one that is not served yet.
    pub fn named(name: &str) -> Option<Self> {
        (name == "openai").then_some(Self::OpenAi)
    }

    /// What is to be known of it.
    pub(crate) fn client(self) -> &'static dyn convert::ClientFormat {
        match self {
            Self::OpenAi => &convert::openai::OpenAi,
        }
    }

    /// An error of the gateway's own.
    pub fn refusal(self, status: u16, message: &str) -> serde_json::Value {
        self.client().refusal(status, message)
    }

    /// `Content-Type` of streamed answers.
    pub fn stream_type(self) -> &'static str {
        self.client().stream_type()
    }
}

/// Operations of an LLM, by Kong's names of route types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// `llm/v1/chat`
    Chat,
    /// `llm/v1/completions`
    Completions,
    /// `llm/v1/embeddings`
    Embeddings,
    /// `preserve`: whatever the client sends.
    Preserve,
}

impl Operation {
    /// The route type.
    pub fn name(self) -> &'static str {
        match self {
            Self::Chat => "llm/v1/chat",
            Self::Completions => "llm/v1/completions",
            Self::Embeddings => "llm/v1/embeddings",
            Self::Preserve => "preserve",
        }
    }

    /// The operation of a route type; `None` for one that is not served yet.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Chat, Self::Completions, Self::Embeddings, Self::Preserve]
            .into_iter()
            .find(|operation| operation.name() == name)
    }
}
