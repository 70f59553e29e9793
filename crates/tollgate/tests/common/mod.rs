//! What the whole-binary tests share: the binary on ephemeral ports, upstreams, and raw HTTP exchanges.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

pub mod cases;
pub mod logging;
pub mod mock;
pub mod redis;
pub mod relay;
pub mod upstream;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A running Tollgate. Stopped, and its folder removed, when dropped.
pub struct Tollgate {
    process: Child,
    /// Ports by listener: `proxy`, `proxy_tls`, `admin`, `status`.
    ports: HashMap<String, u16>,
    /// Its prefix.
    pub folder: TempDir,
}

impl Tollgate {
    /// Starts with a declarative file and no database.
    pub fn with_file(content: &str, settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("kong.yml");
        std::fs::write(&file, content).unwrap();
        let mut all = vec![("KONG_DATABASE", "off"), ("KONG_DECLARATIVE_CONFIG", file.to_str().unwrap())];
        all.extend_from_slice(settings);
        Self::start_in(folder, &all)
    }

    /// Starts with an empty embedded store.
    pub fn with_store(settings: &[(&str, &str)]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), settings)
    }

    /// Starts in a folder that may hold a store already.
    pub fn start_in(folder: TempDir, settings: &[(&str, &str)]) -> Self {
        let mut process =
            Self::command(folder.path(), settings).arg("start").stdout(Stdio::piped()).spawn().unwrap();
        let ports = read_ports(&mut process);
        Self { process, ports, folder }
    }

    /// The binary with ephemeral ports and nothing of the caller's environment that could change its ways.
    pub fn command(prefix: &Path, settings: &[(&str, &str)]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        for (name, _) in std::env::vars() {
            let starts =
                ["KONG_", "TOLLGATE_", "DECK_", "AWS_", "AZURE_", "IDENTITY_", "GCP_", "GCE_", "GOOGLE_"];
            if starts.iter().any(|start| name.starts_with(start)) {
                command.env_remove(name);
            }
        }
        command
            .env("HOME", prefix)
            .env("TMPDIR", prefix)
            .env("KONG_PREFIX", prefix)
            .env("KONG_PROXY_LISTEN", "127.0.0.1:0, 127.0.0.1:0 http2 ssl")
            .env("KONG_ADMIN_LISTEN", "127.0.0.1:0")
            .env("KONG_STATUS_LISTEN", "127.0.0.1:0")
            .env("KONG_ADMIN_GUI_LISTEN", "off")
            .env("KONG_NGINX_WORKER_PROCESSES", "1")
            .env("KONG_PROXY_ACCESS_LOG", "off")
            .envs(settings.iter().copied());
        command
    }

    /// Port of the plain proxy listener.
    pub fn proxy(&self) -> u16 {
        self.ports["proxy"]
    }

    /// Port of a listener.
    pub fn port(&self, listener: &str) -> u16 {
        self.ports[listener]
    }

    /// Port of the Admin API.
    pub fn admin(&self) -> u16 {
        self.ports["admin"]
    }

    /// Process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Kills it with SIGKILL and gives its folder back.
    pub fn kill(mut self) -> TempDir {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap())
    }

    /// An Admin API call with a JSON body; the status and the body.
    pub fn admin_call(
        &self,
        method: &str,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> (u16, serde_json::Value) {
        let answer = exchange(self.admin(), &json_request(method, path, body));
        let value = serde_json::from_slice(&answer.body).unwrap_or(serde_json::Value::Null);
        (answer.status, value)
    }
}

impl Drop for Tollgate {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Reads `listening: <listener> <address>` lines until the last one (`ready`).
fn read_ports(process: &mut Child) -> HashMap<String, u16> {
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let mut ports = HashMap::new();
    loop {
        let Some(Ok(line)) = lines.next() else { panic!("tollgate ended before it was ready") };
        if let Some(rest) = line.strip_prefix("listening: ") {
            let (listener, address) = rest.split_once(' ').unwrap();
            ports.insert(listener.to_owned(), address.rsplit_once(':').unwrap().1.parse().unwrap());
        }
        if line.ends_with("started") {
            // Keep reading, or the server would block on a full pipe.
            std::thread::spawn(move || lines.for_each(drop));
            return ports;
        }
    }
}

/// A response, read whole.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case, in order.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// First value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

/// A request with a JSON body.
pub fn json_request(method: &str, path: &str, body: Option<&serde_json::Value>) -> Vec<u8> {
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{kind}Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len()).into_bytes()
}

/// Sends bytes on a new connection and reads one answer.
pub fn exchange(port: u16, request: &[u8]) -> Answer {
    let mut stream = connect(port);
    stream.write_all(request).unwrap();
    read_answer(&mut stream, request.starts_with(b"HEAD"))
}

/// A connection to a port of the loopback that gives up after 20 s.
pub fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Reads one answer from a stream.
pub fn read_answer(stream: &mut impl Read, to_head: bool) -> Answer {
    Answers::new(stream).next(to_head)
}

/// Reads answers from a stream, one after the other.
pub struct Answers<'a, S> {
    stream: &'a mut S,
    received: Vec<u8>,
}

impl<'a, S: Read> Answers<'a, S> {
    /// A reader at the beginning of an answer.
    pub fn new(stream: &'a mut S) -> Self {
        Self { stream, received: Vec::new() }
    }

    /// Whether the stream ends here.
    pub fn is_closed(&mut self) -> bool {
        self.received.is_empty() && !self.more()
    }

    /// The next answer; interim ones are skipped.
    pub fn next(&mut self, to_head: bool) -> Answer {
        let head_end = loop {
            if let Some(end) = find(&self.received, b"\r\n\r\n") {
                if self.received.starts_with(b"HTTP/1.1 100") {
                    self.received.drain(..end + 4);
                    continue;
                }
                break end;
            }
            assert!(
                self.more(),
                "the connection closed before an answer: {:?}",
                String::from_utf8_lossy(&self.received)
            );
        };
        let head = String::from_utf8_lossy(&self.received[..head_end]).into_owned();
        self.received.drain(..head_end + 4);
        let mut lines = head.split("\r\n");
        let status =
            lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok()).unwrap();
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut answer = Answer { status, headers, body: Vec::new() };
        if !to_head && !matches!(status, 101 | 204 | 304) {
            answer.body = self.body(&answer);
        }
        answer
    }

    fn body(&mut self, answer: &Answer) -> Vec<u8> {
        if answer.header("transfer-encoding") == Some("chunked") {
            return self.chunks();
        }
        if let Some(length) = answer.header("content-length").map(|length| length.parse::<usize>().unwrap()) {
            while self.received.len() < length {
                assert!(self.more(), "the connection closed inside a body");
            }
            return self.received.drain(..length).collect();
        }
        while self.more() {}
        std::mem::take(&mut self.received)
    }

    fn chunks(&mut self) -> Vec<u8> {
        let mut whole = Vec::new();
        loop {
            if let Some(end) = find(&self.received, b"\r\n") {
                let size =
                    usize::from_str_radix(std::str::from_utf8(&self.received[..end]).unwrap().trim(), 16)
                        .unwrap();
                if self.received.len() >= end + 2 + size + 2 {
                    whole.extend_from_slice(&self.received[end + 2..end + 2 + size]);
                    self.received.drain(..end + 2 + size + 2);
                    if size == 0 {
                        return whole;
                    }
                    continue;
                }
            }
            assert!(self.more(), "the connection closed inside a chunked body");
        }
    }

    fn more(&mut self) -> bool {
        read_some(self.stream, &mut self.received) > 0
    }
}

fn read_some(stream: &mut impl Read, into: &mut Vec<u8>) -> usize {
    let mut buffer = [0; 16 * 1024];
    let count = stream.read(&mut buffer).unwrap_or(0);
    into.extend_from_slice(&buffer[..count]);
    count
}

/// Where a part stands in the whole.
pub fn find(whole: &[u8], part: &[u8]) -> Option<usize> {
    whole.windows(part.len()).position(|window| window == part)
}

/// Tries until it holds, for at most 10 s.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_secs(10), "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs a command to its end; its exit code, standard output and standard error.
pub fn run(command: &mut Command) -> (i32, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}
