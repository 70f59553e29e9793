//! The providers: who they are, by Kong's names, is in [`configured`].

mod anthropic;
mod bedrock;
mod cohere;
mod dashscope;
mod gemini;
mod huggingface;
mod llama2;
mod ollama;
mod openai;
mod openai_like;

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::request::{Call, Rules};
use crate::usage::Seen;
use crate::{Format, Operation};

/// Someone who runs models: where its API is, what it is sent, what its answers mean.
///
/// Hosts, paths and values may hold placeholders (see [`crate::template`]).
pub trait Provider: Send + Sync {
    /// Kong's name for it.
    fn name(&self) -> &'static str;

    /// Host of its API, reached with TLS on port 443.
    fn host(&self) -> Cow<'_, str>;

    /// Path of an operation; `None` for one that it does not serve, and where the client's own path is kept.
    fn path(&self, operation: Operation) -> Option<Cow<'_, str>>;

    /// Whether the path depends on the call; [`Provider::call_path`] then stands in for [`Provider::path`].
    fn has_call_paths(&self, format: Format, operation: Operation) -> bool {
        let _ = (format, operation);
        false
    }

    /// Path of one call, where that depends on the call. May end in a query of one argument.
    fn call_path(&self, call: &Call<'_>, format: Format, operation: Operation) -> String {
        let _ = (call, format, operation);
        String::new()
    }

    /// What the configured path (`upstream_path`) is appended to.
    fn base_path(&self) -> &str {
        ""
    }

    /// Argument that every request carries, unless the client sent one of that name.
    fn query(&self) -> Option<(&'static str, &str)> {
        None
    }

    /// Header fields that every request carries.
    fn headers(&self) -> Vec<(&'static str, Cow<'_, str>)> {
        Vec::new()
    }

    /// Makes of the client's request what is sent.
    ///
    /// # Errors
    /// Why that cannot be done; the client gets status 400.
    fn request(&self, call: &Call<'_>, rules: &Rules<'_>) -> Result<Sent, String>;

    /// Checks a whole answer of status 200, and takes in what it says where that is wanted. Gives the answer in
    /// the client's format where that is another one.
    ///
    /// # Errors
    /// Why it cannot be passed on, in Kong's words; the client gets status 500.
    fn answer(
        &self,
        body: &[u8],
        asked: &Asked<'_>,
        seen: Option<&mut Seen>,
    ) -> Result<Option<Vec<u8>>, String>;

    /// What follows a streamed answer on its way.
    fn stream(&self, asked: &Asked<'_>, wishes: StreamWishes) -> Box<dyn Stream>;

    /// Whether this model takes instructions (`system`).
    fn takes_system(&self, model: &str) -> bool {
        let _ = model;
        true
    }

    /// Whether requests have to be signed ([`crate::sigv4`]).
    fn wants_signature(&self) -> bool {
        false
    }

    /// Whether answers of an operation have to be translated for a client of this format.
    fn translates(&self, format: Format, operation: Operation) -> bool;

    /// The answer of another status in the client's format; `None` where it can only be passed on as it is.
    fn error(&self, status: u16, body: &[u8], format: Format) -> Option<Vec<u8>>;
}

/// What was asked of the provider.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The client's format.
    pub format: Format,
    /// What it is to do.
    pub operation: Operation,
    /// The model asked.
    pub model: &'a str,
    /// Identifies the call.
    pub id: &'a str,
    /// When, in seconds since 1970.
    pub created: u64,
    /// Members of the request that the answer repeats.
    pub kept: &'a Map<String, Value>,
    /// What is asked where it is no operation of ours; empty otherwise.
    pub action: &'a str,
}

/// What is configured about the provider's account and manners (Kong's `model.options`).
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// `azure_instance`
    pub azure_instance: Option<String>,
    /// `azure_deployment_id`
    pub azure_deployment_id: Option<String>,
    /// `azure_api_version`
    pub azure_api_version: Option<String>,
    /// `anthropic_version`
    pub anthropic_version: Option<String>,
    /// `bedrock.aws_region`, or the environment's
    pub aws_region: Option<String>,
    /// `bedrock.performance_config_latency`
    pub bedrock_latency: Option<String>,
    /// `bedrock.embeddings_normalize`
    pub bedrock_normalizes: Option<bool>,
    /// `llama2_format`
    pub llama2_format: Option<String>,
    /// `mistral_format`
    pub mistral_format: Option<String>,
    /// `dashscope.international` set to false
    pub dashscope_in_china: bool,
    /// `databricks.workspace_instance_id`
    pub databricks_workspace: Option<String>,
    /// `cohere.embedding_input_type`
    pub cohere_embedding_input_type: Option<String>,
    /// `gemini.api_endpoint`
    pub gemini_api_endpoint: Option<String>,
    /// `gemini.project_id`
    pub gemini_project_id: Option<String>,
    /// `gemini.location_id`
    pub gemini_location_id: Option<String>,
    /// `huggingface.use_cache`
    pub huggingface_use_cache: Option<bool>,
    /// `huggingface.wait_for_model`
    pub huggingface_wait_for_model: Option<bool>,
    /// Whether `upstream_url` says where the provider is: somebody's own server, and not the one that all can ask.
    pub own_server: bool,
}

/// A request as the provider gets it.
#[derive(Debug, PartialEq, Eq)]
pub struct Sent {
    /// The body.
    pub body: Vec<u8>,
    /// Whether the event with the usage is to be hidden from the client, who did not ask for it.
    pub hide_usage: bool,
}

/// What is wanted of a streamed answer besides passing it on.
#[derive(Debug, Clone, Copy, Default)]
pub struct StreamWishes {
    /// Hide the event that holds nothing but usage.
    pub hide_usage: bool,
    /// Keep the text of the answer.
    pub keep_text: bool,
    /// What is made of it.
    pub shape: Shape,
}

/// What is made of a streamed answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Shape {
    /// A stream of the client's format.
    #[default]
    Events,
    /// One whole answer, or error, at the end: the client has not asked for a stream.
    Whole,
    /// Nothing: it passes as it is.
    Nothing,
}

/// A streamed answer on its way.
pub trait Stream: Send {
    /// Takes in a chunk, in any split of the bytes, and returns what goes on at once.
    fn chunk(&mut self, chunk: Bytes) -> Bytes;

    /// What is held of an unfinished event when the stream ends.
    fn end(&mut self) -> Bytes;

    /// Gives away what the stream has said.
    fn take_seen(&mut self) -> Seen;
}

/// The provider of this name; `None` for one that is not served, or not in the format that is set.
pub fn configured(name: &str, settings: &Settings) -> Option<Arc<dyn Provider>> {
    Some(match name {
        "anthropic" => {
            Arc::new(anthropic::Anthropic { version: settings.anthropic_version.clone().unwrap_or_default() })
        }
        "bedrock" => Arc::new(bedrock::Bedrock {
            region: settings.aws_region.clone().unwrap_or_default(),
            anthropic_version: settings.anthropic_version.clone(),
            latency: settings.bedrock_latency.clone(),
            normalizes: settings.bedrock_normalizes,
            input_type: settings.cohere_embedding_input_type.clone(),
        }),
        "cohere" => Arc::new(cohere::Cohere {
            input_type: settings
                .cohere_embedding_input_type
                .clone()
                .unwrap_or_else(|| "classification".to_owned()),
        }),
        "dashscope" => Arc::new(dashscope::DashScope::new(settings)),
        "gemini" => Arc::new(gemini::Gemini {
            vertex: match (
                &settings.gemini_api_endpoint,
                &settings.gemini_project_id,
                &settings.gemini_location_id,
            ) {
                (Some(endpoint), Some(project), Some(location)) => Some(gemini::Vertex {
                    endpoint: endpoint.clone(),
                    project: project.clone(),
                    location: location.clone(),
                }),
                _ => None,
            },
        }),
        "huggingface" => Arc::new(huggingface::HuggingFace::new(settings)),
        "ollama" => Arc::new(ollama::Ollama { name: "ollama", format: "" }),
        "llama2" if settings.llama2_format.as_deref() == Some("ollama") => {
            Arc::new(ollama::Ollama { name: "llama2", format: "/ollama" })
        }
        "llama2" if settings.llama2_format.as_deref() == Some("raw") => Arc::new(llama2::Raw),
        "mistral" if settings.mistral_format.as_deref() == Some("ollama") => {
            Arc::new(ollama::Ollama { name: "mistral", format: "/ollama" })
        }
        _ => Arc::new(openai_like::configured(name, settings)?),
    })
}

/// A model's name as one segment of a path.
fn escaped(model: &str) -> String {
    let mut segment = String::with_capacity(model.len());
    for byte in model.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => segment.push(byte.into()),
            other => segment.push_str(&format!("%{other:02X}")),
        }
    }
    segment
}

/// Whether requests of OpenAI's own operations pass to a provider ([`crate::passing`]), and are not made its own.
pub fn passes(provider: &dyn Provider, format: Format, operation: Operation) -> bool {
    operation.passes() && !provider.translates(format, operation)
}

/// Whether a provider serves an operation. `preserve` is for all whose requests need no signature.
pub fn serves(provider: &dyn Provider, operation: Operation) -> bool {
    match operation {
        Operation::Preserve => !provider.wants_signature(),
        // What a provider does not serve is sent as a chat.
        Operation::Responses => [operation, Operation::Chat].iter().any(|of| provider.path(*of).is_some()),
        operation => provider.path(operation).is_some(),
    }
}
