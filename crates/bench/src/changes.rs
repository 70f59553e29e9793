//! What changes of the configuration cost the requests under way.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::cases::{self, Case};
use crate::load::{self, Connection, Outcome};
use crate::{proxy, report};

/// Name on the command line.
pub const NAME: &str = "changes";

/// Changes committed one by one while requests are served.
const CHANGES: usize = 1000;
/// Requests per second. With much fewer the cores sleep, and the latency is that of waking them.
const RATE: f64 = 10_000.0;
const TURN: Duration = Duration::from_secs(6);

/// Serves a fixed rate first in quiet, then while the configuration is changed, and prints both latencies.
pub async fn measure(binary: &Path, upstream: u16) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let admin = proxy::free_port()?;
    let case = Case { name: NAME, consumers: 1, chat: None, streamed: false, bound: None };
    let mut proxy = proxy::start_with_store(binary, folder.path(), admin)?;
    let mut api = connect(admin).await?;
    let service = format!(r#"{{"name":"bench","url":"http://127.0.0.1:{upstream}/"}}"#);
    call(&mut api, "PUT", "/services/bench", &service).await?;
    call(&mut api, "PUT", "/services/bench/routes/bench", r#"{"paths":["/bench"]}"#).await?;
    call(&mut api, "POST", "/routes/bench/plugins", r#"{"name":"key-auth"}"#).await?;
    call(&mut api, "PUT", "/consumers/user0", "{}").await?;
    call(&mut api, "POST", "/consumers/user0/key-auth", &format!(r#"{{"key":"{}"}}"#, cases::key(0))).await?;
    proxy.wait_until_right(&case).await?;

    let quiet = load::fixed_rate(proxy.port, &case, RATE, TURN).await;
    let changing = tokio::task::spawn_blocking(move || change(admin, service));
    let (took, busy) = tokio::join!(changing, load::fixed_rate(proxy.port, &case, RATE, TURN));
    let took = took.map_err(|error| error.to_string())??;
    proxy.stop();
    let all = |outcome: &Outcome, share| report::quantile(&outcome.latencies, share);
    println!("\n## {NAME} ({CHANGES} in {:.1} s, at {RATE:.0} requests/s)", took.as_secs_f64());
    println!("| | p50 us | p99 us | failed |\n|---|---|---|---|");
    println!("| quiet | {:.0} | {:.0} | {} |", all(&quiet, 0.5), all(&quiet, 0.99), quiet.failed);
    println!("| changing | {:.0} | {:.0} | {} |", all(&busy, 0.5), all(&busy, 0.99), busy.failed);
    println!(
        "| ratio | {:.2} | {:.2} | |",
        all(&busy, 0.5) / all(&quiet, 0.5),
        all(&busy, 0.99) / all(&quiet, 0.99)
    );
    Ok(())
}

/// Commits the changes one by one, spread over the turn; how long that took. They are asked for by a thread of their
/// own and between the load's ticks, as by someone who knows nothing of the load.
fn change(admin: u16, service: String) -> Result<Duration, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let mut api = runtime.block_on(connect(admin))?;
    let started = Instant::now();
    for number in 0..CHANGES {
        // By the golden ratio, times within a tick of the load's are hit evenly.
        let due = (number as f64 + (number as f64 * 0.618).fract()) / CHANGES as f64;
        std::thread::sleep(TURN.mul_f64(due).saturating_sub(started.elapsed()));
        let (path, body) = match number % 3 {
            0 => (format!("/consumers/other{number}"), "{}".to_owned()),
            1 => (
                format!("/services/bench/routes/other{number}"),
                format!(r#"{{"paths":["/other{number}"]}}"#),
            ),
            _ => {
                let retries = format!(r#","retries":{}}}"#, number % 7);
                ("/services/bench".to_owned(), service.replace('}', &retries))
            }
        };
        runtime.block_on(call(&mut api, "PUT", &path, &body))?;
    }
    Ok(started.elapsed())
}

async fn connect(port: u16) -> Result<Connection, String> {
    for _ in 0..500 {
        if let Ok(connection) = Connection::open(port).await {
            return Ok(connection);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Err("the Admin API does not answer".to_owned())
}

async fn call(api: &mut Connection, method: &str, path: &str, body: &str) -> Result<(), String> {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    match api.exchange(request.as_bytes()).await {
        Ok((200 | 201, _)) => Ok(()),
        Ok((status, _)) => Err(format!("{method} {path}: {status}")),
        Err(error) => Err(format!("{method} {path}: {error}")),
    }
}
