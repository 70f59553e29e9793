//! `prometheus`: counts requests for `/metrics` on the Admin and Status APIs.
//!
//! What is counted is kept in [`Metrics::global`]; what the node says of itself is added where `/metrics` is
//! answered.

use std::sync::Arc;

use tollgate_gateway::exchange::Source;
use tollgate_gateway::log_entry::Latencies;
use tollgate_gateway::{BuildError, Exchange, Phases, Plugin, Scope};
use tollgate_model::{Config, Map, PluginSchema, Value};
use tollgate_telemetry::metrics::{Metrics, families};
use uuid::Uuid;

use crate::read;

/// The plugin's name.
pub const NAME: &str = "prometheus";

/// Configuration of `prometheus` (Kong 3.11).
#[derive(Debug, Clone, Config)]
pub struct PrometheusConfig {
    /// Whether metrics tell consumers apart.
    #[config(default = false)]
    per_consumer: bool,
    /// Whether requests are counted by status.
    #[config(default = false)]
    status_code_metrics: bool,
    /// Whether calls of LLMs are counted; the AI plugins must log statistics.
    #[config(default = false)]
    ai_metrics: bool,
    /// Whether latencies are measured.
    #[config(default = false)]
    latency_metrics: bool,
    /// Whether bytes are counted.
    #[config(default = false)]
    bandwidth_metrics: bool,
    /// Whether the health of targets is shown.
    #[config(default = false)]
    upstream_health_metrics: bool,
    /// Without effect: there are no WebAssembly filters here.
    #[config(default = false)]
    #[allow(dead_code, reason = "accepted, as Kong 3.11 does without filters")]
    wasm_metrics: bool,
}

/// How the plugin presents itself.
pub fn schema() -> PluginSchema {
    PluginSchema::new(NAME, 13, PrometheusConfig::schema())
        .about("Counts requests for /metrics on the Admin and Status APIs.")
        .without_consumer_group()
}

/// Compiles a configured `prometheus`.
///
/// # Errors
/// A configuration that was not checked.
pub fn build(config: &Map<String, Value>, _: &Scope) -> Result<Arc<dyn Plugin>, BuildError> {
    Ok(Arc::new(Prometheus { config: read(config)?, metrics: Metrics::global() }))
}

/// Whether an enabled plugin entity asks for the health of targets to be shown.
pub fn shows_target_health(plugin: &Map<String, Value>) -> bool {
    plugin.get("name").and_then(Value::as_str) == Some(NAME)
        && plugin
            .get("config")
            .and_then(|config| PrometheusConfig::from_checked(config).ok())
            .is_some_and(|config| config.upstream_health_metrics)
}

struct Prometheus {
    config: PrometheusConfig,
    metrics: &'static Metrics,
}

impl Plugin for Prometheus {
    fn phases(&self) -> Phases {
        Phases::LOG
    }

    fn log(&self, exchange: &mut Exchange) {
        // Requests that matched no route are not counted (Kong 3.11).
        let Some(route) = &exchange.route else { return };
        let service = route.service.as_ref().map_or("", |service| match &service.name {
            Some(name) => name,
            None => service.entity.get("host").and_then(Value::as_str).unwrap_or_default(),
        });
        let mut id = Uuid::encode_buffer();
        let route_name = match &route.name {
            Some(name) => name,
            None => &*route.id.hyphenated().encode_lower(&mut id),
        };
        let workspace = exchange.snapshot.workspaces.get(&route.workspace).map_or("", |name| &**name);
        let consumer = exchange.consumer.as_ref().filter(|_| self.config.per_consumer);
        let consumer = consumer.and_then(|consumer| consumer.username.as_deref()).unwrap_or_default();
        if self.config.status_code_metrics {
            let mut number = itoa::Buffer::new();
            let code = number.format(exchange.facts.status);
            let source = if exchange.facts.source == Source::Upstream { "service" } else { "kong" };
            self.metrics.add(
                &families::HTTP_REQUESTS,
                &[service, route_name, code, source, workspace, consumer],
                1,
            );
        }
        if self.config.bandwidth_metrics {
            for (direction, bytes) in
                [("ingress", exchange.request_size()), ("egress", exchange.facts.response_size)]
            {
                if bytes > 0 {
                    let labels = [service, route_name, direction, workspace, consumer];
                    self.metrics.add(&families::BANDWIDTH, &labels, bytes);
                }
            }
        }
        if self.config.latency_metrics {
            let latencies = Latencies::of(exchange);
            let labels = [service, route_name, workspace];
            self.metrics.observe(&families::REQUEST_LATENCY, &labels, latencies.request);
            self.metrics.observe(&families::KONG_LATENCY, &labels, latencies.kong);
            if let Some(proxy) = latencies.proxy {
                self.metrics.observe(&families::UPSTREAM_LATENCY, &labels, proxy);
            }
        }
        if let Some(Value::Object(uses)) = exchange.facts.ai.as_ref().filter(|_| self.config.ai_metrics) {
            for call in uses.values().filter(|call| call.get("meta").is_some()) {
                self.count_call(call, workspace, consumer);
            }
        }
    }
}

impl Prometheus {
    /// Counts one call of an LLM, as the log's `ai` section tells it.
    fn count_call(&self, call: &Value, workspace: &str, consumer: &str) {
        let text = |part: &str, name: &str| {
            call.get(part).and_then(|part| part.get(name)).and_then(Value::as_str).unwrap_or_default()
        };
        let number = |part: &str, name: &str| call.get(part).and_then(|part| part.get(name));
        let [provider, model] = [text("meta", "provider_name"), text("meta", "request_model")];
        let [status, database] = [text("cache", "cache_status"), text("cache", "vector_db")];
        let embedder = text("cache", "embeddings_provider");
        let embedding = text("cache", "embeddings_model");
        let mode = text("meta", "request_mode");
        let labels = [provider, model, status, database, embedder, embedding, workspace, consumer, mode];
        self.metrics.add(&families::AI_REQUESTS, &labels, 1);
        if let Some(cost) = number("usage", "cost").and_then(Value::as_f64).filter(|cost| *cost > 0.0) {
            self.metrics.add_amount(&families::AI_COST, &labels, cost);
        }
        for (family, part, name) in [
            (&families::AI_LATENCY, "meta", "llm_latency"),
            (&families::AI_CACHE_FETCH, "cache", "fetch_latency"),
            (&families::AI_CACHE_EMBEDDINGS, "cache", "embeddings_latency"),
        ] {
            if let Some(latency) =
                number(part, name).and_then(Value::as_f64).filter(|latency| *latency >= 0.0)
            {
                self.metrics.observe(family, &labels, latency as u64);
            }
        }
        for kind in ["prompt_tokens", "completion_tokens", "total_tokens"] {
            let tokens = number("usage", kind).and_then(Value::as_u64).unwrap_or_default();
            if tokens > 0 {
                let labels =
                    [provider, model, status, database, embedder, embedding, kind, workspace, consumer];
                self.metrics.add(&families::AI_TOKENS, &labels, tokens);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tollgate_telemetry::metrics::Exposition;

    use super::*;

    #[test]
    fn a_call_counts_with_what_its_log_says() {
        let config = PrometheusConfig::from_checked(&json!({
            "per_consumer": false, "status_code_metrics": false, "ai_metrics": true, "latency_metrics": false,
            "bandwidth_metrics": false, "upstream_health_metrics": false, "wasm_metrics": false
        }))
        .unwrap();
        let metrics: &'static Metrics = Box::leak(Box::new(Metrics::new(1 << 20)));
        let plugin = Prometheus { config, metrics };
        let call = json!({
            "meta": {"provider_name": "openai", "request_model": "gpt", "llm_latency": 300, "request_mode": "stream"},
            "usage": {"prompt_tokens": 25, "completion_tokens": 0, "total_tokens": 25, "cost": 0.5},
            "cache": {"cache_status": "Hit", "fetch_latency": 2},
        });
        plugin.count_call(&call, "default", "u");
        plugin.count_call(&call, "default", "u");
        let mut exposition = Exposition::default();
        metrics.show(&mut exposition);
        let text = exposition.into_text();
        let labels = "ai_provider=\"openai\",ai_model=\"gpt\",cache_status=\"Hit\",vector_db=\"\",embeddings_provider=\"\",embeddings_model=\"\"";
        let consumer = "workspace=\"default\",consumer=\"u\"";
        let rest = "workspace=\"default\",consumer=\"u\",request_mode=\"stream\"";
        for line in [
            format!("kong_ai_llm_requests_total{{{labels},{rest}}} 2"),
            format!("kong_ai_llm_cost_total{{{labels},{rest}}} 1"),
            format!("kong_ai_llm_tokens_total{{{labels},token_type=\"prompt_tokens\",{consumer}}} 50"),
            format!("kong_ai_llm_provider_latency_ms_bucket{{{labels},{rest},le=\"250\"}} 0"),
            format!("kong_ai_llm_provider_latency_ms_bucket{{{labels},{rest},le=\"500\"}} 2"),
            format!("kong_ai_cache_fetch_latency_sum{{{labels},{rest}}} 4"),
        ] {
            assert!(text.lines().any(|other| other == line), "{line} in\n{text}");
        }
        assert!(!text.contains("completion_tokens"));
    }
}
