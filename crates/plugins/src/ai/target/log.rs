//! What the log's `ai` section says of a call (Kong 3.11's names).

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use serde_json::{Map, Value, json};
use tollgate_gateway::Exchange;
use tollgate_gateway::balancer::PeerHost;
use tollgate_gateway::destination::Host;
use tollgate_gateway::exchange::{LlmUsage, Source};
use tollgate_llm::price;
use tollgate_llm::provider::{Asked, Shape, StreamWishes};
use tollgate_llm::request::Call;
use tollgate_llm::template::Template;
use tollgate_llm::usage::{Seen, Usage};
use tollgate_llm::{Format, Operation, Provider};

use super::config::Options;
use super::traced::{Over, Traced};
use super::{Shared, render, text};

/// What the log says of Azure's side.
pub(super) struct Azure([(&'static str, Template); 3]);

impl Azure {
    /// Of what is configured, where the provider is Azure.
    pub(super) fn of(provider: &str, options: &Options) -> Option<Self> {
        let text = |option: &Option<String>| Template::new(option.as_deref().unwrap_or_default());
        (provider == "azure").then(|| {
            Self([
                ("azure_instance_id", text(&options.azure_instance)),
                ("azure_deployment_id", text(&options.azure_deployment_id)),
                ("azure_api_version", text(&options.azure_api_version)),
            ])
        })
    }

    fn write(&self, meta: &mut Value, exchange: &Exchange) {
        for (name, value) in &self.0 {
            meta[*name] = render(value, exchange).unwrap_or_default().into();
        }
    }
}

/// A model's name in the log.
fn named(model: &str) -> &str {
    if model.is_empty() { "UNSPECIFIED" } else { model }
}

/// The log's section of the calls that are proxied; `None` where the log's `ai` is no object.
fn section(exchange: &mut Exchange) -> Option<&mut Value> {
    let ai = exchange.facts.ai.get_or_insert_with(|| json!({})).as_object_mut()?;
    Some(ai.entry("proxy").or_insert_with(|| json!({})))
}

/// One call on its way into the log.
pub(super) struct Record {
    shared: Arc<Shared>,
    /// The model asked; empty where nobody needs it.
    model: Box<str>,
    /// Identifies the call, for providers that do not do so.
    id: String,
    /// What the answer repeats of the request.
    kept: Map<String, Value>,
    stream: bool,
    /// What is asked where it is no operation.
    action: Box<str>,
    /// Whether anybody is to know what the call used.
    wanted: bool,
    started: Instant,
    answered: Option<Instant>,
    first_chunk: Option<Instant>,
    /// How long the provider took, where that is not the time until its answer was there.
    pub(super) took: Option<Duration>,
    /// The body sent.
    request: Bytes,
    /// A whole answer, where payloads are logged.
    answer: Option<Bytes>,
    /// What a trace is to tell.
    traced: Option<Traced>,
    pub(super) seen: Seen,
    watch: Watch,
}

/// How a call ended.
pub(in crate::ai) struct Finished<'a> {
    /// What it used; `None` where that is not known, or there was no good answer.
    pub(in crate::ai) usage: Option<&'a LlmUsage>,
    /// Time from the request to the end of the answer.
    pub(in crate::ai) took: Duration,
    /// Whether the answer was good, and came to its end.
    pub(in crate::ai) complete: bool,
}

/// What is to be done when a call has ended. Dropped where it failed and another took its place.
pub(in crate::ai) type Told = Box<dyn FnOnce(Finished<'_>) + Send>;

/// What is followed of a call besides its answer.
pub(super) struct Watch {
    /// How many of the exchange's tries the log has, or are not this call's.
    pub(super) noted: usize,
    /// Who is told how it ended.
    pub(super) told: Option<Told>,
}

impl Watch {
    /// Tells, once.
    pub(super) fn tell(&mut self, usage: Option<&LlmUsage>, started: Instant, complete: bool) {
        if let Some(told) = self.told.take() {
            told(Finished { usage, took: started.elapsed(), complete });
        }
    }
}

impl Record {
    pub(super) fn new(
        shared: &Arc<Shared>,
        model: &str,
        call: &Call<'_>,
        request: Bytes,
        wanted: bool,
        watch: Watch,
    ) -> Self {
        Self {
            shared: Arc::clone(shared),
            // Answers that are written here name it.
            model: if wanted
                || shared.operation == Operation::Embeddings
                || shared.provider.translates(shared.format, shared.operation)
            {
                model.into()
            } else {
                Box::default()
            },
            id: String::new(),
            kept: call.kept.clone(),
            stream: call.stream,
            action: (&*call.action).into(),
            wanted,
            started: Instant::now(),
            answered: None,
            first_chunk: None,
            took: None,
            request,
            answer: None,
            traced: None,
            seen: Seen::default(),
            watch,
        }
    }

    /// Who answers.
    pub(super) fn provider(&self) -> &dyn Provider {
        &*self.shared.provider
    }

    /// What the client speaks.
    pub(super) fn format(&self) -> Format {
        self.shared.format
    }

    /// Whether answers have to be translated.
    pub(super) fn translates(&self) -> bool {
        self.shared.provider.translates(self.shared.format, self.shared.operation)
    }

    /// An error answer in the client's format; `None` where it can only be passed on as it is.
    pub(super) fn error(&self, status: u16, body: &[u8]) -> Option<Vec<u8>> {
        self.shared.provider.error(status, body, self.shared.format)
    }

    /// What is asked.
    pub(super) fn asked(&self) -> Asked<'_> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let (format, operation, model) = (self.shared.format, self.shared.operation, &*self.model);
        Asked {
            format,
            operation,
            model,
            id: &self.id,
            created: now.as_secs(),
            kept: &self.kept,
            action: &self.action,
        }
    }

    /// Has a trace of the request tell of the call, whose body the client wrote so.
    pub(super) fn trace(&mut self, exchange: &Exchange, client_body: &[u8]) {
        self.traced = exchange.trace.as_ref().map(|_| Traced::new(&self.shared, client_body));
    }

    /// Does something for the trace, where one is to tell of the call.
    fn traced(&mut self, act: impl FnOnce(&mut Traced, &Shared, &Asked<'_>)) {
        if let Some(mut traced) = self.traced.take() {
            act(&mut traced, &self.shared, &self.asked());
            self.traced = Some(traced);
        }
    }

    /// Whether anybody is to know what the call used.
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// Whether the text of a streamed answer is logged.
    pub(super) fn wants_text(&self) -> bool {
        self.shared.payloads
    }

    /// The head of a good answer is there.
    pub(super) fn answered(&mut self, exchange: &Exchange) {
        self.answered = exchange.facts.answered;
        if self.translates() {
            self.id = exchange.request_id.to_string();
        }
        if !exchange.trace.as_ref().is_some_and(|trace| trace.is_sampled()) {
            self.traced = None;
        }
        if self.stream {
            self.traced(Traced::streams);
        }
    }

    /// A piece of a good answer that is streamed is there.
    pub(super) fn take_chunk(&mut self, chunk: &Bytes) {
        self.first_chunk.get_or_insert_with(Instant::now);
        if let Some(traced) = &mut self.traced {
            traced.chunk(chunk);
        }
    }

    /// Checks a whole answer, takes in what it says, and gives it as the client is to get it.
    ///
    /// # Errors
    /// Why it cannot be passed on.
    pub(super) fn read_answer(&mut self, answer: &Bytes) -> Result<Bytes, String> {
        let mut seen = self.wanted.then(Seen::default);
        let translated = self.shared.provider.answer(answer, &self.asked(), seen.as_mut())?;
        self.seen = seen.unwrap_or_default();
        self.traced(|traced, shared, asked| traced.whole(shared, asked, answer));
        let answer = translated.map_or_else(|| answer.clone(), Bytes::from);
        if self.shared.payloads {
            self.answer = Some(answer.clone());
        }
        Ok(answer)
    }

    /// Whether a streamed answer can be made a whole one.
    pub(super) fn collects(&self) -> bool {
        self.shared.operation == Operation::Chat
    }

    /// Makes a streamed answer, there to its end, a whole one, which nobody asked to be streamed; takes in what it says.
    /// Where it is an error, its status stands beside it.
    pub(super) fn collect(&mut self, came: Bytes) -> (Bytes, Option<u16>) {
        self.traced(Traced::streams);
        if let Some(traced) = &mut self.traced {
            traced.chunk(&came);
        }
        let wishes = StreamWishes { shape: Shape::Whole, ..StreamWishes::default() };
        let mut stream = self.shared.provider.stream(&self.asked(), wishes);
        let collected = [stream.chunk(came), stream.end()].concat();
        self.seen = stream.take_seen();
        let answer = Bytes::from(collected);
        if self.shared.payloads {
            self.answer = Some(answer.clone());
        }
        (answer, self.seen.failed)
    }

    /// The call has failed, and another may take its place: the log keeps that it was tried.
    pub(super) fn failed(&mut self, exchange: &mut Exchange) {
        if self.shared.statistics {
            self.note_tries(exchange);
        }
        if let Some(traced) = self.traced.take() {
            self.leave_span(traced, exchange, Instant::now(), None);
        }
    }

    /// Leaves the span of the call in the trace.
    fn leave_span(&self, traced: Traced, exchange: &mut Exchange, ended: Instant, usage: Option<&Usage>) {
        let facts = &exchange.facts;
        let status = || {
            let of_try = facts.tries.last().and_then(|attempt| attempt.failure);
            facts.upstream_status.or(of_try).unwrap_or(facts.status)
        };
        let over = Over {
            started: self.started,
            ended,
            sent: &self.request,
            model: &self.model,
            answered_by: self.seen.model.as_deref(),
            usage,
            failure: if self.answered.is_none() { Some(status()) } else { self.seen.failed },
        };
        traced.leave(exchange, &self.shared, &over);
    }

    /// Tells what the call used, and writes the section. Runs once, also when the client has gone; `complete` is
    /// whether the answer came to its end.
    pub(super) fn write(&mut self, exchange: &mut Exchange, complete: bool) {
        if self.wanted && (exchange.facts.source != Source::Exit || self.answered.is_some()) {
            self.tell(exchange);
        }
        let usage = exchange.facts.llm_usage.as_ref().filter(|_| self.wanted);
        self.watch.tell(usage, self.started, complete && self.answered.is_some());
    }

    fn tell(&mut self, exchange: &mut Exchange) {
        let traced = self.traced.take();
        let milliseconds = |from: Instant, to: Instant| to.saturating_duration_since(from).as_millis() as u64;
        let end = if self.stream { Instant::now() } else { self.answered.unwrap_or_else(Instant::now) };
        let took = self.took.unwrap_or_else(|| end.saturating_duration_since(self.started));
        let latency = took.as_millis() as u64;
        let usage = match self.answered {
            Some(_) => self.seen.tokens(&self.request, self.stream),
            None => Usage::default(),
        };
        let answered = self.seen.model.as_deref().unwrap_or(&self.model);
        let models = [answered, &self.model];
        let cost = price::cost(&self.shared.prices, self.shared.provider.name(), models, &usage);
        exchange.facts.llm_usage = self.answered.map(|_| LlmUsage {
            provider: self.shared.provider.name(),
            model: self.model.clone(),
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            total_tokens: usage.total_tokens,
            cost,
        });
        if let Some(traced) = traced {
            self.leave_span(traced, exchange, end, self.answered.map(|_| &usage));
        }
        if !self.shared.statistics {
            return;
        }
        let per_token =
            if usage.completion_tokens == 0 { 0.0 } else { latency as f64 / usage.completion_tokens as f64 };
        let first = self.first_chunk.or(self.answered).unwrap_or(end);
        let mut proxy = json!({
            "meta": {
                "plugin_id": self.shared.plugin_id,
                "provider_name": self.shared.provider.name(),
                "request_model": named(&self.model),
                "response_model": named(answered),
                "llm_latency": latency,
                "request_mode": self.mode(),
            },
            "usage": {
                "prompt_tokens": usage.prompt_tokens,
                "completion_tokens": usage.completion_tokens,
                "total_tokens": usage.total_tokens,
                "prompt_tokens_details": usage.prompt_tokens_details,
                "completion_tokens_details": usage.completion_tokens_details,
                "time_per_token": per_token,
                "time_to_first_token": milliseconds(self.started, first),
                "cost": cost,
            },
        });
        if self.shared.operation.is_of_media() {
            proxy["usage"]["input_tokens"] = usage.prompt_tokens.into();
            proxy["usage"]["output_tokens"] = usage.completion_tokens.into();
            proxy["usage"]["input_tokens_details"] = usage.prompt_tokens_details.clone().into();
            proxy["usage"]["output_tokens_details"] = usage.completion_tokens_details.clone().into();
        }
        if let Some(azure) = &self.shared.azure {
            azure.write(&mut proxy["meta"], exchange);
        }
        if self.shared.payloads {
            let response = self.answer.as_deref().map_or_else(|| self.composed(&usage), text);
            proxy["payload"] = json!({"request": text(&self.request), "response": response});
        }
        self.note_tries(exchange);
        if let (Value::Object(proxy), Some(Value::Object(section))) = (proxy, section(exchange)) {
            section.extend(proxy);
        }
    }

    fn mode(&self) -> &'static str {
        match self.stream {
            _ if self.shared.operation == Operation::Realtime => "realtime",
            true => "stream",
            false => "oneshot",
        }
    }

    /// Adds the attempts of this call to those in the log. The query is left out: a provider's key may stand in it.
    fn note_tries(&mut self, exchange: &mut Exchange) {
        let destination = exchange.destination.as_deref();
        let host = destination.and_then(|destination| match &destination.host {
            Host::One(peer) => match &peer.host {
                PeerHost::Address(ip) => Some(ip.to_string()),
                PeerHost::Name(name) => Some(name.to_string()),
            },
            Host::Upstream(_) => None,
        });
        let path = exchange.upstream_uri().split(|byte| *byte == b'?').next().unwrap_or_default();
        let describe = |attempt: &tollgate_gateway::exchange::Try| {
            json!({
                "provider": self.shared.provider.name(),
                "model": self.model,
                "route_type": self.shared.operation.name(),
                "host": host,
                "ip": attempt.ip.to_string(),
                "port": attempt.port,
                "upstream_scheme": if destination.is_some_and(|to| to.tls.is_some()) { "https" } else { "http" },
                "upstream_uri": text(path),
            })
        };
        let tries: Vec<Value> = exchange.facts.tries.iter().skip(self.watch.noted).map(describe).collect();
        self.watch.noted = exchange.facts.tries.len();
        let Some(section) = section(exchange) else { return };
        match section["tried_targets"].as_array_mut() {
            Some(earlier) => earlier.extend(tries),
            None => section["tried_targets"] = tries.into(),
        }
    }

    /// A streamed answer as a whole one, as Kong logs it.
    fn composed(&self, usage: &Usage) -> Value {
        if self.answered.is_none() || self.shared.operation == Operation::Realtime {
            return Value::Null;
        }
        let answer = json!({
            "object": "chat.completion",
            "choices": [{
                "index": 0,
                "logprobs": null,
                "finish_reason": self.seen.finish_reason,
                "message": {"role": "assistant", "content": self.seen.text.kept},
            }],
            "usage": {
                "prompt_tokens": usage.prompt_tokens,
                "completion_tokens": usage.completion_tokens,
                "total_tokens": usage.total_tokens,
            },
        });
        answer.to_string().into()
    }
}
