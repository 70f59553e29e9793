//! Cases as data: a request, what the upstream answers, what it must have received, what the client must get.
//!
//! ```json
//! {"title": "a key in the query", "route": "plain",
//!  "request": {"method": "POST", "path": "/x?a=1", "headers": ["apikey: kong"], "body": {"a": 1}},
//!  "answer": {"status": "200 OK", "headers": ["Content-Type: application/json"], "body": {"ok": true}},
//!  "expect": {"status": 200, "headers": {"www-authenticate": null}, "text": "…", "json": {"ok": true}},
//!  "sent": {"target": "/x?a=1", "headers": {"x-consumer-username": "bob"}, "text": "…", "json": {"a": 1}}}
//! ```
//!
//! `sent.line` is a header line as it was sent, name and all. `sent: false` demands that nothing was sent on. Objects are compared as far as the case names members;
//! `null` demands that a member or header is not there, `"*"` takes any value; of a header, a list names all values
//! in order; of a header and of a body, text behind `~` is a regex.

use std::process::Command;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::upstream::Upstream;
use super::{Answer, Tollgate, exchange, find};

/// An upstream that gives the answer it was last told to give.
pub struct Scripted {
    pub upstream: Upstream,
    next: Arc<Mutex<Vec<u8>>>,
}

impl Scripted {
    pub fn start() -> Self {
        let next: Arc<Mutex<Vec<u8>>> = Arc::default();
        let told = Arc::clone(&next);
        let upstream = Upstream::start(move |request, stream| {
            use std::io::Write;
            let answer = told.lock().unwrap().clone();
            let end = find(&answer, b"\r\n\r\n").map_or(answer.len(), |at| at + 4);
            stream.write_all(if request.method == "HEAD" { &answer[..end] } else { &answer })
        });
        Self { upstream, next }
    }

    pub fn answer_with(&self, answer: &Value) {
        let status = answer["status"].as_str().unwrap_or("200 OK");
        let mut head = format!("HTTP/1.1 {status}\r\n");
        let headers = strings(&answer["headers"]);
        if !headers.iter().any(|line| line.to_ascii_lowercase().starts_with("content-type")) {
            head.push_str("Content-Type: application/json\r\n");
        }
        let mut body = body_of(&answer["body"]);
        if let Some(chunks) = answer["chunks"].as_array() {
            return self.answer_in_chunks(head, &headers, chunks);
        }
        if headers.iter().any(|line| line.eq_ignore_ascii_case("content-encoding: gzip")) {
            body = gzip(&body);
        }
        for line in headers {
            head.push_str(&format!("{line}\r\n"));
        }
        head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
        *self.next.lock().unwrap() = [head.into_bytes(), body].concat();
    }

    /// A chunked answer; gzip'd as a whole and cut anew where its headers say so.
    fn answer_in_chunks(&self, mut head: String, headers: &[String], chunks: &[Value]) {
        for line in headers {
            head.push_str(&format!("{line}\r\n"));
        }
        head.push_str("Transfer-Encoding: chunked\r\n\r\n");
        let mut chunks: Vec<Vec<u8>> = chunks.iter().map(body_of).collect();
        if headers.iter().any(|line| line.eq_ignore_ascii_case("content-encoding: gzip")) {
            chunks = gzip(&chunks.concat()).chunks(7).map(<[u8]>::to_vec).collect();
        }
        let mut whole = head.into_bytes();
        for chunk in chunks {
            whole.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            whole.extend_from_slice(&chunk);
            whole.extend_from_slice(b"\r\n");
        }
        whole.extend_from_slice(b"0\r\n\r\n");
        *self.next.lock().unwrap() = whole;
    }

    /// The last request received since the list was emptied.
    pub fn received(&self) -> Option<Vec<u8>> {
        self.upstream.requests.lock().unwrap().pop()
    }
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn gunzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Read;
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain).unwrap();
    plain
}

fn strings(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().map(|line| line.as_str().unwrap().to_owned()).collect()
}

/// A body: text as it is, anything else as JSON.
fn body_of(body: &Value) -> Vec<u8> {
    match body {
        Value::Null => Vec::new(),
        Value::String(text) => text.clone().into_bytes(),
        other => other.to_string().into_bytes(),
    }
}

/// The bytes of a request. With `latin1` each character stands for one byte; `times` repeats the body;
/// `pad` adds a member of that length.
pub fn request_bytes(route: &str, request: &Value) -> Vec<u8> {
    let method = request["method"].as_str().unwrap_or("GET");
    let path = request["path"].as_str().unwrap_or("");
    let mut head = format!("{method} /{route}{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    for line in strings(&request["headers"]) {
        head.push_str(&format!("{line}\r\n"));
    }
    let mut body = request["body"].clone();
    if let Some(length) = request["pad"].as_u64() {
        body["pad"] = "x".repeat(length as usize).into();
    }
    let mut body = body_of(&body);
    if let Some(times) = request["times"].as_u64() {
        body = body.repeat(times as usize);
    }
    let chunked = request["chunked"] == true;
    if chunked {
        head.push_str("Transfer-Encoding: chunked\r\n");
        let chunks: Vec<u8> = body
            .chunks(1000)
            .flat_map(|chunk| [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat())
            .collect();
        body = [&chunks[..], b"0\r\n\r\n"].concat();
    } else if !body.is_empty() || method == "POST" {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    let latin1 = |text: &str| text.chars().map(|character| character as u32 as u8).collect::<Vec<u8>>();
    let head = if request["latin1"] == true { latin1(&head) } else { head.into_bytes() };
    [&head[..], b"\r\n", &body].concat()
}

/// Sends a case's request and says what differs from what it expects.
pub fn run(port: u16, scripted: &Scripted, case: &Value) -> Result<(), String> {
    scripted.answer_with(&case["answer"]);
    scripted.upstream.requests.lock().unwrap().clear();
    let route = case["route"].as_str().unwrap();
    let answer = exchange(port, &request_bytes(route, &case["request"]));
    check_answer(&answer, &case["expect"])?;
    check_sent(scripted.received(), &case["sent"])
}

/// Runs cases over TLS with HTTP/2: `curl` has further arguments, `lines` what must be in the answer. What differs.
pub fn over_http2(tollgate: &Tollgate, cases: &[Value]) -> Vec<String> {
    let mut wrong = Vec::new();
    for case in cases {
        let mut command = Command::new("curl");
        command.args(["-sik", "--http2", "--max-time", "20"]);
        command.args(strings(&case["curl"]));
        let path = case["path"].as_str().unwrap();
        command.arg(format!("https://127.0.0.1:{}{path}", tollgate.port("proxy_tls")));
        let (_, answer, _) = super::run(&mut command);
        for expected in strings(&case["lines"]) {
            if !answer.lines().any(|line| line.trim() == expected) {
                wrong.push(format!("{}: no {expected:?} in\n{answer}", case["title"]));
            }
        }
    }
    wrong
}

/// Compares an answer with what is expected of it.
pub fn check_answer(answer: &Answer, expect: &Value) -> Result<(), String> {
    if expect["status"] != answer.status {
        return Err(format!("status {} became {}: {}", expect["status"], answer.status, answer.text()));
    }
    for (name, value) in expect["headers"].as_object().into_iter().flatten() {
        let found: Vec<&str> = answer
            .headers
            .iter()
            .filter(|(other, _)| other == name)
            .map(|(_, value)| value.as_str())
            .collect();
        check_header(name, value, &found)?;
    }
    let mut body = answer.body.clone();
    if answer.header("content-encoding") == Some("gzip") {
        body = gunzip(&body);
    }
    let text = String::from_utf8_lossy(&body).into_owned();
    check_body(&text, expect)
}

fn check_header(name: &str, expected: &Value, actual: &[&str]) -> Result<(), String> {
    let same = match expected {
        Value::Null => actual.is_empty(),
        Value::String(any) if any == "*" => !actual.is_empty(),
        Value::String(pattern) if pattern.starts_with('~') => {
            let pattern = regex::Regex::new(&pattern[1..]).unwrap();
            actual.first().is_some_and(|value| pattern.is_match(value))
        }
        Value::Array(list) => list.iter().filter_map(Value::as_str).eq(actual.iter().copied()),
        other => actual.first().copied() == other.as_str(),
    };
    if same { Ok(()) } else { Err(format!("header {name}: {expected} became {actual:?}")) }
}

fn check_body(text: &str, expect: &Value) -> Result<(), String> {
    if let Some(expected) = expect["text"].as_str() {
        let same = match expected.strip_prefix('~') {
            Some(pattern) => regex::Regex::new(pattern).unwrap().is_match(text),
            None => expected == text,
        };
        if !same {
            return Err(format!("body\n{expected}\n  became\n{text}"));
        }
    }
    if !expect["json"].is_null() {
        let actual = serde_json::from_str(text).map_err(|error| format!("{error}: {text}"))?;
        matches(&expect["json"], &actual, "")?;
    }
    Ok(())
}

/// Compares what an upstream received with what is expected of it.
pub fn check_sent(received: Option<Vec<u8>>, expected: &Value) -> Result<(), String> {
    let received = match (received, expected) {
        (_, Value::Null) => return Ok(()),
        (None, Value::Bool(false)) => return Ok(()),
        (Some(_), Value::Bool(false)) => return Err("something was sent on".into()),
        (None, _) => return Err("nothing was sent on".into()),
        (Some(received), _) => received,
    };
    let end = find(&received, b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&received[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let line = lines.next().unwrap_or_default();
    if let Some(target) = expected["target"].as_str()
        && line.split(' ').nth(1) != Some(target)
    {
        return Err(format!("target {target} became {line}"));
    }
    if let Some(method) = expected["method"].as_str()
        && line.split(' ').next() != Some(method)
    {
        return Err(format!("method {method} became {line}"));
    }
    if let Some(wanted) = expected["line"].as_str()
        && !head.split("\r\n").any(|line| line == wanted)
    {
        return Err(format!("no line {wanted} in\n{head}"));
    }
    let fields: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once(": ")).collect();
    for (name, value) in expected["headers"].as_object().into_iter().flatten() {
        let found: Vec<&str> = fields
            .iter()
            .filter(|(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| *value)
            .collect();
        if found.len() > 1 && !value.is_array() {
            return Err(format!("header {name} was sent {} times", found.len()));
        }
        check_header(name, value, &found)?;
    }
    if expected["length"].is_u64() && expected["length"] != (received.len() - end - 4) as u64 {
        return Err(format!("body of {} bytes became {}", expected["length"], received.len() - end - 4));
    }
    check_body(&String::from_utf8_lossy(&received[end + 4..]), expected)
}

/// Whether a value is as expected, where expectations name members.
pub fn matches(expected: &Value, actual: &Value, path: &str) -> Result<(), String> {
    let wrong = || Err(format!("{path}: {expected} became {actual}"));
    match (expected, actual) {
        (Value::String(any), actual) if any == "*" && !actual.is_null() => Ok(()),
        (Value::Object(expected), Value::Object(actual)) => {
            for (name, value) in expected {
                let actual = actual.get(name).unwrap_or(&Value::Null);
                matches(value, actual, &format!("{path}.{name}"))?;
            }
            Ok(())
        }
        (Value::Array(expected), Value::Array(actual)) if expected.len() == actual.len() => {
            expected.iter().zip(actual).enumerate().try_for_each(|(index, (expected, actual))| {
                matches(expected, actual, &format!("{path}[{index}]"))
            })
        }
        (Value::Number(a), Value::Number(b)) if a.as_f64() == b.as_f64() => Ok(()),
        (expected, actual) if expected == actual => Ok(()),
        _ => wrong(),
    }
}

/// What differs where a plugin is configured as each case says, and removed again: `status`, `json` of the answer,
/// and what its message `says`.
pub fn configurations(tollgate: &Tollgate, plugin: &str, cases: &[Value]) -> Vec<String> {
    let mut wrong = Vec::new();
    for case in cases {
        let body = serde_json::json!({"name": plugin, "config": case["config"]});
        let (status, answer) = tollgate.admin_call("POST", "/plugins", Some(&body));
        if case["status"] != status {
            wrong.push(format!("{}: status {} became {status}: {answer}", case["title"], case["status"]));
        } else if let Err(error) = matches(case.get("json").unwrap_or(&serde_json::json!({})), &answer, "") {
            wrong.push(format!("{}: {error}", case["title"]));
        } else if let Some(says) = case["says"].as_str()
            && !answer["message"].as_str().unwrap_or_default().contains(says)
        {
            wrong.push(format!("{}: no {says} in {answer}", case["title"]));
        }
        if let Some(id) = answer["id"].as_str() {
            tollgate.admin_call("DELETE", &format!("/plugins/{id}"), None);
        }
    }
    wrong
}

/// Fails with every case that went wrong.
pub fn report(cases: usize, wrong: &[String]) {
    assert!(wrong.is_empty(), "{} of {cases} cases differ:\n{}", wrong.len(), wrong.join("\n"));
}
