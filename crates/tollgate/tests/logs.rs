//! What the node's logs say: every field of the log entry (`logs/entries.json`), access log and error log,
//! rotation, files that cannot be written, and that no secret is in any of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::upstream::{Upstream, chunk, respond};
use common::{Tollgate, connect, eventually, exchange, read_answer, run};
use serde_json::{Value, json};

/// Answers by path: `/…/stream` in chunks, `/slow` and `/patient` never, `/breaks/close` with nothing and
/// `/breaks/half` with half of what it announced.
fn upstream() -> Upstream {
    Upstream::start(|request, stream| match request.path {
        "/slow" | "/patient" => {
            let _ = stream.read(&mut [0; 16])?;
            Err(std::io::ErrorKind::ConnectionAborted.into())
        }
        "/breaks/close" => Err(std::io::ErrorKind::ConnectionAborted.into()),
        "/breaks/half" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")?;
            Err(std::io::ErrorKind::ConnectionAborted.into())
        }
        path if path.ends_with("/stream") => {
            stream.write_all(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n",
            )?;
            chunk(stream, b"one")?;
            chunk(stream, b"two")?;
            stream.write_all(b"0\r\n\r\n")
        }
        _ => respond(
            stream,
            request.method,
            "200 OK",
            "application/json",
            "Server: upstream\r\n",
            br#"{"ok":true}"#,
        ),
    })
}

struct Node {
    tollgate: Tollgate,
    upstream: Upstream,
    /// A port on which nothing listens.
    nothing: u16,
}

impl Node {
    fn start(settings: &[(&str, &str)]) -> Self {
        let (upstream, folder) = (upstream(), tempfile::tempdir().unwrap());
        let nothing = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let file = include_str!("logs/kong.yml")
            .replace("${UPSTREAM}", &upstream.port.to_string())
            .replace("${NOTHING}", &nothing.to_string())
            .replace("${LOG}", folder.path().join("entries.log").to_str().unwrap());
        let path = folder.path().join("kong.yml");
        std::fs::write(&path, file).unwrap();
        let mut all = vec![
            ("KONG_DATABASE", "off"),
            ("KONG_DECLARATIVE_CONFIG", path.to_str().unwrap()),
            ("KONG_PROXY_ACCESS_LOG", "logs/access.log"),
        ];
        all.extend_from_slice(settings);
        Self { tollgate: Tollgate::start_in(folder, &all), upstream, nothing }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.tollgate.folder.path().join(name)
    }

    fn lines(&self, name: &str) -> Vec<String> {
        lines(&self.file(name))
    }

    /// Ports of this run in place of the placeholders.
    fn fill(&self, text: &str) -> String {
        text.replace("\"${UPSTREAM}\"", &self.upstream.port.to_string())
            .replace("\"${NOTHING}\"", &self.nothing.to_string())
            .replace("${UPSTREAM}", &self.upstream.port.to_string())
            .replace("${NOTHING}", &self.nothing.to_string())
            .replace("${PROXY}", &self.tollgate.proxy().to_string())
            .replace("${PROXY_TLS}", &self.tollgate.port("proxy_tls").to_string())
            .replace("${PRODUCT}", concat!("tollgate/", env!("CARGO_PKG_VERSION")))
    }

    /// The entry of a request.
    fn entry(&self, request_id: &str) -> Value {
        let mut found = None;
        eventually("the entry is written", || {
            let lines = self.lines("entries.log");
            let entries = lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
            found = entries.into_iter().find(|entry| entry["request"]["id"] == request_id);
            found.is_some()
        });
        found.unwrap()
    }
}

fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

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

/// Whether a line contains a pattern in which `*` stands for anything.
fn matches(line: &str, pattern: &str) -> bool {
    let mut rest = line;
    pattern.split('*').all(|part| match rest.find(part) {
        Some(at) => {
            rest = &rest[at + part.len()..];
            true
        }
        None => false,
    })
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
fn many_requests_at_once_give_whole_lines() {
    let node = Node::start(&[("KONG_NGINX_WORKER_PROCESSES", "2")]);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut stream = connect(node.tollgate.proxy());
                for _ in 0..100 {
                    stream.write_all(b"GET /open HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
                    assert_eq!(read_answer(&mut stream, false).status, 200);
                }
            });
        }
    });
    for (file, suffix) in [("entries.log", "}"), ("logs/access.log", "\"")] {
        eventually("every line", || node.lines(file).len() >= 800);
        let lines = node.lines(file);
        assert!(lines.len() == 800 && lines.iter().all(|line| line.ends_with(suffix)), "{file}");
    }
    for line in node.lines("entries.log") {
        serde_json::from_str::<Value>(&line).unwrap();
    }
}

#[test]
fn files_are_left_behind_by_rotation() {
    let file = r#"
_format_version: "3.0"
routes:
- name: a
  paths: [/a]
  plugins:
  - name: file-log
    config: {path: "${FOLDER}/reopened.log", reopen: true}
- name: b
  paths: [/b]
  plugins:
  - name: file-log
    config: {path: "${FOLDER}/kept.log"}
"#;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kong.yml");
    std::fs::write(&path, file.replace("${FOLDER}", folder.path().to_str().unwrap())).unwrap();
    let tollgate = Tollgate::start_in(
        folder,
        &[
            ("KONG_DATABASE", "off"),
            ("KONG_DECLARATIVE_CONFIG", path.to_str().unwrap()),
            ("KONG_PROXY_ACCESS_LOG", "logs/access.log"),
        ],
    );
    let place = |name: &str| tollgate.folder.path().join(name);
    let get = |path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(exchange(tollgate.proxy(), request.as_bytes()).status, 503);
    };
    let has = |name: &str, count: usize| {
        eventually(&format!("{count} lines in {name}"), || lines(&place(name)).len() == count);
    };
    let rotate = |name: &str| std::fs::rename(place(name), place(&format!("{name}.1"))).unwrap();
    get("/a");
    get("/b");
    has("reopened.log", 1);
    has("kept.log", 1);
    has("logs/access.log", 2);
    for name in ["reopened.log", "kept.log", "logs/access.log"] {
        rotate(name);
    }
    get("/a");
    get("/b");
    has("reopened.log", 1);
    // Without `reopen`, lines go on to the file that was opened.
    has("kept.log.1", 2);
    assert!(!place("kept.log").exists());
    let told = Command::new("kill").args(["-USR1", &tollgate.id().to_string()]).status().unwrap();
    assert!(told.success());
    eventually("the file is opened anew", || place("logs/access.log").exists() && place("kept.log").exists());
    get("/b");
    has("kept.log", 1);
    has("logs/access.log", 1);
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(place("kept.log")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7133, 0, "no more than rw-r--r--: {mode:o}");
}

#[test]
fn the_access_log_can_be_standard_output_or_off() {
    let folder = tempfile::tempdir().unwrap();
    let settings = [
        ("KONG_DATABASE", "off"),
        ("KONG_PROXY_ACCESS_LOG", "/dev/stdout"),
        ("KONG_ADMIN_ACCESS_LOG", "off"),
    ];
    let mut process = Tollgate::command(folder.path(), &settings)
        .arg("start")
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map_while(Result::ok);
    let address = lines.find_map(|line| line.strip_prefix("listening: proxy ").map(str::to_owned)).unwrap();
    let started = lines.find(|line| line.ends_with("started"));
    let port = address.rsplit_once(':').unwrap().1.parse().unwrap();
    // Not a request, but answered all the same.
    let refused = exchange(port, b"GET / HTTP/1.1\r\n\r\n");
    exchange(port, b"GET /x?api_key=CANARY HTTP/1.1\r\nHost: a\r\nUser-Agent: \"me\"\r\n\r\n");
    let said: Vec<String> = lines.by_ref().take(2).collect();
    process.kill().unwrap();
    process.wait().unwrap();
    assert!(started.is_some() && refused.status == 400);
    assert!(
        said[0].contains("\"GET / HTTP/1.1\" 400 ") && said[0].starts_with("127.0.0.1 - - ["),
        "{said:?}"
    );
    assert!(
        said[1].contains(
            "\"GET /x?api_key=REDACTED HTTP/1.1\" 404 103 \"-\" \"\\x22me\\x22\" kong_request_id: \""
        ),
        "{said:?}"
    );
    assert!(
        !folder.path().join("logs/access.log").exists()
            && !folder.path().join("logs/admin_access.log").exists()
    );
}

#[test]
fn files_that_cannot_be_written_stop_nothing() {
    let file = r#"
_format_version: "3.0"
routes:
- name: a
  paths: [/a]
  plugins:
  - name: file-log
    config: {path: "${FOLDER}/missing/a.log"}
- name: b
  paths: [/b]
  plugins:
  - name: file-log
    config: {path: "${FOLDER}"}
"#;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kong.yml");
    std::fs::write(&path, file.replace("${FOLDER}", folder.path().to_str().unwrap())).unwrap();
    let settings = [("KONG_DATABASE", "off"), ("KONG_DECLARATIVE_CONFIG", path.to_str().unwrap())];
    let tollgate = Tollgate::start_in(folder, &settings);
    for (path, reason) in [("/a", "No such file"), ("/b", "Is a directory")] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(exchange(tollgate.proxy(), request.as_bytes()).status, 503);
        eventually(reason, || {
            lines(&tollgate.folder.path().join("logs/error.log")).iter().any(|line| {
                matches(line, &format!("[error]*failed to open or write the file*{reason}*1 lines were lost"))
            })
        });
    }
    assert!(!tollgate.folder.path().join("missing").exists());
}

#[test]
fn what_a_node_cannot_log_to_keeps_it_from_starting() {
    for (property, value) in [
        ("KONG_PROXY_ACCESS_LOG", "/dev/null/access.log"),
        ("KONG_PROXY_ERROR_LOG", "/"),
        ("KONG_LOG_LEVEL", "loud"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (code, _, error) = run(Tollgate::command(
            folder.path(),
            &[("KONG_DATABASE", "off"), (property, value)],
        )
        .arg("start"));
        let name = property.trim_start_matches("KONG_").to_ascii_lowercase();
        assert!(code != 0 && error.contains(&name) && error.contains(value), "{code} {error}");
    }
}

#[test]
fn custom_fields_without_lua() {
    let folder = tempfile::tempdir().unwrap();
    let config = |fields: &str| {
        format!(
            "_format_version: \"3.0\"\nroutes:\n- name: a\n  paths: [/a]\n  plugins:\n  - name: file-log\n    config:\n      path: {}\n      custom_fields_by_lua: {fields}\n",
            folder.path().join("entries.log").display()
        )
    };
    let fields = r#"{"route": "return nil", "request.headers.x-a": "return nil", "team.name": "return 'core'", "a\\.b": "return 1.5", "agent": "return kong.request.get_header('user-agent')", "secret": "return kong.request.get_header('apikey')"}"#;
    let tollgate = Tollgate::with_file(&config(fields), &[]);
    let request = b"GET /a HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nUser-Agent: me\r\napikey: CANARY\r\n\r\n";
    assert_eq!(exchange(tollgate.proxy(), request).status, 503);
    eventually("an entry", || !lines(&folder.path().join("entries.log")).is_empty());
    let entry: Value = serde_json::from_str(&lines(&folder.path().join("entries.log"))[0]).unwrap();
    assert!(entry.get("route").is_none() && entry["request"]["headers"].get("x-a").is_none(), "{entry}");
    assert_eq!((&entry["team"], &entry["a.b"]), (&json!({"name": "core"}), &json!(1.5)));
    assert_eq!((&entry["agent"], &entry["secret"]), (&json!("me"), &json!("REDACTED")));

    let store = Tollgate::with_store(&[]);
    for (config, field, said) in [
        (
            json!({"path": "/tmp/x", "custom_fields_by_lua": {"a": "return os.time()"}}),
            "custom_fields_by_lua",
            "there is no Lua here",
        ),
        (json!({"path": "/tmp/a*b"}), "path", "not a valid filename"),
        (json!({}), "path", "required field missing"),
    ] {
        let body = json!({"name": "file-log", "config": config});
        let (status, answer) = store.admin_call("POST", "/plugins", Some(&body));
        assert_eq!(status, 400);
        assert!(answer["fields"]["config"][field].to_string().contains(said), "{answer}");
    }

    for (fields, said) in [
        (r#"{"a": "return os.time()"}"#, "there is no Lua here"),
        (r#"{"a": "local x"}"#, "there is no Lua here"),
    ] {
        let other = tempfile::tempdir().unwrap();
        let path = other.path().join("kong.yml");
        std::fs::write(&path, config(fields)).unwrap();
        let settings = [("KONG_DATABASE", "off"), ("KONG_DECLARATIVE_CONFIG", path.to_str().unwrap())];
        let (code, _, error) = run(Tollgate::command(other.path(), &settings).arg("start"));
        assert!(code != 0 && error.contains(said) && error.contains("custom_fields_by_lua"), "{error}");
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
