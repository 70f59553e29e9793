//! Taking in the client's body.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value, json};
use tollgate_gateway::{Access, Exchange, Outcome};
use tollgate_http::{Body, Response};

use crate::body::{Form, Parsed, Part};

/// Which bodies are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ai) enum Reads {
    /// JSON.
    Json,
    /// JSON, and forms as JSON.
    Forms,
    /// All, as they are.
    AsIs,
    /// JSON, and parts as they are.
    Parts,
    /// None.
    None,
}

/// Bodies of parts hold files: up to this size they are read whatever is configured, in bytes.
const LARGEST_PARTS: usize = 64 * 1024 * 1024;

impl Reads {
    /// What is read for targets that read these: of several kinds, forms before parts before JSON alone.
    pub(in crate::ai) fn of_all(all: &[Reads]) -> Self {
        let kinds = [Self::Forms, Self::Parts, Self::Json];
        kinds.into_iter().find(|kind| all.contains(kind)).unwrap_or(Self::None)
    }

    /// Of which form a body is, where it is of one that is read.
    fn form(self, exchange: &Exchange) -> Option<Form> {
        if self == Self::AsIs {
            return Some(Form::Json);
        }
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

    /// Largest body of a form that is read, where `limit` is configured.
    fn limit(form: &Form, limit: usize) -> usize {
        if matches!(form, Form::Multipart(_)) { limit.max(LARGEST_PARTS) } else { limit }
    }
}

/// Largest body that is read, in bytes, of what is configured (`max_request_body_size`).
pub(in crate::ai) fn body_limit(configured: Option<u64>) -> usize {
    match configured {
        None | Some(0) => usize::MAX,
        Some(limit) => limit as usize,
    }
}

/// Decides about a request with its body as JSON text, of parts, or as it is; `None` stands for one that is not read,
/// cannot be, or is too large. What `decide` gives is the answer of a request that is not sent on.
pub(in crate::ai) fn with_body<'a>(
    exchange: &'a mut Exchange,
    reads: Reads,
    limit: usize,
    decide: impl FnOnce(&mut Exchange, Option<Bytes>) -> Option<Response> + Send + 'a,
) -> Access<'a> {
    let form = reads.form(exchange);
    let limit = form.as_ref().map_or(limit, |form| Reads::limit(form, limit));
    // Nearly always the body has come along with the head: nothing needs to be waited for.
    let at_hand = match (&form, &exchange.body) {
        (None, _) => None,
        (Some(_), Body::Stream(_)) => {
            return Access::wait(async move {
                let bytes = exchange.buffer_body(limit).await.ok();
                decide(exchange, as_text(form, bytes)).map_or(Outcome::Continue, Outcome::Answer)
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

/// The body as [`with_body`] gives it, where there is something else to wait for.
pub(in crate::ai) async fn take_body(exchange: &mut Exchange, reads: Reads, limit: usize) -> Option<Bytes> {
    let form = reads.form(exchange)?;
    let limit = Reads::limit(&form, limit);
    let bytes = exchange.buffer_body(limit).await.ok();
    as_text(Some(form), bytes)
}

/// A body of parts as the JSON in which OpenAI takes the same edit of a picture: files become data URLs. `None` for
/// any other body.
pub(super) fn parts_as_json(exchange: &Exchange, body: Option<&[u8]>) -> Option<Vec<u8>> {
    let form = exchange.head.headers.get_str("content-type").and_then(Form::of)?;
    // Nothing else is read for it: it would be for nothing.
    let form @ Form::Multipart(_) = form else { return None };
    let Parsed::Multipart(_, parts) = Parsed::read(form, body?)? else { return None };
    let mut written = Map::new();
    let mut images = Vec::new();
    for part in parts {
        let url = |part: &Part| {
            let kind = part.field("content-type").unwrap_or("image/png");
            json!({"image_url": format!("data:{kind};base64,{}", STANDARD.encode(&part.content))})
        };
        match &*part.name {
            "image" | "image[]" => images.push(url(&part)),
            "mask" => drop(written.insert("mask".to_owned(), url(&part))),
            name => {
                written.insert(name.to_owned(), String::from_utf8_lossy(&part.content).into());
            }
        }
    }
    written.insert("images".to_owned(), images.into());
    Some(Value::Object(written).to_string().into_bytes())
}

fn as_text(form: Option<Form>, body: Option<Bytes>) -> Option<Bytes> {
    match form? {
        Form::Json | Form::Multipart(_) => body,
        form => Some(Parsed::read(form, &body?)?.to_json().to_string().into()),
    }
}
