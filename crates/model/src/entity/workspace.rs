//! `workspaces`

use uuid::Uuid;

use super::rules;
use crate::{Config, Value};

/// A workspace (Kong) or control plane (Konnect): a named set of entities.
#[derive(Debug, Clone, Config)]
pub struct Workspace {
    /// Identifies the workspace.
    #[config(auto)]
    pub id: Option<Uuid>,
    /// Its name.
    #[config(
        unique,
        not_one_of(
            "workspaces", "consumers", "certificates", "services", "routes", "snis", "upstreams", "targets",
            "plugins", "tags", "ca_certificates", "clustering_data_planes", "parameters", "vaults", "key_sets",
            "keys", "filter_chains"
        ),
        check = rules::name
    )]
    pub name: String,
    /// What it is for.
    pub comment: Option<String>,
    /// When it was made, in seconds since 1970.
    #[config(auto, timestamp)]
    pub created_at: Option<i64>,
    /// When it was last changed, in seconds since 1970.
    #[config(auto, timestamp)]
    pub updated_at: Option<i64>,
    /// Display settings, kept as they are.
    #[config(default = {})]
    pub meta: Option<Value>,
    /// Settings, kept as they are.
    #[config(default = {})]
    pub config: Option<Value>,
}
