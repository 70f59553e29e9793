//! `rate-limiting`: so many requests in a second, minute, hour, day, month or year of the calendar.

pub mod config;
mod shared;

use std::convert::Infallible;
use std::sync::{Arc, LazyLock};

use tollgate_gateway::{Access, BuildError, Exchange, Outcome, Phases, Plugin, Scope, answer, clock};
use tollgate_http::{Response, StatusCode};
use tollgate_limit::{Counters, Limit, Period, Taken};
use tollgate_model::{Map, Value};
use tollgate_telemetry::Level;
use uuid::Uuid;

pub use self::config::schema;
use self::config::{LimitBy, Policy, RateLimitingConfig};
use self::shared::InRedis;
use crate::identifier::CountBy;
use crate::kept::Kept;
use crate::read;

/// Compiles a configured `rate-limiting`.
///
/// # Errors
/// A status that is none; a Redis that cannot be used.
pub fn build(config: &Map<String, Value>, scope: &Scope) -> Result<Arc<dyn Plugin>, BuildError> {
    let config: RateLimitingConfig = read(config)?;
    let code = config.error_code.unwrap_or(429.0);
    let status = (code.fract() == 0.0 && (100.0..600.0).contains(&code))
        .then(|| StatusCode::from_u16(code as u16).ok())
        .flatten()
        .ok_or_else(|| BuildError {
            field: "config.error_code".into(),
            message: format!("{code} is no status of HTTP; use 100 to 599"),
        })?;
    let limits = config.limits();
    let counted = match config.policy {
        Some(Policy::Redis) => Counted::InRedis(InRedis::new(&config, scope)?),
        // A store is one node's: its counters are that node's.
        Some(Policy::Local | Policy::Cluster) | None => Counted::Here(counters_of(scope.id)),
    };
    Ok(Arc::new(RateLimiting {
        counted,
        fields: limits.iter().map(Fields::of).collect(),
        limits,
        status,
        message: config.error_message.unwrap_or_default(),
        count_by: match config.limit_by {
            Some(LimitBy::Consumer) => CountBy::Consumer,
            Some(LimitBy::Credential) => CountBy::Credential,
            Some(LimitBy::Service) => CountBy::Service,
            Some(LimitBy::Header) => CountBy::Header(config.header_name.unwrap_or_default().into()),
            Some(LimitBy::Path) => CountBy::Path(config.path.unwrap_or_default().into()),
            Some(LimitBy::Ip) | None => CountBy::Ip,
        },
        hide_client_headers: config.hide_client_headers,
        fault_tolerant: config.fault_tolerant,
    }))
}

/// The counters of a configured plugin. They outlive changes of its configuration.
fn counters_of(plugin: Uuid) -> Arc<Counters> {
    static KEPT: LazyLock<Kept<Uuid, Counters>> = LazyLock::new(Kept::default);
    let made = KEPT.get(plugin, |_| true, || Ok::<_, Infallible>(Counters::default()));
    made.unwrap_or_else(|never| match never {})
}

struct RateLimiting {
    counted: Counted,
    /// Never empty.
    limits: Vec<Limit>,
    /// Header fields of each limit.
    fields: Vec<Fields>,
    status: StatusCode,
    message: String,
    count_by: CountBy,
    hide_client_headers: bool,
    fault_tolerant: bool,
}

/// Where the counters are.
enum Counted {
    Here(Arc<Counters>),
    InRedis(InRedis),
}

/// Names, and the value that never changes, of a limit's header fields.
struct Fields {
    limit: &'static str,
    remaining: &'static str,
    most: Box<str>,
}

impl Fields {
    fn of(limit: &Limit) -> Self {
        let (name, remaining) = match limit.period {
            Period::Second => ("X-RateLimit-Limit-Second", "X-RateLimit-Remaining-Second"),
            Period::Minute => ("X-RateLimit-Limit-Minute", "X-RateLimit-Remaining-Minute"),
            Period::Hour => ("X-RateLimit-Limit-Hour", "X-RateLimit-Remaining-Hour"),
            Period::Day => ("X-RateLimit-Limit-Day", "X-RateLimit-Remaining-Day"),
            Period::Month => ("X-RateLimit-Limit-Month", "X-RateLimit-Remaining-Month"),
            Period::Year => ("X-RateLimit-Limit-Year", "X-RateLimit-Remaining-Year"),
        };
        Self { limit: name, remaining, most: limit.most.to_string().into() }
    }
}

impl Plugin for RateLimiting {
    fn phases(&self) -> Phases {
        Phases::ACCESS
    }

    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Access<'a> {
        let now = clock::seconds();
        let redis = match &self.counted {
            Counted::Here(counters) => {
                let taken = counters.take(&self.count_by.identify(exchange), &self.limits, now);
                return match self.decide(exchange, &taken, now) {
                    None => Access::Continue,
                    Some(refusal) => Access::Answer(refusal),
                };
            }
            Counted::InRedis(redis) => redis,
        };
        let identifier = self.count_by.identify(exchange).to_string();
        Access::wait(async move {
            let refusal = match redis.take(&identifier, &self.limits, now).await {
                Ok(taken) => self.decide(exchange, &taken, now),
                Err(error) => {
                    let message = format_args!("rate-limiting: requests are not counted: {error}");
                    exchange.write_error_log(Level::Error, &message);
                    let failed = || exchange.error(StatusCode::INTERNAL_SERVER_ERROR, answer::UNEXPECTED);
                    (!self.fault_tolerant).then(failed)
                }
            };
            refusal.map_or(Outcome::Continue, Outcome::Answer)
        })
    }
}

impl RateLimiting {
    /// Tells the client what is left, and refuses the request where that is nothing.
    fn decide(&self, exchange: &mut Exchange, taken: &Taken, now: u64) -> Option<Response> {
        let reset = if self.hide_client_headers { None } else { self.tell(exchange, taken, now) };
        if taken.allowed {
            return None;
        }
        if let Some(seconds) = reset {
            exchange.response_headers.set("Retry-After", itoa::Buffer::new().format(seconds));
        }
        Some(exchange.error(self.status, &self.message))
    }

    /// Tells the client what is left; the seconds until the narrowest limit has room again.
    fn tell(&self, exchange: &mut Exchange, taken: &Taken, now: u64) -> Option<u64> {
        let mut narrowest: Option<(f64, &Limit, &Fields)> = None;
        let headers = &mut exchange.response_headers;
        for (limit, fields) in self.limits.iter().zip(&self.fields) {
            let count = taken.before.get(limit.period as usize).copied().unwrap_or_default();
            let used = count + u64::from(taken.allowed);
            let remaining = (limit.most - used as f64).max(0.0);
            headers.set(fields.limit, fields.most.as_bytes());
            set_number(headers, fields.remaining, remaining);
            // Limits come shortest first: on a tie the longer window counts.
            if narrowest.is_none_or(|(least, ..)| remaining <= least) {
                narrowest = Some((remaining, limit, fields));
            }
        }
        let (remaining, limit, fields) = narrowest?;
        let reset = limit.period.seconds_left(now);
        headers.set("RateLimit-Limit", fields.most.as_bytes());
        set_number(headers, "RateLimit-Remaining", remaining);
        headers.set("RateLimit-Reset", itoa::Buffer::new().format(reset));
        Some(reset)
    }
}

fn set_number(headers: &mut tollgate_http::Headers, name: &str, number: f64) {
    if number.fract() == 0.0 {
        headers.set(name, itoa::Buffer::new().format(number as u64));
    } else {
        headers.set(name, number.to_string());
    }
}
