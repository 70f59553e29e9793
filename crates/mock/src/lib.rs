//! A mock LLM that speaks the APIs of OpenAI (and all that are like it), Anthropic, Bedrock, Cohere, DashScope's for
//! pictures, Gemini, Hugging Face's text generation and Ollama, by the path it is asked under: for trying Tollgate without an account, for tests
//! and benches. Every answer says that it is one.
//!
//! What it does can be asked for by request header, or for all requests by [`Options`]:
//!
//! | header | effect |
//! | --- | --- |
//! | `x-mock-latency-ms` | time before the answer |
//! | `x-mock-chunk-delay-ms` | time between events of a stream |
//! | `x-mock-tokens` | length of the answer |
//! | `x-mock-status` | an error of this status, such as 429 or 500 |
//! | `x-mock-malformed` | an answer that is no JSON |
//! | `x-mock-abort-after` | events (of a plain answer: bytes) before the connection breaks |
//! | `x-mock-no-usage` | an answer that does not tell its tokens |
//! | `x-mock-hang` | never answers |
//! | `x-mock-echo` | the answer's text is the request as it was received |

mod anthropic;
mod bedrock;
mod cohere;
mod dashscope;
mod gemini;
mod generation;
mod ollama;
mod openai;
mod operations;
mod reply;

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tollgate_http::client::PoolSettings;
use tollgate_http::server::{Certificates, Limits, Listener, ServerConfig, ServerHandle, self_signed, serve};
use tollgate_http::{
    Body, BodyError, BodyStream, Connection, Handler, Headers, Refusal, Request, RequestHead, Response,
    StatusCode,
};

/// How the mock behaves where a request does not say.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Time before an answer.
    pub latency: Duration,
    /// Time between events of a stream.
    pub chunk_delay: Duration,
    /// Length of answers, in tokens.
    pub tokens: Option<usize>,
    /// Answer with an error of this status.
    pub status: Option<u16>,
    /// Answer with what is no JSON.
    pub malformed: bool,
    /// Break the connection after so many events; of a plain answer, bytes.
    pub abort_after: Option<usize>,
}

/// Starts a mock; it serves until the handle is stopped.
///
/// # Errors
/// An address that cannot be listened on.
pub fn start(address: SocketAddr, options: Options) -> Result<ServerHandle, String> {
    let (certificate, key) = self_signed().map_err(|error| error.to_string())?;
    let certificates = Certificates::new((&certificate, &key), true).map_err(|error| error.to_string())?;
    let config = ServerConfig {
        listeners: vec![Listener::plain(address)],
        workers: 1,
        limits: Limits::default(),
        certificates: Arc::new(certificates),
        pool: PoolSettings::default(),
    };
    serve(config, Arc::new(Mock { options })).map_err(|error| error.to_string())
}

struct Mock {
    options: Options,
}

/// What a request asks of the mock itself.
struct Wishes {
    latency: Duration,
    chunk_delay: Duration,
    tokens: Option<usize>,
    status: Option<u16>,
    malformed: bool,
    abort_after: Option<usize>,
    usage: bool,
    hang: bool,
    echo: bool,
}

impl Wishes {
    fn read(headers: &Headers, options: Options) -> Self {
        let number = |name: &str| headers.get_str(name).and_then(|value| value.trim().parse::<u64>().ok());
        let time = |name: &str, default| number(name).map_or(default, Duration::from_millis);
        Self {
            latency: time("x-mock-latency-ms", options.latency),
            chunk_delay: time("x-mock-chunk-delay-ms", options.chunk_delay),
            tokens: number("x-mock-tokens")
                .map(|count| count as usize)
                .or(options.tokens)
                .map(|count| count.min(100_000)),
            status: number("x-mock-status").and_then(|status| u16::try_from(status).ok()).or(options.status),
            malformed: headers.contains("x-mock-malformed") || options.malformed,
            abort_after: number("x-mock-abort-after").map(|count| count as usize).or(options.abort_after),
            usage: !headers.contains("x-mock-no-usage"),
            hang: headers.contains("x-mock-hang"),
            echo: headers.contains("x-mock-echo"),
        }
    }
}

impl Handler for Mock {
    async fn handle(&self, mut request: Request) -> Response {
        let wishes = Wishes::read(&request.head.headers, self.options);
        if wishes.hang {
            std::future::pending::<()>().await;
        }
        if !wishes.latency.is_zero() {
            tokio::time::sleep(wishes.latency).await;
        }
        let Ok(body) = request.body.buffer(64 * 1024 * 1024).await else {
            return error(StatusCode::BAD_REQUEST, "the body could not be read", "invalid_request_error");
        };
        let path = String::from_utf8_lossy(request.head.path()).into_owned();
        let protocol = Protocol::of(&path);
        if let Some(status) = wishes.status {
            return forced_error(protocol, status);
        }
        let mut response = match protocol {
            Protocol::OpenAi => openai::answer(&request.head, &path, &body, &wishes),
            Protocol::Bedrock => bedrock::answer(&request.head, &path, &body, &wishes),
            Protocol::Gemini => gemini::answer(&request.head, &path, &body, &wishes),
            Protocol::Cohere => cohere::answer(&request.head, &body, &wishes),
            Protocol::DashScope => dashscope::answer(&body),
            Protocol::Generation => generation::answer(&request.head, &path, &body, &wishes),
            Protocol::Ollama => ollama::answer(&request.head, &body, &wishes),
            Protocol::Anthropic => anthropic::answer(&request.head, &path, &body, &wishes),
        };
        if wishes.malformed {
            response.body = Body::Full("{\"this is Tollgate's mock LLM\": and no JSON".into());
        }
        if let Some(bytes) = wishes.abort_after {
            break_off(&mut response, bytes);
        }
        response
    }

    fn refuse(&self, _: Refusal, _: Option<&RequestHead>, _: &Connection) -> Response {
        error(StatusCode::BAD_REQUEST, "the request is malformed", "invalid_request_error")
    }
}

/// Makes a plain answer end early.
fn break_off(response: &mut Response, bytes: usize) {
    let Body::Full(body) = &response.body else { return };
    let start = body.slice(..bytes.min(body.len()));
    let events = if start.is_empty() { Vec::new() } else { vec![start] };
    let abort_after = Some(events.len());
    response.body =
        Body::stream(Events { events: events.into_iter(), delay: Duration::ZERO, pause: None, abort_after });
}

fn labelled(status: StatusCode) -> Response {
    let mut response = Response::new(status);
    response.headers.set("Server", "tollgate-mock-llm");
    response.headers.set("x-mock-llm", "tollgate");
    response
}

fn plain(status: StatusCode, body: &Value) -> Response {
    let mut response = labelled(status);
    response.headers.set("Content-Type", "application/json");
    response.body = Body::Full(body.to_string().into());
    response
}

fn error(status: StatusCode, message: &str, kind: &str) -> Response {
    plain(status, &json!({"error": {"message": message, "type": kind, "param": null, "code": null}}))
}

/// Whose API is asked for.
#[derive(Clone, Copy)]
enum Protocol {
    OpenAi,
    Anthropic,
    Bedrock,
    Gemini,
    Cohere,
    DashScope,
    Generation,
    Ollama,
}

impl Protocol {
    fn of(path: &str) -> Self {
        match path.trim_end_matches('/') {
            path if path.ends_with("/messages") || path.ends_with("/count_tokens") => Self::Anthropic,
            path if bedrock::OPERATIONS.iter().any(|end| path.ends_with(end)) => Self::Bedrock,
            path if gemini::is_it(path) => Self::Gemini,
            path if path.ends_with("/v2/chat") => Self::Cohere,
            path if path.ends_with("/multimodal-generation/generation") => Self::DashScope,
            path if path.ends_with("/api/chat") => Self::Ollama,
            path if generation::is_it(path) => Self::Generation,
            _ => Self::OpenAi,
        }
    }
}

/// An error that was asked for; one of too many requests says when to come back.
fn forced_error(protocol: Protocol, status: u16) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let message = "This error of Tollgate's mock LLM was asked for by x-mock-status.";
    let mut response = match protocol {
        Protocol::OpenAi => openai::error_of(status, message),
        Protocol::Anthropic => anthropic::error_of(status, message),
        Protocol::Bedrock => bedrock::error_of(status, message),
        Protocol::Gemini => gemini::error_of(status, message),
        Protocol::Cohere => cohere::error_of(status, message),
        Protocol::DashScope => dashscope::error_of(status, message),
        Protocol::Generation => generation::error_of(status, message),
        Protocol::Ollama => ollama::error_of(status, message),
    };
    if status == StatusCode::TOO_MANY_REQUESTS {
        response.headers.set("Retry-After", "1");
    }
    response
}

/// A streamed answer of these events.
fn streamed(content_type: &str, events: Vec<Bytes>, wishes: &Wishes) -> Response {
    let mut response = labelled(StatusCode::OK);
    response.headers.set("Content-Type", content_type);
    response.body = Body::stream(Events {
        events: events.into_iter(),
        delay: wishes.chunk_delay,
        pause: None,
        abort_after: wishes.abort_after,
    });
    response
}

/// A streamed answer: its events at their pace.
struct Events {
    events: std::vec::IntoIter<Bytes>,
    delay: Duration,
    pause: Option<std::pin::Pin<Box<tokio::time::Sleep>>>,
    abort_after: Option<usize>,
}

impl BodyStream for Events {
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(context));
            self.pause = None;
        }
        if let Some(left) = &mut self.abort_after {
            match left.checked_sub(1) {
                Some(less) => *left = less,
                None => return Poll::Ready(Some(Err(BodyError::Closed))),
            }
        }
        let event = self.events.next();
        if event.is_some() && !self.delay.is_zero() {
            self.pause = Some(Box::pin(tokio::time::sleep(self.delay)));
        }
        Poll::Ready(event.map(Ok))
    }
}
