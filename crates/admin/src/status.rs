//! The Status API: whether the node is ready, and how it fares.

use std::sync::Arc;

use tollgate_http::{Body, Connection, Handler, Method, Refusal, Request, RequestHead, Response, StatusCode};
use tollgate_model::{Value, json};

use crate::answer::{Failure, into_response, method_not_allowed, not_found, ok};

/// What the node knows about itself.
pub trait StatusSource: Send + Sync {
    /// Body of `GET /status`.
    fn status(&self) -> Value;

    /// Why the node is not ready; `None` where it is.
    fn not_ready(&self) -> Option<String>;

    /// Body of `GET /metrics`.
    fn metrics(&self) -> String;
}

/// The Status API.
pub struct StatusApi {
    source: Arc<dyn StatusSource>,
    product: String,
}

impl StatusApi {
    /// A Status API over a node.
    pub fn new(source: Arc<dyn StatusSource>, product: String) -> Self {
        Self { source, product }
    }
}

impl Handler for StatusApi {
    async fn handle(&self, request: Request) -> Response {
        let path = request.head.path().to_vec();
        let get = matches!(request.head.method, Method::GET | Method::HEAD);
        let mut response = match path.as_slice() {
            _ if !get => into_response(Err(method_not_allowed())),
            b"/status" => into_response(ok(self.source.status())),
            b"/status/ready" => into_response(match self.source.not_ready() {
                None => ok(json!({"message": "ready"})),
                Some(reason) => Err(Failure::message(StatusCode::SERVICE_UNAVAILABLE, &reason)),
            }),
            b"/metrics" => {
                let mut response = Response::new(StatusCode::OK);
                response.headers.set("Content-Type", "text/plain; charset=UTF-8");
                response.body = Body::Full(self.source.metrics().into());
                response
            }
            _ => into_response(Err(not_found())),
        };
        response.headers.set("Server", &self.product);
        response
    }

    fn refuse(&self, _: Refusal, _: Option<&RequestHead>, _: &Connection) -> Response {
        into_response(Err(Failure::message(StatusCode::BAD_REQUEST, "Bad request")))
    }
}
