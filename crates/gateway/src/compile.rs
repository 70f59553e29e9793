//! From entities to a snapshot.

mod certificates;
mod consumers;
mod plugins;
mod routes;
mod services;

use std::collections::HashMap;
use std::sync::Arc;

use tollgate_model::{Config, Kind, Map, Secret, Value};
use uuid::Uuid;

use crate::consumers::Consumers;
use crate::plugin::{BuildError, PluginTypes};
use crate::secrets::SecretNames;
use crate::snapshot::{DEFAULT_WORKSPACE, Snapshot};

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
    /// Chain and key that upstreams are shown where nothing else says.
    client_certificate: Option<(String, Secret)>,
}

impl Compiler {
    /// A compiler that knows these plugins. `verify_upstreams` counts where a service's `tls_verify` is not
    /// set.
    pub fn new(types: Arc<dyn PluginTypes>, verify_upstreams: bool) -> Self {
        Self { types, verify_upstreams, client_certificate: None }
    }

    /// Has upstreams shown this certificate (chain and key, in PEM) where neither the service nor the upstream
    /// has one.
    #[must_use]
    pub fn with_client_certificate(self, chain: String, key: Secret) -> Self {
        Self { client_certificate: Some((chain, key)), ..self }
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
        let consumers = consumers::read_all(source)?;
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
            consumers::apply(&mut consumers, change)?;
        }
        let only_consumers =
            changes.iter().all(|change| matches!(change.kind, Kind::Consumer | Kind::KeyAuthCredential));
        if only_consumers {
            return Ok(Snapshot { revision, consumers, ..previous.clone() });
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
        let certificates = certificates::Certificates::read(source)?;
        let upstreams = services::read_upstreams(source, previous)?;
        let services = self.read_services(source, &certificates, &upstreams)?;
        let plugins = self.read_plugins(source, previous)?;
        let chains = plugins::sort(&plugins);
        let (router, routes) =
            routes::compile(source, &services, &chains, previous.map(|snapshot| &*snapshot.router))?;
        let unmatched =
            chains.get(&DEFAULT_WORKSPACE).map(|plugins| plugins.chain(None, None)).unwrap_or_default();
        Ok(Snapshot {
            revision,
            router: Arc::new(router),
            routes: Arc::new(routes),
            unmatched: Arc::new(unmatched),
            consumers,
            certificates: Arc::new(certificates.served(source)?),
            upstreams: Arc::new(upstreams.balancers),
            secret_names: Arc::new(SecretNames::new(
                plugins.values().flat_map(|(_, configured)| configured.plugin.secret_names()),
            )),
            workspaces: Arc::new(workspaces),
            plugins: Arc::new(plugins),
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
