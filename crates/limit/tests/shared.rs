//! Counters in a real Redis.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

#[path = "../../tollgate/tests/common/redis.rs"]
#[allow(dead_code, reason = "the whole-binary tests use more of it")]
mod redis;

use std::sync::Arc;
use std::time::Duration;

use redis::Redis;
use tollgate_limit::{Change, Part, Shared, Used};
use tollgate_redis::{Login, Node, Settings, Topology};

fn counters(redis: &Redis, interval: Option<Duration>) -> Shared {
    let settings = Settings {
        topology: Topology::One(Node { host: "127.0.0.1".into(), port: redis.port }),
        login: Login::default(),
        database: 0,
        tls: None,
        connect_timeout: Duration::from_secs(10),
        answer_timeout: Duration::from_secs(10),
    };
    Shared::new(tollgate_redis::Redis::new(settings).unwrap(), interval)
}

fn part(key: &str, most: Option<f64>, amount: f64) -> Part {
    Part { key: key.into(), previous: None, most, amount, kept: 1000 }
}

fn change(key: &str, amount: f64) -> Change {
    Change { key: key.into(), amount, kept: 1000 }
}

#[tokio::test]
async fn all_parts_or_none() {
    let redis = Redis::start();
    let shared = counters(&redis, None);
    let parts = [part("a", Some(10.0), 4.5), part("b", Some(6.0), 3.0), part("c", None, 1.0)];
    let take = async || {
        let found = shared.take(&parts, 0).await.unwrap();
        (found.allowed, found.used.iter().map(|used| used.current).collect::<Vec<_>>())
    };
    assert_eq!(take().await, (true, vec![0.0, 0.0, 0.0]));
    assert_eq!(take().await, (true, vec![4.5, 3.0, 1.0]));
    assert_eq!(take().await, (false, vec![9.0, 6.0, 2.0]));
    assert_eq!(take().await, (false, vec![9.0, 6.0, 2.0]));
    let kept: u64 = redis.ask("TTL a").trim().trim_start_matches(':').parse().unwrap();
    assert!((900..=1000).contains(&kept), "{kept}");
}

#[tokio::test]
async fn the_window_before_counts_in_part() {
    let redis = Redis::start();
    let shared = counters(&redis, None);
    shared.add(&[change("now", 10.0), change("before", 40.0)], 0).await.unwrap();
    let sliding = |weight| Part { previous: Some(("before".into(), weight)), ..part("now", Some(30.0), 1.0) };
    assert!(!shared.take(&[sliding(0.5)], 0).await.unwrap().allowed);
    let found = shared.take(&[sliding(0.25)], 0).await.unwrap();
    assert_eq!((found.allowed, found.used), (true, vec![Used { current: 10.0, previous: 40.0 }]));
    assert_eq!(redis.list("GET now"), ["11"]);
}

#[tokio::test]
async fn what_is_gone_is_not_taken_from() {
    let redis = Redis::start();
    let shared = counters(&redis, None);
    shared.add(&[change("a", 5.0)], 0).await.unwrap();
    shared.add(&[change("a", -1.5), change("gone", -3.0)], 0).await.unwrap();
    assert_eq!(redis.list("GET a"), ["3.5"]);
    assert_eq!(redis.ask("EXISTS gone").trim(), ":0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn threads_and_nodes_together_never_pass_a_limit() {
    let redis = Redis::start();
    let nodes = [Arc::new(counters(&redis, None)), Arc::new(counters(&redis, None))];
    let tasks: Vec<_> = (0..16)
        .map(|number| {
            let shared = Arc::clone(&nodes[number % 2]);
            tokio::spawn(async move {
                let parts = [part("a", Some(700.0), 1.0), part("b", Some(1000.0), 1.0)];
                let mut allowed = 0;
                for _ in 0..100 {
                    allowed += usize::from(shared.take(&parts, 0).await.unwrap().allowed);
                }
                allowed
            })
        })
        .collect();
    let mut allowed = 0;
    for task in tasks {
        allowed += task.await.unwrap();
    }
    assert_eq!(allowed, 700);
    assert_eq!((redis.list("GET a"), redis.list("GET b")), (vec!["700".to_owned()], vec!["700".to_owned()]));
}

/// What is counted here is told when the counters go, too.
#[tokio::test]
async fn at_intervals_redis_is_told_to_the_last() {
    let redis = Redis::start();
    redis.ask("SET a 100");
    let shared = counters(&redis, Some(Duration::from_millis(20)));
    let parts = [part("a", Some(1000.0), 3.0)];
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    assert_eq!(shared.take(&parts, now).await.unwrap().used[0].current, 0.0);
    until(|| redis.list("GET a") == ["103"]).await;
    until(|| shared.take_here(&[part("a", None, 0.0)], now).used[0].current == 103.0).await;
    assert!(shared.take(&parts, now).await.unwrap().allowed);
    drop(shared);
    until(|| redis.list("GET a") == ["106"]).await;
}

async fn until(mut holds: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("not in time");
}
