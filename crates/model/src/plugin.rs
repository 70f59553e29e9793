//! What a plugin says about itself to the configuration engine.

use serde_json::Value;

use crate::Record;
use crate::schema::EntityCheck;

/// Every protocol there is.
pub const PROTOCOLS: &[&str] = &["grpc", "grpcs", "http", "https", "tcp", "tls", "tls_passthrough", "udp"];

/// Protocols of requests over HTTP.
pub const HTTP_PROTOCOLS: &[&str] = &["grpc", "grpcs", "http", "https"];

/// A plugin's name, place and schema.
#[derive(Debug, Clone)]
pub struct PluginSchema {
    /// The name in `plugins.name`.
    pub name: &'static str,
    /// What it does, in a sentence.
    pub about: &'static str,
    /// Higher runs earlier.
    pub priority: i32,
    /// Protocols it runs for where none are chosen.
    pub protocols: &'static [&'static str],
    /// Protocols that can be chosen.
    pub allowed_protocols: &'static [&'static str],
    /// Whether it can be bound to a consumer (auth plugins cannot).
    pub consumer: bool,
    /// Whether it can be bound to a group of consumers.
    pub consumer_group: bool,
    /// Whether it can be bound to a service.
    pub service: bool,
    /// Whether it can be bound to a route.
    pub route: bool,
    /// Schema of its `config`.
    pub config: &'static Record,
    /// The same where the node has no store (Kong 3.11: `database = off`), where it differs.
    pub config_without_store: Option<&'static Record>,
    /// A check of the whole `config`: the message when it is wrong.
    pub config_check: Option<ConfigCheck>,
    /// Checks over fields of the plugin entity, such as `config.minute`.
    pub checks: Vec<EntityCheck>,
}

/// A check of a plugin's whole `config`; the message when it is wrong.
pub type ConfigCheck = fn(&Value) -> Result<(), String>;

impl PluginSchema {
    /// A plugin for HTTP that can be bound to anything.
    pub fn new(name: &'static str, priority: i32, config: &'static Record) -> Self {
        Self {
            name,
            about: "",
            priority,
            protocols: HTTP_PROTOCOLS,
            allowed_protocols: HTTP_PROTOCOLS,
            consumer: true,
            consumer_group: true,
            service: true,
            route: true,
            config,
            config_without_store: None,
            config_check: None,
            checks: Vec::new(),
        }
    }

    /// The same, and what it does is told.
    #[must_use]
    pub fn about(mut self, about: &'static str) -> Self {
        self.about = about;
        self
    }

    /// The same, and it can be told to run for any protocol.
    #[must_use]
    pub fn for_any_protocol(mut self) -> Self {
        self.allowed_protocols = PROTOCOLS;
        self
    }

    /// The same, and its `config` has another schema where the node has no store.
    #[must_use]
    pub fn without_store(mut self, config: &'static Record) -> Self {
        self.config_without_store = Some(config);
        self
    }

    /// The same with a check of the whole `config`, which runs where every field is right.
    #[must_use]
    pub fn with_config_check(mut self, check: ConfigCheck) -> Self {
        self.config_check = Some(check);
        self
    }

    /// The same with checks over fields of the entity.
    #[must_use]
    pub fn with_checks(mut self, checks: Vec<EntityCheck>) -> Self {
        self.checks = checks;
        self
    }

    /// The same, but it cannot be bound to a consumer.
    #[must_use]
    pub fn without_consumer(mut self) -> Self {
        self.consumer = false;
        self
    }

    /// The same, but it cannot be bound to a group of consumers.
    #[must_use]
    pub fn without_consumer_group(mut self) -> Self {
        self.consumer_group = false;
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
