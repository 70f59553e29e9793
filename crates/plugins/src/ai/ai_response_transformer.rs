//! `ai-response-transformer`: an LLM rewrites the upstream's answer before the client gets it.

mod instructions;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tollgate_gateway::exchange::Source;
use tollgate_gateway::{Access, BuildError, Exchange, Phases, Plugin, ResponseFilter, Scope};
use tollgate_http::{Body, Response, StatusCode};
use tollgate_llm::Format;
use tollgate_model::{Config, Map, PluginSchema, Value};
use tollgate_telemetry::Level;

use super::ask::Manner;
use super::refuse;
use super::target::{LARGEST_ANSWER, plain_body};
use super::transformation::{self, LlmConfig, Settings, Transformation};
use crate::read;

/// Configuration of `ai-response-transformer` (Kong 3.11).
#[derive(Debug, Clone, Config)]
pub struct AiResponseTransformerConfig {
    /// What the LLM is told to do with the answer's body.
    #[config(required)]
    pub prompt: String,
    /// Regex of PCRE; its first match in the LLM's answer is what counts of it. Letters match in either case, `^`
    /// and `$` at every line. An answer without a match is an error.
    #[config(optional)]
    pub transformation_extract_pattern: Option<String>,
    /// Whether the LLM's answer is JSON with `status`, `headers` and `body` of what the client gets, else it is the
    /// body.
    #[config(required, default = false)]
    pub parse_llm_response_json_instructions: bool,
    /// How long each part of the call may take, in milliseconds.
    #[config(required, default = 60_000)]
    pub http_timeout: u64,
    /// Whether the LLM's certificate is checked.
    #[config(required, default = true)]
    pub https_verify: bool,
    /// Accepted as Kong has it; the request's body is not read.
    #[config(default = crate::ai::LARGEST_BODY)]
    pub max_request_body_size: Option<u64>,
    /// Proxy by which an LLM at an `http` address is asked.
    #[config(optional)]
    pub http_proxy_host: Option<String>,
    /// Port of that proxy.
    #[config(optional, between(0, 65535))]
    pub http_proxy_port: Option<u16>,
    /// Proxy by which an LLM at an `https` address is asked.
    #[config(optional)]
    pub https_proxy_host: Option<String>,
    /// Port of that proxy.
    #[config(optional, between(0, 65535))]
    pub https_proxy_port: Option<u16>,
    /// The LLM that is asked.
    #[config(required)]
    pub llm: LlmConfig,
}

const NAME: &str = "ai-response-transformer";

/// How the plugin presents itself.
pub fn schema() -> PluginSchema {
    PluginSchema::new(NAME, 768, AiResponseTransformerConfig::schema())
        .about("Has an LLM rewrite the upstream's answer before the client gets it.")
        .with_checks(transformation::checks())
}

/// Compiles a configured `ai-response-transformer`.
///
/// # Errors
/// A configuration that was not checked; an LLM that cannot be asked.
pub fn build(config: &Map<String, Value>, scope: &Scope) -> Result<Arc<dyn Plugin>, BuildError> {
    let config: AiResponseTransformerConfig = read(config)?;
    let settings = Settings {
        prompt: config.prompt,
        pattern: config.transformation_extract_pattern,
        llm: config.llm,
        manner: Manner {
            timeout: Duration::from_millis(config.http_timeout),
            verify: config.https_verify,
            proxies: [
                config.http_proxy_host.zip(config.http_proxy_port),
                config.https_proxy_host.zip(config.https_proxy_port),
            ],
        },
    };
    Ok(Arc::new(AiResponseTransformer(Arc::new(Shared {
        transformation: Transformation::new(NAME, settings, scope)?,
        instructions: config.parse_llm_response_json_instructions,
    }))))
}

struct AiResponseTransformer(Arc<Shared>);

struct Shared {
    transformation: Transformation,
    /// Whether the LLM's answer says what the client's answer is.
    instructions: bool,
}

impl Plugin for AiResponseTransformer {
    fn phases(&self) -> Phases {
        Phases::ACCESS.and(Phases::RESPONSE)
    }

    fn secret_names(&self) -> Vec<String> {
        self.0.transformation.secret_names()
    }

    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Access<'a> {
        exchange.follow(Box::new(Answer(Arc::clone(&self.0))));
        Access::Continue
    }
}

/// The upstream's answer.
struct Answer(Arc<Shared>);

impl ResponseFilter for Answer {
    fn keeps_length(&self) -> bool {
        true
    }

    fn wants_whole(&self, response: &Response) -> Option<usize> {
        (!response.status.is_informational()).then_some(LARGEST_ANSWER)
    }

    fn waits(&self) -> bool {
        true
    }

    fn wait<'a>(
        &'a mut self,
        exchange: &'a mut Exchange,
        response: &'a mut Response,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async move {
            let body = plain_body(response);
            let transformed = self.0.transformation.transform(exchange, &body).await;
            let (status, message) = match transformed {
                Ok(text) => match self.0.write(response, text) {
                    Ok(()) => (response.status, None),
                    Err(message) => (StatusCode::INTERNAL_SERVER_ERROR, Some(message)),
                },
                Err(error) => (error.status(), Some(error.to_string())),
            };
            if let Some(message) = message {
                let level = if status.is_server_error() { Level::Error } else { Level::Info };
                exchange.write_error_log(level, &message);
                *response = refuse(Format::OpenAi, status, &message);
            }
            // What follows an answer of the upstream's, such as an LLM's, is not for this one.
            exchange.facts.source = Source::Exit;
        })
    }
}

impl Shared {
    /// Makes the answer what the LLM says.
    ///
    /// # Errors
    /// Why that cannot be understood (status 500).
    fn write(&self, response: &mut Response, text: String) -> Result<(), String> {
        for name in ["content-length", "content-encoding", "transfer-encoding"] {
            response.headers.remove(name);
        }
        if !self.instructions {
            response.body = Body::from(bytes::Bytes::from(text));
            return Ok(());
        }
        instructions::follow(&text, response)
            .map_err(|error| format!("failed to parse JSON response instructions from AI backend: {error}"))
    }
}
