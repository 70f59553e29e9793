//! Figures, medians and ratios.

use crate::load::Outcome;
use crate::proxy::Proxy;

/// Everything measured of one case.
pub struct CaseResult {
    name: &'static str,
    proxies: Vec<&'static str>,
    /// Milliseconds from the start of the process to its first right answer.
    start: Vec<f64>,
    /// Resident memory after that answer, in bytes.
    at_rest: Vec<u64>,
    /// Microseconds of CPU per request (per event for streams), a figure a round.
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
    pub fn new(name: &'static str, proxies: &[Proxy]) -> Self {
        let count = proxies.len();
        Self {
            name,
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
        let units = if outcome.events > 0 { outcome.events } else { outcome.answered };
        self.cpu[proxy].push(cpu_nanoseconds as f64 / 1e3 / units.max(1) as f64);
        self.rate_reached[proxy].push(units as f64 / outcome.elapsed.as_secs_f64());
        self.failed[proxy] += outcome.failed;
        // Of a stream: how long its events were on the way.
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
    pub fn median_rate(&self, proxy: usize) -> f64 {
        quantile(&self.rate_reached[proxy], 0.5)
    }

    /// Median of the per-round ratios to the first proxy: slow drift of the machine cancels out.
    fn ratio(&self, proxy: usize) -> f64 {
        let ratios: Vec<f64> =
            self.cpu[proxy].iter().zip(&self.cpu[0]).map(|(own, first)| own / first).collect();
        quantile(&ratios, 0.5)
    }
}

/// The value below which this share of the values lies; 0 for none.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(((sorted.len() as f64 - 1.0) * share).round().max(0.0) as usize).copied().unwrap_or(0.0)
}

/// Prints the figures of a case as a table.
pub fn print(result: &CaseResult) {
    println!(
        "\n## {} (latency at {:.0} requests/s; direct p50 {:.0} us, p99 {:.0} us)",
        result.name,
        result.rate,
        quantile(&result.direct, 0.5),
        quantile(&result.direct, 0.99)
    );
    println!(
        "| proxy | CPU us (ratio to {}) | range | per second | p50 us (added) | p99 us | start ms | RSS MB at rest, at the end | failed |",
        result.proxies[0]
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for (index, name) in result.proxies.iter().enumerate() {
        let cpu = &result.cpu[index];
        let p50 = quantile(&result.latency[index], 0.5);
        println!(
            "| {name} | {:.1} ({:.2}) | {:.1}-{:.1} | {:.0} | {p50:.0} ({:+.0}) | {:.0} | {:.0} | {:.1}, {:.1} | {} |",
            quantile(cpu, 0.5),
            result.ratio(index),
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
                        "cpu_us": quantile(&result.cpu[index], 0.5), "ratio": result.ratio(index),
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
