//! Metrics: counters and histograms by labels, and how they are shown to Prometheus.
//!
//! Every thread counts in cells of its own: after a thread has seen a set of labels once, counting is a look-up
//! in a table that is the thread's alone and an addition nobody else writes to. Reading sums the cells up.
//! What labels may cost is bounded; what does not fit is not counted, and that is counted.

pub mod families;
mod text;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use foldhash::fast::FixedState;
use hashbrown::HashTable;

pub use families::{Family, Kind};
pub use text::{Exposition, Number};

/// Bytes that labels and cells may take together.
pub const CAPACITY: usize = 64 * 1024 * 1024;
/// The part of it that one family may take: labels that clients choose, such as a model's name, must not crowd
/// out the others.
const SHARE: usize = 4;
/// What a cell takes beside labels and numbers: its places in the tables.
const CELL_OVERHEAD: usize = 128;

type Labels = Arc<[Box<str>]>;

/// Series by family and labels.
pub struct Metrics {
    /// Tells the tables of a thread apart where there are several of these.
    number: usize,
    capacity: usize,
    series: Mutex<AllSeries>,
    used: AtomicUsize,
    /// Observations that were not counted.
    errors: AtomicU64,
}

#[derive(Default)]
struct AllSeries {
    series: BTreeMap<(&'static str, Labels), Series>,
    /// Bytes each family takes.
    used: BTreeMap<&'static str, usize>,
}

struct Series {
    family: &'static Family,
    cells: Vec<Cell>,
}

/// One thread's share of a series. A counter has one number; a histogram one for each bucket, then one for
/// what is beyond the last, then the sum.
type Cell = Arc<[AtomicU64]>;

/// A thread's cell, and what it counts.
struct Known {
    metrics: usize,
    family: &'static Family,
    labels: Labels,
    cell: Cell,
}

thread_local! {
    static KNOWN: RefCell<HashTable<Known>> = const { RefCell::new(HashTable::new()) };
}

fn hash(family: &Family, labels: &[&str]) -> u64 {
    let mut hasher = FixedState::default().build_hasher();
    hasher.write(family.name.as_bytes());
    for label in labels {
        hasher.write(label.as_bytes());
        hasher.write_u8(0xff);
    }
    hasher.finish()
}

impl Metrics {
    /// No series yet; labels and cells may take `capacity` bytes.
    pub fn new(capacity: usize) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        Self {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            capacity,
            series: Mutex::default(),
            used: AtomicUsize::new(0),
            errors: AtomicU64::new(0),
        }
    }

    /// The process's own: like Kong's, its counts outlive changes of the configuration.
    pub fn global() -> &'static Self {
        static GLOBAL: OnceLock<Metrics> = OnceLock::new();
        GLOBAL.get_or_init(|| Metrics::new(CAPACITY))
    }

    /// Adds to a counter. `labels` are values in the order of the family's names.
    pub fn add(&self, family: &'static Family, labels: &[&str], count: u64) {
        self.with_cell(family, labels, |cell| {
            if let [total] = cell {
                total.fetch_add(count, Ordering::Relaxed);
            }
        });
    }

    /// Adds to a counter of [`Kind::Amount`].
    pub fn add_amount(&self, family: &'static Family, labels: &[&str], amount: f64) {
        self.with_cell(family, labels, |cell| {
            if let [total] = cell {
                // The cell is this thread's alone: nobody adds between the two.
                let sum = f64::from_bits(total.load(Ordering::Relaxed)) + amount;
                total.store(sum.to_bits(), Ordering::Relaxed);
            }
        });
    }

    /// Counts a value in a histogram.
    pub fn observe(&self, family: &'static Family, labels: &[&str], value: u64) {
        self.with_cell(family, labels, |cell| {
            let bucket = family.buckets().iter().take_while(|bound| value > **bound).count();
            if let [buckets @ .., sum] = cell
                && let Some(count) = buckets.get(bucket)
            {
                count.fetch_add(1, Ordering::Relaxed);
                sum.fetch_add(value, Ordering::Relaxed);
            }
        });
    }

    fn with_cell(&self, family: &'static Family, labels: &[&str], count: impl FnOnce(&[AtomicU64])) {
        let hash = hash(family, labels);
        KNOWN.with_borrow_mut(|known| {
            let found = known.find(hash, |entry| {
                entry.metrics == self.number
                    && std::ptr::eq(entry.family, family)
                    && entry.labels.iter().map(|label| &**label).eq(labels.iter().copied())
            });
            if let Some(entry) = found {
                return count(&entry.cell);
            }
            match self.new_cell(family, labels) {
                Some((labels, cell)) => {
                    count(&cell);
                    let rehash = |entry: &Known| {
                        let labels: Vec<&str> = entry.labels.iter().map(|label| &**label).collect();
                        self::hash(entry.family, &labels)
                    };
                    known.insert_unique(hash, Known { metrics: self.number, family, labels, cell }, rehash);
                }
                None => {
                    self.errors.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }

    /// A cell for this thread; `None` where there is no room for it.
    fn new_cell(&self, family: &'static Family, labels: &[&str]) -> Option<(Labels, Cell)> {
        let numbers = match family.kind {
            Kind::Histogram(buckets) => buckets.len() + 2,
            Kind::Counter | Kind::Amount | Kind::Gauge => 1,
        };
        let cost = labels.iter().map(|label| label.len() + 16).sum::<usize>() + numbers * 8 + CELL_OVERHEAD;
        let labels: Labels = labels.iter().map(|label| Box::from(*label)).collect();
        let cell: Cell = (0..numbers).map(|_| AtomicU64::new(0)).collect();
        let mut all = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let used = all.used.entry(family.name).or_default();
        if *used + cost > self.capacity / SHARE || self.used() + cost > self.capacity {
            if self.errors.load(Ordering::Relaxed) == 0 {
                crate::log!(
                    Error,
                    "metrics: there is no room for further labels of {}; they are not counted",
                    family.name
                );
            }
            return None;
        }
        *used += cost;
        self.used.fetch_add(cost, Ordering::Relaxed);
        let series = all
            .series
            .entry((family.name, Arc::clone(&labels)))
            .or_insert_with(|| Series { family, cells: Vec::new() });
        series.cells.push(Arc::clone(&cell));
        Some((labels, cell))
    }

    /// Bytes that labels and cells take, about.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Observations that were not counted.
    pub fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    /// Adds every series to what is shown.
    pub fn show(&self, exposition: &mut Exposition) {
        let all = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        for ((_, labels), series) in &all.series {
            let width = series.cells.first().map_or(0, |cell| cell.len());
            let sum = |at: usize| -> u64 {
                series.cells.iter().filter_map(|cell| cell.get(at)).map(|n| n.load(Ordering::Relaxed)).sum()
            };
            let labels: Vec<&str> = labels.iter().map(|label| &**label).collect();
            match series.family.kind {
                Kind::Histogram(_) => {
                    let counts: Vec<u64> = (0..width.saturating_sub(1)).map(sum).collect();
                    exposition.histogram(series.family, &labels, &counts, sum(width.saturating_sub(1)));
                }
                Kind::Amount => {
                    let bits = series.cells.iter().filter_map(|cell| cell.first());
                    let total: f64 = bits.map(|bits| f64::from_bits(bits.load(Ordering::Relaxed))).sum();
                    exposition.value(series.family, &labels, Number::Float(total));
                }
                Kind::Counter | Kind::Gauge => {
                    exposition.value(series.family, &labels, Number::Integer(sum(0)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(metrics: &Metrics) -> String {
        let mut exposition = Exposition::default();
        metrics.show(&mut exposition);
        exposition.into_text()
    }

    #[test]
    fn threads_count_together() {
        let metrics = Metrics::new(CAPACITY);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        metrics.add(
                            &families::HTTP_REQUESTS,
                            &["s", "r", "200", "service", "default", ""],
                            1,
                        );
                        metrics.observe(&families::KONG_LATENCY, &["s", "r", "default"], 3);
                    }
                });
            }
        });
        metrics.observe(&families::KONG_LATENCY, &["s", "r", "default"], 6001);
        metrics.add_amount(&families::AI_COST, &["openai", "m", "", "", "", "", "default", "", ""], 0.25);
        metrics.add_amount(&families::AI_COST, &["openai", "m", "", "", "", "", "default", "", ""], 0.5);
        let text = text(&metrics);
        for line in [
            "kong_http_requests_total{service=\"s\",route=\"r\",code=\"200\",source=\"service\",workspace=\"default\",consumer=\"\"} 4000",
            "kong_kong_latency_ms_bucket{service=\"s\",route=\"r\",workspace=\"default\",le=\"2\"} 0",
            "kong_kong_latency_ms_bucket{service=\"s\",route=\"r\",workspace=\"default\",le=\"5\"} 4000",
            "kong_kong_latency_ms_bucket{service=\"s\",route=\"r\",workspace=\"default\",le=\"+Inf\"} 4001",
            "kong_kong_latency_ms_sum{service=\"s\",route=\"r\",workspace=\"default\"} 18001",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} in {text}");
        }
        assert!(text.contains("consumer=\"\",request_mode=\"\"} 0.75\n"), "{text}");
    }

    #[test]
    fn there_is_a_bound() {
        let metrics = Metrics::new(10_000);
        for number in 0..1000 {
            let route = number.to_string();
            metrics.add(&families::HTTP_REQUESTS, &["s", &route, "200", "kong", "default", ""], 1);
        }
        assert!(metrics.used() <= 10_000 / SHARE && metrics.errors() > 900);
        let kept = text(&metrics).lines().filter(|line| !line.starts_with('#')).count() as u64;
        assert_eq!(kept + metrics.errors(), 1000);
        // There is room for others still.
        let errors = metrics.errors();
        metrics.add(&families::AI_REQUESTS, &["p", "m", "", "", "", "", "default", "", ""], 1);
        assert_eq!(metrics.errors(), errors);
    }
}
