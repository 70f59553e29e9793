//! `kill -9` at a random moment of a sync of 1,000 entities, 50 times: after a restart there is always the old
//! configuration or the new one, whole, and what was answered is never lost.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use common::upstream::Upstream;
use common::{Tollgate, exchange, json_request};
use serde_json::{Value, json};

const ROUNDS: usize = 50;
/// Of services, routes, consumers and keys each.
const EACH: usize = 250;

fn id(kind: usize, number: usize) -> String {
    format!("00000000-0000-4000-8000-{kind:04}{number:08}")
}

/// The configuration of a generation: every entity says which it is.
fn operations(generation: usize, action: &str, upstream: u16) -> Value {
    let mut list = Vec::new();
    for number in 0..EACH {
        let entities = [
            (
                "services",
                1,
                json!({"name": format!("s-{number}"), "host": "127.0.0.1", "port": upstream, "path": format!("/g-{generation}")}),
            ),
            (
                "routes",
                2,
                json!({"paths": [format!("/r-{number}-g-{generation}")], "service": {"id": id(1, number)}}),
            ),
            (
                "consumers",
                3,
                json!({"username": format!("c-{number}"), "custom_id": format!("g-{generation}-{number}")}),
            ),
            (
                "keyauth_credentials",
                4,
                json!({"key": format!("k-{number}-g-{generation}"), "consumer": {"id": id(3, number)}}),
            ),
        ];
        for (kind, place, entity) in entities {
            list.push(json!({"action": action, "kind": kind, "id": id(place, number), "entity": entity}));
        }
    }
    list.into()
}

fn transaction(operations: Value) -> Vec<u8> {
    json_request("POST", "/tollgate/transaction", Some(&json!({"message": "sync", "operations": operations})))
}

/// Sends a sync and tells whether it was answered as done. The server may be gone at any moment.
fn sync(port: u16, request: &[u8]) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let mut answer = Vec::new();
    let _ = stream.write_all(request);
    let _ = stream.read_to_end(&mut answer);
    answer.starts_with(b"HTTP/1.1 200")
}

/// Generation of the configuration: that of every entity, and that which is served.
fn generation(tollgate: &Tollgate) -> usize {
    let read = |path: &str, of: &dyn Fn(&Value) -> String| {
        let (status, page) = tollgate.admin_call("GET", path, None);
        let list = page["data"].as_array().unwrap_or_else(|| panic!("{path}: {status} {page}")).clone();
        assert_eq!(list.len(), EACH, "{path}: not whole");
        let all: std::collections::BTreeSet<String> = list.iter().map(of).collect();
        assert_eq!(all.len(), 1, "{path}: of several generations: {all:?}");
        all.into_iter().next().unwrap()
    };
    let after = |text: &str| text.rsplit_once("g-").unwrap().1.split('-').next().unwrap().to_owned();
    let generations = [
        read("/services?size=1000", &|service| after(service["path"].as_str().unwrap())),
        read("/routes?size=1000", &|route| after(route["paths"][0].as_str().unwrap())),
        read("/consumers?size=1000", &|consumer| after(consumer["custom_id"].as_str().unwrap())),
        read("/key-auths?size=1000", &|key| after(key["key"].as_str().unwrap())),
    ];
    assert!(generations.iter().all(|one| *one == generations[0]), "of several generations: {generations:?}");
    let generation = generations[0].parse().unwrap();
    for number in [0, EACH / 2, EACH - 1] {
        assert_eq!(served(tollgate, number, generation, generation), 200);
        assert_eq!(served(tollgate, number, generation, generation + 1), 401, "a key of another generation");
        assert_eq!(
            served(tollgate, number, generation + 1, generation),
            404,
            "a route of another generation"
        );
    }
    generation
}

/// Status of a request to a generation's route with a generation's key.
fn served(tollgate: &Tollgate, number: usize, route: usize, key: usize) -> u16 {
    let request = format!(
        "GET /r-{number}-g-{route} HTTP/1.1\r\nHost: localhost\r\napikey: k-{number}-g-{key}\r\nConnection: close\r\n\r\n"
    );
    exchange(tollgate.proxy(), request.as_bytes()).status
}

/// Starts a folder's server again until `rounds` syncs were cut off; how often the new configuration was there.
fn rounds(rounds: usize, upstream: u16) -> usize {
    let mut tollgate = Tollgate::with_store(&[]);
    let port = tollgate.admin();
    let started = Instant::now();
    assert!(sync(port, &transaction(operations(0, "create", upstream))));
    let usual = started.elapsed();
    let (status, plugin) = tollgate.admin_call("POST", "/plugins", Some(&json!({"name": "key-auth"})));
    assert_eq!(status, 201, "{plugin}");
    assert_eq!(generation(&tollgate), 0);
    let (mut before, mut new) = (0, 0);
    for _ in 0..rounds {
        let request = transaction(operations(before + 1, "update", upstream));
        let port = tollgate.admin();
        let random = (uuid::Uuid::new_v4().as_u128() >> 64) as f64 / u64::MAX as f64;
        let (answered, folder) = std::thread::scope(|scope| {
            let answer = scope.spawn(|| sync(port, &request));
            // A little beyond the usual time, so that some are answered.
            std::thread::sleep(usual.mul_f64(random * 1.4) + Duration::from_millis(1));
            let folder = tollgate.kill();
            (answer.join().unwrap(), folder)
        });
        tollgate = Tollgate::start_in(folder, &[]);
        let after = generation(&tollgate);
        assert!(after == before || after == before + 1, "{after} after {before}");
        assert!(!answered || after == before + 1, "what was answered is lost");
        new += after - before;
        before = after;
    }
    new
}

#[test]
fn a_sync_is_whole_or_not_at_all() {
    let upstream = Upstream::canned();
    let port = upstream.port;
    let threads = 2;
    let new: usize = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..threads).map(|_| scope.spawn(|| rounds(ROUNDS / threads, port))).collect();
        runs.into_iter().map(|run| run.join().unwrap()).sum()
    });
    println!("{new} of {ROUNDS} syncs were committed when they were cut off");
}
