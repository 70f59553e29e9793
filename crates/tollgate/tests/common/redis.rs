//! A Redis server of the tests, in a folder of its own.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A running `redis-server`. Stopped, and its folder removed, when dropped.
pub struct Redis {
    process: Child,
    pub port: u16,
    password: Option<&'static str>,
    _folder: TempDir,
}

impl Redis {
    pub fn start() -> Self {
        Self::with(&[], None)
    }

    /// With further lines of configuration, in which `$port` and `$folder` are filled in. Where they have a
    /// `requirepass` the tests need its password too.
    pub fn with(lines: &[&str], password: Option<&'static str>) -> Self {
        // The port may be taken by somebody else before the server has it.
        (0..5).find_map(|_| Self::on_port(free_port(), lines, password)).expect("redis-server does not start")
    }

    /// On a port that was another's before.
    pub fn on(port: u16) -> Self {
        Self::on_port(port, &[], None).expect("redis-server does not start")
    }

    fn on_port(port: u16, lines: &[&str], password: Option<&'static str>) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap().to_owned();
        let mut config =
            format!("port {port}\nbind 127.0.0.1\nsave \"\"\nappendonly no\ndaemonize no\ndir {path}\n");
        for line in lines {
            config.push_str(&line.replace("$port", &port.to_string()).replace("$folder", &path));
            config.push('\n');
        }
        let file = folder.path().join("redis.conf");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new("redis-server");
        command
            .arg(&file)
            .args(lines.iter().any(|line| line.starts_with("sentinel")).then_some("--sentinel"));
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let process = process.unwrap_or_else(|error| {
            panic!("redis-server cannot be run ({error}); scripts/install-test-needs installs it")
        });
        let mut redis = Self { process, port, password, _folder: folder };
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(10) {
            if redis.process.try_wait().unwrap().is_some() {
                return None;
            }
            if redis.try_ask("PING").is_ok_and(|answer| answer.starts_with("+PONG")) {
                return Some(redis);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }

    /// The answer to a command, as the server writes it.
    pub fn ask(&self, command: &str) -> String {
        self.try_ask(command).unwrap()
    }

    fn try_ask(&self, command: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        if let Some(password) = self.password {
            stream.write_all(format!("AUTH {password}\r\n").as_bytes())?;
            stream.read_exact(&mut [0; 5])?;
        }
        stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.strip_suffix("+OK\r\n").unwrap_or(&answer).to_owned())
    }

    /// Lines of the answer to a command that are no lengths.
    pub fn list(&self, command: &str) -> Vec<String> {
        let answer = self.ask(command);
        answer.lines().filter(|line| !line.starts_with(['*', '$'])).map(str::to_owned).collect()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
