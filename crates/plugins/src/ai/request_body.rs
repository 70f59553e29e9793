//! The request's body as the plugins see it that look into prompts.

use bytes::Bytes;
use tollgate_gateway::{Access, Exchange, Outcome};
use tollgate_http::{Body, Response};

use crate::body::{Form, Parsed};

/// Lets `decide` see the body; what it returns is the answer. `None` stands for a body that breaks off, or is
/// larger than `limit` bytes.
pub(super) fn read<'a>(
    exchange: &'a mut Exchange,
    limit: usize,
    decide: impl FnOnce(&mut Exchange, Option<Bytes>) -> Option<Response> + Send + 'a,
) -> Access<'a> {
    // Nearly always the body has come along with the head: nothing needs to be waited for.
    let at_hand = match &exchange.body {
        Body::Stream(_) => {
            return Access::wait(async move {
                let body = exchange.buffer_body(limit).await.ok();
                decide(exchange, body).map_or(Outcome::Continue, Outcome::Answer)
            });
        }
        Body::Full(body) => Some(body.clone()).filter(|body| body.len() <= limit),
        Body::Empty => Some(Bytes::new()),
    };
    decide(exchange, at_hand).map_or(Access::Continue, Access::Answer)
}

/// A body as JSON, as `ai-proxy` reads it too: JSON, a form's fields, or what does not say what it is. `None` for
/// any other.
pub(super) fn as_json(exchange: &Exchange, body: Bytes) -> Option<Bytes> {
    let form = match exchange.head.headers.get_str("content-type") {
        Some(content_type) => Form::of(content_type)?,
        None => Form::Json,
    };
    match form {
        Form::Json => Some(body),
        Form::UrlEncoded => Some(Parsed::read(form, &body)?.to_json().to_string().into()),
        Form::Multipart(_) => None,
    }
}

/// The limit that `max_request_body_size` sets.
pub(super) fn limit(configured: Option<u64>) -> usize {
    match configured {
        None | Some(0) => usize::MAX,
        Some(limit) => usize::try_from(limit).unwrap_or(usize::MAX),
    }
}
