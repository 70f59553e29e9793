//! The Admin API over a real socket: tables of calls and answers (`admin/*.json`), each file against a server
//! of its own, in order.
//!
//! A case has a `request` (method and path), perhaps `headers` and a body (`json`, `form` or `body`), and of the
//! answer the `status`, perhaps some `answer_headers`, and the body: `answer` as a whole, `has` for what it
//! contains at least, `text` as it is. `${NAME}` stands for something of this run, `${any}` for anything that
//! is there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::collections::BTreeMap;

use common::{Answer, Tollgate, exchange};
use serde_json::Value;

/// Certificates to send, made for this run.
struct Pki {
    values: Vec<(&'static str, String)>,
}

impl Pki {
    fn new() -> Self {
        let (cert, key) = tollgate_http::server::self_signed().unwrap();
        let (other_cert, other_key) = tollgate_http::server::self_signed().unwrap();
        let ca_key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca = params.self_signed(&ca_key).unwrap().pem();
        Self {
            values: vec![
                ("${CERT}", cert),
                ("${KEY}", key),
                ("${OTHER_CERT}", other_cert),
                ("${OTHER_KEY}", other_key),
                ("${CA}", ca),
            ],
        }
    }
}

struct Run {
    tollgate: Tollgate,
    values: Vec<(&'static str, String)>,
}

impl Run {
    fn new(tollgate: Tollgate) -> Self {
        let mut values = Pki::new().values;
        values.push(("${ADMIN}", tollgate.admin().to_string()));
        values.push(("${PRODUCT}", concat!("tollgate/", env!("CARGO_PKG_VERSION")).to_owned()));
        Self { tollgate, values }
    }

    fn fill(&self, text: &str) -> String {
        self.values.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
    }

    fn fill_json(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => self.fill(text).into(),
            Value::Array(values) => values.iter().map(|value| self.fill_json(value)).collect(),
            Value::Object(fields) => {
                fields.iter().map(|(name, value)| (name.clone(), self.fill_json(value))).collect()
            }
            other => other.clone(),
        }
    }

    fn send(&self, case: &Value) -> Answer {
        let (method, path) = case["request"].as_str().unwrap().split_once(' ').unwrap();
        let (kind, body) = if let Some(form) = case["form"].as_str() {
            (Some("application/x-www-form-urlencoded"), self.fill(form))
        } else if let Some(body) = case["body"].as_str() {
            (None, self.fill(body))
        } else if let Some(json) = case.get("json") {
            (Some("application/json"), self.fill_json(json).to_string())
        } else {
            (None, String::new())
        };
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n");
        if let Some(kind) = kind {
            head.push_str(&format!("Content-Type: {kind}\r\n"));
        }
        for (name, value) in case["headers"].as_object().into_iter().flatten() {
            head.push_str(&format!("{name}: {}\r\n", self.fill(value.as_str().unwrap())));
        }
        head.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
        exchange(self.tollgate.admin(), head.as_bytes())
    }

    fn check(&self, case: &Value, answer: &Answer) -> Result<(), String> {
        if case["status"] != answer.status {
            return Err(format!("status {}, not {}: {}", answer.status, case["status"], answer.text()));
        }
        for (name, expected) in case["answer_headers"].as_object().into_iter().flatten() {
            let expected = expected.as_str().map(|expected| self.fill(expected));
            let actual = answer.header(name);
            if actual != expected.as_deref() && !(expected.as_deref() == Some("${any}") && actual.is_some()) {
                return Err(format!("header {name}: {actual:?}, not {expected:?}"));
            }
        }
        if let Some(expected) = case["text"].as_str() {
            let actual = answer.text();
            return if actual == expected { Ok(()) } else { Err(format!("text {actual:?}")) };
        }
        for (member, whole) in [("answer", true), ("has", false)] {
            if let Some(expected) = case.get(member) {
                let actual: Value =
                    serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
                same(&self.fill_json(expected), &actual, whole)
                    .map_err(|at| format!("body{at}\n    of {actual}"))?;
            }
        }
        Ok(())
    }
}

/// Whether a value is the expected one; where `whole` is not asked for, objects may have more members.
fn same(expected: &Value, actual: &Value, whole: bool) -> Result<(), String> {
    match (expected, actual) {
        (Value::String(any), actual) if any == "${any}" && !actual.is_null() => Ok(()),
        (Value::Object(expected), Value::Object(actual)) => {
            let names = |fields: &serde_json::Map<String, Value>| {
                fields.keys().cloned().map(|name| (name, ())).collect::<BTreeMap<_, _>>()
            };
            if whole && names(expected) != names(actual) {
                return Err(format!(": members {:?}", actual.keys().collect::<Vec<_>>()));
            }
            expected.iter().try_for_each(|(name, expected)| {
                let actual = actual.get(name).ok_or_else(|| format!(".{name}: missing"))?;
                same(expected, actual, whole).map_err(|at| format!(".{name}{at}"))
            })
        }
        (Value::Array(expected), Value::Array(actual)) if expected.len() == actual.len() => {
            expected.iter().zip(actual).enumerate().try_for_each(|(place, (expected, actual))| {
                same(expected, actual, whole).map_err(|at| format!("[{place}]{at}"))
            })
        }
        (Value::Number(a), Value::Number(b)) if a.as_f64() == b.as_f64() => Ok(()),
        (expected, actual) if expected == actual => Ok(()),
        (expected, actual) => Err(format!(": {actual}, not {expected}")),
    }
}

fn run(tollgate: Tollgate, cases: &str) {
    let run = Run::new(tollgate);
    let cases: Vec<Value> = serde_json::from_str(cases).unwrap();
    let mut wrong = Vec::new();
    for case in &cases {
        if let Err(difference) = run.check(case, &run.send(case)) {
            wrong.push(format!("{}\n  {} → {difference}", case["title"], case["request"]));
        }
    }
    assert!(wrong.is_empty(), "{} of {} are wrong:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn services_and_routes() {
    run(Tollgate::with_store(&[]), include_str!("admin/services_and_routes.json"));
}

#[test]
fn consumers_and_keys() {
    run(Tollgate::with_store(&[]), include_str!("admin/consumers_and_keys.json"));
}

#[test]
fn consumer_groups() {
    run(Tollgate::with_store(&[]), include_str!("admin/consumer_groups.json"));
}

#[test]
fn plugins() {
    run(Tollgate::with_store(&[]), include_str!("admin/plugins.json"));
}

#[test]
fn upstreams() {
    run(Tollgate::with_store(&[]), include_str!("admin/upstreams.json"));
}

#[test]
fn certificates() {
    run(Tollgate::with_store(&[]), include_str!("admin/certificates.json"));
}

#[test]
fn lists() {
    run(Tollgate::with_store(&[]), include_str!("admin/lists.json"));
}

#[test]
fn bodies() {
    run(Tollgate::with_store(&[]), include_str!("admin/bodies.json"));
}

#[test]
fn node() {
    run(Tollgate::with_store(&[]), include_str!("admin/node.json"));
}

#[test]
fn workspaces() {
    run(Tollgate::with_store(&[]), include_str!("admin/workspaces.json"));
}

#[test]
fn control_planes() {
    run(Tollgate::with_store(&[]), include_str!("admin/control_planes.json"));
}

#[test]
fn transactions_and_revisions() {
    run(Tollgate::with_store(&[]), include_str!("admin/transactions_and_revisions.json"));
}

#[test]
fn without_a_database() {
    let file = "_format_version: \"3.0\"\nservices:\n- {id: 00000000-0000-4000-8000-000000000001, name: one, host: a.test}\n";
    run(Tollgate::with_file(file, &[]), include_str!("admin/without_a_database.json"));
}

#[test]
fn with_a_token() {
    let tollgate = Tollgate::with_store(&[("TOLLGATE_ADMIN_TOKEN", "secret-token")]);
    run(tollgate, include_str!("admin/with_a_token.json"));
}

#[test]
fn without_a_token_it_keeps_to_the_loopback() {
    let folder = tempfile::tempdir().unwrap();
    let start =
        |settings: &[(&str, &str)]| common::run(Tollgate::command(folder.path(), settings).arg("start"));
    let (code, _, err) = start(&[("KONG_ADMIN_LISTEN", "0.0.0.0:0")]);
    assert_ne!(code, 0);
    assert!(err.contains("admin_listen") && err.contains("admin_token"), "{err}");
    let token = [("KONG_ADMIN_LISTEN", "0.0.0.0:0"), ("TOLLGATE_ADMIN_TOKEN", "secret-token")];
    let tollgate = Tollgate::start_in(tempfile::tempdir().unwrap(), &token);
    assert_eq!(tollgate.admin_call("GET", "/", None).0, 401);
}

#[test]
fn headers_can_be_turned_off() {
    for (setting, latency, server) in
        [("off", false, false), ("server_tokens", false, true), ("X-Kong-Admin-Latency", true, false)]
    {
        let tollgate = Tollgate::with_store(&[("KONG_HEADERS", setting)]);
        let answer = exchange(tollgate.admin(), &common::json_request("GET", "/services", None));
        assert_eq!(answer.header("x-kong-admin-latency").is_some(), latency, "{setting}");
        assert_eq!(answer.header("server").is_some(), server, "{setting}");
    }
}

/// A whole configuration may be large, a call about one entity may not (Kong 3.11: 10 MB).
#[test]
fn bodies_have_a_largest_size() {
    let tollgate = Tollgate::with_store(&[]);
    let long = "x".repeat(11 << 20);
    let entity = serde_json::json!({"name": "s", "host": "a.test", "tags": [long]});
    assert_eq!(tollgate.admin_call("POST", "/services", Some(&entity)).0, 413);
    let control_plane = "/v2/control-planes/5e127e55-0000-4000-8000-000000000001/core-entities";
    let sync = serde_json::json!({"message": long, "operations": []});
    for path in ["/tollgate/transaction".to_owned(), format!("{control_plane}/tollgate/transaction")] {
        assert_eq!(tollgate.admin_call("POST", &path, Some(&sync)).0, 200, "{path}");
    }
}

#[test]
fn who_writes_and_who_reads_get_along() {
    let tollgate = Tollgate::with_store(&[]);
    let name = |thread: usize, number: usize| format!("s-{thread}-{number}");
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let tollgate = &tollgate;
            scope.spawn(move || {
                for number in 0..25 {
                    let body = serde_json::json!({"name": name(thread, number), "host": "a.test"});
                    let (status, service) = tollgate.admin_call("POST", "/services", Some(&body));
                    assert_eq!(status, 201, "{service}");
                    // What was answered is there for whoever asks next.
                    let path = format!("/services/{}", service["id"].as_str().unwrap());
                    assert_eq!(tollgate.admin_call("GET", &path, None), (200, service));
                }
            });
        }
        for _ in 0..2 {
            scope.spawn(|| {
                let mut seen = 0;
                while seen < 100 {
                    let (status, page) = tollgate.admin_call("GET", "/services?size=1000", None);
                    let count = page["data"].as_array().unwrap().len();
                    assert!(status == 200 && count >= seen, "{count} after {seen}");
                    seen = count;
                }
            });
        }
    });
    // Of several who want one name, one gets it.
    let wanted = serde_json::json!({"name": "wanted", "host": "a.test"});
    let statuses = std::thread::scope(|scope| {
        let tries: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| tollgate.admin_call("POST", "/services", Some(&wanted)).0))
            .collect();
        tries.into_iter().map(|attempt| attempt.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 409).count(), 7, "{statuses:?}");
}

/// A body that breaks the rules of HTTP is something else than one that is too large.
#[test]
fn a_body_that_cannot_be_read() {
    let tollgate = Tollgate::with_store(&[]);
    let head = "POST /services HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let answer = exchange(tollgate.admin(), format!("{head}zz\r\n").as_bytes());
    assert_eq!(answer.status, 400);
    let message = answer.json()["message"].as_str().unwrap().to_owned();
    assert!(
        message.starts_with("the body cannot be read: the body is not framed as HTTP demands"),
        "{message}"
    );
}
