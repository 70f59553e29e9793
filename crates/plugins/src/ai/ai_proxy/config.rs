//! The configuration of `ai-proxy` (Kong 3.11).

use tollgate_model::schema::{Constraint, EntityCheck};
use tollgate_model::{Config, FieldErrors, Map, Value};

use crate::ai::target::config::{
    Auth, Logging, Model, ResponseStreaming, RouteType, refuse_format, refuse_target, target_checks,
};

/// Configuration of `ai-proxy`.
#[derive(Debug, Clone, Config)]
#[config(checks = [target_checks(), vec![EntityCheck::Custom("served", served)]].concat())]
pub struct AiProxyConfig {
    /// Format in which clients speak to this route.
    #[config(
        optional,
        default = "openai",
        one_of("openai", "bedrock", "gemini", "cohere", "huggingface", "anthropic")
    )]
    pub llm_format: Option<String>,
    /// Operation that this route serves. `preserve` sends requests on as they are.
    #[config(required)]
    pub route_type: RouteType,
    /// Kind of traffic, for inspection and metrics.
    #[config(
        optional,
        default = "text/generation",
        one_of(
            "text/generation",
            "text/embeddings",
            "audio/speech",
            "audio/transcription",
            "image/generation"
        )
    )]
    pub genai_category: Option<String>,
    /// How the gateway proves itself to the provider.
    #[config(optional)]
    pub auth: Option<Auth>,
    /// The model that answers.
    #[config(required)]
    pub model: Model,
    /// What is written to the log.
    #[config(optional)]
    pub logging: Option<Logging>,
    /// Whether clients may ask for streamed answers (`allow`), may not (`deny`), or always get them (`always`).
    #[config(optional, default = "allow")]
    pub response_streaming: Option<ResponseStreaming>,
    /// Largest body that is read for inspection, in bytes; 0 for no limit.
    #[config(default = crate::ai::LARGEST_BODY)]
    pub max_request_body_size: Option<u64>,
    /// Whether answers name the model in `X-Kong-LLM-Model`.
    #[config(default = true)]
    pub model_name_header: Option<bool>,
}

/// Checks of the plugin entity: which format goes with which provider and operation (Kong 3.11).
pub(super) fn format_checks() -> Vec<EntityCheck> {
    let fits = |formats: &[&str], then_field, then: &str, then_error| EntityCheck::Conditional {
        if_field: "config.llm_format",
        if_match: Box::new(match formats {
            [format] => Constraint::Eq((*format).into()),
            formats => Constraint::OneOf(formats.iter().map(|format| (*format).into()).collect()),
        }),
        then_field,
        then_match: Box::new(Constraint::Eq(then.into())),
        then_error: Some(then_error),
    };
    vec![
        fits(
            &["bedrock", "gemini"],
            "config.route_type",
            "llm/v1/chat",
            "native provider options in llm_format can only be used with the 'llm/v1/chat' route_type",
        ),
        fits(
            &["bedrock"],
            "config.model.provider",
            "bedrock",
            "native llm_format 'bedrock' can only be used with the 'bedrock' model.provider",
        ),
        fits(
            &["gemini"],
            "config.model.provider",
            "gemini",
            "native llm_format 'gemini' can only be used with the 'gemini' model.provider",
        ),
    ]
}

/// A format that Kong knows and Tollgate does not serve yet is refused here, and not when a request comes; so is
/// what is wrong with the target.
fn served(fields: &Map<String, Value>) -> Result<(), FieldErrors> {
    let schema = AiProxyConfig::schema();
    let mut errors = FieldErrors::new();
    refuse_format(schema, fields, &mut errors);
    refuse_target(schema, fields, &mut errors);
    errors.into_result()
}
