//! The key-auth chapter as a user follows it: declare, reset, sync, 401 without a key, 200 with it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::process::Command;

use common::{Tollgate, connect, exchange, read_answer, run};
use serde_json::json;
use std::io::Write;

const DECLARATION: &str = include_str!("seed/ai-key-auth.yaml");

/// `deck`: the binary under that name, speaking to this server.
fn deck(tollgate: &Tollgate) -> Command {
    let link = tollgate.folder.path().join("deck");
    if !link.exists() {
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_tollgate"), &link).unwrap();
    }
    let mut command = Command::new(link);
    command
        .current_dir(tollgate.folder.path())
        .env("HOME", tollgate.folder.path())
        .env("DECK_OPENAI_API_KEY", "sk-canary-5f1e")
        .env("DECK_KONNECT_ADDR", format!("http://127.0.0.1:{}", tollgate.admin()))
        .env("DECK_KONG_ADDR", format!("http://127.0.0.1:{}", tollgate.admin()));
    command
}

fn chat(key: Option<&str>) -> Vec<u8> {
    let body = json!({"messages": [{"role": "user", "content": "Who is Jimi Hendrix?"}]}).to_string();
    let key = key.map(|key| format!("apikey: {key}\r\n")).unwrap_or_default();
    format!("POST /openai-route HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{key}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

#[test]
fn the_chapter_works_as_printed() {
    let upstream = common::upstream::Upstream::canned();
    let tollgate = Tollgate::with_store(&[]);
    let provider = format!("http://127.0.0.1:{}/v1/chat/completions", upstream.port);
    let file = DECLARATION
        .replace("temperature: 1.0", &format!("temperature: 1.0\n            upstream_url: {provider}"));
    std::fs::write(tollgate.folder.path().join("ai-key-auth.yaml"), file).unwrap();

    let (code, out, err) = run(deck(&tollgate).args([
        "gateway",
        "reset",
        "--konnect-control-plane-name",
        "serverless-default",
        "--konnect-token",
        "pat",
        "-f",
    ]));
    assert_eq!(code, 0, "{out}{err}");
    let sync =
        || run(deck(&tollgate).args(["gateway", "sync", "--konnect-token", "pat", "ai-key-auth.yaml"]));
    let (code, out, err) = sync();
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("creating consumer user1"), "{out}");
    assert!(out.contains("Summary:\n  Created: 6\n  Updated: 0\n  Deleted: 0"), "{out}");
    let (_, out, _) = sync();
    assert!(out.contains("Summary:\n  Created: 0\n  Updated: 0\n  Deleted: 0"), "{out}");

    common::eventually("the route is served", || exchange(tollgate.proxy(), &chat(None)).status != 404);
    let refused = exchange(tollgate.proxy(), &chat(None));
    let id = refused.header("x-kong-request-id").unwrap().to_owned();
    assert_eq!(refused.status, 401);
    assert_eq!(refused.header("content-type"), Some("application/json; charset=utf-8"));
    assert_eq!(refused.header("www-authenticate"), Some("Key"));
    assert_eq!(refused.header("content-length"), Some("96"));
    assert_eq!(
        refused.text(),
        format!("{{\n  \"message\":\"No API key found in request\",\n  \"request_id\":\"{id}\"\n}}")
    );

    let answered = exchange(tollgate.proxy(), &chat(Some("123456")));
    assert_eq!(answered.status, 200, "{}", answered.text());
    assert_eq!(answered.header("x-kong-llm-model"), Some("openai/gpt-4.1"));
    assert_eq!(answered.json()["object"], "chat.completion");
    let sent = String::from_utf8(upstream.requests.lock().unwrap().last().unwrap().clone()).unwrap();
    assert!(sent.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{sent}");
    assert!(sent.contains("Authorization: Bearer sk-canary-5f1e"), "{sent}");
    let body: serde_json::Value = serde_json::from_str(sent.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!((&body["model"], &body["temperature"]), (&json!("gpt-4.1"), &json!(1.0)));
}

#[test]
fn a_dump_syncs_back_as_a_no_op_in_both_modes() {
    let tollgate = Tollgate::with_store(&[]);
    std::fs::write(tollgate.folder.path().join("file.yaml"), DECLARATION).unwrap();
    for mode in [&[][..], &["--konnect-token", "pat", "--konnect-control-plane-name", "serverless-default"]] {
        let deck = |words: &[&str]| run(deck(&tollgate).arg("gateway").args(words).args(mode));
        let file = match mode {
            [] => DECLARATION.replace("_konnect:\n  control_plane_name: serverless-default\n", ""),
            _ => DECLARATION.to_owned(),
        };
        std::fs::write(tollgate.folder.path().join("file.yaml"), file).unwrap();
        let (code, out, err) = deck(&["sync", "file.yaml"]);
        assert_eq!(code, 0, "{out}{err}");
        assert!(out.contains("Created: 6"), "{out}");
        let (code, out, err) = deck(&["dump", "--select-tag", "llm", "-o", "dump.yaml", "--yes"]);
        assert_eq!(code, 0, "{out}{err}");
        let (code, out, err) = deck(&["sync", "dump.yaml"]);
        assert_eq!(code, 0, "{out}{err}");
        assert!(out.contains("Created: 0\n  Updated: 0\n  Deleted: 0"), "{out}");
        let (code, _, _) = deck(&["diff", "--non-zero-exit-code", "dump.yaml"]);
        assert_eq!(code, 0);
    }
}

#[test]
fn the_two_calls_over_tls_with_http2() {
    let upstream = common::upstream::Upstream::canned();
    let provider = format!("http://127.0.0.1:{}/v1/chat/completions", upstream.port);
    let file = DECLARATION
        .replace("_konnect:\n  control_plane_name: serverless-default\n", "")
        .replace("_info:\n  select_tags:\n  - llm\n", "")
        .replace("${{ env \"DECK_OPENAI_API_KEY\" }}", "sk-canary")
        .replace("temperature: 1.0", &format!("temperature: 1.0\n            upstream_url: {provider}"));
    let tollgate = Tollgate::with_file(&file, &[]);
    let curl = |key: &[&str]| {
        let url = format!("https://127.0.0.1:{}/openai-route", tollgate.port("proxy_tls"));
        let mut command = Command::new("curl");
        command.args([
            "-sik",
            "--http2",
            "-X",
            "POST",
            "--url",
            &url,
            "--header",
            "Content-Type: application/json",
        ]);
        command
            .args(key)
            .args(["--data", r#"{"messages": [{"role": "user", "content": "Who is Jimi Hendrix?"}]}"#]);
        run(&mut command).1
    };
    let refused = curl(&[]);
    assert!(refused.starts_with("HTTP/2 401"), "{refused}");
    assert!(refused.contains("\r\nwww-authenticate: Key\r\n"), "{refused}");
    assert!(refused.contains("\r\ncontent-length: 96\r\n"), "{refused}");
    let answered = curl(&["--header", "apikey: 123456"]);
    assert!(answered.starts_with("HTTP/2 200"), "{answered}");
    assert!(answered.contains("chat.completion"), "{answered}");
}

#[test]
fn quickstart_serves_what_the_readme_shows() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Tollgate::command(folder.path(), &[])
        .args(["quickstart", "--port", "0"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(server.stdout.take().unwrap()));
    let url = lines
        .find_map(|line| {
            line.ok()?.strip_prefix("export DATA_PLANE_URL=http://127.0.0.1:").map(str::to_owned)
        })
        .unwrap();
    std::thread::spawn(move || lines.for_each(drop));
    let port: u16 = url.trim().parse().unwrap();
    let (refused, answered) = (exchange(port, &chat(None)), exchange(port, &chat(Some("123456"))));
    let mut stream = connect(port);
    let body = r#"{"stream": true, "messages": [{"role": "user", "content": "Hi"}]}"#;
    write!(stream, "POST /openai-route HTTP/1.1\r\nHost: a\r\napikey: 123456\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    let streamed = read_answer(&mut stream, false);
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!((refused.status, refused.body.len()), (401, 96));
    assert_eq!(answered.status, 200, "{}", answered.text());
    assert_eq!(answered.json()["choices"][0]["message"]["role"], "assistant");
    assert!(streamed.text().ends_with("data: [DONE]\n\n"), "{}", streamed.text());
}
