//! The configuration of `rate-limiting`.

use std::sync::LazyLock;

use tollgate_limit::{Limit, Period};
use tollgate_model::entity::rules;
use tollgate_model::schema::{Constraint, EntityCheck};
use tollgate_model::{Config, PluginSchema, Record, Secret, Value};

use crate::redis::RedisConfig;

/// Configuration of `rate-limiting` (Kong 3.11).
#[derive(Debug, Clone, Config)]
pub struct RateLimitingConfig {
    /// Requests in a second.
    #[config(gt(0))]
    pub second: Option<f64>,
    /// Requests in a minute.
    #[config(gt(0))]
    pub minute: Option<f64>,
    /// Requests in an hour.
    #[config(gt(0))]
    pub hour: Option<f64>,
    /// Requests in a day.
    #[config(gt(0))]
    pub day: Option<f64>,
    /// Requests in a month.
    #[config(gt(0))]
    pub month: Option<f64>,
    /// Requests in a year.
    #[config(gt(0))]
    pub year: Option<f64>,
    /// What requests are counted by.
    #[config(default = "consumer")]
    pub limit_by: Option<LimitBy>,
    /// Header to count by, with `limit_by` `header`.
    #[config(check = rules::header_name)]
    pub header_name: Option<String>,
    /// Path to count by, with `limit_by` `path`.
    #[config(
        starts_with("/"),
        matches(pattern = "//", regex = "//", error = "must not have empty segments", negated),
        check = rules::path
    )]
    pub path: Option<String>,
    /// Where the counters are.
    #[config(default = "local", len_min(0))]
    pub policy: Option<Policy>,
    /// Whether requests pass while the counters cannot be reached.
    #[config(default = true)]
    pub fault_tolerant: bool,
    /// The Redis server that has the counters, with `policy` `redis`.
    pub redis: RedisConfig,
    /// Whether clients are not told of limits.
    #[config(default = false)]
    pub hide_client_headers: bool,
    /// Status of refusals.
    #[config(default = 429, gt(0))]
    pub error_code: Option<f64>,
    /// Message of refusals.
    #[config(default = "API rate limit exceeded")]
    pub error_message: Option<String>,
    /// Seconds between two exchanges with Redis; -1 asks it at every request.
    #[config(default = -1)]
    pub sync_rate: f64,
    /// Deprecated name of `redis.host`.
    #[config(shorthand = "redis.host")]
    pub redis_host: Option<String>,
    /// Deprecated name of `redis.port`.
    #[config(shorthand = "redis.port")]
    pub redis_port: Option<i64>,
    /// Deprecated name of `redis.password`.
    #[config(shorthand = "redis.password", len_min(0), encrypted = false)]
    pub redis_password: Option<Secret>,
    /// Deprecated name of `redis.username`.
    #[config(shorthand = "redis.username")]
    pub redis_username: Option<String>,
    /// Deprecated name of `redis.ssl`.
    #[config(shorthand = "redis.ssl")]
    pub redis_ssl: Option<bool>,
    /// Deprecated name of `redis.ssl_verify`.
    #[config(shorthand = "redis.ssl_verify")]
    pub redis_ssl_verify: Option<bool>,
    /// Deprecated name of `redis.server_name`.
    #[config(shorthand = "redis.server_name")]
    pub redis_server_name: Option<String>,
    /// Deprecated name of `redis.timeout`.
    #[config(shorthand = "redis.timeout")]
    pub redis_timeout: Option<i64>,
    /// Deprecated name of `redis.database`.
    #[config(shorthand = "redis.database")]
    pub redis_database: Option<i64>,
}

/// What requests are counted by. What a request does not have is replaced by the client's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Config)]
pub enum LimitBy {
    /// The consumer, or the credential.
    Consumer,
    /// The credential.
    Credential,
    /// The client's address.
    Ip,
    /// The service.
    Service,
    /// The value of a header.
    Header,
    /// The path, where it is the configured one.
    Path,
}

/// Where the counters are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Config)]
pub enum Policy {
    /// In this node.
    Local,
    /// In the database, shared by its nodes: in this node, as a store is one node's.
    Cluster,
    /// In a Redis server.
    Redis,
}

impl RateLimitingConfig {
    /// The limits there are, shortest window first.
    pub fn limits(&self) -> Vec<Limit> {
        let most = [self.second, self.minute, self.hour, self.day, self.month, self.year];
        let limits = Period::ALL.into_iter().zip(most);
        limits.filter_map(|(period, most)| most.map(|most| Limit { period, most })).collect()
    }
}

/// How the plugin presents itself.
pub fn schema() -> PluginSchema {
    let needs = |field, value: &str, then| EntityCheck::Conditional {
        if_field: field,
        if_match: Box::new(Constraint::Eq(Value::from(value))),
        then_field: then,
        then_match: Box::new(Constraint::Required),
        then_error: None,
    };
    PluginSchema::new("rate-limiting", 910, RateLimitingConfig::schema())
        .about("Allows so many requests in a second, minute, hour, day, month or year of the calendar.")
        .without_store(without_cluster())
        .with_config_check(check_together)
        .with_checks(vec![
            EntityCheck::AtLeastOneOf(vec![
                "config.second",
                "config.minute",
                "config.hour",
                "config.day",
                "config.month",
                "config.year",
            ]),
            needs("config.policy", "redis", "config.redis.host"),
            needs("config.policy", "redis", "config.redis.port"),
            needs("config.policy", "redis", "config.redis.timeout"),
            needs("config.limit_by", "header", "config.header_name"),
            needs("config.limit_by", "path", "config.path"),
        ])
}

/// The same without the policy `cluster`, which needs a store that nodes share (Kong 3.11).
fn without_cluster() -> &'static Record {
    static SCHEMA: LazyLock<Record> = LazyLock::new(|| {
        let mut record = RateLimitingConfig::schema().clone();
        let policy = record.fields.iter_mut().filter(|field| field.name == "policy");
        for constraint in policy.flat_map(|field| &mut field.shape.constraints) {
            if let Constraint::OneOf(values) = constraint {
                values.retain(|value| *value != Policy::Cluster.name());
            }
        }
        record
    });
    &SCHEMA
}

/// What the fields demand of each other.
fn check_together(config: &Value) -> Result<(), String> {
    let limits: Vec<(&str, f64)> = Period::ALL
        .iter()
        .filter_map(|period| Some((period.name(), config.get(period.name())?.as_f64()?)))
        .collect();
    for (index, (shorter, less)) in limits.iter().enumerate() {
        for (longer, more) in limits.iter().skip(index + 1) {
            if more < less {
                return Err(format!(
                    "The limit for {longer}({more:.1}) cannot be lower than the limit for {shorter}({less:.1})"
                ));
            }
        }
    }
    let sync_rate = config.get("sync_rate").and_then(Value::as_f64).unwrap_or(-1.0);
    let has_redis = config.get("policy").and_then(Value::as_str) == Some("redis");
    if sync_rate == -1.0 || has_redis && sync_rate >= 0.02 {
        Ok(())
    } else if has_redis {
        Err("sync_rate must be greater than 0.02, or -1 to disable".into())
    } else {
        Err("sync_rate can only be used with the redis policy".into())
    }
}
