//! Changes of the configuration under load: each is served by the time its commit is answered, and no request
//! that does not concern it is lost.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use common::upstream::Upstream;
use common::{Answer, Tollgate, connect, json_request, read_answer};
use serde_json::{Value, json};

/// A connection that is kept, and opened anew where the node ends it after an answer.
struct Client {
    port: u16,
    stream: TcpStream,
}

impl Client {
    fn new(port: u16) -> Self {
        Self { port, stream: connect(port) }
    }

    fn send(&mut self, request: &[u8]) -> Answer {
        self.stream.write_all(request).unwrap();
        let answer = read_answer(&mut self.stream, false);
        if answer.header("connection") == Some("close") {
            self.stream = connect(self.port);
        }
        answer
    }

    fn get(&mut self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n").as_bytes())
    }

    fn call(&mut self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let request = String::from_utf8(json_request(method, path, body)).unwrap();
        let answer = self.send(request.replace("Connection: close\r\n", "").as_bytes());
        assert!((200..300).contains(&answer.status), "{method} {path}: {} {}", answer.status, answer.text());
        serde_json::from_slice(&answer.body).unwrap_or(Value::Null)
    }
}

/// Ends the load when dropped, so also where a change fails.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_thousand_changes_lose_no_request() {
    let upstream = Upstream::echo();
    let tollgate = Tollgate::with_store(&[("KONG_NGINX_WORKER_PROCESSES", "2")]);
    let mut admin = Client::new(tollgate.admin());
    let address = format!("127.0.0.1:{}", upstream.port);
    admin.call("PUT", "/upstreams/balanced", Some(&json!({})));
    admin.call("POST", "/upstreams/balanced/targets", Some(&json!({"target": address})));
    for (name, host) in [("direct", "127.0.0.1"), ("balanced", "balanced")] {
        let service = json!({"host": host, "port": upstream.port});
        admin.call("PUT", &format!("/services/{name}"), Some(&service));
        let route = json!({"name": name, "service": {"name": name}, "paths": [format!("/{name}")]});
        admin.call("POST", "/routes", Some(&route));
    }

    let (done, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let (tollgate, done, answered) = (&tollgate, &done, &answered);
            scope.spawn(move || {
                let mut client = Client::new(tollgate.proxy());
                for number in 0.. {
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                    let path = if number % 2 == 0 { "/direct" } else { "/balanced" };
                    if number % 50 == 49 {
                        client = Client::new(tollgate.proxy());
                    }
                    let answer = client.get(&format!("{path}/{thread}/{number}"));
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    assert!(answer.text().starts_with(&format!("GET /{thread}/{number} HTTP/1.1\r\n")));
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let _ends_the_load = Done(&done);
        change(&mut admin, &tollgate, &address);
    });
    let answered = answered.load(Ordering::Relaxed);
    assert!(answered > 1000, "only {answered} requests were answered");
}

/// A thousand changes of every kind, each seen by the next request.
fn change(admin: &mut Client, tollgate: &Tollgate, address: &str) {
    let mut proxy = Client::new(tollgate.proxy());
    for round in 0..125 {
        let path = format!("/new-{round}");
        let route = json!({"name": format!("new-{round}"), "service": {"name": "direct"}, "paths": [path]});
        admin.call("POST", "/routes", Some(&route));
        assert_eq!(proxy.get(&path).status, 200, "{path} is not there");

        let asks_a_key = json!({"name": "key-auth"});
        let plugin = admin.call("POST", &format!("/routes/new-{round}/plugins"), Some(&asks_a_key));
        assert_eq!(proxy.get(&path).status, 401, "the plugin of {path} does not run");

        admin.call("DELETE", &format!("/plugins/{}", plugin["id"].as_str().unwrap()), None);
        assert_eq!(proxy.get(&path).status, 200, "the plugin of {path} still runs");

        let moved = json!({"paths": [format!("/moved-{round}")]});
        admin.call("PATCH", &format!("/routes/new-{round}"), Some(&moved));
        assert_eq!((proxy.get(&path).status, proxy.get(&format!("/moved-{round}")).status), (404, 200));

        admin.call("DELETE", &format!("/routes/new-{round}"), None);
        assert_eq!(proxy.get(&format!("/moved-{round}")).status, 404);

        let weight = json!({"target": address, "weight": 1 + round});
        admin.call("PUT", &format!("/upstreams/balanced/targets/{address}"), Some(&weight));
        let consumer = format!("/consumers/user-{round}");
        admin.call("PUT", &consumer, Some(&json!({})));
        admin.call("POST", &format!("{consumer}/key-auth"), Some(&json!({"key": format!("key-{round}")})));
    }
}
