//! How a Redis is reached: `config.redis` of Kong, and that of its enterprise plugins.

use std::time::Duration;

use tollgate_gateway::BuildError;
use tollgate_model::entity::rules;
use tollgate_model::schema::EntityCheck;
use tollgate_model::{Config, Map, Secret, Value, json};
use tollgate_redis::{Login, Node, Redis, Settings, Tls, Topology};

/// A Redis server (Kong 3.11: `config.redis`).
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

impl RedisConfig {
    /// The server, of which nothing is asked yet.
    ///
    /// # Errors
    /// What cannot be used.
    pub fn client(&self) -> Result<Redis, BuildError> {
        let timeout = milliseconds(self.timeout);
        let node = node(self.host.as_deref(), self.port);
        let settings = Settings {
            topology: Topology::One(
                node.ok_or_else(|| refused("host", "the server's name or address is missing"))?,
            ),
            login: login(self.username.as_ref(), self.password.as_ref()),
            database: self.database.unwrap_or_default(),
            tls: tls(self.ssl, self.ssl_verify, self.server_name.as_ref()),
            connect_timeout: timeout,
            answer_timeout: timeout,
        };
        Redis::new(settings).map_err(|message| refused("ssl", &message))
    }
}

/// A Redis server, the master that sentinels name, or a cluster (Kong 3.11: `config.redis` of enterprise
/// plugins).
#[derive(Debug, Clone, Config)]
#[config(checks = [
    EntityCheck::MutuallyRequired(vec!["sentinel_master", "sentinel_role", "sentinel_nodes"]),
    EntityCheck::MutuallyExclusive(vec!["sentinel_nodes", "cluster_nodes"]),
    EntityCheck::MutuallyRequired(vec!["connect_timeout", "send_timeout", "read_timeout"]),
])]
pub struct RedisEnterpriseConfig {
    /// Name or address of the server.
    #[config(default = "127.0.0.1", referenceable, check = rules::host)]
    pub host: Option<String>,
    /// Its port.
    #[config(default = 6379, referenceable, between(0, 65535))]
    pub port: Option<u16>,
    /// Milliseconds to wait for a connection.
    #[config(default = 2000, between(0, 2_147_483_646))]
    pub connect_timeout: Option<u32>,
    /// Milliseconds to wait when sending. The longer one of this and `read_timeout` is how long an answer may take.
    #[config(default = 2000, between(0, 2_147_483_646))]
    pub send_timeout: Option<u32>,
    /// Milliseconds to wait for an answer.
    #[config(default = 2000, between(0, 2_147_483_646))]
    pub read_timeout: Option<u32>,
    /// User to log in as; without one, only the password is sent.
    #[config(referenceable)]
    pub username: Option<String>,
    /// Password to log in with.
    #[config(referenceable, encrypted, len_min(0))]
    pub password: Option<Secret>,
    /// Number of the database. A cluster has only 0.
    #[config(default = 0)]
    pub database: Option<i64>,
    /// Whether to speak TLS.
    #[config(optional, default = false)]
    pub ssl: Option<bool>,
    /// Whether the server's certificate is checked.
    #[config(optional, default = false)]
    pub ssl_verify: Option<bool>,
    /// Name the server's certificate must have.
    #[config(optional, referenceable, check = rules::server_name)]
    pub server_name: Option<String>,
    /// Name of the group of servers of which sentinels know the master.
    pub sentinel_master: Option<String>,
    /// Which server of the group is used. Counters are written, which only the master takes: `any` is the master.
    #[config(one_of("master", "slave", "any"))]
    pub sentinel_role: Option<String>,
    /// The sentinels.
    #[config(len_min(1))]
    pub sentinel_nodes: Option<Vec<SentinelNode>>,
    /// User to log in to the sentinels as.
    #[config(referenceable)]
    pub sentinel_username: Option<String>,
    /// Password to log in to the sentinels with.
    #[config(referenceable, encrypted, len_min(0))]
    pub sentinel_password: Option<Secret>,
    /// Nodes of a cluster; it tells the others.
    #[config(len_min(1))]
    pub cluster_nodes: Option<Vec<ClusterNode>>,
    /// How often a command follows where a cluster's nodes send it.
    #[config(default = 5)]
    pub cluster_max_redirections: Option<u32>,
    /// Taken for Kong's sake: every thread has one connection that all requests share.
    #[config(default = 256, between(1, 2_147_483_646))]
    pub keepalive_pool_size: Option<u32>,
    /// Taken for Kong's sake, like `keepalive_pool_size`.
    #[config(between(0, 2_147_483_646))]
    pub keepalive_backlog: Option<u32>,
    /// Whether `host` is a proxy in front of Redis.
    #[config(default = false)]
    pub connection_is_proxied: Option<bool>,
    /// Deprecated: all three timeouts at once.
    #[config(shorthand(expand = three_timeouts), between(0, 2_147_483_646))]
    pub timeout: Option<u32>,
}

/// A sentinel.
#[derive(Debug, Clone, Config)]
pub struct SentinelNode {
    /// Name or address.
    #[config(required, default = "127.0.0.1", check = rules::host)]
    pub host: String,
    /// Port.
    #[config(default = 6379, between(0, 65535))]
    pub port: Option<u16>,
}

/// A node of a cluster.
#[derive(Debug, Clone, Config)]
pub struct ClusterNode {
    /// Name or address.
    #[config(required, default = "127.0.0.1", check = rules::host)]
    pub ip: String,
    /// Port.
    #[config(default = 6379, between(0, 65535))]
    pub port: Option<u16>,
}

fn three_timeouts(value: &Value) -> Map<String, Value> {
    let fields = ["connect_timeout", "send_timeout", "read_timeout"];
    fields.into_iter().map(|field| (field.to_owned(), json!(value))).collect()
}

impl RedisEnterpriseConfig {
    /// The server or servers, of which nothing is asked yet.
    ///
    /// # Errors
    /// What cannot be used.
    pub fn client(&self) -> Result<Redis, BuildError> {
        let topology = self.topology()?;
        let is_cluster = matches!(topology, Topology::Cluster { .. });
        if is_cluster && self.database.unwrap_or_default() != 0 {
            return Err(refused("database", "a Redis cluster has only the database 0"));
        }
        if is_cluster && self.server_name.is_some() {
            let message = "the nodes of a cluster are checked by the names they have; leave it out";
            return Err(refused("server_name", message));
        }
        if self.connection_is_proxied == Some(true) && !matches!(topology, Topology::One(_)) {
            let message = "a proxy is one server: set its 'host' and 'port', and no sentinels or cluster";
            return Err(refused("connection_is_proxied", message));
        }
        let settings = Settings {
            topology,
            login: login(self.username.as_ref(), self.password.as_ref()),
            database: self.database.unwrap_or_default(),
            tls: tls(self.ssl, self.ssl_verify, self.server_name.as_ref()),
            connect_timeout: milliseconds(self.connect_timeout),
            answer_timeout: milliseconds(self.send_timeout).max(milliseconds(self.read_timeout)),
        };
        Redis::new(settings).map_err(|message| refused("ssl", &message))
    }

    fn topology(&self) -> Result<Topology, BuildError> {
        let nodes = |nodes: Vec<Option<Node>>| nodes.into_iter().flatten().collect();
        if let (Some(master), Some(sentinels)) = (&self.sentinel_master, &self.sentinel_nodes) {
            if self.sentinel_role.as_deref() == Some("slave") {
                let message = "counters are written, which a replica does not take; use 'master'";
                return Err(refused("sentinel_role", message));
            }
            return Ok(Topology::Sentinel {
                master: master.clone(),
                nodes: nodes(sentinels.iter().map(|at| node(Some(&at.host), at.port)).collect()),
                login: login(self.sentinel_username.as_ref(), self.sentinel_password.as_ref()),
            });
        }
        if let Some(cluster) = &self.cluster_nodes {
            return Ok(Topology::Cluster {
                nodes: nodes(cluster.iter().map(|at| node(Some(&at.ip), at.port)).collect()),
                max_redirections: self.cluster_max_redirections.unwrap_or(5),
            });
        }
        let one = node(self.host.as_deref(), self.port);
        one.map(Topology::One).ok_or_else(|| refused("host", "the server's name or address is missing"))
    }
}

fn refused(field: &str, message: &str) -> BuildError {
    BuildError { field: format!("config.redis.{field}"), message: message.to_owned() }
}

fn node(host: Option<&str>, port: Option<u16>) -> Option<Node> {
    Some(Node { host: host?.to_owned(), port: port.unwrap_or(6379) })
}

fn login(username: Option<&String>, password: Option<&Secret>) -> Login {
    let username = username.filter(|name| !name.is_empty()).cloned();
    Login { username, password: password.filter(|password| !password.expose().is_empty()).cloned() }
}

fn tls(ssl: Option<bool>, verify: Option<bool>, server_name: Option<&String>) -> Option<Tls> {
    let tls = Tls { verify: verify == Some(true), server_name: server_name.cloned() };
    (ssl == Some(true)).then_some(tls)
}

/// A timeout; 0 stands for the default, as nothing may wait for ever.
fn milliseconds(timeout: Option<u32>) -> Duration {
    Duration::from_millis(timeout.filter(|timeout| *timeout > 0).unwrap_or(2000).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enterprise(config: Value) -> Result<Settings, String> {
        let shape = <RedisEnterpriseConfig as tollgate_model::schema::ConfigValue>::shape();
        let filled =
            shape.check(config, tollgate_model::Mode::Insert).map_err(|error| format!("{error:?}"))?;
        let config = RedisEnterpriseConfig::from_checked(&filled).unwrap();
        config.client().map(|redis| redis.settings().clone()).map_err(|error| error.to_string())
    }

    #[test]
    fn one_server_sentinels_or_a_cluster() {
        let one = enterprise(json!({})).unwrap();
        assert_eq!(
            (one.to_string(), one.tls, one.answer_timeout.as_millis()),
            ("127.0.0.1:6379".into(), None, 2000)
        );
        let one = enterprise(json!({
            "host": "redis.test", "port": 7000, "timeout": 50, "ssl": true, "server_name": "a.test", "database": 3,
        }));
        let one = one.unwrap();
        assert_eq!((one.to_string(), one.database), ("redis.test:7000".into(), 3));
        assert_eq!((one.connect_timeout.as_millis(), one.answer_timeout.as_millis()), (50, 50));
        assert_eq!(one.tls, Some(Tls { verify: false, server_name: Some("a.test".into()) }));
        let sentinels = json!({
            "sentinel_master": "main", "sentinel_role": "master", "sentinel_username": "watcher",
            "sentinel_password": "s3cret", "sentinel_nodes": [{"host": "a.test"}, {"host": "b.test", "port": 1}],
        });
        let sentinels = enterprise(sentinels).unwrap();
        assert_eq!(sentinels.to_string(), "main of sentinels a.test:6379, b.test:1");
        assert!(!format!("{sentinels:?}").contains("s3cret"));
        let cluster = enterprise(json!({"cluster_nodes": [{"ip": "10.0.0.1"}, {}]})).unwrap();
        assert_eq!(cluster.to_string(), "10.0.0.1:6379, 127.0.0.1:6379");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (config, message) in [
            (
                json!({"cluster_nodes": [{}], "database": 1}),
                "config.redis.database: a Redis cluster has only the database 0",
            ),
            (json!({"cluster_nodes": [{}], "server_name": "a.test"}), "config.redis.server_name: "),
            (
                json!({"cluster_nodes": [{}], "connection_is_proxied": true}),
                "config.redis.connection_is_proxied: ",
            ),
            (
                json!({"sentinel_master": "m", "sentinel_role": "slave", "sentinel_nodes": [{}]}),
                "config.redis.sentinel_role: ",
            ),
            (json!({"sentinel_master": "m"}), "all or none of these fields must be set"),
            (
                json!({"sentinel_master": "m", "sentinel_role": "any", "sentinel_nodes": [{}], "cluster_nodes": [{}]}),
                "only one or none of these fields must be set",
            ),
        ] {
            let error = enterprise(config.clone()).unwrap_err();
            assert!(error.contains(message), "{config}: {error}");
        }
    }
}
