//! The configuration of a DB-less node: the file it starts with, and `/config` (`config/post.json`, row after
//! row on one node). A configuration that is refused never takes the place of the one that is served.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use common::{Answer, Tollgate, exchange, run};
use serde_json::{Value, json};

/// Starts with a file that is refused; the exit code and what is said.
fn refused(content: &str) -> (i32, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kong.yml");
    std::fs::write(&file, content).unwrap();
    let settings = [("KONG_DATABASE", "off"), ("KONG_DECLARATIVE_CONFIG", file.to_str().unwrap())];
    let (code, _, said) = run(Tollgate::command(folder.path(), &settings).arg("start"));
    let said = said.replace(&*folder.path().to_string_lossy(), "");
    let (checked, _, said_of_check) = run(Tollgate::command(folder.path(), &settings).arg("check"));
    assert_eq!(code, checked, "`check` and `start` disagree: {said_of_check}");
    (code, said)
}

#[test]
fn a_file_that_is_wrong_keeps_the_node_from_starting() {
    let head = "_format_version: \"3.0\"\n";
    for (content, expected) in [
        // A byte order mark is no part of the first key.
        ("\u{feff}services: []\n", "/kong.yml:1: _format_version: required field missing"),
        ("bobby tables", "/kong.yml:1: expected an object with _format_version and lists of entities"),
        ("a:\n - b\n c: [\n", "/kong.yml:3: the YAML cannot be read at column"),
        ("a: 1\na: 2\n", "/kong.yml:2: the key 'a' stands twice in one mapping"),
        ("services: []\n", "/kong.yml:1: _format_version: required field missing"),
        (
            "_format_version: 3.0\n",
            "/kong.yml:1: _format_version: expected a string (put it in quotes: \"3.0\")",
        ),
        (&format!("{head}servcies: []\n"), "/kong.yml:2: servcies: unknown field (did you mean 'services'?)"),
        (
            &format!("{head}services:\n- name: a\n  hots: h\n"),
            "/kong.yml:4: services[1].hots: unknown field (did you mean 'host'?)",
        ),
        (
            &format!("{head}services:\n- name: a\n  hots: h\n"),
            "/kong.yml:3: services[1].host: required field missing",
        ),
        (
            &format!("{head}services:\n- host: h\n  port: \"80\"\n"),
            "/kong.yml:4: services[1].port: expected an integer (write it without quotes)",
        ),
        (
            &format!("{head}consumers:\n- username: u\n  keyauth_credentials:\n  - key: 123456\n"),
            "/kong.yml:5: consumers[1].keyauth_credentials[1].key: expected a string (put it in quotes)",
        ),
        (
            &format!("{head}routes:\n- paths: [/]\n  service: foo\nservices:\n- {{name: fooo, host: h}}\n"),
            "/kong.yml:4: routes[1].service: invalid reference 'service: foo' (no such entry in 'services') (did you mean 'fooo'?)",
        ),
        (
            &format!(
                "{head}services:\n- host: h\n  plugins:\n  - name: key-auth\n    config:\n      key_name: [a]\n"
            ),
            "/kong.yml:7: services[1].plugins[1].config.key_name: unknown field (did you mean 'key_names'?)",
        ),
        (
            &format!("{head}services:\n- host: ${{{{ env \"DECK_NONE\" }}}}\n"),
            "/kong.yml:3: environment variable 'DECK_NONE' present in state file but not set",
        ),
        (
            &format!("{head}consumers:\n- username: a\n- username: a\n"),
            "/kong.yml:4: consumers[2].username: uniqueness violation: 'consumers' entity with username set to 'a' already declared",
        ),
    ] {
        let (code, said) = refused(content);
        assert_eq!(code, 1, "{content}: {said}");
        assert!(said.contains(expected), "{content}\n{said}");
    }
}

#[test]
fn everything_that_is_wrong_is_said_at_once_in_the_order_of_lines() {
    let (_, said) = refused(
        "_format_version: \"3.0\"\nfoo: 1\nservices:\n- port: x\nroutes:\n- methods: [get]\n  bar: 1\n",
    );
    let line = |text: &'_ str| text.split("kong.yml:").nth(1)?.split(':').next()?.parse::<u32>().ok();
    let lines: Vec<u32> = said.lines().filter_map(line).collect();
    assert_eq!(lines, [2, 4, 4, 6, 7], "{said}");
}

#[test]
fn good_files_are_served() {
    for content in [
        "_format_version: \"3.0\"\n",
        "{\"_format_version\": \"1.1\", \"services\": [{\"host\": \"h\", \"routes\": [{\"paths\": [\"/a\"]}]}]}",
        "_format_version: \"2.1\"\n_info: {select_tags: [t]}\n_konnect: {control_plane_name: x}\nservices: []\n",
    ] {
        let node = Tollgate::with_file(content, &[]);
        assert_eq!(node.admin_call("GET", "/services", None).0, 200);
    }
}

fn post(node: &Tollgate, case: &Value) -> Answer {
    let text = |name: &str| case.get(name).and_then(Value::as_str).unwrap_or_default();
    let path = if text("path").is_empty() { "/config" } else { text("path") };
    let kind = match text("type") {
        "" => String::new(),
        kind => format!("Content-Type: {kind}\r\n"),
    };
    let body = text("body");
    let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n{kind}Content-Length: {}\r\n", body.len());
    exchange(node.admin(), format!("{head}Connection: close\r\n\r\n{body}").as_bytes())
}

/// What of `expected` is not in `found`: objects may hold more, lists and all else are the same.
fn difference(path: &str, expected: &Value, found: &Value) -> Option<String> {
    match expected {
        // Entities are compared whole where they are told of one by one.
        Value::Object(fields) if !path.contains("flattened_errors") => {
            fields.iter().find_map(|(name, value)| {
                difference(&format!("{path}.{name}"), value, found.get(name).unwrap_or(&Value::Null))
            })
        }
        _ => (expected != found).then(|| format!("{path}: {expected} became {found}")),
    }
}

#[test]
fn whole_configurations_by_call() {
    let node = Tollgate::with_file("_format_version: \"3.0\"\nconsumers: [{username: first}]\n", &[]);
    let cases: Vec<Value> = serde_json::from_str(include_str!("config/post.json")).unwrap();
    let mut wrong = Vec::new();
    for case in &cases {
        let answer = post(&node, case);
        let mut say = |what: String| wrong.push(format!("{}: {what}", case["title"]));
        if answer.status != case["status"] {
            say(format!("status {} became {}: {}", case["status"], answer.status, answer.text()));
            continue;
        }
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        if let Some(expected) = case.get("json")
            && let Some(difference) = difference("", expected, &body)
        {
            say(difference);
        }
        let message = body["message"].as_str().unwrap_or_default();
        let part = case.get("message_has").and_then(Value::as_str).unwrap_or_default();
        if !message.contains(part) {
            say(format!("{part:?} is not in {message:?}"));
        }
        if let Some(names) = case.get("names").and_then(|names| names.get("consumers")) {
            let (_, list) = node.admin_call("GET", "/consumers", None);
            let found: Value = list["data"]
                .as_array()
                .unwrap()
                .iter()
                .map(|consumer| consumer["username"].clone())
                .collect();
            if found != *names {
                say(format!("consumers {names} became {found}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn what_is_served_can_be_got_and_loaded_again() {
    let text = "_format_version: \"3.0\"\nservices:\n- name: s\n  host: h\n  routes:\n  - name: r\n    paths: [/a]\n    plugins: [{name: key-auth}]\nconsumers:\n- username: u\n  tags: [\"a b\"]\n  keyauth_credentials: [{key: \"1\"}]\nupstreams: [{name: up, targets: [{target: t}]}]\n";
    let node = Tollgate::with_file(text, &[]);
    let (status, first) = node.admin_call("GET", "/config", None);
    assert_eq!(status, 200);
    let config = first["config"].as_str().unwrap();
    assert!(config.starts_with("_format_version: \"3.0\"\n_transform: false\n"), "{config}");
    assert!(config.contains("\n  path: ~\n"), "{config}");
    let (status, _) = node.admin_call("POST", "/config", Some(&json!({"config": config})));
    assert_eq!(status, 201);
    let (_, second) = node.admin_call("GET", "/config", None);
    let untimed = |text: &str| -> Vec<String> {
        text.lines().filter(|line| !line.contains("updated_at")).map(str::to_owned).collect()
    };
    assert_eq!(untimed(config), untimed(second["config"].as_str().unwrap()));
}

#[test]
fn the_hash_is_that_of_the_text_that_is_served() {
    let text = "_format_version: \"3.0\"\nconsumers: [{username: u}]\n";
    let node = Tollgate::with_file(text, &[]);
    let hash = |node: &Tollgate| node.admin_call("GET", "/status", None).1["configuration_hash"].clone();
    assert_eq!(hash(&node), "ad314f5bfa49e4e10954165639bffaad");
    let body = json!({"config": text});
    assert_eq!(node.admin_call("POST", "/config?check_hash=1", Some(&body)).0, 304);
    let (status, _) = node.admin_call("POST", "/config", Some(&json!({"config": "_format_version: 3.0"})));
    assert_eq!(status, 400);
    assert_eq!(hash(&node), "ad314f5bfa49e4e10954165639bffaad", "a configuration that is refused leaves it");
}

#[test]
fn a_node_with_a_store_has_no_config() {
    let node = Tollgate::with_store(&[]);
    for method in ["GET", "POST"] {
        let (status, body) = node.admin_call(method, "/config", Some(&json!({})));
        assert_eq!(status, 400);
        let message = "this endpoint is only available when Kong is configured to not use a database";
        assert_eq!(body["message"], message);
    }
    assert_eq!(node.admin_call("PUT", "/config", None).0, 405);
}
