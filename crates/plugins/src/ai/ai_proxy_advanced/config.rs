//! The configuration of `ai-proxy-advanced` (Kong 3.11, with what came up to 3.15).

use std::collections::BTreeMap;

use tollgate_model::schema::EntityCheck;
use tollgate_model::{Config, FieldErrors, Map, Value, json};

use crate::ai::target::config::{
    Auth, Logging, Model, ResponseStreaming, RouteType, refuse_format, refuse_target, target_checks,
};
use crate::ai::vectors::{Embeddings, VectorDb};

/// Configuration of `ai-proxy-advanced`.
#[derive(Debug, Clone, Config)]
#[config(checks = [EntityCheck::Custom("served", served)])]
pub struct AiProxyAdvancedConfig {
    /// The models that answer, and where each is.
    #[config(required, len_min(1))]
    pub targets: Vec<TargetRecord>,
    /// How a target is chosen for a request, and when another one is tried.
    #[config(required)]
    pub balancer: BalancerRecord,
    /// Format in which clients speak to this route.
    #[config(
        optional,
        default = "openai",
        one_of("openai", "bedrock", "gemini", "cohere", "huggingface", "anthropic")
    )]
    pub llm_format: Option<String>,
    /// Kind of traffic, for inspection and metrics.
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
    /// Whether clients may ask for streamed answers (`allow`), may not (`deny`), or always get them (`always`).
    #[config(optional, default = "allow")]
    pub response_streaming: Option<ResponseStreaming>,
    /// Largest body that is read for inspection, in bytes; 0 for no limit.
    #[config(default = crate::ai::LARGEST_BODY)]
    pub max_request_body_size: Option<u64>,
    /// Whether answers name the model in `X-Kong-LLM-Model`.
    #[config(default = true)]
    pub model_name_header: Option<bool>,
    /// Rules of who may ask which target. A request for which none is left is answered with 403.
    #[config(optional)]
    pub acls: Option<Acls>,
    /// Model that makes vectors of prompts and descriptions, for the algorithm `semantic`.
    #[config(optional)]
    pub embeddings: Option<Embeddings>,
    /// Where vectors are searched, for the algorithm `semantic`.
    #[config(optional)]
    pub vectordb: Option<VectorDb>,
}

/// Rules of who may ask which target.
#[derive(Debug, Clone, Config)]
pub struct Acls {
    /// Rules of which one has to apply to a request and a target, where there are any.
    #[config(optional, len_min(1))]
    pub allow: Option<Vec<AclRule>>,
    /// Rules of which none may apply to them, whatever is allowed.
    #[config(optional, len_min(1))]
    pub deny: Option<Vec<AclRule>>,
}

/// A rule, which applies where all its conditions hold.
#[derive(Debug, Clone, Config)]
pub struct AclRule {
    /// The conditions.
    #[config(required, len_min(1))]
    pub r#match: Vec<AclCondition>,
}

/// A condition of a rule.
#[derive(Debug, Clone, Config)]
pub struct AclCondition {
    /// What is looked at: of the request who asks, the groups of consumers he belongs to, a header field, the client's address or the path; of a target its
    /// model (by its name, or its alias) or its provider.
    #[config(required, one_of("consumer", "consumer_group", "header", "ip", "model", "path", "provider"))]
    pub r#type: String,
    /// Which of it: `id`, `username` or `custom_id` of a consumer (without it, either of the first two); `id` or `name`
    /// of a group (without it, either); the name of a header field.
    #[config(optional)]
    pub key: Option<String>,
    /// The values of which it has to have one; addresses may be networks.
    #[config(required, len_min(1))]
    pub values: Vec<String>,
}

/// A model that answers, and where it is.
#[derive(Debug, Clone, Config)]
#[config(checks = [target_checks(), vec![EntityCheck::Custom("served", served_target)]].concat())]
pub struct TargetRecord {
    /// What the target does. `preserve` sends requests on as they are.
    #[config(required)]
    pub route_type: RouteType,
    /// How the gateway proves itself to the provider.
    #[config(optional)]
    pub auth: Option<Auth>,
    /// The model that answers.
    #[config(required)]
    pub model: Model,
    /// Share of the requests, against the other targets' weights; with the algorithm `priority`, targets of one
    /// weight are a group, and the group of the highest weight is tried first.
    #[config(optional, default = 100, between(1, 65535))]
    pub weight: Option<u32>,
    /// What the target is good at, for the algorithm `semantic`. Targets of one description share its requests by their
    /// weights; `CATCHALL` stands for all that no other is near to.
    #[config(optional)]
    pub description: Option<String>,
    /// What is written to the log.
    #[config(optional)]
    pub logging: Option<Logging>,
    /// Notes about the target; they change nothing.
    #[config(optional)]
    pub metadata: Option<BTreeMap<String, Value>>,
}

/// How a target is chosen.
#[derive(Debug, Clone, Config)]
pub struct BalancerRecord {
    /// How a target is chosen for a request.
    #[config(optional, default = "round-robin")]
    pub algorithm: Option<Algorithm>,
    /// What counts as usage with the algorithm `lowest-usage`.
    #[config(optional, default = "total-tokens")]
    pub tokens_count_strategy: Option<TokensCountStrategy>,
    /// What counts as latency with the algorithm `lowest-latency`: time for each token of the answer (`tpot`), or
    /// until the answer's end (`e2e`).
    #[config(optional, default = "tpot")]
    pub latency_strategy: Option<LatencyStrategy>,
    /// Header whose value decides with the algorithm `consistent-hashing`.
    #[config(optional, default = "X-Kong-LLM-Request-ID")]
    pub hash_on_header: Option<String>,
    /// Points of the hash ring, and most turns of a round.
    #[config(optional, default = 10000, between(10, 65536))]
    pub slots: Option<u32>,
    /// Most further targets that are tried where one fails.
    #[config(optional, default = 5, between(0, 32767))]
    pub retries: Option<u32>,
    /// What makes the next target be tried: no connection (`error`), no answer in time (`timeout`), an answer that
    /// is no HTTP (`invalid_header`), or one of these statuses. A POST that was sent is tried again only with
    /// `non_idempotent`.
    #[config(
        optional,
        default = ["error", "timeout"],
        each(one_of(
            "error",
            "timeout",
            "invalid_header",
            "http_500",
            "http_502",
            "http_503",
            "http_504",
            "http_403",
            "http_404",
            "http_429",
            "non_idempotent"
        ))
    )]
    pub failover_criteria: Option<Vec<String>>,
    /// Failures after which a target is left out for `fail_timeout`; 0 for never.
    #[config(optional, default = 0, between(0, 32767))]
    pub max_fails: Option<u32>,
    /// Milliseconds for which a target that failed too often is left out.
    #[config(optional, default = 10000, between(1, 2_147_483_646))]
    pub fail_timeout: Option<u64>,
    /// Milliseconds to wait for a connection.
    #[config(optional, default = 60000, between(1, 2_147_483_646))]
    pub connect_timeout: Option<u64>,
    /// Milliseconds to wait between two writes.
    #[config(optional, default = 60000, between(1, 2_147_483_646))]
    pub write_timeout: Option<u64>,
    /// Milliseconds to wait between two reads.
    #[config(optional, default = 60000, between(1, 2_147_483_646))]
    pub read_timeout: Option<u64>,
}

/// How a target is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Config)]
pub enum Algorithm {
    /// By turns, as often as its weight says.
    RoundRobin,
    /// The one that answers fastest.
    LowestLatency,
    /// The one that was used least.
    LowestUsage,
    /// The same for the same value of a header.
    ConsistentHashing,
    /// The one whose description is nearest to the prompt.
    Semantic,
    /// The group of the highest weight, the others when all of it have failed.
    Priority,
    /// The one with the fewest requests under way, against its weight.
    LeastConnections,
}

/// What counts as usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Config)]
pub enum TokensCountStrategy {
    /// Tokens of prompts and answers.
    TotalTokens,
    /// Tokens of prompts.
    PromptTokens,
    /// Tokens of answers.
    CompletionTokens,
    /// Prices.
    Cost,
    /// What another model says of the answers.
    LlmAccuracy,
}

/// What counts as latency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Config)]
pub enum LatencyStrategy {
    /// Time for each token of the answer.
    Tpot,
    /// Time until the answer's end.
    E2e,
}

/// What Kong knows and Tollgate does not serve yet is refused here, and not when a request comes.
fn served(fields: &Map<String, Value>) -> Result<(), FieldErrors> {
    let mut errors = FieldErrors::new();
    refuse_format(AiProxyAdvancedConfig::schema(), fields, &mut errors);
    let balancer = fields.get("balancer");
    let chosen = |field: &str| balancer.and_then(|balancer| balancer.get(field)).and_then(Value::as_str);
    if chosen("algorithm") == Some(Algorithm::Semantic.name()) {
        need_meanings(fields, &mut errors);
    }
    if chosen("algorithm") == Some(Algorithm::LowestUsage.name()) {
        match chosen("tokens_count_strategy") {
            Some("llm-accuracy") => errors.add_at(
                "balancer.tokens_count_strategy",
                "the strategy 'llm-accuracy' cannot be served yet; use 'total-tokens'",
            ),
            Some("cost") if !all_have_prices(fields) => errors.add_at(
                "balancer.tokens_count_strategy",
                "with the strategy 'cost' every target needs 'model.options.input_cost' and 'model.options.output_cost'",
            ),
            _ => {}
        }
    }
    errors.into_result()
}

/// The algorithm `semantic` needs something to go by.
fn need_meanings(fields: &Map<String, Value>, errors: &mut FieldErrors) {
    for field in ["embeddings", "vectordb"] {
        if fields.get(field).is_none_or(Value::is_null) {
            errors.add_at(field, "required with the balancer algorithm 'semantic'");
        }
    }
    let message = "required with the balancer algorithm 'semantic'; 'CATCHALL' is for prompts that no other target is for";
    let missing = |target: &Value| {
        let description = target.get("description").and_then(Value::as_str);
        let is_there = description.is_some_and(|description| !description.trim().is_empty());
        if is_there { Value::Null } else { json!({"description": message}) }
    };
    let targets = fields.get("targets").and_then(Value::as_array);
    let mut missing: Vec<Value> = targets.into_iter().flatten().map(missing).collect();
    while missing.pop_if(|last| last.is_null()).is_some() {}
    if !missing.is_empty() {
        errors.nest("targets", missing.into());
    }
}

fn all_have_prices(fields: &Map<String, Value>) -> bool {
    let targets = fields.get("targets").and_then(Value::as_array);
    targets.into_iter().flatten().all(|target| {
        let is_set = |price: &str| target.pointer(price).is_some_and(Value::is_number);
        is_set("/model/options/input_cost") && is_set("/model/options/output_cost")
    })
}

/// The same for a target.
fn served_target(fields: &Map<String, Value>) -> Result<(), FieldErrors> {
    let mut errors = FieldErrors::new();
    refuse_target(TargetRecord::schema(), fields, &mut errors);
    errors.into_result()
}
