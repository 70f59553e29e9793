//! The classic plugins case by case: a table for each in `plugins/`.
//!
//! A case has a route of its own, with the plugin of the table and its `config`; `plugins` puts others beside it,
//! `route` changes the route. In all of it `$route` is the route's name, which is also its path. Requests are
//! written as in `common/cases.rs`, one or several `steps`. Consumers `alice` and `bob` have keys of their names.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::time::{Duration, SystemTime};

use common::Tollgate;
use common::cases::{self, Scripted};
use serde_json::{Value, json};

/// Starts with these routes of one service, a route `elsewhere` of another, and these global plugins.
fn start(routes: Value, plugins: Value) -> (Tollgate, Scripted) {
    let scripted = Scripted::start();
    let consumer = |name: &str| json!({"username": name, "keyauth_credentials": [{"key": name}]});
    let url = format!("http://127.0.0.1:{}", scripted.upstream.port);
    let elsewhere = json!([{"name": "elsewhere", "paths": ["/elsewhere"]}]);
    let services = json!([
        {"name": "service", "url": url, "routes": routes}, {"name": "other", "url": url, "routes": elsewhere},
    ]);
    let file = json!({
        "_format_version": "3.0", "services": services, "plugins": plugins,
        "consumers": [consumer("alice"), consumer("bob")],
    });
    (Tollgate::with_file(&file.to_string(), &[]), scripted)
}

fn run_table(plugin: &str, table: &str) {
    let cases: Vec<Value> = serde_json::from_str(table).unwrap();
    assert!(cases.len() >= 15, "{plugin} has {} cases", cases.len());
    let cases: Vec<Value> = cases
        .iter()
        .enumerate()
        .map(|(index, case)| {
            serde_json::from_str(&case.to_string().replace("$route", &format!("case{index}"))).unwrap()
        })
        .collect();
    let routes: Vec<Value> =
        cases.iter().enumerate().map(|(index, case)| route(plugin, index, case)).collect();
    let (tollgate, scripted) = start(routes.into(), json!([]));
    let mut wrong = Vec::new();
    for (index, case) in cases.iter().enumerate() {
        let one = [case.clone()];
        for (number, step) in case["steps"].as_array().map_or(&one[..], Vec::as_slice).iter().enumerate() {
            wait(step);
            let mut step = step.clone();
            if step["route"].is_object() || step["route"].is_null() {
                step["route"] = format!("case{index}").into();
            }
            if let Err(difference) = cases::run(tollgate.proxy(), &scripted, &step) {
                wrong.push(format!("{} (step {}): {difference}", case["title"], number + 1));
            }
        }
    }
    cases::report(cases.len(), &wrong);
}

fn route(plugin: &str, index: usize, case: &Value) -> Value {
    let name = format!("case{index}");
    let mut plugins = case["plugins"].as_array().cloned().unwrap_or_default();
    plugins.push(json!({"name": plugin, "config": case["config"].as_object().cloned().unwrap_or_default()}));
    let mut route = json!({"name": name, "paths": [format!("/{name}")], "plugins": plugins});
    for (field, value) in case["route"].as_object().into_iter().flatten() {
        route[field] = value.clone();
    }
    route
}

/// `begin: N` waits for the beginning of a window of N seconds; `room: N` waits where less than a quarter of one is
/// left, so that a step does not straddle its end.
fn wait(step: &Value) {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let left = |seconds: u64| {
        let window = Duration::from_secs(seconds).as_millis();
        Duration::from_millis((window - since.as_millis() % window) as u64)
    };
    if let Some(seconds) = step["begin"].as_u64() {
        std::thread::sleep(left(seconds));
    }
    if let Some(seconds) = step["room"].as_u64()
        && left(seconds) < Duration::from_secs(seconds) / 4
    {
        std::thread::sleep(left(seconds));
    }
}

#[test]
fn rate_limiting() {
    run_table("rate-limiting", include_str!("plugins/rate-limiting.json"));
}

#[test]
fn request_transformer() {
    run_table("request-transformer", include_str!("plugins/request-transformer.json"));
}

#[test]
fn response_transformer() {
    run_table("response-transformer", include_str!("plugins/response-transformer.json"));
}

#[test]
fn request_termination() {
    run_table("request-termination", include_str!("plugins/request-termination.json"));
}

#[test]
fn correlation_id() {
    run_table("correlation-id", include_str!("plugins/correlation-id.json"));
}

#[test]
fn cors() {
    run_table("cors", include_str!("plugins/cors.json"));
}

/// What is refused, and with which words.
#[test]
fn configurations() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("plugins/configurations.json")).unwrap();
    let tollgate = Tollgate::with_store(&[]);
    let mut wrong = Vec::new();
    for case in &cases {
        let (status, answer) =
            tollgate.admin_call("POST", "/schemas/plugins/validate", Some(&case["plugin"]));
        let expected = if case["fields"].is_null() { 200 } else { 400 };
        let difference = match status == expected {
            true if expected == 400 && case["fields"] != answer["fields"] => {
                format!("{} became {}", case["fields"], answer["fields"])
            }
            true => continue,
            false => format!("status {expected} became {status}: {answer}"),
        };
        wrong.push(format!("{}: {difference}", case["plugin"]));
    }
    cases::report(cases.len(), &wrong);
}

/// The most specific instance runs: with route and consumer before consumer, route, service, and all.
#[test]
fn scopes() {
    let plugins: Vec<Value> = serde_json::from_str(include_str!("plugins/scopes.json")).unwrap();
    let mut wrong = Vec::new();
    for case in &plugins {
        let fill = |value: &Value, scope: &str| -> Value {
            let number = scope.bytes().map(u64::from).sum::<u64>().to_string();
            serde_json::from_str(
                &value
                    .to_string()
                    .replace("\"$number\"", &number)
                    .replace("$number", &number)
                    .replace("$scope", scope),
            )
            .unwrap()
        };
        let plugin = |scope: &str, bound: Value| {
            let mut plugin = json!({"name": case["plugin"], "config": fill(&case["config"], scope)});
            for (field, value) in bound.as_object().into_iter().flatten() {
                plugin[field] = value.clone();
            }
            plugin
        };
        let with_consumer = case["consumer"] != false;
        let key_auth = json!({"name": "key-auth", "config": {"anonymous": "bob"}});
        let mut instances =
            vec![plugin("global", json!({})), plugin("service", json!({"service": "service"}))];
        instances.push(plugin("route", json!({"route": "with-plugin"})));
        instances.push(key_auth);
        if with_consumer {
            instances.push(plugin("consumer", json!({"consumer": "alice"})));
            instances.push(plugin("both", json!({"consumer": "alice", "route": "with-both"})));
        }
        let routes = json!([
            {"name": "plain", "paths": ["/plain"]}, {"name": "with-plugin", "paths": ["/with-plugin"]},
            {"name": "with-both", "paths": ["/with-both"]},
        ]);
        let (tollgate, scripted) = start(routes, instances.into());
        let mut expected = vec![
            ("elsewhere", "bob", "global"),
            ("plain", "bob", "service"),
            ("with-plugin", "bob", "route"),
        ];
        if with_consumer {
            expected.extend([
                ("elsewhere", "alice", "consumer"),
                ("plain", "alice", "consumer"),
                ("with-plugin", "alice", "consumer"),
                ("with-both", "alice", "both"),
            ]);
        }
        for (route, key, scope) in expected {
            let mut step = fill(&case["step"], scope);
            step["route"] = route.into();
            let mut headers = step["request"]["headers"].as_array().cloned().unwrap_or_default();
            headers.push(format!("apikey: {key}").into());
            step["request"]["headers"] = headers.into();
            if let Err(difference) = cases::run(tollgate.proxy(), &scripted, &step) {
                wrong.push(format!("{} of {scope} for {key} at {route}: {difference}", case["plugin"]));
            }
        }
    }
    cases::report(plugins.len(), &wrong);
}
