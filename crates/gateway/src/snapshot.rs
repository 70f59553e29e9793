//! The compiled configuration: immutable, shared by all workers, swapped as a whole.

use std::collections::HashMap;
use std::sync::Arc;

use imbl::Vector;
use tollgate_http::StatusCode;
use tollgate_http::client::Timeouts;
use tollgate_model::{Map, Value};
use uuid::Uuid;

use crate::balancer::Balancer;
use crate::chain::Chain;
use crate::compile::Parts;
use crate::consumers::Consumers;
use crate::destination::Destination;
use crate::path::PathHandling;
pub use crate::protocol::Protocols;
use crate::router::Router;
use crate::secrets::SecretNames;

/// Id of the workspace `default` (Kong 3.11: fixed in DB-less mode).
pub const DEFAULT_WORKSPACE: Uuid = Uuid::from_u128(0x0dc6_f45b_8f8d_40d2_a504_4735_44ee_190b);

/// One revision of the configuration, compiled. What a change leaves as it was is shared with the revision before.
#[derive(Clone)]
pub struct Snapshot {
    /// Number of the revision.
    pub revision: u64,
    /// Finds the route of a request.
    pub router: Router,
    /// Routes, as the router numbers them; a number may have none.
    pub routes: Vector<Option<Arc<Route>>>,
    /// Plugins that run in the response and log phases of requests which matched no route.
    pub unmatched: Arc<Chain>,
    /// Consumers and credentials of all workspaces.
    pub consumers: Consumers,
    /// Certificates by server name.
    pub certificates: Arc<Vec<ServedCertificate>>,
    /// Upstreams by workspace and name.
    pub upstreams: Arc<BalancersByName>,
    /// Under which names requests carry secrets.
    pub secret_names: Arc<SecretNames>,
    /// Names of the workspaces.
    pub workspaces: Arc<HashMap<Uuid, Box<str>>>,
    /// What the next revision is made of.
    pub(crate) parts: Arc<Parts>,
}

/// Upstreams by workspace and name.
pub type BalancersByName = HashMap<(Uuid, Box<str>), Arc<Balancer>>;

impl Snapshot {
    /// The enabled plugin entities.
    pub fn plugins(&self) -> impl Iterator<Item = &Map<String, Value>> {
        self.parts.plugins()
    }
}

impl Default for Snapshot {
    /// Nothing but the default workspace.
    fn default() -> Self {
        Self {
            revision: 0,
            router: Router::default(),
            routes: Vector::new(),
            unmatched: Arc::default(),
            consumers: Consumers::default(),
            certificates: Arc::default(),
            upstreams: Arc::default(),
            secret_names: Arc::default(),
            workspaces: Arc::new(HashMap::from([(DEFAULT_WORKSPACE, Box::from("default"))])),
            parts: Arc::default(),
        }
    }
}

/// A certificate and the names it is served for.
#[derive(Clone)]
pub struct ServedCertificate {
    /// Server names; `*.x` and `x.*` are wildcards.
    pub names: Vec<Box<str>>,
    /// Pairs of certificate chain and key, in PEM; RSA and ECDSA may stand side by side.
    pub pairs: Vec<(Arc<str>, tollgate_model::Secret)>,
}

/// A route, compiled.
#[derive(Clone)]
pub struct Route {
    /// The id.
    pub id: Uuid,
    /// The name.
    pub name: Option<Arc<str>>,
    /// Workspace it belongs to.
    pub workspace: Uuid,
    /// Protocols it serves.
    pub protocols: Protocols,
    /// What a plain request to an https-only route is answered with.
    pub https_redirect_status_code: StatusCode,
    /// Whether the matched prefix is taken off the path.
    pub strip_path: bool,
    /// How service path and request path are joined.
    pub path_handling: PathHandling,
    /// Whether the client's `Host` goes on.
    pub preserve_host: bool,
    /// Whether a body is read, within a bound, before it goes on.
    pub request_buffering: bool,
    /// The service; a route without one can only be answered by a plugin.
    pub service: Option<Arc<Service>>,
    /// Its plugins.
    pub chain: Arc<Chain>,
    /// The entity, as logs show it.
    pub entity: Arc<Map<String, Value>>,
}

/// A service, compiled.
pub struct Service {
    /// The id.
    pub id: Uuid,
    /// The name.
    pub name: Option<Box<str>>,
    /// Path in front of the request's.
    pub path: Option<Box<str>>,
    /// Where requests go.
    pub destination: Arc<Destination>,
    /// Connect, write and read timeouts.
    pub timeouts: Timeouts,
    /// Further tries after the first.
    pub retries: u32,
    /// The entity, as logs show it.
    pub entity: Arc<Map<String, Value>>,
}
