//! One request and its answer, as the plugins see them.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use smallvec::SmallVec;
use tollgate_http::client::Client;
use tollgate_http::{Body, BodyError, Connection, Headers, RequestHead, Response, StatusCode};
use tollgate_model::{Map, Value};
use tollgate_telemetry::Level;
use uuid::Uuid;

use crate::answer;
use crate::attempts::Attempts;
use crate::consumers::{Consumer, Credential, Groups};
use crate::destination::Destination;
use crate::logging;
use crate::plugin::ResponseFilter;
use crate::request_id::RequestId;
use crate::settings::Settings;
use crate::snapshot::{Route, Snapshot};
use crate::trace::Trace;

/// One request and its answer. Lives from the request's head to the log phase.
pub struct Exchange {
    /// The request's head. Header fields are the client's until a plugin changes them, and are then sent on.
    pub head: RequestHead,
    /// The client's body. Plugins that need it whole call [`Exchange::buffer_body`].
    pub body: Body,
    /// The connection the request came on.
    pub connection: Arc<Connection>,
    /// How many requests had begun on the connection with this one.
    pub connection_requests: u64,
    /// Path and query as received.
    pub received_target: Bytes,
    /// Identifies the request in headers, errors and logs.
    pub request_id: RequestId,
    /// When the head was complete.
    pub started: Instant,
    /// The client's address after `real_ip_header` of trusted peers.
    pub client_ip: IpAddr,
    /// `http` or `https` as the client sees it (`X-Forwarded-Proto` of trusted peers).
    pub client_scheme: &'static str,
    /// The node's settings.
    pub settings: Arc<Settings>,
    /// What sends requests to upstreams.
    pub(crate) client: Client,
    /// The request on whose behalf the gateway makes this one ([`Exchange::own_request`]).
    pub on_behalf_of: Option<Box<RequestHead>>,
    /// Configuration this request is served by.
    pub snapshot: Arc<Snapshot>,
    /// The matched route; `None` for a request that matched none.
    pub route: Option<Arc<Route>>,
    /// Named and numbered captures of the route's regex path.
    pub captures: Vec<(Box<str>, Box<str>)>,
    /// Who asks, once a plugin knows.
    pub consumer: Option<Arc<Consumer>>,
    /// The credential shown; `None` for an anonymous consumer.
    pub credential: Option<Arc<Credential>>,
    /// Normalised path the route was matched by.
    pub path: Bytes,
    /// Query to send on, without `?`.
    pub query: Option<Bytes>,
    /// Path to send on.
    pub upstream_path: Bytes,
    /// Bytes at the beginning of the path that `strip_path` took off.
    pub(crate) stripped: usize,
    /// Where to send the request; the service's, until a plugin sets another.
    pub destination: Option<Arc<Destination>>,
    /// `Host` to send on where a plugin sets one; else the destination's (or the client's with `preserve_host`).
    pub upstream_host: Option<Box<str>>,
    /// Fields to set on whatever answer the client gets. They are set before the plugins' response phase, which may
    /// change them.
    pub response_headers: Headers,
    /// What happened, for the log phase.
    pub facts: Facts,
    /// The spans of the request, where a plugin traces it.
    pub trace: Option<Box<Trace>>,
    pub(crate) filters: Vec<(usize, Box<dyn ResponseFilter>)>,
    pub(crate) llm_usage_observers: Vec<LlmUsageObserver>,
    pub(crate) running: usize,
    /// Plugins that ran, where configuration of consumers or groups decided; else the route's own list counts.
    pub(crate) collected: Option<Vec<Arc<crate::chain::Configured>>>,
    /// The log entry, once a plugin has asked for it.
    pub(crate) entry: Option<Arc<Map<String, Value>>>,
    /// Counts this exchange as under way with its target.
    pub(crate) lease: Option<crate::balancer::Lease>,
    /// Who chooses where it goes, and whose plugin's that is; else it goes to `destination`.
    pub(crate) attempts: Option<(usize, Box<dyn Attempts>)>,
}

/// Who made an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The upstream.
    Upstream,
    /// A plugin, or the gateway refusing.
    Exit,
    /// The gateway, after an error.
    Error,
}

/// One attempt to reach an upstream.
#[derive(Debug, Clone)]
pub struct Try {
    /// Address tried.
    pub ip: IpAddr,
    /// Port tried.
    pub port: u16,
    /// When choosing the address began.
    pub started: Instant,
    /// When it was chosen.
    pub chosen: Instant,
    /// The status a failure stands for (502, 504); `None` when it worked, or was not over when the client left.
    pub failure: Option<u16>,
    /// When it had failed, or the head of an answer was there.
    pub ended: Option<Instant>,
    /// The name whose address it is. Kept for traces only.
    pub name: Option<Box<str>>,
}

/// What a call of an LLM used, as its provider counted, or as it was estimated.
#[derive(Debug, Clone, PartialEq)]
pub struct LlmUsage {
    /// Who answered, by Kong's name.
    pub provider: &'static str,
    /// The model asked.
    pub model: Box<str>,
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// Tokens of the answer.
    pub completion_tokens: u64,
    /// Both.
    pub total_tokens: u64,
    /// Price of the call, by the prices configured for the model.
    pub cost: f64,
}

/// Is told what the exchange's LLM call used ([`Facts::llm_usage`]; `None` where nothing was answered).
pub type LlmUsageObserver = Box<dyn FnOnce(&Exchange) + Send>;

/// What happened to a request, for headers, log and metrics.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Who made the answer.
    pub source: Source,
    /// Status sent to the client; 499 when it left before.
    pub status: u16,
    /// Status the upstream gave.
    pub upstream_status: Option<u16>,
    /// The request's header fields as the plugins left them, before the gateway added its own. Kept for the log
    /// entry only.
    pub request_headers: Option<Headers>,
    /// Header fields sent to the client. Kept for the log entry only.
    pub response_headers: Headers,
    /// Attempts, in order.
    pub tries: SmallVec<[Try; 1]>,
    /// When the request was first sent on.
    pub proxied: Option<Instant>,
    /// When the upstream's head came.
    pub answered: Option<Instant>,
    /// When the answer's head was ready for the client.
    pub responded: Option<Instant>,
    /// When everything was over.
    pub ended: Option<Instant>,
    /// Bytes received from the client, but for what a body of unknown length has; see
    /// [`Exchange::request_size`].
    pub(crate) request_size: u64,
    /// Bytes of a body of unknown length that have come.
    pub(crate) request_counted: Option<Arc<AtomicU64>>,
    /// Bytes sent to the client, head and framing included.
    pub response_size: u64,
    /// Bytes of them that are the head.
    pub response_head_size: u64,
    /// The log's `ai` section.
    pub ai: Option<Value>,
    /// What the LLM call used, where somebody asked ([`Exchange::wants_llm_usage`]).
    pub llm_usage: Option<LlmUsage>,
    /// The log's `correlation_id`.
    pub correlation_id: Option<Box<str>>,
    /// Further members of the log entry.
    pub custom: Map<String, Value>,
}

impl Facts {
    /// Writes a part of the log's `ai` section.
    pub fn log_ai(&mut self, name: &str, part: Value) {
        match &mut self.ai {
            Some(Value::Object(parts)) => {
                parts.insert(name.to_owned(), part);
            }
            section => *section = Some(Value::Object(Map::from_iter([(name.to_owned(), part)]))),
        }
    }
}

impl Default for Facts {
    fn default() -> Self {
        Self {
            source: Source::Exit,
            status: 0,
            upstream_status: None,
            request_headers: None,
            response_headers: Headers::new(),
            tries: SmallVec::new(),
            proxied: None,
            answered: None,
            responded: None,
            ended: None,
            request_size: 0,
            request_counted: None,
            response_size: 0,
            response_head_size: 0,
            ai: None,
            llm_usage: None,
            correlation_id: None,
            custom: Map::new(),
        }
    }
}

impl Exchange {
    /// Workspace of the matched route; the default one where none matched.
    pub fn workspace(&self) -> Uuid {
        self.route.as_ref().map_or(crate::snapshot::DEFAULT_WORKSPACE, |route| route.workspace)
    }

    /// The port as clients see it (`port_maps`).
    pub fn client_port(&self) -> u16 {
        let port = self.connection.local.port();
        self.settings.port_maps.get(&port).copied().unwrap_or(port)
    }

    /// Bytes received from the client: request line, header fields and body.
    pub fn request_size(&self) -> u64 {
        let counted = self.facts.request_counted.as_ref().map(|counted| counted.load(Ordering::Relaxed));
        self.facts.request_size + counted.unwrap_or_default()
    }

    /// Path and query sent on; empty while nothing was.
    pub fn upstream_uri(&self) -> &[u8] {
        if self.facts.tries.is_empty() { b"" } else { &self.head.target }
    }

    /// The log entry. Built the first time it is asked for; in the log phase only, by plugins with
    /// [`Phases::ENTRY`](crate::Phases::ENTRY).
    pub fn log_entry(&mut self) -> Arc<Map<String, Value>> {
        match &self.entry {
            Some(entry) => Arc::clone(entry),
            None => Arc::clone(self.entry.insert(Arc::new(crate::log_entry::build(self)))),
        }
    }

    /// The log entry as it would be now, at any time.
    pub fn current_log_entry(&self) -> Map<String, Value> {
        match &self.entry {
            Some(entry) => (**entry).clone(),
            None => crate::log_entry::build(self),
        }
    }

    /// Reads the client's body into memory; it can still be sent on.
    ///
    /// # Errors
    /// [`BodyError::TooLarge`] beyond `limit` bytes; else what the connection reports.
    pub async fn buffer_body(&mut self, limit: usize) -> Result<Bytes, BodyError> {
        self.body.buffer(limit).await
    }

    /// Replaces the client's body.
    pub fn set_body(&mut self, body: Bytes) {
        self.body = Body::from(body);
    }

    /// An answer of the gateway with a body in the form the client accepts (`{"message": …, "request_id": …}`
    /// by default).
    pub fn error(&self, status: StatusCode, message: &str) -> Response {
        answer::negotiated(status, message, &self.head, &self.request_id, &self.settings.errors)
    }

    /// An answer with a JSON body as given; to a gRPC client, with its `message` as `grpc-message`.
    pub fn exit(&self, status: StatusCode, body: &Value) -> Response {
        answer::exit(status, body, &self.head)
    }

    /// Writes a line about this exchange to the error log. The message must not hold secrets.
    pub fn write_error_log(&self, level: Level, message: &dyn fmt::Display) {
        logging::about(self, level, message);
    }

    /// Leaves a filter for this plugin's response phase. Only in access, and for a further attempt
    /// ([`Attempts`]); one that the plugin left before goes.
    pub fn follow(&mut self, filter: Box<dyn ResponseFilter>) {
        self.filters.retain(|(owner, _)| *owner != self.running);
        self.filters.push((self.running, filter));
    }

    /// Lets this plugin choose where the request goes, and where next when that fails. Only in access.
    pub fn attempt_by(&mut self, attempts: Box<dyn Attempts>) {
        self.attempts = Some((self.running, attempts));
    }

    /// Names of the providers that the route's plugins may send this request to, each once, as far as the consumer is
    /// known.
    pub fn llm_providers(&self) -> Vec<&'static str> {
        let Some(route) = &self.route else { return Vec::new() };
        let consumer = self.consumer.as_ref().map(|consumer| consumer.id);
        let consumers = &self.snapshot.consumers;
        let plugins =
            (0..route.chain.len()).filter_map(|place| route.chain.resolve(place, consumer, consumers));
        let mut providers = Vec::new();
        for provider in plugins.flat_map(|configured| configured.plugin.llm_providers()) {
            if !providers.contains(&provider) {
                providers.push(provider);
            }
        }
        providers
    }

    /// The groups of the consumer, by name, as far as the consumer is known.
    pub fn consumer_groups(&self) -> Groups<'_> {
        let consumer = self.consumer.as_ref();
        consumer.map(|consumer| self.snapshot.consumers.groups_of(consumer.id)).unwrap_or_default()
    }

    /// Has `observer` told what this exchange's LLM call used, once the answer has ended however it did.
    pub fn observe_llm_usage(&mut self, observer: LlmUsageObserver) {
        self.llm_usage_observers.push(observer);
    }

    /// Whether somebody is to be told what the LLM call uses, so that it has to be found out
    /// ([`Facts::llm_usage`]).
    pub fn wants_llm_usage(&self) -> bool {
        !self.llm_usage_observers.is_empty() || self.trace.is_some()
    }

    /// Makes `consumer` the one who asks, and tells the upstream (Kong 3.11: `X-Consumer-*`,
    /// `X-Credential-Identifier`, `X-Anonymous-Consumer`); values the client sent under these names go.
    /// Without a credential the consumer is an anonymous one.
    pub fn authenticate(&mut self, consumer: Arc<Consumer>, credential: Option<Arc<Credential>>) {
        let headers = &mut self.head.headers;
        let mut id = Uuid::encode_buffer();
        headers.set_own("X-Consumer-ID", consumer.id.hyphenated().encode_lower(&mut id).as_bytes());
        set_or_remove(headers, "X-Consumer-Custom-ID", consumer.custom_id.as_deref());
        set_or_remove(headers, "X-Consumer-Username", consumer.username.as_deref());
        match &credential {
            Some(credential) => {
                headers.set_own(
                    "X-Credential-Identifier",
                    credential.id.hyphenated().encode_lower(&mut id).as_bytes(),
                );
                headers.remove("X-Anonymous-Consumer");
            }
            None => {
                headers.remove("X-Credential-Identifier");
                headers.set("X-Anonymous-Consumer", "true");
            }
        }
        self.consumer = Some(consumer);
        self.credential = credential;
    }
}

fn set_or_remove(headers: &mut Headers, name: &str, value: Option<&str>) {
    match value {
        Some(value) => headers.set(name, value),
        None => {
            headers.remove(name);
        }
    }
}
