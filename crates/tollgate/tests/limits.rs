//! Limits that several nodes share in a Redis.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use common::mock::Mock;
use common::redis::{Redis, free_port};
use common::upstream::Upstream;
use common::{Answer, Answers, Tollgate, connect, eventually, exchange, json_request};
use serde_json::{Value, json};

/// A node with a route `/limited` of this `rate-limiting`.
fn node(upstream: &Upstream, config: &Value) -> Tollgate {
    let plugins = json!([{"name": "rate-limiting", "config": config}]);
    let routes = json!([{
        "name": "limited", "id": "5f9a2a10-0000-4000-8000-000000000001", "paths": ["/limited"], "plugins": plugins,
    }]);
    let service =
        json!({"name": "service", "url": format!("http://127.0.0.1:{}", upstream.port), "routes": routes});
    Tollgate::with_file(&json!({"_format_version": "3.0", "services": [service]}).to_string(), &[])
}

fn ask(tollgate: &Tollgate) -> Answer {
    exchange(tollgate.proxy(), b"GET /limited HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
}

fn log_of(tollgate: &Tollgate) -> String {
    std::fs::read_to_string(tollgate.folder.path().join("logs/error.log")).unwrap_or_default()
}

fn logged(tollgate: &Tollgate, part: &str) {
    eventually(part, || log_of(tollgate).contains(part));
}

#[test]
fn nodes_share_what_is_counted_in_redis() {
    let upstream = Upstream::canned();
    let redis = Redis::with(&["requirepass s3cret"], Some("s3cret"));
    let place = json!({"host": "127.0.0.1", "port": redis.port, "password": "s3cret", "database": 2, "timeout": 15_000});
    let config = json!({"year": 7, "month": 6, "policy": "redis", "limit_by": "ip", "redis": place});
    let nodes = [node(&upstream, &config), node(&upstream, &config)];
    let left: Vec<Value> = (0..8)
        .map(|turn| {
            let answer = ask(&nodes[turn % 2]);
            let number = |name: &str| {
                answer.header(name).map_or(Value::Null, |value| value.parse::<u64>().unwrap().into())
            };
            json!([
                answer.status,
                number("x-ratelimit-remaining-month"),
                number("x-ratelimit-remaining-year"),
                answer.header("retry-after").is_some(),
            ])
        })
        .collect();
    assert_eq!(
        Value::from(left),
        json!([
            [200, 5, 6, false],
            [200, 4, 5, false],
            [200, 3, 4, false],
            [200, 2, 3, false],
            [200, 1, 2, false],
            [200, 0, 1, false],
            [429, 0, 1, true],
            [429, 0, 1, true],
        ])
    );
    // The keys are Kong's, so that nodes of both can share counts.
    let keys = redis.list("SELECT 2\r\nKEYS *");
    let start =
        "ratelimit:5f9a2a10-0000-4000-8000-000000000001:00000000-0000-0000-0000-000000000000:127.0.0.1:";
    let is_key = |end: &str| keys.iter().any(|key| key.starts_with(start) && key.ends_with(end));
    assert!(is_key("000:month") && is_key("000:year"), "{keys:?}");
    for node in &nodes {
        assert!(!log_of(node).contains("s3cret"));
    }
}

#[test]
fn counts_are_reconciled_at_intervals() {
    let upstream = Upstream::canned();
    let redis = Redis::start();
    let place = json!({"host": "127.0.0.1", "port": redis.port, "timeout": 15_000});
    let config = json!({"year": 1000, "policy": "redis", "sync_rate": 0.02, "redis": place});
    let nodes = [node(&upstream, &config), node(&upstream, &config)];
    for _ in 0..10 {
        assert_eq!(ask(&nodes[0]).status, 200);
    }
    eventually("the other node knows", || {
        let left = ask(&nodes[1]).header("x-ratelimit-remaining-year").unwrap().parse::<u64>().unwrap();
        left < 990
    });
    drop(redis);
    assert_eq!(ask(&nodes[0]).status, 200, "what is reconciled later needs no Redis now");
}

/// Kong 3.11: while Redis is away requests pass uncounted, or fail.
#[test]
fn an_outage_is_tolerated_or_not() {
    let upstream = Upstream::canned();
    let port = free_port();
    let config = |tolerant: bool| {
        json!({
            "year": 100, "policy": "redis", "fault_tolerant": tolerant,
            "redis": {"host": "127.0.0.1", "port": port, "timeout": 5000, "password": "s3cret"},
        })
    };
    let (tolerant, strict) = (node(&upstream, &config(true)), node(&upstream, &config(false)));
    let answer = ask(&tolerant);
    assert_eq!((answer.status, answer.header("x-ratelimit-remaining-year")), (200, None));
    let answer = ask(&strict);
    assert_eq!(answer.status, 500);
    assert_eq!(answer.json()["message"], "An unexpected error occurred");
    for node in [&tolerant, &strict] {
        logged(node, &format!("Redis at 127.0.0.1:{port} cannot be reached"));
        assert!(!log_of(node).contains("s3cret"));
    }
    let redis = Redis::on(port, Some("s3cret"));
    for node in [&tolerant, &strict] {
        eventually("requests are counted again", || ask(node).header("x-ratelimit-remaining-year").is_some());
    }
    drop(redis);
    let redis = Redis::on(port, Some("s3cret"));
    let answer = ask(&strict);
    let left = answer.header("x-ratelimit-remaining-year");
    assert_eq!((answer.status, left), (200, Some("99")), "a connection that is gone is replaced");
    drop(redis);
    assert_eq!((ask(&tolerant).status, ask(&strict).status), (200, 500));
}

/// A server that accepts connections and says nothing delays one request by its timeout, and no others.
#[test]
fn a_redis_that_never_answers_holds_nobody_up() {
    let upstream = Upstream::canned();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = json!({"host": "127.0.0.1", "port": silent.local_addr().unwrap().port(), "timeout": 900});
    let tolerant = node(&upstream, &json!({"year": 1, "policy": "redis", "redis": place}));
    let started = Instant::now();
    let answers: Vec<u16> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..20).map(|_| scope.spawn(|| ask(&tolerant).status)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(answers, [200; 20]);
    // One after the other they would have waited for 18 s.
    assert!(started.elapsed().as_secs() < 9, "{:?}", started.elapsed());
    logged(&tolerant, "did not answer within 900 ms");
}

/// Tokens that a call of [`Upstream::canned`] uses.
const TOKENS: usize = 29;

/// A node with a route `/llm` to OpenAI's API at this port, with this `ai-rate-limiting-advanced`.
fn llm_node(upstream: u16, config: &Value, settings: &[(&str, &str)]) -> Tollgate {
    let options = json!({
        "upstream_url": format!("http://127.0.0.1:{upstream}/v1/chat/completions"),
        "input_cost": 10000, "output_cost": 1000,
    });
    let model = json!({"provider": "openai", "name": "gpt", "options": options});
    let plugins = json!([
        {"name": "ai-proxy", "config": {"route_type": "llm/v1/chat", "model": model, "logging": {"log_statistics": true}}},
        {"name": "ai-rate-limiting-advanced", "config": config},
    ]);
    let file = json!({
        "_format_version": "3.0",
        "services": [{"name": "llm", "url": "http://127.0.0.1:1", "routes": [
            {"name": "llm", "paths": ["/llm"], "plugins": plugins},
        ]}],
    });
    Tollgate::with_file(&file.to_string(), settings)
}

/// Limits of so many tokens in a very long window, counted in this Redis.
fn limited(limit: f64, mut redis: Value) -> Value {
    // On a busy machine an answer may take its time.
    redis["timeout"] = 15_000.into();
    let limits = json!([{"name": "openai", "limit": [limit], "window_size": [10_000_000]}]);
    json!({"llm_providers": limits, "namespace": "shared", "strategy": "redis", "sync_rate": 0, "redis": redis})
}

fn chat() -> Value {
    json!({"messages": [{"role": "user", "content": "Hi"}]})
}

fn ask_llm(tollgate: &Tollgate) -> Answer {
    exchange(tollgate.proxy(), &json_request("POST", "/llm", Some(&chat())))
}

fn remaining(answer: &Answer) -> f64 {
    answer.header("x-ai-ratelimit-remaining-10000000-openai").unwrap().parse().unwrap()
}

/// What Redis counts in the one window there is.
fn counted(redis: &Redis) -> f64 {
    let keys = redis.list("KEYS {shared}:*");
    keys.first().map_or(0.0, |key| redis.list(&format!("GET {key}"))[0].parse().unwrap())
}

/// Over 10,000 calls, 64 at a time, two nodes together pass a limit by less than one call: each reserves what calls
/// use, which is always the same here.
#[test]
fn a_limit_of_tokens_holds_over_nodes_and_calls_at_once() {
    const CALLS: usize = 10_000;
    const AT_ONCE: usize = 64;
    const LIMIT: usize = 50_000;
    let upstream = Upstream::canned();
    let redis = Redis::start();
    let config = limited(LIMIT as f64, json!({"host": "127.0.0.1", "port": redis.port}));
    let node = || llm_node(upstream.port, &config, &[("KONG_NGINX_WORKER_PROCESSES", "2")]);
    let nodes = [node(), node()];
    let request = json_request("POST", "/llm", Some(&chat()));
    let request = String::from_utf8(request).unwrap().replace("Connection: close\r\n", "");
    let (begun, passed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for number in 0..AT_ONCE {
            let (nodes, request, begun, passed) = (&nodes, &request, &begun, &passed);
            scope.spawn(move || {
                let mut stream = connect(nodes[number % 2].proxy());
                while begun.fetch_add(1, Ordering::Relaxed) < CALLS {
                    stream.write_all(request.as_bytes()).unwrap();
                    let answer = Answers::new(&mut stream).next(false);
                    assert!([200, 429].contains(&answer.status), "{answer:?}");
                    passed.fetch_add(usize::from(answer.status == 200), Ordering::Relaxed);
                }
            });
        }
    });
    let used = passed.load(Ordering::Relaxed) * TOKENS;
    assert!((LIMIT..LIMIT + TOKENS).contains(&used), "{used} tokens were used of {LIMIT}");
    eventually("every reservation is settled", || counted(&redis) == used as f64);
}

#[test]
fn nodes_learn_what_others_used_at_intervals() {
    let upstream = Upstream::canned();
    let redis = Redis::start();
    let mut config = limited(1000.0, json!({"host": "127.0.0.1", "port": redis.port}));
    config["sync_rate"] = json!(0.02);
    let nodes = [llm_node(upstream.port, &config, &[]), llm_node(upstream.port, &config, &[])];
    for _ in 0..3 {
        assert_eq!(ask_llm(&nodes[0]).status, 200);
    }
    eventually("Redis is told", || counted(&redis) == (3 * TOKENS) as f64);
    eventually("the other node knows", || remaining(&ask_llm(&nodes[1])) <= 1000.0 - (3 * TOKENS) as f64);
}

/// While Redis is away a node counts for itself; what it counted is told when Redis is there again.
#[test]
fn an_outage_is_bridged() {
    let upstream = Upstream::canned();
    let port = free_port();
    let tollgate = llm_node(upstream.port, &limited(1000.0, json!({"host": "127.0.0.1", "port": port})), &[]);
    assert_eq!(remaining(&ask_llm(&tollgate)), 1000.0);
    eventually("what was used is known", || remaining(&ask_llm(&tollgate)) < 1000.0);
    logged(&tollgate, "only this node is counted: Redis at");
    let redis = Redis::on(port, None);
    eventually("what was used meanwhile is told", || {
        ask_llm(&tollgate);
        counted(&redis) > (2 * TOKENS) as f64
    });
}

/// A call costs 0.2 here.
#[test]
fn costs_are_rounded_up_unless_fractions_are_kept() {
    let upstream = Upstream::canned();
    let redis = Redis::start();
    let place = json!({"host": "127.0.0.1", "port": redis.port});
    for (fractions, cost) in [(false, 1.0), (true, 0.2)] {
        let mut config = limited(10.0, place.clone());
        config["tokens_count_strategy"] = "cost".into();
        config["decrease_by_fractions_in_redis"] = fractions.into();
        let tollgate = llm_node(upstream.port, &config, &[]);
        redis.ask("FLUSHALL");
        assert_eq!(ask_llm(&tollgate).status, 200);
        eventually("the call is counted", || counted(&redis) == cost);
    }
}

/// What a client that leaves has had of its answer counts.
#[test]
fn a_client_that_leaves_has_used_what_it_got() {
    let mock = Mock::start(&[]);
    let limits = json!([{"name": "openai", "limit": [1000], "window_size": [10_000_000]}]);
    let tollgate = llm_node(mock.port, &json!({"llm_providers": limits}), &[]);
    let body = json!({"stream": true, "messages": [{"role": "user", "content": "Tell me a long story"}]})
        .to_string();
    let head = format!(
        "POST /llm HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nx-mock-chunk-delay-ms: 200\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = connect(tollgate.proxy());
    stream.write_all(head.as_bytes()).unwrap();
    let mut received = Vec::new();
    while !String::from_utf8_lossy(&received).contains("content\":\"") {
        let mut buffer = [0; 4096];
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "{}", String::from_utf8_lossy(&received));
        received.extend_from_slice(&buffer[..count]);
    }
    drop(stream);
    // Whoever looks uses something too, but fails here: the mock is told to.
    let look = "POST /llm HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}";
    let mut left = 1000.0;
    eventually("what was got counts, and no reservation any more", || {
        let before = left;
        left = remaining(&exchange(tollgate.proxy(), look.as_bytes()));
        left < 1000.0 && left == before
    });
    assert!((900.0..1000.0).contains(&left), "{left}");
}

/// Asks with a header `x-count` of this value; the status, what the request counted and what it left.
fn ask_counted(tollgate: &Tollgate, count: &str) -> (u16, Option<String>, Option<String>) {
    let head = format!("POST /llm HTTP/1.1\r\nx-count: {count}\r\n");
    let request = String::from_utf8(json_request("POST", "/llm", Some(&chat()))).unwrap();
    let answer = exchange(tollgate.proxy(), request.replacen("POST /llm HTTP/1.1\r\n", &head, 1).as_bytes());
    let header = |name: &str| answer.header(name).map(str::to_owned);
    assert_eq!(
        header("x-ai-ratelimit-query-cost"),
        header("x-ai-ratelimit-query-cost-10000000-requestprompt"),
        "{answer:?}"
    );
    let left = header("x-ai-ratelimit-remaining-10000000-requestprompt");
    (answer.status, header("x-ai-ratelimit-query-cost"), left)
}

/// Kong's documentation: the function is called before the request is sent, and its number counts at once.
#[test]
fn requests_are_counted_by_lua() {
    let count =
        "local count = tonumber(kong.request.get_header('x-count')) if count then return count end return 0";
    let limits = json!([{"name": "requestPrompt", "limit": [100], "window_size": [10_000_000]}]);
    let mut config =
        json!({"llm_providers": limits, "window_type": "fixed", "request_prompt_count_function": count});
    let upstream = Upstream::canned();
    let text = |text: &str| Some(text.to_owned());
    let tollgate = llm_node(upstream.port, &config, &[]);
    for (count, expected) in [
        ("60", (200, text("60"), text("40"))),
        ("none", (200, text("0"), text("40"))),
        ("1.5", (200, text("1.5"), text("38.5"))),
        // It is refused, and counts all the same.
        ("39", (429, text("39"), text("0"))),
        ("1", (429, text("1"), text("0"))),
    ] {
        assert_eq!(ask_counted(&tollgate, count), expected, "{count}");
    }
    let refused = ask_llm(&tollgate);
    assert_eq!(refused.json()["message"], "AI token rate limit exceeded for provider(s): requestPrompt");
    assert_eq!(upstream.requests.lock().unwrap().len(), 3, "what is refused is not sent");

    config["window_type"] = "sliding".into();
    config["disable_penalty"] = true.into();
    let tollgate = llm_node(upstream.port, &config, &[]);
    for (count, expected) in [("60", (200, "40")), ("60", (429, "40")), ("40", (200, "0")), ("0", (200, "0"))]
    {
        let (status, _, left) = ask_counted(&tollgate, count);
        assert_eq!((status, left.as_deref()), (expected.0, Some(expected.1)), "{count}");
    }
    let redis = Redis::start();
    config["strategy"] = "redis".into();
    config["namespace"] = "shared".into();
    config["sync_rate"] = 0.into();
    config["redis"] = json!({"host": "127.0.0.1", "port": redis.port, "timeout": 15_000});
    let nodes = [llm_node(upstream.port, &config, &[]), llm_node(upstream.port, &config, &[])];
    assert_eq!(ask_counted(&nodes[0], "70").0, 200);
    assert_eq!((ask_counted(&nodes[1], "31").0, ask_counted(&nodes[1], "30").0), (429, 200));
    assert_eq!(counted(&redis), 100.0);
}

#[test]
fn a_count_may_be_of_the_body() {
    let count = "local words = 0
        for _, message in ipairs(kong.request.get_body().messages) do
          for _ in message.content:gmatch('%S+') do words = words + 1 end
        end
        return words + #kong.request.get_raw_body() / 1000";
    let limits = json!([{"name": "requestPrompt", "limit": [100], "window_size": [10_000_000]}]);
    let config = json!({"llm_providers": limits, "request_prompt_count_function": count});
    let upstream = Upstream::canned();
    let tollgate = llm_node(upstream.port, &config, &[]);
    let body = json!({"messages": [{"role": "user", "content": "one two  three"}, {"role": "user", "content": "four"}]});
    let answer = exchange(tollgate.proxy(), &json_request("POST", "/llm", Some(&body)));
    let expected = (4.0 + body.to_string().len() as f64 / 1000.0).to_string();
    assert_eq!((answer.status, answer.header("x-ai-ratelimit-query-cost")), (200, Some(expected.as_str())));
    let sent = String::from_utf8(upstream.requests.lock().unwrap()[0].clone()).unwrap();
    assert!(sent.contains("one two  three"), "the body is sent on: {sent}");
}

/// Kong 3.11: without a number the request is refused, and the error log tells why; but no secret.
#[test]
fn a_function_that_fails_is_told() {
    let upstream = Upstream::canned();
    let limits = json!([{"name": "requestPrompt", "limit": [100], "window_size": [60]}]);
    let failed = "Error executing request prompt count function";
    for (function, said, logged_as) in [
        (
            "return '1'",
            "Bad return value from the request prompt count function",
            "expected number type, got string",
        ),
        (
            "return",
            "Bad return value from the request prompt count function",
            "expected number type, got nil",
        ),
        ("error('mine')", failed, "function: [string \"error('mine')\"]:1: mine"),
        ("while true do end", failed, "it ran for more than"),
        ("local s = 'x' while true do s = s .. s end", failed, "MB of memory"),
        ("return io.open('/etc/passwd')", failed, "attempt to index global 'io' (a nil value)"),
        ("error(kong.request.get_header('apikey'))", failed, "it raised an error, which is not shown"),
        (
            "kong.log.err(kong.request.get_header('apikey')) return 'x'",
            "Bad return value from the request prompt count function",
            "[lua] (not shown, as the snippet has read a secret)",
        ),
    ] {
        let config = json!({"llm_providers": limits, "request_prompt_count_function": function});
        let tollgate = llm_node(upstream.port, &config, &[]);
        let request = String::from_utf8(json_request("POST", "/llm", Some(&chat()))).unwrap();
        let request = request.replacen("HTTP/1.1\r\n", "HTTP/1.1\r\napikey: CANARY\r\n", 1);
        let answer = exchange(tollgate.proxy(), request.as_bytes());
        assert_eq!((answer.status, &answer.json()["message"]), (500, &json!(said)), "{function}");
        logged(&tollgate, logged_as);
        assert!(!log_of(&tollgate).contains("CANARY"), "{}", log_of(&tollgate));
    }
    assert!(upstream.requests.lock().unwrap().is_empty());
}

/// As Kong's own tests price calls: by what the log says of them, from the next request on.
#[test]
fn calls_are_priced_by_lua() {
    let price = "local usage = kong.log.serialize().ai.proxy.usage
        return usage.prompt_tokens + 10 * usage.completion_tokens";
    let limits = json!([{"name": "customCost", "limit": [1000], "window_size": [10_000_000]}]);
    let upstream = Upstream::canned();
    let config = |price: &str| json!({"llm_providers": limits, "window_type": "fixed", "custom_cost_count_function": price});
    let left = |answer: &Answer| {
        answer.header("x-ai-ratelimit-remaining-10000000-customcost").unwrap().parse::<f64>().unwrap()
    };
    let tollgate = llm_node(upstream.port, &config(price), &[]);
    assert_eq!(left(&ask_llm(&tollgate)), 1000.0);
    let mut least = 1000.0;
    eventually("the call is priced", || {
        least = left(&ask_llm(&tollgate));
        least < 1000.0
    });
    // 19 tokens of the prompt, and 10 of the answer, each ten times as dear.
    assert_eq!((1000.0 - least) % 119.0, 0.0, "{least}");
    let tollgate = llm_node(upstream.port, &config("return nothing.at.all"), &[]);
    assert_eq!(ask_llm(&tollgate).status, 200);
    logged(
        &tollgate,
        "custom_cost_count_function: [string \"return nothing.at.all\"]:1: attempt to index global 'nothing'",
    );
}

/// A cluster of one node.
fn ready_cluster(lines: &[&str]) -> Redis {
    let bus = format!("cluster-port {}", free_port());
    let cluster = Redis::with(&[lines, &["cluster-enabled yes", &bus]].concat(), None);
    assert!(cluster.ask("CLUSTER ADDSLOTSRANGE 0 16383").starts_with("+OK"));
    eventually("the cluster is ready", || cluster.ask("CLUSTER INFO").contains("cluster_state:ok"));
    cluster
}

/// What was reserved for a client that left while Redis was asked is given back.
#[test]
fn a_client_that_leaves_early_leaves_no_reservation() {
    let upstream = Upstream::canned();
    let redis = Redis::start();
    let place = json!({"host": "127.0.0.1", "port": redis.port});
    let tollgate = llm_node(upstream.port, &limited(1000.0, place), &[]);
    assert_eq!(ask_llm(&tollgate).status, 200);
    eventually("the call is counted", || counted(&redis) == TOKENS as f64);
    let calls = || {
        let statistics = redis.ask("INFO commandstats");
        let calls = statistics.split("cmdstat_evalsha:calls=").nth(1).unwrap();
        calls.split(',').next().unwrap().parse::<u64>().unwrap()
    };
    let before = calls();
    assert!(redis.ask("CLIENT PAUSE 500 ALL").starts_with("+OK"));
    let mut stream = connect(tollgate.proxy());
    stream.write_all(&json_request("POST", "/llm", Some(&chat()))).unwrap();
    drop(stream);
    eventually("it was reserved and given back", || calls() == before + 2);
    assert_eq!(counted(&redis), TOKENS as f64);
    assert_eq!(upstream.requests.lock().unwrap().len(), 1);
}

#[test]
fn sentinels_a_cluster_and_tls() {
    let upstream = Upstream::canned();
    let counts = |name: &str, redis: &Redis, place: Value| {
        let tollgate = llm_node(upstream.port, &limited(1000.0, place), &[]);
        assert_eq!(ask_llm(&tollgate).status, 200);
        eventually(name, || counted(redis) == TOKENS as f64);
        assert!(!log_of(&tollgate).contains("[error]"), "{name}: {}", log_of(&tollgate));
    };

    let master = Redis::with(&["requirepass s3cret"], Some("s3cret"));
    let monitor = format!("sentinel monitor main 127.0.0.1 {} 1", master.port);
    let sentinel = Redis::with(&[&monitor, "sentinel auth-pass main s3cret"], None);
    let place = json!({
        "sentinel_master": "main", "sentinel_role": "master", "password": "s3cret",
        "sentinel_nodes": [{"host": "127.0.0.1", "port": free_port()}, {"host": "127.0.0.1", "port": sentinel.port}],
    });
    counts("sentinels name the master", &master, place);

    let cluster = ready_cluster(&[]);
    let place = json!({"cluster_nodes": [{"ip": "127.0.0.1", "port": cluster.port}]});
    counts("a cluster", &cluster, place);

    let files = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["redis.test".to_owned()]).unwrap();
    let path = |name: &str| files.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("certificate.pem"), made.cert.pem()).unwrap();
    std::fs::write(path("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let port = free_port();
    let lines = [
        format!("tls-port {port}"),
        format!("tls-cert-file {}", path("certificate.pem")),
        format!("tls-key-file {}", path("key.pem")),
        format!("tls-ca-cert-file {}", path("certificate.pem")),
        "tls-auth-clients no".to_owned(),
    ];
    let over_tls = Redis::with(&lines.each_ref().map(String::as_str), None);
    let place = json!({"host": "127.0.0.1", "port": port, "ssl": true, "server_name": "redis.test"});
    counts("TLS", &over_tls, place.clone());
    let mut checked = place;
    checked["ssl_verify"] = true.into();
    let tollgate = llm_node(upstream.port, &limited(1000.0, checked), &[]);
    assert_eq!(ask_llm(&tollgate).status, 200);
    logged(&tollgate, "certificate");
    assert_eq!(counted(&over_tls), TOKENS as f64, "nobody counts in a Redis that is not who it should be");
    drop(over_tls);

    let lines = lines.iter().map(String::as_str).chain(["tls-cluster yes"]);
    let cluster = ready_cluster(&lines.collect::<Vec<_>>());
    let nodes = json!([{"ip": "127.0.0.1", "port": port}]);
    counts("a cluster over TLS", &cluster, json!({"cluster_nodes": nodes, "ssl": true}));
}
