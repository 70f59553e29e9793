//! By turns.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Members that take turns, each as often as its weight says and as evenly as can be.
#[derive(Debug)]
pub(super) struct Wheel {
    /// Index and weight of each member.
    members: Vec<(usize, u32)>,
    /// Indexes of the members in turn.
    turns: Vec<usize>,
    next: AtomicUsize,
}

impl Wheel {
    /// A round of at most `slots` turns; beyond that shares are rounded. Every member has a turn.
    pub(super) fn new(members: Vec<(usize, u32)>, slots: u32) -> Self {
        let divisor =
            members.iter().fold(0, |divisor, (_, weight)| greatest_common_divisor(divisor, *weight));
        let total: f64 = members.iter().map(|(_, weight)| f64::from(*weight)).sum();
        let scale = f64::from(slots) / total;
        let share = |weight: u32| match total / f64::from(divisor.max(1)) > f64::from(slots) {
            true => ((f64::from(weight) * scale).round() as i64).max(1),
            false => i64::from(weight / divisor.max(1)),
        };
        let shares: Vec<i64> = members.iter().map(|(_, weight)| share(*weight)).collect();
        Self { turns: smooth(&members, &shares), members, next: AtomicUsize::new(0) }
    }

    /// The next in turn; where it may not be chosen, one of those that may, by their weights: so the share of the
    /// one left out is shared by all.
    pub(super) fn turn(&self, may: impl Fn(usize) -> bool) -> Option<usize> {
        let at = self.next.fetch_add(1, Ordering::Relaxed) % self.turns.len().max(1);
        self.turns.get(at).copied().filter(|member| may(*member)).or_else(|| self.any(may))
    }

    fn any(&self, may: impl Fn(usize) -> bool) -> Option<usize> {
        let allowed = || self.members.iter().filter(|(member, _)| may(*member));
        let total: u64 = allowed().map(|(_, weight)| u64::from(*weight)).sum();
        let mut left = fastrand::u64(..total.max(1));
        let mut chosen = None;
        for (member, weight) in allowed() {
            chosen = Some(*member);
            match left.checked_sub(u64::from(*weight)) {
                Some(rest) => left = rest,
                None => break,
            }
        }
        chosen
    }

    /// The member of the lowest score; of equal ones, the first from whose turn it is.
    pub(super) fn lowest(
        &self,
        may: impl Fn(usize) -> bool,
        score: impl Fn(usize, u32) -> f64,
    ) -> Option<usize> {
        let turn = self.turn(|_| true)?;
        let start = self.members.iter().position(|(member, _)| *member == turn)?;
        let (before, after) = self.members.split_at(start);
        let in_order = after.iter().chain(before).filter(|(member, _)| may(*member));
        let scored = in_order.map(|(member, weight)| (*member, score(*member, *weight)));
        scored.min_by(|(_, one), (_, other)| one.total_cmp(other)).map(|(member, _)| member)
    }
}

/// Smooth weighted round-robin (nginx): each turn everyone gains its share, and the richest pays the whole.
fn smooth(members: &[(usize, u32)], shares: &[i64]) -> Vec<usize> {
    let round: i64 = shares.iter().sum();
    let mut credits = vec![0; shares.len()];
    let turn = |_| {
        for (credit, share) in credits.iter_mut().zip(shares) {
            *credit += share;
        }
        let richest = (0..credits.len()).rev().max_by_key(|at| credits[*at])?;
        credits[richest] -= round;
        members.get(richest).map(|(member, _)| *member)
    };
    (0..round).filter_map(turn).collect()
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(wheel: &Wheel, count: usize, may: impl Fn(usize) -> bool) -> Vec<usize> {
        (0..count).filter_map(|_| wheel.turn(&may)).collect()
    }

    fn share(of: usize, turns: &[usize]) -> f64 {
        turns.iter().filter(|turn| **turn == of).count() as f64 / turns.len() as f64
    }

    #[test]
    fn turns_are_even() {
        let wheel = Wheel::new(vec![(0, 5), (1, 1), (2, 1)], 10_000);
        assert_eq!(turns(&wheel, 7, |_| true), [0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn shares_are_the_weights() {
        for weights in [[70, 20, 10], [65_535, 65_534, 1], [1, 1, 1]] {
            let wheel = Wheel::new(weights.into_iter().enumerate().collect(), 1000);
            assert!(wheel.turns.len() <= 1001, "{weights:?}");
            let turned = turns(&wheel, 10_000, |_| true);
            let total: u32 = weights.iter().sum();
            for (member, weight) in weights.into_iter().enumerate() {
                let expected = f64::from(weight) / f64::from(total);
                assert!((share(member, &turned) - expected).abs() < 0.01, "{weights:?}: {member}");
            }
        }
    }

    #[test]
    fn who_is_left_out_is_made_up_for_by_all() {
        let wheel = Wheel::new(vec![(0, 1), (1, 1), (2, 2)], 100);
        let turned = turns(&wheel, 10_000, |member| member != 0);
        assert_eq!(turned.len(), 10_000);
        assert!((share(1, &turned) - 1.0 / 3.0).abs() < 0.05, "{}", share(1, &turned));
        assert_eq!(wheel.turn(|_| false), None);
    }

    #[test]
    fn equals_take_turns() {
        let wheel = Wheel::new(vec![(0, 1), (1, 1)], 100);
        let chosen: Vec<_> = (0..4).filter_map(|_| wheel.lowest(|_| true, |_, _| 1.0)).collect();
        assert_eq!(chosen, [0, 1, 0, 1]);
        assert_eq!(wheel.lowest(|_| true, |member, _| -(member as f64)), Some(1));
    }
}
