//! What the gateway itself writes of requests: lines of the access log, and lines of the error log that tell
//! which request they are about.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use tollgate_http::client::{SendError, SendErrorKind};
use tollgate_http::{Connection, Handler, Refusal, Request, RequestHead, Response, Version};
use tollgate_telemetry::access_log::Line;
use tollgate_telemetry::{Level, Sink, error_log, log};

use crate::exchange::Exchange;
use crate::request_id::RequestId;
use crate::secrets::SecretNames;

fn version(version: Version) -> &'static [u8] {
    match version {
        Version::HTTP_2 => b" HTTP/2.0",
        Version::HTTP_10 => b" HTTP/1.0",
        _ => b" HTTP/1.1",
    }
}

fn request_line(head: &RequestHead, target: &[u8], secrets: &SecretNames) -> Vec<u8> {
    [head.method.as_str().as_bytes(), b" ", &secrets.redact(target), version(head.version)].concat()
}

/// Writes the line of an exchange that has ended.
pub(crate) fn access(exchange: &Exchange) {
    let Some(sink) = &exchange.settings.access_log else { return };
    let (head, facts, secrets) = (&exchange.head, &exchange.facts, &exchange.snapshot.secret_names);
    let referer = head.headers.get("referer").map(|value| secrets.redact(value));
    let line = Line {
        client: exchange.client_ip,
        request: &[
            head.method.as_str().as_bytes(),
            b" ",
            &secrets.redact(&exchange.received_target),
            version(head.version),
        ],
        status: facts.status,
        body_bytes: facts.response_size.saturating_sub(facts.response_head_size),
        referer: referer.as_deref(),
        user_agent: head.headers.get("user-agent"),
        request_id: Some(exchange.request_id.as_str()),
    };
    sink.write(line.write());
}

/// Writes the line of what did not become a request.
pub(crate) fn refused(
    sink: &Sink,
    head: Option<&RequestHead>,
    connection: &Connection,
    response: &Response,
    request_id: &RequestId,
    secrets: &SecretNames,
) {
    let line = Line {
        client: connection.peer.ip().to_canonical(),
        request: &[&head.map(|head| request_line(head, &head.target, secrets)).unwrap_or_default()],
        status: response.status.as_u16(),
        body_bytes: response.body.remaining().unwrap_or_default(),
        referer: None,
        user_agent: head.and_then(|head| head.headers.get("user-agent")),
        request_id: Some(request_id.as_str()),
    };
    sink.write(line.write());
}

/// Which request a line of the error log is about, as nginx tells it.
pub struct About<'a>(pub &'a Exchange);

impl fmt::Display for About<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exchange = self.0;
        let line = request_line(&exchange.head, &exchange.received_target, &exchange.snapshot.secret_names);
        write!(f, "client: {}, server: kong, request: \"{}\"", exchange.client_ip, line.escape_ascii())?;
        if let Some(attempt) = exchange.facts.tries.last() {
            let tls = exchange.destination.as_ref().is_some_and(|destination| destination.tls.is_some());
            let path = exchange.upstream_uri().split(|byte| *byte == b'?').next().unwrap_or_default();
            write!(
                f,
                ", upstream: \"{}://{}{}\"",
                if tls { "https" } else { "http" },
                std::net::SocketAddr::new(attempt.ip, attempt.port),
                path.escape_ascii()
            )?;
        }
        let headers = exchange.facts.request_headers.as_ref().unwrap_or(&exchange.head.headers);
        if let Some(host) = headers.get("host") {
            write!(f, ", host: \"{}\"", host.escape_ascii())?;
        }
        write!(f, ", request_id: \"{}\"", exchange.request_id)
    }
}

/// Says why a try failed, in the terms of nginx.
pub(crate) fn try_failed(exchange: &Exchange, error: &SendError) {
    let reason = &error.reason;
    let about = About(exchange);
    match error.kind {
        SendErrorKind::Connect => {
            log!(Error, "connect() failed ({reason}) while connecting to upstream, {about}")
        }
        SendErrorKind::ConnectTimeout => {
            log!(Error, "upstream timed out ({reason}) while connecting to upstream, {about}")
        }
        SendErrorKind::Tls => log!(Error, "TLS failed ({reason}) while SSL handshaking to upstream, {about}"),
        SendErrorKind::WriteTimeout => {
            log!(Error, "upstream timed out ({reason}) while sending request to upstream, {about}");
        }
        SendErrorKind::ReadTimeout => {
            log!(Error, "upstream timed out ({reason}) while reading response header from upstream, {about}");
        }
        SendErrorKind::Closed => log!(
            Error,
            "upstream prematurely closed connection ({reason}) while reading response header from upstream, {about}"
        ),
        SendErrorKind::Malformed => log!(
            Error,
            "upstream sent invalid header ({reason}) while reading response header from upstream, {about}"
        ),
        // The client's doing.
        SendErrorKind::Body
        | SendErrorKind::BodyTooLarge
        | SendErrorKind::BodyTimeout
        | SendErrorKind::InvalidRequest => {
            log!(Info, "the request could not be sent ({reason}), {about}");
        }
    }
}

/// Writes a message about an exchange.
pub(crate) fn about(exchange: &Exchange, level: Level, message: &dyn fmt::Display) {
    if error_log::is_on(level) {
        error_log::write(level, format_args!("{message}, {}", About(exchange)));
    }
}

/// A handler whose requests have lines in an access log of their own: the Admin API, the Status API.
pub struct Logged<H> {
    handler: Arc<H>,
    sink: Option<Arc<Sink>>,
    secrets: SecretNames,
}

impl<H> Logged<H> {
    /// Logs the requests of `handler` to `sink`, where there is one.
    pub fn new(handler: Arc<H>, sink: Option<Arc<Sink>>) -> Self {
        // Keys of consumers are managed under these names.
        let names = ["key", "password", "secret", "token"].map(str::to_owned);
        Self { handler, sink, secrets: SecretNames::new(names.into_iter()) }
    }
}

/// The target without the key that names a credential (`/key-auths/…`).
fn without_credential(target: &[u8]) -> Bytes {
    let end = memchr::memchr(b'?', target).unwrap_or(target.len());
    let (path, rest) = target.split_at(end);
    let mut names_credential = false;
    let segments: Vec<&[u8]> = path
        .split(|byte| *byte == b'/')
        .map(|segment| {
            let is_id = std::str::from_utf8(segment).is_ok_and(|text| uuid::Uuid::parse_str(text).is_ok());
            let shown = if names_credential && !is_id && !segment.is_empty() {
                crate::secrets::REDACTED.as_bytes()
            } else {
                segment
            };
            names_credential = matches!(segment, b"key-auth" | b"key-auths");
            shown
        })
        .collect();
    [&segments.join(&b'/')[..], rest].concat().into()
}

impl<H: Handler> Handler for Logged<H> {
    async fn handle(&self, request: Request) -> Response {
        let Some(sink) = &self.sink else { return self.handler.handle(request).await };
        let client = request.connection.peer.ip().to_canonical();
        let line = request_line(&request.head, &without_credential(&request.head.target), &self.secrets);
        let user_agent = request.head.headers.get("user-agent").map(<[u8]>::to_vec);
        let response = self.handler.handle(request).await;
        let line = Line {
            client,
            request: &[&line],
            status: response.status.as_u16(),
            body_bytes: response.body.remaining().unwrap_or_default(),
            referer: None,
            user_agent: user_agent.as_deref(),
            request_id: None,
        };
        sink.write(line.write());
        response
    }

    fn refuse(&self, refusal: Refusal, head: Option<&RequestHead>, connection: &Connection) -> Response {
        let response = self.handler.refuse(refusal, head, connection);
        if let Some(sink) = &self.sink {
            refused(sink, head, connection, &response, &RequestId::new(), &self.secrets);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_in_admin_paths_are_not_shown() {
        for (target, shown) in [
            ("/consumers/a/key-auth/secret?x=1", "/consumers/a/key-auth/REDACTED?x=1"),
            ("/key-auths/secret/consumer", "/key-auths/REDACTED/consumer"),
            (
                "/key-auths/0dc6f45b-8f8d-40d2-a504-473544ee190b",
                "/key-auths/0dc6f45b-8f8d-40d2-a504-473544ee190b",
            ),
            ("/key-auths/", "/key-auths/"),
            ("/services?tags=a", "/services?tags=a"),
        ] {
            assert_eq!(without_credential(target.as_bytes()), shown.as_bytes());
        }
    }
}
