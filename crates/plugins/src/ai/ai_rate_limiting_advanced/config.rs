//! The configuration of `ai-rate-limiting-advanced` (Kong 3.11, and the policies of 3.14).

use std::sync::LazyLock;

use tollgate_limit::WindowType;
use tollgate_model::entity::rules;
use tollgate_model::schema::{Constraint, EntityCheck};
use tollgate_model::{Config, PluginSchema, Record, Value};

use super::meter::CountedTokens;
use crate::redis::RedisEnterpriseConfig;

/// Configuration of `ai-rate-limiting-advanced`.
#[derive(Debug, Clone, Config)]
pub struct AiRateLimitingConfig {
    /// Limits of providers. With them a request is counted for the provider that answered it.
    #[config(optional, len_min(1))]
    pub llm_providers: Option<Vec<ProviderConfig>>,
    /// Limits of requests that have something in common. Either these or `llm_providers`.
    #[config(optional, len_min(1))]
    pub policies: Option<Vec<PolicyConfig>>,
    /// What requests are counted by, with `llm_providers`. What a request does not have is replaced by the client's
    /// address; of several groups of consumers the first by name counts.
    #[config(
        default = "consumer",
        one_of("ip", "credential", "consumer", "service", "header", "path", "consumer-group")
    )]
    pub identifier: Option<String>,
    /// Header to count by, with `identifier` `header`.
    #[config(check = rules::header_name)]
    pub header_name: Option<String>,
    /// Path to count by, with `identifier` `path`.
    #[config(starts_with("/"), check = rules::path)]
    pub path: Option<String>,
    /// Whether windows stand for themselves (`fixed`), or the one before counts too, less and less (`sliding`).
    #[config(default = "sliding")]
    pub window_type: Option<WindowTypeName>,
    /// What is counted.
    #[config(default = "total_tokens")]
    pub tokens_count_strategy: Option<CountedTokens>,
    /// Where the counters are.
    #[config(default = "local")]
    pub strategy: Option<Strategy>,
    /// Seconds between two exchanges with Redis; 0 asks it at every request, -1 never.
    pub sync_rate: Option<f64>,
    /// Plugins of one namespace share counters; without one a plugin has its own.
    pub namespace: Option<String>,
    /// Taken for Kong's sake: counters need no dictionary.
    #[config(default = "kong_rate_limiting_counters")]
    pub dictionary_name: Option<String>,
    /// The Redis that has the counters, with `strategy` `redis`.
    pub redis: RedisEnterpriseConfig,
    /// Whether Redis keeps fractions, such as of costs; else every amount is rounded up.
    #[config(default = false)]
    pub decrease_by_fractions_in_redis: Option<bool>,
    /// Whether clients are not told of limits and what remains. Refusals always tell when to come back.
    #[config(default = false)]
    pub hide_client_headers: Option<bool>,
    /// Greatest number of seconds that are added to `X-AI-RateLimit-Retry-After` by chance.
    #[config(default = 0)]
    pub retry_after_jitter_max: Option<f64>,
    /// Status of refusals.
    #[config(default = 429)]
    pub error_code: Option<f64>,
    /// Message of refusals; the providers follow.
    #[config(default = "AI token rate limit exceeded for provider(s): ")]
    pub error_message: Option<String>,
    /// Whether refusals do not name the providers.
    #[config(default = false)]
    pub error_hide_providers: Option<bool>,
    /// Whether refused requests do not count in sliding windows of the provider `requestPrompt`.
    #[config(default = false)]
    pub disable_penalty: Option<bool>,
    /// Lua that returns what a request counts, for the provider `requestPrompt`: `return 1`. It runs before the request
    /// is sent.
    #[config(check = tollgate_lua::check)]
    pub request_prompt_count_function: Option<String>,
    /// Lua that returns what a call costs, for the provider `customCost`. It runs when the answer has ended;
    /// `kong.log.serialize().ai` is what the call used, with the statistics of `ai-proxy` on.
    #[config(check = tollgate_lua::check)]
    pub custom_cost_count_function: Option<String>,
    /// Format in which clients speak to this route. With policies, prompts are read in it.
    #[config(optional, one_of("openai", "anthropic", "bedrock", "cohere", "gemini", "huggingface"))]
    pub llm_format: Option<String>,
}

/// Limits of a provider.
#[derive(Debug, Clone, Config)]
pub struct ProviderConfig {
    /// The provider.
    #[config(
        required,
        one_of(
            "openai",
            "azure",
            "anthropic",
            "cohere",
            "mistral",
            "llama2",
            "bedrock",
            "gemini",
            "huggingface",
            "requestPrompt",
            "customCost"
        )
    )]
    pub name: String,
    /// The most that may be used in each window.
    #[config(required, len_min(1), each(gt(0)))]
    pub limit: Vec<f64>,
    /// Seconds of each window.
    #[config(required, len_min(1), each(gt(0)))]
    pub window_size: Vec<f64>,
}

/// Limits of requests that have something in common.
#[derive(Debug, Clone, Config)]
pub struct PolicyConfig {
    /// A policy that is kept elsewhere. There are none: leave it out.
    #[config(optional)]
    pub id: Option<String>,
    /// What a request must be like. Without anything the policy is for requests that no other is for.
    #[config(optional)]
    pub r#match: Option<Vec<MatchConfig>>,
    /// Whether windows stand for themselves (`fixed`), or the one before counts too, less and less (`sliding`).
    #[config(default = "sliding")]
    pub window_type: Option<WindowTypeName>,
    /// The limits.
    #[config(required, len_min(1))]
    pub limits: Vec<LimitConfig>,
}

/// What a request must be like.
#[derive(Debug, Clone, Config)]
pub struct MatchConfig {
    /// What is looked at.
    #[config(required, one_of("consumer", "consumer_group", "header", "ip", "model", "path", "provider"))]
    pub r#type: String,
    /// Which of it: `id`, `username` or `custom_id` of a consumer; `id` or `name` of a group (without it, either); the
    /// name of a header.
    #[config(optional)]
    pub key: Option<String>,
    /// The values there may be; any where none are given.
    #[config(optional)]
    pub values: Option<Vec<String>>,
    /// Whether each value has counters of its own.
    #[config(default = false)]
    pub partition_by: Option<bool>,
}

/// A limit of a policy.
#[derive(Debug, Clone, Config)]
pub struct LimitConfig {
    /// The most that may be used in a window.
    #[config(required, gt(0))]
    pub limit: f64,
    /// Seconds of a window.
    #[config(required, gt(0))]
    pub window_size: i64,
    /// What is counted.
    #[config(default = "total_tokens")]
    pub tokens_count_strategy: Option<CountedTokens>,
}

/// How windows follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Config)]
pub enum WindowTypeName {
    /// Windows stand for themselves.
    Fixed,
    /// The window before counts too.
    Sliding,
}

impl From<WindowTypeName> for WindowType {
    fn from(name: WindowTypeName) -> Self {
        match name {
            WindowTypeName::Fixed => Self::Fixed,
            WindowTypeName::Sliding => Self::Sliding,
        }
    }
}

/// Where the counters are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Config)]
pub enum Strategy {
    /// In the database, shared by its nodes: in this node, as a store is one node's.
    Cluster,
    /// In a Redis server.
    Redis,
    /// In this node.
    Local,
}

/// How the plugin presents itself.
pub fn schema() -> PluginSchema {
    let needs = |value: &str, then| EntityCheck::Conditional {
        if_field: "config.identifier",
        if_match: Box::new(Constraint::Eq(Value::from(value))),
        then_field: then,
        then_match: Box::new(Constraint::Required),
        then_error: None,
    };
    PluginSchema::new("ai-rate-limiting-advanced", 905, AiRateLimitingConfig::schema())
        .about(
            "Allows so many tokens of LLMs, or so much money, in windows of any length. What a call of `ai-proxy` used \
             counts when its answer has ended; until then what calls used lately is reserved for it, so that limits hold \
             while many are under way. What an operation does not tell, such as a file's, is not counted.",
        )
        .without_store(without_cluster())
        .with_config_check(check_together)
        .with_checks(vec![
            EntityCheck::OnlyOneOf(vec!["config.llm_providers", "config.policies"]),
            needs("header", "config.header_name"),
            needs("path", "config.path"),
        ])
}

/// The same without the strategy `cluster`, which needs a store that nodes share (Kong 3.11).
fn without_cluster() -> &'static Record {
    static SCHEMA: LazyLock<Record> = LazyLock::new(|| {
        let mut record = AiRateLimitingConfig::schema().clone();
        for constraint in
            record.field_mut("strategy").into_iter().flat_map(|field| &mut field.shape.constraints)
        {
            if let Constraint::OneOf(values) = constraint {
                values.retain(|value| *value != Strategy::Cluster.name());
            }
        }
        record
    });
    &SCHEMA
}

/// What the fields demand of each other.
fn check_together(config: &Value) -> Result<(), String> {
    for provider in config.get("llm_providers").and_then(Value::as_array).into_iter().flatten() {
        let count = |name: &str| provider.get(name).and_then(Value::as_array).map_or(0, Vec::len);
        if count("limit") != count("window_size") {
            return Err("You must provide the same number of windows and limits".into());
        }
    }
    let is_local = config.get("strategy").and_then(Value::as_str).is_none_or(|strategy| strategy == "local");
    match config.get("sync_rate").and_then(Value::as_f64) {
        Some(rate) if is_local && rate >= 0.0 => {
            Err("sync_rate cannot be configured when using a local strategy".into())
        }
        None if !is_local => Err("sync_rate is required if not using a local strategy".into()),
        Some(rate) if rate != -1.0 && rate != 0.0 && rate < 0.02 => {
            Err("sync_rate must be 0, -1, or at least 0.02 seconds".into())
        }
        _ => Ok(()),
    }
}
