//! `rate-limiting`: so many requests in a second, minute, hour, day, month or year of the calendar.

pub mod config;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use tollgate_gateway::{Access, BuildError, Exchange, Phases, Plugin, Scope, clock};
use tollgate_http::StatusCode;
use tollgate_limit::{Counters, Limit, Period, Taken};
use tollgate_model::{Map, Value};
use uuid::Uuid;

pub use self::config::schema;
use self::config::{LimitBy, Policy, RateLimitingConfig};
use crate::read;

/// Compiles a configured `rate-limiting`.
///
/// # Errors
/// The policy `redis`, which is not served.
pub fn build(config: &Map<String, Value>, scope: &Scope) -> Result<Arc<dyn Plugin>, BuildError> {
    let config: RateLimitingConfig = read(config)?;
    let refused = |field: &str, message: String| BuildError { field: field.into(), message };
    if config.policy == Some(Policy::Redis) {
        let message = "counters in Redis are not served by this version; use 'local'";
        return Err(refused("config.policy", message.into()));
    }
    let code = config.error_code.unwrap_or(429.0);
    let status = (code.fract() == 0.0 && (100.0..600.0).contains(&code))
        .then(|| StatusCode::from_u16(code as u16).ok())
        .flatten()
        .ok_or_else(|| {
            refused("config.error_code", format!("{code} is no status of HTTP; use 100 to 599"))
        })?;
    let limits = config.limits();
    Ok(Arc::new(RateLimiting {
        counters: counters_of(scope.id),
        fields: limits.iter().map(Fields::of).collect(),
        limits,
        status,
        message: config.error_message.unwrap_or_default(),
        limit_by: config.limit_by.unwrap_or(LimitBy::Ip),
        header_name: config.header_name.unwrap_or_default(),
        path: config.path.unwrap_or_default(),
        hide_client_headers: config.hide_client_headers,
    }))
}

/// The counters of a configured plugin. They outlive changes of its configuration.
fn counters_of(plugin: Uuid) -> Arc<Counters> {
    static KNOWN: LazyLock<Mutex<HashMap<Uuid, Weak<Counters>>>> = LazyLock::new(Mutex::default);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    known.retain(|_, counters| counters.strong_count() > 0);
    if let Some(counters) = known.get(&plugin).and_then(Weak::upgrade) {
        return counters;
    }
    let counters = Arc::new(Counters::default());
    known.insert(plugin, Arc::downgrade(&counters));
    counters
}

struct RateLimiting {
    counters: Arc<Counters>,
    /// Never empty.
    limits: Vec<Limit>,
    /// Header fields of each limit.
    fields: Vec<Fields>,
    status: StatusCode,
    message: String,
    limit_by: LimitBy,
    header_name: String,
    path: String,
    hide_client_headers: bool,
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

/// Who or what a request is counted for.
#[derive(Hash)]
enum Identifier<'a> {
    Consumer(Uuid),
    Credential(Uuid),
    Service(Uuid),
    Text(&'a [u8]),
    Address(IpAddr),
}

impl Plugin for RateLimiting {
    fn phases(&self) -> Phases {
        Phases::ACCESS
    }

    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Access<'a> {
        let now = clock::seconds();
        let taken = self.counters.take(&self.identify(exchange), &self.limits, now);
        let reset = if self.hide_client_headers { None } else { self.tell(exchange, &taken, now) };
        if taken.allowed {
            return Access::Continue;
        }
        if let Some(seconds) = reset {
            exchange.response_headers.set("Retry-After", itoa::Buffer::new().format(seconds));
        }
        Access::Answer(exchange.error(self.status, &self.message))
    }
}

impl RateLimiting {
    fn identify<'a>(&'a self, exchange: &'a Exchange) -> Identifier<'a> {
        let credential =
            || exchange.credential.as_ref().map(|credential| Identifier::Credential(credential.id));
        let found = match self.limit_by {
            LimitBy::Consumer => {
                let consumer = exchange.consumer.as_ref();
                consumer.map(|consumer| Identifier::Consumer(consumer.id)).or_else(credential)
            }
            LimitBy::Credential => credential(),
            LimitBy::Ip => None,
            LimitBy::Service => {
                let service = exchange.route.as_ref().and_then(|route| route.service.as_ref());
                service.map(|service| Identifier::Service(service.id))
            }
            LimitBy::Header => exchange.head.headers.get(&self.header_name).map(Identifier::Text),
            LimitBy::Path => {
                (exchange.path == self.path.as_bytes()).then(|| Identifier::Text(&exchange.path))
            }
        };
        found.unwrap_or(Identifier::Address(exchange.client_ip))
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
