//! `opentelemetry`: what a collector gets, and what upstreams and clients are told.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use common::mock::Mock;
use common::upstream::{Upstream, respond};
use common::{Tollgate, eventually, exchange};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value as Any};
use prost::Message;
use serde_json::{Value, json};

/// A span, as far as tests look at it.
#[derive(Debug, Clone)]
struct Span {
    name: String,
    trace: String,
    id: String,
    parent: String,
    kind: i32,
    failed: bool,
    nanoseconds: (u64, u64),
    attributes: BTreeMap<String, Value>,
    resource: BTreeMap<String, Value>,
}

impl Span {
    fn of(&self, name: &str) -> &Value {
        self.attributes.get(name).unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }
}

fn attributes(list: &[KeyValue]) -> BTreeMap<String, Value> {
    let value = |attribute: &KeyValue| match attribute.value.clone().unwrap().value.unwrap() {
        Any::StringValue(text) => json!(text),
        Any::IntValue(count) => json!(count),
        Any::DoubleValue(number) => json!(number),
        Any::ArrayValue(list) => list
            .values
            .into_iter()
            .map(|item| match item.value.unwrap() {
                Any::StringValue(text) => json!(text),
                other => panic!("{other:?}"),
            })
            .collect(),
        other => panic!("{other:?}"),
    };
    list.iter().map(|attribute| (attribute.key.clone(), value(attribute))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A collector that refuses the first requests.
struct Collector {
    upstream: Upstream,
    spans: Arc<Mutex<Vec<Span>>>,
}

impl Collector {
    fn start(refuses: usize) -> Self {
        let spans: Arc<Mutex<Vec<Span>>> = Arc::default();
        let (taken, refused) = (Arc::clone(&spans), AtomicUsize::new(0));
        let upstream = Upstream::start(move |request, stream| {
            if refused.fetch_add(1, Ordering::SeqCst) < refuses {
                return respond(stream, "POST", "503 Service Unavailable", "text/plain", "", b"");
            }
            let head = String::from_utf8_lossy(&request.whole[..request.whole.len() - request.body.len()])
                .to_ascii_lowercase();
            assert!(head.starts_with("post /v1/traces?key=canary http/1.1\r\n"), "{head}");
            assert!(head.contains("content-type: application/x-protobuf\r\n"), "{head}");
            assert!(head.contains("x-collector-key: canary\r\n"), "{head}");
            let message = ExportTraceServiceRequest::decode(request.body).unwrap();
            let mut all = taken.lock().unwrap();
            for resource in message.resource_spans {
                let about = attributes(&resource.resource.unwrap().attributes);
                for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                    all.push(Span {
                        name: span.name,
                        trace: hex(&span.trace_id),
                        id: hex(&span.span_id),
                        parent: hex(&span.parent_span_id),
                        kind: span.kind,
                        failed: span.status.is_some_and(|status| status.code == 2),
                        nanoseconds: (span.start_time_unix_nano, span.end_time_unix_nano),
                        attributes: attributes(&span.attributes),
                        resource: about.clone(),
                    });
                }
            }
            respond(stream, "POST", "200 OK", "application/x-protobuf", "", b"")
        });
        Self { upstream, spans }
    }

    /// The spans of a trace, once its root is there with `count` others.
    fn trace(&self, id: &str, count: usize) -> Vec<Span> {
        let found = || -> Vec<Span> {
            self.spans.lock().unwrap().iter().filter(|span| span.trace == id).cloned().collect()
        };
        eventually(&format!("{count} spans of {id}"), || found().len() >= count);
        found()
    }
}

fn file(upstream: u16, mock: u16, collector: u16) -> String {
    include_str!("tracing/kong.yml")
        .replace("${UPSTREAM}", &upstream.to_string())
        .replace("${MOCK}", &mock.to_string())
        .replace("${COLLECTOR}", &collector.to_string())
}

const ALL: [(&str, &str); 2] =
    [("KONG_TRACING_INSTRUMENTATIONS", "all"), ("KONG_TRACING_SAMPLING_RATE", "1")];

fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no {name} in {spans:#?}"))
}

/// The value of a field that an upstream got.
fn received(upstream: &Upstream, field: &str) -> Option<String> {
    let request = upstream.requests.lock().unwrap().last().unwrap().clone();
    let text = String::from_utf8_lossy(&request).into_owned();
    let lines = text.lines().filter_map(|line| line.split_once(": "));
    lines.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(field)).map(|(_, value)| value.to_owned())
}

const CLIENTS: &str = "0af7651916cd43dd8448eb211c80319c";

#[test]
fn a_request_and_its_parts() {
    let (upstream, collector) = (Upstream::echo(), Collector::start(2));
    let tollgate = Tollgate::with_file(&file(upstream.port, 1, collector.upstream.port), &ALL);
    let request = format!(
        "GET /plain/a?apikey=CANARY&b=c HTTP/1.1\r\nHost: api.test\r\ntraceparent: 00-{CLIENTS}-b7ad6b7169203331-01\r\n\r\n"
    );
    let answer = exchange(tollgate.proxy(), request.as_bytes());
    assert_eq!((answer.status, answer.header("x-trace-id")), (200, Some(CLIENTS)));
    let spans = collector.trace(CLIENTS, 5);
    let root = named(&spans, "kong");
    assert_eq!((&*root.parent, root.kind, root.failed), ("b7ad6b7169203331", 2, false));
    for (name, expected) in [
        ("http.method", json!("GET")),
        ("http.url", json!("http://api.test/plain/a?apikey=REDACTED&b=c")),
        ("http.host", json!("api.test")),
        ("http.scheme", json!("http")),
        ("http.flavor", json!(1.1)),
        ("http.client_ip", json!("127.0.0.1")),
        ("net.peer.ip", json!("127.0.0.1")),
        ("http.status_code", json!(200)),
        ("http.route", json!("/plain")),
        ("kong.request.id", json!(answer.header("x-kong-request-id").unwrap())),
    ] {
        assert_eq!(root.of(name), &expected);
    }
    assert_eq!(root.resource["service.name"], "kong");
    assert_eq!(root.resource["deployment.environment"], "test");
    assert!(root.resource.contains_key("service.instance.id"));
    let names: Vec<&str> = spans.iter().map(|span| &*span.name).collect();
    let expected = ["kong", "kong.router", "kong.access.plugin.opentelemetry", "kong.dns", "kong.balancer"];
    for name in expected {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
    for span in &spans {
        let (start, end) = span.nanoseconds;
        assert!(start <= end && root.nanoseconds.0 <= start && end <= root.nanoseconds.1, "{span:?}");
        assert!(span.name == "kong" || span.parent == root.id, "{span:?}");
    }
    let lookup = named(&spans, "kong.dns");
    assert_eq!(
        (lookup.of("dns.record.domain"), lookup.of("dns.record.ip")),
        (&json!("localhost"), &json!("127.0.0.1"))
    );
    let balancer = named(&spans, "kong.balancer");
    assert_eq!((balancer.kind, balancer.of("try_count")), (3, &json!(1)));
    assert_eq!(balancer.of("net.peer.port"), &json!(upstream.port));
    // The upstream's spans are parts of the try that reached it.
    let told = received(&upstream, "traceparent").unwrap();
    assert_eq!(told, format!("00-{CLIENTS}-{}-01", balancer.id));
}

#[test]
fn refusals_and_failures() {
    let (upstream, collector) = (Upstream::canned(), Collector::start(0));
    let tollgate = Tollgate::with_file(&file(upstream.port, 1, collector.upstream.port), &ALL);
    let send = |path: &str| {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: a\r\nb3: {}-b7ad6b7169203331-1\r\n\r\n",
            format_args!("{:032x}", path.len())
        );
        (exchange(tollgate.proxy(), request.as_bytes()), format!("{:032x}", path.len()))
    };
    let (answer, id) = send("/guarded");
    assert_eq!(answer.status, 401);
    let spans = collector.trace(&id, 3);
    let root = named(&spans, "kong");
    assert_eq!((root.of("http.status_code"), root.failed), (&json!(401), false));
    assert_eq!(named(&spans, "kong.access.plugin.key-auth").parent, root.id);
    let (answer, id) = send("/gone");
    assert_eq!(answer.status, 502);
    let spans = collector.trace(&id, 5);
    let tries: Vec<&Span> = spans.iter().filter(|span| span.name == "kong.balancer").collect();
    assert_eq!(tries.len(), 2);
    assert!(tries.iter().all(|span| span.failed && span.of("http.status_code") == &json!(502)));
    assert!(named(&spans, "kong").failed);
    let (answer, id) = send("/nowhere-at-all");
    assert_eq!(answer.status, 404);
    assert_eq!(named(&collector.trace(&id, 2), "kong").of("http.status_code"), &json!(404));
}

#[test]
fn who_decides_what_is_sampled() {
    let (upstream, collector) = (Upstream::canned(), Collector::start(0));
    let file = file(upstream.port, 1, collector.upstream.port);
    let send = |tollgate: &Tollgate, flags: &str| {
        let request = format!(
            "GET /plain HTTP/1.1\r\nHost: a\r\ntraceparent: 00-{CLIENTS}-b7ad6b7169203331-{flags}\r\n\r\n"
        );
        assert_eq!(exchange(tollgate.proxy(), request.as_bytes()).status, 200);
        received(&upstream, "traceparent").unwrap().split('-').next_back().unwrap().to_owned()
    };
    // Nothing is traced where nothing is instrumented; the trace goes on all the same.
    let quiet = Tollgate::with_file(&file, &[]);
    assert_eq!(send(&quiet, "01"), "00");
    let all = Tollgate::with_file(&file, &ALL);
    assert_eq!((send(&all, "00"), send(&all, "01")), ("00".to_owned(), "01".to_owned()));
    let none = [("KONG_OPENTELEMETRY_TRACING", "all"), ("KONG_TRACING_SAMPLING_RATE", "0")];
    assert_eq!(send(&Tollgate::with_file(&file, &none), "01"), "00");
    let decides =
        file.replace("      queue:", "      sampling_strategy: parent_probability_fallback\n      queue:");
    let decided = Tollgate::with_file(&decides, &none);
    assert_eq!(send(&decided, "01"), "01");
    eventually("two traces", || {
        collector.spans.lock().unwrap().iter().filter(|span| span.name == "kong").count() == 2
    });
    let wrong = [("KONG_TRACING_INSTRUMENTATIONS", "routers"), ("KONG_TRACING_SAMPLING_RATE", "2")];
    let folder = tempfile::tempdir().unwrap();
    let (status, _, errors) = common::run(Tollgate::command(folder.path(), &wrong).arg("start"));
    assert_ne!(status, 0);
    assert!(errors.contains("tracing_instrumentations") && errors.contains("'routers'"), "{errors}");
    assert!(errors.contains("tracing_sampling_rate") && errors.contains("from 0 to 1"), "{errors}");
}

fn chat(tollgate: &Tollgate, path: &str, trace: &str, body: &Value) -> u16 {
    let body = body.to_string();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\ntraceparent: 00-{trace}-b7ad6b7169203331-01\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    exchange(tollgate.proxy(), request.as_bytes()).status
}

#[test]
fn calls_of_llms() {
    let (mock, collector) = (Mock::start(&[]), Collector::start(0));
    let tollgate = Tollgate::with_file(&file(1, mock.port, collector.upstream.port), &ALL);
    let tool = json!({"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}});
    let body = |stream: bool, tools: bool| {
        let mut body =
            json!({"messages": [{"role": "user", "content": "What is the weather?"}], "stream": stream});
        if tools {
            body["tools"] = json!([tool]);
        }
        body
    };
    let mut number = 0;
    for path in ["/chat", "/claude"] {
        for (stream, tools) in [(false, false), (true, false), (false, true), (true, true)] {
            number += 1;
            let trace = format!("{number:032x}");
            assert_eq!(chat(&tollgate, path, &trace, &body(stream, tools)), 200);
            let spans = collector.trace(&trace, if tools { 6 } else { 5 });
            let title = format!("{path}, streamed: {stream}, tools: {tools}: {spans:#?}");
            let call = named(&spans, "kong.gen_ai");
            assert_eq!(call.parent, named(&spans, "kong").id, "{title}");
            let (provider, model, most) = match path {
                "/chat" => ("openai", "gpt-4o", 50),
                _ => ("anthropic", "claude-sonnet-4", 60),
            };
            for (name, expected) in [
                ("gen_ai.operation.name", json!("chat")),
                ("gen_ai.provider.name", json!(provider)),
                ("gen_ai.request.model", json!(model)),
                ("gen_ai.request.max_tokens", json!(most)),
                ("gen_ai.output.type", json!("text")),
                ("gen_ai.response.finish_reasons", json!([if tools { "tool_calls" } else { "stop" }])),
            ] {
                assert_eq!(call.of(name), &expected, "{title}");
            }
            for name in ["gen_ai.response.id", "gen_ai.response.model"] {
                assert!(call.of(name).as_str().is_some_and(|text| !text.is_empty()), "{title}");
            }
            for name in ["gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"] {
                assert!(call.of(name).as_u64().unwrap() > 0, "{title}");
            }
            if tools {
                let used: Vec<&Span> = spans.iter().filter(|span| span.parent == call.id).collect();
                assert_eq!(used.len(), 1, "{title}");
                assert_eq!(used[0].of("gen_ai.tool.name"), "weather");
                assert_eq!(used[0].of("gen_ai.operation.name"), "execute_tool");
                assert!(used[0].of("gen_ai.tool.call.id").as_str().is_some_and(|id| !id.is_empty()));
            }
            // What was said is told only where payloads are logged.
            assert_eq!(call.attributes.contains_key("gen_ai.input.messages"), path == "/chat", "{title}");
            if path == "/chat" {
                assert_eq!(call.of("gen_ai.request.temperature"), &json!(0.5));
                let input = call.of("gen_ai.input.messages").as_str().unwrap();
                assert!(input.contains("What is the weather?"), "{input}");
                let output = call.of("gen_ai.output.messages").as_str().unwrap();
                assert!(output.contains("\"role\":\"assistant\""), "{output}");
            }
        }
    }
    let failing = format!("{:032x}", 99);
    let mut body = body(false, false);
    body["messages"] = json!("wrong");
    assert_eq!(chat(&tollgate, "/claude", &failing, &body), 400);
    let spans = collector.spans.lock().unwrap().clone();
    assert!(!format!("{spans:?}").contains("CANARY"), "{spans:?}");
}

/// What waits is sent when the node stops.
#[test]
fn a_stop_loses_nothing() {
    let (upstream, collector) = (Upstream::canned(), Collector::start(0));
    let file = file(upstream.port, 1, collector.upstream.port)
        .replace("max_coalescing_delay: 0.05", "max_coalescing_delay: 3600");
    let tollgate = Tollgate::with_file(&file, &ALL);
    let request =
        format!("GET /plain HTTP/1.1\r\nHost: a\r\ntraceparent: 00-{CLIENTS}-b7ad6b7169203331-01\r\n\r\n");
    assert_eq!(exchange(tollgate.proxy(), request.as_bytes()).status, 200);
    assert!(collector.spans.lock().unwrap().is_empty());
    common::run(std::process::Command::new("kill").args(["-TERM", &tollgate.id().to_string()]));
    assert_eq!(named(&collector.trace(CLIENTS, 5), "kong").trace, CLIENTS);
}
