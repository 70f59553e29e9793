//! How a Redis server is reached (Kong 3.11: `config.redis`).

use tollgate_model::entity::rules;
use tollgate_model::{Config, Secret};

/// A Redis server.
#[derive(Debug, Clone, Config)]
pub struct RedisConfig {
    /// Name or address of the server.
    #[config(check = rules::host)]
    pub host: Option<String>,
    /// Its port.
    #[config(default = 6379, between(0, 65535))]
    pub port: Option<u16>,
    /// Milliseconds to wait when connecting, sending and reading.
    #[config(default = 2000, between(0, 2_147_483_646))]
    pub timeout: Option<u32>,
    /// User to log in as; without one, only the password is sent.
    #[config(referenceable)]
    pub username: Option<String>,
    /// Password to log in with.
    #[config(referenceable, encrypted, len_min(0))]
    pub password: Option<Secret>,
    /// Number of the database.
    #[config(default = 0)]
    pub database: Option<i64>,
    /// Whether to speak TLS.
    #[config(optional, default = false)]
    pub ssl: Option<bool>,
    /// Whether the server's certificate is checked.
    #[config(optional, default = false)]
    pub ssl_verify: Option<bool>,
    /// Name the server's certificate must have.
    #[config(optional, check = rules::server_name)]
    pub server_name: Option<String>,
}
