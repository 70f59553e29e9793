//! Who may ask which target (`acls` of `ai-proxy-advanced`), rule by rule in the table of `acls/`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use common::mock::Mock;
use common::{Tollgate, cases, exchange};
use serde_json::{Value, json};

/// The plugin of a case: a target of OpenAI, which is preferred, and one of Anthropic.
fn plugin(case: &Value, (mock, broken): (u16, u16)) -> Value {
    let first = if case["broken"] == true { broken } else { mock };
    let url = |port: u16, path: &str| format!("http://127.0.0.1:{port}{path}");
    let openai = json!({"upstream_url": url(first, "/v1/chat/completions")});
    let target = json!({
        "route_type": "llm/v1/chat", "weight": 2,
        "model": {"provider": "openai", "name": "gpt", "model_alias": "fast", "options": openai},
    });
    let second = json!({
        "route_type": "llm/v1/chat", "weight": 1,
        "model": {
            "provider": "anthropic", "name": "claude", "model_alias": "careful",
            "options": {"upstream_url": url(mock, "/v1/messages"), "anthropic_version": "2023-06-01"},
        },
    });
    let unnamed = json!({"route_type": "llm/v1/chat", "model": {"provider": "openai", "options": openai}});
    let targets = if case["unnamed"] == true { vec![unnamed] } else { vec![target, second] };
    let criteria = ["error", "http_500", "non_idempotent"];
    json!({"name": "ai-proxy-advanced", "config": {
        "targets": targets,
        "llm_format": case["format"].as_str().unwrap_or("openai"),
        "balancer": {"algorithm": "priority", "failover_criteria": criteria},
        "acls": case["acls"],
    }})
}

/// `target` is the model that answers; null stands for a denial.
fn differs(tollgate: &Tollgate, route: &str, request: &Value) -> Result<(), String> {
    let mut body = json!({"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 9});
    if let Some(model) = request["model"].as_str() {
        body["model"] = model.into();
    }
    let path = request["path"].as_str().unwrap_or_default();
    let sent = json!({"method": "POST", "path": path, "headers": request["headers"], "body": body});
    let answer = exchange(tollgate.proxy(), &cases::request_bytes(route, &sent));
    let mut expect = json!({"status": 200});
    if request["status"].is_u64() {
        expect["status"] = request["status"].clone();
    } else if request["target"].is_null() {
        expect = json!({"status": 403, "json": {"error": {"message": "You cannot consume this service"}}});
    }
    if request["json"].is_object() {
        expect["json"] = request["json"].clone();
    }
    cases::check_answer(&answer, &expect)?;
    let by = answer.header("x-kong-llm-model").and_then(|model| model.split('/').nth(1));
    if by == request["target"].as_str() { Ok(()) } else { Err(format!("{by:?} answered")) }
}

#[test]
fn rules() {
    let (mock, broken) = (Mock::start(&[]), Mock::start(&["--status", "500"]));
    let cases: Vec<Value> = serde_json::from_str(include_str!("acls/cases.json")).unwrap();
    let consumer = |name: &str, more: Value| {
        let mut consumer = json!({"username": name, "keyauth_credentials": [{"key": format!("{name}-key")}]});
        consumer.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
        consumer
    };
    let route = |(number, case): (usize, &Value)| {
        let (name, plugins) = (format!("acl-{number}"), [plugin(case, (mock.port, broken.port))]);
        json!({"name": name, "paths": [format!("/{name}")], "plugins": plugins})
    };
    let file = json!({
        "_format_version": "3.0",
        "consumers": [
            consumer("ann", json!({"groups": [{"name": "gold"}]})),
            consumer("bob", json!({"id": "00000000-0000-4000-8000-00000000000b"})),
            consumer("cleo", json!({"custom_id": "c-1"})),
            {"username": "anybody", "custom_id": "anybody"},
        ],
        "consumer_groups": [
            {"name": "gold"},
            {"name": "silver", "id": "00000000-0000-4000-8000-0000000000a2", "consumers": [{"username": "bob"}]},
        ],
        "plugins": [{"name": "key-auth", "config": {"anonymous": "anybody"}}],
        "services": [{
            "name": "never-contacted", "host": "localhost", "port": 1,
            "routes": cases.iter().enumerate().map(route).collect::<Vec<_>>(),
        }],
    });
    let tollgate = Tollgate::with_file(&file.to_string(), &[("KONG_TRUSTED_IPS", "127.0.0.1")]);
    let mut wrong = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        for request in case["requests"].as_array().unwrap() {
            if let Err(error) = differs(&tollgate, &format!("acl-{number}"), request) {
                wrong.push(format!("{}: {request}: {error}", case["title"]));
            }
        }
    }
    cases::report(cases.len(), &wrong);
}
