//! Answers recorded of a Kong with the same declarative file (`recorded/kong.yml`), case by case: status,
//! headers and body are the same; ids, times and the product token apart.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::collections::BTreeMap;
use std::net::TcpListener;

use common::upstream::Upstream;
use common::{Answer, Tollgate, exchange};
use serde_json::Value;

struct Servers {
    tollgate: Tollgate,
    echo: Upstream,
    upstream: Upstream,
    nothing: u16,
}

impl Servers {
    fn start() -> Self {
        let (echo, upstream) = (Upstream::echo(), Upstream::canned());
        // A port on which nothing listens, kept from others by a socket that was never told to listen.
        let nothing = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let file = include_str!("recorded/kong.yml")
            .replace("${ECHO}", &echo.port.to_string())
            .replace("${UPSTREAM}", &upstream.port.to_string())
            .replace("${NOTHING}", &nothing.to_string());
        Self { tollgate: Tollgate::with_file(&file, &[]), echo, upstream, nothing }
    }

    /// Ports and ids of this run in place of the placeholders.
    fn fill(&self, text: &str) -> String {
        text.replace("${PROXY}", &self.tollgate.proxy().to_string())
            .replace("${ADMIN}", &self.tollgate.admin().to_string())
            .replace("${ECHO}", &self.echo.port.to_string())
            .replace("${UPSTREAM}", &self.upstream.port.to_string())
            .replace("${NOTHING}", &self.nothing.to_string())
            .replace("${A_40000}", &"a".repeat(40_000))
            .replace("${PRODUCT}", concat!("tollgate/", env!("CARGO_PKG_VERSION")))
    }
}

fn run_cases(cases: &str) {
    let servers = Servers::start();
    let cases: Vec<Value> = serde_json::from_str(cases).unwrap();
    let mut wrong = Vec::new();
    for case in &cases {
        let admin = case["listener"] == "admin";
        let port = if admin { servers.tollgate.admin() } else { servers.tollgate.proxy() };
        let answer = exchange(port, servers.fill(case["request"].as_str().unwrap()).as_bytes());
        if let Err(difference) = compare(&servers, case, &answer) {
            wrong.push(format!("{}: {difference}", case["title"].as_str().unwrap()));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

fn compare(servers: &Servers, case: &Value, answer: &Answer) -> Result<(), String> {
    if case["status"] != answer.status {
        return Err(format!("status {} became {}: {}", case["status"], answer.status, answer.text()));
    }
    let mut expected: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in case["headers"].as_object().unwrap() {
        let values = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
        expected
            .insert(name.clone(), values.iter().map(|value| servers.fill(value.as_str().unwrap())).collect());
    }
    let mut actual: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in &answer.headers {
        let ignored = ["date", "connection", "keep-alive", "transfer-encoding"].contains(&name.as_str())
            || name == "content-length" && !expected.contains_key(name);
        if !ignored {
            let any = expected.get(name).is_some_and(|values| values == &["*"]);
            actual.entry(name.clone()).or_default().push(if any { "*".into() } else { value.clone() });
        }
    }
    if expected != actual {
        return Err(format!("headers\n  {expected:?}\n  became\n  {actual:?}"));
    }
    let Some(body) = case["body"].as_str() else { return Ok(()) };
    let (expected, actual) = (servers.fill(body), hide_ids(answer.text().trim_end_matches('\n')));
    let same = match (serde_json::from_str::<Value>(&expected), serde_json::from_str::<Value>(&actual)) {
        (Ok(expected), Ok(actual)) if case["listener"] == "admin" => {
            canonical(&expected) == canonical(&actual)
        }
        _ => expected == actual || echoed(&expected) == echoed(&actual),
    };
    same.then_some(()).ok_or_else(|| format!("body\n{expected}\n  became\n{actual}"))
}

/// Request ids as `${ID}`.
fn hide_ids(text: &str) -> String {
    let mut out = String::new();
    let mut run = String::new();
    for character in text.chars().chain(['\n']) {
        if character.is_ascii_digit() || ('a'..='f').contains(&character) {
            run.push(character);
            continue;
        }
        out.push_str(if run.len() == 32 { "${ID}" } else { &run });
        run.clear();
        out.push(character);
    }
    out.pop();
    out
}

/// Objects by key, lists sorted, descriptions (each product's own words) left out.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let sorted: BTreeMap<_, _> = fields
                .iter()
                .filter(|(name, _)| *name != "description")
                .map(|(name, value)| (name, canonical(value)))
                .collect();
            format!("{sorted:?}")
        }
        Value::Array(values) => {
            let mut sorted: Vec<_> = values.iter().map(canonical).collect();
            sorted.sort();
            format!("{sorted:?}")
        }
        Value::Number(number) => number.as_f64().map(|number| number.to_string()).unwrap_or_default(),
        other => other.to_string(),
    }
}

/// An echoed request: its lines in any order, names in any case, connection handling apart.
fn echoed(text: &str) -> Option<(Vec<String>, String)> {
    let text = text.replace('\r', "");
    let (head, body) = text.split_once("\n\n").unwrap_or((text.as_str(), ""));
    head.lines().next()?.contains(" HTTP/1.").then_some(())?;
    let mut lines: Vec<String> = head
        .lines()
        .map(|line| match line.split_once(':') {
            Some((name, value)) => format!("{}:{value}", name.to_ascii_lowercase()),
            None => line.to_owned(),
        })
        .filter(|line| !line.starts_with("connection:") && !line.starts_with("content-length:"))
        .collect();
    lines.sort();
    Some((lines, body.trim().to_owned()))
}

#[test]
fn key_auth() {
    run_cases(include_str!("recorded/key-auth.json"));
}

#[test]
fn proxy() {
    run_cases(include_str!("recorded/proxy.json"));
}

#[test]
fn ai_proxy() {
    run_cases(include_str!("recorded/ai-proxy.json"));
}

#[test]
fn schemas() {
    run_cases(include_str!("recorded/schemas.json"));
}
