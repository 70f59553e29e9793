//! LLM formats and providers as pure functions over bytes and JSON: no sockets, no clocks.
//!
//! Where client and provider speak the same format, bytes pass and only the members that must change are
//! edited ([`json::Object`]).

pub mod json;
pub mod openai;
pub mod sse;
pub mod template;
pub mod usage;

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
}
