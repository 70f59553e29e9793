//! The data plane by tables (`gateway/*.json`): a raw request, how the upstream behaves, the answer, and what the
//! upstream was sent. One node serves a table; its cases run one after the other.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::upstream::{Upstream, respond};
use common::{Answer, Tollgate, connect};
use serde_json::Value;

/// A table's node and upstream.
struct Servers {
    tollgate: Tollgate,
    upstream: Upstream,
    /// How the upstream treats the next requests: `null` to echo them, text to answer with, or a list of these.
    behaviour: Arc<Mutex<Value>>,
    nothing: u16,
}

impl Servers {
    fn start(table: &Value) -> Self {
        let behaviour = Arc::new(Mutex::new(Value::Null));
        let shared = Arc::clone(&behaviour);
        let upstream = Upstream::start(move |request, stream| {
            let next = {
                let mut behaviour = shared.lock().unwrap();
                match behaviour.as_array_mut() {
                    Some(list) if list.len() > 1 => list.remove(0),
                    Some(list) => list.first().cloned().unwrap_or_default(),
                    None => behaviour.clone(),
                }
            };
            match next.as_str() {
                None => respond(stream, request.method, "200 OK", "text/plain", "", request.whole),
                Some("close") => Err(std::io::ErrorKind::ConnectionAborted.into()),
                Some("silence") => {
                    std::thread::sleep(Duration::from_secs(5));
                    Err(std::io::ErrorKind::TimedOut.into())
                }
                Some(raw) => {
                    let (raw, closes) = raw.strip_suffix("${CLOSE}").map_or((raw, false), |raw| (raw, true));
                    stream.write_all(expand(raw).as_bytes())?;
                    if closes { Err(std::io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
                }
            }
        });
        // A port on which nothing listens, kept from others by a socket that was never told to listen.
        let nothing = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = table["config"]
            .to_string()
            .replace("\"${UPSTREAM}\"", &upstream.port.to_string())
            .replace("\"${NOTHING}\"", &nothing.to_string())
            .replace("${UPSTREAM}", &upstream.port.to_string())
            .replace("${NOTHING}", &nothing.to_string());
        let settings: Vec<(&str, &str)> = table["settings"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, value)| (name.as_str(), value.as_str().unwrap()))
            .collect();
        Self { tollgate: Tollgate::with_file(&config, &settings), upstream, behaviour, nothing }
    }

    fn fill(&self, text: &str) -> String {
        expand(text)
            .replace("${PROXY}", &self.tollgate.proxy().to_string())
            .replace("${UPSTREAM}", &self.upstream.port.to_string())
            .replace("${NOTHING}", &self.nothing.to_string())
            .replace("${PRODUCT}", concat!("tollgate/", env!("CARGO_PKG_VERSION")))
    }

    /// The bytes of a request: as given, or `METHOD TARGET` with `fields` and `body`.
    fn request(&self, case: &Value) -> Vec<u8> {
        let text = case["request"].as_str().unwrap();
        if text.contains('\n') || case["raw"] == true {
            return self.fill(text).into_bytes();
        }
        let mut request = format!("{text} HTTP/1.1\r\n");
        let fields: Vec<&str> =
            case["fields"].as_array().into_iter().flatten().map(|field| field.as_str().unwrap()).collect();
        let has = |name: &str| fields.iter().any(|field| field.to_ascii_lowercase().starts_with(name));
        if !has("host:") {
            request += "Host: a.test\r\n";
        }
        for field in &fields {
            request += &format!("{field}\r\n");
        }
        let body = case["body_sent"].as_str().unwrap_or_default();
        if !body.is_empty() && !has("transfer-encoding:") && !has("content-length:") {
            request += &format!("Content-Length: {}\r\n", expand(body).len());
        }
        self.fill(&format!("{request}\r\n{body}")).into_bytes()
    }

    fn run(&self, case: &Value) -> Result<(), String> {
        *self.behaviour.lock().unwrap() = case["upstream"].clone();
        self.upstream.requests.lock().unwrap().clear();
        let request = self.request(case);
        let mut stream = connect(self.tollgate.proxy());
        // The node may refuse, and close, before it has read everything.
        let _ = stream.write_all(&request);
        let statuses: Vec<&Value> = match case["status"].as_array() {
            Some(list) => list.iter().collect(),
            None => vec![&case["status"]],
        };
        if statuses[0].is_null() {
            let mut rest = Vec::new();
            let _ = stream.shutdown(Shutdown::Write);
            let _ = stream.read_to_end(&mut rest);
            return check("answer", &String::from_utf8_lossy(&rest), "");
        }
        let mut reader = common::Answers::new(&mut stream);
        let mut last = None;
        for status in statuses {
            let answer = reader.next(request.starts_with(b"HEAD"));
            if *status != answer.status {
                return Err(format!("status {status} became {}: {}", answer.status, answer.text()));
            }
            last = Some(answer);
        }
        let answer = last.unwrap();
        self.compare_answer(case, &answer)?;
        self.compare_sent(case)?;
        if case["closes"] == true && !reader.is_closed() {
            return Err("the connection was not closed".to_owned());
        }
        Ok(())
    }

    fn compare_answer(&self, case: &Value, answer: &Answer) -> Result<(), String> {
        for (name, expected) in case["headers"].as_object().into_iter().flatten() {
            let values: Vec<&str> =
                answer.headers.iter().filter(|(other, _)| other == name).map(|(_, value)| &**value).collect();
            self.compare_field(name, expected, &values)?;
        }
        if let Some(body) = case["body"].as_str() {
            let id = answer.header("x-kong-request-id").unwrap_or_default();
            check("body", &answer.text(), &self.fill(body).replace("${ID}", id))?;
        }
        Ok(())
    }

    fn compare_field(&self, name: &str, expected: &Value, values: &[&str]) -> Result<(), String> {
        match expected {
            Value::Null if values.is_empty() => Ok(()),
            Value::String(any) if any == "*" && values.len() == 1 => Ok(()),
            Value::String(expected) if values.len() == 1 => check(name, values[0], &self.fill(expected)),
            Value::Array(list) => {
                let list: Vec<String> = list.iter().map(|value| self.fill(value.as_str().unwrap())).collect();
                check(name, &values.join(" | "), &list.join(" | "))
            }
            _ => Err(format!("{name}: {expected} became {values:?}")),
        }
    }

    /// What the upstream was sent: `sent` is the request line (or `null` for none), `sent_headers`, `sent_body`;
    /// `tries` counts requests.
    fn compare_sent(&self, case: &Value) -> Result<(), String> {
        let requests = self.upstream.requests.lock().unwrap().clone();
        if let Some(tries) = case["tries"].as_u64()
            && tries != requests.len() as u64
        {
            return Err(format!("{tries} requests became {}", requests.len()));
        }
        let Some(last) = requests.last() else {
            return match case["sent"].is_string() || case["sent_headers"].is_object() {
                true => Err("the upstream got nothing".to_owned()),
                false => Ok(()),
            };
        };
        if case.get("sent").is_some_and(Value::is_null) {
            return Err("the upstream got a request".to_owned());
        }
        let text = String::from_utf8_lossy(last);
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let mut lines = head.split("\r\n");
        let line = lines.next().unwrap();
        let fields: Vec<(String, &str)> = lines
            .filter_map(|line| line.split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value)))
            .collect();
        if let Some(expected) = case["sent"].as_str() {
            check("sent", line.trim_end_matches(" HTTP/1.1"), &self.fill(expected))?;
        }
        for (name, expected) in case["sent_headers"].as_object().into_iter().flatten() {
            let values: Vec<&str> =
                fields.iter().filter(|(other, _)| other == name).map(|(_, value)| *value).collect();
            self.compare_field(&format!("sent {name}"), expected, &values)?;
        }
        case["sent_body"].as_str().map_or(Ok(()), |expected| check("sent body", body, &expand(expected)))
    }
}

fn check(what: &str, actual: &str, expected: &str) -> Result<(), String> {
    match actual == expected {
        true => Ok(()),
        false => Err(format!("{what}: {expected:?} became {actual:?}")),
    }
}

/// `${a*9}` becomes `aaaaaaaaa`.
fn expand(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let (before, from) = rest.split_at(start);
        out += before;
        let end = from.find('}').unwrap();
        let inner = &from[2..end];
        match inner.rsplit_once('*').and_then(|(part, count)| Some((part, count.parse::<usize>().ok()?))) {
            Some((part, count)) => out += &part.repeat(count),
            None => out += &from[..=end],
        }
        rest = &from[end + 1..];
    }
    out + rest
}

fn run_table(table: &str) {
    let table: Value = serde_json::from_str(table).unwrap();
    let servers = Servers::start(&table);
    let cases = table["cases"].as_array().unwrap();
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|case| {
            let result = servers.run(case).err();
            result.map(|difference| format!("{}: {difference}", case["title"].as_str().unwrap()))
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

macro_rules! tables {
    ($($name:ident),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                run_table(include_str!(concat!("gateway/", stringify!($name), ".json")));
            }
        )*
    };
}

tables!(
    router,
    paths,
    request_headers,
    forwarded,
    response_headers,
    tokens_off,
    tokens_some,
    errors,
    framing,
    upstreams,
    balancing,
    protocols,
    limits,
    chains,
    groups
);

#[test]
fn errors_take_the_form_of_ones_own_templates() {
    let files = tempfile::tempdir().unwrap();
    let (json, html) = (files.path().join("error.json"), files.path().join("error.html"));
    std::fs::write(&json, "{\"error\": \"%s\", \"id\": \"%s\"}").unwrap();
    std::fs::write(&html, "<p>%s</p>").unwrap();
    let settings = [
        ("KONG_ERROR_TEMPLATE_JSON", json.to_str().unwrap()),
        ("KONG_ERROR_TEMPLATE_HTML", html.to_str().unwrap()),
        ("KONG_ERROR_DEFAULT_TYPE", "text/html"),
    ];
    let tollgate = Tollgate::with_file("{\"_format_version\": \"3.0\"}", &settings);
    for (request, kind, body) in [
        (
            "GET /x HTTP/1.1\r\nHost: a\r\n\r\n",
            "application/json; charset=utf-8",
            "{\"error\": \"no Route matched with those values\", \"id\": \"${ID}\"}",
        ),
        (
            "GET /x HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\n\r\n",
            "text/html; charset=utf-8",
            "<p>no Route matched with those values</p>",
        ),
        ("GET /x HTTP/1.1\r\n\r\n", "text/html; charset=utf-8", "<p>Bad request</p>"),
        (
            "GET /x HTTP/1.1\r\nAccept: text/plain\r\n\r\n",
            "text/plain; charset=utf-8",
            "Bad request\nrequest_id: ${ID}\n",
        ),
    ] {
        let answer = common::exchange(tollgate.proxy(), request.as_bytes());
        assert_eq!(answer.header("content-type"), Some(kind));
        assert_eq!(answer.text(), body.replace("${ID}", answer.header("x-kong-request-id").unwrap()));
    }
}
