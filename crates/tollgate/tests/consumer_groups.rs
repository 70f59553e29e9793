//! Consumers join groups and leave them, and what is bound to a group runs for who is in it from then on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use common::{Tollgate, exchange};
use serde_json::{Value, json};

/// A change of the configuration, and which limit counts for Ann then.
const STEPS: &str = r#"[
    ["POST", "/consumer_groups/gold/consumers", {"consumer": "ann"}, "20"],
    ["POST", "/consumers/ann/consumer_groups", {"group": "iron"}, "20"],
    ["PATCH", "/consumer_groups/iron", {"name": "aluminium"}, "30"],
    ["PATCH", "/consumer_groups/aluminium", {"name": "tin"}, "20"],
    ["DELETE", "/consumer_groups/gold/consumers/ann", null, "30"],
    ["PUT", "/consumers/ann", {"custom_id": "renamed", "id": "00000000-0000-4000-8000-0000000000b1"}, "30"],
    ["DELETE", "/consumers/ann/consumer_groups", null, "10"],
    ["POST", "/consumer_groups/gold/consumers", {"consumer": ["ann"]}, "20"],
    ["PATCH", "/plugins/limit-of-gold", {"enabled": false}, "10"],
    ["PATCH", "/plugins/limit-of-gold", {"enabled": true}, "20"],
    ["PATCH", "/plugins/limit-of-gold", {"route": {"name": "other"}}, "10"],
    ["PATCH", "/plugins/limit-of-gold", {"route": {"name": "route"}}, "20"],
    ["DELETE", "/consumer_groups/gold", null, "10"]
]"#;

#[test]
fn who_joins_and_leaves_is_limited_as_the_group_from_then_on() {
    let tollgate = Tollgate::with_store(&[]);
    let call = |method: &str, path: &str, body: Value| {
        let body = Some(body).filter(|body| !body.is_null());
        let (status, answer) = tollgate.admin_call(method, path, body.as_ref());
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
    };
    let limit = |year: u64| json!({"name": "rate-limiting", "config": {"year": year, "policy": "local"}});
    let mut of_gold = limit(20);
    of_gold["instance_name"] = "limit-of-gold".into();
    for (path, body) in [
        ("/services", json!({"name": "service", "host": "localhost", "port": 1})),
        ("/services/service/routes", json!({"name": "route", "paths": ["/route"]})),
        ("/services/service/routes", json!({"name": "other", "paths": ["/other"]})),
        ("/consumers", json!({"username": "ann", "id": "00000000-0000-4000-8000-0000000000b1"})),
        ("/consumers/ann/key-auth", json!({"key": "ann"})),
        ("/plugins", json!({"name": "key-auth"})),
        ("/plugins", json!({"name": "request-termination", "config": {"status_code": 200}})),
        ("/plugins", limit(10)),
        ("/consumer_groups", json!({"name": "gold"})),
        ("/consumer_groups", json!({"name": "iron"})),
        ("/consumer_groups/gold/plugins", of_gold),
        ("/consumer_groups/iron/plugins", limit(30)),
    ] {
        call("POST", path, body);
    }
    let counts = || {
        let request = b"GET /route HTTP/1.1\r\nHost: a\r\napikey: ann\r\nConnection: close\r\n\r\n";
        exchange(tollgate.proxy(), request).header("x-ratelimit-limit-year").map(str::to_owned)
    };
    assert_eq!(counts().as_deref(), Some("10"));
    let steps: Vec<Value> = serde_json::from_str(STEPS).unwrap();
    for step in &steps {
        call(step[0].as_str().unwrap(), step[1].as_str().unwrap(), step[2].clone());
        assert_eq!(counts().as_deref(), step[3].as_str(), "after {step}");
    }
}
