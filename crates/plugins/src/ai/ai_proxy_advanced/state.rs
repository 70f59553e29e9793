//! What is learnt of targets while they serve. It outlives changes of the configuration.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use tollgate_model::Value;
use uuid::Uuid;

/// What is learnt of a target.
#[derive(Debug, Default)]
pub(super) struct TargetState {
    /// Requests under way.
    pub(super) under_way: AtomicU32,
    /// Recent latency, in milliseconds.
    pub(super) latency: Decaying<10_000>,
    /// Recent usage, in what is counted.
    pub(super) usage: Decaying<60_000>,
    /// Recent requests of that usage.
    pub(super) calls: Decaying<60_000>,
    /// Whether it is left out.
    pub(super) breaker: Breaker,
}

/// Names of targets, in order: by these they are known again, here and on other nodes.
pub(super) fn names(targets: &[Value]) -> Vec<String> {
    let mut seen = HashMap::new();
    let name = |target| {
        let identity = identity(target);
        // Targets that differ in their keys alone are told apart by their order.
        let number = seen.entry(identity.clone()).and_modify(|number| *number += 1).or_insert(0);
        format!("{identity} {number}")
    };
    targets.iter().map(name).collect()
}

/// The states of a configured plugin's targets, by their names.
pub(super) fn states_of(plugin: Uuid, names: Vec<String>) -> Vec<Arc<TargetState>> {
    type Known = HashMap<(Uuid, String), Weak<TargetState>>;
    static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    known.retain(|_, state| state.strong_count() > 0);
    let state = |name| {
        let key = (plugin, name);
        let state = known.get(&key).and_then(Weak::upgrade).unwrap_or_default();
        known.insert(key, Arc::downgrade(&state));
        state
    };
    names.into_iter().map(state).collect()
}

/// What makes a target the same as before: what it does, whose model it runs, and where. Not what is asked of the
/// model, its price, its key or its weight.
fn identity(target: &Value) -> String {
    let options = target.pointer("/model/options").and_then(Value::as_object);
    let is_place = |value: &Value| value.is_string() || value.is_object();
    let places: Vec<_> = options.into_iter().flatten().filter(|(_, value)| is_place(value)).collect();
    let at = |path: &str| target.pointer(path).cloned().unwrap_or_default();
    Value::from(vec![
        at("/route_type"),
        at("/model/provider"),
        at("/model/name"),
        places
            .into_iter()
            .map(|(name, value)| Value::from(vec![name.clone().into(), value.clone()]))
            .collect(),
    ])
    .to_string()
}

/// Milliseconds since this process began to count them.
pub(super) fn now() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    // Never 0, which stands for never.
    START.elapsed().as_millis() as u64 + 1
}

/// A number that decays to a third in `TIME` milliseconds. Number and time are one atomic: nothing is lost where
/// several add to it at once.
#[derive(Debug, Default)]
pub(super) struct Decaying<const TIME: u64>(AtomicU64);

impl<const TIME: u64> Decaying<TIME> {
    fn unpack(packed: u64, now: u64) -> f64 {
        let value = f64::from(f32::from_bits((packed >> 32) as u32));
        let age = (now as u32).wrapping_sub(packed as u32);
        value * (-f64::from(age) / TIME as f64).exp()
    }

    fn pack(value: f64, now: u64) -> u64 {
        u64::from((value as f32).to_bits()) << 32 | u64::from(now as u32)
    }

    pub(super) fn get(&self, now: u64) -> f64 {
        Self::unpack(self.0.load(Ordering::Relaxed), now)
    }

    fn change(&self, now: u64, to: impl Fn(f64) -> f64) {
        let changed = |packed| Some(Self::pack(to(Self::unpack(packed, now)), now));
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, changed);
    }

    pub(super) fn add(&self, now: u64, more: f64) {
        self.change(now, |value| value + more);
    }

    /// Takes in a measurement: a higher one counts in full, a lower one for a tenth. So a slow target is noticed at
    /// once, and forgiven over time (peak EWMA).
    pub(super) fn measure(&self, now: u64, measured: f64) {
        self.change(
            now,
            |value| if measured >= value { measured } else { value - (value - measured) / 10.0 },
        );
    }
}

/// How often a target may fail, and for how long it is left out then (Kong 3.13: `max_fails`, `fail_timeout`).
#[derive(Debug, Clone, Copy)]
pub(super) struct BreakerSettings {
    /// 0 for any number.
    pub(super) max_fails: u32,
    pub(super) fail_timeout: Duration,
}

/// Leaves a target out that has failed too often. After a while one request tries it again.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    fails: AtomicU32,
    last_failure: AtomicU64,
    /// Until when it is left out; 0 where it is not.
    out_until: AtomicU64,
}

impl Breaker {
    /// Whether a request may be sent.
    pub(super) fn allows(&self, now: u64, settings: BreakerSettings) -> bool {
        settings.max_fails == 0 || self.out_until.load(Ordering::Relaxed) <= now
    }

    /// Takes leave to send a request; `false` where another has just taken the one there is for a target on trial.
    pub(super) fn enter(&self, now: u64, settings: BreakerSettings) -> bool {
        let until = self.out_until.load(Ordering::Relaxed);
        if settings.max_fails == 0 || until == 0 {
            return true;
        }
        let next = now + settings.fail_timeout.as_millis() as u64;
        until <= now
            && self.out_until.compare_exchange(until, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    pub(super) fn failed(&self, now: u64, settings: BreakerSettings) {
        let fails = self.fails.fetch_add(1, Ordering::Relaxed) + 1;
        self.last_failure.store(now, Ordering::Relaxed);
        if settings.max_fails > 0 && fails >= settings.max_fails {
            self.out_until.store(now + settings.fail_timeout.as_millis() as u64, Ordering::Relaxed);
        }
    }

    /// Failures are forgotten by a success that comes later than `fail_timeout` after the last of them.
    pub(super) fn succeeded(&self, now: u64, settings: BreakerSettings) {
        if self.fails.load(Ordering::Relaxed) == 0 {
            return;
        }
        let last = self.last_failure.load(Ordering::Relaxed);
        if now >= last + settings.fail_timeout.as_millis() as u64 {
            self.fails.store(0, Ordering::Relaxed);
            self.out_until.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_model::json;

    #[test]
    fn slow_answers_count_at_once_and_are_forgiven_over_time() {
        let latency = Decaying::<10_000>::default();
        assert_eq!(latency.get(5), 0.0);
        latency.measure(5, 100.0);
        assert_eq!(latency.get(5), 100.0);
        latency.measure(5, 10.0);
        assert!((latency.get(5) - 91.0).abs() < 0.01);
        assert!((latency.get(10_005) - 91.0 / std::f64::consts::E).abs() < 0.01);
    }

    #[test]
    fn nothing_added_at_once_is_lost() {
        let usage = Decaying::<60_000>::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|_| usage.add(7, 3.0)));
            }
        });
        assert_eq!(usage.get(7), 12_000.0);
    }

    #[test]
    fn a_target_that_failed_too_often_is_left_out_and_tried_again_once() {
        let settings = BreakerSettings { max_fails: 2, fail_timeout: Duration::from_millis(100) };
        let breaker = Breaker::default();
        breaker.failed(10, settings);
        // A success does not make up for a failure so soon.
        breaker.succeeded(11, settings);
        assert!(breaker.allows(12, settings) && breaker.enter(12, settings));
        breaker.failed(20, settings);
        assert!(!breaker.allows(119, settings) && !breaker.enter(119, settings));
        // On trial: one request at a time.
        assert!(breaker.allows(120, settings) && breaker.enter(120, settings));
        assert!(!breaker.allows(121, settings) && !breaker.enter(121, settings));
        breaker.failed(130, settings);
        assert!(!breaker.allows(229, settings));
        assert!(breaker.enter(230, settings));
        breaker.succeeded(231, settings);
        assert!(breaker.enter(232, settings) && breaker.enter(232, settings));
        breaker.failed(240, settings);
        assert!(breaker.allows(241, settings), "the count began anew");
    }

    #[test]
    fn without_a_number_none_is_left_out() {
        let settings = BreakerSettings { max_fails: 0, fail_timeout: Duration::from_millis(100) };
        let breaker = Breaker::default();
        (0..100).for_each(|at| breaker.failed(at, settings));
        assert!(breaker.allows(100, settings) && breaker.enter(100, settings));
    }

    #[test]
    fn a_target_is_known_again() {
        let plugin = Uuid::from_u128(1);
        let target = |name: &str, more: Value| json!({"route_type": "llm/v1/chat", "model": {"provider": "openai", "name": name, "options": more}, "weight": 3});
        let first = states_of(
            plugin,
            names(&[target("a", json!({})), target("a", json!({})), target("b", json!({}))]),
        );
        let second = states_of(
            plugin,
            names(&[
                target("b", json!({"temperature": 1})),
                target("a", json!({"input_cost": 2.0, "upstream_url": null})),
                target("b", json!({"upstream_url": "http://a"})),
            ]),
        );
        assert!(Arc::ptr_eq(&first[2], &second[0]));
        assert!(Arc::ptr_eq(&first[0], &second[1]));
        assert!(!Arc::ptr_eq(&first[0], &first[1]));
        assert!(!Arc::ptr_eq(&first[2], &second[2]));
        let others = states_of(Uuid::from_u128(2), names(&[target("a", json!({}))]));
        assert!(!Arc::ptr_eq(&first[0], &others[0]));
    }
}
