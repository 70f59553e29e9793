//! Taking in the client's body.

use bytes::Bytes;
use tollgate_gateway::{Access, Exchange, Outcome};
use tollgate_http::{Body, Response};

use crate::body::{Form, Parsed};

/// Which bodies are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ai) enum Reads {
    /// JSON.
    Json,
    /// JSON, and forms as JSON.
    Forms,
    /// JSON, and parts as they are.
    Parts,
    /// None.
    None,
}

/// Bodies of parts hold files: up to this size they are read whatever is configured, in bytes.
const LARGEST_PARTS: usize = 64 * 1024 * 1024;

impl Reads {
    /// Of which form a body is, where it is of one that is read.
    fn form(self, exchange: &Exchange) -> Option<Form> {
        let form = match exchange.head.headers.get_str("content-type") {
            Some(content_type) => Form::of(content_type)?,
            None => Form::Json,
        };
        let is_read = match form {
            Form::Json => self != Self::None,
            Form::UrlEncoded => self == Self::Forms,
            Form::Multipart(_) => self == Self::Parts,
        };
        is_read.then_some(form)
    }
}

/// Largest body that is read, in bytes, of what is configured (`max_request_body_size`).
pub(in crate::ai) fn body_limit(configured: Option<u64>) -> usize {
    match configured {
        None | Some(0) => usize::MAX,
        Some(limit) => limit as usize,
    }
}

/// Decides about a request with its body as JSON text, or of parts; `None` stands for one that is not read, cannot be, or is
/// too large. What `decide` gives is the answer of a request that is not sent on.
pub(in crate::ai) fn with_body<'a>(
    exchange: &'a mut Exchange,
    reads: Reads,
    limit: usize,
    decide: impl FnOnce(&mut Exchange, Option<Bytes>) -> Option<Response> + Send + 'a,
) -> Access<'a> {
    let form = reads.form(exchange);
    let limit = if matches!(form, Some(Form::Multipart(_))) { limit.max(LARGEST_PARTS) } else { limit };
    // Nearly always the body has come along with the head: nothing needs to be waited for.
    let at_hand = match (&form, &exchange.body) {
        (None, _) => None,
        (Some(_), Body::Stream(_)) => {
            return Access::wait(async move {
                let bytes = exchange.buffer_body(limit).await.ok();
                match decide(exchange, as_text(form, bytes)) {
                    None => Outcome::Continue,
                    Some(refusal) => Outcome::Answer(refusal),
                }
            });
        }
        (Some(_), Body::Full(bytes)) => Some(bytes.clone()).filter(|bytes| bytes.len() <= limit),
        (Some(_), Body::Empty) => Some(Bytes::new()),
    };
    match decide(exchange, as_text(form, at_hand)) {
        None => Access::Continue,
        Some(refusal) => Access::Answer(refusal),
    }
}

fn as_text(form: Option<Form>, body: Option<Bytes>) -> Option<Bytes> {
    match form? {
        Form::Json | Form::Multipart(_) => body,
        form => Some(Parsed::read(form, &body?)?.to_json().to_string().into()),
    }
}
