//! The command line: Kong's commands for the server; decK's are in the `cli` crate.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::conf::{Configuration, Node};
use crate::{quickstart, serve};

/// An AI and API gateway in one binary.
#[derive(Parser)]
#[command(name = "tollgate", version, disable_version_flag = false)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve, in the foreground
    Start(Place),
    /// Stop a running node at once
    Stop(Place),
    /// Stop a running node once its requests have ended
    Quit(Place),
    /// Whether a node is running
    Health(Place),
    /// Check configuration and declarative file without serving
    Check {
        /// The configuration file
        conf: Option<PathBuf>,
    },
    /// Serve a sample configuration with a built-in mock LLM, and say what to try
    Quickstart(quickstart::Arguments),
    /// Serve a mock LLM that speaks OpenAI's API
    MockLlm(MockLlm),
    /// Print the version
    Version,
}

/// What a request can also ask for by `x-mock-…` headers.
#[derive(clap::Args)]
struct MockLlm {
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1:32000")]
    listen: std::net::SocketAddr,
    /// Milliseconds before an answer
    #[arg(long, default_value_t = 0)]
    latency_ms: u64,
    /// Milliseconds between events of a stream
    #[arg(long, default_value_t = 0)]
    chunk_delay_ms: u64,
    /// Length of answers, in tokens
    #[arg(long)]
    tokens: Option<usize>,
    /// Answer with errors of this status, such as 429 or 500
    #[arg(long)]
    status: Option<u16>,
    /// Answer with what is no JSON
    #[arg(long)]
    malformed: bool,
    /// Break the connection after so many events; of a plain answer, bytes
    #[arg(long)]
    abort_after: Option<usize>,
}

#[derive(clap::Args)]
struct Place {
    /// The configuration file
    #[arg(short, long)]
    conf: Option<PathBuf>,
    /// Folder of store, logs and pid file
    #[arg(short, long)]
    prefix: Option<PathBuf>,
}

/// Runs what the command line asks for.
pub fn run() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Start(place) => place.load().and_then(|node| start(&node)),
        Command::Stop(place) => place.load().and_then(|node| stop(&node, "TERM", "stopped")),
        Command::Quit(place) => place.load().and_then(|node| stop(&node, "QUIT", "stopped (gracefully)")),
        Command::Health(place) => place.load().and_then(|node| health(&node)),
        Command::Check { conf } => check(conf),
        Command::Quickstart(arguments) => quickstart::run(&arguments),
        Command::MockLlm(arguments) => arguments.run(),
        Command::Version => {
            println!("{}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("Error: {message}");
            ExitCode::FAILURE
        }
    }
}

impl Place {
    fn load(&self) -> Result<Node, String> {
        let configuration = load(self.conf.as_deref())?;
        let mut node = configuration.check().map_err(|error| error.to_string())?;
        if let Some(prefix) = &self.prefix {
            node.prefix = prefix.clone();
        }
        Ok(node)
    }
}

fn load(file: Option<&Path>) -> Result<Configuration, String> {
    let configuration = Configuration::load(file, std::env::vars()).map_err(|error| error.to_string())?;
    for warning in &configuration.warnings {
        eprintln!("Warning: {warning}");
    }
    Ok(configuration)
}

fn pid_file(node: &Node) -> PathBuf {
    node.prefix.join("pids").join("tollgate.pid")
}

/// The process that runs under this prefix, where one does.
fn running(node: &Node) -> Option<u32> {
    let id: u32 = std::fs::read_to_string(pid_file(node)).ok()?.trim().parse().ok()?;
    Path::new(&format!("/proc/{id}")).exists().then_some(id)
}

fn start(node: &Node) -> Result<(), String> {
    if running(node).is_some_and(|id| id != std::process::id()) {
        return Err(format!("Tollgate is already running in {}", node.prefix.display()));
    }
    let server = serve::start(node).map_err(|error| error.to_string())?;
    let file = pid_file(node);
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)
            .map_err(|error| format!("prefix: cannot make {}: {error}", folder.display()))?;
    }
    std::fs::write(&file, std::process::id().to_string())
        .map_err(|error| format!("{}: {error}", file.display()))?;
    server.announce(node);
    println!("Tollgate started");
    let grace = wait_for_signal()?;
    server.stop(grace);
    let _ = std::fs::remove_file(file);
    Ok(())
}

/// Waits until the process is told to end; how long requests under way may take.
pub fn wait_for_signal() -> Result<Duration, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
        let mut quit = signal(SignalKind::quit()).map_err(|error| error.to_string())?;
        let mut rotated = signal(SignalKind::user_defined1()).map_err(|error| error.to_string())?;
        loop {
            tokio::select! {
                _ = terminate.recv() => return Ok(Duration::ZERO),
                _ = interrupt.recv() => return Ok(Duration::ZERO),
                _ = quit.recv() => return Ok(Duration::from_secs(10)),
                _ = rotated.recv() => tollgate_telemetry::sink::reopen_all(),
            }
        }
    })
}

fn stop(node: &Node, signal: &str, said: &str) -> Result<(), String> {
    let Some(id) = running(node) else {
        return Err(format!("Tollgate is not running in {}", node.prefix.display()));
    };
    let done = std::process::Command::new("kill")
        .args([format!("-{signal}"), id.to_string()])
        .status()
        .map_err(|error| error.to_string())?;
    if !done.success() {
        return Err(format!("the process {id} cannot be told to stop"));
    }
    for _ in 0..1500 {
        if running(node).is_none() {
            println!("Tollgate {said}");
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Err(format!("the process {id} does not stop"))
}

fn health(node: &Node) -> Result<(), String> {
    match running(node) {
        Some(id) => {
            println!(
                "tollgate........running (process {id})\n\nTollgate is healthy at {}",
                node.prefix.display()
            );
            Ok(())
        }
        None => Err(format!("Tollgate is not running at {}", node.prefix.display())),
    }
}

fn check(conf: Option<PathBuf>) -> Result<(), String> {
    let node = load(conf.as_deref())?.check().map_err(|error| error.to_string())?;
    if let Some(file) = &node.declarative_config {
        let registry = serve::registry(&node)?;
        let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        serve::read_declaration(&file.display().to_string(), &text, &registry).map_err(|invalid| {
            invalid.problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        })?;
    }
    println!(
        "configuration at {} is valid",
        conf.map_or_else(|| "the environment".to_owned(), |path| path.display().to_string())
    );
    Ok(())
}

impl MockLlm {
    fn run(&self) -> Result<(), String> {
        let options = tollgate_mock::Options {
            latency: Duration::from_millis(self.latency_ms),
            chunk_delay: Duration::from_millis(self.chunk_delay_ms),
            tokens: self.tokens,
            status: self.status,
            malformed: self.malformed,
            abort_after: self.abort_after,
        };
        let server = tollgate_mock::start(self.listen, options)?;
        for address in server.addresses() {
            println!("a mock LLM that speaks OpenAI's API listens on http://{address}");
        }
        let grace = wait_for_signal()?;
        server.stop(grace);
        Ok(())
    }
}
