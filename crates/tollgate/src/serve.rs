//! Wiring: configuration, store, data plane and Admin API of a running node.

mod declared;
mod servers;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tollgate_admin::{ConfigurationHash, Declarations, NodeFacts};
use tollgate_declare::{Entity, Invalid, Node as Document};
use tollgate_gateway::answer::{ContentType, ErrorSettings};
use tollgate_gateway::compile::{self, CompileError, Compiler, EntitySource};
use tollgate_gateway::forwarded::TrustSettings;
use tollgate_gateway::{Gateway, Settings, Snapshot};
use tollgate_http::client::{Client, TlsProfile};
use tollgate_http::server::{Certificates, self_signed};
use tollgate_llm::price::PriceList;
use tollgate_model::{Kind, Map, Secret, Source, Value};
use tollgate_plugins::Registry;
use tollgate_store::{Change, Observer, Store, StoreError, View};
use tollgate_telemetry::{Sink, log};
use tollgate_vector::Shelf;
use uuid::Uuid;

use crate::conf::{Database, Node};
use crate::logs::Logs;
pub use declared::read_declaration;
use declared::{Declared, in_order};
use servers::Servers;

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
    identity: Identity,
    follow: Arc<Follow>,
    servers: Servers,
}

/// What stays when the configuration changes.
struct Identity {
    node_id: Uuid,
    store: Arc<Store>,
    hash: Arc<ConfigurationHash>,
}

/// The plugins that the node's configuration enables.
fn registry(node: &Node) -> Result<Arc<Registry>, StartError> {
    let registry = Registry::new(&node.plugins)
        .map_err(|unknown| StartError(format!("plugins: there is no plugin '{}'", unknown.join("', '"))))?;
    Ok(Arc::new(match node.database {
        Database::Off => registry.without_store(),
        Database::Sqlite => registry,
    }))
}

/// What tokens of LLMs cost.
fn prices(node: &Node) -> Result<PriceList, StartError> {
    let Some(path) = &node.price_list else { return Ok(PriceList::shipped()) };
    let failed =
        |error: &dyn std::fmt::Display| StartError(format!("ai_price_list: {}: {error}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| failed(&error))?;
    PriceList::with_own(&text).map_err(|error| failed(&error))
}

/// Starts the data plane over the store or the declarative file.
///
/// # Errors
/// What keeps it from starting, with the mend.
pub fn start(node: &Node) -> Result<Running, StartError> {
    let mut logs = Logs::open(node).map_err(StartError)?;
    node.lua.clone().install();
    let registry = registry(node)?;
    let prices = prices(node)?;
    let store = Arc::new(open_store(node)?);
    if node.database == Database::Sqlite {
        Shelf::keep_in(node.prefix.join("vectors.log"));
    }
    let identity = Identity { node_id: Uuid::new_v4(), store, hash: Arc::default() };
    if let Some(declared) = Declared::read(node, &registry)? {
        declared.load(&identity.store, &identity.hash)?;
    }
    let plane = DataPlane::new(node, &identity, &registry, &identity.store, logs.access.take())?;
    let (gateway, certificates) = (Arc::clone(&plane.gateway), Arc::clone(&plane.certificates));
    let follow = Arc::new(Follow(Mutex::new(plane)));
    prices.install();
    identity.store.observe(follow.clone());
    let servers = Servers::start(node, &identity, registry, (&gateway, &certificates), logs, None)?;
    log!(
        Notice,
        "tollgate {} serves revision {} with {} workers",
        env!("CARGO_PKG_VERSION"),
        gateway.snapshot().revision,
        node.workers
    );
    Ok(Running { identity, follow, servers })
}

fn compiler(node: &Node, registry: &Arc<Registry>) -> Result<Compiler, StartError> {
    let compiler = Compiler::new(registry.clone(), node.verify_upstreams);
    let Some((certificate, key)) = &node.client_certificate else { return Ok(compiler) };
    let (certificate, key) = (pem("client_ssl_cert", certificate)?, pem("client_ssl_cert_key", key)?);
    TlsProfile::new(false, &[], Some((&certificate, &key)))
        .map_err(|error| StartError(format!("client_ssl_cert and client_ssl_cert_key: {error}")))?;
    Ok(compiler.with_client_certificate(certificate, Secret::new(key)))
}

fn compile(compiler: &Compiler, view: &View<'_>) -> Result<Snapshot, StoreError> {
    let revision = view.revision()?;
    compiler.compile(revision, &ViewSource(view)).map_err(|error| StoreError::Refused(error.to_string()))
}

impl DataPlane {
    /// A data plane that serves what a store holds.
    fn new(
        node: &Node,
        identity: &Identity,
        registry: &Arc<Registry>,
        store: &Store,
        access_log: Option<Arc<Sink>>,
    ) -> Result<Self, StartError> {
        let compiler = compiler(node, registry)?;
        let snapshot = store.read(|view| compile(&compiler, view))?;
        let certificates = Arc::new(default_certificate(node)?);
        serve_certificates(&certificates, &snapshot).map_err(StartError)?;
        let settings = settings(node, identity.node_id, access_log)?;
        let gateway = Arc::new(Gateway::new(snapshot, Client::new(node.pool), settings));
        Ok(Self { compiler, gateway, certificates })
    }
}

/// How long requests under way may take when the servers change.
const CHANGE_OVER: Duration = Duration::from_secs(60);

impl Running {
    /// Where requests are served, in the order of the listeners.
    pub fn addresses(&self) -> &[std::net::SocketAddr] {
        self.servers.proxy.addresses()
    }

    /// Prints where the node listens, in a form that scripts can read.
    pub fn announce(&self) {
        self.servers.announce();
    }

    /// Takes over another configuration and reads the declarative file again. Where only the file has changed,
    /// the servers stay; else new ones begin to listen before the old ones stop.
    ///
    /// # Errors
    /// What is wrong with it; everything is then as it was.
    pub fn reload(&mut self, before: &Node, node: &Node) -> Result<(), StartError> {
        let prices = prices(node)?;
        node.lua.clone().install();
        self.take_over(before, node).inspect_err(|_| before.lua.clone().install())?;
        prices.install();
        Ok(())
    }

    fn take_over(&mut self, before: &Node, node: &Node) -> Result<(), StartError> {
        if (&before.prefix, before.database) != (&node.prefix, node.database) {
            return Err(StartError("prefix and database cannot change while a node runs; restart it".into()));
        }
        let registry = registry(node)?;
        let declared = Declared::read(node, &registry)?;
        let load = |declared: Option<Declared>| match declared {
            Some(declared) => declared.load(&self.identity.store, &self.identity.hash),
            None => Ok(()),
        };
        // The contents of certificates and templates may have changed behind the same names.
        let files = node.certificate.is_some()
            || node.client_certificate.is_some()
            || node.error_templates.iter().any(Option::is_some);
        if before.values == node.values && !files {
            return load(declared);
        }
        let scratch = declared.as_ref().map(Declared::scratch).transpose()?;
        let store = scratch.as_ref().unwrap_or(&self.identity.store);
        let mut logs = Logs::open(node).map_err(StartError)?;
        let plane = DataPlane::new(node, &self.identity, &registry, store, logs.access.take())?;
        let served = (&plane.gateway, &plane.certificates);
        let servers = Servers::start(node, &self.identity, registry, served, logs, Some(&self.servers))?;
        // Nothing is committed meanwhile: no revision falls between the old plane and the new.
        self.identity.store.hold(|view| {
            if scratch.is_none() && view.revision()? != plane.gateway.snapshot().revision {
                plane.gateway.swap(Arc::new(compile(&plane.compiler, view)?));
            }
            self.follow.replace(plane);
            Ok(())
        })?;
        load(declared)?;
        let old = std::mem::replace(&mut self.servers, servers);
        old.stop_accepting();
        std::thread::spawn(move || old.stop(CHANGE_OVER));
        Ok(())
    }

    /// Stops serving once requests under way have ended, or after the grace time.
    pub fn stop(self, grace: Duration) {
        self.servers.stop(grace);
        log!(Notice, "tollgate has stopped");
        tollgate_plugins::observe::queue::flush_all(FLUSH_AT_MOST);
        tollgate_telemetry::sink::flush_all(FLUSH_AT_MOST);
    }
}

/// Checks the files that the configuration names, as a start would: certificates, templates, the declarative file.
///
/// # Errors
/// What is wrong with them.
pub fn check(node: &Node) -> Result<(), StartError> {
    node.lua.clone().install();
    let registry = registry(node)?;
    let compiler = compiler(node, &registry)?;
    prices(node)?;
    default_certificate(node)?;
    settings(node, Uuid::nil(), None)?;
    if let Some(declared) = Declared::read(node, &registry)? {
        declared.scratch()?.read(|view| compile(&compiler, view).map(drop))?;
    }
    Ok(())
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

/// What is said of a folder of the prefix that cannot be made.
pub fn cannot_make(folder: &Path, error: &std::io::Error) -> String {
    format!(
        "prefix: cannot make {}: {error}; set it (--prefix, TOLLGATE_PREFIX) to a folder of yours",
        folder.display()
    )
}

fn open_store(node: &Node) -> Result<Store, StartError> {
    if node.database == Database::Off {
        return Ok(Store::memory()?);
    }
    let prefix = &node.prefix;
    std::fs::create_dir_all(prefix).map_err(|error| StartError(cannot_make(prefix, &error)))?;
    let path = prefix.join("store.db");
    Store::open(&path).map_err(|error| StartError(format!("{}: {error}", path.display())))
}

fn default_certificate(node: &Node) -> Result<Certificates, StartError> {
    let failed = |error: &dyn std::fmt::Display| StartError(format!("ssl_cert and ssl_cert_key: {error}"));
    let (certificate, key) = match &node.certificate {
        Some((certificate, key)) => (pem("ssl_cert", certificate)?, pem("ssl_cert_key", key)?),
        None => self_signed().map_err(|error| failed(&error))?,
    };
    Certificates::new((&certificate, &key), node.tls12).map_err(|error| failed(&error))
}

/// PEM given as such, or as the path of a file.
fn pem(property: &str, value: &str) -> Result<String, StartError> {
    if value.contains("-----BEGIN") {
        return Ok(value.replace("\\n", "\n"));
    }
    std::fs::read_to_string(Path::new(value)).map_err(|error| {
        // What is no path may be a key in another form, and is not shown.
        let shown =
            if value.starts_with(['/', '.']) && value.len() < 256 { value } else { "neither PEM nor a file" };
        StartError(format!("{property}: {shown}: {error}"))
    })
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
        traces: node.traces,
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

/// What serves requests, and how its configuration is compiled.
struct DataPlane {
    compiler: Compiler,
    gateway: Arc<Gateway>,
    certificates: Arc<Certificates>,
}

/// The data plane as a follower of the store: a revision that does not compile is refused, one that does is
/// served the moment it is durable.
struct Follow(Mutex<DataPlane>);

impl Follow {
    fn replace(&self, plane: DataPlane) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = plane;
    }
}

impl Observer for Follow {
    fn prepare(
        &self,
        revision: u64,
        _: &View<'_>,
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
        let plane = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let previous = plane.gateway.snapshot();
        let snapshot =
            plane.compiler.update(revision, &previous, &changes).map_err(|error| error.to_string())?;
        let (gateway, certificates) = (Arc::clone(&plane.gateway), Arc::clone(&plane.certificates));
        if changes.iter().any(|change| matches!(change.kind, Kind::Certificate | Kind::Sni)) {
            serve_certificates(&certificates, &snapshot)?;
        }
        Ok(Box::new(move || gateway.swap(Arc::new(snapshot))))
    }
}
