//! Choosing a target of an upstream.

use std::sync::atomic::{AtomicUsize, Ordering};

/// A target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BalancedTarget {
    /// Name or address.
    pub host: Box<str>,
    /// Port.
    pub port: u16,
    /// Share of the requests.
    pub weight: u32,
}

/// An upstream: targets that take requests in turn, by weight.
#[derive(Debug)]
pub struct Balancer {
    /// Name of the upstream.
    pub name: Box<str>,
    /// `Host` that targets are sent, where the upstream says one.
    pub host_header: Option<Box<str>>,
    targets: Vec<BalancedTarget>,
    /// Indexes of targets, each as often as its share.
    wheel: Vec<u16>,
    next: AtomicUsize,
}

/// Longest wheel; beyond it shares are rounded.
const LONGEST_WHEEL: u32 = 10_000;

impl Balancer {
    /// A balancer over targets; those of weight 0 are kept but never chosen.
    pub fn new(name: &str, host_header: Option<&str>, targets: Vec<BalancedTarget>) -> Self {
        let total: u32 = targets.iter().map(|target| target.weight).sum();
        let divisor = targets.iter().fold(0, |divisor, target| gcd(divisor, target.weight)).max(total.div_ceil(LONGEST_WHEEL)).max(1);
        let mut wheel = Vec::new();
        for (index, target) in targets.iter().enumerate() {
            let share = if target.weight == 0 { 0 } else { (target.weight / divisor).max(1) };
            wheel.extend(std::iter::repeat_n(index as u16, share as usize));
        }
        fastrand::shuffle(&mut wheel);
        let next = AtomicUsize::new(fastrand::usize(..wheel.len().max(1)));
        Self { name: name.into(), host_header: host_header.map(Box::from), targets, wheel, next }
    }

    /// The next target that was not tried for this request; once all were tried, any.
    pub fn pick(&self, tried: &[usize]) -> Option<usize> {
        if self.wheel.is_empty() {
            return None;
        }
        for _ in 0..self.wheel.len() {
            let at = self.next.fetch_add(1, Ordering::Relaxed) % self.wheel.len();
            let target = usize::from(self.wheel[at]);
            if !tried.contains(&target) {
                return Some(target);
            }
        }
        Some(usize::from(self.wheel[self.next.fetch_add(1, Ordering::Relaxed) % self.wheel.len()]))
    }

    /// The targets.
    pub fn targets(&self) -> &[BalancedTarget] {
        &self.targets
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_follow_the_weights() {
        let target = |host: &str, weight| BalancedTarget { host: host.into(), port: 80, weight };
        let balancer = Balancer::new("u", None, vec![target("a", 100), target("b", 300), target("c", 0)]);
        let mut counts = [0; 3];
        for _ in 0..400 {
            counts[balancer.pick(&[]).unwrap()] += 1;
        }
        assert_eq!(counts, [100, 300, 0]);
        assert_eq!(balancer.pick(&[1]), Some(0));
        assert_eq!(Balancer::new("u", None, vec![target("c", 0)]).pick(&[]), None);
    }
}
