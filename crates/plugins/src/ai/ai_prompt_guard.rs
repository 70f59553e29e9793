//! `ai-prompt-guard`: lets prompts pass, or not, by regexes. Who is refused is not told why.

use std::sync::Arc;

use bytes::Bytes;
use tollgate_gateway::{Access, BuildError, Exchange, Phases, Plugin, Scope, answer};
use tollgate_http::{Response, StatusCode};
use tollgate_llm::json::Object;
use tollgate_llm::{Format, prompt};
use tollgate_model::schema::{Constraint, EntityCheck};
use tollgate_model::{Config, Map, PluginSchema, Value};
use tollgate_telemetry::Level;

use super::pattern::Pattern;
use super::refuse;
use super::target::{Reads, body_limit, with_body};
use crate::read;

/// Configuration of `ai-prompt-guard` (Kong 3.11).
#[derive(Debug, Clone, Config)]
pub struct AiPromptGuardConfig {
    /// Regexes of which one must match. They are PCRE's, case-sensitive and not anchored.
    #[config(optional, len_max(10), each(len_min(1), len_max(500)))]
    pub allow_patterns: Option<Vec<String>>,
    /// Regexes of which none may match; they count before `allow_patterns`.
    #[config(optional, len_max(10), each(len_min(1), len_max(500)))]
    pub deny_patterns: Option<Vec<String>>,
    /// Whether only the latest of the user's messages is looked at, else the whole conversation.
    #[config(optional, default = false)]
    pub allow_all_conversation_history: Option<bool>,
    /// Largest body that is read, in bytes; 0 for no limit. A larger one is refused.
    #[config(default = crate::ai::LARGEST_BODY)]
    pub max_request_body_size: Option<u64>,
    /// Whether messages of every role are looked at, else the user's.
    #[config(default = false)]
    pub match_all_roles: Option<bool>,
    /// Format in which clients speak to this route.
    #[config(
        optional,
        default = "openai",
        one_of("openai", "anthropic", "bedrock", "cohere", "gemini", "huggingface")
    )]
    pub llm_format: Option<String>,
    /// Kind of traffic. What is looked at follows from the request itself.
    #[config(
        optional,
        default = "text/generation",
        one_of(
            "text/generation",
            "text/embeddings",
            "audio/speech",
            "audio/transcription",
            "image/generation",
            "realtime/generation",
            "video/generation"
        )
    )]
    pub genai_category: Option<String>,
}

/// How the plugin presents itself.
pub fn schema() -> PluginSchema {
    PluginSchema::new("ai-prompt-guard", 771, AiPromptGuardConfig::schema())
        .about("Lets prompts pass by regexes: what matches a denied one is refused, and what matches none of the allowed ones.")
        .with_checks(vec![
            EntityCheck::AtLeastOneOf(vec!["config.allow_patterns", "config.deny_patterns"]),
            EntityCheck::Conditional {
                if_field: "config.match_all_roles",
                if_match: Box::new(Constraint::Eq(true.into())),
                then_field: "config.allow_all_conversation_history",
                then_match: Box::new(Constraint::Eq(false.into())),
                then_error: None,
            },
        ])
}

/// Compiles a configured `ai-prompt-guard`.
///
/// # Errors
/// A configuration that was not checked.
pub fn build(config: &Map<String, Value>, _: &Scope) -> Result<Arc<dyn Plugin>, BuildError> {
    let config: AiPromptGuardConfig = read(config)?;
    let patterns = |list: Option<Vec<String>>| -> Vec<Pattern> {
        list.iter().flatten().map(|source| Pattern::new(source)).collect()
    };
    Ok(Arc::new(AiPromptGuard {
        allow: patterns(config.allow_patterns),
        deny: patterns(config.deny_patterns),
        latest_only: config.allow_all_conversation_history == Some(true),
        every_role: config.match_all_roles == Some(true),
        format: config.llm_format.as_deref().and_then(Format::named).unwrap_or_default(),
        body_limit: body_limit(config.max_request_body_size),
    }))
}

struct AiPromptGuard {
    allow: Vec<Pattern>,
    deny: Vec<Pattern>,
    latest_only: bool,
    every_role: bool,
    format: Format,
    body_limit: usize,
}

/// Why a prompt does not pass.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("ai-prompt-guard found no prompt that it can read")]
    Unreadable,
    #[error("prompt pattern is blocked")]
    Blocked,
    #[error("prompt doesn't match any allowed pattern")]
    NotAllowed,
    #[error("{0}")]
    BadPattern(String),
}

impl Plugin for AiPromptGuard {
    fn phases(&self) -> Phases {
        Phases::ACCESS
    }

    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Access<'a> {
        with_body(exchange, Reads::Forms, self.body_limit, |exchange, body| self.decide(exchange, body))
    }
}

impl AiPromptGuard {
    fn decide(&self, exchange: &Exchange, body: Option<Bytes>) -> Option<Response> {
        let refused = self.check(body.as_deref().unwrap_or_default()).err()?;
        if let Refused::BadPattern(_) = refused {
            exchange.write_error_log(Level::Error, &refused);
            return Some(refuse(Format::OpenAi, StatusCode::INTERNAL_SERVER_ERROR, answer::UNEXPECTED));
        }
        exchange.write_error_log(Level::Debug, &refused);
        Some(refuse(Format::OpenAi, StatusCode::BAD_REQUEST, "bad request"))
    }

    fn check(&self, body: &[u8]) -> Result<(), Refused> {
        let text = Object::parse(body).and_then(|body| self.prompt(&body)).ok_or(Refused::Unreadable)?;
        if matches_any(&self.deny, &text)? {
            return Err(Refused::Blocked);
        }
        if self.allow.is_empty() || matches_any(&self.allow, &text)? {
            return Ok(());
        }
        Err(Refused::NotAllowed)
    }

    /// What is looked at: the latest text first, spaces between (Kong 3.11).
    fn prompt(&self, body: &Object<'_>) -> Option<String> {
        let said = prompt::said(self.format, body)?;
        let looked_at = said.iter().rev().filter(|said| self.every_role || said.role == "user");
        let most = if self.latest_only { 1 } else { usize::MAX };
        Some(looked_at.take(most).map(|said| said.text.as_str()).collect::<Vec<_>>().join(" "))
    }
}

fn matches_any(patterns: &[Pattern], text: &str) -> Result<bool, Refused> {
    for pattern in patterns {
        if pattern.find(text).map_err(Refused::BadPattern)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}
