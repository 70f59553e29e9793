//! From entities to a snapshot.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tollgate_http::StatusCode;
use tollgate_http::client::{Timeouts, TlsProfile};
use tollgate_model::entity;
use tollgate_model::{Config, Kind, Map, Value};
use uuid::Uuid;

use crate::balancer::{BalancedTarget, Balancer, BalancerSettings};
use crate::chain::{Configured, Plugins};
use crate::consumers::{Consumer, Consumers, Credential};
use crate::destination::{Destination, Host};
use crate::plugin::{BuildError, PluginTypes, Scope};
use crate::router::{RouteRule, Router};
use crate::secrets::SecretNames;
use crate::snapshot::{DEFAULT_WORKSPACE, PluginsById, Route, ServedCertificate, Service, Snapshot};

/// Where entities come from: a view of the store, or a file.
pub trait EntitySource {
    /// Calls `each` with the workspace and the fields of every entity of a kind.
    ///
    /// # Errors
    /// What reading them reports.
    fn for_each(
        &self,
        kind: Kind,
        each: &mut dyn FnMut(Uuid, Map<String, Value>) -> Result<(), CompileError>,
    ) -> Result<(), CompileError>;
}

/// An entity that changed since the previous snapshot.
pub struct Change<'a> {
    /// Its kind.
    pub kind: Kind,
    /// Its workspace.
    pub workspace: Uuid,
    /// Its id.
    pub id: Uuid,
    /// Its fields now; `None` when it was deleted.
    pub after: Option<&'a Map<String, Value>>,
}

/// A configuration cannot be compiled. The one before it keeps serving.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The entities could not be read.
    #[error("cannot read the configuration: {0}")]
    Source(String),
    /// An entity is not what its schema promises.
    #[error("{kind} {id}: {message}", kind = .kind.plural())]
    Entity {
        /// Kind of the entity.
        kind: Kind,
        /// Its id.
        id: Uuid,
        /// What is wrong.
        message: String,
    },
    /// A plugin refuses its configuration.
    #[error("plugin {name} ({id}): {error}")]
    Plugin {
        /// The plugin's name.
        name: String,
        /// The plugin entity's id.
        id: Uuid,
        /// What is wrong.
        error: BuildError,
    },
}

/// Compiles configurations.
pub struct Compiler {
    types: Arc<dyn PluginTypes>,
    verify_upstreams: bool,
}

impl Compiler {
    /// A compiler that knows these plugins. `verify_upstreams` counts where a service's `tls_verify` is not
    /// set.
    pub fn new(types: Arc<dyn PluginTypes>, verify_upstreams: bool) -> Self {
        Self { types, verify_upstreams }
    }

    /// Compiles everything `source` holds. Plugins and balancers that have not changed since `previous` are
    /// taken over with their state.
    ///
    /// # Errors
    /// The first thing that cannot be compiled.
    pub fn compile(
        &self,
        revision: u64,
        source: &dyn EntitySource,
        previous: Option<&Snapshot>,
    ) -> Result<Snapshot, CompileError> {
        let consumers = read_consumers(source)?;
        self.compile_with(revision, source, previous, consumers)
    }

    /// Compiles the revision that these changes make of `previous`: consumers and credentials are updated in
    /// place of being read again.
    ///
    /// # Errors
    /// The first thing that cannot be compiled.
    pub fn update(
        &self,
        revision: u64,
        source: &dyn EntitySource,
        previous: &Snapshot,
        changes: &[Change<'_>],
    ) -> Result<Snapshot, CompileError> {
        let mut consumers = previous.consumers.clone();
        for change in changes {
            apply(&mut consumers, change)?;
        }
        self.compile_with(revision, source, Some(previous), consumers)
    }

    fn compile_with(
        &self,
        revision: u64,
        source: &dyn EntitySource,
        previous: Option<&Snapshot>,
        consumers: Consumers,
    ) -> Result<Snapshot, CompileError> {
        let workspaces = read_workspaces(source)?;
        let authorities = read_authorities(source)?;
        let certificates: HashMap<Uuid, entity::Certificate> =
            read::<entity::Certificate>(source, Kind::Certificate)?
                .into_iter()
                .map(|read| (read.id, read.entity))
                .collect();
        let upstreams = read_upstreams(source, previous)?;
        let services = self.read_services(source, &authorities, &certificates, &upstreams)?;
        let plugins = self.read_plugins(source, previous)?;
        let chains = sort_plugins(&plugins);
        let (router, routes) =
            compile_routes(source, &services, &chains, previous.map(|snapshot| &snapshot.router))?;
        let unmatched =
            chains.get(&DEFAULT_WORKSPACE).map(|plugins| plugins.chain(None, None)).unwrap_or_default();
        Ok(Snapshot {
            revision,
            router,
            routes,
            unmatched,
            consumers,
            certificates: read_served(source, &certificates)?,
            upstreams,
            secret_names: SecretNames::new(
                plugins.values().flat_map(|(_, configured)| configured.plugin.secret_names()),
            ),
            workspaces,
            plugins,
        })
    }
}

struct Read<T> {
    id: Uuid,
    workspace: Uuid,
    entity: T,
    fields: Map<String, Value>,
}

/// Reads every entity of a kind into its type.
fn read<T: Config>(source: &dyn EntitySource, kind: Kind) -> Result<Vec<Read<T>>, CompileError> {
    let mut list = Vec::new();
    source.for_each(kind, &mut |workspace, fields| {
        let id = id_of(&fields, kind)?;
        let value = Value::Object(fields);
        let entity = T::from_checked(&value).map_err(|errors| CompileError::Entity {
            kind,
            id,
            message: errors.summary(),
        })?;
        let Value::Object(fields) = value else { return Ok(()) };
        list.push(Read { id, workspace, entity, fields });
        Ok(())
    })?;
    Ok(list)
}

fn id_of(fields: &Map<String, Value>, kind: Kind) -> Result<Uuid, CompileError> {
    fields.get("id").and_then(Value::as_str).and_then(|id| Uuid::parse_str(id).ok()).ok_or_else(|| {
        CompileError::Entity { kind, id: Uuid::nil(), message: "id: expected a valid UUID".into() }
    })
}

fn read_consumers(source: &dyn EntitySource) -> Result<Consumers, CompileError> {
    let mut consumers = Consumers::default();
    for kind in [Kind::Consumer, Kind::KeyAuthCredential] {
        source.for_each(kind, &mut |workspace, fields| {
            let id = id_of(&fields, kind)?;
            apply(&mut consumers, &Change { kind, workspace, id, after: Some(&fields) })
        })?;
    }
    Ok(consumers)
}

/// Brings a change of a consumer or credential into the tables; other kinds are compiled as a whole.
fn apply(consumers: &mut Consumers, change: &Change<'_>) -> Result<(), CompileError> {
    let text = |fields: &Map<String, Value>, name: &str| {
        fields.get(name).and_then(Value::as_str).map(Box::<str>::from)
    };
    let number = |fields: &Map<String, Value>, name: &str| fields.get(name).and_then(Value::as_u64);
    match (change.kind, change.after) {
        (Kind::Consumer, None) => {
            consumers.remove(change.id);
        }
        (Kind::Consumer, Some(fields)) => {
            let tags = fields.get("tags").and_then(Value::as_array);
            consumers.insert(Consumer {
                id: change.id,
                workspace: change.workspace,
                username: text(fields, "username"),
                custom_id: text(fields, "custom_id"),
                tags: tags.map(|tags| tags.iter().filter_map(Value::as_str).map(Box::from).collect()),
                created_at: number(fields, "created_at").unwrap_or_default(),
                updated_at: number(fields, "updated_at").unwrap_or_default(),
            });
        }
        (Kind::KeyAuthCredential, None) => consumers.remove_credential(change.id),
        (Kind::KeyAuthCredential, Some(fields)) => {
            let owner = fields.get("consumer").and_then(|owner| owner.get("id")).and_then(Value::as_str);
            let owner =
                owner.and_then(|id| Uuid::parse_str(id).ok()).and_then(|id| consumers.get(id)).cloned();
            let (Some(consumer), Some(key)) = (owner, text(fields, "key")) else {
                let message = "its consumer does not exist".to_owned();
                return Err(CompileError::Entity { kind: change.kind, id: change.id, message });
            };
            let expires_at = number(fields, "ttl")
                .filter(|seconds| *seconds > 0)
                .map(|seconds| number(fields, "created_at").unwrap_or_default() + seconds);
            consumers.insert_credential(Credential {
                id: change.id,
                consumer,
                key,
                expires_at,
                kind: change.kind,
            });
        }
        _ => {}
    }
    Ok(())
}

fn read_workspaces(source: &dyn EntitySource) -> Result<HashMap<Uuid, Box<str>>, CompileError> {
    let mut workspaces = HashMap::from([(DEFAULT_WORKSPACE, Box::from("default"))]);
    source.for_each(Kind::Workspace, &mut |_, fields| {
        let id = id_of(&fields, Kind::Workspace)?;
        if let Some(name) = fields.get("name").and_then(Value::as_str) {
            workspaces.insert(id, name.into());
        }
        Ok(())
    })?;
    Ok(workspaces)
}

/// PEM texts of the CA certificates, by id.
fn read_authorities(source: &dyn EntitySource) -> Result<HashMap<Uuid, String>, CompileError> {
    Ok(read::<entity::CaCertificate>(source, Kind::CaCertificate)?
        .into_iter()
        .map(|read| (read.id, read.entity.cert))
        .collect())
}

type Certificates = HashMap<Uuid, entity::Certificate>;

/// Certificates with the server names they are served for.
fn read_served(
    source: &dyn EntitySource,
    certificates: &Certificates,
) -> Result<Vec<ServedCertificate>, CompileError> {
    let mut names: HashMap<Uuid, Vec<Box<str>>> = HashMap::new();
    for sni in read::<entity::Sni>(source, Kind::Sni)? {
        names.entry(sni.entity.certificate.id).or_default().push(sni.entity.name.into());
    }
    let mut served = Vec::new();
    for (id, names) in names {
        let Some(certificate) = certificates.get(&id) else { continue };
        let mut pairs = vec![(Arc::from(certificate.cert.as_str()), certificate.key.clone())];
        if let (Some(cert), Some(key)) = (&certificate.cert_alt, &certificate.key_alt) {
            pairs.push((Arc::from(cert.as_str()), key.clone()));
        }
        served.push(ServedCertificate { names, pairs });
    }
    Ok(served)
}

type Upstreams = HashMap<(Uuid, Box<str>), Arc<Balancer>>;

/// Upstreams with their targets; one that has not changed keeps its place in the wheel, and what is known of a
/// target stays known.
fn read_upstreams(source: &dyn EntitySource, previous: Option<&Snapshot>) -> Result<Upstreams, CompileError> {
    let mut targets: HashMap<Uuid, Vec<BalancedTarget>> = HashMap::new();
    for target in read::<entity::Target>(source, Kind::Target)? {
        let Some((host, port)) = entity::Target::split(&target.entity.target) else { continue };
        let weight = target.entity.weight.unwrap_or(100).clamp(0, 65_535) as u32;
        targets.entry(target.entity.upstream.id).or_default().push(BalancedTarget {
            host: host.into(),
            port,
            weight,
        });
    }
    let mut upstreams = Upstreams::new();
    for upstream in read::<entity::Upstream>(source, Kind::Upstream)? {
        let targets = targets.remove(&upstream.id).unwrap_or_default();
        let key = (upstream.workspace, Box::from(upstream.entity.name.as_str()));
        let host_header = upstream.entity.host_header.as_deref();
        let settings = BalancerSettings::from(&upstream.entity);
        let old = previous.and_then(|previous| previous.upstreams.get(&key));
        let is_same = |old: &Balancer| {
            old.targets() == targets
                && old.host_header.as_deref() == host_header
                && *old.settings() == settings
        };
        let balancer = match old.filter(|old| is_same(old)) {
            Some(old) => Arc::clone(old),
            None => {
                let old = old.map(Arc::as_ref);
                Arc::new(Balancer::new(&upstream.entity.name, host_header, settings, targets, old))
            }
        };
        upstreams.insert(key, balancer);
    }
    Ok(upstreams)
}

impl Compiler {
    fn read_services(
        &self,
        source: &dyn EntitySource,
        authorities: &HashMap<Uuid, String>,
        certificates: &Certificates,
        upstreams: &Upstreams,
    ) -> Result<HashMap<Uuid, Arc<Service>>, CompileError> {
        let mut services = HashMap::new();
        for read in read::<entity::Service>(source, Kind::Service)? {
            let service = read.entity;
            if !service.enabled {
                continue;
            }
            let tls = self
                .tls_of(&service, authorities, certificates)
                .map_err(|error| CompileError::Entity { kind: Kind::Service, id: read.id, message: error })?;
            let mut destination = Destination::new(&service.host, service.port, tls);
            if let Some(upstream) = upstreams.get(&(read.workspace, service.host.as_str().into())) {
                destination.host = Host::Upstream(Arc::clone(upstream));
            }
            let milliseconds =
                |value: Option<i64>| Duration::from_millis(value.unwrap_or(60_000).max(1) as u64);
            let compiled = Service {
                id: read.id,
                name: service.name.map(Box::from),
                path: service.path.map(Box::from),
                destination: Arc::new(destination),
                timeouts: Timeouts {
                    connect: milliseconds(service.connect_timeout),
                    write: milliseconds(service.write_timeout),
                    read: milliseconds(service.read_timeout),
                },
                retries: service.retries.unwrap_or(5).max(0) as u32,
                entity: Arc::new(read.fields),
            };
            services.insert(read.id, Arc::new(compiled));
        }
        Ok(services)
    }

    fn tls_of(
        &self,
        service: &entity::Service,
        authorities: &HashMap<Uuid, String>,
        certificates: &Certificates,
    ) -> Result<Option<Arc<TlsProfile>>, String> {
        if !matches!(service.protocol.as_str(), "https" | "grpcs" | "tls") {
            return Ok(None);
        }
        let verify = service.tls_verify.unwrap_or(self.verify_upstreams);
        let trusted: Vec<&str> = service
            .ca_certificates
            .iter()
            .flatten()
            .filter_map(|id| authorities.get(id).map(String::as_str))
            .collect();
        let shown = service.client_certificate.and_then(|reference| certificates.get(&reference.id));
        let shown = shown.map(|certificate| (certificate.cert.as_str(), certificate.key.expose()));
        TlsProfile::new(verify, &trusted, shown)
            .map(|profile| Some(Arc::new(profile)))
            .map_err(|error| error.to_string())
    }

    fn read_plugins(
        &self,
        source: &dyn EntitySource,
        previous: Option<&Snapshot>,
    ) -> Result<PluginsById, CompileError> {
        let mut plugins = HashMap::new();
        for read in read::<entity::Plugin>(source, Kind::Plugin)? {
            if !read.entity.enabled {
                continue;
            }
            let kept = previous
                .and_then(|previous| previous.plugins.get(&read.id))
                .filter(|(fields, _)| **fields == read.fields);
            let compiled = match kept {
                Some((fields, configured)) => (Arc::clone(fields), Arc::clone(configured)),
                None => (Arc::new(read.fields.clone()), Arc::new(self.build(&read)?)),
            };
            plugins.insert(read.id, compiled);
        }
        Ok(plugins)
    }

    fn build(&self, read: &Read<entity::Plugin>) -> Result<Configured, CompileError> {
        let plugin = &read.entity;
        let failed = |field: &str, message: String| CompileError::Plugin {
            name: plugin.name.clone(),
            id: read.id,
            error: BuildError { field: field.to_owned(), message },
        };
        let Some(schema) = self.types.get(&plugin.name) else {
            return Err(failed(
                "name",
                format!(
                    "plugin '{}' not enabled; add it to the 'plugins' configuration property",
                    plugin.name
                ),
            ));
        };
        let scope = Scope {
            id: read.id,
            instance_name: plugin.instance_name.as_deref().map(Arc::from),
            workspace: read.workspace,
            route: plugin.route.map(|reference| reference.id),
            service: plugin.service.map(|reference| reference.id),
            consumer: plugin.consumer.map(|reference| reference.id),
        };
        let Some(config) = plugin.config.as_object() else {
            return Err(failed("config", "expected a record".into()));
        };
        let built = self.types.build(schema.name, config, &scope).map_err(|error| CompileError::Plugin {
            name: plugin.name.clone(),
            id: read.id,
            error,
        })?;
        Ok(Configured {
            name: schema.name,
            priority: schema.priority,
            scope,
            phases: built.phases(),
            plugin: built,
        })
    }
}

/// The plugins of each workspace in running order.
fn sort_plugins(plugins: &PluginsById) -> HashMap<Uuid, Plugins> {
    let mut by_workspace: HashMap<Uuid, Vec<Arc<Configured>>> = HashMap::new();
    for (_, configured) in plugins.values() {
        by_workspace.entry(configured.scope.workspace).or_default().push(Arc::clone(configured));
    }
    by_workspace.into_iter().map(|(workspace, list)| (workspace, Plugins::new(list))).collect()
}

fn compile_routes(
    source: &dyn EntitySource,
    services: &HashMap<Uuid, Arc<Service>>,
    plugins: &HashMap<Uuid, Plugins>,
    previous: Option<&Router>,
) -> Result<(Router, Vec<Arc<Route>>), CompileError> {
    let (mut rules, mut routes) = (Vec::new(), Vec::new());
    for read in read::<entity::Route>(source, Kind::Route)? {
        let route = read.entity;
        let has = |protocol: &str| route.protocols.iter().any(|name| name == protocol);
        let (http, https) = (has("http") || has("grpc"), has("https") || has("grpcs"));
        if !http && !https {
            continue;
        }
        let service = match route.service {
            // A disabled service's routes are as if they were not there (Kong 3.11).
            Some(reference) => match services.get(&reference.id) {
                Some(service) => Some(Arc::clone(service)),
                None => continue,
            },
            None => None,
        };
        rules.push(RouteRule {
            route: routes.len(),
            created_at: route.created_at.unwrap_or_default(),
            methods: route.methods.map(|set| set.0).unwrap_or_default(),
            hosts: route.hosts.unwrap_or_default(),
            paths: route.paths.unwrap_or_default(),
            headers: route.headers.unwrap_or_default(),
            snis: route.snis.map(|set| set.0).unwrap_or_default(),
            regex_priority: route.regex_priority.unwrap_or_default(),
        });
        let service_id = service.as_ref().map(|service| service.id);
        routes.push(Arc::new(Route {
            id: read.id,
            name: route.name.map(Box::from),
            workspace: read.workspace,
            http,
            https,
            https_redirect_status_code: StatusCode::from_u16(route.https_redirect_status_code)
                .unwrap_or(StatusCode::UPGRADE_REQUIRED),
            strip_path: route.strip_path,
            // Kong 3.11: `v1` has an effect with the router flavour `traditional` only.
            path_handling: entity::PathHandling::V0,
            preserve_host: route.preserve_host,
            chain: plugins
                .get(&read.workspace)
                .map(|plugins| plugins.chain(Some(read.id), service_id))
                .unwrap_or_default(),
            service,
            entity: Arc::new(read.fields),
        }));
    }
    match Router::new(&rules, previous) {
        Ok(router) => Ok((router, routes)),
        Err(error) => {
            let id = routes.get(error.route).map_or(Uuid::nil(), |route: &Arc<Route>| route.id);
            Err(CompileError::Entity { kind: Kind::Route, id, message: error.to_string() })
        }
    }
}
