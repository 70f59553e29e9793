//! The answer's side: streamed answers are watched on their way, plain ones checked before they go out.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use tollgate_gateway::exchange::Source;
use tollgate_gateway::{Exchange, ResponseFilter};
use tollgate_http::{Body, Response, StatusCode};
use tollgate_llm::Format;
use tollgate_llm::provider::{Stream, StreamWishes};

use super::super::{mark_error, refuse};
use super::gunzip::{Gunzip, NotGzip};
use super::log::{Record, Watch};

/// Largest plain answer that is taken in, in bytes, also after gzip is taken off.
pub(in crate::ai) const LARGEST_ANSWER: usize = 64 * 1024 * 1024;

/// What a stream ends with where the rest of it cannot be read.
const BROKEN: &[u8] =
    b"data: {\"error\":{\"message\":\"the provider's answer is not the gzip it says it is\"}}\n\n";

pub(super) fn is_gzip(response: &Response) -> bool {
    response.headers.get("content-encoding").is_some_and(|value| value.eq_ignore_ascii_case(b"gzip"))
}

/// What is said of every good answer of the provider; `false` for any other.
pub(super) fn mark(exchange: &Exchange, response: &mut Response, model: Option<&Arc<str>>) -> bool {
    let good = exchange.facts.source == Source::Upstream && response.status == StatusCode::OK;
    if good {
        name_model(response, model);
    }
    good
}

/// Says who answers, where that is wanted.
pub(super) fn name_model(response: &mut Response, model: Option<&Arc<str>>) {
    if let Some(model) = model {
        response.headers.set("X-Kong-LLM-Model", &**model);
    }
}

/// A plain answer.
pub(super) struct Plain {
    record: Record,
    model: Option<Arc<str>>,
    takes_gzip: bool,
}

impl Plain {
    pub(super) fn new(record: Record, model: Option<Arc<str>>, takes_gzip: bool) -> Self {
        Self { record, model, takes_gzip }
    }

    /// The body as the client is to get it. `encoded` is what came, where that was gzip.
    fn encode(&self, response: &mut Response, plain: Bytes, encoded: Option<Bytes>) {
        let encoded = match self.takes_gzip {
            true => encoded.or_else(|| gzip(&plain)),
            false => None,
        };
        match encoded {
            Some(encoded) => {
                response.headers.set("Content-Encoding", "gzip");
                response.body = Body::Full(encoded);
            }
            None => {
                response.headers.remove("Content-Encoding");
                response.body = Body::from(plain);
            }
        }
    }
}

fn gzip(body: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 2), Compression::fast());
    encoder.write_all(body).ok()?;
    encoder.finish().ok().map(Bytes::from)
}

/// The body without gzip; `None` where it is none, or larger than can be taken in.
fn gunzip(body: &[u8]) -> Option<Bytes> {
    let mut plain = Vec::new();
    let limit = LARGEST_ANSWER as u64 + 1;
    MultiGzDecoder::new(body).take(limit).read_to_end(&mut plain).ok()?;
    (plain.len() <= LARGEST_ANSWER).then(|| plain.into())
}

/// The body of an answer that is there whole, without gzip. What says gzip and is none is given as it is.
pub(in crate::ai) fn plain_body(response: &Response) -> Bytes {
    let Body::Full(came) = &response.body else { return Bytes::new() };
    is_gzip(response).then(|| gunzip(came)).flatten().unwrap_or_else(|| came.clone())
}

impl ResponseFilter for Plain {
    fn wants_whole(&self, _: &Response) -> Option<usize> {
        Some(LARGEST_ANSWER)
    }

    fn keeps_length(&self) -> bool {
        true
    }

    fn head(&mut self, exchange: &mut Exchange, response: &mut Response) {
        if exchange.facts.source != Source::Upstream {
            return;
        }
        let came = match &response.body {
            Body::Full(body) => body.clone(),
            Body::Empty => Bytes::new(),
            Body::Stream(_) => return,
        };
        // What says gzip and is none is passed as it is; as an answer it will not be understood.
        let (plain, encoded) = match is_gzip(response).then(|| gunzip(&came)).flatten() {
            Some(plain) => (plain, Some(came)),
            None => (came, None),
        };
        if !mark(exchange, response, self.model.as_ref()) {
            return match self.record.error(response.status.as_u16(), &plain) {
                Some(error) => {
                    mark_error(self.record.format(), response);
                    response.headers.set("Content-Type", "application/json");
                    self.encode(response, error.into(), None);
                }
                None => self.encode(response, plain, encoded),
            };
        }
        self.record.answered(exchange);
        response.headers.remove("Set-Cookie");
        if self.record.collects() && response.headers.get_str("content-type").is_some_and(is_stream) {
            let (answer, failed) = self.record.collect(plain);
            if let Some(status) = failed {
                response.status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
                mark_error(self.record.format(), response);
            }
            response.headers.set("Content-Type", "application/json");
            return self.encode(response, answer, None);
        }
        match self.record.read_answer(&plain) {
            Ok(answer) if answer.as_ptr() == plain.as_ptr() => self.encode(response, plain, encoded),
            Ok(answer) => {
                response.headers.set("Content-Type", "application/json");
                self.encode(response, answer, None);
            }
            Err(message) => {
                let error = refuse(self.record.format(), StatusCode::INTERNAL_SERVER_ERROR, &message);
                response.status = error.status;
                mark_error(self.record.format(), response);
                if let Body::Full(body) = error.body {
                    self.encode(response, body, None);
                }
            }
        }
    }

    fn failed(&mut self, exchange: &mut Exchange) {
        self.record.failed(exchange);
    }

    fn finish(&mut self, exchange: &mut Exchange, complete: bool) {
        self.record.write(exchange, complete);
    }
}

/// A streamed answer.
pub(super) struct Streamed {
    record: Record,
    model: Option<Arc<str>>,
    hide_usage: bool,
    gunzip: Option<Gunzip>,
    /// Watches the events, where something is to be known of them.
    events: Option<Box<dyn Stream>>,
}

impl Streamed {
    pub(super) fn new(record: Record, model: Option<Arc<str>>, hide_usage: bool) -> Self {
        Self { record, model, hide_usage, gunzip: None, events: None }
    }
}

impl Streamed {
    /// Whether an answer is an error that has to be told in the client's format.
    fn is_error(&self, response: &Response) -> bool {
        self.record.translates() && response.status != StatusCode::OK
    }

    /// Translates an error that is there whole.
    fn tell_error(&self, response: &mut Response) {
        let Body::Full(came) = &response.body else { return };
        let plain = is_gzip(response).then(|| gunzip(came)).flatten();
        let body = plain.as_ref().unwrap_or(came);
        if let Some(error) = self.record.error(response.status.as_u16(), body) {
            mark_error(self.record.format(), response);
            response.headers.remove("Content-Encoding");
            response.headers.set("Content-Type", "application/json");
            response.body = Body::from(Bytes::from(error));
        }
    }
}

impl ResponseFilter for Streamed {
    fn keeps_length(&self) -> bool {
        self.events.is_none() && self.gunzip.is_none()
    }

    fn wants_whole(&self, response: &Response) -> Option<usize> {
        self.is_error(response).then_some(LARGEST_ANSWER)
    }

    fn head(&mut self, exchange: &mut Exchange, response: &mut Response) {
        if exchange.facts.source != Source::Upstream {
            return;
        }
        if self.is_error(response) {
            return self.tell_error(response);
        }
        if is_gzip(response) {
            self.gunzip = Some(Gunzip::new());
            response.headers.remove("Content-Encoding");
        }
        let is_stream = response.headers.get_str("content-type").is_some_and(is_event_stream);
        let is_openai = self.record.format() == Format::OpenAi;
        // Kong 3.11 says so whatever the status is; of what passes in another format the provider's word stands.
        if is_openai || self.record.translates() {
            let kind = self.record.format().stream_type(&self.record.asked());
            response.headers.set("Content-Type", kind);
        }
        if !mark(exchange, response, self.model.as_ref()) {
            return;
        }
        self.record.answered(exchange);
        response.headers.remove("Set-Cookie");
        let provider = self.record.provider();
        let is_followed = (is_stream || !is_openai) && self.record.is_wanted();
        if self.record.translates() || is_followed {
            let wishes = StreamWishes {
                hide_usage: self.hide_usage,
                keep_text: self.record.wants_text(),
                ..StreamWishes::default()
            };
            self.events = Some(provider.stream(&self.record.asked(), wishes));
        }
    }

    fn chunk(&mut self, _: &mut Exchange, chunk: Bytes) -> Bytes {
        let chunk = match self.gunzip.as_mut().map(|gunzip| gunzip.chunk(&chunk)) {
            None => chunk,
            Some(Ok(chunk)) => chunk,
            Some(Err(NotGzip)) if self.record.format() == Format::OpenAi => {
                return Bytes::from_static(BROKEN);
            }
            Some(Err(NotGzip)) => return Bytes::new(),
        };
        match &mut self.events {
            Some(events) if !chunk.is_empty() => {
                self.record.take_chunk(&chunk);
                events.chunk(chunk)
            }
            _ => chunk,
        }
    }

    fn end(&mut self, _: &mut Exchange) -> Bytes {
        self.events.as_mut().map(|events| events.end()).unwrap_or_default()
    }

    fn failed(&mut self, exchange: &mut Exchange) {
        self.record.failed(exchange);
    }

    fn finish(&mut self, exchange: &mut Exchange, complete: bool) {
        if let Some(events) = &mut self.events {
            self.record.seen = events.take_seen();
        }
        self.record.write(exchange, complete);
    }
}

pub(super) fn is_event_stream(content_type: &str) -> bool {
    let name = content_type.split(';').next().unwrap_or_default().trim();
    name.eq_ignore_ascii_case("text/event-stream")
}

/// Whether an answer is streamed, in any of the ways that have a type of their own.
fn is_stream(content_type: &str) -> bool {
    let types = ["application/vnd.amazon.eventstream", "application/x-ndjson"];
    is_event_stream(content_type) || types.iter().any(|name| content_type.starts_with(name))
}

/// An answer that is sent on as it is.
pub(super) struct Preserved {
    model: Option<Arc<str>>,
    takes_gzip: bool,
    gunzip: Option<Gunzip>,
    started: Instant,
    good: bool,
    watch: Watch,
}

impl Preserved {
    pub(super) fn new(model: Option<Arc<str>>, takes_gzip: bool, watch: Watch) -> Self {
        Self { model, takes_gzip, gunzip: None, started: Instant::now(), good: false, watch }
    }
}

impl ResponseFilter for Preserved {
    fn keeps_length(&self) -> bool {
        self.gunzip.is_none()
    }

    fn head(&mut self, exchange: &mut Exchange, response: &mut Response) {
        self.good = mark(exchange, response, self.model.as_ref());
        // The provider was told that gzip is welcome; the client may not think so.
        if !self.takes_gzip && exchange.facts.source == Source::Upstream && is_gzip(response) {
            self.gunzip = Some(Gunzip::new());
            response.headers.remove("Content-Encoding");
        }
    }

    fn chunk(&mut self, _: &mut Exchange, chunk: Bytes) -> Bytes {
        match &mut self.gunzip {
            Some(gunzip) => gunzip.chunk(&chunk).unwrap_or_default(),
            None => chunk,
        }
    }
    fn finish(&mut self, _: &mut Exchange, complete: bool) {
        self.watch.tell(None, self.started, complete && self.good);
    }
}
