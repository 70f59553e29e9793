//! The answer's side: streamed answers are watched on their way, plain ones checked before they go out.

use std::io::{Read, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use tollgate_gateway::exchange::Source;
use tollgate_gateway::{Exchange, ResponseFilter};
use tollgate_http::{Body, Response, StatusCode};
use tollgate_llm::openai;
use tollgate_llm::sse::Watch;

use super::log::Record;
use super::refuse;

/// Largest plain answer that is taken in.
const LARGEST_ANSWER: usize = 64 * 1024 * 1024;

fn is_provider_success(exchange: &Exchange, response: &Response) -> bool {
    exchange.facts.source == Source::Upstream && response.status == StatusCode::OK
}

/// A plain answer.
pub(super) struct Plain {
    record: Record,
    model_header: Option<String>,
    gzip: bool,
}

impl Plain {
    pub(super) fn new(record: Record, model_header: Option<String>, gzip: bool) -> Self {
        Self { record, model_header, gzip }
    }

    /// The body as the client is to get it.
    fn encode(&self, response: &mut Response, body: Bytes) {
        response.headers.remove("Content-Encoding");
        let encoded = if self.gzip { gzip(&body) } else { None };
        match encoded {
            Some(encoded) => {
                response.headers.set("Content-Encoding", "gzip");
                response.body = Body::Full(encoded.into());
            }
            None => response.body = Body::from(body),
        }
    }
}

fn gzip(body: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 2), Compression::fast());
    encoder.write_all(body).ok()?;
    encoder.finish().ok()
}

/// The body without its encoding; itself where it has none or cannot be decoded.
fn decoded(response: &Response, body: &Bytes) -> Bytes {
    if response.headers.get("content-encoding").is_none_or(|value| !value.eq_ignore_ascii_case(b"gzip")) {
        return body.clone();
    }
    let mut plain = Vec::new();
    match GzDecoder::new(&body[..]).take(LARGEST_ANSWER as u64).read_to_end(&mut plain) {
        Ok(_) => plain.into(),
        Err(_) => body.clone(),
    }
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
        let Body::Full(body) = &response.body else { return };
        let body = decoded(response, &body.clone());
        if !is_provider_success(exchange, response) {
            return self.encode(response, body);
        }
        self.record.answered(exchange);
        if let Some(model) = &self.model_header {
            response.headers.set("X-Kong-LLM-Model", model);
        }
        response.headers.remove("Set-Cookie");
        match openai::check_answer(&body, self.record.operation()) {
            Ok(answer) => {
                self.record.seen.take(&answer);
                self.record.answer(&body);
                self.encode(response, body);
            }
            Err(message) => {
                let error = refuse(StatusCode::INTERNAL_SERVER_ERROR, &message);
                response.status = error.status;
                response.headers.remove("Content-Encoding");
                response.body = error.body;
            }
        }
    }

    fn finish(&mut self, exchange: &mut Exchange, _: bool) {
        self.record.write(exchange);
    }
}

/// A streamed answer.
pub(super) struct Streamed {
    record: Record,
    model_header: Option<String>,
    hide_usage: bool,
    watch: Option<Watch>,
}

impl Streamed {
    pub(super) fn new(record: Record, model_header: Option<String>, hide_usage: bool) -> Self {
        Self { record, model_header, hide_usage, watch: None }
    }
}

impl ResponseFilter for Streamed {
    fn keeps_length(&self) -> bool {
        self.watch.is_none()
    }

    fn head(&mut self, exchange: &mut Exchange, response: &mut Response) {
        if !is_provider_success(exchange, response) {
            return;
        }
        self.record.answered(exchange);
        if let Some(model) = &self.model_header {
            response.headers.set("X-Kong-LLM-Model", model);
        }
        response.headers.remove("Set-Cookie");
        let is_stream = response
            .headers
            .get_str("content-type")
            .is_some_and(|kind| kind.starts_with("text/event-stream"));
        response.headers.set("Content-Type", "text/event-stream");
        if is_stream && !response.headers.contains("content-encoding") && self.record.is_wanted() {
            self.watch = Some(Watch::new(self.hide_usage));
        }
    }

    fn chunk(&mut self, exchange: &mut Exchange, chunk: Bytes) -> Bytes {
        self.record.first_chunk(exchange);
        match &mut self.watch {
            Some(watch) => {
                self.record.answer(&chunk);
                watch.chunk(chunk)
            }
            None => chunk,
        }
    }

    fn end(&mut self, _: &mut Exchange) -> Bytes {
        self.watch.as_mut().map(Watch::end).unwrap_or_default()
    }

    fn finish(&mut self, exchange: &mut Exchange, _: bool) {
        if let Some(watch) = &self.watch {
            self.record.seen = watch.seen().clone();
        }
        self.record.write(exchange);
    }
}
