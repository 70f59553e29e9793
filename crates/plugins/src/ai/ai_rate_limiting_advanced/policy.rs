//! Which requests a policy is for.

use std::borrow::Cow;

use tollgate_gateway::exchange::LlmUsage;
use tollgate_gateway::{BuildError, Exchange};

use super::config::MatchConfig;
use crate::ai::attribute::Attribute;

/// What is known of a request before it is sent.
#[derive(Debug, Default)]
pub(super) struct Prompt {
    /// The model asked for.
    pub model: Option<String>,
    /// Tokens of the prompt, as they are estimated.
    pub tokens: f64,
    /// What the Lua function counts it.
    pub count: f64,
}

/// A condition.
pub(super) struct Match {
    attribute: Attribute,
    /// The values there may be; any where there are none.
    values: Vec<String>,
    /// Whether each value has counters of its own.
    partition: bool,
}

impl Match {
    /// Compiles the condition configured at `field`.
    ///
    /// # Errors
    /// What cannot be looked at.
    pub(super) fn new(config: &MatchConfig, field: &str) -> Result<Self, BuildError> {
        let attribute = Attribute::new(&config.r#type, config.key.as_deref(), field)?;
        let values = config.values.clone().unwrap_or_default();
        Ok(Self { attribute, values, partition: config.partition_by == Some(true) })
    }

    /// Whether the body has to be read.
    pub(super) fn reads_body(&self) -> bool {
        self.attribute == Attribute::Model
    }

    /// What a request is like here, where the policy can be for it.
    fn value<'a>(&self, exchange: &'a Exchange, prompt: &'a Prompt) -> Option<Cow<'a, str>> {
        if self.attribute == Attribute::Provider {
            let mut providers = exchange.llm_providers();
            providers.retain(|provider| self.takes(provider));
            return (!providers.is_empty()).then(|| providers.join(",").into());
        }
        self.attribute.find(exchange, prompt.model.as_deref(), None, |value| self.takes(value))
    }

    fn takes(&self, value: &str) -> bool {
        self.values.is_empty() || self.values.iter().any(|allowed| allowed == value)
    }

    /// Whether what a call used can be of this policy.
    pub(super) fn counts(&self, usage: &LlmUsage) -> bool {
        self.attribute != Attribute::Provider || self.takes(usage.provider)
    }
}

/// Whom a request counts for by these conditions, where it fulfils them all.
pub(super) fn whom(matches: &[Match], exchange: &Exchange, prompt: &Prompt) -> Option<String> {
    let mut whom = String::new();
    for condition in matches {
        let value = condition.value(exchange, prompt)?;
        if condition.partition {
            whom.push('/');
            whom.push_str(&value);
        }
    }
    Some(whom)
}
