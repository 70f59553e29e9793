//! Every request of a decK 1.64.0, in order, as it was recorded for `gateway reset`, `gateway sync` of the
//! key-auth chapter, and in Kong mode a second sync and a dump (`deck_replay/*.jsonl`, ids are our own): each is
//! answered with the recorded status and a body that decK can use.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::collections::HashSet;

use common::{Tollgate, exchange};
use serde_json::Value;

fn replay(recording: &str, prefix: &str) {
    let tollgate = Tollgate::with_store(&[]);
    let mut made: HashSet<String> = HashSet::new();
    let mut wrong = Vec::new();
    for (number, line) in (1..).zip(recording.lines()) {
        let recorded: Value = serde_json::from_str(line).unwrap();
        let (method, path) = (recorded["method"].as_str().unwrap(), recorded["path"].as_str().unwrap());
        let answer = exchange(tollgate.admin(), &request(&recorded));
        let mut note = |what: String| wrong.push(format!("{number}: {method} {path}: {what}"));
        if recorded["status"] != answer.status {
            note(format!("status {}, not {}: {}", answer.status, recorded["status"], answer.text()));
            continue;
        }
        let Ok(body) = serde_json::from_slice::<Value>(&answer.body) else {
            note(format!("no JSON: {}", answer.text()));
            continue;
        };
        let path = path.strip_prefix(prefix).unwrap_or(path);
        let judged = if answer.status >= 400 {
            message(&body)
        } else if method == "PUT" {
            made.insert(recorded["body"]["id"].as_str().unwrap().to_owned());
            stored(&recorded["body"], &body)
        } else {
            usable(path, &body, &made)
        };
        if let Err(what) = judged {
            note(format!("{what}: {body}"));
        }
    }
    assert!(wrong.is_empty(), "{} requests are answered wrongly:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(made.len(), 6, "the recording creates six entities");
}

/// As decK sends it.
fn request(recorded: &Value) -> Vec<u8> {
    let body = recorded.get("body").map(Value::to_string).unwrap_or_default();
    let mut head = format!(
        "{} {} HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: decK/v1.64.0\r\nConnection: close\r\n",
        recorded["method"].as_str().unwrap(),
        recorded["path"].as_str().unwrap()
    );
    if let Some(authorization) = recorded["authorization"].as_str() {
        head.push_str(&format!("Authorization: {authorization}\r\n"));
    }
    if !body.is_empty() {
        head.push_str("Content-Type: application/json\r\n");
    }
    head.push_str(&format!("Content-Length: {}\r\nAccept-Encoding: gzip\r\n\r\n{body}", body.len()));
    head.into_bytes()
}

fn message(body: &Value) -> Result<(), String> {
    if body["message"].is_string() { Ok(()) } else { Err("no message".into()) }
}

/// The stored entity comes back whole: what was sent, and an integer `created_at`.
fn stored(sent: &Value, body: &Value) -> Result<(), String> {
    for (name, value) in sent.as_object().unwrap() {
        let same = match name.as_str() {
            // decK sends names beside ids; a configuration comes back with its defaults.
            "consumer" => value["id"] == body["consumer"]["id"],
            "config" => contains(&body["config"], value),
            // WebSockets run under http and https.
            "protocols" => {
                let sent = value.as_array().unwrap().iter();
                let plain: Vec<&Value> = sent.filter(|name| *name != "ws" && *name != "wss").collect();
                body["protocols"].as_array().is_some_and(|list| list.iter().collect::<Vec<_>>() == plain)
            }
            _ => *value == body[name],
        };
        if !same {
            return Err(format!("'{name}' is not {value}"));
        }
    }
    if body["created_at"].is_u64() { Ok(()) } else { Err("created_at is no integer".into()) }
}

fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().all(|(name, part)| whole.get(name).is_some_and(|whole| contains(whole, part)))
        }
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (whole, part) => whole == part,
    }
}

/// What decK needs of an answer to a GET.
fn usable(path: &str, body: &Value, made: &HashSet<String>) -> Result<(), String> {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    if path == "/" {
        return if body["version"] == "3.11.0" { Ok(()) } else { Err("no version".into()) };
    }
    if path.contains("runtime_groups") {
        let has = body["data"].as_array().is_some_and(|list| {
            list.iter().any(|group| group["name"] == "serverless-default" && group["id"].is_string())
        });
        return if has && body["page"] == body["pageCount"] {
            Ok(())
        } else {
            Err("no control plane".into())
        };
    }
    if path.contains("/v1/schemas/json/") {
        return if body["properties"].is_object() { Ok(()) } else { Err("no properties".into()) };
    }
    if path.starts_with("/schemas/") {
        let fields = body["fields"].as_array().ok_or("no fields")?;
        let single = fields.iter().all(|field| field.as_object().is_some_and(|field| field.len() == 1));
        let config = fields.iter().any(|field| field["config"]["fields"].is_array());
        let plugin = path.starts_with("/schemas/plugins/");
        return if single && (config || !plugin) { Ok(()) } else { Err("no schema".into()) };
    }
    let list = body["data"].as_array().ok_or("no data")?;
    if !body["offset"].is_null() {
        return Err("there is no second page".into());
    }
    for entity in list {
        if !entity["id"].is_string() {
            return Err("an entity without id".into());
        }
        let needs = match path {
            "/key-auths" => Some("consumer"),
            "/targets" => Some("upstream"),
            "/snis" => Some("certificate"),
            _ => None,
        };
        if needs.is_some_and(|field| !entity[field]["id"].is_string()) {
            return Err("an entity without what it belongs to".into());
        }
    }
    // All that was made has the tag: every list of its kind shows it.
    let kinds = ["/services", "/routes", "/consumers", "/key-auths"];
    let expected = match path {
        _ if made.is_empty() || !query.contains("size=1000") => 0,
        "/plugins" => 2,
        path if kinds.contains(&path) => 1,
        _ => 0,
    };
    let known = list.iter().filter(|entity| made.contains(entity["id"].as_str().unwrap_or_default())).count();
    if (known, list.len()) == (expected, expected) {
        Ok(())
    } else {
        Err(format!("{known} entities, not {expected}"))
    }
}

#[test]
fn kong_mode() {
    replay(include_str!("deck_replay/kong.jsonl"), "");
}

#[test]
fn konnect_mode() {
    let prefix = "/v2/control-planes/5e127e55-0000-4000-8000-000000000001/core-entities";
    replay(include_str!("deck_replay/konnect.jsonl"), prefix);
}
