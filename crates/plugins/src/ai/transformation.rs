//! A text made another by an LLM: what `ai-request-transformer` and `ai-response-transformer` have in common.

use serde_json::{Value, json};
use tollgate_gateway::{BuildError, Exchange, Scope};
use tollgate_http::StatusCode;
use tollgate_model::schema::{Constraint, EntityCheck};
use tollgate_model::{Config, FieldErrors, Map};

use super::ask::{AskError, Llm, Manner};
use super::pattern::Pattern;
use super::target::Refusal;
use super::target::config::{Auth, Logging, Model, RouteType, TargetConfig, refuse_target, target_checks};

/// The LLM that is asked.
#[derive(Debug, Clone, Config)]
#[config(checks = [target_checks(), vec![EntityCheck::Custom("served", served)]].concat())]
pub struct LlmConfig {
    /// Operation of the LLM: `llm/v1/chat`.
    #[config(required)]
    pub route_type: RouteType,
    /// How the gateway proves itself to the provider.
    #[config(optional)]
    pub auth: Option<Auth>,
    /// The model that answers.
    #[config(required)]
    pub model: Model,
    /// What is written to the log.
    #[config(optional)]
    pub logging: Option<Logging>,
}

/// What Kong knows and Tollgate does not serve is refused when it is configured.
fn served(fields: &Map<String, Value>) -> Result<(), FieldErrors> {
    let mut errors = FieldErrors::new();
    refuse_target(LlmConfig::schema(), fields, &mut errors);
    errors.into_result()
}

/// Checks of the plugin entity (Kong 3.11).
pub(super) fn checks() -> Vec<EntityCheck> {
    vec![
        EntityCheck::Conditional {
            if_field: "config.llm.route_type",
            if_match: Box::new(Constraint::NotOneOf(vec!["llm/v1/chat".into()])),
            then_field: "config.llm.route_type",
            then_match: Box::new(Constraint::Eq("llm/v1/chat".into())),
            then_error: Some("'config.llm.route_type' must be 'llm/v1/chat' for AI transformer plugins"),
        },
        EntityCheck::MutuallyRequired(vec!["config.http_proxy_host", "config.http_proxy_port"]),
        EntityCheck::MutuallyRequired(vec!["config.https_proxy_host", "config.https_proxy_port"]),
    ]
}

/// What is configured, wherever it stands.
pub(super) struct Settings {
    pub prompt: String,
    pub pattern: Option<String>,
    pub llm: LlmConfig,
    pub manner: Manner,
}

/// What makes a text another.
pub(super) struct Transformation {
    llm: Llm,
    prompt: String,
    pattern: Option<Pattern>,
    /// Under which name the log tells of it.
    name: &'static str,
}

/// Why a text is not transformed (Kong 3.11's words).
#[derive(Debug, thiserror::Error)]
pub(super) enum TransformError {
    #[error("{}", .0.message)]
    Refused(Refusal),
    #[error("failed to introspect request with AI service: {0}")]
    Unanswered(AskError),
    #[error("failed to convert AI response to Kong format: {0}")]
    Answer(String),
    #[error("no 'choices' in upstream AI service response")]
    NoContent,
    #[error("failed regex matching ai response: {0}")]
    BadPattern(String),
    #[error("AI response did not match specified regular expression")]
    NoMatch,
}

impl TransformError {
    /// The status that the client is told it with.
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Refused(refusal) => refusal.status,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

impl From<AskError> for TransformError {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Refused(refusal) => Self::Refused(refusal),
            AskError::Answer(message) => Self::Answer(message),
            AskError::Failed(_) | AskError::Status(_) => Self::Unanswered(error),
        }
    }
}

impl Transformation {
    /// Compiles what is configured for the plugin of this name.
    ///
    /// # Errors
    /// An LLM that cannot be asked.
    pub(super) fn new(name: &'static str, settings: Settings, scope: &Scope) -> Result<Self, BuildError> {
        let LlmConfig { route_type, auth, model, logging } = settings.llm;
        let target = TargetConfig { route_type, auth, model, logging, counts: false };
        Ok(Self {
            llm: Llm::new(target, "config.llm", scope, settings.manner)?,
            prompt: settings.prompt,
            pattern: settings.pattern.as_deref().map(Pattern::of_lines),
            name,
        })
    }

    /// Names under which it sends secrets.
    pub(super) fn secret_names(&self) -> Vec<String> {
        self.llm.secret_names()
    }

    /// What the LLM makes of a text.
    ///
    /// # Errors
    /// Why it makes nothing of it.
    pub(super) async fn transform(
        &self,
        exchange: &mut Exchange,
        text: &[u8],
    ) -> Result<String, TransformError> {
        let asked = self.llm.ask(exchange, &self.request(&String::from_utf8_lossy(text)));
        let reply = asked.await?;
        if let Some(call) = reply.log {
            exchange.facts.log_ai(self.name, call);
        }
        let answer: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        let content = answer.pointer("/choices/0/message/content").and_then(Value::as_str);
        let content = content.ok_or(TransformError::NoContent)?;
        let Some(pattern) = &self.pattern else { return Ok(content.to_owned()) };
        let found = pattern.find(content).map_err(TransformError::BadPattern)?;
        found.map(str::to_owned).ok_or(TransformError::NoMatch)
    }

    fn request(&self, text: &str) -> Value {
        let message = |role: &str, content: &str| json!({"role": role, "content": content});
        let messages = match self.llm.takes_system() {
            true => vec![message("system", &self.prompt), message("user", text)],
            // Kong 3.11 makes a conversation of it.
            false => vec![
                message("user", &self.prompt),
                message("assistant", "What is the message?"),
                message("user", text),
            ],
        };
        json!({"messages": messages, "stream": false})
    }
}
