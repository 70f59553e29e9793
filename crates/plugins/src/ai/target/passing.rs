//! Operations that pass: OpenAI's own, between its clients and those who serve them.

use std::sync::Arc;

use bytes::Bytes;
use tollgate_gateway::exchange::Source;
use tollgate_gateway::{Exchange, ResponseFilter};
use tollgate_http::{Response, StatusCode};
use tollgate_llm::Operation;
use tollgate_llm::json::Object;
use tollgate_llm::passing::{self, Passing};
use tollgate_llm::provider::{Stream, StreamWishes};
use tollgate_llm::request::{Call, Rules};

use super::answer::{is_event_stream, is_gzip, mark, name_model};
use super::gunzip::Gunzip;
use super::log::{Record, Watch};
use super::realtime::Listener;
use super::{Policy, Target, has_gzip, set_argument};
use crate::body::Form;

/// Longest answer of which a copy is kept to read its usage, in bytes.
const LONGEST_READ: usize = 4 * 1024 * 1024;

impl Target {
    /// Checks the model of a request that passes, and gives what is to follow the answer.
    ///
    /// # Errors
    /// What the client is told (status 400).
    pub(super) fn pass(
        &self,
        exchange: &mut Exchange,
        body: Option<&[u8]>,
        rules: &Rules<'_>,
        policy: &Policy,
        watch: Watch,
    ) -> Result<Box<dyn ResponseFilter>, String> {
        let headers = &exchange.head.headers;
        let takes_gzip = headers.get_str("accept-encoding").is_some_and(has_gzip);
        let passing = read(exchange, body, rules)?;
        let model = match rules.operation {
            Operation::Realtime => {
                if rules.want_usage {
                    // What is compressed cannot be read.
                    exchange.head.headers.remove("sec-websocket-extensions");
                }
                model_of_query(exchange, rules)?
            }
            _ => passing.model,
        };
        let sent = passing.body.map(Bytes::from);
        if let Some(sent) = &sent {
            exchange.set_body(sent.clone());
        }
        self.upstream.mark(exchange)?;
        self.authenticate(exchange);
        let header = self.header(exchange, model.as_deref(), policy);
        let call = Call { stream: passing.stream, ..Call::default() };
        let request = sent.or_else(|| body.map(Bytes::copy_from_slice).filter(|_| self.shared.payloads));
        let model = model.unwrap_or_default();
        let mut record =
            Record::new(&self.shared, &model, &call, request.unwrap_or_default(), rules.want_usage, watch);
        record.trace(exchange, body.unwrap_or_default());
        Ok(Box::new(Passed { record, model: header, takes_gzip, gunzip: None, follows: Follows::Nothing }))
    }
}

/// Reads a request that passes.
///
/// # Errors
/// What the client is told (status 400).
pub(super) fn read(exchange: &Exchange, body: Option<&[u8]>, rules: &Rules<'_>) -> Result<Passing, String> {
    let form = exchange.head.headers.get_str("content-type").and_then(Form::of);
    Ok(match (form, body) {
        (Some(Form::Multipart(boundary)), Some(body)) => passing::multipart(body, &boundary, rules)?,
        (_, Some(body)) if !body.is_empty() => passing::json(Object::parse(body), rules)?,
        _ => Passing::default(),
    })
}

/// The path of a request below the operation's.
pub(super) fn below(path: Bytes, operation: Operation, client_path: &str) -> Bytes {
    match passing::rest_of_path(operation, client_path) {
        "" => path,
        rest => [&path, rest.as_bytes()].concat().into(),
    }
}

/// The model that a WebSocket's query names.
pub(super) fn model_in_query(exchange: &Exchange) -> Option<String> {
    tollgate_gateway::query::parse(exchange.query.as_deref().unwrap_or_default())
        .find(|(name, _)| name == "model")
        .and_then(|(_, value)| value.map(|value| value.into_owned()))
        .filter(|model| !model.is_empty())
}

/// The same, which is set where one is configured.
fn model_of_query(exchange: &mut Exchange, rules: &Rules<'_>) -> Result<Option<String>, String> {
    match (rules.model, model_in_query(exchange)) {
        (Some(model), Some(own)) if own != model => Err(format!("cannot use own model - must be: {model}")),
        (Some(model), None) => {
            set_argument(exchange, "model", model, false);
            Ok(Some(model.to_owned()))
        }
        (_, own) => Ok(own),
    }
}

/// An answer that passes as it is, and tells its usage.
struct Passed {
    record: Record,
    model: Option<Arc<str>>,
    takes_gzip: bool,
    gunzip: Option<Gunzip>,
    follows: Follows,
}

/// How an answer is read on its way.
enum Follows {
    Nothing,
    Events(Box<dyn Stream>),
    /// A copy of what has come.
    Whole(Vec<u8>),
    /// What the provider says over a WebSocket.
    Conversation(Listener),
}

impl Passed {
    /// A WebSocket begins.
    fn converse(&mut self, exchange: &Exchange, response: &mut Response) {
        name_model(response, self.model.as_ref());
        self.record.answered(exchange);
        if self.record.is_wanted()
            && let Some(upstream) = response.upgrade.take()
        {
            let listener = Listener::default();
            response.upgrade = Some(listener.listen(upstream));
            self.follows = Follows::Conversation(listener);
        }
    }
}

impl ResponseFilter for Passed {
    fn keeps_length(&self) -> bool {
        self.gunzip.is_none()
    }

    fn head(&mut self, exchange: &mut Exchange, response: &mut Response) {
        let good = mark(exchange, response, self.model.as_ref());
        if exchange.facts.source != Source::Upstream {
            return;
        }
        if response.status == StatusCode::SWITCHING_PROTOCOLS {
            return self.converse(exchange, response);
        }
        // Where the provider sends gzip unasked, or usage is to be read of it.
        if is_gzip(response) && (!self.takes_gzip || good && self.record.is_wanted()) {
            self.gunzip = Some(Gunzip::new());
            response.headers.remove("Content-Encoding");
        }
        if !good {
            return;
        }
        self.record.answered(exchange);
        response.headers.remove("Set-Cookie");
        if !self.record.is_wanted() {
            return;
        }
        let content_type = response.headers.get_str("content-type").unwrap_or_default();
        if is_event_stream(content_type) {
            let wishes = StreamWishes { keep_text: self.record.wants_text(), ..StreamWishes::default() };
            self.follows = Follows::Events(self.record.provider().stream(&self.record.asked(), wishes));
        } else if content_type.starts_with("application/json") {
            self.follows = Follows::Whole(Vec::new());
        }
    }

    fn chunk(&mut self, _: &mut Exchange, chunk: Bytes) -> Bytes {
        let chunk = match &mut self.gunzip {
            Some(gunzip) => gunzip.chunk(&chunk).unwrap_or_default(),
            None => chunk,
        };
        match &mut self.follows {
            Follows::Nothing | Follows::Conversation(_) => chunk,
            Follows::Events(events) => {
                self.record.take_chunk(&chunk);
                events.chunk(chunk)
            }
            Follows::Whole(copy) => {
                copy.extend_from_slice(&chunk);
                if copy.len() > LONGEST_READ {
                    self.follows = Follows::Nothing;
                }
                chunk
            }
        }
    }

    fn end(&mut self, _: &mut Exchange) -> Bytes {
        match std::mem::replace(&mut self.follows, Follows::Nothing) {
            Follows::Nothing => Bytes::new(),
            Follows::Conversation(listener) => {
                self.follows = Follows::Conversation(listener);
                Bytes::new()
            }
            Follows::Events(mut events) => {
                let rest = events.end();
                self.follows = Follows::Events(events);
                rest
            }
            Follows::Whole(copy) => {
                // An answer that cannot be read has passed all the same.
                let _ = self.record.read_answer(&copy.into());
                Bytes::new()
            }
        }
    }

    fn failed(&mut self, exchange: &mut Exchange) {
        self.record.failed(exchange);
    }

    fn finish(&mut self, exchange: &mut Exchange, complete: bool) {
        match &mut self.follows {
            Follows::Events(events) => self.record.seen = events.take_seen(),
            Follows::Conversation(listener) => {
                let (seen, took) = listener.take();
                self.record.seen = seen;
                self.record.took = Some(took);
            }
            Follows::Nothing | Follows::Whole(_) => {}
        }
        self.record.write(exchange, complete);
    }
}
