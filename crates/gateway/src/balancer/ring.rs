//! Consistent hashing: the same value goes to the same target, and few values move when targets change.

use twox_hash::XxHash32;

use super::BalancedTarget;

/// Smallest ring, whatever is asked for (Kong 3.11).
const FEWEST_POINTS: usize = 1000;
/// Points of a target that has the average weight (Kong 3.11).
const POINTS_PER_TARGET: f64 = 160.0;

/// Points that belong to targets.
#[derive(Debug, Default)]
pub(super) struct Ring {
    points: Vec<Option<u16>>,
}

impl Ring {
    /// Places targets by their names, so that every node has the same ring (Kong 3.11).
    pub(super) fn new(targets: &[BalancedTarget], slots: usize) -> Self {
        let mut points = vec![None; slots.max(FEWEST_POINTS)];
        let total: f64 = targets.iter().map(|target| f64::from(target.weight)).sum();
        let mut ordered: Vec<(u16, &BalancedTarget)> =
            (0..=u16::MAX).zip(targets).filter(|(_, target)| target.weight > 0).collect();
        ordered.sort_by_key(|(_, target)| (&target.host, target.port));
        let mut free = points.len();
        for (index, target) in ordered {
            let share = f64::from(target.weight) / total * targets.len() as f64 * POINTS_PER_TARGET;
            let mut wanted = (share as usize).max(1);
            // A point that is taken is made up for by a further one.
            for number in 1_u64.. {
                if wanted == 0 || free == 0 {
                    break;
                }
                let name = format!("{}::{} {number}", target.host, target.port);
                let at = point(name.as_bytes(), points.len());
                if points[at].is_none() {
                    points[at] = Some(index);
                    wanted -= 1;
                    free -= 1;
                }
            }
        }
        Self { points }
    }

    /// The target of a value: the first that `may` be, from its point backwards.
    pub(super) fn find(&self, value: &[u8], may: impl Fn(usize) -> bool) -> Option<usize> {
        if self.points.is_empty() {
            return None;
        }
        let start = point(value, self.points.len());
        let (after, before) = (&self.points[start + 1..], &self.points[..=start]);
        before
            .iter()
            .rev()
            .chain(after.iter().rev())
            .flatten()
            .map(|target| usize::from(*target))
            .find(|target| may(*target))
    }
}

fn point(value: &[u8], points: usize) -> usize {
    XxHash32::oneshot(0, value) as usize % points
}
