//! Asking an LLM from within the gateway: for plugins that need its answer to go on.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tollgate_gateway::balancer::Peer;
use tollgate_gateway::destination::Destination;
use tollgate_gateway::own_request::FetchError;
use tollgate_gateway::{BuildError, Exchange, ResponseFilter, Scope};
use tollgate_http::client::{Timeouts, TlsProfile};
use tollgate_http::{Body, Method, Response, StatusCode};
use tollgate_llm::Format;

use super::target::config::TargetConfig;
use super::target::{LARGEST_ANSWER, Policy, Refusal, Target};

/// An LLM that the gateway asks.
pub(super) struct Llm {
    target: Target,
    policy: Policy,
    timeouts: Timeouts,
    /// How to speak TLS where certificates are not checked.
    trusting: Option<Arc<TlsProfile>>,
    /// By which way `http` addresses are reached, and `https` ones.
    proxies: [Option<Peer>; 2],
}

/// How an LLM is asked.
pub(super) struct Manner {
    /// How long each part of the call may take.
    pub timeout: Duration,
    /// Whether its certificate is checked.
    pub verify: bool,
    /// Proxies by host and port: for `http` addresses, and for `https` ones.
    pub proxies: [Option<(String, u16)>; 2],
}

/// What the LLM said.
pub(super) struct Reply {
    /// The answer in OpenAI's format.
    pub body: Bytes,
    /// What the log says of the call, where it says anything.
    pub log: Option<Value>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    /// The request cannot be made the provider's.
    #[error("{}", .0.message)]
    Refused(Refusal),
    /// The provider cannot be reached, or breaks off.
    #[error("request to ai service failed: {0}")]
    Failed(#[from] FetchError),
    /// The provider answers with an error.
    #[error("status code {0}")]
    Status(u16),
    /// The answer is none that could be understood.
    #[error("{0}")]
    Answer(String),
}

impl Llm {
    /// Compiles what is configured at `field`.
    ///
    /// # Errors
    /// A target that cannot be one.
    pub(super) fn new(
        config: TargetConfig,
        field: &str,
        scope: &Scope,
        manner: Manner,
    ) -> Result<Self, BuildError> {
        let Manner { timeout, verify, proxies } = manner;
        let trusting = match verify {
            true => None,
            false => Some(TlsProfile::new(false, &[], None).map(Arc::new).map_err(|error| BuildError {
                field: "config.https_verify".to_owned(),
                message: error.to_string(),
            })?),
        };
        Ok(Self {
            target: Target::new(config, Format::OpenAi, field, scope)?,
            policy: Policy::new(None, Some(false)),
            timeouts: Timeouts { connect: timeout, write: timeout, read: timeout },
            trusting,
            proxies: proxies.map(|proxy| proxy.map(|(host, port)| Peer::new(&host, port, None))),
        })
    }

    /// Names under which it sends secrets.
    pub(super) fn secret_names(&self) -> Vec<String> {
        self.target.secret_names()
    }

    /// Whether its model takes instructions.
    pub(super) fn takes_system(&self) -> bool {
        self.target.takes_system()
    }

    /// Sends a request in OpenAI's format, which must not ask for a stream. Placeholders of the configuration stand
    /// for values of `exchange`.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(super) fn ask<'a>(
        &'a self,
        exchange: &Exchange,
        request: &Value,
    ) -> impl Future<Output = Result<Reply, AskError>> + Send + use<'a> {
        let mut own = exchange.own_request(Method::POST);
        let request = Bytes::from(request.to_string());
        async move {
            if !self.target.is_ready() {
                self.target.ready().await;
            }
            let prepared = self.target.prepare(&mut own, Some(&request), &self.policy, None);
            let filter = prepared.map_err(AskError::Refused)?;
            if let (Some(trusting), Some(destination)) = (&self.trusting, &own.destination)
                && destination.tls.is_some()
            {
                let tls = Some(Arc::clone(trusting));
                own.destination = Some(Arc::new(Destination { tls, ..Destination::clone(destination) }));
            }
            let https = own.destination.as_ref().is_some_and(|destination| destination.tls.is_some());
            let [for_http, for_https] = &self.proxies;
            let proxy = if https { for_https } else { for_http };
            let response = own.fetch(proxy.as_ref(), &self.timeouts, LARGEST_ANSWER).await?;
            read(own, filter, response)
        }
    }
}

/// Reads an answer as `ai-proxy` does: by what was to follow it.
fn read(
    mut own: Exchange,
    mut filter: Box<dyn ResponseFilter>,
    mut response: Response,
) -> Result<Reply, AskError> {
    if response.status != StatusCode::OK {
        return Err(AskError::Status(response.status.as_u16()));
    }
    filter.head(&mut own, &mut response);
    let body = match response.body {
        Body::Full(body) => body,
        Body::Empty | Body::Stream(_) => Bytes::new(),
    };
    if response.status != StatusCode::OK {
        let error: Value = serde_json::from_slice(&body).unwrap_or_default();
        let message = error.pointer("/error/message").and_then(Value::as_str).unwrap_or_default();
        return Err(AskError::Answer(message.to_owned()));
    }
    filter.finish(&mut own, true);
    let log = own.facts.ai.as_mut().and_then(|ai| ai.get_mut("proxy")).map(Value::take);
    Ok(Reply { body, log: log.map(as_logged) })
}

/// What the log says of a call of the gateway's own (Kong 3.11: fewer members, and no name for the model asked).
fn as_logged(mut call: Value) -> Value {
    let mut keep = |part: &str, gone: &[&str]| {
        if let Some(members) = call.get_mut(part).and_then(Value::as_object_mut) {
            members.retain(|name, _| !gone.contains(&name.as_str()));
        }
    };
    keep("meta", &["request_mode"]);
    keep("usage", &["prompt_tokens_details", "completion_tokens_details", "time_to_first_token"]);
    let per_token = call.pointer("/usage/time_per_token").and_then(Value::as_f64).unwrap_or_default();
    call["meta"]["request_model"] = "UNSPECIFIED".into();
    call["usage"]["time_per_token"] = (per_token as u64).into();
    if let Some(members) = call.as_object_mut() {
        members.shift_remove("tried_targets");
        members.insert("cache".to_owned(), json!({}));
    }
    call
}
