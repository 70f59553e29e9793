//! `/metrics` and the Status API: every metric Kong has, read by a parser of Prometheus's text form; who is
//! counted and how; readiness.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::TcpListener;

use common::upstream::Upstream;
use common::{Tollgate, connect, eventually, exchange, json_request, read_answer};
use serde_json::Value;

/// Samples by name and labels.
type Samples = BTreeMap<String, f64>;

/// Reads Prometheus's text form, version 0.0.4, and holds it to its rules: every family has one HELP and one
/// TYPE before its samples and stands in one piece, no sample is there twice, histograms are cumulative and
/// whole.
fn parse(text: &str) -> Samples {
    let mut samples = Samples::new();
    let mut families: BTreeMap<&str, &str> = BTreeMap::new();
    let (mut helped, mut current) = (BTreeSet::new(), "");
    assert!(text.ends_with('\n'), "the last line must end");
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(helped.insert(name) && !help.is_empty(), "{line}");
            continue;
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(matches!(kind, "counter" | "gauge" | "histogram") && helped.contains(name), "{line}");
            assert!(families.insert(name, kind).is_none(), "{line}");
            current = name;
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
        let name = series.split('{').next().unwrap();
        let suffix = name.strip_prefix(current).unwrap_or_else(|| panic!("{line} is not of {current}"));
        match families[current] {
            "histogram" => assert!(["_bucket", "_count", "_sum"].contains(&suffix), "{line}"),
            _ => assert_eq!(suffix, "", "{line}"),
        }
        check_labels(&series[name.len()..]);
        assert!(samples.insert(series.to_owned(), value).is_none(), "twice: {line}");
    }
    check_histograms(text, &samples);
    samples
}

/// `{name="value",…}` or nothing.
fn check_labels(labels: &str) {
    let Some(mut rest) = labels.strip_prefix('{') else { return assert_eq!(labels, "") };
    loop {
        let (name, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("{labels}"));
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{labels}");
        let mut end = None;
        let mut escaped = false;
        for (at, byte) in after.bytes().enumerate() {
            match byte {
                _ if escaped => escaped = !matches!(byte, b'\\' | b'"' | b'n'),
                b'\\' => escaped = true,
                b'"' => {
                    end = Some(at);
                    break;
                }
                _ => {}
            }
        }
        rest = &after[end.unwrap_or_else(|| panic!("{labels}")) + 1..];
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None => return assert_eq!(rest, "}", "{labels}"),
        }
    }
}

fn check_histograms(text: &str, samples: &Samples) {
    let (mut before, mut bound_before) = (String::new(), f64::NEG_INFINITY);
    let mut last = 0.0;
    for line in text.lines().filter(|line| line.contains("_bucket{")) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (base, bound) = series.rsplit_once("le=\"").unwrap();
        let bound: f64 = bound.trim_end_matches("\"}").replace("+Inf", "inf").parse().unwrap();
        let value: f64 = value.parse().unwrap();
        if base != before {
            (before, bound_before, last) = (base.to_owned(), f64::NEG_INFINITY, 0.0);
        }
        assert!(bound > bound_before && value >= last, "{line}");
        (bound_before, last) = (bound, value);
        if bound.is_infinite() {
            let count = base.trim_end_matches(',').replacen("_bucket{", "_count{", 1) + "}";
            assert_eq!(samples.get(&count), Some(&value), "{count}");
            assert!(samples.contains_key(&count.replacen("_count{", "_sum{", 1)), "{count}");
        }
    }
}

fn metrics(port: u16) -> String {
    let answer = exchange(port, &json_request("GET", "/metrics", None));
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/plain; charset=UTF-8")));
    answer.text()
}

struct Node {
    tollgate: Tollgate,
    upstream: u16,
    nothing: u16,
}

impl Node {
    fn start(per_consumer: bool, settings: &[(&str, &str)]) -> Self {
        let upstream = Upstream::canned().port;
        let nothing = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let file = include_str!("metrics/kong.yml")
            .replace("${UPSTREAM}", &upstream.to_string())
            .replace("${NOTHING}", &nothing.to_string())
            .replace("${PER_CONSUMER}", &per_consumer.to_string());
        Self { tollgate: Tollgate::with_file(&file, settings), upstream, nothing }
    }

    fn status(&self, method: &str, path: &str, fields: &str, body: &str) -> u16 {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: a\r\n{fields}{}\r\n{body}",
            match body {
                "" => String::new(),
                body => format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()),
            }
        );
        exchange(self.tollgate.proxy(), request.as_bytes()).status
    }
}

/// A sample line in which `*` stands for any value.
fn finds(samples: &Samples, expected: &str) -> bool {
    let (series, value) = expected.rsplit_once(' ').unwrap();
    let fits = |name: &str| match series.split_once('*') {
        None => name == series,
        Some(_) => {
            let mut rest = name;
            let mut parts = series.split('*').peekable();
            let first = parts.next().unwrap();
            rest.starts_with(first) && {
                rest = &rest[first.len()..];
                parts.all(|part| match rest.find(part) {
                    Some(at) => {
                        rest = &rest[at + part.len()..];
                        true
                    }
                    None => false,
                })
            }
        }
    };
    samples.iter().any(|(name, found)| {
        fits(name) && (value == "*" || (value.parse::<f64>().unwrap() - found).abs() < 1e-12)
    })
}

#[test]
fn every_metric_counts_what_happened() {
    let node = Node::start(true, &[]);
    for _ in 0..3 {
        assert_eq!(node.status("GET", "/keyed", "apikey: k\r\n", ""), 200);
    }
    let chat = r#"{"messages":[{"role":"user","content":"Hi"}]}"#;
    for (method, path, body, status) in [
        ("GET", "/keyed", "", 401),
        ("GET", "/refused", "", 502),
        ("GET", "/serverless", "", 503),
        ("GET", "/nowhere", "", 404),
        ("POST", "/chat", chat, 200),
        ("POST", "/chat", chat, 200),
        ("GET", "/balanced", "", 502),
        ("GET", "/balanced", "", 503),
    ] {
        assert_eq!(node.status(method, path, "", body), status, "{path}");
    }
    eventually("all is counted", || {
        metrics(node.tollgate.port("status")).contains("route=\"balanced\",code=\"503\"")
    });
    let text = metrics(node.tollgate.port("status"));
    let samples = parse(&text);
    let expected = include_str!("metrics/expected.txt")
        .replace("${UPSTREAM}", &node.upstream.to_string())
        .replace("${NOTHING}", &node.nothing.to_string());
    let lines = expected.lines().filter(|line| !line.starts_with('#'));
    let missing: Vec<&str> = lines.clone().filter(|line| !finds(&samples, line)).collect();
    assert!(missing.is_empty(), "not there:\n{}\nin\n{text}", missing.join("\n"));
    // Only what matched a route is counted by route, and nothing else by status.
    let counted = samples.iter().filter(|(name, _)| name.starts_with("kong_http_requests_total{"));
    assert_eq!(counted.map(|(_, count)| count).sum::<f64>(), 10.0);
    let names: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# HELP ")).collect();
    assert!(names.is_sorted(), "{names:?}");
    // The Admin API shows the same families.
    let families = |text: &str| -> BTreeSet<String> {
        text.lines().filter(|line| line.starts_with("# TYPE")).map(str::to_owned).collect()
    };
    let admin = metrics(node.tollgate.admin());
    parse(&admin);
    assert_eq!(families(&admin), families(&text));
}

#[test]
fn consumers_are_told_apart_only_when_asked_to() {
    let node = Node::start(false, &[]);
    assert_eq!(node.status("GET", "/keyed", "apikey: k\r\n", ""), 200);
    let port = node.tollgate.port("status");
    eventually("it is counted", || metrics(port).contains("route=\"keyed\",code=\"200\""));
    assert!(!metrics(port).contains("user1"));
}

#[test]
fn workers_count_together() {
    let node = Node::start(true, &[("KONG_NGINX_WORKER_PROCESSES", "3")]);
    std::thread::scope(|scope| {
        for _ in 0..9 {
            scope.spawn(|| {
                let mut stream = connect(node.tollgate.proxy());
                for _ in 0..50 {
                    stream.write_all(b"GET /keyed HTTP/1.1\r\nHost: a\r\napikey: k\r\n\r\n").unwrap();
                    assert_eq!(read_answer(&mut stream, false).status, 200);
                }
            });
        }
    });
    let port = node.tollgate.port("status");
    let series = "kong_http_requests_total{service=\"answers\",route=\"keyed\",code=\"200\",source=\"service\",workspace=\"default\",consumer=\"user1\"}";
    eventually("all 450 are counted", || parse(&metrics(port)).get(series) == Some(&450.0));
}

#[test]
fn without_the_plugin_the_node_alone_is_shown() {
    let file = "_format_version: \"3.0\"\nroutes:\n- name: a\n  paths: [/a]\n";
    let tollgate = Tollgate::with_file(file, &[]);
    exchange(tollgate.proxy(), b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
    let samples = parse(&metrics(tollgate.port("status")));
    assert!(finds(&samples, "kong_nginx_requests_total{node_id=\"*\",subsystem=\"http\"} 1"));
    for absent in
        ["kong_http_requests_total", "kong_kong_latency_ms", "kong_upstream_target_health", "kong_ai_"]
    {
        assert!(!samples.keys().any(|name| name.starts_with(absent)), "{absent}");
    }
    let disabled = Tollgate::with_file(file, &[("KONG_PLUGINS", "key-auth")]);
    for port in [disabled.port("status"), disabled.admin()] {
        assert_eq!(exchange(port, &json_request("GET", "/metrics", None)).status, 404);
    }
}

/// Whether a value is what is expected; `$number` and `$text` stand for any.
fn is_like(expected: &Value, actual: &Value) -> bool {
    match expected {
        Value::String(kind) if kind == "$number" => actual.is_u64(),
        Value::String(kind) if kind == "$text" => actual.is_string(),
        Value::Object(fields) => actual.as_object().is_some_and(|others| {
            others.len() == fields.len()
                && fields
                    .iter()
                    .all(|(name, value)| others.get(name).is_some_and(|other| is_like(value, other)))
        }),
        Value::Array(values) => actual.as_array().is_some_and(|others| {
            others.len() == values.len()
                && values.iter().zip(others).all(|(value, other)| is_like(value, other))
        }),
        _ => expected == actual,
    }
}

#[test]
fn the_status_api_answers_as_kong_s() {
    let node = Node::start(false, &[]);
    let cases: Vec<Value> = serde_json::from_str(include_str!("metrics/status.json")).unwrap();
    for case in cases {
        let line = case["request"].as_str().unwrap();
        let body = case["send"].as_str().unwrap_or_default();
        let request = format!("{line} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let answer = exchange(node.tollgate.port("status"), request.as_bytes());
        assert_eq!(case["status"], answer.status, "{line}: {}", answer.text());
        if !case["body"].is_null() {
            assert_eq!(answer.header("content-type"), Some("application/json; charset=utf-8"), "{line}");
            assert!(is_like(&case["body"], &answer.json()), "{line}: {}", answer.text());
        }
    }
}

#[test]
fn a_node_is_ready_once_it_has_a_configuration() {
    let ready = |tollgate: &Tollgate| {
        let answer = exchange(tollgate.port("status"), &json_request("GET", "/status/ready", None));
        (answer.status, answer.text())
    };
    let empty = Tollgate::with_file("_format_version: \"3.0\"\n", &[]);
    assert_eq!(
        ready(&empty),
        (503, r#"{"message":"no configuration available (empty configuration present)"}"#.to_owned())
    );
    let body = serde_json::json!({"_format_version": "3.0", "consumers": [{"username": "a"}]});
    assert_eq!(empty.admin_call("POST", "/config", Some(&body)).0, 201);
    assert_eq!(ready(&empty), (200, r#"{"message":"ready"}"#.to_owned()));
    let store = Tollgate::with_store(&[]);
    assert_eq!(ready(&store), (200, r#"{"message":"ready"}"#.to_owned()));
    let status = exchange(store.port("status"), &json_request("GET", "/status", None)).json();
    assert_eq!(status["database"]["reachable"], true);
    assert_eq!(status["memory"]["lua_shared_dicts"]["prometheus_metrics"]["capacity"], "64.00 MiB");
}
