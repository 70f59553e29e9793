//! Two plugins to configure, a clock that stands still, and certificates.
#![allow(dead_code, reason = "each test uses its part")]

use std::sync::atomic::{AtomicU64, Ordering};

use tollgate_model::entity::rules;
use tollgate_model::schema::{Constraint, EntityCheck};
use tollgate_model::{Config, PluginSchema, PluginSchemas, Set, Source, Value};
use uuid::Uuid;

#[derive(Debug, Config)]
struct Auth {
    #[config(default = ["apikey"], each(check = rules::header_name))]
    names: Vec<String>,
    #[config(default = false)]
    hide: bool,
    anonymous: Option<String>,
}

#[derive(Debug, Config)]
struct Limit {
    #[config(gt(0))]
    second: Option<f64>,
    #[config(gt(0))]
    minute: Option<f64>,
    #[config(default = "local", one_of("local", "redis"), len_min(0))]
    policy: Option<String>,
    redis: Redis,
    extra: Option<Extra>,
    labels: Option<std::collections::BTreeMap<String, String>>,
    #[config(shorthand = "redis.host")]
    redis_host: Option<String>,
    #[config(shorthand = "redis.timeout")]
    redis_timeout: Option<i64>,
}

#[derive(Debug, Config)]
struct Redis {
    host: Option<String>,
    #[config(default = 6379, between(0, 65535))]
    port: Option<i64>,
    #[config(default = 2000)]
    timeout: Option<i64>,
}

#[derive(Debug, Config)]
#[config(checks = [
    EntityCheck::MutuallyRequired(vec!["a", "b"]),
    EntityCheck::MutuallyExclusive(vec!["a", "c"]),
])]
struct Extra {
    #[config(referenceable)]
    a: Option<String>,
    b: Option<String>,
    c: Option<String>,
}

#[derive(Debug, Config)]
struct Shown {
    #[config(deprecated(message = "old: use new", removal = "4.0"))]
    old: Option<Set<String>>,
    #[config(optional, encrypted)]
    secret: Option<String>,
}

/// Plugins `auth`, `limit` and `shown`.
pub struct Plugins(Vec<PluginSchema>);

impl Default for Plugins {
    fn default() -> Self {
        let checks = vec![
            EntityCheck::AtLeastOneOf(vec!["config.second", "config.minute"]),
            EntityCheck::Conditional {
                if_field: "config.policy",
                if_match: Box::new(Constraint::Eq("redis".into())),
                then_field: "config.redis.host",
                then_match: Box::new(Constraint::Required),
                then_error: None,
            },
        ];
        Self(vec![
            PluginSchema::new("auth", 1, Auth::schema()).without_consumer(),
            PluginSchema::new("limit", 2, Limit::schema()).with_checks(checks),
            PluginSchema::new("shown", 3, Shown::schema()),
        ])
    }
}

impl PluginSchemas for Plugins {
    fn get(&self, name: &str) -> Option<&PluginSchema> {
        self.0.iter().find(|plugin| plugin.name == name)
    }

    fn all(&self) -> Vec<&PluginSchema> {
        self.0.iter().collect()
    }
}

/// A clock that stands still, and ids that count.
#[derive(Default)]
pub struct Fixed(AtomicU64);

impl Source for Fixed {
    fn now(&self) -> f64 {
        1000.1234
    }

    fn id(&self) -> Uuid {
        let number = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        Uuid::from_u128(0x0000_0000_0000_4000_8000_0000_0000_0000 | u128::from(number))
    }
}

/// Puts PEM in the place of `$CERT`, `$KEY`, `$OTHER_KEY`, `$CA` and `$EXPIRED_CA`.
pub fn certificates(text: &str) -> String {
    let pem = |text: String| Value::from(text).to_string().trim_matches('"').to_owned();
    let (key, other) = (rcgen::KeyPair::generate().unwrap(), rcgen::KeyPair::generate().unwrap());
    let parameters = rcgen::CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
    let certificate = parameters.self_signed(&key).unwrap();
    let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = parameters.self_signed(&key).unwrap();
    parameters.not_after = rcgen::date_time_ymd(2001, 1, 1);
    let expired = parameters.self_signed(&key).unwrap();
    text.replace("$CERT", &pem(certificate.pem()))
        .replace("$KEY", &pem(key.serialize_pem()))
        .replace("$OTHER_KEY", &pem(other.serialize_pem()))
        .replace("$CA", &pem(authority.pem()))
        .replace("$EXPIRED_CA", &pem(expired.pem()))
}
