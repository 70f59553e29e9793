//! Which requests a policy is for.

use std::borrow::Cow;

use tollgate_gateway::exchange::LlmUsage;
use tollgate_gateway::{BuildError, Exchange};

use super::config::MatchConfig;

/// What the body says of a request.
#[derive(Debug, Default)]
pub(super) struct Prompt {
    /// The model asked for.
    pub model: Option<String>,
    /// Tokens of the prompt, as they are estimated.
    pub tokens: f64,
}

/// A condition.
pub(super) struct Match {
    attribute: Attribute,
    /// The values there may be; any where there are none.
    values: Vec<String>,
    /// Whether each value has counters of its own.
    partition: bool,
}

/// What is looked at.
enum Attribute {
    ConsumerId,
    ConsumerUsername,
    ConsumerCustomId,
    Header(String),
    Ip,
    Model,
    Path,
    Provider,
}

impl Match {
    /// Compiles the condition configured at `field`.
    ///
    /// # Errors
    /// What cannot be looked at.
    pub(super) fn new(config: &MatchConfig, field: &str) -> Result<Self, BuildError> {
        let refused = |name: &str, message: &str| BuildError {
            field: format!("{field}.{name}"),
            message: message.to_owned(),
        };
        let key = config.key.as_deref();
        let attribute = match (&*config.r#type, key) {
            ("consumer", None | Some("id")) => Attribute::ConsumerId,
            ("consumer", Some("username")) => Attribute::ConsumerUsername,
            ("consumer", Some("custom_id")) => Attribute::ConsumerCustomId,
            ("consumer", Some(_)) => {
                return Err(refused("key", "use 'id', 'username' or 'custom_id' of a consumer"));
            }
            ("header", Some(name)) if !name.is_empty() => Attribute::Header(name.to_owned()),
            ("header", _) => return Err(refused("key", "name the header")),
            ("ip", _) => Attribute::Ip,
            ("model", _) => Attribute::Model,
            ("path", _) => Attribute::Path,
            ("provider", _) => Attribute::Provider,
            _ => {
                return Err(refused(
                    "type",
                    "consumer groups are not served by this version; use another type",
                ));
            }
        };
        let values = config.values.clone().unwrap_or_default();
        Ok(Self { attribute, values, partition: config.partition_by == Some(true) })
    }

    /// Whether the body has to be read.
    pub(super) fn reads_body(&self) -> bool {
        matches!(self.attribute, Attribute::Model)
    }

    /// What a request is like here, where the policy can be for it.
    fn value<'a>(&self, exchange: &'a Exchange, prompt: &'a Prompt) -> Option<Cow<'a, str>> {
        let consumer = exchange.consumer.as_deref();
        let value = match &self.attribute {
            Attribute::ConsumerId => Cow::Owned(consumer?.id.to_string()),
            Attribute::ConsumerUsername => Cow::Borrowed(consumer?.username.as_deref()?),
            Attribute::ConsumerCustomId => Cow::Borrowed(consumer?.custom_id.as_deref()?),
            Attribute::Header(name) => exchange.head.headers.get_str(name)?.into(),
            Attribute::Ip => Cow::Owned(exchange.client_ip.to_string()),
            Attribute::Model => Cow::Borrowed(prompt.model.as_deref()?),
            Attribute::Path => String::from_utf8_lossy(&exchange.path),
            Attribute::Provider => {
                let mut providers = exchange.llm_providers();
                providers.retain(|provider| self.takes(provider));
                return (!providers.is_empty()).then(|| providers.join(",").into());
            }
        };
        self.takes(&value).then_some(value)
    }

    fn takes(&self, value: &str) -> bool {
        self.values.is_empty() || self.values.iter().any(|allowed| allowed == value)
    }

    /// Whether what a call used can be of this policy.
    pub(super) fn counts(&self, usage: &LlmUsage) -> bool {
        !matches!(self.attribute, Attribute::Provider) || self.takes(usage.provider)
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
