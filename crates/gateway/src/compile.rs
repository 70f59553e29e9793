//! From entities to a snapshot.
//!
//! A snapshot is always made from the one before it and from what has changed since, be that all there is: a change
//! costs what it touches.

mod certificates;
mod consumers;
mod plugins;
mod routes;
mod services;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use imbl::OrdSet;
use tollgate_model::{Config, Kind, Map, Secret, Value};
use uuid::Uuid;

use crate::plugin::{BuildError, PluginTypes};
use crate::snapshot::Snapshot;

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

    /// Compiles everything `source` holds.
    ///
    /// # Errors
    /// The first thing that cannot be compiled.
    pub fn compile(&self, revision: u64, source: &dyn EntitySource) -> Result<Snapshot, CompileError> {
        let mut compilation = Compilation::new(self, None);
        for kind in Kind::ALL {
            source.for_each(kind, &mut |workspace, fields| {
                let id = id_of(&fields, kind)?;
                compilation.take(&Change { kind, workspace, id, after: Some(&fields) })
            })?;
        }
        compilation.finish(revision)
    }

    /// Compiles the revision that these changes make of `previous`. What they do not touch is shared with it, and
    /// plugins and balancers that stay as they were keep their state.
    ///
    /// # Errors
    /// The first thing that cannot be compiled.
    pub fn update(
        &self,
        revision: u64,
        previous: &Snapshot,
        changes: &[Change<'_>],
    ) -> Result<Snapshot, CompileError> {
        let mut compilation = Compilation::new(self, Some(previous));
        // Of several changes of one entity the last one counts.
        let last: HashMap<(Kind, Uuid), usize> =
            changes.iter().enumerate().map(|(place, change)| ((change.kind, change.id), place)).collect();
        for (place, change) in changes.iter().enumerate() {
            if last.get(&(change.kind, change.id)) == Some(&place) {
                compilation.take(change)?;
            }
        }
        compilation.finish(revision)
    }
}

/// The way from one snapshot to the next: entities are taken in, and what they concern is marked; then what is
/// marked is compiled anew.
struct Compilation<'a> {
    compiler: &'a Compiler,
    previous: Option<&'a Snapshot>,
    next: Snapshot,
    marks: Marks,
}

/// What is to be compiled anew.
#[derive(Default)]
struct Marks {
    /// Certificates and CA certificates that services may show or trust.
    shown: BTreeSet<Uuid>,
    /// Whether other certificates are served.
    served: bool,
    upstreams: BTreeSet<Uuid>,
    services: BTreeSet<Uuid>,
    routes: BTreeSet<Uuid>,
    /// Whether there are other plugins; those bound to these may be others than before.
    plugins: bool,
    chains: BTreeSet<Uuid>,
    chains_of_services: BTreeSet<Uuid>,
    chains_of_workspaces: BTreeSet<Uuid>,
}

impl<'a> Compilation<'a> {
    fn new(compiler: &'a Compiler, previous: Option<&'a Snapshot>) -> Self {
        let next = previous.cloned().unwrap_or_default();
        Self { compiler, previous, next, marks: Marks::default() }
    }

    fn parts(&mut self) -> &mut Parts {
        Arc::make_mut(&mut self.next.parts)
    }

    /// Takes an entity in; of those that refer to each other, in any order.
    fn take(&mut self, change: &Change<'_>) -> Result<(), CompileError> {
        match change.kind {
            Kind::Workspace => self.take_workspace(change),
            Kind::Consumer | Kind::ConsumerGroup | Kind::ConsumerGroupConsumer | Kind::KeyAuthCredential => {
                consumers::apply(&mut self.next.consumers, change)?
            }
            Kind::Certificate | Kind::CaCertificate | Kind::Sni => self.take_certificate(change)?,
            Kind::Upstream => self.take_upstream(change)?,
            Kind::Target => self.take_target(change)?,
            Kind::Service => self.take_service(change)?,
            Kind::Route => self.take_route(change)?,
            Kind::Plugin => self.take_plugin(change)?,
        }
        Ok(())
    }

    fn take_workspace(&mut self, change: &Change<'_>) {
        let workspaces = Arc::make_mut(&mut self.next.workspaces);
        match change.after.and_then(|fields| fields.get("name")).and_then(Value::as_str) {
            Some(name) => workspaces.insert(change.id, name.into()),
            None => workspaces.remove(&change.id),
        };
    }

    fn finish(mut self, revision: u64) -> Result<Snapshot, CompileError> {
        if self.marks.served {
            self.next.certificates = Arc::new(self.next.parts.certificates.served());
        }
        self.compile_upstreams();
        self.compile_services()?;
        self.compile_plugins();
        self.compile_routes();
        self.next.revision = revision;
        Ok(self.next)
    }
}

/// What a snapshot was compiled of, kept for the next: entities in the form they are compiled from, and what was
/// made of them. Cloning shares it all.
#[derive(Clone, Default)]
pub(crate) struct Parts {
    certificates: certificates::Certificates,
    upstreams: services::Upstreams,
    services: services::Services,
    routes: routes::Routes,
    plugins: plugins::Configuration,
}

impl Parts {
    /// The enabled plugin entities.
    pub(crate) fn plugins(&self) -> impl Iterator<Item = &Map<String, Value>> {
        self.plugins.entities()
    }
}

/// An entity in its type.
struct Read<T> {
    workspace: Uuid,
    entity: T,
    fields: Arc<Map<String, Value>>,
}

/// An entity as it is now; none where it was deleted.
fn read<T: Config>(change: &Change<'_>) -> Result<Option<Read<T>>, CompileError> {
    let Some(fields) = change.after else { return Ok(None) };
    let value = Value::Object(fields.clone());
    let entity = T::from_checked(&value).map_err(|errors| CompileError::Entity {
        kind: change.kind,
        id: change.id,
        message: errors.summary(),
    })?;
    let Value::Object(fields) = value else { return Ok(None) };
    Ok(Some(Read { workspace: change.workspace, entity, fields: Arc::new(fields) }))
}

fn id_of(fields: &Map<String, Value>, kind: Kind) -> Result<Uuid, CompileError> {
    fields.get("id").and_then(Value::as_str).and_then(|id| Uuid::parse_str(id).ok()).ok_or_else(|| {
        CompileError::Entity { kind, id: Uuid::nil(), message: "id: expected a valid UUID".into() }
    })
}

/// The second ids of the pairs that begin with this one.
fn second(pairs: &OrdSet<(Uuid, Uuid)>, first: Uuid) -> impl Iterator<Item = Uuid> {
    pairs.range((first, Uuid::nil())..=(first, Uuid::max())).map(|(_, second)| *second)
}
