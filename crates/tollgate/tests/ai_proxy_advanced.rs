//! `ai-proxy-advanced`: which target a request goes to, and what becomes of it where that target fails; case by
//! case in the tables of `ai_proxy_advanced/`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::collections::BTreeMap;
use std::io::Write;
use std::net::TcpListener;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::mock::Mock;
use common::{Answers, Tollgate, connect};
use serde_json::{Value, json};

/// A port where nobody listens.
fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A target that runs the model `name` at a port of the loopback.
fn target(name: &str, port: u16, more: &Value) -> Value {
    let url = format!("http://127.0.0.1:{port}/v1/chat/completions");
    let mut target = json!({
        "route_type": "llm/v1/chat",
        "model": {"provider": "openai", "name": name, "options": {"upstream_url": url}},
    });
    target.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    target
}

/// A file with one route, `/ai`, of these targets.
fn file(targets: &[Value], balancer: &Value) -> String {
    let config = json!({"targets": targets, "balancer": balancer});
    json!({
        "_format_version": "3.0",
        "services": [{
            "name": "never-contacted", "host": "localhost", "port": 1,
            "routes": [{
                "name": "ai", "paths": ["/ai"],
                "plugins": [{"name": "ai-proxy-advanced", "config": config}],
            }],
        }],
    })
    .to_string()
}

fn chat(more: &str) -> Vec<u8> {
    let body = r#"{"messages":[{"role":"user","content":"Hi"}]}"#;
    format!(
        "POST /ai HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n{more}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Sends so many requests, over some connections at once that are kept; how often each model answered, and each
/// status that is not 200.
fn load(port: u16, requests: usize, request: impl Fn(usize) -> Vec<u8> + Sync) -> BTreeMap<String, usize> {
    let (next, counts) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut stream = connect(port);
                let mut sending = stream.try_clone().unwrap();
                let mut answers = Answers::new(&mut stream);
                let mut own = BTreeMap::new();
                while let number = next.fetch_add(1, Ordering::Relaxed)
                    && number < requests
                {
                    sending.write_all(&request(number)).unwrap();
                    let answer = answers.next(false);
                    let key = match answer.status {
                        200 => answer.header("x-kong-llm-model").unwrap().to_owned(),
                        status => status.to_string(),
                    };
                    *own.entry(key).or_insert(0) += 1;
                }
                let mut counts = counts.lock().unwrap();
                own.into_iter().for_each(|(key, count)| *counts.entry(key).or_insert(0) += count);
            });
        }
    });
    counts.into_inner().unwrap()
}

/// Ten thousand requests each: every one is answered, by whom the table says, in the share that it says.
fn run_load(title: &str) {
    let cases: Vec<Value> = serde_json::from_str(include_str!("ai_proxy_advanced/loads.json")).unwrap();
    let case = cases.iter().find(|case| case["title"] == title).unwrap();
    let mut mocks = Vec::new();
    let mut targets = Vec::new();
    for described in case["targets"].as_array().unwrap() {
        let port = match described["at"].as_array() {
            Some(flags) => {
                let flags: Vec<&str> = flags.iter().filter_map(Value::as_str).collect();
                mocks.push(Mock::start(&flags));
                mocks.last().unwrap().port
            }
            None => closed_port(),
        };
        targets.push(target(described["name"].as_str().unwrap(), port, &described["more"]));
    }
    let tollgate =
        Tollgate::with_file(&file(&targets, &case["balancer"]), &[("KONG_NGINX_WORKER_PROCESSES", "2")]);
    let requests = 10_000;
    let counts = load(tollgate.proxy(), requests, |_| chat(""));
    for (name, count) in &counts {
        let share = *count as f64 / requests as f64;
        let expected = &case["shares"][name];
        let (low, high) = (expected[0].as_f64().unwrap_or(0.0), expected[1].as_f64().unwrap_or(0.0));
        assert!((low..=high).contains(&share), "{name} answered {share} of the requests: {counts:?}");
    }
    assert_eq!(counts.values().sum::<usize>(), requests);
    assert_eq!(counts.len(), case["shares"].as_object().unwrap().len(), "{counts:?}");
}

#[test]
fn shares_are_the_weights() {
    run_load("weights");
}

#[test]
fn the_highest_group_has_all() {
    run_load("priority");
}

#[test]
fn the_fastest_has_nearly_all() {
    run_load("the fastest");
}

#[test]
fn one_of_two_has_too_many_requests() {
    run_load("429");
}

#[test]
fn one_of_two_fails() {
    run_load("500");
}

#[test]
fn one_of_two_refuses_connections() {
    run_load("refused");
}

#[test]
fn one_of_two_hangs() {
    run_load("hanging");
}
