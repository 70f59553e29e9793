//! Counters in a Redis that nodes share, under the keys that Kong gives them.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tollgate_gateway::{BuildError, Scope};
use tollgate_limit::{Limit, Part, Period, Shared, Taken};
use tollgate_redis::Error;
use uuid::Uuid;

use super::config::RateLimitingConfig;
use crate::kept::Kept;

/// The counters of one configured plugin.
pub(super) struct InRedis {
    shared: Arc<Shared>,
    /// What the keys of these counters begin with.
    prefix: String,
}

impl InRedis {
    /// The counters outlive changes of the configuration, as long as they stay in the same Redis.
    pub(super) fn new(config: &RateLimitingConfig, scope: &Scope) -> Result<Self, BuildError> {
        static KEPT: LazyLock<Kept<Uuid, Shared>> = LazyLock::new(Kept::default);
        let redis = config.redis.client()?;
        let interval = (config.sync_rate > 0.0).then(|| Duration::from_secs_f64(config.sync_rate));
        let settings = redis.settings().clone();
        let fits = |kept: &Shared| *kept.redis().settings() == settings && kept.interval() == interval;
        let shared = KEPT.get(scope.id, fits, || Ok(Shared::new(redis, interval)))?;
        let of = |id: Option<Uuid>| id.unwrap_or_default();
        Ok(Self { shared, prefix: format!("ratelimit:{}:{}", of(scope.route), of(scope.service)) })
    }

    /// Takes one from every limit of `identifier`, where all have room; else nothing. `now` in seconds since 1970.
    pub(super) async fn take(&self, identifier: &str, limits: &[Limit], now: u64) -> Result<Taken, Error> {
        let parts: Vec<Part> = limits.iter().map(|limit| self.part(identifier, limit, now)).collect();
        let found = self.shared.take(&parts, now).await?;
        let mut before = [0; 6];
        for (limit, used) in limits.iter().zip(&found.used) {
            if let Some(before) = before.get_mut(limit.period as usize) {
                *before = used.current as u64;
            }
        }
        Ok(Taken { allowed: found.allowed, before })
    }

    /// Kong 3.11's key of a counter, kept for longer than its window: months differ in length.
    fn part(&self, identifier: &str, limit: &Limit, now: u64) -> Part {
        let Limit { period, most } = *limit;
        let milliseconds = period.start(now) * 1000;
        let nominal = period.nominal_seconds();
        Part {
            key: format!("{}:{identifier}:{milliseconds}:{}", self.prefix, Period::name(period)),
            previous: None,
            most: Some(most),
            amount: 1.0,
            kept: nominal + nominal / 10 + 1,
        }
    }
}
