//! Counting what is used of several limits at once.

use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::Period;
use crate::table::Table;

/// At most so much in a window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limit {
    /// The window.
    pub period: Period,
    /// How much; the next one is refused once this is reached.
    pub most: f64,
}

/// What [`Counters::take`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Whether every limit had room; only then was one taken from each.
    pub allowed: bool,
    /// How many had been taken before, in the order of [`Period::ALL`]; 0 where there is no limit.
    pub before: [u64; 6],
}

/// Counters of one limiter: for each period and key.
///
/// A period's counters are dropped when its next window begins, at the first request in it.
pub struct Counters {
    hasher: foldhash::quality::RandomState,
    current: [ArcSwap<Table>; 6],
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            hasher: foldhash::quality::RandomState::default(),
            current: std::array::from_fn(|_| ArcSwap::from_pointee(Table::new(0))),
        }
    }
}

impl Counters {
    /// Takes one from every limit of `key`, where all have room; else nothing. `now` in seconds since 1970.
    ///
    /// Where several requests ask at the same moment none of the limits is passed.
    pub fn take(&self, key: &impl Hash, limits: &[Limit], now: u64) -> Taken {
        let mut before = [0; 6];
        let allowed = self.take_each(self.hasher.hash_one(key), limits, now, &mut before, true);
        Taken { allowed, before }
    }

    /// Looks at the first limit and all after it; takes one from each only where all have room.
    fn take_each(&self, hash: u64, limits: &[Limit], now: u64, before: &mut [u64; 6], room: bool) -> bool {
        let Some((limit, others)) = limits.split_first() else { return room };
        let table = self.table(limit.period, now);
        let Some(slot) = table.slot(hash) else { return self.take_each(hash, others, now, before, room) };
        let count = &mut before[limit.period as usize];
        *count = slot.count();
        let room = room && (*count as f64) < limit.most;
        if !self.take_each(hash, others, now, before, room) {
            return false;
        }
        let taken = slot.add_below(limit.most);
        before[limit.period as usize] = taken.unwrap_or_else(|count| count);
        if taken.is_err() {
            // Others were faster since the look above: what was taken from later limits goes back.
            for limit in others {
                if let Some(slot) = self.table(limit.period, now).slot(hash) {
                    slot.give_back();
                }
            }
        }
        taken.is_ok()
    }

    /// The counters of the window that `now` lies in.
    fn table(&self, period: Period, now: u64) -> arc_swap::Guard<Arc<Table>> {
        let current = &self.current[period as usize];
        let start = period.start(now);
        let table = current.load();
        // A clock that was set back goes on counting in the window it had reached.
        if table.start >= start {
            return table;
        }
        current.compare_and_swap(&table, Arc::new(Table::new(start)));
        current.load()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(period: Period, most: f64) -> Limit {
        Limit { period, most }
    }

    #[test]
    fn nothing_is_taken_where_one_limit_is_reached() {
        let counters = Counters::default();
        let limits = [limit(Period::Minute, 2.0), limit(Period::Hour, 3.0)];
        let take = |now| {
            let taken = counters.take(&"a", &limits, now);
            (taken.allowed, taken.before[1], taken.before[2])
        };
        let hour = 1_709_211_600;
        assert_eq!(take(hour), (true, 0, 0));
        assert_eq!(take(hour + 59), (true, 1, 1));
        assert_eq!(take(hour + 59), (false, 2, 2));
        assert_eq!(take(hour + 60), (true, 0, 2));
        assert_eq!(take(hour + 61), (false, 1, 3));
        assert_eq!(take(hour + 3600), (true, 0, 0));
        assert!(counters.take(&"b", &limits, hour + 3600).allowed);
    }

    #[test]
    fn a_clock_set_back_does_not_bring_a_quota_back() {
        let counters = Counters::default();
        let limits = [limit(Period::Second, 1.0)];
        assert!(counters.take(&"a", &limits, 100).allowed);
        assert!(!counters.take(&"a", &limits, 99).allowed);
        assert!(counters.take(&"a", &limits, 101).allowed);
    }

    #[test]
    fn threads_together_never_pass_a_limit() {
        let counters = Counters::default();
        let limits = [limit(Period::Minute, 1000.0), limit(Period::Hour, 700.0)];
        let allowed: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        (0..500).filter(|_| counters.take(&"a", &limits, 1_709_211_600).allowed).count()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(allowed, 700);
        let taken = counters.take(&"a", &limits, 1_709_211_600);
        assert_eq!((taken.before[1], taken.before[2]), (700, 700));
    }
}
