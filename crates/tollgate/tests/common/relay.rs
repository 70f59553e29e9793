//! A relay in front of an Admin API that records calls and hides that the server is a Tollgate, so that it
//! looks like a Kong.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::Value;

/// A call: method, path and body.
pub type Call = (String, String, Value);

/// A running relay; it ends with the process.
pub struct Relay {
    /// Where it listens.
    pub port: u16,
    /// What came through.
    pub calls: Arc<Mutex<Vec<Call>>>,
}

impl Relay {
    /// Relays to the port; a call that `refuse` names (method and start of the path) is answered with 409.
    pub fn start(to: u16, refuse: Option<(&'static str, &'static str)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let calls: Arc<Mutex<Vec<Call>>> = Arc::default();
        let seen = Arc::clone(&calls);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let seen = Arc::clone(&seen);
                std::thread::spawn(move || relay(stream, to, refuse, &seen));
            }
        });
        Self { port, calls }
    }

    /// The calls that change something.
    pub fn writes(&self) -> Vec<Call> {
        self.calls.lock().unwrap().iter().filter(|(method, ..)| method != "GET").cloned().collect()
    }
}

fn relay(mut stream: TcpStream, to: u16, refuse: Option<(&str, &str)>, seen: &Mutex<Vec<Call>>) {
    let mut received = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        let head_end = loop {
            if let Some(end) = super::find(&received, b"\r\n\r\n") {
                break end + 4;
            }
            match stream.read(&mut buffer) {
                Ok(count @ 1..) => received.extend_from_slice(&buffer[..count]),
                _ => return,
            }
        };
        let head = String::from_utf8_lossy(&received[..head_end]).to_lowercase();
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
        let length: usize = length.unwrap_or(0);
        while received.len() < head_end + length {
            match stream.read(&mut buffer) {
                Ok(count @ 1..) => received.extend_from_slice(&buffer[..count]),
                _ => return,
            }
        }
        let rest = received.split_off(head_end + length);
        let request = std::mem::replace(&mut received, rest);
        let line = String::from_utf8_lossy(&request[..head_end]).into_owned();
        let mut words = line.split(' ').map(str::to_owned);
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        let body = serde_json::from_slice(&request[head_end..]).unwrap_or(Value::Null);
        seen.lock().unwrap().push((method.clone(), path.clone(), body));
        let refused = refuse.is_some_and(|(other, start)| method == other && path.starts_with(start));
        let (status, body) = if refused {
            (
                409,
                r#"{"message":"UNIQUE violation detected on '{name=\"x\"}'","code":5,"fields":{"name":"x"}}"#
                    .to_owned(),
            )
        } else {
            let answer = super::exchange(to, &request);
            let mut value = serde_json::from_slice::<Value>(&answer.body).unwrap_or(Value::Null);
            if let Some(fields) = value.as_object_mut() {
                fields.remove("tollgate");
            }
            (answer.status, if answer.body.is_empty() { String::new() } else { value.to_string() })
        };
        let length =
            if status == 204 { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let answer = format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n{length}\r\n{body}");
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}
