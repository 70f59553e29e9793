//! The files that logs are written to: whole lines, rotation, files that cannot be had, standard output, the end
//! of the node, the level.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::process::Command;

use common::logging::{Node, lines, matches};
use common::{Tollgate, connect, eventually, exchange, read_answer, run};
use serde_json::{Value, json};

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
fn the_log_level_changes_while_the_node_runs() {
    let store = Tollgate::with_store(&[]);
    let level = "/debug/node/log-level";
    for (method, path, status, said) in [
        ("GET", "", 200, "log level: notice"),
        ("PUT", "/loud", 400, "unknown log level: loud"),
        ("PUT", "/info?timeout=-1", 400, "timeout must be greater than or equal to 0"),
        ("PUT", "/notice", 200, "log level is already notice"),
        ("POST", "/info", 405, "Method not allowed"),
        ("PUT", "/info?timeout=0", 200, "log level changed"),
        ("GET", "", 200, "log level: info"),
        ("PUT", "/debug?timeout=1", 200, "log level changed"),
    ] {
        let answer = store.admin_call(method, &format!("{level}{path}"), None);
        assert_eq!(answer, (status, json!({"message": said})), "{method} {path}");
    }
    eventually("the change is over", || {
        store.admin_call("GET", level, None).1 == json!({"message": "log level: info"})
    });
    let file = Tollgate::with_file("_format_version: \"3.0\"\n", &[("KONG_LOG_LEVEL", "warn")]);
    assert_eq!(file.admin_call("GET", level, None).1, json!({"message": "log level: warn"}));
    assert_eq!(file.admin_call("PUT", "/debug/node/log-level/debug", None).0, 405);
}

#[test]
fn a_node_that_stops_writes_its_last_lines() {
    for signal in ["-TERM", "-QUIT"] {
        let node = Node::start(&[]);
        let mut stream = connect(node.tollgate.proxy());
        for _ in 0..200 {
            stream.write_all(b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            assert_eq!(read_answer(&mut stream, false).status, 404);
        }
        // One request is under way.
        stream.write_all(b"GET /patient HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        eventually("the upstream has it", || !node.upstream.requests.lock().unwrap().is_empty());
        if signal == "-QUIT" {
            drop(stream);
        }
        let pid = node.tollgate.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        eventually("it has stopped", || {
            let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            state.is_empty() || state.contains(") Z ")
        });
        for file in ["entries.log", "logs/access.log"] {
            assert_eq!(node.lines(file).len(), 201, "{signal} {file}");
        }
        let last = node.lines("logs/error.log").pop().unwrap_or_default();
        assert!(last.ends_with("tollgate has stopped"), "{last}");
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
        ("KONG_ADMIN_ACCESS_LOG", "syslog:server=127.0.0.1"),
        ("KONG_LOG_LEVEL", "loud"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (code, _, error) = run(Tollgate::command(
            folder.path(),
            &[("KONG_DATABASE", "off"), (property, value)],
        )
        .arg("start"));
        let name = property.trim_start_matches("KONG_").to_ascii_lowercase();
        assert!(code != 0 && error.contains(&name), "{code} {error}");
        let value = value.split(':').next().unwrap();
        assert!(error.contains(value), "{error}");
    }
}
