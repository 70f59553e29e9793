//! `request-transformer`: edits the method, path, header fields, body and query that are sent on.

mod body;
mod config;
mod headers;

use std::sync::Arc;

use bytes::Bytes;
use tollgate_gateway::exchange::Source;
use tollgate_gateway::{Access, BuildError, Exchange, Outcome, Phases, Plugin, Scope, answer};
use tollgate_http::{Method, Response, StatusCode};
use tollgate_model::{Map, Value};
use tollgate_telemetry::Level;

pub use self::config::schema;
use self::config::{Add, Remove, Rename, Replace, RequestTransformerConfig};

use super::arguments::Arguments;
use super::edits::{Edits, Rendered};
use super::template::{self, Template};
use crate::body::Form;
use crate::read;

/// Largest body that is edited, in bytes; larger ones are refused, as they cannot be held in memory.
const LARGEST_BODY: usize = 16 * 1024 * 1024;

/// Compiles a configured `request-transformer`.
///
/// # Errors
/// A template that is not understood.
pub fn build(config: &Map<String, Value>, _: &Scope) -> Result<Arc<dyn Plugin>, BuildError> {
    let RequestTransformerConfig { http_method, remove, rename, replace, add, append } = read(config)?;
    let wrong = |field: &str, message: String| BuildError { field: field.into(), message };
    let Remove { body: remove_body, headers: remove_headers, querystring: remove_query } = remove;
    let Rename { body: rename_body, headers: rename_headers, querystring: rename_query } = rename;
    let Replace { body: replace_body, headers: replace_headers, querystring: replace_query, uri } = replace;
    let Add { body: add_body, headers: add_headers, querystring: add_query } = add;
    let Add { body: append_body, headers: append_headers, querystring: append_query } = append;
    let compile = |lists: [&[String]; 5], target: &str| {
        Edits::new(lists)
            .map_err(|(operation, error)| wrong(&format!("config.{operation}.{target}"), error.to_string()))
    };
    let uri = uri.filter(|uri| !uri.is_empty()).map(|uri| Template::new(&uri)).transpose();
    let method = http_method.map(|method| Method::from_bytes(method.as_bytes())).transpose();
    Ok(Arc::new(RequestTransformer {
        uri: uri.map_err(|error| wrong("config.replace.uri", error.to_string()))?,
        method: method.map_err(|error| wrong("config.http_method", error.to_string()))?,
        headers: compile(
            [&remove_headers, &rename_headers, &replace_headers, &add_headers, &append_headers],
            "headers",
        )?,
        body: compile([&remove_body, &rename_body, &replace_body, &add_body, &append_body], "body")?,
        query: compile(
            [&remove_query, &rename_query, &replace_query, &add_query, &append_query],
            "querystring",
        )?,
    }))
}

struct RequestTransformer {
    uri: Option<Template>,
    method: Option<Method>,
    headers: Edits,
    body: Edits,
    query: Edits,
}

/// What is to be done with one request. All is rendered before anything is changed: templates see the request as it
/// was.
struct Plan<'a> {
    path: Option<Bytes>,
    headers: Rendered<'a>,
    body: Rendered<'a>,
    query: Rendered<'a>,
    /// Kind of the body, where the body matters.
    form: Option<Form>,
    /// Whether the fields of the body are put into the query too.
    body_to_query: bool,
}

impl Plugin for RequestTransformer {
    fn phases(&self) -> Phases {
        Phases::ACCESS
    }

    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Access<'a> {
        let plan = match self.plan(exchange) {
            Ok(plan) => plan,
            Err(error) => return Access::Answer(failure(exchange, &error)),
        };
        if plan.form.is_none() {
            self.apply(exchange, plan, None);
            return Access::Continue;
        }
        Access::wait(async move {
            let body = match exchange.buffer_body(LARGEST_BODY).await {
                Ok(body) => body,
                Err(tollgate_http::BodyError::TooLarge { .. }) => {
                    let status = StatusCode::PAYLOAD_TOO_LARGE;
                    return Outcome::Answer(exchange.error(status, "Request size limit exceeded"));
                }
                Err(_) => return Outcome::Answer(exchange.error(StatusCode::BAD_REQUEST, "Bad request")),
            };
            self.apply(exchange, plan, Some(body));
            Outcome::Continue
        })
    }
}

/// The answer where a template means nothing for the request.
fn failure(exchange: &mut Exchange, error: &PlanError) -> Response {
    exchange.write_error_log(Level::Error, &format_args!("[request-transformer] {error}"));
    exchange.facts.source = Source::Error;
    exchange.error(StatusCode::INTERNAL_SERVER_ERROR, answer::UNEXPECTED)
}

impl RequestTransformer {
    fn plan(&self, exchange: &Exchange) -> Result<Plan<'_>, PlanError> {
        let scope = template::Scope::of(exchange);
        let path = match &self.uri {
            None => None,
            Some(uri) => {
                let path = uri.render(&scope)?;
                if !path.starts_with(b"/") {
                    return Err(PlanError::Path);
                }
                Some(escape(&path))
            }
        };
        let hides_body = matches!(self.method, Some(Method::GET | Method::HEAD | Method::TRACE));
        let content_type = exchange.head.headers.get_str("content-type");
        let form = content_type.filter(|_| hides_body || !self.body.is_empty()).and_then(body::form_within);
        let body_to_query = hides_body && form == Some(Form::UrlEncoded);
        Ok(Plan {
            path,
            headers: self.headers.render(&scope)?,
            body: self.body.render(&scope)?,
            query: self.query.render(&scope)?,
            form: form.filter(|_| body_to_query || !self.body.is_empty()),
            body_to_query,
        })
    }

    fn apply(&self, exchange: &mut Exchange, plan: Plan<'_>, body: Option<Bytes>) {
        if let Some(path) = plan.path {
            exchange.upstream_path = path;
        }
        if let Some(method) = &self.method {
            exchange.head.method = method.clone();
        }
        headers::edit(exchange, &plan.headers);
        let mut query = None;
        if let (Some(form), Some(bytes)) = (plan.form, body) {
            if plan.body_to_query {
                let fields = Arguments::read(&bytes);
                if !fields.is_empty() {
                    let mut arguments = Arguments::read(exchange.query.as_deref().unwrap_or_default());
                    arguments.extend(fields);
                    query = Some(arguments);
                }
            }
            if !self.body.is_empty()
                && let Some(edited) = body::edit(form, &bytes, &plan.body)
            {
                exchange.set_body(edited);
            }
        }
        if !self.query.is_empty() {
            let arguments =
                query.get_or_insert_with(|| Arguments::read(exchange.query.as_deref().unwrap_or_default()));
            arguments.edit(&plan.query);
        }
        if let Some(arguments) = query {
            let written = arguments.write();
            exchange.query = (!written.is_empty()).then(|| written.into());
        }
    }
}

/// Why a request cannot be transformed.
#[derive(Debug, thiserror::Error)]
enum PlanError {
    #[error("failed to render a template: {0}")]
    Template(#[from] template::EvaluationError),
    #[error("the path that replace.uri makes must start with /")]
    Path,
}

/// Percent-encodes what cannot stand in a target.
fn escape(path: &[u8]) -> Bytes {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$&'()*+,/:;=?@[]-_.~%".contains(byte);
    if path.iter().all(allowed) {
        return Bytes::copy_from_slice(path);
    }
    let mut out = Vec::with_capacity(path.len() + 16);
    for byte in path {
        match allowed(byte) {
            true => out.push(*byte),
            false => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
    out.into()
}
