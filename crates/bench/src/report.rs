//! Figures, medians and ratios.

use crate::cases::{Bound, Case};
use crate::load::Outcome;
use crate::proxy::{Proxy, SAME_FORMAT};
use crate::upstream::CHUNKS;

/// Where Tollgate stands among the proxies.
const TOLLGATE: usize = 1;

/// Everything measured of one case.
pub struct CaseResult {
    name: &'static str,
    /// Of each answer; `None` where it is not streamed.
    chunks: Option<u64>,
    proxies: Vec<&'static str>,
    /// Milliseconds from the start of the process to its first right answer.
    start: Vec<f64>,
    /// Resident memory after that answer, in bytes.
    at_rest: Vec<u64>,
    /// Microseconds of CPU per request (per chunk for streams), a figure a round.
    cpu: Vec<Vec<f64>>,
    rate_reached: Vec<Vec<f64>>,
    failed: Vec<u64>,
    /// Requests per second of the latency runs.
    pub rate: f64,
    direct: Vec<f64>,
    latency: Vec<Vec<f64>>,
    /// Resident memory at the end, in bytes.
    pub resident: Vec<u64>,
}

impl CaseResult {
    /// Nothing measured yet.
    pub fn new(case: &Case, proxies: &[Proxy]) -> Self {
        let count = proxies.len();
        Self {
            name: case.name,
            chunks: case.streamed.then_some(CHUNKS),
            proxies: proxies.iter().map(|proxy| proxy.name).collect(),
            start: proxies.iter().map(|proxy| proxy.start.as_secs_f64() * 1e3).collect(),
            at_rest: proxies.iter().map(|proxy| proxy.at_rest).collect(),
            cpu: vec![Vec::new(); count],
            rate_reached: vec![Vec::new(); count],
            failed: vec![0; count],
            rate: 0.0,
            direct: Vec::new(),
            latency: vec![Vec::new(); count],
            resident: vec![0; count],
        }
    }

    /// Adds a turn at full load.
    pub fn add_turn(&mut self, proxy: usize, outcome: &Outcome, cpu_nanoseconds: u64) {
        let units = if self.chunks.is_some() { outcome.chunks } else { outcome.answered };
        self.cpu[proxy].push(cpu_nanoseconds as f64 / 1e3 / units.max(1) as f64);
        self.rate_reached[proxy].push(units as f64 / outcome.elapsed.as_secs_f64());
        self.failed[proxy] += outcome.failed;
        // Of a stream: how long its chunks were on the way.
        self.latency[proxy].extend(&outcome.latencies);
    }

    /// Adds latencies without a proxy.
    pub fn add_direct(&mut self, outcome: &Outcome) {
        self.direct.extend(&outcome.latencies);
    }

    /// Adds latencies through a proxy.
    pub fn add_latency(&mut self, proxy: usize, outcome: &Outcome) {
        self.latency[proxy].extend(&outcome.latencies);
        self.failed[proxy] += outcome.failed;
    }

    /// Median requests per second of a proxy.
    fn median_rate(&self, proxy: usize) -> f64 {
        quantile(&self.rate_reached[proxy], 0.5)
    }

    /// Median requests per second of the proxy that manages fewest.
    pub fn slowest_rate(&self) -> f64 {
        (0..self.proxies.len()).map(|proxy| self.median_rate(proxy)).fold(f64::INFINITY, f64::min)
    }

    /// Microseconds of CPU per request.
    fn per_request(&self, proxy: usize) -> f64 {
        quantile(&self.cpu[proxy], 0.5) * self.chunks.unwrap_or(1) as f64
    }

    /// Ratios of a proxy to another, one a round: slow drift of the machine cancels out in their median.
    fn ratios(&self, proxy: usize, to: usize) -> Vec<f64> {
        self.cpu[proxy].iter().zip(&self.cpu[to]).map(|(own, other)| own / other).collect()
    }

    fn ratio(&self, proxy: usize, to: usize) -> f64 {
        quantile(&self.ratios(proxy, to), 0.5)
    }

    /// Where Tollgate does the work without a conversion, if it does.
    fn same_format(&self) -> Option<usize> {
        self.proxies.iter().position(|name| *name == SAME_FORMAT)
    }
}

/// The value below which this share of the values lies; 0 for none.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(((sorted.len() as f64 - 1.0) * share).round().max(0.0) as usize).copied().unwrap_or(0.0)
}

/// Prints the figures of a case as a table, and whether it keeps within its bound.
pub fn print(result: &CaseResult, bound: Option<&Bound>) {
    println!(
        "\n## {} (latency at {:.0} requests/s; direct p50 {:.0} us, p99 {:.0} us)",
        result.name,
        result.rate,
        quantile(&result.direct, 0.5),
        quantile(&result.direct, 0.99)
    );
    println!(
        "| proxy | CPU us per request | per chunk | ratio to {} | to same format | CPU us, range | per second | p50 us (added) | p99 us | start ms | RSS MB at rest, at the end | failed |",
        result.proxies[0]
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
    for (index, name) in result.proxies.iter().enumerate() {
        let cpu = &result.cpu[index];
        let p50 = quantile(&result.latency[index], 0.5);
        println!(
            "| {name} | {:.1} | {} | {:.2} | {} | {:.1}-{:.1} | {:.0} | {p50:.0} ({:+.0}) | {:.0} | {:.0} | {:.1}, {:.1} | {} |",
            result.per_request(index),
            result.chunks.map(|_| format!("{:.1}", quantile(cpu, 0.5))).unwrap_or_default(),
            result.ratio(index, 0),
            result.same_format().map(|same| format!("{:.2}", result.ratio(index, same))).unwrap_or_default(),
            quantile(cpu, 0.0),
            quantile(cpu, 1.0),
            result.median_rate(index),
            p50 - quantile(&result.direct, 0.5),
            quantile(&result.latency[index], 0.99),
            result.start[index],
            result.at_rest[index] as f64 / 1e6,
            result.resident[index] as f64 / 1e6,
            result.failed[index],
        );
    }
    let (to, most, name) = match bound {
        Some(Bound::Nginx(most)) => (Some(0), most, "nginx"),
        Some(Bound::SameFormat(most)) => (result.same_format(), most, "same format"),
        None => return,
    };
    if let Some(to) = to {
        let ratios = result.ratios(TOLLGATE, to);
        let ratio = quantile(&ratios, 0.5);
        println!(
            "Bound {most:.2} of {name}: {} ({ratio:.2}, rounds {:.2}-{:.2}).",
            if ratio <= *most { "held" } else { "NOT HELD" },
            quantile(&ratios, 0.0),
            quantile(&ratios, 1.0)
        );
    }
}

/// The figures as JSON.
pub fn json(results: &[CaseResult]) -> String {
    let cases: Vec<_> = results
        .iter()
        .map(|result| {
            let proxies: serde_json::Map<String, serde_json::Value> = result
                .proxies
                .iter()
                .enumerate()
                .map(|(index, name)| {
                    let figures = serde_json::json!({
                        "cpu_us": quantile(&result.cpu[index], 0.5), "cpu_us_per_request": result.per_request(index),
                        "ratio": result.ratio(index, 0),
                        "ratio_to_same_format": result.same_format().map(|same| result.ratio(index, same)),
                        "per_second": result.median_rate(index), "p50_us": quantile(&result.latency[index], 0.5),
                        "p99_us": quantile(&result.latency[index], 0.99), "start_ms": result.start[index],
                        "resident_bytes_at_rest": result.at_rest[index], "resident_bytes": result.resident[index],
                        "failed": result.failed[index],
                    });
                    ((*name).to_owned(), figures)
                })
                .collect();
            serde_json::json!({"case": result.name, "direct_p50_us": quantile(&result.direct, 0.5), "proxies": proxies})
        })
        .collect();
    serde_json::Value::Array(cases).to_string()
}
