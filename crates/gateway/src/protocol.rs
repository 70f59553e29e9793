//! What a route demands of the protocol a request came by (Kong 3.11).

use tollgate_http::{Response, StatusCode, Version};

use crate::snapshot::Route;
use crate::{Exchange, answer, forwarded};

/// Protocols a route serves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Protocols {
    /// Plain HTTP.
    pub http: bool,
    /// HTTP over TLS.
    pub https: bool,
    /// gRPC.
    pub grpc: bool,
    /// gRPC over TLS.
    pub grpcs: bool,
}

impl Protocols {
    /// Reads a route's list.
    pub(crate) fn new(names: &[String]) -> Self {
        let has = |name: &str| names.iter().any(|other| other == name);
        Self { http: has("http"), https: has("https"), grpc: has("grpc"), grpcs: has("grpcs") }
    }

    /// Whether requests of HTTP can match at all.
    pub(crate) fn is_served(self) -> bool {
        self.http || self.https || self.grpc || self.grpcs
    }

    /// The answer to a request by another protocol than the route's.
    pub(crate) fn demand(self, route: &Route, exchange: &Exchange) -> Option<Response> {
        let secure = exchange.client_scheme == "https";
        if self.https && !self.http && !secure {
            return Some(demand_https(route, exchange));
        }
        if !self.grpc && !self.grpcs {
            return None;
        }
        let kind = exchange.head.headers.get("content-type").unwrap_or_default();
        if !kind.starts_with(b"application/grpc") {
            return Some(exchange.error(StatusCode::UNSUPPORTED_MEDIA_TYPE, answer::NOT_GRPC));
        }
        if exchange.head.version != Version::HTTP_2 {
            return Some(upgrade(exchange, answer::HTTP2_REQUIRED, "HTTP/2"));
        }
        if !self.grpc && !secure {
            let mut response = Response::new(StatusCode::OK);
            response.headers.set("Content-Type", "application/grpc");
            response.headers.set("grpc-status", "1");
            response.headers.set("grpc-message", answer::GRPCS_REQUIRED);
            return Some(response);
        }
        None
    }
}

fn demand_https(route: &Route, exchange: &Exchange) -> Response {
    let status = route.https_redirect_status_code;
    if status == StatusCode::UPGRADE_REQUIRED {
        return upgrade(exchange, answer::HTTPS_REQUIRED, "TLS/1.2, HTTP/1.1");
    }
    let mut location = b"https://".to_vec();
    location.extend_from_slice(&forwarded::host(exchange));
    location.extend_from_slice(&exchange.received_target);
    let mut response = Response::new(status);
    response.headers.set("Location", location);
    response
}

fn upgrade(exchange: &Exchange, message: &str, protocol: &str) -> Response {
    let mut response = exchange.error(StatusCode::UPGRADE_REQUIRED, message);
    response.headers.set("Upgrade", protocol);
    response.headers.set("Connection", "Upgrade");
    response
}
