//! Plugins.

use std::collections::HashMap;
use std::sync::Arc;

use tollgate_model::{Kind, entity};
use uuid::Uuid;

use super::{CompileError, Compiler, EntitySource, Read, read};
use crate::chain::{Configured, Plugins};
use crate::plugin::{BuildError, Scope};
use crate::snapshot::{PluginsById, Snapshot};

impl Compiler {
    pub(super) fn read_plugins(
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
pub(super) fn sort(plugins: &PluginsById) -> HashMap<Uuid, Plugins> {
    let mut by_workspace: HashMap<Uuid, Vec<Arc<Configured>>> = HashMap::new();
    for (_, configured) in plugins.values() {
        by_workspace.entry(configured.scope.workspace).or_default().push(Arc::clone(configured));
    }
    by_workspace.into_iter().map(|(workspace, list)| (workspace, Plugins::new(list))).collect()
}
