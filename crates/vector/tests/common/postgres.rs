//! A Postgres with the pgvector extension: the real one, compiled to run in Node.js.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A running server of one database, `postgres`. Stopped when dropped.
pub struct Postgres {
    process: Child,
    pub port: u16,
}

impl Postgres {
    pub fn start() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let packages = root.join("target/test-clients/node");
        let mut process = Command::new(packages.join("node"))
            .arg(root.join("crates/vector/tests/postgres.mjs"))
            .arg(&packages)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("Node.js is not there ({error}); scripts/install-test-needs installs it")
            });
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().strip_prefix("port ").and_then(|port| port.parse().ok());
        let port = port.expect("Postgres does not start; scripts/install-test-needs installs what it needs");
        Self { process, port }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
