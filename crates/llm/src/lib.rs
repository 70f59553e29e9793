//! LLM formats and providers as pure functions over bytes and JSON: no sockets, no clocks.
//!
//! A call goes through three steps, each in its own place:
//!
//! 1. [`request`] reads the client's body and checks it against what the route allows, whoever the provider is;
//! 2. a [`provider`] (one file each) makes of it what is sent, and checks or translates what comes back;
//! 3. [`usage`] and [`estimate`] say what it used, [`price`] what it cost.
//!
//! Where client and provider speak the same format, bytes pass and only the members that must change are
//! edited ([`json::Object`]). Where they do not, `convert` reads the one and writes the other, by way of what all
//! formats have in common.

mod aws_events;
mod convert;
pub mod estimate;
pub mod gen_ai;
pub mod json;
pub mod passing;
pub mod price;
pub mod prompt;
pub mod provider;
pub mod realtime;
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
    /// OpenAI's Responses where the provider does not serve them: not a name of `llm_format`, but what
    /// `llm/v1/responses` becomes there.
    Responses,
    /// Anthropic's Messages.
    Anthropic,
    /// Bedrock's Converse, and what passes to its models as it is.
    Bedrock,
    /// Gemini's `generateContent`.
    Gemini,
    /// Cohere's Chat.
    Cohere,
    /// Hugging Face's text generation.
    HuggingFace,
}

impl Format {
    /// The format of this name; `None` for one that is not served.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "openai" => Self::OpenAi,
            "anthropic" => Self::Anthropic,
            "bedrock" => Self::Bedrock,
            "gemini" => Self::Gemini,
            "cohere" => Self::Cohere,
            "huggingface" => Self::HuggingFace,
            _ => return None,
        })
    }

    /// What is to be known of it.
    pub(crate) fn client(self) -> &'static dyn convert::ClientFormat {
        match self {
            Self::OpenAi => &convert::openai::OpenAi,
            Self::Responses => &convert::responses::Responses,
            Self::Anthropic => &convert::anthropic::Messages,
            Self::Bedrock => &convert::bedrock::Converse,
            Self::Gemini => &convert::gemini::Gemini,
            Self::Cohere => &convert::cohere::Cohere,
            Self::HuggingFace => &convert::huggingface::Generation,
        }
    }

    /// An error of the gateway's own.
    pub fn refusal(self, status: u16, message: &str) -> serde_json::Value {
        self.client().refusal(status, message)
    }

    /// A header field, name and value, that errors of this status carry.
    pub fn error_header(self, status: u16) -> Option<(&'static str, &'static str)> {
        self.client().error_header(status)
    }

    /// `Content-Type` of streamed answers.
    pub fn stream_type(self, asked: &provider::Asked<'_>) -> &'static str {
        self.client().stream_type(asked)
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
    /// `llm/v1/responses`
    Responses,
    /// `llm/v1/assistants`
    Assistants,
    /// `llm/v1/files`
    Files,
    /// `llm/v1/batches`
    Batches,
    /// `audio/v1/audio/speech`
    Speech,
    /// `audio/v1/audio/transcriptions`
    Transcriptions,
    /// `audio/v1/audio/translations`
    Translations,
    /// `image/v1/images/generations`
    Images,
    /// `image/v1/images/edits`
    ImageEdits,
    /// `realtime/v1/realtime`
    Realtime,
    /// `preserve`: whatever the client sends.
    Preserve,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Chat,
        Self::Completions,
        Self::Embeddings,
        Self::Responses,
        Self::Assistants,
        Self::Files,
        Self::Batches,
        Self::Speech,
        Self::Transcriptions,
        Self::Translations,
        Self::Images,
        Self::ImageEdits,
        Self::Realtime,
        Self::Preserve,
    ];

    /// The route type.
    pub fn name(self) -> &'static str {
        match self {
            Self::Chat => "llm/v1/chat",
            Self::Completions => "llm/v1/completions",
            Self::Embeddings => "llm/v1/embeddings",
            Self::Responses => "llm/v1/responses",
            Self::Assistants => "llm/v1/assistants",
            Self::Files => "llm/v1/files",
            Self::Batches => "llm/v1/batches",
            Self::Speech => "audio/v1/audio/speech",
            Self::Transcriptions => "audio/v1/audio/transcriptions",
            Self::Translations => "audio/v1/audio/translations",
            Self::Images => "image/v1/images/generations",
            Self::ImageEdits => "image/v1/images/edits",
            Self::Realtime => "realtime/v1/realtime",
            Self::Preserve => "preserve",
        }
    }

    /// The operation of a route type.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|operation| operation.name() == name)
    }

    /// Whether it takes or gives more than text; their usage is told as input and output (Kong 3.11).
    pub fn is_of_media(self) -> bool {
        matches!(
            self,
            Self::Speech
                | Self::Transcriptions
                | Self::Translations
                | Self::Images
                | Self::ImageEdits
                | Self::Realtime
        )
    }

    /// Whether it is of pictures, which others than OpenAI make too.
    pub fn is_of_images(self) -> bool {
        matches!(self, Self::Images | Self::ImageEdits)
    }

    /// Whether it is OpenAI's own, and passes between its clients and those who serve it: only the model is checked
    /// and set ([`passing`]). Whether it passes to a provider is [`provider::passes`].
    pub fn passes(self) -> bool {
        !matches!(self, Self::Chat | Self::Completions | Self::Embeddings | Self::Preserve)
    }
}
