//! Kong's Admin API, the part of Konnect's control-plane API that decK speaks, and the Status API, over the
//! store.

mod answer;
mod config;
mod entities;
mod form;
mod konnect;
mod log_level;
mod node;
mod revisions;
mod status;

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tollgate_declare::{Entity, Invalid, Node};
use tollgate_http::{Body, Connection, Handler, Method, Refusal, Request, RequestHead, Response, StatusCode};
use tollgate_model::{Map, PluginSchemas, Source, Value, json};
use tollgate_store::{DEFAULT_WORKSPACE, Store};
use uuid::Uuid;

use answer::{Answer, Failure};
pub use config::ConfigurationHash;
pub use node::KONG_VERSION;
pub use status::{StatusApi, StatusSource, Unit};

/// Reads DB-less declarations for `POST /config`.
pub trait Declarations: Send + Sync {
    /// Reads and checks a declaration; its entities in an order in which each comes after those it refers to.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    fn read(&self, document: Node) -> Result<Vec<Entity>, Invalid>;

    /// Hash of the declaration that is served.
    fn hash(&self) -> &ConfigurationHash;
}

/// Facts about the node for `GET /`.
#[derive(Debug, Clone, Default)]
pub struct NodeFacts {
    /// The configuration, secrets hidden.
    pub configuration: Map<String, Value>,
    /// The node's id.
    pub node_id: String,
    /// Name and version in `Server`.
    pub product: String,
    /// Tollgate's version.
    pub version: String,
    /// Whether the configuration comes from a declarative file, so that entities cannot be written.
    pub declarative: bool,
    /// Token that callers must show.
    pub token: Option<String>,
    /// Largest body, in bytes.
    pub largest_body: usize,
}

/// The Admin API.
pub struct Admin {
    store: Arc<Store>,
    plugins: Arc<dyn PluginSchemas>,
    declarations: Arc<dyn Declarations>,
    source: Box<dyn Source + Send + Sync>,
    status: Arc<dyn StatusSource>,
    facts: NodeFacts,
}

/// A call, as its parts see it.
struct Call {
    method: Method,
    /// Decoded segments of the path, without the workspace.
    path: Vec<String>,
    query: Vec<(String, Option<String>)>,
    content_type: Option<String>,
    body: Bytes,
    workspace: Uuid,
    /// The path before the workspace's own, for links: empty, `/ws`, or Konnect's.
    base: String,
    /// Whether Konnect's API was called.
    konnect: bool,
}

impl Call {
    fn segments(&self) -> Vec<&str> {
        self.path.iter().map(String::as_str).collect()
    }

    fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(other, _)| other == name).and_then(|(_, value)| value.as_deref())
    }

    fn has_query(&self, name: &str) -> bool {
        self.query.iter().any(|(other, _)| other == name)
    }
}

impl Admin {
    /// The Admin API over a store.
    pub fn new(
        store: Arc<Store>,
        plugins: Arc<dyn PluginSchemas>,
        declarations: Arc<dyn Declarations>,
        source: Box<dyn Source + Send + Sync>,
        status: Arc<dyn StatusSource>,
        facts: NodeFacts,
    ) -> Self {
        Self { store, plugins, declarations, source, status, facts }
    }

    fn answer(&self, head: &RequestHead, body: Bytes) -> Answer {
        if !self.may_call(head) {
            return Err(Failure::message(StatusCode::UNAUTHORIZED, "Invalid RBAC credentials"));
        }
        let mut call = self.open(head, body)?;
        if call.method == Method::HEAD {
            call.method = Method::GET;
        }
        konnect::answer(self, &call)
            .or_else(|| node::answer(self, &call))
            .or_else(|| config::answer(self, &call))
            .or_else(|| log_level::answer(self, &call))
            .or_else(|| revisions::answer(self, &call))
            .unwrap_or_else(|| entities::answer(self, &call))
    }

    fn may_call(&self, head: &RequestHead) -> bool {
        self.facts.token.as_ref().is_none_or(|token| shows_token(head, token))
    }

    /// Metrics are the one answer that is not JSON.
    fn asks_for_metrics(&self, head: &RequestHead) -> bool {
        matches!(head.method, Method::GET | Method::HEAD) && head.path() == b"/metrics" && self.may_call(head)
    }

    fn open(&self, head: &RequestHead, body: Bytes) -> Result<Call, Failure> {
        let decode = tollgate_gateway::query::decode;
        let path: Vec<String> = head
            .path()
            .split(|byte| *byte == b'/')
            .filter(|segment| !segment.is_empty())
            .map(|segment| percent_encoding::percent_decode(segment).decode_utf8_lossy().into_owned())
            .collect();
        let query = head.query().unwrap_or_default();
        let query: Vec<(String, Option<String>)> = query
            .split(|byte| *byte == b'&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| match memchr::memchr(b'=', pair) {
                Some(at) => (decode(&pair[..at]).into_owned(), Some(decode(&pair[at + 1..]).into_owned())),
                None => (decode(pair).into_owned(), None),
            })
            .collect();
        if query.len() > 1000 {
            return Err(Failure::message(StatusCode::BAD_REQUEST, "Too many arguments"));
        }
        let types: Vec<_> = head.headers.get_all("content-type").collect();
        if types.len() > 1 {
            return Err(Failure::message(
                StatusCode::BAD_REQUEST,
                "Multiple Content-Type headers not allowed",
            ));
        }
        let content_type = types.first().map(|value| String::from_utf8_lossy(value).into_owned());
        let mut call = Call {
            method: head.method.clone(),
            path,
            query,
            content_type,
            body,
            workspace: DEFAULT_WORKSPACE,
            base: String::new(),
            konnect: false,
        };
        self.take_workspace(&mut call)?;
        Ok(call)
    }

    /// Takes a workspace's name, or Konnect's control plane, off the front of the path.
    fn take_workspace(&self, call: &mut Call) -> Result<(), Failure> {
        if let ["v2", "control-planes", id, "core-entities", ..] = call.segments()[..] {
            let known = Uuid::parse_str(id).ok();
            let found = match known {
                Some(id) => self.store.read(|view| view.get(tollgate_model::Kind::Workspace, id))?,
                None => None,
            };
            let Some(found) = found else { return Err(Failure::message(StatusCode::NOT_FOUND, "Not found")) };
            call.base = format!("/v2/control-planes/{id}/core-entities");
            call.workspace = found.id;
            call.konnect = true;
            call.path.drain(..4);
            return Ok(());
        }
        let Some(first) = call.path.first() else { return Ok(()) };
        if node::is_reserved(first) || entities::is_collection(first) {
            return Ok(());
        }
        let found =
            self.store.read(|view| view.get_by_name(tollgate_model::Kind::Workspace, Uuid::nil(), first))?;
        if let Some(found) = found {
            call.base = format!("/{first}");
            call.workspace = found.id;
            call.path.remove(0);
        }
        Ok(())
    }
}

/// Whether a request shows the token, compared without telling by time how much of it is right.
fn shows_token(head: &RequestHead, token: &str) -> bool {
    let bearer = head.headers.get_str("authorization").and_then(|value| value.strip_prefix("Bearer "));
    let shown = bearer.or(head.headers.get_str("kong-admin-token")).unwrap_or_default();
    shown.len() == token.len()
        && shown.bytes().zip(token.bytes()).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

impl Handler for Admin {
    async fn handle(&self, mut request: Request) -> Response {
        let started = Instant::now();
        let body = request.body.buffer(self.facts.largest_body).await;
        let head = &request.head;
        let mut response = match body {
            _ if head.method == Method::OPTIONS => answer::into_response(answer::options(head)),
            Ok(_) if self.asks_for_metrics(head) => status::metrics(&*self.status).await,
            Ok(body) => answer::into_response(self.answer(head, body)),
            Err(_) => answer::into_response(Err(Failure::message(
                StatusCode::PAYLOAD_TOO_LARGE,
                "Payload too large",
            ))),
        };
        let headers = &mut response.headers;
        match request.head.headers.get("origin") {
            Some(origin) => headers.set("Access-Control-Allow-Origin", origin),
            None => headers.set("Access-Control-Allow-Origin", "*"),
        }
        headers.set("Access-Control-Allow-Credentials", "true");
        headers.set("X-Kong-Admin-Latency", started.elapsed().as_millis().to_string());
        headers.set("Server", &self.facts.product);
        if request.head.method == Method::HEAD {
            tollgate_gateway::answer::drop_body(&mut response);
        }
        response
    }

    fn refuse(&self, _: Refusal, _: Option<&RequestHead>, _: &Connection) -> Response {
        let mut response = Response::new(StatusCode::BAD_REQUEST);
        response.headers.set("Content-Type", "application/json; charset=utf-8");
        response.body = Body::Full(json!({"message": "Bad request"}).to_string().into());
        response
    }
}
