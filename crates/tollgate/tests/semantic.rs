//! `ai-proxy-advanced` with the algorithm `semantic`: requests go to the target whose description is nearest to what
//! they say, whatever keeps the vectors.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod common;
#[path = "../../vector/tests/common/postgres.rs"]
mod postgres;
#[path = "../../vector/tests/common/searching_redis.rs"]
#[allow(dead_code, reason = "the crate's own tests look closer")]
mod searching_redis;

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use common::mock::Mock;
use common::redis::Redis;
use common::upstream::{Received, Upstream, respond};
use common::{Answer, Tollgate, cases, eventually, exchange, json_request, logging};
use postgres::Postgres;
use searching_redis::SearchingRedis;
use serde_json::{Value, json};

const CODE: &str = "Specialist in programming code";
const FOOD: &str = "Specialist in cooking food";

/// A target that runs the model `name` at a port of the loopback.
fn target(name: &str, port: u16, description: &str, more: &Value) -> Value {
    let url = format!("http://127.0.0.1:{port}/v1/chat/completions");
    let mut target = json!({
        "route_type": "llm/v1/chat",
        "description": description,
        "model": {"provider": "openai", "name": name, "options": {"upstream_url": url}},
        "logging": {"log_statistics": true},
    });
    target.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    target
}

/// What the plugin is configured with: embeddings from a port of the loopback, vectors of three numbers.
fn config(targets: &[Value], embeddings: u16, database: &Value, more: &Value) -> Value {
    let url = format!("http://127.0.0.1:{embeddings}/v1/embeddings");
    let mut vectordb = json!({"dimensions": 3, "distance_metric": "cosine", "threshold": 0.6});
    vectordb.as_object_mut().unwrap().extend(database.as_object().cloned().unwrap());
    let mut config = json!({
        "targets": targets,
        "balancer": {"algorithm": "semantic", "failover_criteria": ["error", "timeout", "http_500", "non_idempotent"]},
        "embeddings": {
            "model": {"provider": "openai", "name": "text-embedding-3-small", "options": {"upstream_url": url}},
            "auth": {"header_name": "Authorization", "header_value": "Bearer CANARY"},
        },
        "vectordb": vectordb,
    });
    config.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    config
}

/// A file with one route, `/ai`.
fn file(config: &Value, log: &Path) -> String {
    json!({
        "_format_version": "3.0",
        "plugins": [{"name": "file-log", "config": {"path": log}}],
        "services": [{
            "name": "never-contacted", "host": "localhost", "port": 1,
            "routes": [{"name": "ai", "paths": ["/ai"], "plugins": [{"name": "ai-proxy-advanced", "config": config}]}],
        }],
    })
    .to_string()
}

/// A node of that route, which logs to `entries.log` in its folder.
fn serve(config: &Value, settings: &[(&str, &str)]) -> Tollgate {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kong.yml");
    std::fs::write(&path, file(config, &folder.path().join(LOG))).unwrap();
    let mut all = vec![("KONG_DATABASE", "off"), ("KONG_DECLARATIVE_CONFIG", path.to_str().unwrap())];
    all.extend_from_slice(settings);
    Tollgate::start_in(folder, &all)
}

const LOG: &str = "entries.log";

fn say(port: u16, prompt: &str) -> Answer {
    let body = json!({"messages": [
        {"role": "system", "content": "You know all of programming code and cooking food"},
        {"role": "user", "content": prompt},
    ]});
    exchange(port, &json_request("POST", "/ai", Some(&body)))
}

/// Status, and who answers.
fn ask(port: u16, prompt: &str) -> (u16, String) {
    let answer = say(port, prompt);
    (answer.status, answer.header("x-kong-llm-model").unwrap_or_default().to_owned())
}

fn by(model: &str) -> (u16, String) {
    (200, format!("openai/{model}"))
}

/// Embeddings whose three numbers say how much of a text is about code, about food, and about neither. `status` is
/// what they answer with.
fn meanings(status: &Arc<AtomicU16>) -> Upstream {
    let status = Arc::clone(status);
    Upstream::start(move |request: &Received<'_>, stream: &mut TcpStream| {
        let status = status.load(Ordering::SeqCst);
        if status != 200 {
            let body = br#"{"error":{"message":"out of order"}}"#;
            return respond(stream, request.method, &format!("{status} Error"), "application/json", "", body);
        }
        let asked: Value = serde_json::from_slice(request.body).unwrap();
        assert_eq!((&asked["model"], &asked["dimensions"]), (&json!("text-embedding-3-small"), &json!(3)));
        let text = asked["input"].as_str().unwrap().to_lowercase();
        let count = |words: &[&str]| words.iter().filter(|word| text.contains(*word)).count() as f64;
        let vector = [count(&["code", "rust", "program"]), count(&["food", "soup", "cook"]), 0.1];
        let body = json!({
            "object": "list", "data": [{"object": "embedding", "index": 0, "embedding": vector}],
            "usage": {"prompt_tokens": 7, "total_tokens": 7},
        });
        respond(stream, request.method, "200 OK", "application/json", "", body.to_string().as_bytes())
    })
}

fn working() -> Arc<AtomicU16> {
    Arc::new(AtomicU16::new(200))
}

/// The error log of a node, once it says something.
fn says(tollgate: &Tollgate, expected: &str) -> String {
    let mut log = String::new();
    eventually(expected, || {
        log = std::fs::read_to_string(tollgate.folder.path().join("logs/error.log")).unwrap();
        log.contains(expected)
    });
    log
}

/// How often the vector of a text that holds `part` was asked for.
fn asked_for(embeddings: &Upstream, part: &str) -> usize {
    let requests = embeddings.requests.lock().unwrap();
    requests.iter().filter(|request| String::from_utf8_lossy(request).contains(part)).count()
}

/// All of it from the mock: descriptions and prompts are near where they share words.
#[test]
fn the_nearest_description_answers() {
    let mock = Mock::start(&[]);
    let targets = [
        target("coder", mock.port, CODE, &json!({})),
        target("cook", mock.port, FOOD, &json!({})),
        target("other", mock.port, "CATCHALL", &json!({})),
    ];
    let database = json!({"dimensions": 256, "threshold": 0.7});
    let tollgate = serve(&config(&targets, mock.port, &database, &json!({})), &[]);
    for (prompt, model) in [
        ("Is programming code an art?", "coder"),
        ("I like cooking food", "cook"),
        ("Who was Jimi Hendrix?", "other"),
        (CODE, "coder"),
    ] {
        assert_eq!(ask(tollgate.proxy(), prompt), by(model), "{prompt}");
    }
}

/// What the log says of the choice, and whom requests of each form go to.
#[test]
fn requests() {
    let mock = Mock::start(&[]);
    let embeddings = meanings(&working());
    let targets = [
        target("coder", mock.port, CODE, &json!({})),
        target(
            "cook",
            mock.port,
            FOOD,
            &json!({"model": {"provider": "openai", "name": "cook", "model_alias": "chef", "options": {"upstream_url": format!("http://127.0.0.1:{}/v1/chat/completions", mock.port)}}}),
        ),
        target("other", mock.port, "CATCHALL", &json!({})),
    ];
    let tollgate = serve(&config(&targets, embeddings.port, &json!({}), &json!({})), &[]);
    let user = |content: Value| json!({"messages": [{"role": "user", "content": content}]});
    let talk = json!({"messages": [
        {"role": "user", "content": "cook soup"}, {"role": "assistant", "content": "food"},
        {"role": "user", "content": "program in rust"}, {"role": "assistant", "content": "food"},
    ]});
    let mut streamed = user("soup".into());
    streamed["stream"] = true.into();
    let mut aliased = user("rust code".into());
    aliased["model"] = "chef".into();
    for (body, model) in [
        (user("rust".into()), "coder"),
        (
            user(
                json!([{"type": "text", "text": "a soup"}, {"type": "image_url", "image_url": {"url": "http://a/code"}}]),
            ),
            "cook",
        ),
        // What the user said last counts.
        (talk, "coder"),
        (streamed, "cook"),
        (user("".into()), "other"),
        (user("the weather".into()), "other"),
        // The client chooses.
        (aliased, "cook"),
    ] {
        let answer = exchange(tollgate.proxy(), &json_request("POST", "/ai", Some(&body)));
        let answered = answer.header("x-kong-llm-model").unwrap_or_default().to_owned();
        assert_eq!((answer.status, answered), by(model), "{body}: {}", answer.text());
    }
    let answer = say(tollgate.proxy(), "rust");
    let id = answer.header("x-kong-request-id").unwrap();
    let entry = logging::entry(&tollgate.folder.path().join(LOG), |entry| entry["request"]["id"] == id);
    assert!(!entry.to_string().contains("CANARY"), "{entry}");
    let expected = json!({
        "balancer": {
            "vector_db": "embedded", "embeddings_provider": "openai", "embeddings_model": "text-embedding-3-small",
            "embeddings_tokens": 7, "embeddings_latency": "*", "fetch_latency": "*",
        },
        "meta": {"request_model": "coder"},
    });
    cases::matches(&expected, &entry["ai"]["proxy"], "ai.proxy").unwrap();
    // The descriptions once; what has no text, or names its model, not at all.
    assert_eq!((asked_for(&embeddings, CODE), asked_for(&embeddings, FOOD)), (1, 1));
    assert_eq!(asked_for(&embeddings, "CATCHALL"), 0);
    assert!(asked_for(&embeddings, "Bearer CANARY") > 5);
}

/// Clients that speak another format are understood too.
#[test]
fn other_formats() {
    let mock = Mock::start(&[]);
    let embeddings = meanings(&working());
    let targets = [target("coder", mock.port, CODE, &json!({})), target("cook", mock.port, FOOD, &json!({}))];
    let more = json!({"llm_format": "anthropic"});
    let tollgate = serve(&config(&targets, embeddings.port, &json!({}), &more), &[]);
    let body = json!({"max_tokens": 5, "messages": [{"role": "user", "content": [{"type": "text", "text": "cook"}]}]});
    let answer = exchange(tollgate.proxy(), &json_request("POST", "/ai", Some(&body)));
    assert_eq!(answer.header("x-kong-llm-model"), Some("openai/cook"), "{}", answer.text());
    assert_eq!(answer.json()["type"], "message");
}

/// Embeddings of a provider that has an API of its own: here Hugging Face's, at an address without a path.
#[test]
fn embeddings_of_another_format() {
    let mock = Mock::start(&[]);
    let embeddings = Upstream::start(|request: &Received<'_>, stream: &mut TcpStream| {
        assert_eq!(request.path, "/hf-inference/models/BAAI/bge-small-en-v1.5/pipeline/feature-extraction");
        let asked: Value = serde_json::from_slice(request.body).unwrap();
        let is_food = ["food", "soup"].iter().any(|word| asked["inputs"][0].as_str().unwrap().contains(word));
        let body = if is_food { "[[0, 1, 0]]" } else { "[[1, 0, 0]]" };
        respond(stream, request.method, "200 OK", "application/json", "", body.as_bytes())
    });
    let targets = [target("coder", mock.port, CODE, &json!({})), target("cook", mock.port, FOOD, &json!({}))];
    let url = format!("http://127.0.0.1:{}", embeddings.port);
    let model = json!({"provider": "huggingface", "name": "BAAI/bge-small-en-v1.5", "options": {"upstream_url": url}});
    let more = json!({"embeddings": {"model": model}});
    let tollgate = serve(&config(&targets, embeddings.port, &json!({}), &more), &[]);
    assert_eq!(ask(tollgate.proxy(), "soup"), by("cook"));
    assert_eq!(ask(tollgate.proxy(), "rust"), by("coder"));
}

/// Targets of one description share its requests by their weights; where all of them fail, the next nearest answers.
#[test]
fn targets_of_one_description_share_and_the_next_nearest_stands_in() {
    let (mock, broken) = (Mock::start(&[]), Mock::start(&["--status", "500"]));
    let embeddings = meanings(&working());
    let weight = |weight: u32| json!({"weight": weight});
    let targets = [
        target("coder", mock.port, CODE, &weight(75)),
        target("cook", broken.port, FOOD, &weight(2)),
        target("coder-mini", mock.port, CODE, &weight(25)),
        target("other", mock.port, "CATCHALL", &weight(100)),
    ];
    let tollgate = serve(&config(&targets, embeddings.port, &json!({}), &json!({})), &[]);
    let mut counts = BTreeMap::new();
    for _ in 0..40 {
        *counts.entry(ask(tollgate.proxy(), "rust").1).or_insert(0) += 1;
    }
    assert_eq!(counts, BTreeMap::from([("openai/coder".into(), 30), ("openai/coder-mini".into(), 10)]));
    assert_eq!(ask(tollgate.proxy(), "soup"), by("other"));
    // A soup and a bit of code: code is near enough to stand in.
    assert_eq!(ask(tollgate.proxy(), "cook soup in code").1, "openai/coder");
}

/// A prompt that no description is near to, where nobody takes all.
#[test]
fn nothing_is_near_enough() {
    let mock = Mock::start(&[]);
    let embeddings = meanings(&working());
    let targets = [target("coder", mock.port, CODE, &json!({})), target("cook", mock.port, FOOD, &json!({}))];
    let far = serve(&config(&targets, embeddings.port, &json!({}), &json!({})), &[]);
    let answer = say(far.proxy(), "the weather");
    assert_eq!(answer.status, 400);
    let message = "no target can be found under threshold 0.6";
    assert_eq!(answer.json(), json!({"error": {"message": message}}));
    // Without a threshold the nearest is near enough.
    let any = serve(&config(&targets, embeddings.port, &json!({"threshold": null}), &json!({})), &[]);
    assert_eq!(ask(any.proxy(), "the weather").0, 200);
    assert_eq!(ask(any.proxy(), "soup"), by("cook"));
    // By lines: the prompt is as long as what it says.
    let database = json!({"distance_metric": "euclidean", "threshold": 1.1});
    let lines = serve(&config(&targets, embeddings.port, &database, &json!({})), &[]);
    assert_eq!(ask(lines.proxy(), "soup"), by("cook"));
    assert_eq!(ask(lines.proxy(), "weather").0, 400);
}

/// While there are no embeddings requests are answered with an error; afterwards all is well. Only the log says why.
#[test]
fn embeddings_fail_and_come_back() {
    let mock = Mock::start(&[]);
    let status = Arc::new(AtomicU16::new(503));
    let embeddings = meanings(&status);
    let targets =
        [target("coder", mock.port, CODE, &json!({})), target("other", mock.port, "CATCHALL", &json!({}))];
    let config = config(&targets, embeddings.port, &json!({}), &json!({}));
    let tollgate = serve(&config, &[("KONG_PROXY_ERROR_LOG", "logs/error.log")]);
    let failed = |what: &str| {
        (500, json!({"error": {"message": format!("failed to generate embeddings for the {what}")}}))
    };
    let told = |prompt: &str| {
        let answer = say(tollgate.proxy(), prompt);
        (answer.status, answer.json())
    };
    assert_eq!(told("rust"), failed("targets' descriptions"));
    assert_eq!(told("rust"), failed("targets' descriptions"));
    assert_eq!(embeddings.requests.lock().unwrap().len(), 1, "it is not asked again at once");
    status.store(200, Ordering::SeqCst);
    eventually("the descriptions are asked for again", || ask(tollgate.proxy(), "rust") == by("coder"));
    status.store(429, Ordering::SeqCst);
    assert_eq!(told("rust"), failed("prompt"));
    says(&tollgate, "openai's text-embedding-3-small: status code 503");
    let log = says(&tollgate, "openai's text-embedding-3-small: status code 429");
    assert!(!log.contains("CANARY"), "{log}");
}

/// A model whose vectors are of another length than configured.
#[test]
fn vectors_of_another_length_are_told_of() {
    let mock = Mock::start(&[]);
    let embeddings = Upstream::start(|request, stream| {
        let body = br#"{"data":[{"embedding":[1,2]}],"usage":{"prompt_tokens":1}}"#;
        respond(stream, request.method, "200 OK", "application/json", "", body)
    });
    let targets = [target("coder", mock.port, CODE, &json!({}))];
    let config = config(&targets, embeddings.port, &json!({}), &json!({}));
    let tollgate = serve(&config, &[("KONG_PROXY_ERROR_LOG", "logs/error.log")]);
    assert_eq!(ask(tollgate.proxy(), "rust").0, 500);
    let expected = "failed to generate embeddings for the targets' descriptions: the vector has 2 numbers where `vectordb.dimensions` says 3";
    says(&tollgate, expected);
}

/// Descriptions are embedded once, however many requests come at first; and not again after a kill and a restart, or
/// when something else of the plugin changes.
#[test]
fn descriptions_are_embedded_once() {
    let mock = Mock::start(&[]);
    let embeddings = meanings(&working());
    let targets = [target("coder", mock.port, CODE, &json!({})), target("cook", mock.port, FOOD, &json!({}))];
    let mut plugin = json!({"name": "ai-proxy-advanced", "config": config(&targets, embeddings.port, &json!({}), &json!({}))});
    let settings = [("KONG_NGINX_WORKER_PROCESSES", "2")];
    let tollgate = Tollgate::with_store(&settings);
    let post = |path: &str, body: &Value| {
        let (status, answer) = tollgate.admin_call("POST", path, Some(body));
        assert_eq!(status, 201, "{answer}");
        answer
    };
    post("/services", &json!({"name": "s", "host": "localhost", "port": 1}));
    post("/services/s/routes", &json!({"name": "ai", "paths": ["/ai"]}));
    let id = post("/routes/ai/plugins", &plugin)["id"].as_str().unwrap().to_owned();
    let port = tollgate.proxy();
    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..20).map(|_| scope.spawn(|| ask(port, "soup"))).collect();
        asking.into_iter().for_each(|asking| assert_eq!(asking.join().unwrap(), by("cook")));
    });
    let once = || assert_eq!((asked_for(&embeddings, CODE), asked_for(&embeddings, FOOD)), (1, 1));
    once();
    plugin["config"]["targets"][0]["weight"] = 7.into();
    let (status, answer) = tollgate.admin_call("PUT", &format!("/plugins/{id}"), Some(&plugin));
    assert_eq!(status, 200, "{answer}");
    assert_eq!(ask(port, "rust"), by("coder"));
    once();
    // Another target more: its description alone is new.
    let more = target("gardener", mock.port, "Gardens", &json!({}));
    plugin["config"]["targets"].as_array_mut().unwrap().push(more);
    let (status, answer) = tollgate.admin_call("PUT", &format!("/plugins/{id}"), Some(&plugin));
    assert_eq!(status, 200, "{answer}");
    assert_eq!(ask(port, "rust"), by("coder"));
    once();
    assert_eq!(asked_for(&embeddings, "Gardens"), 1);
    let tollgate = Tollgate::start_in(tollgate.kill(), &settings);
    assert_eq!(ask(tollgate.proxy(), "rust"), by("coder"));
    once();
    // A file that is damaged is filled again.
    let folder = tollgate.kill();
    let file = folder.path().join("vectors.log");
    assert!(std::fs::metadata(&file).unwrap().len() > 100);
    std::fs::write(&file, "nonsense").unwrap();
    let tollgate = Tollgate::start_in(folder, &settings);
    assert_eq!(ask(tollgate.proxy(), "rust"), by("coder"));
    assert_eq!((asked_for(&embeddings, CODE), asked_for(&embeddings, FOOD)), (2, 2));
}

/// Two nodes on one Redis, here a stand-in that can search; one that cannot is told of.
#[test]
fn in_redis() {
    let mock = Mock::start(&[]);
    let embeddings = meanings(&working());
    let targets = [target("coder", mock.port, CODE, &json!({})), target("cook", mock.port, FOOD, &json!({}))];
    let node = |redis: u16, settings: &[(&str, &str)]| {
        let database = json!({"strategy": "redis", "redis": {"host": "127.0.0.1", "port": redis}});
        serve(&config(&targets, embeddings.port, &database, &json!({})), settings)
    };
    let redis = SearchingRedis::start();
    let (one, other) = (node(redis.port, &[]), node(redis.port, &[]));
    assert_eq!(ask(one.proxy(), "soup"), by("cook"));
    assert_eq!(ask(other.proxy(), "rust"), by("coder"));
    assert_eq!(
        (asked_for(&embeddings, CODE), asked_for(&embeddings, FOOD)),
        (1, 1),
        "what one has made the other uses"
    );
    redis.flush();
    assert_eq!(ask(one.proxy(), "rust"), by("coder"), "what is gone is made again");
    assert_eq!(asked_for(&embeddings, CODE), 2);

    let plain = Redis::start();
    let tollgate = node(plain.port, &[("KONG_PROXY_ERROR_LOG", "logs/error.log")]);
    assert_eq!(ask(tollgate.proxy(), "rust").0, 500);
    says(&tollgate, "has no search module (RediSearch, or Redis 8)");
}

/// A real Postgres with pgvector; and none at all.
#[test]
fn in_postgres() {
    let mock = Mock::start(&[]);
    let embeddings = meanings(&working());
    let targets = [target("coder", mock.port, CODE, &json!({})), target("cook", mock.port, FOOD, &json!({}))];
    let postgres = Postgres::start();
    let database = json!({
        "strategy": "pgvector", "distance_metric": "euclidean", "threshold": 2,
        "pgvector": {"port": postgres.port, "database": "postgres", "timeout": 20_000},
    });
    let config = config(&targets, embeddings.port, &database, &json!({}));
    let (one, other) = (serve(&config, &[("KONG_NGINX_WORKER_PROCESSES", "2")]), serve(&config, &[]));
    assert_eq!(ask(one.proxy(), "soup"), by("cook"));
    assert_eq!(ask(other.proxy(), "rust"), by("coder"));
    assert_eq!((asked_for(&embeddings, CODE), asked_for(&embeddings, FOOD)), (1, 1));
    drop(postgres);
    let answer = say(one.proxy(), "soup");
    assert_eq!(answer.status, 500);
    assert_eq!(answer.json(), json!({"error": {"message": "failed to search the vector database"}}));
}
