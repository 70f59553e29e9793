//! `ai-proxy-advanced`: a route becomes several LLMs. A balancer chooses the target of each request; where that
//! fails before the client has seen anything, the request is made anew for another, whatever its provider is.

mod acl;
mod choice;
mod config;
mod criteria;
mod semantic;
mod state;
mod tries;
mod wheel;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use tollgate_gateway::{Access, BuildError, Exchange, Outcome, Phases, Plugin, Scope};
use tollgate_http::Response;
use tollgate_http::client::Timeouts;
use tollgate_llm::Format;
use tollgate_llm::json::Object;
use tollgate_model::{Config, PluginSchema};

use super::target::config::TargetConfig;
use super::target::{
    Policy, Reads, Refusal, Target, body_limit, format, refuse_request, take_body, with_body,
};
use crate::read;
use acl::Acl;
use choice::{Candidate, Choice};
pub use config::AiProxyAdvancedConfig;
use config::{Algorithm, BalancerRecord, LatencyStrategy, TargetRecord, TokensCountStrategy};
use criteria::Criteria;
use semantic::Semantic;
use state::{BreakerSettings, TargetState};
use tries::Tries;

/// How the plugin presents itself.
pub fn schema() -> PluginSchema {
    PluginSchema {
        about: "Makes a route several LLMs: chooses one for each request, and tries another where it fails, whatever its provider is.",
        ..PluginSchema::new("ai-proxy-advanced", 770, AiProxyAdvancedConfig::schema())
    }
}

/// Compiles a configured `ai-proxy-advanced`.
///
/// # Errors
/// A target that cannot be compiled.
pub fn build(config: &Map<String, Value>, scope: &Scope) -> Result<Arc<dyn Plugin>, BuildError> {
    let raw = config.get("targets").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let names = state::names(raw);
    let config: AiProxyAdvancedConfig = read(config)?;
    let format = format(config.llm_format.as_deref())?;
    let balancer = Balancer::new(config.balancer);
    let (semantic, groups) = match (balancer.algorithm, config.embeddings, &config.vectordb) {
        (Algorithm::Semantic, Some(embeddings), Some(database)) => {
            let (model, timeout) = ((embeddings, database), balancer.timeouts.read);
            let (semantic, groups) = Semantic::new(format, model, &config.targets, timeout, scope)?;
            (Some(semantic), groups)
        }
        _ => (None, vec![0; names.len()]),
    };
    let choices = Choices::new(&balancer, &config.targets, &names, &groups);
    let mut targets = Vec::with_capacity(config.targets.len());
    for (index, target) in config.targets.into_iter().enumerate() {
        let TargetRecord { route_type, auth, model, logging, .. } = target;
        let target = TargetConfig { route_type, auth, model, logging, counts: balancer.counts };
        targets.push(Target::new(target, format, &format!("config.targets[{}]", index + 1), scope)?);
    }
    let mut touched: Vec<String> = targets.iter().flat_map(Target::touched).collect();
    touched.sort();
    touched.dedup();
    let reads: Vec<Reads> = targets.iter().map(Target::reads).collect();
    Ok(Arc::new(AiProxyAdvanced {
        format,
        waits: semantic.is_some() || targets.iter().any(Target::has_account),
        body_limit: body_limit(config.max_request_body_size),
        reads: Reads::of_all(&reads),
        shared: Arc::new(Shared {
            policy: Policy::new(config.response_streaming, config.model_name_header),
            choices,
            acl: config.acls.as_ref().map(Acl::new).transpose()?,
            semantic,
            targets,
            states: state::states_of(scope.id, names),
            balancer,
            touched,
        }),
    }))
}

struct AiProxyAdvanced {
    /// What clients speak.
    format: Format,
    /// Whether a request may have to wait: for a target's account, or for what its prompt means.
    waits: bool,
    body_limit: usize,
    reads: Reads,
    shared: Arc<Shared>,
}

/// What a request's tries need to know too.
struct Shared {
    policy: Policy,
    choices: Choices,
    /// Who may ask which target, where that is restricted.
    acl: Option<Acl>,
    /// What is chosen by, with the algorithm `semantic`.
    semantic: Option<Semantic>,
    targets: Vec<Target>,
    /// Of each target.
    states: Vec<Arc<TargetState>>,
    balancer: Balancer,
    /// Header fields that targets set, and that have to be the client's again for the next one.
    touched: Vec<String>,
}

/// How a target is chosen, and when another one is tried.
struct Balancer {
    algorithm: Algorithm,
    usage: TokensCountStrategy,
    latency: LatencyStrategy,
    hash_on_header: String,
    slots: u32,
    retries: u32,
    criteria: Criteria,
    breaker: BreakerSettings,
    timeouts: Timeouts,
    /// Whether the algorithm goes by what is learnt of targets.
    learns: bool,
    /// Whether it goes by tokens.
    counts: bool,
}

impl Balancer {
    fn new(config: BalancerRecord) -> Self {
        let time = |milliseconds: Option<u64>| Duration::from_millis(milliseconds.unwrap_or_default());
        let algorithm = config.algorithm.unwrap_or(Algorithm::RoundRobin);
        let latency = config.latency_strategy.unwrap_or(LatencyStrategy::Tpot);
        let counts = match algorithm {
            Algorithm::LowestUsage => true,
            Algorithm::LowestLatency => latency == LatencyStrategy::Tpot,
            _ => false,
        };
        let learning = [Algorithm::LowestLatency, Algorithm::LowestUsage, Algorithm::LeastConnections];
        Self {
            algorithm,
            latency,
            learns: learning.contains(&algorithm),
            counts,
            usage: config.tokens_count_strategy.unwrap_or(TokensCountStrategy::TotalTokens),
            hash_on_header: config.hash_on_header.unwrap_or_default(),
            slots: config.slots.unwrap_or_default(),
            retries: config.retries.unwrap_or_default(),
            criteria: Criteria::new(&config.failover_criteria.unwrap_or_default()),
            breaker: BreakerSettings {
                max_fails: config.max_fails.unwrap_or_default(),
                fail_timeout: time(config.fail_timeout),
            },
            timeouts: Timeouts {
                connect: time(config.connect_timeout),
                write: time(config.write_timeout),
                read: time(config.read_timeout),
            },
        }
    }
}

/// Which targets are candidates for a request (Kong 3.14: `model_alias`).
struct Choices {
    /// The first is of all targets, for requests that name no model.
    all: Vec<Choice>,
    /// For requests that name an alias.
    by_alias: BTreeMap<String, usize>,
    /// For requests that name another model; `None` where every target has an alias.
    without_alias: Option<usize>,
}

impl Choices {
    /// The choices among targets of these names and groups.
    fn new(balancer: &Balancer, targets: &[TargetRecord], names: &[String], groups: &[usize]) -> Self {
        let choice = |is_one: &dyn Fn(&TargetRecord) -> bool| {
            let candidates: Vec<Candidate> = targets
                .iter()
                .zip(names)
                .zip(groups)
                .enumerate()
                .filter(|(_, ((target, _), _))| is_one(target))
                .map(|(index, ((target, name), group))| Candidate {
                    index,
                    weight: target.weight.unwrap_or_default(),
                    name: name.clone(),
                    group: *group,
                })
                .collect();
            Choice::new(balancer.algorithm, &candidates, balancer.slots)
        };
        let mut all = vec![choice(&|_| true)];
        let mut by_alias = BTreeMap::new();
        for alias in targets.iter().filter_map(|target| target.model.model_alias.as_ref()) {
            by_alias.entry(alias.clone()).or_insert_with(|| {
                all.push(choice(&|target| target.model.model_alias.as_ref() == Some(alias)));
                all.len() - 1
            });
        }
        let without = choice(&|target| target.model.model_alias.is_none());
        let without_alias = (!without.members().is_empty()).then_some(all.len());
        all.push(without);
        Self { all, by_alias, without_alias }
    }

    /// Number of the choice for a request with this body.
    ///
    /// # Errors
    /// What the client is told (status 400) where it names a model that is no target's.
    fn of(&self, body: Option<&[u8]>) -> Result<usize, String> {
        if self.by_alias.is_empty() {
            return Ok(0);
        }
        let object = body.and_then(Object::parse).unwrap_or_default();
        let Some(model) = object.get_str("model").filter(|model| !model.is_empty()) else { return Ok(0) };
        self.by_alias.get(&*model).copied().or(self.without_alias).ok_or_else(|| {
            let names: Vec<&str> = self.by_alias.keys().map(String::as_str).collect();
            format!("cannot use own model - must be one of: {}", names.join(", "))
        })
    }

    /// Whether a client asks for this choice by an alias.
    fn is_asked_for(&self, number: usize) -> bool {
        number != 0 && self.without_alias != Some(number)
    }

    /// The choice of a number.
    fn get(&self, number: usize) -> Option<&Choice> {
        self.all.get(number)
    }
}

impl Plugin for AiProxyAdvanced {
    fn phases(&self) -> Phases {
        Phases::ACCESS.and(Phases::RESPONSE)
    }

    fn secret_names(&self) -> Vec<String> {
        let of_targets = self.shared.targets.iter().flat_map(Target::secret_names);
        of_targets.chain(self.shared.semantic.iter().flat_map(Semantic::secret_names)).collect()
    }

    fn llm_providers(&self) -> Vec<&'static str> {
        self.shared.targets.iter().map(Target::llm_provider).collect()
    }

    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Access<'a> {
        let (shared, reads, limit) = (&self.shared, self.reads, self.body_limit);
        if !self.waits {
            return with_body(exchange, reads, limit, |exchange, body| {
                let begun = match Tries::begin(shared, exchange, body) {
                    Ok(tries) => match self.counted(exchange, &tries) {
                        Some(answer) => return Some(answer),
                        None => tries.first(exchange),
                    },
                    Err(refusal) => Err(refusal),
                };
                self.settle(exchange, begun)
            });
        }
        Access::wait(async move {
            let body = take_body(exchange, reads, limit).await;
            let begun = match Tries::begin(shared, exchange, body) {
                Ok(tries) => match self.counted(exchange, &tries) {
                    Some(answer) => return Outcome::Answer(answer),
                    None => tries.first_after_waiting(exchange).await,
                },
                Err(refusal) => Err(refusal),
            };
            self.settle(exchange, begun).map_or(Outcome::Continue, Outcome::Answer)
        })
    }
}

impl AiProxyAdvanced {
    /// Tokens counted by the gateway, where it is asked for that and any target could not do it.
    fn counted(&self, exchange: &Exchange, tries: &Tries) -> Option<Response> {
        self.shared.targets.iter().find_map(|target| target.counted(exchange, tries.body()))
    }

    /// Leaves the tries to the gateway, or answers.
    fn settle(&self, exchange: &mut Exchange, begun: Result<Tries, Refusal>) -> Option<Response> {
        match begun {
            Ok(tries) => {
                exchange.attempt_by(Box::new(tries));
                None
            }
            Err(refusal) => Some(refuse_request(self.format, &refusal)),
        }
    }
}

/// Said where no target may be chosen.
const NONE_LEFT: &str = "all targets have failed too often; try again later";
