//! What the node's logs say: every field of the log entry (`logs/entries.json`), access log and error log, and
//! that no secret is in any of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;

use common::logging::{Node, lines, matches};
use common::upstream::Upstream;
use common::{Tollgate, connect, eventually, exchange, read_answer, run};
use serde_json::{Value, json};

/// Status and request id.
fn send(node: &Node, case: &Value) -> (u16, String) {
    match case["curl"].as_array() {
        Some(words) => {
            let mut command = Command::new("curl");
            command.arg("-sik").args(words.iter().map(|word| node.fill(word.as_str().unwrap())));
            let (_, out, _) = run(&mut command);
            let line = out.lines().next().unwrap_or_default();
            let status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
            let id = out.lines().find_map(|line| {
                line.to_ascii_lowercase().strip_prefix("x-kong-request-id: ").map(str::to_owned)
            });
            (status, id.unwrap_or_default())
        }
        None => {
            let answer =
                exchange(node.tollgate.proxy(), node.fill(case["request"].as_str().unwrap()).as_bytes());
            (answer.status, answer.header("x-kong-request-id").unwrap_or_default().to_owned())
        }
    }
}

/// Where `actual` is not what `expected` says; `$…` stand for values of a kind.
fn differs(path: &str, expected: &Value, actual: &Value) -> Option<String> {
    let wrong = || Some(format!("{path}: {expected} became {actual}"));
    let text = || actual.as_str().unwrap_or_default();
    let fits = match expected {
        Value::String(kind) => match kind.as_str() {
            "$number" => actual.as_u64().is_some(),
            "$text" => !text().is_empty(),
            "$digits" => !text().is_empty() && text().bytes().all(|byte| byte.is_ascii_digit()),
            "$id" => text().len() == 32 && text().bytes().all(|byte| byte.is_ascii_hexdigit()),
            "$uuid" => text().len() == 36 && text().bytes().filter(|byte| *byte == b'-').count() == 4,
            "$object" => actual.is_object(),
            "$array" => actual.is_array(),
            _ => expected == actual,
        },
        Value::Object(fields) => {
            let Some(others) = actual.as_object() else { return wrong() };
            if let Some(name) = others.keys().find(|name| !fields.contains_key(*name)) {
                return Some(format!("{path}.{name}: unexpected {}", others[name]));
            }
            return fields
                .iter()
                .find_map(|(name, value)| differs(&format!("{path}.{name}"), value, &actual[name]));
        }
        Value::Array(values) => {
            let Some(others) = actual.as_array().filter(|others| others.len() == values.len()) else {
                return wrong();
            };
            return values.iter().zip(others).find_map(|(value, other)| differs(path, value, other));
        }
        _ => expected == actual,
    };
    if fits { None } else { wrong() }
}

#[test]
fn every_field_of_the_entry() {
    let node = Node::start(&[]);
    let cases: Vec<Value> = serde_json::from_str(include_str!("logs/entries.json")).unwrap();
    let mut wrong = Vec::new();
    for case in &cases {
        let title = case["title"].as_str().unwrap();
        let (status, id) = send(&node, case);
        if case["status"] != status {
            wrong.push(format!("{title}: status {status}"));
            continue;
        }
        let expected: Value = serde_json::from_str(&node.fill(&case["entry"].to_string())).unwrap();
        wrong.extend(
            differs("", &expected, &node.entry(&id)).map(|difference| format!("{title}: {difference}")),
        );
        if let Some(pattern) = case["error_log"].as_str() {
            let pattern = node.fill(pattern).replace("${ID}", &id);
            eventually(&pattern, || node.lines("logs/error.log").iter().any(|line| matches(line, &pattern)));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    let written = std::fs::read_to_string(node.file("entries.log")).unwrap();
    assert!(!written.contains("CANARY"), "{written}");
}

#[test]
fn sizes_are_what_went_over_the_wire() {
    let node = Node::start(&[]);
    for request in [
        "GET /open HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "GET /open/stream HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "HEAD /open HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "GET /nowhere HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    ] {
        let mut stream = connect(node.tollgate.proxy());
        stream.write_all(request.as_bytes()).unwrap();
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        let text = String::from_utf8(received.clone()).unwrap();
        let id = text.lines().find_map(|line| line.strip_prefix("X-Kong-Request-Id: ")).unwrap();
        let entry = node.entry(id);
        assert_eq!(entry["response"]["size"], received.len(), "{request}");
        assert_eq!(entry["request"]["size"], request.len(), "{request}");
        let body = received.len() - text.find("\r\n\r\n").unwrap() - 4;
        let line = request.lines().next().unwrap();
        let expected = format!("\"{line}\" {} {body} \"-\" \"-\" kong_request_id: \"{id}\"", &text[9..12]);
        eventually(&expected, || node.lines("logs/access.log").iter().any(|line| line.ends_with(&expected)));
    }
}

#[test]
fn a_client_that_leaves_is_logged_as_499() {
    let node = Node::start(&[("KONG_LOG_LEVEL", "info")]);
    let mut stream = connect(node.tollgate.proxy());
    stream.write_all(b"GET /patient HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    eventually("the upstream has the request", || !node.upstream.requests.lock().unwrap().is_empty());
    drop(stream);
    eventually("an entry", || !node.lines("entries.log").is_empty());
    let entry: Value = serde_json::from_str(&node.lines("entries.log")[0]).unwrap();
    let [response, latencies] = [&entry["response"], &entry["latencies"]];
    assert_eq!(response, &json!({"status": 499, "headers": {}, "size": 0}));
    assert_eq!((&latencies["proxy"], &latencies["receive"]), (&json!(-1), &json!(0)));
    assert_eq!((&entry["upstream_uri"], &entry["upstream_status"]), (&json!("/patient"), &json!("-")));
    assert_eq!((entry["tries"].as_array().map(Vec::len), &entry["source"]), (Some(1), &json!("upstream")));
    eventually("its line", || {
        node.lines("logs/access.log").iter().any(|line| line.contains("\"GET /patient HTTP/1.1\" 499 0 "))
    });
    eventually("its message", || {
        let said = "client prematurely closed connection";
        node.lines("logs/error.log").iter().any(|line| line.contains("[info]") && line.contains(said))
    });
    eventually("the upstream is left too", || {
        node.upstream.open.load(std::sync::atomic::Ordering::SeqCst) == 0
    });
}

#[test]
fn an_upgraded_connection_is_logged_when_it_ends() {
    let node = Node::start(&[("KONG_LOG_LEVEL", "info")]);
    let mut stream = connect(node.tollgate.proxy());
    stream
        .write_all(
            b"GET /open/upgrade HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        )
        .unwrap();
    let answer = read_answer(&mut stream, false);
    assert_eq!((answer.status, answer.header("upgrade")), (101, Some("websocket")));
    assert!(node.lines("entries.log").is_empty());
    drop(stream);
    let entry = node.entry(answer.header("x-kong-request-id").unwrap());
    assert_eq!((&entry["response"]["status"], &entry["source"]), (&json!(101), &json!("upstream")));
    assert!(entry["response"]["size"].as_u64().unwrap() > 100, "{entry}");
    let said = node.lines("logs/error.log");
    assert!(!said.iter().any(|line| line.contains("prematurely")), "{said:?}");
}

#[test]
fn an_answer_that_breaks_off_is_an_error() {
    let node = Node::start(&[]);
    let mut stream = connect(node.tollgate.proxy());
    stream.write_all(b"GET /breaks/half HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut received = Vec::new();
    let _ = stream.read_to_end(&mut received);
    assert!(received.ends_with(b"half"), "{}", String::from_utf8_lossy(&received));
    eventually("an entry", || !node.lines("entries.log").is_empty());
    let entry: Value = serde_json::from_str(&node.lines("entries.log")[0]).unwrap();
    assert_eq!((&entry["response"]["status"], &entry["source"]), (&json!(200), &json!("error")));
    eventually("a message", || {
        node.lines("logs/error.log")
            .iter()
            .any(|line| matches(line, "[error]*while reading upstream, client: "))
    });
}

#[test]
fn what_plugins_add_is_in_the_entry() {
    let folder = tempfile::tempdir().unwrap();
    let file = format!(
        "_format_version: \"3.0\"\nroutes:\n- name: a\n  paths: [/a]\nplugins:\n- name: correlation-id\n  config: {{header_name: X-Id, generator: uuid, echo_downstream: true}}\n- name: request-termination\n  config: {{status_code: 418}}\n- name: file-log\n  config: {{path: {}}}\n",
        folder.path().join("entries.log").display()
    );
    let tollgate = Tollgate::with_file(&file, &[]);
    let answer = exchange(tollgate.proxy(), b"GET /a HTTP/1.1\r\nHost: a\r\nX-Id: mine\r\n\r\n");
    assert_eq!((answer.status, answer.header("x-id")), (418, Some("mine")));
    eventually("an entry", || !lines(&folder.path().join("entries.log")).is_empty());
    let entry: Value = serde_json::from_str(&lines(&folder.path().join("entries.log"))[0]).unwrap();
    assert_eq!((&entry["correlation_id"], &entry["source"]), (&json!("mine"), &json!("exit")));
    assert_eq!(entry["response"]["headers"]["x-id"], "mine");
}

/// A route whose requests are logged with these fields.
fn with_custom_fields(log: &std::path::Path, fields: &Value) -> String {
    let config = json!({"path": log, "custom_fields_by_lua": fields});
    json!({"_format_version": "3.0", "routes": [
        {"name": "a", "id": "5f9a2a10-0000-4000-8000-000000000001", "paths": ["/a"], "tags": ["t"],
         "plugins": [{"name": "file-log", "config": config}]},
    ]})
    .to_string()
}

#[test]
fn custom_fields_by_lua() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("entries.log");
    let fields = json!({
        "route": "return nil",
        "request.headers.x-a": "return nil",
        "team.name": "return 'core'",
        "a\\.b": "return 1.5",
        "agent": "return kong.request.get_header('user-agent'):match('^%a+')",
        "secret": "return kong.request.get_header('apikey')",
        "secrets": "return {kong.request.get_headers().apikey, kong.request.get_raw_query(), ngx.var.arg_apikey,
                            ngx.var.request_uri, kong.request.get_query().apikey}",
        "request_line": "return kong.request.get_method() .. ' ' .. kong.request.get_path() .. ' ' .. kong.request.get_http_version()",
        "address": "return {kong.request.get_host(), kong.request.get_scheme(), kong.client.get_ip(), ngx.var.remote_addr}",
        "answer": "return {status = kong.response.get_status(), source = kong.response.get_source(),
                           server = kong.response.get_header('content-type'), upstream = kong.service.response.get_status()}",
        "tags": "return kong.router.get_route().tags",
        "nobody": "return {kong.client.get_consumer() == nil, kong.client.get_credential() == nil, kong.router.get_service() == nil}",
        "arguments": "local all = kong.request.get_query() return {kong.request.get_query_arg('x'), #all.x, all.y}",
        "id": "return kong.log.serialize().request.id == ngx.var.request_id",
        "left": "remembered = (remembered or 0) + 1 return remembered",
        "said": "kong.log.warn('a line of ', 1, nil) return nil",
        "endless": "while true do end",
        "wrong": "return nothing.at.all",
    });
    let tollgate = Tollgate::with_file(&with_custom_fields(&log, &fields), &[]);
    let request = b"GET /a/b?x=1&x=2&y&apikey=CANARY HTTP/1.1\r\nHost: Some.Test:80\r\nX-A: 1\r\nUser-Agent: me/1\r\napikey: CANARY\r\n\r\n";
    for _ in 0..2 {
        assert_eq!(exchange(tollgate.proxy(), request).status, 503);
    }
    eventually("an entry of each request", || lines(&log).len() == 2);
    let entry: Value = serde_json::from_str(&lines(&log)[1]).unwrap();
    for name in ["route", "endless", "wrong", "said"] {
        assert!(entry.get(name).is_none(), "{name}: {entry}");
    }
    assert!(entry["request"]["headers"].get("x-a").is_none(), "{entry}");
    for (name, expected) in [
        ("team", json!({"name": "core"})),
        ("a.b", json!(1.5)),
        ("agent", json!("me")),
        ("secret", json!("REDACTED")),
        (
            "secrets",
            json!([
                "REDACTED",
                "x=1&x=2&y&apikey=REDACTED",
                "REDACTED",
                "/a/b?x=1&x=2&y&apikey=REDACTED",
                "REDACTED"
            ]),
        ),
        ("request_line", json!("GET /a/b 1.1")),
        ("address", json!(["some.test", "http", "127.0.0.1", "127.0.0.1"])),
        ("answer", json!({"status": 503, "source": "exit", "server": "application/json; charset=utf-8"})),
        ("tags", json!(["t"])),
        ("nobody", json!([true, true, true])),
        ("arguments", json!(["1", 2, true])),
        ("id", json!(true)),
        ("left", json!(1)),
    ] {
        assert_eq!(entry[name], expected, "{name}");
    }
    let said = || std::fs::read_to_string(tollgate.folder.path().join("logs/error.log")).unwrap_or_default();
    for part in [
        "[warn] ",
        "[lua] a line of 1nil, client: 127.0.0.1",
        "custom_fields_by_lua.endless: it ran for more than",
        "custom_fields_by_lua.wrong: [string \"return nothing.at.all\"]:1: attempt to index global 'nothing' (a nil value)",
    ] {
        eventually(part, || said().contains(part));
    }
    assert!(!said().contains("CANARY"), "{}", said());
}

#[test]
fn lua_that_cannot_run_is_refused() {
    let store = Tollgate::with_store(&[]);
    for (config, field, said) in [
        (
            json!({"path": "/tmp/x", "custom_fields_by_lua": {"a": "return ("}}),
            "custom_fields_by_lua",
            "Error parsing function: [string \\\"return (\\\"]:1: unexpected symbol near '<eof>'",
        ),
        (json!({"path": "/tmp/a*b"}), "path", "not a valid filename"),
        (json!({}), "path", "required field missing"),
    ] {
        let body = json!({"name": "file-log", "config": config});
        let (status, answer) = store.admin_call("POST", "/plugins", Some(&body));
        assert_eq!(status, 400);
        assert!(answer["fields"]["config"][field].to_string().contains(said), "{answer}");
    }
    for (snippet, setting, said) in [
        ("local local x", "sandbox", "'<name>' expected near 'local'"),
        ("return 1", "off", "'untrusted_lua' config option is set to 'off'"),
        ("return 1", "perhaps", "untrusted_lua (KONG_UNTRUSTED_LUA): expected one of off, sandbox, on"),
    ] {
        let other = tempfile::tempdir().unwrap();
        let path = other.path().join("kong.yml");
        std::fs::write(&path, with_custom_fields(&other.path().join("log"), &json!({"a": snippet}))).unwrap();
        let settings = [
            ("KONG_DATABASE", "off"),
            ("KONG_DECLARATIVE_CONFIG", path.to_str().unwrap()),
            ("KONG_UNTRUSTED_LUA", setting),
        ];
        let (code, _, error) = run(Tollgate::command(other.path(), &settings).arg("start"));
        assert!(code != 0 && error.contains(said), "{error}");
        assert!(setting == "perhaps" || error.contains("custom_fields_by_lua"), "{error}");
    }
}

/// Kong 3.11: nothing is required but what the node lists, or anything where it trusts what is configured.
#[test]
fn modules_are_required_where_the_node_lets_them() {
    let fields = json!({
        "json": "return require('cjson.safe').decode('{\"a\":[1,null]}').a[1]",
        "table": "return setmetatable and setmetatable({}, {__index = {a = 'b'}}).a",
    });
    for (settings, decoded, indexed) in [
        (vec![], json!(null), json!(null)),
        (vec![("KONG_UNTRUSTED_LUA_SANDBOX_REQUIRES", "cjson, cjson.safe")], json!(1), json!(null)),
        (vec![("KONG_UNTRUSTED_LUA", "on")], json!(1), json!("b")),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("entries.log");
        let tollgate = Tollgate::with_file(&with_custom_fields(&log, &fields), &settings);
        exchange(tollgate.proxy(), b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
        eventually("an entry", || !lines(&log).is_empty());
        let entry: Value = serde_json::from_str(&lines(&log)[0]).unwrap();
        assert_eq!((&entry["json"], &entry["table"]), (&decoded, &indexed), "{settings:?}");
    }
}

#[test]
fn no_secret_is_in_any_log_or_metric() {
    let upstream = Upstream::echo();
    let folder = tempfile::tempdir().unwrap();
    let nothing = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let file = include_str!("logs/secrets.yml")
        .replace("${UPSTREAM}", &upstream.port.to_string())
        .replace("${NOTHING}", &nothing.to_string())
        .replace("${LOG}", folder.path().join("entries.log").to_str().unwrap());
    let path = folder.path().join("kong.yml");
    std::fs::write(&path, file).unwrap();
    let tollgate = Tollgate::start_in(
        folder,
        &[
            ("KONG_DATABASE", "off"),
            ("KONG_DECLARATIVE_CONFIG", path.to_str().unwrap()),
            ("KONG_PROXY_ACCESS_LOG", "logs/access.log"),
            ("KONG_STATUS_ACCESS_LOG", "logs/status.log"),
            ("KONG_LOG_LEVEL", "debug"),
        ],
    );
    let post = |path: &str, fields: &str| {
        // What is said is private too, unless payloads are to be logged.
        let words = if path == "/payloads" { "words" } else { "CANARY-words" };
        let chat =
            json!({"messages": [{"role": "user", "content": words}], "token": "CANARY-key"}).to_string();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n{fields}Content-Length: {}\r\n\r\n{chat}",
            chat.len()
        );
        exchange(tollgate.proxy(), request.as_bytes()).status
    };
    // The key in a header, the query and the body; known and not; to a provider that is there, one that is not,
    // and to no route at all.
    for (path, fields, status) in [
        ("/chat", "my-token: CANARY-key\r\n", 200),
        ("/chat?token=CANARY-key", "", 200),
        ("/chat", "", 200),
        ("/chat?token=CANARY-wrong", "", 401),
        ("/chat?token=CANARY-key&token=CANARY-key", "", 401),
        ("/payloads", "", 200),
        ("/broken?token=CANARY-key", "", 502),
        ("/nowhere?my_token=CANARY-key", "Authorization: Bearer CANARY-bearer\r\n", 404),
    ] {
        assert_eq!(post(path, fields), status, "{path} {fields}");
    }
    let sent = upstream
        .requests
        .lock()
        .unwrap()
        .iter()
        .map(|sent| String::from_utf8_lossy(sent).into_owned())
        .collect::<String>();
    assert!(sent.contains("CANARY-provider") && sent.contains("CANARY-param"), "{sent}");
    for path in ["/key-auths/CANARY-key", "/consumers/user1/key-auth/CANARY-key", "/status?key=CANARY-key"] {
        tollgate.admin_call("GET", path, None);
    }
    exchange(tollgate.port("status"), b"GET /status?apikey=CANARY-key HTTP/1.1\r\nHost: a\r\n\r\n");
    let metrics = exchange(tollgate.port("status"), b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").text();
    assert!(metrics.contains("kong_ai_llm_requests_total{"), "{metrics}");
    let place = |name: &str| tollgate.folder.path().join(name);
    let logs =
        ["entries.log", "logs/access.log", "logs/error.log", "logs/admin_access.log", "logs/status.log"];
    eventually("all is written", || {
        let counts: Vec<usize> = logs.iter().map(|name| lines(&place(name)).len()).collect();
        counts[0] == 8 && counts[1] == 8 && counts[2] > 0 && counts[3] == 3 && counts[4] == 2
    });
    for name in logs {
        let text = std::fs::read_to_string(place(name)).unwrap();
        assert!(!text.contains("CANARY"), "{name}: {text}");
    }
    assert!(!metrics.contains("CANARY"), "{metrics}");
    let entries = std::fs::read_to_string(place("entries.log")).unwrap();
    assert!(entries.contains(r#"\"provider_key\":\"REDACTED\""#), "{entries}");
}

/// The node's own secrets: its Admin API's token and its certificate's key.
#[test]
fn no_secret_of_the_node_is_told() {
    let (certificate, key) = tollgate_http::server::self_signed().unwrap();
    let middle = key.lines().nth(1).unwrap();
    let settings = [
        ("KONG_ADMIN_TOKEN", "CANARY-token"),
        ("KONG_SSL_CERT", certificate.as_str()),
        ("KONG_SSL_CERT_KEY", key.as_str()),
        ("KONG_LOG_LEVEL", "debug"),
    ];
    let tollgate = Tollgate::with_store(&settings);
    let call = |port: u16, path: &str, token: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nKong-Admin-Token: {token}\r\n\r\n");
        let answer = exchange(port, request.as_bytes());
        (answer.status, answer.text())
    };
    let mut told = Vec::new();
    for path in ["/", "/status", "/metrics", "/endpoints", "/tollgate/revisions"] {
        let (status, text) = call(tollgate.admin(), path, "CANARY-token");
        assert_eq!(status, 200, "{path}");
        told.push(text);
    }
    told.push(call(tollgate.admin(), "/?token=CANARY-token", "CANARY-token-no").1);
    told.push(call(tollgate.port("status"), "/status", "CANARY-token").1);
    told.push(call(tollgate.proxy(), "/", "CANARY-token").1);
    // `start --vv` says every property; this one ends at once, for the folder is in use.
    let mut again = Tollgate::command(tollgate.folder.path(), &settings);
    let (code, out, err) = run(again.args(["start", "--vv"]));
    assert!(
        code == 1 && err.contains("admin_token = ******") && err.contains("ssl_cert_key = ******"),
        "{err}"
    );
    told.extend([out, err]);
    let logs = tollgate.folder.path().join("logs");
    eventually("the calls are logged", || lines(&logs.join("admin_access.log")).len() == 6);
    for entry in std::fs::read_dir(logs).unwrap() {
        told.push(std::fs::read_to_string(entry.unwrap().path()).unwrap());
    }
    for text in told {
        assert!(!text.contains("CANARY") && !text.contains(middle), "{text}");
    }
}

#[test]
fn a_name_without_address_is_named() {
    let tollgate = Tollgate::with_file(
        "_format_version: \"3.0\"\nservices:\n- host: nobody.invalid\n  routes:\n  - paths: [/]\n",
        &[],
    );
    let answer = exchange(tollgate.proxy(), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(answer.status, 503);
    let log = tollgate.folder.path().join("logs/error.log");
    eventually("it is logged", || {
        let said =
            r"\[error\] .*: name resolution failed: 'nobody.invalid' has no address, client: 127.0.0.1";
        regex::Regex::new(said).unwrap().is_match(&std::fs::read_to_string(&log).unwrap_or_default())
    });
}
