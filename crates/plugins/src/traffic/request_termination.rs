//! `request-termination`: a fixed answer in place of the upstream's.

use std::sync::Arc;

use serde_json::json;
use tollgate_gateway::{Access, BuildError, Exchange, Outcome, Phases, Plugin, Scope, query};
use tollgate_http::{Body, Response, StatusCode};
use tollgate_model::entity::rules;
use tollgate_model::{Config, Map, PluginSchema, Value};

use crate::body::{Form, Parsed};
use crate::read;

/// Configuration of `request-termination` (Kong 3.11).
#[derive(Debug, Clone, Config)]
pub struct RequestTerminationConfig {
    /// Status to answer with.
    #[config(default = 503, between(100, 599))]
    pub status_code: u16,
    /// Message to answer with, as `{"message": …}`.
    pub message: Option<String>,
    /// `Content-Type` of `body`.
    pub content_type: Option<String>,
    /// Body to answer with, as it is.
    pub body: Option<String>,
    /// Whether the answer shows the request.
    #[config(default = false)]
    pub echo: bool,
    /// Header or query argument that a request must have to be answered; others pass.
    #[config(check = rules::header_name)]
    pub trigger: Option<String>,
}

/// Largest body that an echo shows, in bytes.
const LARGEST_BODY: usize = 1024 * 1024;

/// How the plugin presents itself.
pub fn schema() -> PluginSchema {
    PluginSchema::new("request-termination", 2, RequestTerminationConfig::schema())
        .about("Gives a fixed answer in place of the upstream's.")
        .with_config_check(check_together)
}

fn check_together(config: &Value) -> Result<(), String> {
    let has = |name: &str| config.get(name).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
    if has("message") && (has("content_type") || has("body")) {
        return Err("message cannot be used with content_type or body".into());
    }
    if has("content_type") && !has("body") {
        return Err("content_type requires a body".into());
    }
    if config.get("echo") == Some(&Value::Bool(true)) && (has("content_type") || has("body")) {
        return Err("echo cannot be used with content_type and body".into());
    }
    Ok(())
}

/// Compiles a configured `request-termination`.
///
/// # Errors
/// A configuration that was not checked.
pub fn build(config: &Map<String, Value>, _: &Scope) -> Result<Arc<dyn Plugin>, BuildError> {
    let config: RequestTerminationConfig = read(config)?;
    let status = StatusCode::from_u16(config.status_code)
        .map_err(|error| BuildError { field: "config.status_code".into(), message: error.to_string() })?;
    let message = config.message.or_else(|| default_message(config.status_code).map(str::to_owned));
    Ok(Arc::new(RequestTermination {
        status,
        content: match config.body {
            Some(body) => Content::Body {
                content_type: config.content_type.unwrap_or_else(|| "application/json; charset=utf-8".into()),
                body: body.into(),
            },
            None if config.echo => Content::Echo(message),
            None => message.map_or(Content::Empty, |message| Content::Message(json!({"message": message}))),
        },
        trigger: config.trigger,
    }))
}

/// What a status says where the configuration gives no message; other statuses have no body.
fn default_message(status: u16) -> Option<&'static str> {
    Some(match status {
        401 => "Unauthorized",
        404 => "Not found",
        405 => "Method not allowed",
        500 => "An unexpected error occurred",
        502 => "Bad Gateway",
        503 => "Service unavailable",
        _ => return None,
    })
}

struct RequestTermination {
    status: StatusCode,
    content: Content,
    trigger: Option<String>,
}

enum Content {
    Empty,
    /// An object with a message.
    Message(Value),
    /// A body as it is.
    Body {
        content_type: String,
        body: bytes::Bytes,
    },
    /// The request, and a message.
    Echo(Option<String>),
}

impl Plugin for RequestTermination {
    fn phases(&self) -> Phases {
        Phases::ACCESS
    }

    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Access<'a> {
        if self.trigger.as_ref().is_some_and(|trigger| !has(exchange, trigger)) {
            return Access::Continue;
        }
        let status = self.status;
        let mut response = Response::new(status);
        match &self.content {
            Content::Empty => {}
            Content::Message(message) => response = exchange.exit(status, message),
            Content::Body { content_type, body } => {
                response.headers.set("Content-Type", content_type);
                response.body = Body::from(body.clone());
            }
            Content::Echo(message) => {
                return Access::wait(async move {
                    // A body that cannot be read, or is too large, is left out.
                    let body = exchange.buffer_body(LARGEST_BODY).await.ok();
                    let shown = show(exchange, message.as_deref(), body.as_deref());
                    Outcome::Answer(without_forbidden_body(exchange.exit(status, &shown)))
                });
            }
        }
        Access::Answer(without_forbidden_body(response))
    }
}

/// Some statuses have no body (RFC 9110 §15.3.5, §15.4.5).
fn without_forbidden_body(mut response: Response) -> Response {
    if response.status.is_informational() || matches!(response.status.as_u16(), 204 | 304) {
        response.body = Body::Empty;
        response.headers.remove("Content-Type");
    }
    response
}

/// Whether a header or a query argument of this name is there.
fn has(exchange: &Exchange, name: &str) -> bool {
    let headers = &exchange.head.headers;
    headers.contains(name)
        || name.contains('_') && headers.contains(&name.replace('_', "-"))
        || query::parse(exchange.query.as_deref().unwrap_or_default()).any(|(other, _)| other == name)
}

/// The request as a document.
fn show(exchange: &Exchange, message: Option<&str>, body: Option<&[u8]>) -> Value {
    let headers = &exchange.head.headers;
    let shown_headers = gather(headers.iter().map(|(name, value)| {
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        (name, Value::from(String::from_utf8_lossy(value)))
    }));
    let form = headers.get_str("content-type").and_then(Form::of);
    let parsed_body = form.zip(body).and_then(|(form, body)| Parsed::read(form, body));
    let query = exchange.query.as_deref().unwrap_or_default();
    let arguments = Parsed::read(Form::UrlEncoded, query).map(|arguments| arguments.to_json());
    let mut named = Map::new();
    let mut unnamed = Map::new();
    for (name, text) in &exchange.captures {
        let is_number = name.bytes().all(|byte| byte.is_ascii_digit());
        let into = if is_number { &mut unnamed } else { &mut named };
        into.insert(name.to_string(), Value::from(&**text));
    }
    let host = headers.get_str("host").unwrap_or_default();
    let mut request = json!({
        "scheme": if exchange.connection.tls.is_some() { "https" } else { "http" },
        "host": host_without_port(host),
        "port": exchange.connection.local.port(),
        "headers": shown_headers,
        "query": arguments,
        "method": exchange.head.method.as_str(),
        "path": String::from_utf8_lossy(&exchange.path),
        "uri_captures": {"named": named, "unnamed": unnamed},
    });
    let mut document = json!({
        "kong": {
            "node_id": &*exchange.settings.node_id,
            "worker_pid": std::process::id(),
            "hostname": &*exchange.settings.hostname,
        },
    });
    if let (Some(request), Some(body)) = (request.as_object_mut(), body) {
        request.insert("raw_body".into(), String::from_utf8_lossy(body).into());
        request.extend(parsed_body.map(|body| ("body".to_owned(), body.to_json())));
    }
    if let Some(document) = document.as_object_mut() {
        document.extend(message.map(|message| ("message".to_owned(), message.into())));
        document.insert("request".into(), request);
        if let Some(route) = &exchange.route {
            document.insert("matched_route".into(), Value::Object((*route.entity).clone()));
            if let Some(service) = &route.service {
                document.insert("matched_service".into(), Value::Object((*service.entity).clone()));
            }
        }
    }
    document
}

/// Names with their values; several of one name as a list.
fn gather(pairs: impl Iterator<Item = (String, Value)>) -> Value {
    let mut out = Map::new();
    for (name, value) in pairs {
        match out.get_mut(&name) {
            None => {
                out.insert(name, value);
            }
            Some(Value::Array(list)) => list.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
    Value::Object(out)
}

fn host_without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_exclude_each_other_are_refused() {
        for (config, expected) in [
            (json!({"message": "a", "body": "b"}), Err("message cannot be used with content_type or body")),
            (
                json!({"message": "a", "content_type": "b"}),
                Err("message cannot be used with content_type or body"),
            ),
            (json!({"content_type": "a"}), Err("content_type requires a body")),
            (json!({"echo": true, "body": "a"}), Err("echo cannot be used with content_type and body")),
            (json!({"echo": true, "message": "a"}), Ok(())),
            (json!({"content_type": "a", "body": "b"}), Ok(())),
        ] {
            assert_eq!(check_together(&config), expected.map_err(str::to_owned), "{config}");
        }
    }

    #[test]
    fn repeated_names_become_lists() {
        let pairs = [("a", 1), ("b", 2), ("a", 3), ("a", 4)];
        let gathered = gather(pairs.into_iter().map(|(name, value)| (name.to_owned(), Value::from(value))));
        assert_eq!(gathered, json!({"a": [1, 3, 4], "b": 2}));
    }
}
