//! Consistent hashing: the same value goes to the same member, and few values move when members change.

use twox_hash::XxHash32;

/// Smallest ring, whatever is asked for (Kong 3.11).
const FEWEST_POINTS: usize = 1000;
/// Points of a target that has the average weight (Kong 3.11).
const POINTS_PER_TARGET: f64 = 160.0;

/// Points that belong to members.
#[derive(Debug, Default)]
pub struct Ring {
    points: Vec<Option<u16>>,
}

impl Ring {
    /// Places members by their names, so that every node has the same ring (Kong 3.11). Each is its index, its
    /// name and its weight; of two that want one point the earlier has it.
    pub fn new(members: &[(u16, String, u32)], slots: usize) -> Self {
        let mut points = vec![None; slots.max(FEWEST_POINTS)];
        let total: f64 = members.iter().map(|(_, _, weight)| f64::from(*weight)).sum();
        let mut free = points.len();
        for (index, name, weight) in members.iter().filter(|(_, _, weight)| *weight > 0) {
            let share = f64::from(*weight) / total * members.len() as f64 * POINTS_PER_TARGET;
            let mut wanted = (share as usize).max(1);
            // A point that is taken is made up for by a further one.
            for number in 1_u64.. {
                if wanted == 0 || free == 0 {
                    break;
                }
                let at = point(format!("{name} {number}").as_bytes(), points.len());
                if points[at].is_none() {
                    points[at] = Some(*index);
                    wanted -= 1;
                    free -= 1;
                }
            }
        }
        Self { points }
    }

    /// The member of a value: the first that `may` be, from its point backwards.
    pub fn find(&self, value: &[u8], may: impl Fn(usize) -> bool) -> Option<usize> {
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
            .map(|member| usize::from(*member))
            .find(|member| may(*member))
    }
}

fn point(value: &[u8], points: usize) -> usize {
    XxHash32::oneshot(0, value) as usize % points
}
