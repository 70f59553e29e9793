//! Choosing a target of an upstream.

mod hash;
mod health;
mod peer;
pub(crate) mod probe;
mod ring;
mod settings;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tollgate_model::entity::Algorithm;

pub use hash::{HashInput, HashSource};
pub use health::{ActiveChecks, Health, Outcome, Thresholds};
pub use peer::{Peer, PeerHost};
pub use ring::Ring;

use health::TargetHealth;

/// A target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BalancedTarget {
    /// Name or address.
    pub host: Box<str>,
    /// Port.
    pub port: u16,
    /// Share of the requests; 0 for none.
    pub weight: u32,
}

/// How an upstream balances.
#[derive(Debug, Clone, PartialEq)]
pub struct BalancerSettings {
    /// How a target is chosen.
    pub algorithm: Algorithm,
    /// What is hashed to choose one.
    pub hash: HashInput,
    /// Points of the hash ring.
    pub slots: usize,
    /// What the requests sent to a target say of its health.
    pub passive: Thresholds,
    /// How targets are asked by the gateway itself.
    pub active: ActiveChecks,
    /// Percentage of the weight that must be healthy, or no target is chosen.
    pub threshold: f64,
}

impl Default for BalancerSettings {
    /// Kong 3.11: round-robin, no health checks.
    fn default() -> Self {
        Self {
            algorithm: Algorithm::RoundRobin,
            hash: HashInput::default(),
            slots: 10_000,
            passive: Thresholds::default(),
            active: ActiveChecks::default(),
            threshold: 0.0,
        }
    }
}

impl BalancerSettings {
    /// Whether anything changes what targets are taken for.
    fn is_checked(&self) -> bool {
        self.passive.can_fail() || self.active.is_on()
    }
}

/// An upstream: targets, and whose turn it is. Choosing one locks nothing.
#[derive(Debug)]
pub struct Balancer {
    /// Name of the upstream.
    pub name: Box<str>,
    /// `Host` that targets are sent, where the upstream says one.
    pub host_header: Option<Box<str>>,
    settings: BalancerSettings,
    targets: Vec<BalancedTarget>,
    /// The targets as requests see them.
    peers: Vec<Peer>,
    /// What is known of each target; shared with the balancers before and after this one.
    states: Vec<Arc<TargetState>>,
    /// Indexes of targets, each as often as its share.
    wheel: Vec<u16>,
    ring: Ring,
    next: AtomicUsize,
}

/// What is learnt of a target while it serves.
#[derive(Debug, Default)]
struct TargetState {
    health: TargetHealth,
    /// Requests under way.
    connections: AtomicUsize,
    /// Recent time to the answer's head in microseconds; 0 before the first.
    latency: AtomicU64,
    /// When it is asked next, in milliseconds since 1970.
    next_probe: AtomicU64,
}

/// A request under way with a target, until it is dropped.
#[derive(Debug)]
pub struct Lease(Arc<TargetState>);

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Longest wheel; beyond it shares are rounded.
const LONGEST_WHEEL: u64 = 10_000;

impl Balancer {
    /// A balancer over targets; those of weight 0 are kept but never chosen. What `previous` has learnt of
    /// the same host and port stays known.
    pub fn new(
        name: &str,
        host_header: Option<&str>,
        settings: BalancerSettings,
        targets: Vec<BalancedTarget>,
        previous: Option<&Balancer>,
    ) -> Self {
        // What was learnt by checks that are off now would never be unlearnt.
        let previous = previous.filter(|previous| settings.is_checked() || !previous.settings.is_checked());
        let known = |target: &BalancedTarget| {
            let previous = previous?;
            let same = |old: &BalancedTarget| (&old.host, old.port) == (&target.host, target.port);
            previous
                .targets
                .iter()
                .position(same)
                .and_then(|index| previous.states.get(index))
                .map(Arc::clone)
        };
        let wheel = wheel(&targets);
        let ring = match settings.algorithm {
            Algorithm::ConsistentHashing => Ring::new(&in_ring_order(&targets), settings.slots),
            _ => Ring::default(),
        };
        Self {
            name: name.into(),
            host_header: host_header.map(Box::from),
            settings,
            states: targets.iter().map(|target| known(target).unwrap_or_default()).collect(),
            peers: targets.iter().map(|target| Peer::new(&target.host, target.port, host_header)).collect(),
            targets,
            next: AtomicUsize::new(fastrand::usize(..wheel.len().max(1))),
            wheel,
            ring,
        }
    }

    /// The targets.
    pub fn targets(&self) -> &[BalancedTarget] {
        &self.targets
    }

    /// A target as requests see it.
    pub fn peer(&self, target: usize) -> Option<&Peer> {
        self.peers.get(target)
    }

    /// How it balances.
    pub fn settings(&self) -> &BalancerSettings {
        &self.settings
    }

    /// Index of the target for a request that `tried` these before: one it has not tried, where there is one.
    /// `hash` is what consistent hashing goes by ([`HashInput::value`]). `None` where no target is healthy, or
    /// fewer than the threshold demands.
    pub fn pick(&self, tried: &[usize], hash: Option<&[u8]>) -> Option<usize> {
        if self.settings.threshold > 0.0 && !self.is_above_threshold() {
            return None;
        }
        let fresh = |target: usize| self.is_available(target) && !tried.contains(&target);
        let chosen = self.choose(hash, fresh);
        if chosen.is_none() && !tried.is_empty() {
            self.choose(hash, |target| self.is_available(target))
        } else {
            chosen
        }
    }

    fn choose(&self, hash: Option<&[u8]>, may: impl Fn(usize) -> bool) -> Option<usize> {
        match self.settings.algorithm {
            Algorithm::RoundRobin => self.turn(may),
            Algorithm::ConsistentHashing => self.ring.find(hash.unwrap_or_default(), may),
            // The wheel decides between equals.
            Algorithm::LeastConnections => {
                let turn = self.turn(|_| true)?;
                let from_turn = (0..self.targets.len()).map(|offset| (turn + offset) % self.targets.len());
                from_turn.filter(|target| may(*target)).min_by(|a, b| self.load(*a).total_cmp(&self.load(*b)))
            }
            Algorithm::Latency => {
                let first = self.turn(&may)?;
                let second = self.turn(|target| target != first && may(target)).unwrap_or(first);
                Some(if self.delay(second) < self.delay(first) { second } else { first })
            }
        }
    }

    /// The next in turn that `may` be. The wheel may be turned by others meanwhile, so a whole round of it may
    /// miss a target; then any will do.
    fn turn(&self, may: impl Fn(usize) -> bool) -> Option<usize> {
        let mut turns = self.wheel.iter().map(|_| {
            let at = self.next.fetch_add(1, Ordering::Relaxed) % self.wheel.len();
            usize::from(self.wheel[at])
        });
        turns.find(|target| may(*target)).or_else(|| (0..self.targets.len()).find(|target| may(*target)))
    }

    fn load(&self, target: usize) -> f64 {
        (self.states[target].connections.load(Ordering::Relaxed) as f64 + 1.0)
            / f64::from(self.targets[target].weight)
    }

    /// Recent latency by weight. A target that has not answered yet is tried at once.
    fn delay(&self, target: usize) -> f64 {
        self.states[target].latency.load(Ordering::Relaxed) as f64 / f64::from(self.targets[target].weight)
    }

    fn is_available(&self, target: usize) -> bool {
        self.targets[target].weight > 0 && self.states[target].health.is_healthy()
    }

    fn is_above_threshold(&self) -> bool {
        let weight = |index: usize| f64::from(self.targets[index].weight);
        let total: f64 = (0..self.targets.len()).map(weight).sum();
        let available: f64 =
            (0..self.targets.len()).filter(|index| self.is_available(*index)).map(weight).sum();
        available * 100.0 > self.settings.threshold * total
    }

    /// Counts a request as under way with a target, where the algorithm goes by that.
    pub fn lease(&self, target: usize) -> Option<Lease> {
        if self.settings.algorithm != Algorithm::LeastConnections {
            return None;
        }
        let state = self.states.get(target)?;
        state.connections.fetch_add(1, Ordering::Relaxed);
        Some(Lease(Arc::clone(state)))
    }

    /// Tells how a try went, and how long it took. A target that is unhealthy stays so until a question of our
    /// own or somebody says otherwise: it gets no requests by which it could recover (Kong 3.11).
    pub fn report(&self, target: usize, outcome: Outcome, took: Duration) {
        let Some(state) = self.states.get(target) else { return };
        if self.settings.is_checked() {
            // A target's own 504 counts as one that was too slow (Kong 3.11).
            let outcome = if outcome == Outcome::Status(504) { Outcome::TimedOut } else { outcome };
            state.health.report(outcome, &self.settings.passive);
        }
        if self.settings.algorithm == Algorithm::Latency {
            state.learn(took);
        }
    }

    /// Whether a target is taken for healthy; `None` where there is no such target.
    pub fn health(&self, target: usize) -> Option<Health> {
        let state = self.states.get(target)?;
        Some(match (self.settings.is_checked(), state.health.is_healthy()) {
            (_, false) => Health::Unhealthy,
            (true, true) => Health::Healthy,
            (false, true) => Health::Off,
        })
    }

    /// Makes a target healthy or unhealthy from now on; tells whether there is such a target.
    pub fn set_healthy(&self, target: usize, healthy: bool) -> bool {
        let state = self.states.get(target);
        if let Some(state) = state {
            state.health.set(healthy);
        }
        state.is_some()
    }
}

impl TargetState {
    /// Lets a new measurement count for a tenth, but a slower one in full: a slow target is noticed at once,
    /// and forgiven over time.
    fn learn(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        let before = self.latency.load(Ordering::Relaxed);
        let after = if took >= before { took } else { before - (before - took).div_ceil(10) };
        self.latency.store(after, Ordering::Relaxed);
    }
}

/// Targets as members of a ring, by their names (Kong 3.11).
fn in_ring_order(targets: &[BalancedTarget]) -> Vec<(u16, String, u32)> {
    let mut ordered: Vec<(u16, &BalancedTarget)> = (0..=u16::MAX).zip(targets).collect();
    ordered.sort_by_key(|(_, target)| (&target.host, target.port));
    let member = |(index, target): (u16, &BalancedTarget)| {
        (index, format!("{}::{}", target.host, target.port), target.weight)
    };
    ordered.into_iter().map(member).collect()
}

/// Every target as often as its share, in random order (Kong 3.11: weights by their greatest common divisor).
fn wheel(targets: &[BalancedTarget]) -> Vec<u16> {
    let total: u64 = targets.iter().map(|target| u64::from(target.weight)).sum();
    let common = targets.iter().fold(0, |divisor, target| greatest_common_divisor(divisor, target.weight));
    let divisor = u64::from(common).max(total.div_ceil(LONGEST_WHEEL)).max(1);
    let mut wheel = Vec::new();
    for (index, target) in (0..=u16::MAX).zip(targets) {
        let weight = u64::from(target.weight);
        let share = (weight / divisor).max(u64::from(weight > 0));
        wheel.extend(std::iter::repeat_n(index, share as usize));
    }
    fastrand::shuffle(&mut wheel);
    wheel
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}
