//! `plugins`

use uuid::Uuid;

use super::rules;
use crate::{Config, Reference, Set, Value};

/// A configured plugin. Its `config` has the schema of the plugin it names.
#[derive(Debug, Clone, Config)]
pub struct Plugin {
    /// Identifies the configured plugin.
    #[config(auto)]
    pub id: Option<Uuid>,
    /// Which plugin.
    pub name: String,
    /// A name of your choice.
    #[config(unique, check = rules::name)]
    pub instance_name: Option<String>,
    /// When it was made, in seconds since 1970.
    #[config(auto, timestamp)]
    pub created_at: Option<i64>,
    /// When it was last changed, in seconds since 1970.
    #[config(auto, timestamp)]
    pub updated_at: Option<i64>,
    /// Route it is bound to.
    #[config(foreign = crate::Kind::Route, default = null)]
    pub route: Option<Reference>,
    /// Service it is bound to.
    #[config(foreign = crate::Kind::Service, default = null)]
    pub service: Option<Reference>,
    /// Consumer it is bound to.
    #[config(foreign = crate::Kind::Consumer, default = null)]
    pub consumer: Option<Reference>,
    /// Group of consumers it is bound to. Shown only where there is one, as an open-source Kong has no such field.
    #[config(foreign = crate::Kind::ConsumerGroup, transient, hidden)]
    pub consumer_group: Option<Reference>,
    /// What the plugin is to do.
    #[config(hidden)]
    pub config: Value,
    /// Protocols for which it runs; where none are chosen, those of the plugin it names.
    #[config(
        default = ["grpc", "grpcs", "http", "https"],
        each(one_of("grpc", "grpcs", "http", "https", "tcp", "tls", "tls_passthrough", "udp"))
    )]
    pub protocols: Set<String>,
    /// Whether it runs.
    #[config(default = true)]
    pub enabled: bool,
    /// Labels to select by.
    #[config(each(required, check = rules::tag))]
    pub tags: Option<Set<String>>,
}
