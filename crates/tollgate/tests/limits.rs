//! Limits that several nodes share in a Redis.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::net::TcpListener;
use std::time::Instant;

use common::redis::{Redis, free_port};
use common::upstream::Upstream;
use common::{Answer, Tollgate, eventually, exchange};
use serde_json::{Value, json};

/// A node with a route `/limited` of this `rate-limiting`.
fn node(upstream: &Upstream, config: &Value) -> Tollgate {
    let plugins = json!([{"name": "rate-limiting", "config": config}]);
    let routes = json!([{
        "name": "limited", "id": "5f9a2a10-0000-4000-8000-000000000001", "paths": ["/limited"], "plugins": plugins,
    }]);
    let service =
        json!({"name": "service", "url": format!("http://127.0.0.1:{}", upstream.port), "routes": routes});
    Tollgate::with_file(&json!({"_format_version": "3.0", "services": [service]}).to_string(), &[])
}

fn ask(tollgate: &Tollgate) -> Answer {
    exchange(tollgate.proxy(), b"GET /limited HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
}

fn log_of(tollgate: &Tollgate) -> String {
    std::fs::read_to_string(tollgate.folder.path().join("logs/error.log")).unwrap_or_default()
}

fn logged(tollgate: &Tollgate, part: &str) {
    eventually(part, || log_of(tollgate).contains(part));
}

#[test]
fn nodes_share_what_is_counted_in_redis() {
    let upstream = Upstream::canned();
    let redis = Redis::with(&["requirepass s3cret"], Some("s3cret"));
    let place = json!({"host": "127.0.0.1", "port": redis.port, "password": "s3cret", "database": 2});
    let config = json!({"year": 7, "month": 6, "policy": "redis", "limit_by": "ip", "redis": place});
    let nodes = [node(&upstream, &config), node(&upstream, &config)];
    let left: Vec<Value> = (0..8)
        .map(|turn| {
            let answer = ask(&nodes[turn % 2]);
            let number = |name: &str| {
                answer.header(name).map_or(Value::Null, |value| value.parse::<u64>().unwrap().into())
            };
            json!([
                answer.status,
                number("x-ratelimit-remaining-month"),
                number("x-ratelimit-remaining-year"),
                answer.header("retry-after").is_some(),
            ])
        })
        .collect();
    assert_eq!(
        Value::from(left),
        json!([
            [200, 5, 6, false],
            [200, 4, 5, false],
            [200, 3, 4, false],
            [200, 2, 3, false],
            [200, 1, 2, false],
            [200, 0, 1, false],
            [429, 0, 1, true],
            [429, 0, 1, true],
        ])
    );
    // The keys are Kong's, so that nodes of both can share counts.
    let keys = redis.list("SELECT 2\r\nKEYS *");
    let start =
        "ratelimit:5f9a2a10-0000-4000-8000-000000000001:00000000-0000-0000-0000-000000000000:127.0.0.1:";
    let is_key = |end: &str| keys.iter().any(|key| key.starts_with(start) && key.ends_with(end));
    assert!(is_key("000:month") && is_key("000:year"), "{keys:?}");
    for node in &nodes {
        assert!(!log_of(node).contains("s3cret"));
    }
}

#[test]
fn counts_are_reconciled_at_intervals() {
    let upstream = Upstream::canned();
    let redis = Redis::start();
    let place = json!({"host": "127.0.0.1", "port": redis.port});
    let config = json!({"year": 1000, "policy": "redis", "sync_rate": 0.02, "redis": place});
    let nodes = [node(&upstream, &config), node(&upstream, &config)];
    for _ in 0..10 {
        assert_eq!(ask(&nodes[0]).status, 200);
    }
    eventually("the other node knows", || {
        let left = ask(&nodes[1]).header("x-ratelimit-remaining-year").unwrap().parse::<u64>().unwrap();
        left < 990
    });
    drop(redis);
    assert_eq!(ask(&nodes[0]).status, 200, "what is reconciled later needs no Redis now");
}

/// Kong 3.11: while Redis is away requests pass uncounted, or fail.
#[test]
fn an_outage_is_tolerated_or_not() {
    let upstream = Upstream::canned();
    let port = free_port();
    let config = |tolerant: bool| {
        json!({
            "year": 100, "policy": "redis", "fault_tolerant": tolerant,
            "redis": {"host": "127.0.0.1", "port": port, "timeout": 5000, "password": "s3cret"},
        })
    };
    let (tolerant, strict) = (node(&upstream, &config(true)), node(&upstream, &config(false)));
    let answer = ask(&tolerant);
    assert_eq!((answer.status, answer.header("x-ratelimit-remaining-year")), (200, None));
    let answer = ask(&strict);
    assert_eq!(answer.status, 500);
    assert_eq!(answer.json()["message"], "An unexpected error occurred");
    for node in [&tolerant, &strict] {
        logged(node, &format!("Redis at 127.0.0.1:{port} cannot be reached"));
        assert!(!log_of(node).contains("s3cret"));
    }
    let redis = Redis::on(port);
    assert!(redis.ask("CONFIG SET requirepass s3cret").starts_with("+OK"));
    for node in [&tolerant, &strict] {
        eventually("requests are counted again", || ask(node).header("x-ratelimit-remaining-year").is_some());
    }
    drop(redis);
    assert_eq!((ask(&tolerant).status, ask(&strict).status), (200, 500));
}

/// A server that accepts connections and says nothing delays one request by its timeout, and no others.
#[test]
fn a_redis_that_never_answers_holds_nobody_up() {
    let upstream = Upstream::canned();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = json!({"host": "127.0.0.1", "port": silent.local_addr().unwrap().port(), "timeout": 900});
    let tolerant = node(&upstream, &json!({"year": 1, "policy": "redis", "redis": place}));
    let started = Instant::now();
    let answers: Vec<u16> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..20).map(|_| scope.spawn(|| ask(&tolerant).status)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(answers, [200; 20]);
    // One after the other they would have waited for 18 s.
    assert!(started.elapsed().as_secs() < 9, "{:?}", started.elapsed());
    logged(&tolerant, "did not answer within 900 ms");
}
