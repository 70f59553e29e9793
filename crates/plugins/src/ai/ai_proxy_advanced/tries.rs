//! The tries of one request.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tollgate_gateway::Exchange;
use tollgate_gateway::attempts::{Attempts, Ended};
use tollgate_gateway::destination::Destination;
use tollgate_http::client::Timeouts;
use tollgate_http::{Body, Headers};

use super::choice::{Asked, Choice};
use super::config::{LatencyStrategy, TokensCountStrategy};
use super::state::{TargetState, now};
use super::{NONE_LEFT, Shared, acl};
use crate::ai::target::{Finished, Refusal, Told};

/// A request on its way to one target after the other.
pub(super) struct Tries {
    shared: Arc<Shared>,
    /// Which choice its candidates are.
    choice: usize,
    /// Those of them that it may go to, where that is restricted.
    permitted: Option<Vec<usize>>,
    client: Client,
    /// Groups of targets it may go to, the best one first; with the algorithm `semantic`.
    ranking: Vec<usize>,
    /// Targets tried, the last one being under way.
    tried: Vec<usize>,
}

/// The client's request, as it was before it became a target's.
struct Client {
    headers: Headers,
    query: Option<Bytes>,
    host: Option<Box<str>>,
    destination: Option<Arc<Destination>>,
    body: ClientBody,
    /// The body as JSON text, where it is read.
    json: Option<Bytes>,
}

enum ClientBody {
    None,
    Whole(Bytes),
    /// Whoever sends it first takes it, unless it is taken in before that.
    Coming,
}

impl Client {
    fn of(exchange: &Exchange, json: Option<Bytes>) -> Self {
        Self {
            headers: exchange.head.headers.clone(),
            query: exchange.query.clone(),
            host: exchange.upstream_host.clone(),
            destination: exchange.destination.clone(),
            body: match &exchange.body {
                Body::Empty => ClientBody::None,
                Body::Full(bytes) => ClientBody::Whole(bytes.clone()),
                Body::Stream(_) => ClientBody::Coming,
            },
            json,
        }
    }

    /// Makes the exchange the client's again, but for what other plugins have changed since.
    fn restore(&self, exchange: &mut Exchange, touched: &[String]) {
        let headers = &mut exchange.head.headers;
        for name in touched {
            headers.remove(name);
            for value in self.headers.get_all(name) {
                headers.append(name, value);
            }
        }
        exchange.query.clone_from(&self.query);
        exchange.upstream_host.clone_from(&self.host);
        exchange.destination.clone_from(&self.destination);
        if let ClientBody::Whole(bytes) = &self.body {
            exchange.set_body(bytes.clone());
        }
    }

    /// Whether the request can be sent once more.
    fn is_whole(&self, exchange: &Exchange) -> bool {
        !matches!(self.body, ClientBody::Coming) || matches!(exchange.body, Body::Full(_))
    }
}

impl Tries {
    /// A request that no target has been chosen for yet.
    ///
    /// # Errors
    /// It names a model that is no target's, or may go to none of the targets.
    pub(super) fn begin(
        shared: &Arc<Shared>,
        exchange: &Exchange,
        json: Option<Bytes>,
    ) -> Result<Self, Refusal> {
        let choice = shared.choices.of(json.as_deref())?;
        let permitted = shared.acl.is_some().then(|| {
            let candidates = shared.choices.get(choice).map(Choice::members).unwrap_or_default();
            let is_permitted = |index: &usize| {
                let target = shared.targets.get(*index);
                target.is_some_and(|target| shared.permits(exchange, json.as_deref(), target))
            };
            candidates.iter().copied().filter(is_permitted).collect::<Vec<usize>>()
        });
        if permitted.as_ref().is_some_and(Vec::is_empty) {
            return Err(acl::denial());
        }
        let client = Client::of(exchange, json);
        let (ranking, tried) = (Vec::new(), Vec::new());
        Ok(Self { shared: Arc::clone(shared), choice, permitted, client, ranking, tried })
    }

    /// Whether it may go to a target.
    fn may_go_to(&self, target: usize) -> bool {
        self.permitted.as_ref().is_none_or(|permitted| permitted.contains(&target))
    }

    /// How many targets it may go to.
    fn candidates(&self) -> usize {
        let all = || self.shared.choices.get(self.choice).map_or(0, |choice| choice.members().len());
        self.permitted.as_ref().map_or_else(all, Vec::len)
    }

    /// The client's body as JSON text, where it is read.
    pub(super) fn body(&self) -> Option<&[u8]> {
        self.client.json.as_deref()
    }

    /// Makes the request that of a first target.
    ///
    /// # Errors
    /// What the client is told where it cannot be.
    pub(super) fn first(mut self, exchange: &mut Exchange) -> Result<Self, Refusal> {
        let target = self.choose().ok_or_else(|| Refusal::failure(NONE_LEFT))?;
        self.prepare(exchange, target)?;
        Ok(self)
    }

    /// The same, where that has to wait: for what the prompt means, and for targets' accounts; a target whose account
    /// cannot be had is passed over.
    ///
    /// # Errors
    /// What the client is told where it cannot be.
    pub(super) async fn first_after_waiting(mut self, exchange: &mut Exchange) -> Result<Self, Refusal> {
        if let Some(semantic) = &self.shared.semantic {
            let choices = &self.shared.choices;
            let groups = choices.get(self.choice).map(Choice::groups).unwrap_or_default();
            self.ranking = match &*groups {
                // The client has chosen.
                [_] if choices.is_asked_for(self.choice) => groups,
                _ => semantic.rank(exchange, self.body(), &groups).await?,
            };
        }
        let mut refusal = Refusal::failure(NONE_LEFT);
        while let Some(target) = self.choose() {
            self.wait_for(target).await;
            match self.prepare(exchange, target) {
                Ok(()) => return Ok(self),
                Err(failure) if failure.is_failure() => refusal = failure,
                Err(refusal) => return Err(refusal),
            }
            self.client.restore(exchange, &self.shared.touched);
        }
        Err(refusal)
    }

    async fn wait_for(&self, target: usize) {
        if let Some(target) = self.shared.targets.get(target)
            && !target.is_ready()
        {
            target.ready().await;
        }
    }

    /// A target that has not been tried, and may be.
    fn choose(&mut self) -> Option<usize> {
        let Shared { choices, states, balancer, .. } = &*self.shared;
        let choice = choices.get(self.choice)?;
        let hash = self.client.headers.get(&balancer.hash_on_header);
        let asked = Asked { hash, ranking: &self.ranking };
        let now = now();
        loop {
            let target = choice.choose(states, asked, now, |target| {
                let allows = |state: &Arc<TargetState>| state.breaker.allows(now, balancer.breaker);
                !self.tried.contains(&target)
                    && self.may_go_to(target)
                    && states.get(target).is_some_and(allows)
            })?;
            // Another request may have been faster to try a target that is on trial.
            if states.get(target).is_some_and(|state| state.breaker.enter(now, balancer.breaker)) {
                self.tried.push(target);
                return Some(target);
            }
        }
    }

    fn prepare(&self, exchange: &mut Exchange, target: usize) -> Result<(), Refusal> {
        let (Some(state), Some(target)) = (self.shared.states.get(target), self.shared.targets.get(target))
        else {
            return Err(Refusal::failure(NONE_LEFT));
        };
        let told = self.shared.balancer.learns.then(|| self.told(state));
        let json = self.body();
        let filter = target.prepare(exchange, json, &self.shared.policy, told)?;
        exchange.follow(filter);
        Ok(())
    }

    /// Counts the call as under way, and learns from its end.
    fn told(&self, state: &Arc<TargetState>) -> Told {
        let under_way = UnderWay::new(state);
        let balancer = &self.shared.balancer;
        let (latency, usage) = (balancer.latency, balancer.usage);
        Box::new(move |finished: Finished<'_>| {
            let (state, now) = (&under_way.0, now());
            let milliseconds = finished.took.as_secs_f64() * 1000.0;
            let tokens = finished.usage;
            let answered = tokens.map_or(0, |usage| usage.completion_tokens);
            let measured = match latency {
                LatencyStrategy::E2e => milliseconds,
                LatencyStrategy::Tpot => milliseconds / answered.max(1) as f64,
            };
            // Who left while nothing came yet has waited for so long at least.
            if finished.complete || answered == 0 && measured > state.latency.get(now) {
                state.latency.measure(now, measured);
            }
            if let Some(tokens) = tokens {
                let used = match usage {
                    TokensCountStrategy::PromptTokens => tokens.prompt_tokens as f64,
                    TokensCountStrategy::CompletionTokens => tokens.completion_tokens as f64,
                    TokensCountStrategy::Cost => tokens.cost,
                    TokensCountStrategy::TotalTokens | TokensCountStrategy::LlmAccuracy => {
                        tokens.total_tokens as f64
                    }
                };
                state.usage.add(now, used);
                state.calls.add(now, 1.0);
            }
        })
    }

    async fn next_target(&mut self, exchange: &mut Exchange) -> bool {
        let failed = exchange.destination.clone();
        while let Some(target) = self.choose() {
            self.wait_for(target).await;
            self.client.restore(exchange, &self.shared.touched);
            match self.prepare(exchange, target) {
                Ok(()) => return true,
                // What one target cannot be asked, another may.
                Err(refusal) => exchange.write_error_log(
                    tollgate_telemetry::Level::Warn,
                    &format_args!("a target is passed over: {}", refusal.message()),
                ),
            }
        }
        exchange.destination = failed;
        false
    }
}

impl Attempts for Tries {
    fn timeouts(&self) -> Timeouts {
        self.shared.balancer.timeouts
    }

    fn has_failed(&mut self, exchange: &Exchange, ended: &Ended) -> bool {
        let balancer = &self.shared.balancer;
        let Some(state) = self.tried.last().and_then(|target| self.shared.states.get(*target)) else {
            return false;
        };
        let now = now();
        let failed = balancer.criteria.is_failure(ended);
        if failed {
            state.breaker.failed(now, balancer.breaker);
        } else if matches!(ended, Ended::Answered(_)) {
            state.breaker.succeeded(now, balancer.breaker);
        }
        if failed || is_refusal(ended) {
            // As slow as can be: who answers with errors is not to be taken for fast.
            state.latency.measure(now, balancer.timeouts.read.as_secs_f64() * 1000.0);
        }
        self.tried.len() < self.candidates()
            && self.tried.len() <= balancer.retries as usize
            && self.client.is_whole(exchange)
            && balancer.criteria.allow_another(ended, &exchange.head.method)
    }

    fn next<'a>(&'a mut self, exchange: &'a mut Exchange) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>> {
        Box::pin(self.next_target(exchange))
    }
}

/// Whether an answer says that the target cannot, or will not, do what any request asks.
fn is_refusal(ended: &Ended) -> bool {
    match ended {
        Ended::Answered(response) => {
            let status = response.status.as_u16();
            status >= 500 || matches!(status, 401 | 403 | 404 | 408 | 429)
        }
        Ended::Failed(_) | Ended::Nobody(_) => false,
    }
}

/// Counts a request as under way with a target, until it is dropped.
struct UnderWay(Arc<TargetState>);

impl UnderWay {
    fn new(state: &Arc<TargetState>) -> Self {
        state.under_way.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(state))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}
