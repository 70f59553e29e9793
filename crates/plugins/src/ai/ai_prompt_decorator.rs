//! `ai-prompt-decorator`: puts messages before and behind those of a chat. All else in the request stays as it is.

use std::sync::Arc;

use bytes::Bytes;
use tollgate_gateway::{Access, BuildError, Exchange, Phases, Plugin, Scope};
use tollgate_http::{Response, StatusCode};
use tollgate_llm::Format;
use tollgate_llm::json::Object;
use tollgate_llm::prompt::Insertion;
use tollgate_model::schema::EntityCheck;
use tollgate_model::{Config, Map, PluginSchema, Value};

use super::refuse;
use super::target::{Reads, body_limit, with_body};
use crate::read;

/// Configuration of `ai-prompt-decorator` (Kong 3.11).
#[derive(Debug, Clone, Config)]
pub struct AiPromptDecoratorConfig {
    /// Messages to put in.
    #[config(optional)]
    pub prompts: Option<Prompts>,
    /// Largest body that is read, in bytes; 0 for no limit.
    #[config(default = crate::ai::LARGEST_BODY)]
    pub max_request_body_size: Option<u64>,
    /// Format in which clients speak to this route. Messages are put in as that format has them.
    #[config(
        optional,
        default = "openai",
        one_of("openai", "anthropic", "bedrock", "cohere", "gemini", "huggingface")
    )]
    pub llm_format: Option<String>,
}

/// Messages to put in.
#[derive(Debug, Clone, Default, Config)]
pub struct Prompts {
    /// Messages before those of the request, in this order.
    #[config(optional, len_max(15))]
    pub prepend: Option<Vec<Message>>,
    /// Messages behind those of the request, in this order.
    #[config(optional, len_max(15))]
    pub append: Option<Vec<Message>>,
}

/// A message.
#[derive(Debug, Clone, Config)]
pub struct Message {
    /// Who says it.
    #[config(required, default = "system", one_of("system", "assistant", "user"))]
    pub role: String,
    /// What is said.
    #[config(required, len_min(1), len_max(100_000))]
    pub content: String,
}

/// How the plugin presents itself.
pub fn schema() -> PluginSchema {
    PluginSchema::new("ai-prompt-decorator", 772, AiPromptDecoratorConfig::schema())
        .about("Puts messages before and behind those of a chat request, such as instructions for the model.")
        .with_checks(vec![EntityCheck::AtLeastOneOf(vec!["config.prompts.prepend", "config.prompts.append"])])
}

/// Compiles a configured `ai-prompt-decorator`.
///
/// # Errors
/// A configuration that was not checked.
pub fn build(config: &Map<String, Value>, _: &Scope) -> Result<Arc<dyn Plugin>, BuildError> {
    let config: AiPromptDecoratorConfig = read(config)?;
    let prompts = config.prompts.unwrap_or_default();
    let pairs = |messages: Option<Vec<Message>>| -> Vec<(String, String)> {
        messages.into_iter().flatten().map(|message| (message.role, message.content)).collect()
    };
    let format = config.llm_format.as_deref().and_then(Format::named).unwrap_or_default();
    Ok(Arc::new(AiPromptDecorator {
        insertion: Insertion::new(format, &pairs(prompts.prepend), &pairs(prompts.append)),
        body_limit: body_limit(config.max_request_body_size),
    }))
}

struct AiPromptDecorator {
    insertion: Insertion,
    body_limit: usize,
}

impl Plugin for AiPromptDecorator {
    fn phases(&self) -> Phases {
        Phases::ACCESS
    }

    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Access<'a> {
        with_body(exchange, Reads::Forms, self.body_limit, |exchange, body| self.decorate(exchange, body))
    }
}

impl AiPromptDecorator {
    fn decorate(&self, exchange: &mut Exchange, body: Option<Bytes>) -> Option<Response> {
        let decorated = body.and_then(|body| self.insertion.apply(&Object::parse(&body)?));
        let Some(decorated) = decorated else {
            let message = "this LLM route only supports llm/chat type requests";
            return Some(refuse(Format::OpenAi, StatusCode::BAD_REQUEST, message));
        };
        exchange.set_body(decorated.into());
        exchange.head.headers.set("Content-Type", "application/json");
        None
    }
}
