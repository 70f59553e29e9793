//! `ai-proxy` case by case: the tables in `ai_proxy/`, and what only shows while an answer is under way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::io::{Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use common::cases::{self, Scripted};
use common::mock::Mock;
use common::upstream::{Upstream, chunk};
use common::{Tollgate, connect, eventually, find, logging};
use serde_json::{Value, json};

const LOG: &str = "entries.log";

fn start(upstream: u16) -> Tollgate {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join(LOG);
    let file = include_str!("ai_proxy/kong.yml")
        .replace("${UPSTREAM}", &upstream.to_string())
        .replace("${LOG}", log.to_str().unwrap());
    let path = folder.path().join("kong.yml");
    std::fs::write(&path, file).unwrap();
    let settings = [("KONG_DATABASE", "off"), ("KONG_DECLARATIVE_CONFIG", path.to_str().unwrap())];
    Tollgate::start_in(folder, &settings)
}

/// The log entry of the request that `is_it` finds.
fn entry(tollgate: &Tollgate, is_it: impl Fn(&Value) -> bool) -> Value {
    logging::entry(&tollgate.folder.path().join(LOG), is_it)
}

#[test]
fn requests() {
    let scripted = Scripted::start();
    let read = |table: &str| {
        let text = table.replace("${UPSTREAM}", &scripted.upstream.port.to_string());
        serde_json::from_str::<Vec<Value>>(&text).unwrap()
    };
    let tables = [
        include_str!("ai_proxy/requests.json"),
        include_str!("ai_proxy/providers.json"),
        include_str!("ai_proxy/clients.json"),
    ];
    let cases: Vec<Value> = tables.into_iter().flat_map(read).collect();
    let tollgate = start(scripted.upstream.port);
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|case| Some((case, cases::run(tollgate.proxy(), &scripted, case).err()?)))
        .map(|(case, difference)| format!("{}: {difference}", case["title"]))
        .collect();
    cases::report(cases.len(), &wrong);
}

/// Providers that speak APIs of their own, against the mock that speaks them too, behind `key-auth`. AWS keys are
/// those of the environment.
#[test]
fn against_the_mock() {
    let mock = Mock::start(&[]);
    let file = include_str!("ai_proxy/mock.yml").replace("${MOCK}", &mock.port.to_string());
    let keys = [("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"), ("AWS_SECRET_ACCESS_KEY", "secret")];
    let tollgate = Tollgate::with_file(&file, &keys);
    let cases: Vec<Value> = serde_json::from_str(include_str!("ai_proxy/mock.json")).unwrap();
    let mut wrong = Vec::new();
    for case in &cases {
        let bytes = cases::request_bytes(case["route"].as_str().unwrap(), &case["request"]);
        let answer = common::exchange(tollgate.proxy(), &bytes);
        let missing = case["contains"]
            .as_array()
            .unwrap()
            .iter()
            .find(|part| !answer.text().contains(part.as_str().unwrap()));
        let checked = cases::check_answer(&answer, &case["expect"]).and_then(|()| match missing {
            Some(part) => Err(format!("no {part} in {}", answer.text())),
            None => Ok(()),
        });
        wrong.extend(checked.err().map(|error| format!("{}: {error}", case["title"])));
    }
    cases::report(cases.len(), &wrong);
}

/// The `ai` section of the log, by the tables; no secret in any of it.
#[test]
fn logged() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("ai_proxy/logged.json")).unwrap();
    let scripted = Scripted::start();
    let tollgate = start(scripted.upstream.port);
    let mut wrong = Vec::new();
    for case in &cases {
        scripted.answer_with(&case["answer"]);
        let route = case["route"].as_str().unwrap();
        let answer = common::exchange(tollgate.proxy(), &cases::request_bytes(route, &case["request"]));
        let checked = cases::check_answer(&answer, &case["expect"]).and_then(|()| {
            let id = answer.header("x-kong-request-id").unwrap();
            let entry = entry(&tollgate, |entry| entry["request"]["id"] == id);
            let usage = &entry["ai"]["proxy"]["usage"];
            if let Some(tokens) = usage["completion_tokens"].as_f64().filter(|tokens| *tokens > 0.0) {
                let latency = entry["ai"]["proxy"]["meta"]["llm_latency"].as_f64().unwrap();
                assert_eq!(usage["time_per_token"].as_f64().unwrap(), latency / tokens);
            }
            match entry.to_string().contains("CANARY") {
                true => Err(format!("a secret is in {entry}")),
                false => cases::matches(&case["log"], &entry["ai"], "ai"),
            }
        });
        wrong.extend(checked.err().map(|error| format!("{}: {error}", case["title"])));
    }
    cases::report(cases.len(), &wrong);
}

/// Prices of a node's own list win over those that come with Tollgate, and are read again by a reload.
#[test]
fn prices_of_a_list_of_ones_own() {
    let scripted = Scripted::start();
    scripted.answer_with(&json!({"body": {"model": "home-made-2026-01-31", "choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 10, "total_tokens": 20}}}));
    let folder = tempfile::tempdir().unwrap();
    let file = include_str!("ai_proxy/kong.yml")
        .replace("${UPSTREAM}", &scripted.upstream.port.to_string())
        .replace("${LOG}", folder.path().join(LOG).to_str().unwrap());
    let (path, list) = (folder.path().join("kong.yml"), folder.path().join("prices.json"));
    std::fs::write(&path, file).unwrap();
    let price = |input: u32| {
        let prices =
            json!({"prices": {"openai": {"home-made": {"input_cost": input, "output_cost": 100_000}}}});
        std::fs::write(&list, prices.to_string()).unwrap();
    };
    price(200_000);
    let settings = [
        ("KONG_DATABASE", "off"),
        ("KONG_DECLARATIVE_CONFIG", path.to_str().unwrap()),
        ("KONG_AI_PRICE_LIST", list.to_str().unwrap()),
    ];
    let tollgate = Tollgate::start_in(folder, &settings);
    let json = ["Content-Type: application/json"];
    let request = json!({"method": "POST", "headers": json, "body": {"model": "home-made", "messages": [1]}});
    let ask = || {
        let answer = common::exchange(tollgate.proxy(), &cases::request_bytes("priced-by-list", &request));
        let id = answer.header("x-kong-request-id").unwrap();
        entry(&tollgate, |entry| entry["request"]["id"] == id)["ai"]["proxy"]["usage"]["cost"].clone()
    };
    assert_eq!(ask(), json!(3.0));
    price(400_000);
    let reload = |expected: i32| {
        let mut command = Tollgate::command(tollgate.folder.path(), &settings);
        let (code, out, err) = common::run(command.arg("reload"));
        assert_eq!(code, expected, "{out}{err}");
    };
    reload(0);
    assert_eq!(ask(), json!(5.0));
    std::fs::write(&list, "{}").unwrap();
    reload(1);
    assert_eq!(ask(), json!(5.0));
}

/// A client that leaves is logged with what it got until then.
#[test]
fn a_stream_that_the_client_leaves_is_counted() {
    let upstream = Upstream::start(|_, stream| {
        stream.write_all(EVENT_STREAM)?;
        chunk(
            stream,
            b"data: {\"model\":\"m-1\",\"choices\":[{\"delta\":{\"content\":\"twelve bytes\"}}]}\n\n",
        )?;
        loop {
            chunk(stream, b": waiting\n\n")?;
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    });
    let tollgate = start(upstream.port);
    let mut client = ask(tollgate.proxy(), "logged");
    read_until(&mut client, "twelve bytes");
    drop(client);
    let entry = entry(&tollgate, |entry| entry["request"]["uri"] == "/logged");
    let expected = json!({"proxy": {
        "meta": {"request_mode": "stream", "response_model": "m-1"},
        "usage": {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5},
    }});
    cases::matches(&expected, &entry["ai"], "ai").unwrap();
}

/// What is refused when it is configured, and with which words.
#[test]
fn configurations() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("ai_proxy/configurations.json")).unwrap();
    let tollgate = Tollgate::with_store(&[]);
    let wrong = cases::configurations(&tollgate, "ai-proxy", &cases);
    cases::report(cases.len(), &wrong);
}

/// `GET /schemas/plugins/ai-proxy`: Kong 3.11's fields, defaults and checks, with a larger default of
/// `max_request_body_size`. Descriptions are each product's own words.
#[test]
fn schema() {
    fn without_descriptions(value: &mut Value) {
        match value {
            Value::Object(members) => {
                members.remove("description");
                members.values_mut().for_each(without_descriptions);
            }
            Value::Array(items) => items.iter_mut().for_each(without_descriptions),
            _ => {}
        }
    }
    let (status, mut schema) = Tollgate::with_store(&[]).admin_call("GET", "/schemas/plugins/ai-proxy", None);
    without_descriptions(&mut schema);
    let expected: Value = serde_json::from_str(include_str!("ai_proxy/schema.json")).unwrap();
    assert_eq!((status, schema), (200, expected));
}

const STREAM: &[u8] = br#"{"messages":[{"role":"user","content":"Hi"}],"stream":true}"#;

fn ask(port: u16, route: &str) -> std::net::TcpStream {
    let mut stream = connect(port);
    let head = format!(
        "POST /{route} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        STREAM.len()
    );
    stream.write_all(&[head.as_bytes(), STREAM].concat()).unwrap();
    stream
}

fn read_until(stream: &mut impl Read, what: &str) -> String {
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    while find(&received, what.as_bytes()).is_none() {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "the connection closed before {what}: {}", String::from_utf8_lossy(&received));
        received.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8(received).unwrap()
}

const EVENT_STREAM: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

/// The provider sends an event only when the client has the one before it: nothing may be held back.
#[test]
fn events_arrive_at_once() {
    let (next, told) = mpsc::channel::<()>();
    let told = Mutex::new(told);
    let upstream = Upstream::start(move |_, stream| {
        stream.write_all(EVENT_STREAM)?;
        for number in 0..4 {
            told.lock().unwrap().recv().unwrap();
            let event = json!({"model": "m", "choices": [{"delta": {"content": format!("<{number}>")}}]});
            chunk(stream, format!("data: {event}\n\n").as_bytes())?;
        }
        stream.write_all(b"0\r\n\r\n")
    });
    let tollgate = start(upstream.port);
    for route in ["plain", "statistics"] {
        let mut client = ask(tollgate.proxy(), route);
        for number in 0..4 {
            next.send(()).unwrap();
            read_until(&mut client, &format!("<{number}>"));
        }
    }
}

/// A provider's certificate is checked, unless the service says that it need not be.
#[test]
fn certificates_of_providers() {
    let scripted = Scripted::start();
    scripted.answer_with(&json!({"body": {"choices": []}}));
    let behind = scripted.upstream.port;
    let provider = Tollgate::with_file(
        &format!(
            "_format_version: '3.0'\nservices: [{{name: a, url: 'http://127.0.0.1:{behind}', routes: [{{name: a, paths: [/]}}]}}]"
        ),
        &[],
    );
    let url = format!("https://127.0.0.1:{}/v1/chat/completions", provider.port("proxy_tls"));
    let service = |name: &str, more: Value| {
        let config = json!({"route_type": "llm/v1/chat", "model": {"provider": "openai", "name": "m", "options": {"upstream_url": url}}});
        let mut service = json!({
            "name": name, "host": "never.test", "port": 1, "protocol": "https",
            "routes": [{"name": name, "paths": [format!("/{name}")], "plugins": [{"name": "ai-proxy", "config": config}]}],
        });
        service.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        service
    };
    let services = [service("checking", json!({})), service("trusting", json!({"tls_verify": false}))];
    let file = json!({"_format_version": "3.0", "services": services});
    let tollgate = Tollgate::with_file(&file.to_string(), &[]);
    let request =
        json!({"method": "POST", "headers": ["Content-Type: application/json"], "body": {"messages": [1]}});
    let ask = |route: &str| common::exchange(tollgate.proxy(), &cases::request_bytes(route, &request)).status;
    assert_eq!((ask("checking"), ask("trusting")), (502, 200));
}

/// The same over TLS with HTTP/2, where Kong does not stream.
#[test]
fn streams_over_http2() {
    let scripted = Scripted::start();
    let events = ["data: {\"choices\":[]}\n\n", "data: [DONE]\n\n"];
    scripted.answer_with(&json!({"headers": ["Content-Type: text/event-stream"], "chunks": events}));
    let tollgate = start(scripted.upstream.port);
    let url = format!("https://127.0.0.1:{}/statistics", tollgate.port("proxy_tls"));
    let body = std::str::from_utf8(STREAM).unwrap();
    let json = "Content-Type: application/json";
    let curl = ["-sik", "--http2", "--max-time", "20", "-H", json, "-d", body, &url];
    let (_, answer, _) = common::run(std::process::Command::new("curl").args(curl));
    assert!(answer.starts_with("HTTP/2 200"), "{answer}");
    assert!(answer.contains("content-type: text/event-stream"), "{answer}");
    assert!(answer.ends_with(&events.concat()), "{answer}");
}

/// A client that leaves takes the upstream's connection with it, streamed or not, head or no head.
#[test]
fn the_upstream_is_closed_when_the_client_has_gone() {
    let events = Arc::new(AtomicUsize::new(0));
    let sent = Arc::clone(&events);
    let upstream = Upstream::start(move |request, stream| {
        if request.path == "/v1/chat/completions" && request.body.ends_with(b"\"stream\":false}") {
            // Never answers: waits for its connection to be closed.
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest)?;
            return Err(std::io::ErrorKind::ConnectionAborted.into());
        }
        stream.write_all(EVENT_STREAM)?;
        loop {
            chunk(stream, b"data: {\"model\":\"m\",\"choices\":[]}\n\n")?;
            sent.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    });
    let tollgate = start(upstream.port);
    for route in ["plain", "statistics"] {
        let mut client = ask(tollgate.proxy(), route);
        read_until(&mut client, "data: ");
        assert_eq!(upstream.open.load(Ordering::SeqCst), 1, "{route}");
        drop(client);
        eventually("the upstream's connection is closed", || upstream.open.load(Ordering::SeqCst) == 0);
    }
    let after = events.load(Ordering::SeqCst);
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert_eq!(events.load(Ordering::SeqCst), after, "no event is sent to nobody");

    let mut client = connect(tollgate.proxy());
    let body = r#"{"messages":[1],"stream":false}"#;
    write!(client, "POST /plain HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    eventually("the upstream has the request", || upstream.open.load(Ordering::SeqCst) == 1);
    drop(client);
    eventually("the waiting upstream is closed", || upstream.open.load(Ordering::SeqCst) == 0);
}

/// An upstream that breaks off is seen as broken off: the chunked body has no end.
#[test]
fn a_broken_stream_is_not_ended_properly() {
    let upstream = Upstream::start(|_, stream| {
        stream.write_all(EVENT_STREAM)?;
        chunk(stream, b"data: {\"choices\":[]}\n\n")?;
        Err(std::io::ErrorKind::ConnectionAborted.into())
    });
    let tollgate = start(upstream.port);
    let mut client = ask(tollgate.proxy(), "statistics");
    let mut received = Vec::new();
    let _ = client.read_to_end(&mut received);
    let text = String::from_utf8_lossy(&received);
    assert!(text.contains("data: {\"choices\":[]}"), "{text}");
    assert!(!text.ends_with("0\r\n\r\n"), "{text}");
}

/// No provider's key in what clients and operators see.
#[test]
fn the_providers_key_stays_inside() {
    let upstream = Upstream::canned();
    let tollgate = start(upstream.port);
    for route in ["plain", "query", "body"] {
        let answer = common::exchange(
            tollgate.proxy(),
            &cases::request_bytes(
                route,
                &json!({"method": "POST", "headers": ["Content-Type: application/json"], "body": {"messages": [1]}}),
            ),
        );
        assert_eq!(answer.status, 200);
        let sent = String::from_utf8(upstream.requests.lock().unwrap().pop().unwrap()).unwrap();
        assert!(sent.contains("openai-key"), "{sent}");
        let seen = format!("{:?}{}", answer.headers, answer.text());
        assert!(!seen.contains("openai-key"), "{seen}");
    }
}
