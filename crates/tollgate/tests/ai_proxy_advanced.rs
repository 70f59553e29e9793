//! `ai-proxy-advanced`: which target a request goes to, and what becomes of it where that target fails; case by
//! case in the tables of `ai_proxy_advanced/`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use common::cases;
use common::mock::Mock;
use common::upstream::{Received, Upstream, chunk, respond};
use common::{Answers, Tollgate, connect, eventually, exchange, find, logging};
use serde_json::{Value, json};

/// A port where nobody listens.
fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A target that runs the model `name` at a port of the loopback.
fn target(name: &str, port: u16, more: &Value) -> Value {
    let url = format!("http://127.0.0.1:{port}/v1/chat/completions");
    let mut target = json!({
        "route_type": "llm/v1/chat",
        "model": {"provider": "openai", "name": name, "options": {"upstream_url": url}},
    });
    target.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    target
}

/// A file with one route, `/ai`, of these targets.
fn file(targets: &[Value], balancer: &Value) -> String {
    let config = json!({"targets": targets, "balancer": balancer});
    json!({
        "_format_version": "3.0",
        "services": [{
            "name": "never-contacted", "host": "localhost", "port": 1,
            "routes": [{
                "name": "ai", "paths": ["/ai"],
                "plugins": [{"name": "ai-proxy-advanced", "config": config}],
            }],
        }],
    })
    .to_string()
}

fn chat(more: &str) -> Vec<u8> {
    let body = r#"{"messages":[{"role":"user","content":"Hi"}]}"#;
    format!(
        "POST /ai HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n{more}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Sends so many requests, over some connections at once that are kept; how often each model answered, and each
/// status that is not 200.
fn load(port: u16, requests: usize, request: impl Fn(usize) -> Vec<u8> + Sync) -> BTreeMap<String, usize> {
    let (next, counts) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut stream = connect(port);
                let mut sending = stream.try_clone().unwrap();
                let mut answers = Answers::new(&mut stream);
                let mut own = BTreeMap::new();
                while let number = next.fetch_add(1, Ordering::Relaxed)
                    && number < requests
                {
                    sending.write_all(&request(number)).unwrap();
                    let answer = answers.next(false);
                    let key = match answer.status {
                        200 => answer.header("x-kong-llm-model").unwrap().to_owned(),
                        status => status.to_string(),
                    };
                    *own.entry(key).or_insert(0) += 1;
                }
                let mut counts = counts.lock().unwrap();
                own.into_iter().for_each(|(key, count)| *counts.entry(key).or_insert(0) += count);
            });
        }
    });
    counts.into_inner().unwrap()
}

/// Ten thousand requests each: every one is answered, by whom the table says, in the share that it says.
fn run_load(title: &str) {
    let cases: Vec<Value> = serde_json::from_str(include_str!("ai_proxy_advanced/loads.json")).unwrap();
    let case = cases.iter().find(|case| case["title"] == title).unwrap();
    let mut mocks = Vec::new();
    let mut targets = Vec::new();
    for described in case["targets"].as_array().unwrap() {
        let port = match described["at"].as_array() {
            Some(flags) => {
                let flags: Vec<&str> = flags.iter().filter_map(Value::as_str).collect();
                mocks.push(Mock::start(&flags));
                mocks.last().unwrap().port
            }
            None => closed_port(),
        };
        targets.push(target(described["name"].as_str().unwrap(), port, &described["more"]));
    }
    let tollgate =
        Tollgate::with_file(&file(&targets, &case["balancer"]), &[("KONG_NGINX_WORKER_PROCESSES", "2")]);
    let requests = 10_000;
    let counts = load(tollgate.proxy(), requests, |_| chat(""));
    for (name, count) in &counts {
        let share = *count as f64 / requests as f64;
        let expected = &case["shares"][name];
        let (low, high) = (expected[0].as_f64().unwrap_or(0.0), expected[1].as_f64().unwrap_or(0.0));
        assert!((low..=high).contains(&share), "{name} answered {share} of the requests: {counts:?}");
    }
    assert_eq!(counts.values().sum::<usize>(), requests);
    assert_eq!(counts.len(), case["shares"].as_object().unwrap().len(), "{counts:?}");
}

#[test]
fn shares_are_the_weights() {
    run_load("weights");
}

#[test]
fn the_highest_group_has_all() {
    run_load("priority");
}

#[test]
fn the_fastest_has_nearly_all() {
    run_load("the fastest");
}

#[test]
fn one_of_two_has_too_many_requests() {
    run_load("429");
}

#[test]
fn one_of_two_fails() {
    run_load("500");
}

#[test]
fn one_of_two_refuses_connections() {
    run_load("refused");
}

#[test]
fn one_of_two_hangs() {
    run_load("hanging");
}

const LOG: &str = "entries.log";

/// What the client gets, what the log says of each try, and that no key is in it.
#[test]
fn requests() {
    let (mock, busy, broken) =
        (Mock::start(&[]), Mock::start(&["--status", "429"]), Mock::start(&["--status", "500"]));
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join(LOG);
    let mut file = include_str!("ai_proxy_advanced/kong.yml").replace("${LOG}", log.to_str().unwrap());
    let ports =
        [("MOCK", mock.port), ("BUSY", busy.port), ("BROKEN", broken.port), ("CLOSED", closed_port())];
    for (name, port) in ports {
        file = file.replace(&format!("${{{name}}}"), &port.to_string());
    }
    let path = folder.path().join("kong.yml");
    std::fs::write(&path, file).unwrap();
    let settings = [("KONG_DATABASE", "off"), ("KONG_DECLARATIVE_CONFIG", path.to_str().unwrap())];
    let tollgate = Tollgate::start_in(folder, &settings);
    let cases: Vec<Value> = serde_json::from_str(include_str!("ai_proxy_advanced/requests.json")).unwrap();
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|case| Some(format!("{}: {}", case["title"], differs(&tollgate, case).err()?)))
        .collect();
    cases::report(cases.len(), &wrong);
}

fn differs(tollgate: &Tollgate, case: &Value) -> Result<(), String> {
    let request = cases::request_bytes(case["route"].as_str().unwrap(), &case["request"]);
    let answer = exchange(tollgate.proxy(), &request);
    cases::check_answer(&answer, &case["expect"])?;
    let text = answer.text();
    let parts = |name: &str| case[name].as_array().cloned().unwrap_or_default();
    if let Some(part) = parts("contains").iter().find(|part| !text.contains(part.as_str().unwrap())) {
        return Err(format!("no {part} in {text}"));
    }
    if let Some(part) = parts("absent").iter().find(|part| text.contains(part.as_str().unwrap())) {
        return Err(format!("{part} in {text}"));
    }
    let id = answer.header("x-kong-request-id").unwrap();
    let entry = logging::entry(&tollgate.folder.path().join(LOG), |entry| entry["request"]["id"] == id);
    if entry.to_string().contains("CANARY") {
        return Err(format!("a secret is in {entry}"));
    }
    if !case["log"].is_null() {
        cases::matches(&case["log"], entry.get("ai").unwrap_or(&json!({})), "ai")?;
    }
    let codes = || entry["tries"].as_array().unwrap().iter().map(|attempt| attempt["code"].clone()).collect();
    match &case["tries"] {
        Value::Null => Ok(()),
        tries => cases::matches(tries, &codes(), "tries"),
    }
}

/// An answer of so many tokens.
fn answer(tokens: u64, request: &Received<'_>, stream: &mut TcpStream) -> std::io::Result<()> {
    let body = json!({
        "model": "m", "choices": [{"message": {"role": "assistant", "content": "Hello"}}],
        "usage": {"prompt_tokens": 0, "completion_tokens": tokens, "total_tokens": tokens},
    });
    respond(stream, request.method, "200 OK", "application/json", "", body.to_string().as_bytes())
}

fn always(tokens: u64) -> Upstream {
    Upstream::start(move |request, stream| answer(tokens, request, stream))
}

/// Sends a chat on a connection of its own; the status, and who answered.
fn ask(port: u16, more: &str) -> (u16, String) {
    let answer = exchange(port, &chat(&format!("Connection: close\r\n{more}")));
    (answer.status, answer.header("x-kong-llm-model").unwrap_or_default().to_owned())
}

const EVERY: [&str; 5] = ["error", "timeout", "invalid_header", "http_500", "non_idempotent"];

/// What has begun is the client's: it breaks off there as it broke off here.
#[test]
fn a_stream_that_has_begun_is_not_tried_again() {
    let first = Upstream::start(|_, stream| {
        stream.write_all(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
        )?;
        chunk(stream, b"data: {\"choices\":[{\"delta\":{\"content\":\"begun\"}}]}\n\n")?;
        Err(std::io::ErrorKind::ConnectionAborted.into())
    });
    let second = always(1);
    let targets =
        [target("a", first.port, &json!({"weight": 2})), target("b", second.port, &json!({"weight": 1}))];
    let balancer = json!({"algorithm": "priority", "failover_criteria": EVERY});
    let tollgate = Tollgate::with_file(&file(&targets, &balancer), &[]);
    let body = r#"{"messages":[{"role":"user","content":"Hi"}],"stream":true}"#;
    let request = format!("POST /ai HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let mut client = connect(tollgate.proxy());
    client.write_all(request.as_bytes()).unwrap();
    let mut received = Vec::new();
    let _ = client.read_to_end(&mut received);
    assert!(received.starts_with(b"HTTP/1.1 200") && find(&received, b"begun").is_some());
    assert!(!received.ends_with(b"0\r\n\r\n"));
    assert!(second.requests.lock().unwrap().is_empty());
}

/// Targets that answer with nothing, or with what is no HTTP.
#[test]
fn no_answer_is_a_failure() {
    let silent = Upstream::start(|_, _| Err(std::io::ErrorKind::ConnectionAborted.into()));
    let odd = Upstream::start(|_, stream| stream.write_all(b"220 mail.test ready\r\n\r\n"));
    let good = always(1);
    let targets = [
        target("silent", silent.port, &json!({"weight": 3})),
        target("odd", odd.port, &json!({"weight": 2})),
        target("good", good.port, &json!({"weight": 1})),
    ];
    let balancer = json!({"algorithm": "priority", "failover_criteria": EVERY});
    let tollgate = Tollgate::with_file(&file(&targets, &balancer), &[]);
    assert_eq!(ask(tollgate.proxy(), ""), (200, "openai/good".to_owned()));
    assert_eq!(silent.requests.lock().unwrap().len(), 1);
    assert_eq!(odd.requests.lock().unwrap().len(), 1);
}

/// An error whose body comes after its head costs no connection.
#[test]
fn connections_of_failures_are_kept() {
    let first = Upstream::start(|_, stream| {
        stream.write_all(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\n\r\n")?;
        std::thread::sleep(std::time::Duration::from_millis(5));
        stream.write_all(b"no")
    });
    let second = always(1);
    let targets =
        [target("a", first.port, &json!({"weight": 2})), target("b", second.port, &json!({"weight": 1}))];
    let balancer = json!({"algorithm": "priority", "failover_criteria": EVERY});
    let tollgate = Tollgate::with_file(&file(&targets, &balancer), &[]);
    for _ in 0..30 {
        assert_eq!(ask(tollgate.proxy(), ""), (200, "openai/b".to_owned()));
    }
    assert_eq!(first.requests.lock().unwrap().len(), 30);
    let accepted = first.accepted.load(Ordering::SeqCst);
    assert!(accepted < 15, "{accepted} connections for 30 requests");
}

/// A body of parts is the client's again for the next target, which has its own model set.
#[test]
fn parts_are_sent_again() {
    let first = Upstream::start(|request, stream| {
        respond(stream, request.method, "500 Internal Server Error", "text/plain", "", b"no")
    });
    let second = always(1);
    let transcription = |port: u16, name: &str, weight: u32| {
        let url = format!("http://127.0.0.1:{port}/v1/audio/transcriptions");
        json!({"route_type": "audio/v1/audio/transcriptions", "weight": weight, "model": {"provider": "openai", "name": name, "options": {"upstream_url": url}}})
    };
    let targets = [transcription(first.port, "first", 2), transcription(second.port, "second", 1)];
    let balancer = json!({"algorithm": "priority", "failover_criteria": EVERY});
    let tollgate = Tollgate::with_file(&file(&targets, &balancer), &[]);
    let body =
        "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\nsound\r\n--b--\r\n";
    let request = format!(
        "POST /ai HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = exchange(tollgate.proxy(), request.as_bytes());
    assert_eq!((answer.status, answer.header("x-kong-llm-model")), (200, Some("openai/second")));
    for (upstream, own, others) in [(&first, "\r\nfirst\r\n", "second"), (&second, "\r\nsecond\r\n", "first")]
    {
        let received = String::from_utf8(upstream.requests.lock().unwrap()[0].clone()).unwrap();
        assert!(
            received.contains("multipart/form-data; boundary=b") && received.ends_with(body),
            "{received}"
        );
        assert!(received.contains(own) && !received.contains(others), "{received}");
    }
}

/// A body that is too large to be kept is gone once it was sent: nobody gets half a request.
#[test]
fn what_cannot_be_repeated_is_not() {
    let first = Upstream::start(|request, stream| {
        respond(stream, request.method, "500 Internal Server Error", "text/plain", "", b"no")
    });
    let second = always(1);
    let preserve = |port: u16, weight: u32| {
        let url = format!("http://127.0.0.1:{port}/");
        json!({"route_type": "preserve", "weight": weight, "model": {"provider": "openai", "options": {"upstream_url": url}}})
    };
    let balancer = json!({"algorithm": "priority", "failover_criteria": EVERY});
    let targets = [preserve(first.port, 2), preserve(second.port, 1)];
    let tollgate = Tollgate::with_file(&file(&targets, &balancer), &[]);
    let send = |length: usize| {
        let head = format!(
            "POST /ai HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: audio/wav\r\nContent-Length: {length}\r\n\r\n"
        );
        exchange(tollgate.proxy(), &[head.as_bytes(), &vec![b'x'; length]].concat()).status
    };
    assert_eq!(send(100_000), 200);
    assert_eq!(second.requests.lock().unwrap().len(), 1);
    assert_eq!(send(3_000_000), 500);
    assert_eq!(second.requests.lock().unwrap().len(), 1);
}

/// The same value of the header goes to the same target, also after a reload, and the values are spread.
#[test]
fn a_header_decides() {
    let mock = Mock::start(&[]);
    let targets: Vec<Value> =
        ["a", "b", "c"].iter().map(|name| target(name, mock.port, &json!({}))).collect();
    let balancer = json!({"algorithm": "consistent-hashing", "hash_on_header": "x-session"});
    let file = file(&targets, &balancer);
    let ask_all = || {
        let tollgate = Tollgate::with_file(&file, &[]);
        let session = |number: usize| ask(tollgate.proxy(), &format!("X-Session: {number}\r\n"));
        (0..40).map(|number| [session(number), session(number)]).collect::<Vec<_>>()
    };
    let answered = ask_all();
    assert!(answered.iter().all(|[first, again]| first == again), "{answered:?}");
    assert_eq!(answered.iter().map(|[first, _]| first).collect::<std::collections::BTreeSet<_>>().len(), 3);
    assert_eq!(answered, ask_all(), "another node decides alike");
}

/// A target that is busy is left alone.
#[test]
fn connections_decide() {
    let release = Arc::new(AtomicBool::new(false));
    let released = Arc::clone(&release);
    let first = Upstream::start(move |request, stream| {
        while !released.load(Ordering::SeqCst) {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        answer(1, request, stream)
    });
    let second = always(1);
    let targets = [target("a", first.port, &json!({})), target("b", second.port, &json!({}))];
    let tollgate = Tollgate::with_file(&file(&targets, &json!({"algorithm": "least-connections"})), &[]);
    let port = tollgate.proxy();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| ask(port, ""));
        eventually("the first target is busy", || first.requests.lock().unwrap().len() == 1);
        for _ in 0..5 {
            assert_eq!(ask(port, ""), (200, "openai/b".to_owned()));
        }
        release.store(true, Ordering::SeqCst);
        assert_eq!(waiting.join().unwrap(), (200, "openai/a".to_owned()));
    });
    assert_eq!(ask(port, "").0, 200);
}

/// A target that failed too often gets no request until its time is over, and is taken back when it answers.
#[test]
fn a_target_is_left_out_and_taken_back() {
    let works = Arc::new(AtomicBool::new(false));
    let working = Arc::clone(&works);
    let first = Upstream::start(move |request, stream| match working.load(Ordering::SeqCst) {
        true => answer(1, request, stream),
        false => respond(stream, request.method, "500 Internal Server Error", "text/plain", "", b"no"),
    });
    let second = always(1);
    let targets =
        [target("a", first.port, &json!({"weight": 2})), target("b", second.port, &json!({"weight": 1}))];
    let balancer =
        json!({"algorithm": "priority", "failover_criteria": EVERY, "max_fails": 2, "fail_timeout": 300});
    let tollgate = Tollgate::with_file(&file(&targets, &balancer), &[]);
    let started = std::time::Instant::now();
    for _ in 0..10 {
        assert_eq!(ask(tollgate.proxy(), ""), (200, "openai/b".to_owned()));
    }
    let failures = || first.requests.lock().unwrap().len();
    let periods = 1 + (started.elapsed().as_millis() / 300) as usize;
    assert!((2..=1 + periods).contains(&failures()), "{} failures in {periods} periods", failures());
    works.store(true, Ordering::SeqCst);
    eventually("the first target is taken back", || ask(tollgate.proxy(), "").1 == "openai/a");
    for _ in 0..5 {
        assert_eq!(ask(tollgate.proxy(), ""), (200, "openai/a".to_owned()));
    }
}

/// What was learnt of targets stays known when the configuration changes: usage here, and latency.
#[test]
fn a_change_of_the_configuration_keeps_what_is_known() {
    let (dear, cheap) = (always(100_000), always(1));
    let slow = Upstream::start(|request, stream| {
        std::thread::sleep(std::time::Duration::from_millis(400));
        answer(1, request, stream)
    });
    for (first, balancer) in [
        (&dear, json!({"algorithm": "lowest-usage"})),
        (&slow, json!({"algorithm": "lowest-latency", "latency_strategy": "e2e"})),
    ] {
        let tollgate = Tollgate::with_store(&[]);
        let call = |method: &str, path: &str, body: Value| {
            let (status, answer) = tollgate.admin_call(method, path, Some(&body));
            assert!(status < 300, "{method} {path}: {answer}");
            answer
        };
        call("PUT", "/services/s", json!({"host": "localhost"}));
        call("PUT", "/services/s/routes/r", json!({"paths": ["/ai"]}));
        let targets = [target("first", first.port, &json!({})), target("second", cheap.port, &json!({}))];
        let config = json!({"targets": targets, "balancer": balancer});
        let plugin =
            call("POST", "/routes/r/plugins", json!({"name": "ai-proxy-advanced", "config": config}));
        let answers = |name: &str| {
            let answered = ask(tollgate.proxy(), "");
            assert_eq!(answered.0, 200);
            answered.1 == format!("openai/{name}")
        };
        eventually("both are known", || {
            answers("first");
            [first, &cheap].iter().all(|upstream| !upstream.requests.lock().unwrap().is_empty())
        });
        let mostly_second = || (0..20).filter(|_| answers("second")).count() >= 17;
        assert!(mostly_second(), "{balancer}");
        let path = format!("/plugins/{}", plugin["id"].as_str().unwrap());
        // Were it forgotten, the first would have its turn after each change. One request in a hundred goes there
        // all the same where latency decides.
        let changed = (50..58).filter(|weight: &u32| {
            let mut targets = targets.clone();
            targets.iter_mut().for_each(|target| target["weight"] = (*weight).into());
            call("PATCH", &path, json!({"config": {"targets": targets}}));
            answers("second")
        });
        assert!(changed.count() >= 5, "{balancer}");
        cheap.requests.lock().unwrap().clear();
    }
}

/// What is refused when it is configured, and with which words.
#[test]
fn configurations() {
    let cases: Vec<Value> =
        serde_json::from_str(include_str!("ai_proxy_advanced/configurations.json")).unwrap();
    let tollgate = Tollgate::with_store(&[]);
    let wrong = cases::configurations(&tollgate, "ai-proxy-advanced", &cases);
    cases::report(cases.len(), &wrong);
}
