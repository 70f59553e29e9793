//! Vectors in a Redis, which here is a stand-in that answers as RediSearch documents it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::time::Duration;

use common::searching_redis::SearchingRedis;
use common::{found, keeps_directions, keeps_points, run};
use tollgate_redis::{Login, Node, Redis, Settings, Topology};
use tollgate_vector::{Index, Metric, RedisIndex, Shape};

fn index(port: u16, metric: Metric) -> RedisIndex {
    let settings = Settings {
        topology: Topology::One(Node { host: "127.0.0.1".into(), port }),
        login: Login::default(),
        database: 0,
        tls: None,
        connect_timeout: Duration::from_secs(5),
        answer_timeout: Duration::from_secs(5),
    };
    RedisIndex::new(Redis::new(settings).unwrap(), Shape { dimensions: 2, metric })
}

#[test]
fn keeps_and_finds() {
    let redis = SearchingRedis::start();
    run(async {
        keeps_directions(&index(redis.port, Metric::Cosine)).await;
        keeps_points(&index(redis.port, Metric::Euclidean)).await;
    });
    assert_eq!(redis.count("FT.CREATE"), 2, "an index is made once");
    assert_eq!(redis.keys()[0], "tollgate:vector:cosine:2:a-b {c}|*:other: 1");
}

#[test]
fn nodes_share_what_is_kept_and_an_emptied_database_is_filled_again() {
    let redis = SearchingRedis::start();
    run(async {
        let (one, other) = (index(redis.port, Metric::Cosine), index(redis.port, Metric::Cosine));
        one.put("a", "east", &[1.0, 0.0]).await.unwrap();
        assert_eq!(found(&other, "a", &[1.0, 0.0], 1, None).await, [("east".to_owned(), 0.0)]);
        redis.flush();
        assert_eq!(found(&other, "a", &[1.0, 0.0], 1, None).await, []);
        other.put("a", "east", &[1.0, 0.0]).await.unwrap();
        assert_eq!(found(&one, "a", &[1.0, 0.0], 1, None).await, [("east".to_owned(), 0.0)]);
    });
}

#[test]
fn who_does_not_answer_is_named() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = run(index(port, Metric::Cosine).has("a", "b")).unwrap_err().to_string();
    assert!(error.starts_with(&format!("Redis at 127.0.0.1:{port} cannot be reached: ")), "{error}");
}
