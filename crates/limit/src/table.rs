//! Counters by key, without locks and of bounded size.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one bucket: two cache lines.
const BUCKET: usize = 8;

/// Buckets of each segment. A segment is made when a bucket of the one before is full; all together hold about
/// 1.3 million keys in 21 MB.
const SEGMENTS: [usize; 5] = [8, 128, 2048, 32_768, 131_072];

/// Counts by the 64-bit hash of a key. Two keys of the same hash share a counter.
///
/// A key's place is the first of its buckets (one in each segment) with room. Where all are full the smallest
/// count of the last bucket makes room: who asks seldom is forgotten before who asks often.
pub(crate) struct Table {
    /// When the window began, in seconds since 1970.
    pub(crate) start: u64,
    segments: [OnceLock<Box<[Bucket]>>; SEGMENTS.len()],
}

type Bucket = [Slot; BUCKET];

/// One counter: of a count, or of an amount whose bits stand in place of the count (amounts are never negative, so
/// that larger ones have larger bits).
#[derive(Default)]
pub(crate) struct Slot {
    /// Hash of the key; 0 while the slot is free. Set once, but for eviction.
    key: AtomicU64,
    count: AtomicU64,
}

impl Table {
    pub(crate) fn new(start: u64) -> Self {
        Self { start, segments: [const { OnceLock::new() }; SEGMENTS.len()] }
    }

    /// The counter of a key.
    pub(crate) fn slot(&self, hash: u64) -> Option<&Slot> {
        let hash = hash.max(1);
        let mut last = None;
        for (segment, buckets) in self.segments.iter().zip(SEGMENTS) {
            let segment = segment.get_or_init(|| (0..buckets).map(|_| Bucket::default()).collect());
            let bucket = segment.get(hash as usize % buckets)?;
            if let Some(found) = bucket.iter().find(|slot| slot.is_or_becomes(hash)) {
                return Some(found);
            }
            last = Some(bucket);
        }
        let evicted = last?.iter().min_by_key(|slot| slot.count())?;
        evicted.key.store(hash, Ordering::Relaxed);
        evicted.count.store(0, Ordering::Relaxed);
        Some(evicted)
    }
}

impl Slot {
    /// Whether this is the key's slot, which a free slot becomes.
    fn is_or_becomes(&self, hash: u64) -> bool {
        match self.key.load(Ordering::Relaxed) {
            0 => match self.key.compare_exchange(0, hash, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => true,
                Err(taken) => taken == hash,
            },
            key => key == hash,
        }
    }

    /// The count.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Adds one where the count is below `most`; the count before, as `Err` where it was not.
    pub(crate) fn add_below(&self, most: f64) -> Result<u64, u64> {
        let add = |count: u64| ((count as f64) < most).then_some(count + 1);
        self.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add)
    }

    /// Takes one back.
    pub(crate) fn give_back(&self) {
        let _ = self
            .count
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| Some(count.saturating_sub(1)));
    }

    /// The amount.
    pub(crate) fn amount(&self) -> f64 {
        f64::from_bits(self.count())
    }

    /// Adds to the amount, or takes from it; it never gets below 0.
    pub(crate) fn add_amount(&self, amount: f64) {
        let add = |bits| Some((f64::from_bits(bits) + amount).max(0.0).to_bits());
        let _ = self.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// Adds to the amount where it is below `most`; the amount before, as `Err` where it was not.
    pub(crate) fn add_amount_below(&self, most: f64, amount: f64) -> Result<f64, f64> {
        let add = |bits| {
            let before = f64::from_bits(bits);
            (before < most).then(|| (before + amount).max(0.0).to_bits())
        };
        let before = self.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        before.map(f64::from_bits).map_err(f64::from_bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spreads numbers as a hash would.
    fn spread(number: u64) -> u64 {
        number
            .wrapping_add(1)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15)
            .rotate_left(31)
            .wrapping_mul(0xD6E8_FEB8_6659_FD93)
    }

    #[test]
    fn each_key_has_its_own_counter_however_many_there_are() {
        let table = Table::new(0);
        for key in 0..100_000 {
            table.slot(spread(key)).unwrap().add_below(9.0).unwrap();
        }
        for key in 0..100_000 {
            assert_eq!(table.slot(spread(key)).unwrap().count(), 1, "{key}");
        }
        assert_eq!(table.slot(spread(100_000)).unwrap().count(), 0);
    }

    #[test]
    fn a_full_table_forgets_who_asked_least() {
        let table = Table::new(0);
        let heavy: Vec<u64> = (0..1000).map(spread).collect();
        let all: u64 = SEGMENTS.iter().map(|buckets| (buckets * BUCKET) as u64).sum();
        for hash in &heavy {
            for _ in 0..5 {
                table.slot(*hash).unwrap().add_below(9.0).unwrap();
            }
        }
        for key in 0..all + all / 4 {
            table.slot(spread(1_000_000_000 + key)).unwrap().add_below(9.0).unwrap();
        }
        for hash in &heavy {
            assert_eq!(table.slot(*hash).unwrap().count(), 5);
        }
    }

    #[test]
    fn the_most_is_not_passed() {
        let slot = Slot::default();
        assert_eq!([slot.add_below(1.5), slot.add_below(1.5), slot.add_below(1.5)], [Ok(0), Ok(1), Err(2)]);
        slot.give_back();
        assert_eq!(slot.count(), 1);
    }
}
