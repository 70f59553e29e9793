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
const RATE: f64 = 2000.0;
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
    let started = Instant::now();
    let changing = async {
        for number in 0..CHANGES {
            let due = started + TURN.mul_f64(number as f64 / CHANGES as f64);
            tokio::time::sleep_until(due.into()).await;
            let (path, body) = match number % 3 {
                0 => (format!("/consumers/other{number}"), "{}".to_owned()),
                1 => (
                    format!("/services/bench/routes/other{number}"),
                    format!(r#"{{"paths":["/other{number}"]}}"#),
                ),
                _ => (
                    "/services/bench".to_owned(),
                    service.replace('}', &format!(r#","retries":{}}}"#, number % 7)),
                ),
            };
            call(&mut api, "PUT", &path, &body).await?;
        }
        Ok::<Duration, String>(started.elapsed())
    };
    let (took, busy) = tokio::join!(changing, load::fixed_rate(proxy.port, &case, RATE, TURN));
    let took = took?;
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
