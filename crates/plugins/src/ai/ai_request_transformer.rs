//! `ai-request-transformer`: an LLM rewrites the request's body before it goes on.

use std::sync::Arc;
use std::time::Duration;

use tollgate_gateway::{Access, BuildError, Exchange, Outcome, Phases, Plugin, Scope};
use tollgate_http::{BodyError, StatusCode};
use tollgate_llm::Format;
use tollgate_model::{Config, Map, PluginSchema, Value};
use tollgate_telemetry::Level;

use super::ask::Manner;
use super::refuse;
use super::target::body_limit;
use super::transformation::{self, LlmConfig, Settings, Transformation};
use crate::read;

/// Configuration of `ai-request-transformer` (Kong 3.11).
#[derive(Debug, Clone, Config)]
pub struct AiRequestTransformerConfig {
    /// What the LLM is told to do with the request's body.
    #[config(required)]
    pub prompt: String,
    /// Regex of PCRE; its first match in the LLM's answer is what is sent on. Letters match in either case, `^` and
    /// `$` at every line. An answer without a match is an error.
    #[config(optional)]
    pub transformation_extract_pattern: Option<String>,
    /// How long each part of the call may take, in milliseconds.
    #[config(required, default = 60_000)]
    pub http_timeout: u64,
    /// Whether the LLM's certificate is checked.
    #[config(required, default = true)]
    pub https_verify: bool,
    /// Largest body that is read, in bytes; 0 for no limit. A larger one is refused.
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

const NAME: &str = "ai-request-transformer";

/// How the plugin presents itself.
pub fn schema() -> PluginSchema {
    PluginSchema::new(NAME, 777, AiRequestTransformerConfig::schema())
        .about("Has an LLM rewrite the request's body before it goes on.")
        .with_checks(transformation::checks())
        .without_consumer()
}

/// Compiles a configured `ai-request-transformer`.
///
/// # Errors
/// A configuration that was not checked; an LLM that cannot be asked.
pub fn build(config: &Map<String, Value>, scope: &Scope) -> Result<Arc<dyn Plugin>, BuildError> {
    let config: AiRequestTransformerConfig = read(config)?;
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
    Ok(Arc::new(AiRequestTransformer {
        transformation: Transformation::new(NAME, settings, scope)?,
        body_limit: body_limit(config.max_request_body_size),
    }))
}

struct AiRequestTransformer {
    transformation: Transformation,
    body_limit: usize,
}

impl Plugin for AiRequestTransformer {
    fn phases(&self) -> Phases {
        Phases::ACCESS
    }

    fn secret_names(&self) -> Vec<String> {
        self.transformation.secret_names()
    }

    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Access<'a> {
        Access::wait(async move {
            let (status, message) = match exchange.buffer_body(self.body_limit).await {
                Ok(body) => match self.transformation.transform(exchange, &body).await {
                    Ok(text) => {
                        exchange.set_body(text.into());
                        return Outcome::Continue;
                    }
                    Err(error) => (error.status(), error.to_string()),
                },
                Err(BodyError::TooLarge { limit }) => {
                    let message =
                        format!("request body is larger than {limit} bytes (max_request_body_size)");
                    (StatusCode::BAD_REQUEST, message)
                }
                Err(error) => (StatusCode::BAD_REQUEST, error.to_string()),
            };
            exchange.write_error_log(Level::Info, &message);
            Outcome::Answer(refuse(Format::OpenAi, status, &message))
        })
    }
}
