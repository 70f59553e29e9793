//! What a plugin says about itself to the configuration engine.

use crate::Record;

/// Protocols of requests over HTTP.
pub const HTTP_PROTOCOLS: &[&str] = &["grpc", "grpcs", "http", "https"];

/// A plugin's name, place and schema.
#[derive(Debug, Clone)]
pub struct PluginSchema {
    /// The name in `plugins.name`.
    pub name: &'static str,
    /// Higher runs earlier.
    pub priority: i32,
    /// Protocols it can run for.
    pub protocols: &'static [&'static str],
    /// Whether it can be bound to a consumer (auth plugins cannot).
    pub consumer: bool,
    /// Whether it can be bound to a service.
    pub service: bool,
    /// Whether it can be bound to a route.
    pub route: bool,
    /// Schema of its `config`.
    pub config: &'static Record,
}

impl PluginSchema {
    /// A plugin for HTTP that can be bound to anything.
    pub fn new(name: &'static str, priority: i32, config: &'static Record) -> Self {
        Self { name, priority, protocols: HTTP_PROTOCOLS, consumer: true, service: true, route: true, config }
    }

    /// The same, but it cannot be bound to a consumer.
    #[must_use]
    pub fn without_consumer(mut self) -> Self {
        self.consumer = false;
        self
    }
}

/// The plugins that can be configured.
pub trait PluginSchemas: Send + Sync {
    /// The plugin of this name, where it is enabled.
    fn get(&self, name: &str) -> Option<&PluginSchema>;

    /// All enabled plugins, by name.
    fn all(&self) -> Vec<&PluginSchema>;
}
