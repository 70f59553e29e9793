//! The proxies under test: started on core 0, asked for CPU time and memory through `/proc`.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::cases::Case;
use crate::load::Connection;

/// A running proxy.
pub struct Proxy {
    /// Name in the report.
    pub name: &'static str,
    /// Port it listens on.
    pub port: u16,
    /// From the start of the process to its first right answer.
    pub start: Duration,
    /// Resident memory after that answer, in bytes.
    pub at_rest: u64,
    process: Child,
    spawned: Instant,
}

/// Keeps this process (load and upstream) on one core.
pub fn pin_self_to(core: usize) -> Result<(), String> {
    let done = Command::new("taskset")
        .args(["-a", "-p", "-c", &core.to_string(), &std::process::id().to_string()])
        .stdout(Stdio::null())
        .status()
        .map_err(|error| format!("taskset: {error}"))?;
    done.success().then_some(()).ok_or_else(|| format!("taskset: cannot pin to core {core}"))
}

/// What starts a proxy for a case, in a folder of its own.
pub type Start = fn(&Case, u16, &Path, &Path) -> Result<Proxy, String>;

/// The proxies that are compared; the first one is what the others are compared to.
pub const ALL: [Start; 2] = [start_nginx, start_tollgate];

fn write(folder: &Path, name: &str, content: &str) -> Result<(), String> {
    std::fs::write(folder.join(name), content).map_err(|error| format!("{name}: {error}"))
}

fn start_nginx(case: &Case, upstream: u16, _: &Path, folder: &Path) -> Result<Proxy, String> {
    let name = folder.display().to_string();
    let port = free_port()?;
    write(folder, "nginx.conf", &case.nginx(port, upstream, &name))?;
    write(folder, "keys.map", &case.nginx_keys())?;
    let mut command = Command::new("taskset");
    command.args(["-c", "0", "nginx", "-p", &name, "-c", &format!("{name}/nginx.conf")]);
    spawn("nginx", port, &mut command)
}

/// Name of Tollgate where it measures what a conversion adds: it does the same work without one.
pub const SAME_FORMAT: &str = "tollgate, same format";

/// Starts Tollgate from a file in this folder.
pub fn start_tollgate(case: &Case, upstream: u16, binary: &Path, folder: &Path) -> Result<Proxy, String> {
    let port = free_port()?;
    write(folder, "tollgate.json", &case.tollgate(upstream))?;
    let mut command = tollgate("0", binary, folder, port);
    command
        .env("TOLLGATE_DATABASE", "off")
        .env("TOLLGATE_DECLARATIVE_CONFIG", folder.join("tollgate.json"))
        .env("TOLLGATE_ADMIN_LISTEN", "off");
    spawn("tollgate", port, &mut command)
}

/// A Tollgate with one worker and an empty store, whose Admin API listens on `admin`. It may use every core, since
/// changes are worked out beside the worker.
pub fn start_with_store(binary: &Path, folder: &Path, admin: u16) -> Result<Proxy, String> {
    let port = free_port()?;
    let mut command = tollgate("0-1023", binary, folder, port);
    spawn("tollgate", port, command.env("TOLLGATE_ADMIN_LISTEN", format!("127.0.0.1:{admin}")))
}

fn tollgate(cores: &str, binary: &Path, folder: &Path, port: u16) -> Command {
    let mut command = Command::new("taskset");
    command
        .args(["-c", cores])
        .arg(binary)
        .arg("start")
        .env("TOLLGATE_PREFIX", folder.join("prefix"))
        .env("TOLLGATE_PROXY_LISTEN", format!("127.0.0.1:{port}"))
        .env("TOLLGATE_ADMIN_GUI_LISTEN", "off")
        .env("TOLLGATE_STATUS_LISTEN", "off")
        .env("TOLLGATE_PROXY_ACCESS_LOG", "off")
        .env("TOLLGATE_NGINX_HTTP_KEEPALIVE_REQUESTS", "100000000")
        .env("TOLLGATE_UPSTREAM_KEEPALIVE_MAX_REQUESTS", "100000000")
        .env("TOLLGATE_NGINX_WORKER_PROCESSES", "1");
    command
}

fn spawn(name: &'static str, port: u16, command: &mut Command) -> Result<Proxy, String> {
    let spawned = Instant::now();
    let process = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(|error| format!("{name}: {error}"))?;
    Ok(Proxy { name, port, start: Duration::ZERO, at_rest: 0, process, spawned })
}

/// A port that nobody listens on at the moment.
pub fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    listener.local_addr().map(|address| address.port()).map_err(|error| error.to_string())
}

impl Proxy {
    /// Waits until the proxy answers the case's requests with 200 and, where there are keys, a wrong key with
    /// 401.
    pub async fn wait_until_right(&mut self, case: &Case) -> Result<(), String> {
        let mut last = String::from("no answer");
        while self.spawned.elapsed() < Duration::from_secs(300) {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let Ok(mut connection) = Connection::open(self.port).await else { continue };
            let mut right = true;
            for request in case.requests(0).iter().take(2) {
                match connection.exchange(request).await {
                    Ok((200, events)) if !case.streamed || events == crate::upstream::CHUNKS => {}
                    other => {
                        last = format!("{other:?}");
                        right = false;
                    }
                }
            }
            if let Some(refused) = case.refused_request() {
                right &= matches!(connection.exchange(&refused).await, Ok((401, _)));
            }
            if right {
                self.start = self.spawned.elapsed();
                self.at_rest = self.resident_bytes();
                return Ok(());
            }
        }
        Err(format!("{} does not do the work of '{}' ({last})", self.name, case.name))
    }

    /// CPU time of all threads of the proxy and its children so far.
    pub fn cpu_nanoseconds(&self) -> Result<u64, String> {
        let mut total = 0;
        for process in self.processes() {
            let tasks = std::fs::read_dir(format!("/proc/{process}/task"))
                .map_err(|error| format!("{}: {error}", self.name))?;
            for task in tasks.flatten() {
                let statistics = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
                total += statistics
                    .split_whitespace()
                    .next()
                    .and_then(|time| time.parse::<u64>().ok())
                    .unwrap_or(0);
            }
        }
        Ok(total)
    }

    /// Resident memory of the proxy and its children.
    pub fn resident_bytes(&self) -> u64 {
        let pages = |process: u32| -> Option<u64> {
            std::fs::read_to_string(format!("/proc/{process}/statm"))
                .ok()?
                .split_whitespace()
                .nth(1)?
                .parse()
                .ok()
        };
        self.processes().into_iter().filter_map(pages).sum::<u64>() * 4096
    }

    fn processes(&self) -> Vec<u32> {
        let own = self.process.id();
        let children =
            std::fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
        std::iter::once(own).chain(children.split_whitespace().filter_map(|id| id.parse().ok())).collect()
    }

    /// Ends the proxy.
    pub fn stop(&mut self) {
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        let _ = self.process.wait();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(None)) {
            self.stop();
        }
    }
}
