//! What a trace tells of a call: a span `kong.gen_ai`, with the attributes of OpenTelemetry's conventions for
//! generative AI, in one table.

use std::time::Instant;

use bytes::Bytes;
use serde_json::{Map, Value};
use tollgate_gateway::Exchange;
use tollgate_gateway::trace::{Attribute, Span};
use tollgate_llm::gen_ai::{self, Told, Wanted};
use tollgate_llm::provider::{Asked, Shape, Stream, StreamWishes};
use tollgate_llm::usage::Usage;
use tollgate_llm::{Format, Operation};

use super::Shared;

/// The name of its span, and of those of the tools that it calls (Kong 3.13).
const NAME: &str = "kong.gen_ai";

/// All that is known of a call that is over.
struct Facts<'a> {
    operation: &'static str,
    provider: &'a str,
    model: &'a str,
    wanted: Wanted,
    told: Told,
    usage: Option<&'a Usage>,
    /// The status of the answer, where the call has failed.
    failure: Option<u16>,
    /// Whether what was said is told.
    payloads: bool,
    input: Option<Value>,
}

type Row = (&'static str, fn(&mut Facts<'_>) -> Option<Attribute>);

/// Attributes, and where each is from.
const ATTRIBUTES: &[Row] = &[
    ("gen_ai.operation.name", |call| Some(text(call.operation))),
    ("gen_ai.provider.name", |call| Some(text(call.provider))),
    ("gen_ai.request.model", |call| Some(text(call.model)).filter(|_| !call.model.is_empty())),
    ("gen_ai.request.max_tokens", |call| call.wanted.max_tokens.map(Attribute::Count)),
    ("gen_ai.request.temperature", |call| call.wanted.temperature.map(Attribute::Number)),
    ("gen_ai.output.type", |call| call.wanted.output_type.map(text)),
    ("gen_ai.response.id", |call| call.told.id.take().map(Attribute::Text)),
    ("gen_ai.response.model", |call| call.told.model.take().map(Attribute::Text)),
    ("gen_ai.response.finish_reasons", |call| {
        let reasons = std::mem::take(&mut call.told.finish_reasons);
        (!reasons.is_empty()).then_some(Attribute::Texts(reasons))
    }),
    ("gen_ai.usage.input_tokens", |call| call.usage.map(|usage| Attribute::Count(usage.prompt_tokens))),
    ("gen_ai.usage.output_tokens", |call| call.usage.map(|usage| Attribute::Count(usage.completion_tokens))),
    ("gen_ai.usage.cache_read.input_tokens", |call| {
        call.usage.map(Usage::cached_tokens).filter(|count| *count > 0).map(Attribute::Count)
    }),
    ("gen_ai.input.messages", |call| call.input.take().map(|messages| Attribute::Text(messages.to_string()))),
    ("gen_ai.output.messages", |call| {
        let messages = std::mem::take(&mut call.told.messages);
        let is_told = call.payloads && !messages.is_empty();
        is_told.then(|| Attribute::Text(Value::Array(messages).to_string()))
    }),
    ("error.type", |call| call.failure.map(|status| Attribute::Text(status.to_string()))),
];

fn text(value: &str) -> Attribute {
    Attribute::Text(value.to_owned())
}

/// A call that a trace is to tell of.
pub(super) struct Traced {
    /// The client's body, where what was said is told.
    client_body: Option<Bytes>,
    /// The answer in OpenAI's format, as far as it is there.
    answer: Answer,
}

enum Answer {
    Missing,
    Whole(Vec<u8>),
    /// A stream is collected beside, as one that nobody asked for would be; with what it has come to.
    Streamed(Box<dyn Stream>, Vec<u8>),
}

/// The same question, asked in OpenAI's format.
fn in_openai<'a>(asked: &Asked<'a>, kept: &'a Map<String, Value>) -> Asked<'a> {
    Asked { format: Format::OpenAi, kept, ..*asked }
}

impl Traced {
    /// Of a request whose body the client wrote so.
    pub(super) fn new(shared: &Shared, client_body: &[u8]) -> Self {
        let client_body = shared.payloads.then(|| Bytes::copy_from_slice(client_body));
        Self { client_body, answer: Answer::Missing }
    }

    /// Takes in a whole answer of the provider's.
    pub(super) fn whole(&mut self, shared: &Shared, asked: &Asked<'_>, answer: &[u8]) {
        let kept = Map::new();
        // What passes is OpenAI's, or of no interest.
        let translated = match asked.operation.passes() {
            true => None,
            false => shared.provider.answer(answer, &in_openai(asked, &kept), None).unwrap_or_default(),
        };
        self.answer = Answer::Whole(translated.unwrap_or_else(|| answer.to_vec()));
    }

    /// A streamed answer begins.
    pub(super) fn streams(&mut self, shared: &Shared, asked: &Asked<'_>) {
        if asked.operation == Operation::Chat {
            let kept = Map::new();
            let wishes = StreamWishes { shape: Shape::Whole, ..StreamWishes::default() };
            let stream = shared.provider.stream(&in_openai(asked, &kept), wishes);
            self.answer = Answer::Streamed(stream, Vec::new());
        }
    }

    /// Takes in a piece of a streamed answer.
    pub(super) fn chunk(&mut self, chunk: &Bytes) {
        if let Answer::Streamed(stream, collected) = &mut self.answer {
            collected.extend_from_slice(&stream.chunk(chunk.clone()));
        }
    }

    /// Leaves the call's span, now that it is over.
    pub(super) fn leave(self, exchange: &mut Exchange, shared: &Shared, over: &Over<'_>) {
        let Some(operation) = gen_ai::operation_name(shared.operation) else { return };
        let Some(trace) = exchange.trace.as_mut().filter(|trace| trace.is_sampled()) else { return };
        let mut told = match self.answer {
            Answer::Missing => Told::default(),
            Answer::Whole(answer) => Told::of(&answer),
            Answer::Streamed(mut stream, mut collected) => {
                collected.extend_from_slice(&stream.end());
                Told::of(&collected)
            }
        };
        told.model = told.model.or_else(|| over.answered_by.map(str::to_owned));
        let calls = std::mem::take(&mut told.calls);
        let mut facts = Facts {
            operation,
            provider: shared.provider.name(),
            model: over.model,
            wanted: Wanted::of(over.sent, shared.operation),
            told,
            usage: over.usage,
            failure: over.failure,
            payloads: shared.payloads,
            input: self.client_body.and_then(|body| gen_ai::input_messages(shared.format, &body)),
        };
        let attributes = ATTRIBUTES.iter().filter_map(|(name, of)| Some((*name, of(&mut facts)?))).collect();
        let tool = |call: gen_ai::ToolCall| Span {
            attributes: vec![
                ("gen_ai.operation.name", text("execute_tool")),
                ("gen_ai.tool.call.id", Attribute::Text(call.id)),
                ("gen_ai.tool.name", Attribute::Text(call.name)),
                ("gen_ai.tool.type", text("function")),
            ],
            ended: over.ended,
            ..Span::ended_now(NAME, over.ended)
        };
        trace.spans.push(Span {
            asks_another: true,
            ended: over.ended,
            attributes,
            failed: over.failure.is_some(),
            parts: calls.into_iter().map(tool).collect(),
            ..Span::ended_now(NAME, over.started)
        });
    }
}

/// How a call was, now that it is over.
pub(super) struct Over<'a> {
    pub(super) started: Instant,
    pub(super) ended: Instant,
    /// The body sent.
    pub(super) sent: &'a [u8],
    /// The model asked.
    pub(super) model: &'a str,
    /// The model that answered, as far as it is known.
    pub(super) answered_by: Option<&'a str>,
    pub(super) usage: Option<&'a Usage>,
    /// The status of the answer, where the call has failed.
    pub(super) failure: Option<u16>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attribute_is_documented() {
        let page = include_str!("../../../../../docs/tracing.md");
        for (name, _) in ATTRIBUTES {
            assert!(page.contains(&format!("\n| `{name}` |")), "{name}");
        }
    }
}
