//! What the log's `ai` section says of a call (Kong 3.11's names).

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};
use tollgate_gateway::Exchange;
use tollgate_gateway::exchange::Source;
use tollgate_llm::Operation;
use tollgate_llm::usage::Seen;

use super::{Shared, text};

/// Most bytes of an answer that are kept for the log.
const LARGEST_PAYLOAD: usize = 1024 * 1024;

/// One call on its way into the log.
pub(super) struct Record {
    shared: Arc<Shared>,
    model: String,
    stream: bool,
    started: Instant,
    answered: Option<Instant>,
    first_chunk: Option<Instant>,
    request: Option<Value>,
    answer: Vec<u8>,
    pub(super) seen: Seen,
}

impl Record {
    pub(super) fn new(shared: Arc<Shared>, model: String, stream: bool, body: &[u8]) -> Self {
        let request = shared.payloads.then(|| text(body));
        Self {
            shared,
            model,
            stream,
            started: Instant::now(),
            answered: None,
            first_chunk: None,
            request,
            answer: Vec::new(),
            seen: Seen::default(),
        }
    }

    pub(super) fn operation(&self) -> Operation {
        self.shared.operation
    }

    /// Whether anything of the call is logged.
    pub(super) fn is_wanted(&self) -> bool {
        self.shared.statistics
    }

    /// The provider's head is there.
    pub(super) fn answered(&mut self, exchange: &Exchange) {
        self.answered = exchange.facts.answered;
    }

    /// A piece of the answer is there.
    pub(super) fn first_chunk(&mut self, _: &Exchange) {
        if self.first_chunk.is_none() {
            self.first_chunk = Some(Instant::now());
        }
    }

    /// Keeps (a piece of) the answer, where payloads are logged.
    pub(super) fn answer(&mut self, piece: &[u8]) {
        if self.shared.payloads {
            let room = LARGEST_PAYLOAD.saturating_sub(self.answer.len());
            self.answer.extend_from_slice(piece.get(..room.min(piece.len())).unwrap_or_default());
        }
    }

    /// Writes the section. Runs once, also when the client has gone.
    pub(super) fn write(&mut self, exchange: &mut Exchange) {
        if !self.shared.statistics || exchange.facts.source == Source::Exit && self.answered.is_none() {
            return;
        }
        let milliseconds = |from: Instant, to: Instant| to.saturating_duration_since(from).as_millis() as u64;
        let end = if self.stream { Instant::now() } else { self.answered.unwrap_or_else(Instant::now) };
        let latency = milliseconds(self.started, end);
        let usage = self.seen.usage.clone().unwrap_or_default();
        let per_token =
            if usage.completion_tokens == 0 { 0.0 } else { latency as f64 / usage.completion_tokens as f64 };
        let first = self.first_chunk.or(self.answered).unwrap_or(end);
        let mut proxy = json!({
            "meta": {
                "plugin_id": self.shared.plugin_id,
                "provider_name": "openai",
                "request_model": self.model,
                "response_model": self.seen.model.as_deref().unwrap_or(&self.model),
                "llm_latency": latency,
                "request_mode": if self.stream { "stream" } else { "oneshot" },
            },
            "usage": {
                "prompt_tokens": usage.prompt_tokens,
                "completion_tokens": usage.completion_tokens,
                "total_tokens": usage.total_tokens,
                "prompt_tokens_details": usage.prompt_tokens_details,
                "completion_tokens_details": usage.completion_tokens_details,
                "time_per_token": per_token,
                "time_to_first_token": milliseconds(self.started, first),
                "cost": usage.cost(self.shared.input_cost, self.shared.output_cost),
            },
        });
        if self.shared.payloads {
            proxy["payload"] = json!({"request": self.request.take(), "response": text(&self.answer)});
        }
        exchange.facts.ai = Some(json!({"proxy": proxy}));
    }
}
