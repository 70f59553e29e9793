//! Times the router: `cargo run --profile fast -p tollgate-gateway --example router`.

use std::hint::black_box;
use std::time::Instant;

use tollgate_gateway::router::{MatchInput, RouteGroups, RouteRule, Router, RouterError};
use tollgate_http::Headers;

const ROUNDS: u32 = 2_000_000;

fn main() -> Result<(), RouterError> {
    println!(
        "{:>8}  {:>17}  {:>9}  {:>9}  {:>12}  {:>10}",
        "routes", "kind", "hit, ns", "miss, ns", "compiled, ms", "change, ms"
    );
    for routes in [1, 1_000, 10_000] {
        measure(routes, "path", |at| rule(at, vec![format!("/service-{at}/v1")], vec![]))?;
        measure(routes, "host", |at| rule(at, vec![], vec![format!("api{at}.example.com")]))?;
        measure(routes, "wildcard and path", |at| {
            rule(at, vec![format!("/service-{at}/v1")], vec!["*.example.com".into()])
        })?;
        measure(routes, "regex", |at| rule(at, vec![format!("~/service-{at}/(?<version>v\\d+)$")], vec![]))?;
    }
    Ok(())
}

fn rule(route: usize, paths: Vec<String>, hosts: Vec<String>) -> RouteRule {
    RouteRule { route, paths, hosts, ..RouteRule::default() }
}

fn measure(routes: usize, kind: &str, make: impl Fn(usize) -> RouteRule) -> Result<(), RouterError> {
    let rules: Vec<RouteRule> = (0..routes).map(make).collect();
    let started = Instant::now();
    let router = Router::new(&rules)?;
    let compiled = started.elapsed();
    let last = routes - 1;
    let groups = RouteGroups::new(&rules[last], None)?;
    let mut changed = router.clone();
    let started = Instant::now();
    changed.remove(&groups);
    changed.add(&groups);
    let again = started.elapsed();
    let hit = time(&router, &format!("api{last}.example.com"), &format!("/service-{last}/v1"));
    let miss = time(&router, "other.org:8000", "/service-x/v1");
    let milliseconds = [compiled, again].map(|time| time.as_secs_f64() * 1e3);
    println!(
        "{routes:>8}  {kind:>17}  {hit:>9.1}  {miss:>9.1}  {:>12.2}  {:>10.4}",
        milliseconds[0], milliseconds[1]
    );
    Ok(())
}

/// Nanoseconds one search takes.
fn time(router: &Router, host: &str, path: &str) -> f64 {
    let mut headers = Headers::new();
    for (name, value) in [("Host", host), ("User-Agent", "bench"), ("Accept", "*/*"), ("apikey", "123456")] {
        headers.append(name, value);
    }
    let input = MatchInput {
        method: "GET",
        host,
        path: path.as_bytes(),
        headers: &headers,
        server_name: None,
        port: 8000,
        tls: false,
    };
    let started = Instant::now();
    for _ in 0..ROUNDS {
        black_box(router.find(black_box(&input)));
    }
    started.elapsed().as_nanos() as f64 / f64::from(ROUNDS)
}
