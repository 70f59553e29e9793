//! The plugins case by case, but for those with a file of their own: a table for each in `plugins/`.
//!
//! A case has a route of its own, with the plugin of the table and its `config`; `plugins` puts others beside it,
//! `route` changes the route. In all of it `$route` is the route's name, which is also its path, and `$upstream`
//! the upstream's port. Requests are
//! written as in `common/cases.rs`, one or several `steps`; `error_log` is what the log must say then. Consumers `alice`, `bob` and `carl` have keys
//! of their names; the first is in the groups `gold` and `silver`, the others in `silver` and `gold`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::time::{Duration, SystemTime};

use common::cases::{self, Scripted};
use common::{Tollgate, exchange};
use serde_json::{Value, json};

/// Starts with these routes of one service, a route `elsewhere` of another, and these global plugins.
fn start(routes: Value, plugins: Value) -> (Tollgate, Scripted) {
    let scripted = Scripted::start();
    (start_before(&scripted, routes, plugins), scripted)
}

/// The same before an upstream that is there already.
fn start_before(scripted: &Scripted, routes: Value, plugins: Value) -> Tollgate {
    let consumer = |name: &str, groups: &[&str]| {
        let groups: Vec<Value> = groups.iter().map(|group| json!({"name": group})).collect();
        json!({"username": name, "keyauth_credentials": [{"key": name}], "groups": groups})
    };
    let port = scripted.upstream.port.to_string();
    let routes: Value = serde_json::from_str(&routes.to_string().replace("$upstream", &port)).unwrap();
    let url = format!("http://127.0.0.1:{port}");
    let elsewhere = json!([{"name": "elsewhere", "paths": ["/elsewhere"]}]);
    let services = json!([
        {"name": "service", "url": url, "routes": routes}, {"name": "other", "url": url, "routes": elsewhere},
    ]);
    let file = json!({
        "_format_version": "3.0", "services": services, "plugins": plugins,
        "consumers": [
            consumer("alice", &["silver", "gold"]), consumer("bob", &["silver"]), consumer("carl", &["gold"]),
        ],
        "consumer_groups": [{"name": "gold"}, {"name": "silver"}],
    });
    Tollgate::with_file(&file.to_string(), &[])
}

fn run_table(plugin: &str, table: &str) {
    let cases: Vec<Value> = serde_json::from_str(table).unwrap();
    assert!(cases.len() >= 15, "{plugin} has {} cases", cases.len());
    let scripted = Scripted::start();
    let upstream = scripted.upstream.port.to_string();
    let filled = |(index, case): (usize, &Value)| {
        let text =
            case.to_string().replace("$route", &format!("case{index}")).replace("$upstream", &upstream);
        serde_json::from_str(&text).unwrap()
    };
    let cases: Vec<Value> = cases.iter().enumerate().map(filled).collect();
    let routes: Vec<Value> =
        cases.iter().enumerate().map(|(index, case)| route(plugin, index, case)).collect();
    let tollgate = start_before(&scripted, routes.into(), json!([]));
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
            if let Some(said) = step["error_log"].as_str() {
                let path = tollgate.folder.path().join("logs/error.log");
                let is_there = || std::fs::read_to_string(&path).unwrap_or_default().contains(said);
                common::eventually(said, is_there);
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

/// Time since 1970.
fn now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap()
}

/// What is left of the window of so many seconds.
fn rest_of(seconds: u64) -> Duration {
    let window = Duration::from_secs(seconds).as_millis();
    Duration::from_millis((window - now().as_millis() % window) as u64)
}

/// `room: N` waits where less than a tenth of a window of N seconds is left, so that a case does not straddle its
/// end.
fn wait(step: &Value) {
    if let Some(seconds) = step["room"].as_u64()
        && rest_of(seconds) < Duration::from_secs(seconds) / 10
    {
        std::thread::sleep(rest_of(seconds));
    }
}

#[test]
fn rate_limiting() {
    run_table("rate-limiting", include_str!("plugins/rate-limiting.json"));
}

/// In the table `$chat` is an `ai-proxy` for the upstream, `$ask` a request to it, and `$answer` one that used 10 and
/// 20 tokens.
#[test]
fn ai_rate_limiting_advanced() {
    let messages = json!({"messages": [{"role": "user", "content": "Hi"}]});
    let chat = |name: Value, options: Value| {
        let mut options = options;
        options["upstream_url"] = "http://127.0.0.1:$upstream/v1/chat/completions".into();
        let model = json!({"provider": "openai", "name": name, "options": options});
        json!({"name": "ai-proxy", "config": {"route_type": "llm/v1/chat", "model": model}})
    };
    let answer = json!({"body": {
        "id": "c", "object": "chat.completion", "model": "gpt",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30},
    }});
    let mut table = include_str!("plugins/ai-rate-limiting-advanced.json").to_owned();
    for (name, value) in [
        ("$ask", json!({"method": "POST", "body": messages})),
        ("$messages", messages.clone()),
        ("$answer", answer),
        ("$chat", chat("gpt".into(), json!({}))),
        ("$any-model", chat(Value::Null, json!({}))),
        ("$priced", chat("gpt".into(), json!({"input_cost": 100_000, "output_cost": 50_000}))),
        ("$cheap", chat("gpt".into(), json!({"input_cost": 1, "output_cost": 0.5}))),
    ] {
        table = table.replace(&format!("\"{name}\""), &value.to_string());
    }
    run_table("ai-rate-limiting-advanced", &table);
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

#[test]
fn ai_prompt_decorator() {
    run_table("ai-prompt-decorator", include_str!("plugins/ai-prompt-decorator.json"));
}

#[test]
fn ai_prompt_guard() {
    run_table("ai-prompt-guard", include_str!("plugins/ai-prompt-guard.json"));
}

#[test]
fn ai_prompt_template() {
    run_table("ai-prompt-template", include_str!("plugins/ai-prompt-template.json"));
}

/// The client's body is logged as it came, whatever became of it.
#[test]
fn original_requests_are_logged() {
    let log = tempfile::NamedTempFile::new().unwrap();
    let config = json!({"templates": [], "log_original_request": true});
    let plugins = json!([{"name": "ai-prompt-template", "config": config}]);
    let routes = json!([{"name": "r", "paths": ["/r"], "plugins": plugins}]);
    let (tollgate, scripted) = start(routes, json!([{"name": "file-log", "config": {"path": log.path()}}]));
    scripted.answer_with(&Value::Null);
    let body = r#"{ "prompt": "{template://none}" }"#;
    let answer =
        exchange(tollgate.proxy(), &cases::request_bytes("r", &json!({"method": "POST", "body": body})));
    assert_eq!(answer.status, 400);
    let read = || std::fs::read_to_string(log.path()).unwrap();
    common::eventually("the entry is written", || read().ends_with('\n'));
    let entry: Value = serde_json::from_str(&read()).unwrap();
    assert_eq!(entry["ai"]["payload"]["original_request"], body);
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

#[test]
fn a_window_of_a_second() {
    let plugins = json!([{"name": "rate-limiting", "config": {"second": 1}}]);
    let routes = json!([{"name": "r", "paths": ["/r"], "plugins": plugins}]);
    let (tollgate, scripted) = start(routes, json!([]));
    scripted.answer_with(&Value::Null);
    let ask = || exchange(tollgate.proxy(), b"GET /r HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    // On a busy machine both requests may not fall into one second at once.
    let (first, second) = (0..20)
        .find_map(|_| {
            std::thread::sleep(rest_of(1));
            let began = now().as_secs();
            let answers = (ask(), ask());
            (now().as_secs() == began).then_some(answers)
        })
        .unwrap();
    assert_eq!((first.status, first.header("x-ratelimit-remaining-second")), (200, Some("0")));
    assert_eq!((second.status, second.header("retry-after")), (429, Some("1")));
    assert_eq!(second.header("x-ratelimit-limit-second"), Some("1"));
    std::thread::sleep(rest_of(1));
    assert_eq!(ask().status, 200, "a new second has begun");
}

/// One request to a route with so many left of its hour, or refused.
fn left(tollgate: &Tollgate) -> Option<u64> {
    let answer = exchange(tollgate.proxy(), b"GET /r HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!([200, 429].contains(&answer.status), "{answer:?}");
    (answer.status == 200).then(|| answer.header("x-ratelimit-remaining-hour").unwrap().parse().unwrap())
}

#[test]
fn counts_outlive_changes_of_the_configuration() {
    let scripted = Scripted::start();
    scripted.answer_with(&Value::Null);
    let tollgate = Tollgate::with_store(&[]);
    let call = |method: &str, path: &str, body: Value| {
        let (status, answer) = tollgate.admin_call(method, path, Some(&body));
        assert!([200, 201].contains(&status), "{method} {path}: {answer}");
        answer
    };
    call(
        "POST",
        "/services",
        json!({"name": "s", "url": format!("http://127.0.0.1:{}", scripted.upstream.port)}),
    );
    call("POST", "/services/s/routes", json!({"name": "r", "paths": ["/r"]}));
    wait(&json!({"room": 60}));
    let limited = call(
        "POST",
        "/routes/r/plugins",
        json!({"name": "rate-limiting", "config": {"hour": 4, "policy": "cluster"}}),
    );
    assert_eq!((left(&tollgate), left(&tollgate)), (Some(3), Some(2)));
    call("POST", "/plugins", json!({"name": "correlation-id"}));
    assert_eq!(left(&tollgate), Some(1));
    let path = format!("/plugins/{}", limited["id"].as_str().unwrap());
    call("PATCH", &path, json!({"config": {"hour": 5, "policy": "local"}}));
    assert_eq!((left(&tollgate), left(&tollgate), left(&tollgate)), (Some(1), Some(0), None));
    call("PATCH", &path, json!({"config": {"hour": 100}}));
    assert_eq!(left(&tollgate), Some(94));
}

/// What no schema can see is refused before it takes effect, and nothing is changed.
#[test]
fn what_is_not_served_is_refused() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("plugins/refused.json")).unwrap();
    let tollgate = Tollgate::with_store(&[]);
    let mut wrong = Vec::new();
    for case in &cases {
        let (status, answer) = tollgate.admin_call("POST", "/plugins", Some(&case["plugin"]));
        let message = answer["message"].as_str().unwrap_or_default();
        let says_all =
            case["contains"].as_array().unwrap().iter().all(|part| message.contains(part.as_str().unwrap()));
        if status != 400 || !says_all {
            wrong.push(format!("{}: {status} {answer}", case["plugin"]));
        }
    }
    cases::report(cases.len(), &wrong);
    assert_eq!(tollgate.admin_call("GET", "/plugins", None).1["data"], json!([]));
}

/// Deprecated names are read, stand for their heirs, and are shown beside them.
#[test]
fn deprecated_names() {
    let tollgate = Tollgate::with_store(&[]);
    let plugin = json!({"name": "rate-limiting", "config": {"hour": 1, "redis_port": 7000}});
    let (status, answer) = tollgate.admin_call("POST", "/plugins", Some(&plugin));
    assert_eq!((status, &answer["config"]["redis"]["port"]), (201, &json!(7000)), "{answer}");
    assert_eq!(answer["config"]["redis_port"], 7000);
    let path = format!("/plugins/{}", answer["id"].as_str().unwrap());
    let change = json!({"config": {"redis": {"port": 7001}}});
    let (status, answer) = tollgate.admin_call("PATCH", &path, Some(&change));
    assert_eq!((status, &answer["config"]["redis_port"]), (200, &json!(7001)), "{answer}");
}

/// Global plugins see answers to requests that matched no route, too.
#[test]
fn without_a_route() {
    let plugins = json!([
        {"name": "cors"}, {"name": "correlation-id", "config": {"echo_downstream": true}},
        {"name": "response-transformer", "config": {"add": {"headers": ["x-added:1"]}}},
        {"name": "rate-limiting", "config": {"year": 1}},
    ]);
    let (tollgate, _scripted) = start(json!([]), plugins);
    for _ in 0..2 {
        let answer = exchange(
            tollgate.proxy(),
            b"GET /none HTTP/1.1\r\nHost: a\r\nKong-Request-ID: mine\r\nConnection: close\r\n\r\n",
        );
        assert_eq!(answer.status, 404);
        for (name, value) in
            [("access-control-allow-origin", "*"), ("kong-request-id", "mine"), ("x-added", "1")]
        {
            assert_eq!(answer.header(name), Some(value), "{name}");
        }
        assert_eq!(answer.header("x-ratelimit-limit-year"), None);
    }
}

#[test]
fn over_tls_with_http2() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("plugins/http2.json")).unwrap();
    let route =
        |name: &str, plugin: Value| json!({"name": name, "paths": [format!("/{name}")], "plugins": [plugin]});
    let routes = json!([
        route(
            "limited",
            json!({"name": "rate-limiting", "config": {"year": 1, "limit_by": "path", "path": "/limited"}})
        ),
        route("closed", json!({"name": "request-termination", "config": {"message": "closed"}})),
        route("missing", json!({"name": "request-termination", "config": {"status_code": 404}})),
        route("traced", json!({"name": "correlation-id", "config": {"echo_downstream": true}})),
    ]);
    let (tollgate, scripted) = start(routes, json!([]));
    scripted.answer_with(&Value::Null);
    cases::report(cases.len(), &cases::over_http2(&tollgate, &cases));
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
