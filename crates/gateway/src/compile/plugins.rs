//! Plugins.

use std::sync::Arc;

use imbl::OrdMap;
use tollgate_model::{Map, Value, entity};
use uuid::Uuid;

use super::{Change, Compilation, CompileError, Compiler, Read, read};
use crate::chain::{Chain, Configured, Plugins};
use crate::plugin::{BuildError, Scope};
use crate::secrets::SecretNames;
use crate::snapshot::DEFAULT_WORKSPACE;

/// The enabled plugins.
#[derive(Clone, Default)]
pub(super) struct Configuration {
    /// Each with the entity it was compiled from.
    by_id: OrdMap<Uuid, Compiled>,
    by_workspace: OrdMap<Uuid, Plugins>,
}

type Compiled = (Arc<Map<String, Value>>, Arc<Configured>);

impl Configuration {
    pub(super) fn entities(&self) -> impl Iterator<Item = &Map<String, Value>> {
        self.by_id.values().map(|(fields, _)| &**fields)
    }

    /// The chain of a route; without one, that of requests which matched none.
    pub(super) fn chain(&self, workspace: Uuid, route: Option<Uuid>, service: Option<Uuid>) -> Chain {
        let plugins = self.by_workspace.get(&workspace);
        plugins.map(|plugins| plugins.chain(route, service)).unwrap_or_default()
    }
}

impl Compilation<'_> {
    pub(super) fn take_plugin(&mut self, change: &Change<'_>) -> Result<(), CompileError> {
        let id = change.id;
        let before = self.next.parts.plugins.by_id.get(&id).cloned();
        let now = match read::<entity::Plugin>(change)?.filter(|read| read.entity.enabled) {
            Some(read) if before.as_ref().is_some_and(|(fields, _)| *fields == read.fields) => return Ok(()),
            Some(read) => Some((Arc::clone(&read.fields), Arc::new(self.compiler.build(id, &read)?))),
            None => None,
        };
        for (_, configured) in [&before, &now].into_iter().flatten() {
            self.mark_chains(&configured.scope);
        }
        let plugins = &mut self.parts().plugins;
        if let Some((_, before)) = &before {
            plugins.by_id.remove(&id);
            if let Some(of_workspace) = plugins.by_workspace.get_mut(&before.scope.workspace) {
                of_workspace.remove(before);
            }
        }
        if let Some(now) = now {
            plugins.by_workspace.entry(now.1.scope.workspace).or_default().insert(&now.1);
            plugins.by_id.insert(id, now);
        }
        Ok(())
    }

    /// Marks the routes for which a plugin of this scope may run.
    fn mark_chains(&mut self, scope: &Scope) {
        let marks = &mut self.marks;
        marks.plugins = true;
        match (scope.route, scope.service) {
            (Some(route), _) => marks.chains.insert(route),
            (None, Some(service)) => marks.chains_of_services.insert(service),
            (None, None) => marks.chains_of_workspaces.insert(scope.workspace),
        };
    }

    /// What plugins say as a whole; the chains are compiled with their routes.
    pub(super) fn compile_plugins(&mut self) {
        let plugins = &self.next.parts.plugins;
        if self.marks.plugins {
            let names = plugins.by_id.values().flat_map(|(_, configured)| configured.plugin.secret_names());
            self.next.secret_names = Arc::new(SecretNames::new(names));
        }
        if self.marks.chains_of_workspaces.contains(&DEFAULT_WORKSPACE) {
            self.next.unmatched = Arc::new(plugins.chain(DEFAULT_WORKSPACE, None, None));
        }
    }
}

impl Compiler {
    fn build(&self, id: Uuid, read: &Read<entity::Plugin>) -> Result<Configured, CompileError> {
        let plugin = &read.entity;
        let failed = |field: &str, message: String| CompileError::Plugin {
            name: plugin.name.clone(),
            id,
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
            id,
            instance_name: plugin.instance_name.as_deref().map(Arc::from),
            workspace: read.workspace,
            route: plugin.route.map(|reference| reference.id),
            service: plugin.service.map(|reference| reference.id),
            consumer: plugin.consumer.map(|reference| reference.id),
            consumer_group: plugin.consumer_group.map(|reference| reference.id),
        };
        let Some(config) = plugin.config.as_object() else {
            return Err(failed("config", "expected a record".into()));
        };
        let built = self.types.build(schema.name, config, &scope).map_err(|error| CompileError::Plugin {
            name: plugin.name.clone(),
            id,
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
