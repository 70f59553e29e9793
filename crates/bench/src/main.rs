//! `make bench`: Tollgate and nginx (and others found on `PATH`) do the same work on the same upstream, turn
//! by turn in one run. What counts are the ratios; microseconds depend on the machine and on its other load.
//!
//! The proxy under test has core 0 to itself; the load and the upstream share core 1.

mod cases;
mod changes;
mod load;
mod provider;
mod proxy;
mod report;
mod upstream;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

/// Measures Tollgate against nginx: CPU per request, requests per second, latency at a fixed rate.
#[derive(Parser)]
struct Arguments {
    /// The binary to measure.
    #[arg(long, default_value = "target/release/tollgate")]
    tollgate: PathBuf,
    /// Cases to run; all by default.
    #[arg(long, value_delimiter = ',')]
    cases: Vec<String>,
    /// Rounds; in each, every proxy has its turn.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of load in a turn.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Connections of the load.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Requests per second for the latency figures; by default half of what the slowest proxy manages.
    #[arg(long)]
    rate: Option<f64>,
    /// Write the figures here, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Only have Tollgate do the work of every case for a while, for a profiled build; nothing is measured.
    #[arg(long)]
    train: bool,
}

impl Arguments {
    /// Whether a case is to be run.
    fn wants(&self, case: &str) -> bool {
        self.cases.is_empty() || self.cases.iter().any(|name| name == case)
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    proxy::pin_self_to(1)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let upstream = upstream::start().await.map_err(|error| format!("upstream: {error}"))?;
        let mut results = Vec::new();
        for case in cases::all() {
            if !arguments.wants(case.name) {
                continue;
            }
            if arguments.train {
                train(arguments, &case, upstream).await?;
                continue;
            }
            let result = measure(arguments, &case, upstream).await?;
            report::print(&result, case.bound.as_ref());
            results.push(result);
        }
        if !arguments.train && arguments.wants(changes::NAME) {
            changes::measure(&arguments.tollgate, upstream).await?;
        }
        if let Some(path) = &arguments.json {
            std::fs::write(path, report::json(&results))
                .map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(())
    })
}

/// Has Tollgate do the work of one case.
async fn train(arguments: &Arguments, case: &cases::Case, upstream: u16) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let mut proxy = proxy::start_tollgate(case, upstream, &arguments.tollgate, folder.path())?;
    proxy.wait_until_right(case).await?;
    let turn = Duration::from_secs_f64(arguments.seconds);
    load::closed_loop(proxy.port, case, arguments.connections, turn).await;
    proxy.stop();
    Ok(())
}

/// Runs one case: every proxy is started, checked for the right answer, and then has its turns.
async fn measure(
    arguments: &Arguments,
    case: &cases::Case,
    upstream: u16,
) -> Result<report::CaseResult, String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let mut proxies = Vec::new();
    for start in proxy::ALL {
        let mut proxy = start(case, upstream, &arguments.tollgate, folder.path())?;
        proxy.wait_until_right(case).await?;
        proxies.push(proxy);
    }
    let beside = tempfile::tempdir().map_err(|error| error.to_string())?;
    if let Some(same) = case.same_format() {
        let mut proxy = proxy::start_tollgate(&same, upstream, &arguments.tollgate, beside.path())?;
        proxy.name = proxy::SAME_FORMAT;
        proxy.wait_until_right(&same).await?;
        proxies.push(proxy);
    }
    let mut result = report::CaseResult::new(case, &proxies);
    let turn = Duration::from_secs_f64(arguments.seconds);
    for _ in 0..arguments.rounds {
        for (index, proxy) in proxies.iter().enumerate() {
            let before = proxy.cpu_nanoseconds()?;
            let outcome = load::closed_loop(proxy.port, case, arguments.connections, turn).await;
            let cpu = proxy.cpu_nanoseconds()?.saturating_sub(before);
            result.add_turn(index, &outcome, cpu);
        }
    }
    if !case.streamed {
        let rate = arguments.rate.unwrap_or_else(|| result.slowest_rate() / 2.0);
        result.rate = rate;
        for _ in 0..arguments.rounds.min(3) {
            let direct = load::fixed_rate(upstream, case, rate, turn).await;
            result.add_direct(&direct);
            for (index, proxy) in proxies.iter().enumerate() {
                let outcome = load::fixed_rate(proxy.port, case, rate, turn).await;
                result.add_latency(index, &outcome);
            }
        }
    }
    for (index, proxy) in proxies.iter_mut().enumerate() {
        result.resident[index] = proxy.resident_bytes();
        proxy.stop();
    }
    Ok(result)
}
