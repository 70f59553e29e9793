//! Counters in a Redis that several nodes share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tollgate_redis::{Error, Redis, Script};

use crate::windows::Used;

/// A counter, and what is to be used of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// Key of the window's counter. In a cluster all parts of a call must have the same hash tag (`{…}`).
    pub key: String,
    /// Key of the window before, and how much of it counts.
    pub previous: Option<(String, f64)>,
    /// The limit: with so much used there is no room. `None` where the counter is only looked at.
    pub most: Option<f64>,
    /// How much is used where every part has room.
    pub amount: f64,
    /// Seconds the counter is kept.
    pub kept: u64,
}

/// A change of a counter that no limit stands against.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Key of the window's counter.
    pub key: String,
    /// What is added, or taken where it is negative.
    pub amount: f64,
    /// Seconds the counter is kept.
    pub kept: u64,
}

/// What [`Shared::take`] found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Whether every part had room; only then was anything used.
    pub allowed: bool,
    /// What had been used before, by part.
    pub used: Vec<Used>,
}

/// Most counters that are known here; of others only what is in Redis counts.
const MOST_KNOWN: usize = 1_000_000;

/// Most counters in one call to Redis.
const MOST_AT_ONCE: usize = 500;

/// Uses the amounts where all parts have room. Keys come in pairs (window, window before), arguments in fours.
static TAKE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local found, room = {}, true
        for i = 1, #KEYS, 2 do
          local a = 2 * (i - 1)
          local current = math.max(tonumber(redis.call('GET', KEYS[i]) or '0'), 0)
          local weight, previous = tonumber(ARGV[a + 1]), 0
          if weight > 0 then
            previous = math.max(tonumber(redis.call('GET', KEYS[i + 1]) or '0'), 0)
          end
          if ARGV[a + 2] ~= '' and current + previous * weight >= tonumber(ARGV[a + 2]) then
            room = false
          end
          found[i] = string.format('%.17g', current)
          found[i + 1] = string.format('%.17g', previous)
        end
        if room then
          for i = 1, #KEYS, 2 do
            local a = 2 * (i - 1)
            if tonumber(ARGV[a + 3]) ~= 0 then
              redis.call('INCRBYFLOAT', KEYS[i], ARGV[a + 3])
              if redis.call('TTL', KEYS[i]) < 0 then
                redis.call('EXPIRE', KEYS[i], ARGV[a + 4])
              end
            end
          end
        end
        return {room and 1 or 0, found}",
    )
});

/// Changes counters and tells what they are then. What is taken from a counter that is gone is nothing.
static ADD: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local totals = {}
        for i, key in ipairs(KEYS) do
          local amount = tonumber(ARGV[2 * i - 1])
          if amount > 0 or (amount < 0 and redis.call('EXISTS', key) == 1) then
            totals[i] = redis.call('INCRBYFLOAT', key, ARGV[2 * i - 1])
            if redis.call('TTL', key) < 0 then
              redis.call('EXPIRE', key, ARGV[2 * i])
            end
          else
            totals[i] = redis.call('GET', key) or '0'
          end
        end
        return totals",
    )
});

/// Counters in Redis: asked at every call, or counted here and reconciled at intervals.
pub struct Shared {
    core: Arc<Core>,
    interval: Option<Duration>,
    reconciling: AtomicBool,
    /// The task that reconciles ends when this goes.
    alive: Arc<()>,
}

struct Core {
    redis: Redis,
    /// Counters as they are known here, and what of them Redis is yet to be told.
    known: Mutex<HashMap<String, Known>>,
    /// Something was counted here because Redis could not be asked.
    behind: AtomicBool,
    pushing: tokio::sync::Mutex<()>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Known {
    total: f64,
    pending: f64,
    kept: u64,
    /// When it is forgotten, in seconds since 1970.
    until: u64,
}

impl Known {
    fn amount(&self) -> f64 {
        (self.total + self.pending).max(0.0)
    }
}

impl Shared {
    /// Without an `interval` Redis is asked at every call.
    pub fn new(redis: Redis, interval: Option<Duration>) -> Self {
        let core = Core {
            redis,
            known: Mutex::default(),
            behind: AtomicBool::default(),
            pushing: tokio::sync::Mutex::default(),
        };
        Self { core: Arc::new(core), interval, reconciling: AtomicBool::default(), alive: Arc::default() }
    }

    /// Where the counters are.
    pub fn redis(&self) -> &Redis {
        &self.core.redis
    }

    /// How often counters are reconciled; at every call where there is none.
    pub fn interval(&self) -> Option<Duration> {
        self.interval
    }

    /// Uses the amounts where all parts have room; else none. `now` in seconds since 1970.
    ///
    /// # Errors
    /// Redis could not be asked. With an interval that never is the case.
    pub async fn take(&self, parts: &[Part], now: u64) -> Result<Found, Error> {
        if self.interval.is_some() {
            return Ok(self.take_here(parts, now));
        }
        let mut call = TAKE.prepare_invoke();
        for part in parts {
            let (previous, weight) =
                part.previous.as_ref().map_or((&part.key, 0.0), |(key, weight)| (key, *weight));
            let most = part.most.map(|most| most.to_string()).unwrap_or_default();
            call.key(&part.key).key(previous);
            call.arg(weight.to_string()).arg(most).arg(part.amount.to_string()).arg(part.kept);
        }
        let (room, found): (u8, Vec<f64>) = self.core.redis.run(&call).await?;
        if self.core.behind.load(Ordering::Relaxed) {
            let core = Arc::clone(&self.core);
            tokio::spawn(async move { core.push(now).await });
        }
        let used = found
            .as_chunks()
            .0
            .iter()
            .map(|[current, previous]| Used { current: *current, previous: *previous });
        Ok(Found { allowed: room == 1, used: used.collect() })
    }

    /// The same by what is known here; Redis is told later.
    pub fn take_here(&self, parts: &[Part], now: u64) -> Found {
        self.reconcile();
        let mut known = self.core.known();
        let amount = |key: &String| known.get(key).map_or(0.0, Known::amount);
        let used: Vec<Used> = parts
            .iter()
            .map(|part| Used {
                current: amount(&part.key),
                previous: part.previous.as_ref().map_or(0.0, |(key, _)| amount(key)),
            })
            .collect();
        let allowed = parts.iter().zip(&used).all(|(part, used)| {
            let weight = part.previous.as_ref().map_or(0.0, |(_, weight)| *weight);
            part.most.is_none_or(|most| used.current + used.previous * weight < most)
        });
        for part in parts {
            // What was only looked at is known from the next time on.
            let amount = if allowed { part.amount } else { 0.0 };
            add(&mut known, &part.key, amount, part.kept, now);
        }
        drop(known);
        self.core.behind.store(true, Ordering::Relaxed);
        Found { allowed, used }
    }

    /// Changes counters. Where Redis cannot be told now it is told later. `now` in seconds since 1970.
    ///
    /// # Errors
    /// Why Redis was not told yet.
    pub async fn add(&self, changes: &[Change], now: u64) -> Result<(), Error> {
        let mut told = Ok(());
        if self.interval.is_none() {
            told = self.core.tell(changes).await.map(|_| ());
            if told.is_ok() {
                return told;
            }
        }
        let mut known = self.core.known();
        for change in changes {
            add(&mut known, &change.key, change.amount, change.kept, now);
        }
        drop(known);
        self.core.behind.store(true, Ordering::Relaxed);
        told
    }

    /// Sees to it that counters are reconciled from now on, where that is done at intervals.
    fn reconcile(&self) {
        let Some(interval) = self.interval else { return };
        if self.reconciling.load(Ordering::Relaxed) || self.reconciling.swap(true, Ordering::Relaxed) {
            return;
        }
        let (core, alive) = (Arc::clone(&self.core), Arc::downgrade(&self.alive));
        tokio::spawn(async move {
            let is_alive = |alive: &Weak<()>| alive.strong_count() > 0;
            while is_alive(&alive) {
                tokio::time::sleep(interval).await;
                let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
                core.push(now.as_secs()).await;
            }
        });
    }
}

/// Adds to what is known of a counter.
fn add(known: &mut HashMap<String, Known>, key: &String, amount: f64, kept: u64, now: u64) {
    if let Some(known) = known.get_mut(key) {
        known.pending += amount;
    } else if known.len() < MOST_KNOWN {
        known.insert(key.clone(), Known { total: 0.0, pending: amount, kept, until: now + kept });
    }
}

impl Core {
    fn known(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells Redis what it is yet to be told, and learns what others counted.
    async fn push(&self, now: u64) {
        let _one_at_a_time = self.pushing.lock().await;
        let mut changes: Vec<Change> = {
            let mut known = self.known();
            known.retain(|_, known| known.until > now);
            let change = |(key, known): (&String, &Known)| Change {
                key: key.clone(),
                amount: known.pending,
                kept: known.kept,
            };
            known.iter().map(change).collect()
        };
        changes.sort_unstable_by(|a, b| hash_tag(&a.key).cmp(hash_tag(&b.key)));
        for group in changes.chunk_by(|a, b| hash_tag(&a.key) == hash_tag(&b.key)) {
            for changes in group.chunks(MOST_AT_ONCE) {
                // What could not be told stays, and is told the next time.
                let Ok(totals) = self.tell(changes).await else { return };
                let mut known = self.known();
                for (change, total) in changes.iter().zip(totals) {
                    if let Some(known) = known.get_mut(&change.key) {
                        known.total = total;
                        known.pending -= change.amount;
                    }
                }
            }
        }
        self.behind.store(false, Ordering::Relaxed);
    }

    /// Changes counters in Redis; what they are then.
    async fn tell(&self, changes: &[Change]) -> Result<Vec<f64>, Error> {
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        let mut call = ADD.prepare_invoke();
        for change in changes {
            call.key(&change.key).arg(change.amount.to_string()).arg(change.kept);
        }
        self.redis.run(&call).await
    }
}

/// What decides about a key's place in a cluster: its part in braces, where it has one.
fn hash_tag(key: &str) -> &str {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
    tag.filter(|tag| !tag.is_empty()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use tollgate_redis::{Login, Node, Settings, Topology};

    use super::*;

    /// Counters in a Redis that nobody can reach.
    fn unreachable(interval: Option<Duration>) -> Shared {
        let node = Node { host: "127.0.0.1".into(), port: 1 };
        let settings = Settings {
            topology: Topology::One(node),
            login: Login::default(),
            database: 0,
            tls: None,
            connect_timeout: Duration::from_secs(1),
            answer_timeout: Duration::from_secs(1),
        };
        Shared::new(Redis::new(settings).unwrap(), interval)
    }

    fn part(key: &str, most: f64, amount: f64) -> Part {
        Part { key: key.into(), previous: None, most: Some(most), amount, kept: 60 }
    }

    #[tokio::test]
    async fn an_outage_is_told_or_bridged() {
        let shared = unreachable(None);
        let parts = [part("a", 3.0, 2.0), part("b", 100.0, 2.0)];
        assert!(matches!(shared.take(&parts, 0).await, Err(Error::Unreachable { .. })));
        let taken: Vec<bool> = (0..3).map(|_| shared.take_here(&parts, 0).allowed).collect();
        assert_eq!(taken, [true, true, false]);
        let change = Change { key: "a".into(), amount: -3.5, kept: 60 };
        assert!(shared.add(&[change], 0).await.is_err());
        let found = shared.take_here(&parts, 0);
        assert_eq!((found.allowed, found.used[0].current, found.used[1].current), (true, 0.5, 4.0));
    }

    #[tokio::test]
    async fn with_an_interval_nothing_waits_for_redis() {
        let shared = unreachable(Some(Duration::from_secs(60)));
        let parts = [Part { previous: Some(("before".into(), 0.5)), ..part("a", 3.0, 2.0) }];
        shared.add(&[Change { key: "before".into(), amount: 4.0, kept: 60 }], 0).await.unwrap();
        assert!(shared.take(&parts, 0).await.unwrap().allowed);
        let found = shared.take(&parts, 0).await.unwrap();
        assert_eq!(found, Found { allowed: false, used: vec![Used { current: 2.0, previous: 4.0 }] });
    }

    #[test]
    fn tags_are_what_clusters_take_for_them() {
        assert_eq!(["a{b}c", "{b}", "a{}c", "a{c", "ab"].map(hash_tag), ["b", "b", "", "", ""]);
    }
}
