//! A node whose logs are read.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::upstream::{Upstream, chunk, respond};
use super::{Tollgate, eventually};

/// Answers by path: `/open/upgrade` with another protocol, `/…/stream` in chunks, `/slow` and `/patient` never, `/breaks/close` with nothing and
/// `/breaks/half` with half of what it announced.
pub fn upstream() -> Upstream {
    Upstream::start(|request, stream| match request.path {
        "/slow" | "/patient" => {
            let _ = stream.read(&mut [0; 16])?;
            Err(std::io::ErrorKind::ConnectionAborted.into())
        }
        "/open/upgrade" => {
            stream.write_all(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            )?;
            let _ = stream.read(&mut [0; 16])?;
            Err(std::io::ErrorKind::ConnectionAborted.into())
        }
        "/breaks/close" => Err(std::io::ErrorKind::ConnectionAborted.into()),
        "/breaks/half" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")?;
            Err(std::io::ErrorKind::ConnectionAborted.into())
        }
        path if path.ends_with("/stream") => {
            stream.write_all(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n",
            )?;
            chunk(stream, b"one")?;
            chunk(stream, b"two")?;
            stream.write_all(b"0\r\n\r\n")
        }
        _ => respond(
            stream,
            request.method,
            "200 OK",
            "application/json",
            "Server: upstream\r\n",
            br#"{"ok":true}"#,
        ),
    })
}

pub struct Node {
    pub tollgate: Tollgate,
    pub upstream: Upstream,
    /// A port on which nothing listens.
    nothing: u16,
}

impl Node {
    pub fn start(settings: &[(&str, &str)]) -> Self {
        let (upstream, folder) = (upstream(), tempfile::tempdir().unwrap());
        let nothing = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let file = include_str!("../logs/kong.yml")
            .replace("${UPSTREAM}", &upstream.port.to_string())
            .replace("${NOTHING}", &nothing.to_string())
            .replace("${LOG}", folder.path().join("entries.log").to_str().unwrap());
        let path = folder.path().join("kong.yml");
        std::fs::write(&path, file).unwrap();
        let mut all = vec![
            ("KONG_DATABASE", "off"),
            ("KONG_DECLARATIVE_CONFIG", path.to_str().unwrap()),
            ("KONG_PROXY_ACCESS_LOG", "logs/access.log"),
        ];
        all.extend_from_slice(settings);
        Self { tollgate: Tollgate::start_in(folder, &all), upstream, nothing }
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.tollgate.folder.path().join(name)
    }

    pub fn lines(&self, name: &str) -> Vec<String> {
        lines(&self.file(name))
    }

    /// Ports of this run in place of the placeholders.
    pub fn fill(&self, text: &str) -> String {
        text.replace("\"${UPSTREAM}\"", &self.upstream.port.to_string())
            .replace("\"${NOTHING}\"", &self.nothing.to_string())
            .replace("${UPSTREAM}", &self.upstream.port.to_string())
            .replace("${NOTHING}", &self.nothing.to_string())
            .replace("${PROXY}", &self.tollgate.proxy().to_string())
            .replace("${PROXY_TLS}", &self.tollgate.port("proxy_tls").to_string())
            .replace("${PRODUCT}", concat!("tollgate/", env!("CARGO_PKG_VERSION")))
    }

    /// The entry of a request.
    pub fn entry(&self, request_id: &str) -> Value {
        let mut found = None;
        eventually("the entry is written", || {
            let lines = self.lines("entries.log");
            let entries = lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
            found = entries.into_iter().find(|entry| entry["request"]["id"] == request_id);
            found.is_some()
        });
        found.unwrap()
    }
}

/// The entry of a log file that `is_it` finds, once it is written.
pub fn entry(path: &Path, is_it: impl Fn(&Value) -> bool) -> Value {
    let mut found = None;
    eventually("the entry is written", || {
        // The last line may be under way.
        let mut entries =
            lines(path).into_iter().filter_map(|line| serde_json::from_str::<Value>(&line).ok());
        found = entries.find(&is_it);
        found.is_some()
    });
    found.unwrap()
}

/// The lines of a file that is being written: one without an end is not there yet.
pub fn lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).map(str::to_owned).collect()
}

/// Whether a line contains a pattern in which `*` stands for anything.
pub fn matches(line: &str, pattern: &str) -> bool {
    let mut rest = line;
    pattern.split('*').all(|part| match rest.find(part) {
        Some(at) => {
            rest = &rest[at + part.len()..];
            true
        }
        None => false,
    })
}
