//! The list of models that a route answers with itself, case by case in the table of `models/`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use common::Tollgate;
use common::cases::{self, Scripted};
use serde_json::{Value, json};

#[test]
fn models_are_listed() {
    let scripted = Scripted::start();
    let url = |path: &str| format!("http://127.0.0.1:{}{path}", scripted.upstream.port);
    let target = |model: Value| json!({"route_type": "llm/v1/chat", "model": model});
    let one = |name: &str, more: Value| {
        let mut config = json!({"route_type": "llm/v1/chat"});
        config.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
        json!({"name": name, "paths": [format!("/{name}")], "plugins": [{"name": "ai-proxy", "config": config}]})
    };
    let openai = target(json!({"provider": "openai", "name": "gpt", "model_alias": "fast"}));
    let options = json!({"anthropic_version": "2023-06-01"});
    let claude = target(json!({"provider": "anthropic", "name": "claude", "options": options}));
    let denial = json!({"match": [
        {"type": "header", "key": "x-team", "values": ["red"]}, {"type": "provider", "values": ["openai"]},
    ]});
    let several = json!({"targets": [openai, claude, openai], "acls": {"deny": [denial]}});
    let ollama =
        json!({"provider": "ollama", "name": "meta/llama", "options": {"upstream_url": url("/api/chat")}});
    let file = json!({
        "_format_version": "3.0",
        "services": [{"name": "never-contacted", "host": "localhost", "port": 1, "routes": [
            {"name": "several", "paths": ["/several"], "plugins": [{"name": "ai-proxy-advanced", "config": several}]},
            one("one", json!({"model": ollama})),
            one("any", json!({"model": {"provider": "openai"}})),
            one("templated", json!({"model": {"provider": "openai", "name": "$(headers.x-model)"}})),
            one("preserve", json!({"route_type": "preserve", "model": {
                "provider": "openai", "name": "gpt", "options": {"upstream_url": url("/"), "upstream_path": "/v1/models"},
            }})),
            one("messages", json!({"llm_format": "anthropic", "model": {"provider": "openai", "name": "gpt"}})),
        ]}],
    });
    let tollgate = Tollgate::with_file(&file.to_string(), &[]);
    let cases: Vec<Value> = serde_json::from_str(include_str!("models/cases.json")).unwrap();
    let run = |case: &Value| {
        let mut case = case.clone();
        if case["sent"].is_null() {
            case["sent"] = false.into();
        }
        let wrong = cases::run(tollgate.proxy(), &scripted, &case).err()?;
        Some(format!("{}: {wrong}", case["title"]))
    };
    let wrong: Vec<String> = cases.iter().filter_map(run).collect();
    cases::report(cases.len(), &wrong);
}
