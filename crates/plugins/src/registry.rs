//! The plugins there are.

use std::collections::BTreeMap;
use std::sync::Arc;

use tollgate_gateway::{BuildError, Plugin, PluginTypes, Scope};
use tollgate_model::{Map, PluginSchema, PluginSchemas, Value};

use crate::{ai, auth, observe, traffic, transform};

type Build = fn(&Map<String, Value>, &Scope) -> Result<Arc<dyn Plugin>, BuildError>;

/// How a plugin presents itself, and how a configured one is compiled.
type Entry = (fn() -> PluginSchema, Build);

/// Every plugin.
const PLUGINS: &[Entry] = &[
    (ai::ai_prompt_decorator::schema, ai::ai_prompt_decorator::build),
    (ai::ai_prompt_guard::schema, ai::ai_prompt_guard::build),
    (ai::ai_prompt_template::schema, ai::ai_prompt_template::build),
    (ai::ai_proxy::schema, ai::ai_proxy::build),
    (ai::ai_proxy_advanced::schema, ai::ai_proxy_advanced::build),
    (ai::ai_rate_limiting_advanced::schema, ai::ai_rate_limiting_advanced::build),
    (ai::ai_request_transformer::schema, ai::ai_request_transformer::build),
    (ai::ai_response_transformer::schema, ai::ai_response_transformer::build),
    (auth::key_auth::schema, auth::key_auth::build),
    (observe::file_log::schema, observe::file_log::build),
    (observe::opentelemetry::schema, observe::opentelemetry::build),
    (observe::prometheus::schema, observe::prometheus::build),
    (traffic::correlation_id::schema, traffic::correlation_id::build),
    (traffic::cors::schema, traffic::cors::build),
    (traffic::rate_limiting::schema, traffic::rate_limiting::build),
    (traffic::request_termination::schema, traffic::request_termination::build),
    (transform::request_transformer::schema, transform::request_transformer::build),
    (transform::response_transformer::schema, transform::response_transformer::build),
];

/// The enabled plugins.
pub struct Registry {
    enabled: BTreeMap<&'static str, (PluginSchema, Build)>,
}

impl Registry {
    /// The plugins that the `plugins` property names: `bundled` for all, `off` for none.
    ///
    /// # Errors
    /// Names those there are not.
    pub fn new(names: &[String]) -> Result<Self, Vec<String>> {
        let all: BTreeMap<&'static str, (PluginSchema, Build)> = PLUGINS
            .iter()
            .map(|(schema, build)| {
                let schema = schema();
                (schema.name, (schema, *build))
            })
            .collect();
        let wanted = |name: &str| names.iter().any(|wanted| wanted == "bundled" || wanted == name);
        let unknown: Vec<String> = names
            .iter()
            .filter(|name| !matches!(name.as_str(), "bundled" | "off") && !all.contains_key(name.as_str()))
            .cloned()
            .collect();
        if !unknown.is_empty() {
            return Err(unknown);
        }
        Ok(Self { enabled: all.into_iter().filter(|(name, _)| wanted(name)).collect() })
    }

    /// The same for a node without a store.
    #[must_use]
    pub fn without_store(mut self) -> Self {
        for (schema, _) in self.enabled.values_mut() {
            schema.config = schema.config_without_store.unwrap_or(schema.config);
        }
        self
    }

    /// All plugins.
    pub fn bundled() -> Self {
        Self::new(&["bundled".to_owned()]).unwrap_or(Self { enabled: BTreeMap::new() })
    }
}

impl PluginSchemas for Registry {
    fn get(&self, name: &str) -> Option<&PluginSchema> {
        self.enabled.get(name).map(|(schema, _)| schema)
    }

    fn all(&self) -> Vec<&PluginSchema> {
        self.enabled.values().map(|(schema, _)| schema).collect()
    }
}

impl PluginTypes for Registry {
    fn build(
        &self,
        name: &str,
        config: &Map<String, Value>,
        scope: &Scope,
    ) -> Result<Arc<dyn Plugin>, BuildError> {
        match self.enabled.get(name) {
            Some((_, build)) => build(config, scope),
            None => Err(BuildError { field: "name".into(), message: format!("there is no plugin '{name}'") }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What fills the defaults must accept what it filled, unchanged: a second sync is a no-op.
    #[test]
    fn filled_configurations_stay_as_they_are() {
        for schema in Registry::bundled().all() {
            let shape =
                tollgate_model::schema::Shape::new(tollgate_model::FieldType::Record(schema.config.clone()));
            let Ok(filled) = shape.check(tollgate_model::json!({}), tollgate_model::Mode::Insert) else {
                continue;
            };
            assert_eq!(
                shape.check(filled.clone(), tollgate_model::Mode::Insert),
                Ok(filled),
                "{}",
                schema.name
            );
        }
    }
}
