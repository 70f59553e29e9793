//! The gateway's own answers, byte for byte as Kong 3.11 gives them.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::Arc;

use tollgate_http::{Body, Headers, Method, Refusal, RequestHead, Response, StatusCode, Version};
use tollgate_model::Value;

use crate::request_id::RequestId;

/// 404: no route matches.
pub const NO_ROUTE: &str = "no Route matched with those values";
/// 503: the route has no service.
pub const NO_SERVICE: &str = "no Service found with those values";
/// 503: no healthy target.
pub const NO_PEER: &str = "failure to get a peer from the ring-balancer";
/// 503: the host's name cannot be resolved.
pub const NO_ADDRESS: &str = "name resolution failed";
/// 426: the route serves only https.
pub const HTTPS_REQUIRED: &str = "Please use HTTPS protocol";
/// 426: the route serves gRPC, which needs HTTP/2.
pub const HTTP2_REQUIRED: &str = "Please use HTTP2 protocol";
/// 415: the route serves gRPC only.
pub const NOT_GRPC: &str = "Non-gRPC request matched gRPC route";
/// The route serves gRPC over TLS only.
pub const GRPCS_REQUIRED: &str = "gRPC request matched gRPCs route";
/// 500: something failed inside.
pub const UNEXPECTED: &str = "An unexpected error occurred";

/// How the gateway's own errors look on this node.
#[derive(Debug, Clone, Default)]
pub struct ErrorSettings {
    /// Type of low-level errors where the request asks for none (`error_default_type`).
    pub default_type: ContentType,
    /// Template of JSON errors (`error_template_json`); `%s` stands for message and request id.
    pub json: Option<Arc<str>>,
    /// Template of HTML errors (`error_template_html`).
    pub html: Option<Arc<str>>,
    /// Template of XML errors (`error_template_xml`).
    pub xml: Option<Arc<str>>,
    /// Template of plain errors (`error_template_plain`).
    pub plain: Option<Arc<str>>,
}

/// Types an error can have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ContentType {
    /// `application/json`
    Json,
    /// `text/html`
    Html,
    /// `application/xml`
    Xml,
    /// `text/plain`
    #[default]
    Plain,
    /// `application/grpc`
    Grpc,
}

impl ContentType {
    /// The type a media type names, parameters left aside; `None` for one that errors do not have.
    pub fn named(media_type: &str) -> Option<Self> {
        let name = media_type.split(';').next().unwrap_or_default().trim();
        let starts = |beginning: &str| {
            name.get(..beginning.len()).is_some_and(|start| start.eq_ignore_ascii_case(beginning))
        };
        let known = [
            ("application/json", Self::Json),
            ("*/*", Self::Json),
            ("application/*", Self::Json),
            ("text/html", Self::Html),
            ("application/xml", Self::Xml),
            ("text/plain", Self::Plain),
            ("text/*", Self::Plain),
        ];
        let found = known.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, kind)| *kind);
        found.or_else(|| starts("application/grpc").then_some(Self::Grpc))
    }

    fn header(self) -> &'static str {
        match self {
            Self::Json => "application/json; charset=utf-8",
            Self::Html => "text/html; charset=utf-8",
            Self::Xml => "application/xml; charset=utf-8",
            Self::Plain => "text/plain; charset=utf-8",
            Self::Grpc => "application/grpc",
        }
    }

    fn template(self) -> &'static str {
        match self {
            Self::Json => "{\n  \"message\":\"%s\",\n  \"request_id\":\"%s\"\n}",
            Self::Html => concat!(
                "<!doctype html>\n<html>\n  <head>\n    <meta charset=\"utf-8\">\n    <title>Error</title>\n  </head>\n",
                "  <body>\n    <h1>Error</h1>\n    <p>%s.</p>\n    <p>request_id: %s</p>\n  </body>\n</html>\n"
            ),
            Self::Xml => concat!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<error>\n  <message>%s</message>\n",
                "  <requestid>%s</requestid>\n</error>\n"
            ),
            Self::Plain => "%s\nrequest_id: %s\n",
            Self::Grpc => "",
        }
    }
}

/// The type an `Accept` list prefers: highest weight, first on ties; unknown types count as JSON.
fn preferred(accept: &str) -> ContentType {
    let mut best = (0.0, ContentType::Json);
    for item in accept.split(',') {
        let is_media_type = item.split(';').next().is_some_and(|name| name.contains('/'));
        let weight = if is_media_type { weight(item) } else { 0.0 };
        if weight > best.0 {
            best = (weight, ContentType::named(item).unwrap_or(ContentType::Json));
        }
    }
    best.1
}

/// The weight of an item of `Accept`: its `q`, from 0 to 1 (RFC 9110 §12.4.2); 1 where it has none.
fn weight(item: &str) -> f32 {
    let parameters = item.split(';').skip(1).filter_map(|parameter| parameter.split_once('='));
    let mut values =
        parameters.filter(|(name, _)| name.trim().eq_ignore_ascii_case("q")).map(|(_, value)| value.trim());
    values.find_map(|value| value.parse().ok()).filter(|weight| (0.0..=1.0).contains(weight)).unwrap_or(1.0)
}

/// Whether a request is gRPC: its errors have no body.
fn is_grpc(head: &RequestHead) -> bool {
    let is = |value: &str| value.starts_with("application/grpc");
    head.version == Version::HTTP_2 && head.headers.get_str("content-type").is_some_and(is)
}

/// An error in the form the client accepts; JSON where it does not say.
pub fn negotiated(
    status: StatusCode,
    message: &str,
    head: &RequestHead,
    id: &RequestId,
    settings: &ErrorSettings,
) -> Response {
    let kind = match head.headers.get_str("accept") {
        _ if is_grpc(head) => ContentType::Grpc,
        Some(accept) => preferred(accept),
        None => ContentType::Json,
    };
    error(status, message, kind, grpc_status(status).1, id, settings)
}

/// An error below the plugins: the type is the `Accept`ed one, else that of the request, else the node's
/// default.
pub fn low_level(
    status: StatusCode,
    message: &str,
    head: Option<&RequestHead>,
    id: &RequestId,
    settings: &ErrorSettings,
) -> Response {
    let kind = match head {
        Some(head) if is_grpc(head) => ContentType::Grpc,
        Some(head) => match (head.headers.get_str("accept"), head.headers.get_str("content-type")) {
            (Some(accept), _) => preferred(accept),
            (None, Some(content_type)) => ContentType::named(content_type).unwrap_or(ContentType::Json),
            (None, None) => settings.default_type,
        },
        None => settings.default_type,
    };
    error(status, message, kind, message, id, settings)
}

fn error(
    status: StatusCode,
    message: &str,
    kind: ContentType,
    grpc_message: &str,
    id: &RequestId,
    settings: &ErrorSettings,
) -> Response {
    let mut response = Response::new(status);
    response.headers.set("Content-Type", kind.header());
    if kind == ContentType::Grpc {
        response.headers.set("grpc-status", itoa::Buffer::new().format(grpc_status(status).0));
        response.headers.set("grpc-message", grpc_message);
        return response;
    }
    let own = match kind {
        ContentType::Json => &settings.json,
        ContentType::Html => &settings.html,
        ContentType::Xml => &settings.xml,
        _ => &settings.plain,
    };
    let template = own.as_deref().unwrap_or(kind.template());
    let mut body = String::with_capacity(template.len() + message.len() + 32);
    let mut fillings = [message, id.as_str()].into_iter();
    for (index, part) in template.split("%s").enumerate() {
        if index > 0 {
            body.push_str(fillings.next().unwrap_or_default());
        }
        body.push_str(part);
    }
    response.body = Body::Full(body.into());
    response
}

/// An answer with a compact JSON body; to a gRPC client, with the body's `message` as `grpc-message` (Kong 3.11).
pub fn exit(status: StatusCode, body: &Value, head: &RequestHead) -> Response {
    if !is_grpc(head) {
        return json(status, body);
    }
    let mut response = Response::new(status);
    response.headers.set("Content-Type", ContentType::Grpc.header());
    response.headers.set("grpc-status", itoa::Buffer::new().format(grpc_status(status).0));
    if let Some(message) = body.get("message").and_then(Value::as_str) {
        response.headers.set("grpc-message", message);
    }
    response
}

/// An answer with a compact JSON body.
pub fn json(status: StatusCode, body: &Value) -> Response {
    let mut response = Response::new(status);
    response.headers.set("Content-Type", "application/json; charset=utf-8");
    response.body = Body::Full(body.to_string().into());
    response
}

/// Takes the body off an answer to HEAD, saying how long it would have been.
pub fn drop_body(response: &mut Response) {
    if let Some(length) = response.body.remaining().filter(|_| !response.headers.contains("content-length")) {
        response.headers.set("Content-Length", itoa::Buffer::new().format(length));
    }
    response.body = Body::Empty;
}

/// The answer to something the server refuses before it is a request.
pub fn refusal(
    refusal: Refusal,
    head: Option<&RequestHead>,
    id: &RequestId,
    settings: &ErrorSettings,
) -> Response {
    let (status, message) = match refusal {
        Refusal::BadRequest | Refusal::PlainOnTls => (StatusCode::BAD_REQUEST, "Bad request"),
        Refusal::HeadersTooLarge => (StatusCode::BAD_REQUEST, "Request header or cookie too large"),
        Refusal::UriTooLong => (StatusCode::URI_TOO_LONG, "URI too long"),
        Refusal::Timeout => (StatusCode::REQUEST_TIMEOUT, "Request timeout"),
        Refusal::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "Payload too large"),
        Refusal::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "Method not allowed"),
        Refusal::NotImplemented => (StatusCode::NOT_IMPLEMENTED, "Not implemented"),
        Refusal::VersionNotSupported => {
            (StatusCode::HTTP_VERSION_NOT_SUPPORTED, "HTTP version not supported")
        }
    };
    let mut response = low_level(status, message, head, id, settings);
    if head.is_some_and(|head| head.method == Method::HEAD) {
        drop_body(&mut response);
    }
    response
}

/// What a status says where nobody gave a message (Kong 3.11).
pub fn default_message(status: StatusCode) -> Cow<'static, str> {
    let message = match status.as_u16() {
        400 => "Bad request",
        401 => "Unauthorized",
        402 => "Payment required",
        403 => "Forbidden",
        404 => "Not found",
        405 => "Method not allowed",
        406 => "Not acceptable",
        407 => "Proxy authentication required",
        408 => "Request timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length required",
        412 => "Precondition failed",
        413 => "Payload too large",
        414 => "URI too long",
        415 => "Unsupported media type",
        416 => "Range not satisfiable",
        417 => "Expectation failed",
        418 => "I'm a teapot",
        421 => "Misdirected request",
        422 => "Unprocessable entity",
        423 => "Locked",
        424 => "Failed dependency",
        425 => "Too early",
        426 => "Upgrade required",
        428 => "Precondition required",
        429 => "Too many requests",
        431 => "Request header fields too large",
        451 => "Unavailable for legal reasons",
        500 => UNEXPECTED,
        501 => "Not implemented",
        502 => "An invalid response was received from the upstream server",
        503 => "The upstream server is currently unavailable",
        504 => "The upstream server is timing out",
        505 => "HTTP version not supported",
        506 => "Variant also negotiates",
        507 => "Insufficient storage",
        508 => "Loop detected",
        510 => "Not extended",
        511 => "Network authentication required",
        other => return Cow::Owned(format!("The upstream server responded with {other}")),
    };
    Cow::Borrowed(message)
}

fn grpc_status(status: StatusCode) -> (u8, &'static str) {
    match status.as_u16() {
        200..=299 => (0, "OK"),
        401 => (16, "Unauthenticated"),
        403 => (7, "PermissionDenied"),
        404 => (5, "NotFound"),
        409 => (6, "AlreadyExists"),
        429 => (8, "ResourceExhausted"),
        499 => (1, "Canceled"),
        501 => (12, "Unimplemented"),
        503 => (14, "Unavailable"),
        504 => (4, "DeadlineExceeded"),
        400..=498 => (3, "InvalidArgument"),
        500..=599 => (13, "Internal"),
        _ => (2, "Unknown"),
    }
}

/// Whether headers already say what the body is.
pub fn has_content_type(headers: &Headers) -> bool {
    headers.contains("content-type")
}
