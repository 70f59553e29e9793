//! `key-auth` case by case: the tables in `key_auth/`, whose `spec` numbers are those of Kong's own suite.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use common::cases::{self, Scripted};
use common::{Tollgate, exchange};
use serde_json::{Value, json};

fn start() -> (Tollgate, Scripted) {
    let scripted = Scripted::start();
    let file = include_str!("key_auth/kong.yml").replace("${UPSTREAM}", &scripted.upstream.port.to_string());
    (Tollgate::with_file(&file, &[]), scripted)
}

#[test]
fn requests() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("key_auth/requests.json")).unwrap();
    let (tollgate, scripted) = start();
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|case| Some((case, cases::run(tollgate.proxy(), &scripted, case).err()?)))
        .map(|(case, difference)| format!("{}: {difference}", case["title"]))
        .collect();
    cases::report(cases.len(), &wrong);
}

#[test]
fn every_combination_of_places() {
    let matrix: Value = serde_json::from_str(include_str!("key_auth/matrix.json")).unwrap();
    let (tollgate, scripted) = start();
    let key = |place: u8| match place {
        b'r' => Some("kong"),
        b'w' => Some("wrong"),
        _ => None,
    };
    let (mut count, mut wrong) = (0, Vec::new());
    for (row, statuses) in matrix["rows"].as_object().unwrap() {
        let [header, query, body] = row.bytes().map(key).collect::<Vec<_>>()[..] else { panic!("{row}") };
        for (column, status) in matrix["columns"].as_array().unwrap().iter().zip(statuses.as_array().unwrap())
        {
            let mut headers = vec!["Content-Type: application/x-www-form-urlencoded".to_owned()];
            headers.extend(header.map(|key| format!("apikey: {key}")));
            let challenge = if status == 401 { json!("Key") } else { Value::Null };
            let case = json!({
                "route": column,
                "request": {
                    "method": "POST", "headers": headers,
                    "path": query.map(|key| format!("?apikey={key}")).unwrap_or_default(),
                    "body": body.map(|key| format!("apikey={key}")).unwrap_or_default(),
                },
                "expect": {"status": status, "headers": {"www-authenticate": challenge}},
            });
            count += 1;
            if let Err(difference) = cases::run(tollgate.proxy(), &scripted, &case) {
                wrong.push(format!("{row} {column}: {difference}"));
            }
        }
    }
    assert_eq!(count, 168);
    cases::report(count, &wrong);
}

/// Steps of a story: calls of the Admin API and of the proxy, in turn. `$name` stands for what an earlier step
/// saved.
#[test]
fn stories_of_the_admin_api() {
    let stories: Vec<Value> = serde_json::from_str(include_str!("key_auth/admin.json")).unwrap();
    let wrong: Vec<String> = stories
        .iter()
        .filter_map(|story| Some((story, tell(story).err()?)))
        .map(|(story, difference)| format!("{}: {difference}", story["title"]))
        .collect();
    cases::report(stories.len(), &wrong);
}

fn tell(story: &Value) -> Result<(), String> {
    let scripted = Scripted::start();
    scripted.answer_with(&json!({"body": {"ok": true}}));
    let tollgate = Tollgate::with_store(&[]);
    let setup = [
        ("/services", json!({"name": "s", "url": format!("http://127.0.0.1:{}", scripted.upstream.port)})),
        ("/services/s/routes", json!({"name": "r", "paths": ["/plain"]})),
        ("/routes/r/plugins", json!({"name": "key-auth"})),
        ("/consumers", json!({"username": "bob"})),
        ("/consumers", json!({"username": "alice"})),
    ];
    for (path, body) in setup {
        let (status, answer) = tollgate.admin_call("POST", path, Some(&body));
        assert_eq!(status, 201, "{path}: {answer}");
    }
    let mut saved: Vec<(String, String)> = Vec::new();
    for step in story["steps"].as_array().unwrap() {
        let fill = |text: &str| {
            saved.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("${name}"), value))
        };
        let step: Value = serde_json::from_str(&fill(&step.to_string())).unwrap();
        if let Some(milliseconds) = step["wait"].as_u64() {
            std::thread::sleep(std::time::Duration::from_millis(milliseconds));
            continue;
        }
        if let Some(key) = step["key"].as_str() {
            let request =
                format!("GET /plain HTTP/1.1\r\nHost: a\r\napikey: {key}\r\nConnection: close\r\n\r\n");
            common::eventually("a change is served", || {
                step["status"] == exchange(tollgate.proxy(), request.as_bytes()).status
            });
            continue;
        }
        let (method, path) = step["call"].as_str().unwrap().split_once(' ').unwrap();
        let (status, answer) = tollgate.admin_call(method, path, step.get("body"));
        if step["status"] != status {
            return Err(format!("{}: status {} became {status}: {answer}", step["call"], step["status"]));
        }
        cases::matches(&step["json"], &answer, "")
            .or_else(|error| if step["json"].is_null() { Ok(()) } else { Err(error) })
            .map_err(|error| format!("{}: {error}", step["call"]))?;
        if let Some(length) = step["length"].as_u64()
            && answer["data"].as_array().map(Vec::len) != Some(length as usize)
        {
            return Err(format!("{}: {length} became {answer}", step["call"]));
        }
        for (name, pointer) in step["save"].as_object().into_iter().flatten() {
            let value = answer.pointer(pointer.as_str().unwrap()).and_then(Value::as_str);
            let value = value.ok_or_else(|| format!("no {pointer} in {answer}"))?;
            saved.push((name.clone(), value.to_owned()));
        }
    }
    Ok(())
}

#[test]
fn over_tls_with_http2() {
    let (tollgate, scripted) = start();
    let cases: Vec<Value> = serde_json::from_str(include_str!("key_auth/http2.json")).unwrap();
    scripted.answer_with(&Value::Null);
    cases::report(cases.len(), &cases::over_http2(&tollgate, &cases));
}
