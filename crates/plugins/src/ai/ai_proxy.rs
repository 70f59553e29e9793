//! `ai-proxy`: a route becomes an LLM. The client speaks the format that is configured; the request is checked, edited for
//! the route's model, authenticated and sent to the provider; the answer streams back, and its usage is logged.

mod config;

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value};
use tollgate_gateway::{Access, BuildError, Exchange, Phases, Plugin, Scope};
use tollgate_http::Response;
use tollgate_llm::Format;
use tollgate_model::{Config, PluginSchema};

use super::target::config::TargetConfig;
use super::target::{Policy, Target, body_limit, format, listed, refuse_request, with_body};
use crate::read;
pub use config::AiProxyConfig;

/// How the plugin presents itself.
pub fn schema() -> PluginSchema {
    PluginSchema {
        checks: config::format_checks(),
        about: "Makes a route an LLM: checks the request, sends it to a provider with its key, streams the answer back and logs its usage. Clients of OpenAI's format that ask for `…/models` get those that are configured.",
        ..PluginSchema::new("ai-proxy", 770, AiProxyConfig::schema())
    }
}

/// Compiles a configured `ai-proxy`.
///
/// # Errors
/// A configuration that was not checked.
pub fn build(config: &Map<String, Value>, scope: &Scope) -> Result<Arc<dyn Plugin>, BuildError> {
    let config: AiProxyConfig = read(config)?;
    let AiProxyConfig { route_type, auth, model, logging, .. } = config;
    let format = format(config.llm_format.as_deref())?;
    let target = TargetConfig { route_type, auth, model, logging, counts: false };
    Ok(Arc::new(AiProxy {
        target: Target::new(target, format, "config", scope)?,
        format,
        policy: Policy::new(config.response_streaming, config.model_name_header),
        body_limit: body_limit(config.max_request_body_size),
    }))
}

struct AiProxy {
    target: Target,
    /// What clients speak.
    format: Format,
    policy: Policy,
    body_limit: usize,
}

impl Plugin for AiProxy {
    fn phases(&self) -> Phases {
        Phases::ACCESS.and(Phases::RESPONSE)
    }

    fn secret_names(&self) -> Vec<String> {
        self.target.secret_names()
    }

    fn llm_providers(&self) -> Vec<&'static str> {
        vec![self.target.llm_provider()]
    }

    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Access<'a> {
        if let Some(models) = listed(exchange, self.format, std::slice::from_ref(&self.target), |_| true) {
            return Access::Answer(models);
        }
        if self.target.is_ready() {
            return self.take(exchange);
        }
        Access::wait(async move {
            self.target.ready().await;
            self.take(exchange).outcome().await
        })
    }
}

impl AiProxy {
    /// Reads the body and decides.
    fn take<'a>(&'a self, exchange: &'a mut Exchange) -> Access<'a> {
        let reads = self.target.reads();
        with_body(exchange, reads, self.body_limit, |exchange, body| self.decide(exchange, body))
    }

    /// Makes the request the provider's, or refuses it.
    fn decide(&self, exchange: &mut Exchange, body: Option<Bytes>) -> Option<Response> {
        if let Some(answer) = self.target.counted(exchange, body.as_deref()) {
            return Some(answer);
        }
        match self.target.prepare(exchange, body.as_deref(), &self.policy, None) {
            Ok(filter) => {
                exchange.follow(filter);
                None
            }
            Err(refusal) => Some(refuse_request(self.format, &refusal)),
        }
    }
}
