//! `ai-request-transformer` and `ai-response-transformer` case by case: the tables in `ai_transformers/`.
//!
//! A case has a route of its own. `config` is laid over that of its plugin, which asks an LLM of the test's; `says` is
//! what that LLM answers, or `llm` its whole answer, and `asked` what it must have received. `log` is the log's `ai`
//! section, false where there is to be none. All else is as in `common/cases.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;

use common::cases::{self, Scripted};
use common::mock::Mock;
use common::upstream::{Upstream, respond};
use common::{Tollgate, eventually, exchange};
use serde_json::{Value, json};

/// What is configured where a case says nothing else.
fn config(port: u16) -> Value {
    json!({
        "prompt": "Multiply all numbers in my JSON request, by 2.",
        "llm": {
            "route_type": "llm/v1/chat",
            "auth": {"header_name": "Authorization", "header_value": "Bearer CANARY-9a1"},
            "logging": {"log_statistics": true},
            "model": {"provider": "openai", "name": "gpt-4", "options": {
                "max_tokens": 512, "temperature": 0.5, "input_cost": 10, "output_cost": 10,
                "upstream_url": format!("http://127.0.0.1:{port}/v1/chat/completions"),
            }},
        },
    })
}

/// Lays one value over another, member by member; null takes a member away.
fn lay(over: &Value, under: &mut Value) {
    match (over, under) {
        (Value::Object(over), Value::Object(under)) => {
            for (name, value) in over {
                lay(value, under.entry(name).or_insert(Value::Null));
            }
        }
        (over, under) => *under = over.clone(),
    }
}

/// What an LLM answers that says this.
fn saying(text: &Value) -> Value {
    let message = json!({"role": "assistant", "content": text});
    json!({"body": {
        "id": "chatcmpl-8T6YwgvjQVVnGbJ2w8hpOA17SeNy2", "object": "chat.completion", "created": 1701947430,
        "model": "gpt-3.5-turbo-0613", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 25, "completion_tokens": 12, "total_tokens": 37},
    }})
}

/// A node with a route for each case, before these servers; its log is `entries.log`.
fn start(cases: &[Value], upstream: u16, llm: u16) -> Tollgate {
    let folder = tempfile::tempdir().unwrap();
    let routes: Vec<Value> = (0..)
        .zip(cases)
        .map(|(number, case): (usize, &Value)| {
            let mut config = config(llm);
            if case["config"].is_object() {
                lay(&case["config"], &mut config);
            }
            let mut plugins = case["plugins"].as_array().cloned().unwrap_or_default();
            plugins.push(json!({"name": case["plugin"], "config": config}));
            json!({"name": format!("case{number}"), "paths": [format!("~/case{number}(?<rest>/.*)?$")], "plugins": plugins})
        })
        .collect();
    let services =
        json!([{"name": "service", "url": format!("http://127.0.0.1:{upstream}"), "routes": routes}]);
    let log = json!({"name": "file-log", "config": {"path": folder.path().join("entries.log")}});
    let file = json!({"_format_version": "3.0", "services": services, "plugins": [log]});
    let path = folder.path().join("kong.yml");
    let file = file.to_string().replace("$llm", &llm.to_string()).replace("$upstream", &upstream.to_string());
    std::fs::write(&path, file).unwrap();
    let settings = [("KONG_DATABASE", "off"), ("KONG_DECLARATIVE_CONFIG", path.to_str().unwrap())];
    Tollgate::start_in(folder, &settings)
}

/// The log's entry of a request.
fn entry(tollgate: &Tollgate, id: &str) -> Value {
    let mut found = None;
    eventually("the entry is written", || {
        let text = std::fs::read_to_string(tollgate.folder.path().join("entries.log")).unwrap_or_default();
        // The last line may be under way.
        let mut entries = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        found = entries.find(|entry| entry["request"]["id"] == id);
        found.is_some()
    });
    found.unwrap()
}

/// What differs in a case.
fn run(
    tollgate: &Tollgate,
    upstream: &Scripted,
    llm: &Scripted,
    route: &str,
    case: &Value,
) -> Result<(), String> {
    upstream.answer_with(&case["answer"]);
    llm.answer_with(&if case["llm"].is_object() { case["llm"].clone() } else { saying(&case["says"]) });
    upstream.upstream.requests.lock().unwrap().clear();
    llm.upstream.requests.lock().unwrap().clear();
    let answer = exchange(tollgate.proxy(), &cases::request_bytes(route, &case["request"]));
    cases::check_answer(&answer, &case["expect"])?;
    cases::check_sent(llm.received(), &case["asked"]).map_err(|error| format!("asked: {error}"))?;
    cases::check_sent(upstream.received(), &case["sent"])?;
    if case["log"].is_null() {
        return Ok(());
    }
    let entry = entry(tollgate, answer.header("x-kong-request-id").unwrap());
    if entry.to_string().contains("CANARY") {
        return Err(format!("a secret is in {entry}"));
    }
    let call = &entry["ai"][case["plugin"].as_str().unwrap()];
    if let Some(latency) = call["meta"]["llm_latency"].as_u64() {
        let tokens = call["usage"]["completion_tokens"].as_u64().unwrap().max(1);
        assert_eq!(call["usage"]["time_per_token"], latency / tokens, "{call}");
    }
    match case["log"].as_bool() {
        Some(_) if entry["ai"].is_null() => Ok(()),
        Some(_) => Err(format!("something is logged: {}", entry["ai"])),
        None => cases::matches(&case["log"], &entry["ai"], "ai"),
    }
}

#[test]
fn transformations() {
    let tables =
        [include_str!("ai_transformers/requests.json"), include_str!("ai_transformers/responses.json")];
    let read = |table: &str| serde_json::from_str::<Vec<Value>>(table).unwrap();
    let cases: Vec<Value> = tables.into_iter().flat_map(read).collect();
    let (upstream, llm) = (Scripted::start(), Scripted::start());
    let tollgate = start(&cases, upstream.upstream.port, llm.upstream.port);
    let mut wrong = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        if let Err(difference) = run(&tollgate, &upstream, &llm, &format!("case{number}"), case) {
            wrong.push(format!("{}: {difference}", case["title"]));
        }
    }
    cases::report(cases.len(), &wrong);
}

/// Providers that speak APIs of their own are asked in them.
#[test]
fn by_the_providers_there_are() {
    let providers = json!([
        {"provider": "openai", "options": {"upstream_url": "http://127.0.0.1:$llm/v1/chat/completions"}},
        {"provider": "anthropic", "options": {"anthropic_version": "2023-06-01", "upstream_url": "http://127.0.0.1:$llm/v1/messages"}},
        {"provider": "bedrock", "options": {"bedrock": {"aws_region": "eu-central-1"}, "upstream_url": "http://127.0.0.1:$llm"}},
        {"provider": "llama2", "options": {"llama2_format": "ollama", "upstream_url": "http://127.0.0.1:$llm/api/chat"}},
        {"provider": "mistral", "options": {"mistral_format": "openai", "upstream_url": "http://127.0.0.1:$llm/v1/chat/completions"}},
    ]);
    let plain = json!({"header_name": null, "header_value": null, "aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": "secret"});
    let cases: Vec<Value> = providers
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|model| {
            ["ai-request-transformer", "ai-response-transformer"].map(|plugin| {
                json!({"plugin": plugin, "config": {"prompt": "p", "llm": {"auth": plain, "model": model}}})
            })
        })
        .collect();
    let mock = Mock::start(&[]);
    let upstream = Scripted::start();
    upstream.answer_with(&json!({"body": "the answer's body"}));
    let tollgate = start(&cases, upstream.upstream.port, mock.port);
    for (number, case) in cases.iter().enumerate() {
        let request = json!({"method": "POST", "body": "the request's body"});
        let answer = exchange(tollgate.proxy(), &cases::request_bytes(&format!("case{number}"), &request));
        assert_eq!(answer.status, 200, "{case}: {}", answer.text());
        let sent = String::from_utf8(upstream.received().unwrap()).unwrap();
        let (transformed, about) = match case["plugin"] == "ai-request-transformer" {
            true => (sent, "the request's body"),
            false => (answer.text(), "the answer's body"),
        };
        assert!(transformed.contains(&format!("You asked: {about}")), "{case}: {transformed}");
        let entry = entry(&tollgate, answer.header("x-kong-request-id").unwrap());
        let call = &entry["ai"][case["plugin"].as_str().unwrap()];
        assert_eq!(call["meta"]["provider_name"], case["config"]["llm"]["model"]["provider"], "{entry}");
        assert!(call["usage"]["completion_tokens"].as_u64().is_some_and(|tokens| tokens > 0), "{entry}");
    }
}

/// An LLM that cannot be reached, and one that does not answer in time.
#[test]
fn without_an_answer() {
    let hanging = Upstream::start(|_, stream| {
        let _ = stream.read(&mut [0; 16])?;
        Err(std::io::ErrorKind::ConnectionAborted.into())
    });
    let cases: Vec<Value> = ["ai-request-transformer", "ai-response-transformer"]
        .into_iter()
        .flat_map(|plugin| {
            let url = |url: &str| json!({"plugin": plugin, "config": {"http_timeout": 50, "llm": {"model": {"options": {"upstream_url": url}}}}});
            [url("http://127.0.0.1:1/"), url("http://127.0.0.1:$llm/")]
        })
        .collect();
    let upstream = Scripted::start();
    upstream.answer_with(&json!({"body": "x"}));
    let tollgate = start(&cases, upstream.upstream.port, hanging.port);
    for number in 0..cases.len() {
        let request = json!({"method": "POST", "body": "x"});
        let answer = exchange(tollgate.proxy(), &cases::request_bytes(&format!("case{number}"), &request));
        assert_eq!(answer.status, 400, "{}", answer.text());
        let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
        let begins = "failed to introspect request with AI service: request to ai service failed: ";
        assert!(message.starts_with(begins), "{message}");
    }
}

/// A proxy that notes the first line of every request; what it is told to connect to, it connects to, and all else it
/// answers as an LLM.
fn forward_proxy() -> Upstream {
    Upstream::start(|request, stream| {
        if request.method != "CONNECT" {
            let body = saying(&json!("by way of the proxy"))["body"].to_string();
            return respond(stream, request.method, "200 OK", "application/json", "", body.as_bytes());
        }
        let mut server = TcpStream::connect(request.path)?;
        stream.write_all(b"HTTP/1.1 200 Connection established\r\nx-proxy: 1\r\n\r\n")?;
        let (mut from, mut to) = (stream.try_clone()?, server.try_clone()?);
        let there = std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        std::io::copy(&mut server, stream)?;
        let _ = there.join();
        Err(std::io::ErrorKind::ConnectionAborted.into())
    })
}

/// LLMs behind proxies, plain and with TLS; certificates are checked unless they need not be.
#[test]
fn by_way_of_proxies_and_with_tls() {
    let llm = Scripted::start();
    llm.answer_with(&saying(&json!("by way of TLS")));
    let behind = llm.upstream.port;
    let services =
        format!("[{{name: a, url: 'http://127.0.0.1:{behind}', routes: [{{name: a, paths: [/]}}]}}]");
    let with_tls = Tollgate::with_file(&format!("_format_version: '3.0'\nservices: {services}"), &[]);
    let proxy = forward_proxy();
    let to = |scheme: &str| {
        json!({
            "http": "http://llm.test/v1/chat/completions",
            "https": format!("https://127.0.0.1:{}/v1/chat/completions", with_tls.port("proxy_tls")),
            "nobody": "https://nobody.test/v1/chat/completions",
        })[scheme]
            .clone()
    };
    let case = |scheme: &str, verify: bool, by_proxy: bool| {
        let (host, port) =
            if by_proxy { (json!("127.0.0.1"), json!(proxy.port)) } else { (Value::Null, Value::Null) };
        json!({"plugin": "ai-request-transformer", "config": {
            "https_verify": verify, "http_proxy_host": host, "http_proxy_port": port, "https_proxy_host": host,
            "https_proxy_port": port, "llm": {"model": {"options": {"upstream_url": to(scheme)}}},
        }})
    };
    let cases = [
        case("http", true, true),
        case("https", false, true),
        case("https", false, false),
        case("https", true, true),
        case("nobody", false, true),
    ];
    let upstream = Scripted::start();
    upstream.answer_with(&json!({"body": "x"}));
    let tollgate = start(&cases, upstream.upstream.port, behind);
    let ask = |number: usize| {
        let request = json!({"method": "POST", "body": "x"});
        exchange(tollgate.proxy(), &cases::request_bytes(&format!("case{number}"), &request))
    };
    let sent = || String::from_utf8(upstream.received().unwrap()).unwrap();
    let lines = || -> Vec<String> {
        let requests = proxy.requests.lock().unwrap().split_off(0);
        let text = requests.iter().map(|request| String::from_utf8_lossy(request).into_owned());
        text.map(|request| request.lines().next().unwrap().to_owned()).collect()
    };

    assert_eq!(ask(0).status, 200);
    assert!(sent().ends_with("by way of the proxy"));
    assert_eq!(lines(), ["POST http://llm.test/v1/chat/completions HTTP/1.1"]);
    for number in [1, 2] {
        let answer = ask(number);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(sent().ends_with("by way of TLS"));
    }
    assert_eq!(lines(), [format!("CONNECT 127.0.0.1:{} HTTP/1.1", with_tls.port("proxy_tls"))]);
    let unchecked = ask(3);
    assert_eq!(unchecked.status, 400, "{}", unchecked.text());
    assert!(unchecked.text().contains("TLS"), "{}", unchecked.text());
    let nobody = ask(4);
    assert_eq!(nobody.status, 400);
    assert!(nobody.text().contains("does not connect to nobody.test:443"), "{}", nobody.text());
}
