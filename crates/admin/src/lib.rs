//! Kong's Admin API, the part of Konnect's control-plane API that decK speaks, and the Status API, over the
//! store.

mod absent;
mod answer;
mod certificates;
mod config;
mod endpoint;
mod entities;
mod form;
mod groups;
mod health;
mod json_schema;
mod konnect;
mod list;
mod log_level;
mod names;
mod node;
mod revisions;
mod status;

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tollgate_declare::{Entity, Invalid, Node};
use tollgate_gateway::HeaderTokens;
use tollgate_http::{
    Body, BodyError, Connection, Handler, Method, Refusal, Request, RequestHead, Response, StatusCode,
};
use tollgate_model::{Kind, Map, PluginSchemas, Source, Value, json};
use tollgate_store::{DEFAULT_WORKSPACE, Store};
use uuid::Uuid;

use answer::{Answer, Failure, method_not_allowed, not_found};
pub use config::ConfigurationHash;
use endpoint::Endpoint;
pub use health::Upstreams;
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
#[derive(Clone, Default)]
pub struct NodeFacts {
    /// The configuration, secrets hidden.
    pub configuration: Map<String, Value>,
    /// The node's id.
    pub node_id: String,
    /// Name and version in `Server`.
    pub product: String,
    /// Fields to add to answers.
    pub headers: HeaderTokens,
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
    upstreams: Arc<dyn Upstreams>,
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
    /// Whether the entities of a control plane were called through Konnect's API.
    konnect: bool,
    /// Host and port the caller used.
    host: String,
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

/// Most arguments of a query or form (Kong 3.11).
const MOST_ARGUMENTS: usize = 1000;

/// An id, written as Kong wants it: 8-4-4-4-12 hexadecimal digits.
fn id_of(text: &str) -> Option<Uuid> {
    (text.len() == 36).then(|| Uuid::try_parse(text).ok()).flatten()
}

impl Admin {
    /// The Admin API over a store.
    pub fn new(
        store: Arc<Store>,
        plugins: Arc<dyn PluginSchemas>,
        declarations: Arc<dyn Declarations>,
        source: Box<dyn Source + Send + Sync>,
        status: Arc<dyn StatusSource>,
        upstreams: Arc<dyn Upstreams>,
        facts: NodeFacts,
    ) -> Self {
        Self { store, plugins, declarations, source, status, upstreams, facts }
    }

    fn answer(&self, head: &RequestHead, body: Bytes) -> Answer {
        let mut call = open(head, body)?;
        if call.method == Method::HEAD {
            call.method = Method::GET;
        }
        self.take_workspace(&mut call)?;
        let endpoint = Endpoint::of(&call);
        form::check_content_type(&call, head)?;
        let endpoint = endpoint.ok_or_else(not_found)?;
        if call.method == Method::OPTIONS {
            return answer::options(endpoint.methods(), head);
        }
        if !endpoint.methods().contains(&call.method.as_str()) {
            return Err(method_not_allowed());
        }
        if matches!(
            endpoint,
            Endpoint::Collection(..) | Endpoint::Item(..) | Endpoint::Linked(..) | Endpoint::Groups(_)
        ) {
            form::check_json(&call)?;
        }
        match endpoint {
            Endpoint::Config => config::answer(self, &call).unwrap_or_else(|| Err(not_found())),
            Endpoint::Konnect(konnect) => konnect.answer(self, &call),
            Endpoint::Own(own) => own.answer(self, &call),
            Endpoint::Absent(absent) => absent.answer(&call),
            Endpoint::Collection(kind, above) => self.collection(&call, kind, above),
            Endpoint::Item(kind, key, above) => self.item(&call, kind, key, above),
            Endpoint::Linked(kind, key, link) => self.linked(&call, kind, key, link),
            Endpoint::Groups(groups) => groups.answer(self, &call),
            Endpoint::UpstreamHealth(upstream) => self.upstream_health(&call, upstream),
            Endpoint::AllTargets(upstream) => self.all_targets(&call, upstream),
            Endpoint::TargetHealth { upstream, target, healthy } => {
                self.set_target_health(&call, upstream, target, healthy)
            }
            node => self.about_node(&call, &node),
        }
    }

    /// Metrics are text that takes time to gather.
    fn asks_for_metrics(&self, head: &RequestHead) -> bool {
        let path = head.path();
        let path = path.strip_suffix(b"/").unwrap_or(path);
        matches!(head.method, Method::GET | Method::HEAD) && path == b"/metrics"
    }

    /// Whether the caller may call: it shows the token, or only asks what it may ask (a browser shows none then).
    fn admit(&self, head: &RequestHead) -> Result<(), Failure> {
        match &self.facts.token {
            Some(token) if head.method != Method::OPTIONS && !shows_token(head, token) => {
                let konnect = [&b"/konnect-api/"[..], b"/v2/", b"/v3/"];
                Err(if konnect.iter().any(|start| head.path().starts_with(start)) {
                    konnect::failure(StatusCode::UNAUTHORIZED, "Unauthorized")
                } else {
                    Failure::message(StatusCode::UNAUTHORIZED, "Invalid RBAC credentials")
                })
            }
            _ => Ok(()),
        }
    }

    /// Takes a workspace's name, or Konnect's control plane, off the front of the path.
    fn take_workspace(&self, call: &mut Call) -> Result<(), Failure> {
        if let ["v2", "control-planes", id, "core-entities", ..] = call.segments()[..] {
            let found = match id_of(id) {
                Some(id) => self.store.read(|view| view.get(Kind::Workspace, id))?,
                None => None,
            };
            let found = found.ok_or_else(|| {
                konnect::failure(StatusCode::NOT_FOUND, &format!("there is no control plane '{id}'"))
            })?;
            call.base = format!("/v2/control-planes/{id}/core-entities");
            call.workspace = found.id;
            call.konnect = true;
            call.path.drain(..4);
            return Ok(());
        }
        let Some(first) = call.path.first() else { return Ok(()) };
        if endpoint::is_reserved(first) {
            return Ok(());
        }
        let found = self.store.read(|view| view.get_by_name(Kind::Workspace, Uuid::nil(), first))?;
        if let Some(found) = found {
            call.base = format!("/{}", answer::escape(first));
            call.workspace = found.id;
            call.path.remove(0);
        }
        Ok(())
    }
}

/// Takes a request apart.
fn open(head: &RequestHead, body: Bytes) -> Result<Call, Failure> {
    let decode = tollgate_gateway::query::decode;
    let path: Vec<String> = head
        .path()
        .split(|byte| *byte == b'/')
        .filter(|segment| !segment.is_empty())
        .map(|segment| percent_encoding::percent_decode(segment).decode_utf8_lossy().into_owned())
        .collect();
    let query: Vec<(String, Option<String>)> = head
        .query()
        .unwrap_or_default()
        .split(|byte| *byte == b'&')
        .filter(|pair| !pair.is_empty())
        .take(MOST_ARGUMENTS + 1)
        .map(|pair| match memchr::memchr(b'=', pair) {
            Some(at) => (decode(&pair[..at]).into_owned(), Some(decode(&pair[at + 1..]).into_owned())),
            None => (decode(pair).into_owned(), None),
        })
        .collect();
    if query.len() > MOST_ARGUMENTS {
        return Err(Failure::message(StatusCode::BAD_REQUEST, "Too many arguments"));
    }
    Ok(Call {
        method: head.method.clone(),
        path,
        query,
        content_type: head.headers.get_str("content-type").map(str::to_owned),
        body,
        workspace: DEFAULT_WORKSPACE,
        base: String::new(),
        konnect: false,
        host: head.headers.get_str("host").unwrap_or_default().to_owned(),
    })
}

/// Whether a request shows the token, compared without telling by time how much of it is right.
fn shows_token(head: &RequestHead, token: &str) -> bool {
    let bearer = head.headers.get_str("authorization").and_then(|value| value.strip_prefix("Bearer "));
    let shown = bearer.or(head.headers.get_str("kong-admin-token")).unwrap_or_default();
    shown.len() == token.len()
        && shown.bytes().zip(token.bytes()).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

/// Answers calls to an Admin API. Each is worked on aside, so that one that takes long keeps no other waiting.
pub struct AdminServer(Arc<Admin>);

impl AdminServer {
    /// A server of an API.
    pub fn new(admin: Admin) -> Self {
        Self(Arc::new(admin))
    }

    /// Largest body a call may have (Kong 3.11: 10 MB; but a whole sync may come in one call).
    fn largest_body(&self, head: &RequestHead) -> usize {
        const USUAL: usize = 10 << 20;
        let whole = [&b"/tollgate/transaction"[..], b"/config"];
        let is_whole = whole.iter().any(|path| head.path().ends_with(path));
        if is_whole { self.0.facts.largest_body } else { USUAL.min(self.0.facts.largest_body) }
    }
}

impl Handler for AdminServer {
    async fn handle(&self, mut request: Request) -> Response {
        let started = Instant::now();
        let head_only = request.head.method == Method::HEAD;
        let origin = request.head.headers.get("origin").map(<[u8]>::to_vec);
        let mut response = match self.0.admit(&request.head) {
            Ok(()) if self.0.asks_for_metrics(&request.head) => status::metrics(&*self.0.status).await,
            Ok(()) => {
                answer::into_response(match request.body.buffer(self.largest_body(&request.head)).await {
                    Ok(body) => {
                        let admin = Arc::clone(&self.0);
                        tokio::task::spawn_blocking(move || admin.answer(&request.head, body))
                            .await
                            .unwrap_or_else(|_| Err(answer::unexpected()))
                    }
                    Err(BodyError::TooLarge { .. }) => {
                        Err(Failure::message(StatusCode::PAYLOAD_TOO_LARGE, "Payload too large"))
                    }
                    Err(error) => {
                        let message = format!("the body cannot be read: {error}");
                        Err(Failure::message(StatusCode::BAD_REQUEST, &message))
                    }
                })
            }
            Err(stranger) => answer::into_response(Err(stranger)),
        };
        let headers = &mut response.headers;
        match origin {
            Some(origin) => headers.set("Access-Control-Allow-Origin", origin),
            None => headers.set("Access-Control-Allow-Origin", "*"),
        }
        headers.set("Access-Control-Allow-Credentials", "true");
        let facts = &self.0.facts;
        if facts.headers.admin_latency {
            headers.set("X-Kong-Admin-Latency", started.elapsed().as_millis().to_string());
        }
        if facts.headers.server {
            headers.set("Server", &facts.product);
        }
        if head_only {
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
