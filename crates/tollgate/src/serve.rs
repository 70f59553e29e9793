//! Wiring: configuration, store, data plane and Admin API of a running node.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tollgate_admin::{
    Admin, AdminServer, ConfigurationHash, Declarations, KONG_VERSION, NodeFacts, StatusApi,
};
use tollgate_declare::{Entity, Invalid, Node as Document};
use tollgate_gateway::answer::{ContentType, ErrorSettings};
use tollgate_gateway::compile::{self, CompileError, Compiler, EntitySource};
use tollgate_gateway::forwarded::TrustSettings;
use tollgate_gateway::logging::Logged;
use tollgate_gateway::{Gateway, Settings, Snapshot};
use tollgate_http::client::Client;
use tollgate_http::server::{Certificates, Limits, Listener, ServerConfig, ServerHandle, self_signed, serve};
use tollgate_model::{Kind, Map, Secret, Source, Value};
use tollgate_plugins::Registry;
use tollgate_store::{Author, Change, DEFAULT_WORKSPACE, Observer, Store, StoreError, View};
use tollgate_telemetry::{Sink, log};
use uuid::Uuid;

use crate::conf::{Database, Node};
use crate::logs::Logs;
use crate::node_status::NodeStatus;

/// How long the last lines of the logs may take.
const FLUSH_AT_MOST: Duration = Duration::from_secs(2);

/// Why a node cannot start.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartError(pub String);

impl From<StoreError> for StartError {
    fn from(error: StoreError) -> Self {
        Self(error.to_string())
    }
}

/// The system's clock.
pub struct SystemClock;

impl Source for SystemClock {
    fn now(&self) -> f64 {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0.0, |since| since.as_secs_f64())
    }
}

/// A running node.
pub struct Running {
    /// The data plane's server.
    pub proxy: Arc<ServerHandle>,
    admin: Option<ServerHandle>,
    status: Option<ServerHandle>,
}

/// Starts the data plane over the store or the declarative file.
///
/// # Errors
/// What keeps it from starting, with the mend.
pub fn start(node: &Node) -> Result<Running, StartError> {
    let logs = Logs::open(node).map_err(StartError)?;
    let registry = registry(node).map_err(StartError)?;
    let registry = Arc::new(registry);
    let node_id = Uuid::new_v4();
    let store = Arc::new(open_store(node)?);
    let hash = Arc::new(ConfigurationHash::default());
    if node.database == Database::Off {
        load_file(node, &store, &registry, &hash)?;
    }
    let mut compiler = Compiler::new(registry.clone(), node.verify_upstreams);
    if let Some((certificate, key)) = &node.client_certificate {
        let read = |value: &str| pem(value).map_err(|error| StartError(format!("client_ssl_cert: {error}")));
        compiler = compiler.with_client_certificate(read(certificate)?, Secret::new(read(key)?));
    }
    let snapshot = store.read(|view| {
        let revision = view.revision()?;
        compiler
            .compile(revision, &ViewSource(view), None)
            .map_err(|error| StoreError::Refused(error.to_string()))
    })?;
    let certificates = Arc::new(default_certificate(node)?);
    serve_certificates(&certificates, &snapshot).map_err(StartError)?;
    let gateway =
        Arc::new(Gateway::new(snapshot, Client::new(node.pool), settings(node, node_id, logs.access)?));
    store.observe(Arc::new(Follow {
        compiler,
        gateway: Arc::clone(&gateway),
        certificates: Arc::clone(&certificates),
    }));
    let listen = |property: &str, listeners: &[Listener], workers: usize, limits: Limits| {
        let config = ServerConfig {
            listeners: listeners.to_vec(),
            workers,
            limits,
            certificates: Arc::clone(&certificates),
            pool: node.pool,
        };
        let name = property.to_owned();
        (config, move |error: std::io::Error| StartError(format!("{name}: {error}")))
    };
    let (config, failed) = listen("proxy_listen", &node.proxy, node.workers, node.limits);
    let proxy = Arc::new(serve(config, Arc::clone(&gateway)).map_err(failed)?);
    let status_source = Arc::new(NodeStatus {
        gateway: Arc::clone(&gateway),
        proxy: Arc::clone(&proxy),
        store: Arc::clone(&store),
        registry: Arc::clone(&registry),
        declarative: node.database == Database::Off,
        node_id: node_id.to_string(),
        version: KONG_VERSION,
        hash: Arc::clone(&hash),
    });
    let admin = if node.admin.is_empty() {
        None
    } else {
        let declarations = Arc::new(Reader { registry: Arc::clone(&registry), hash });
        let clock = Box::new(SystemClock);
        let facts = node_facts(node, node_id);
        let (status, upstreams) = (status_source.clone(), status_source.clone());
        let api =
            AdminServer::new(Admin::new(store, registry, declarations, clock, status, upstreams, facts));
        let limits = Limits { body: 0, ..Limits::default() };
        let (config, failed) = listen("admin_listen", &node.admin, 1, limits);
        let api = Logged::new(Arc::new(api), logs.admin_access);
        Some(serve(config, Arc::new(api)).map_err(failed)?)
    };
    let status = if node.status.is_empty() {
        None
    } else {
        let (config, failed) = listen("status_listen", &node.status, 1, Limits::default());
        let api = StatusApi::new(status_source, node.product.clone());
        let api = Logged::new(Arc::new(api), logs.status_access);
        Some(serve(config, Arc::new(api)).map_err(failed)?)
    };
    log!(
        Notice,
        "tollgate {} serves revision {} with {} workers",
        env!("CARGO_PKG_VERSION"),
        gateway.snapshot().revision,
        node.workers
    );
    Ok(Running { proxy, admin, status })
}

/// Reads declarations for `POST /config`.
struct Reader {
    registry: Arc<Registry>,
    hash: Arc<ConfigurationHash>,
}

impl Declarations for Reader {
    fn read(&self, document: Document) -> Result<Vec<Entity>, Invalid> {
        let entities = Invalid::read("", document, &*self.registry, &SystemClock)?;
        Ok(in_order(entities))
    }

    fn hash(&self) -> &ConfigurationHash {
        &self.hash
    }
}

/// Largest body of an Admin API call (Kong 3.11: 10 MB; a whole sync in one call may be larger).
const LARGEST_ADMIN_BODY: usize = 1 << 30;

/// The plugins that the node's configuration enables.
///
/// # Errors
/// Names those there are not.
pub fn registry(node: &Node) -> Result<Registry, String> {
    let registry = Registry::new(&node.plugins)
        .map_err(|unknown| format!("plugins: there is no plugin '{}'", unknown.join("', '")))?;
    Ok(if node.database == Database::Off { registry.without_store() } else { registry })
}

fn node_facts(node: &Node, node_id: Uuid) -> NodeFacts {
    NodeFacts {
        configuration: node.shown.clone(),
        node_id: node_id.to_string(),
        product: node.product.clone(),
        headers: node.headers,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        declarative: node.database == Database::Off,
        token: node.admin_token.clone(),
        largest_body: LARGEST_ADMIN_BODY,
    }
}

fn open_store(node: &Node) -> Result<Store, StartError> {
    if node.database == Database::Off {
        return Ok(Store::memory()?);
    }
    let prefix = &node.prefix;
    std::fs::create_dir_all(prefix)
        .map_err(|error| StartError(format!("prefix: cannot make {}: {error}", prefix.display())))?;
    let path = prefix.join("store.db");
    Store::open(&path).map_err(|error| StartError(format!("{}: {error}", path.display())))
}

/// Loads the declarative configuration into the store.
fn load_file(
    node: &Node,
    store: &Store,
    registry: &Registry,
    hash: &ConfigurationHash,
) -> Result<(), StartError> {
    let (file, text) = match (&node.declarative_config_string, &node.declarative_config) {
        (Some(text), _) => ("declarative_config_string".to_owned(), text.clone()),
        (None, Some(path)) => {
            let text = std::fs::read_to_string(path)
                .map_err(|error| StartError(format!("declarative_config: {}: {error}", path.display())))?;
            (path.display().to_string(), text)
        }
        (None, None) => return Ok(()),
    };
    let entities = read_declaration(&file, &text, registry).map_err(|invalid| {
        let list: Vec<String> = invalid.problems.iter().map(|problem| format!("  {problem}")).collect();
        StartError(format!("error parsing declarative config file {file}:\n{}", list.join("\n")))
    })?;
    store.commit(Author { name: "declarative_config", message: &file }, |transaction| {
        entities
            .into_iter()
            .try_for_each(|entity| transaction.put(entity.kind, DEFAULT_WORKSPACE, entity.fields))
    })?;
    hash.set(&text);
    Ok(())
}

/// Reads and checks a DB-less declaration; its entities in an order in which each comes after those it refers
/// to.
///
/// # Errors
/// Everything that is wrong with it.
pub fn read_declaration(file: &str, text: &str, registry: &Registry) -> Result<Vec<Entity>, Invalid> {
    // `${{ env … }}` counts here too, so that one file serves decK and DB-less mode.
    let text = tollgate_declare::environment::substitute(file, text, &|name| std::env::var(name).ok())
        .map_err(Invalid::malformed)?;
    let document = Document::parse(file, &text).map_err(Invalid::malformed)?;
    Invalid::read(file, document, registry, &SystemClock).map(in_order)
}

/// Entities in an order in which each comes after those it refers to.
fn in_order(mut entities: Vec<Entity>) -> Vec<Entity> {
    entities.sort_by_key(|entity| Kind::ALL.iter().position(|kind| *kind == entity.kind));
    entities
}

fn default_certificate(node: &Node) -> Result<Certificates, StartError> {
    let failed = |error: &dyn std::fmt::Display| StartError(format!("ssl_cert: {error}"));
    let (certificate, key) = match &node.certificate {
        Some((certificate, key)) => {
            (pem(certificate).map_err(|error| failed(&error))?, pem(key).map_err(|error| failed(&error))?)
        }
        None => self_signed().map_err(|error| failed(&error))?,
    };
    Certificates::new((&certificate, &key), node.tls12).map_err(|error| failed(&error))
}

/// PEM given as such, or as the path of a file.
fn pem(value: &str) -> std::io::Result<String> {
    if value.contains("-----BEGIN") {
        Ok(value.replace("\\n", "\n"))
    } else {
        std::fs::read_to_string(Path::new(value))
    }
}

fn settings(node: &Node, node_id: Uuid, access_log: Option<Arc<Sink>>) -> Result<Settings, StartError> {
    let template = |kind: &str, path: &Option<std::path::PathBuf>| {
        let Some(path) = path else { return Ok(None) };
        std::fs::read_to_string(path)
            .map(|text| Some(text.into()))
            .map_err(|error| StartError(format!("error_template_{kind}: {}: {error}", path.display())))
    };
    let [json, html, xml, plain] = &node.error_templates;
    Ok(Settings {
        headers: node.headers,
        upstream_request_id: node.upstream_request_id,
        product: node.product.as_str().into(),
        node_id: node_id.to_string().into(),
        hostname: std::fs::read_to_string("/etc/hostname").unwrap_or_default().trim().into(),
        forwarded: TrustSettings {
            trusted: node.trusted.clone(),
            real_ip_header: node.real_ip_header.clone(),
            recursive: node.real_ip_recursive,
        },
        debug_header: node.debug_header,
        port_maps: node.port_maps.clone(),
        access_log,
        keeps_connections: node.pool.size > 0,
        errors: ErrorSettings {
            default_type: ContentType::named(&node.error_default_type).unwrap_or_default(),
            json: template("json", json)?,
            html: template("html", html)?,
            xml: template("xml", xml)?,
            plain: template("plain", plain)?,
        },
        verify_upstreams: node.verify_upstreams,
    })
}

fn serve_certificates(certificates: &Certificates, snapshot: &Snapshot) -> Result<(), String> {
    let pairs = snapshot.certificates.iter().flat_map(|served| {
        let pairs: Vec<(&str, &str)> =
            served.pairs.iter().map(|(chain, key)| (&**chain, key.expose())).collect();
        served.names.iter().map(move |name| (&**name, pairs.clone()))
    });
    certificates.set(pairs).map_err(|error| format!("certificates: {error}"))
}

/// Entities as the compiler reads them.
struct ViewSource<'a>(&'a View<'a>);

impl EntitySource for ViewSource<'_> {
    fn for_each(
        &self,
        kind: Kind,
        each: &mut dyn FnMut(Uuid, Map<String, Value>) -> Result<(), CompileError>,
    ) -> Result<(), CompileError> {
        struct Failed(CompileError);
        impl From<StoreError> for Failed {
            fn from(error: StoreError) -> Self {
                Self(CompileError::Source(error.to_string()))
            }
        }
        self.0
            .for_each(kind, |stored| each(stored.workspace, stored.fields).map_err(Failed))
            .map_err(|Failed(error)| error)
    }
}

/// The data plane as a follower of the store: a revision that does not compile is refused, one that does is
/// served the moment it is durable.
struct Follow {
    compiler: Compiler,
    gateway: Arc<Gateway>,
    certificates: Arc<Certificates>,
}

impl Observer for Follow {
    fn prepare(
        &self,
        revision: u64,
        view: &View<'_>,
        changes: &[Change],
    ) -> Result<Box<dyn FnOnce() + Send>, String> {
        let changes: Vec<compile::Change<'_>> = changes
            .iter()
            .map(|change| compile::Change {
                kind: change.kind,
                workspace: change.workspace,
                id: change.id,
                after: change.after.as_ref(),
            })
            .collect();
        let previous = self.gateway.snapshot();
        let snapshot = self
            .compiler
            .update(revision, &ViewSource(view), &previous, &changes)
            .map_err(|error| error.to_string())?;
        let (gateway, certificates) = (Arc::clone(&self.gateway), Arc::clone(&self.certificates));
        if changes.iter().any(|change| matches!(change.kind, Kind::Certificate | Kind::Sni)) {
            serve_certificates(&certificates, &snapshot)?;
        }
        Ok(Box::new(move || gateway.swap(Arc::new(snapshot))))
    }
}

impl Running {
    /// Prints where the node listens, in a form that scripts can read.
    pub fn announce(&self, node: &Node) {
        let print = |name: &str, listeners: &[Listener], server: &ServerHandle| {
            for (listener, address) in listeners.iter().zip(server.addresses()) {
                println!("listening: {name}{} {address}", if listener.ssl { "_tls" } else { "" });
            }
        };
        print("proxy", &node.proxy, &self.proxy);
        if let Some(admin) = &self.admin {
            print("admin", &node.admin, admin);
        }
        if let Some(status) = &self.status {
            print("status", &node.status, status);
        }
    }

    /// Stops serving once requests under way have ended, or after the grace time.
    pub fn stop(self, grace: Duration) {
        for server in [self.admin, self.status].into_iter().flatten() {
            server.stop(grace.min(Duration::from_secs(1)));
        }
        // The API and its view of the data plane are gone: ours is the last handle.
        if let Ok(proxy) = Arc::try_unwrap(self.proxy) {
            proxy.stop(grace);
        }
        log!(Notice, "tollgate has stopped");
        tollgate_telemetry::sink::flush_all(FLUSH_AT_MOST);
    }
}
