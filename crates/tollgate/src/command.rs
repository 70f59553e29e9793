//! The command line: Kong's commands for the server; decK's are in the `cli` crate.

mod config;
mod process;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser, Subcommand};
use tollgate_model::PluginSchemas;

use crate::conf::{Configuration, Node};
use crate::{quickstart, serve};
pub use process::wait_for_signal;

/// An AI and API gateway in one binary.
#[derive(Parser)]
#[command(name = "tollgate", version, disable_version_flag = true)]
struct Arguments {
    /// Print the version
    #[arg(short = 'v', short_alias = 'V', long, action = clap::ArgAction::Version)]
    version: Option<bool>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve a sample configuration with a built-in mock LLM, and say what to try
    Quickstart(quickstart::Arguments),
    /// Serve: in the foreground, or with --daemon in the background
    Start(process::Start),
    /// Stop a running node at once
    Stop(Place),
    /// Stop a running node once its requests have ended
    Quit(process::Quit),
    /// Stop a running node, and start one in the background
    Restart(Place),
    /// Have a running node read its configuration again; what is wrong with it is said, and the old one kept
    Reload(Place),
    /// Whether a node is running
    Health(Place),
    /// Check configuration and declarative file without serving
    Check {
        /// The configuration file
        conf: Option<PathBuf>,
    },
    /// Make the folder of store, logs and pid file
    Prepare(Place),
    /// Declarative files of nodes without a store, and what can be configured
    #[command(subcommand)]
    Config(config::Command),
    /// decK's commands: sync, diff, dump, validate, reset, ping and more
    Gateway(Box<tollgate_cli::Gateway>),
    /// Serve a mock LLM that speaks OpenAI's API
    MockLlm(MockLlm),
    /// Print the version
    Version {
        /// The versions of what matters inside, too
        #[arg(short, long)]
        all: bool,
    },
    /// Print a shell's completion script
    Completion {
        /// The shell
        shell: tollgate_cli::Shell,
    },
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

/// Where a node's configuration and folder are.
#[derive(Debug, Clone, clap::Args)]
struct Place {
    /// The configuration file [default: the first there is of /etc/tollgate/tollgate.conf, /etc/kong/kong.conf, /etc/kong.conf]
    #[arg(short, long, value_name = "FILE")]
    conf: Option<PathBuf>,
    /// Folder of store, logs and pid file
    #[arg(short, long, value_name = "FOLDER")]
    prefix: Option<PathBuf>,
    /// Say what is set and where, on standard error
    #[arg(long = "v")]
    verbose: bool,
    /// The same, defaults included
    #[arg(long = "vv")]
    debug: bool,
}

/// Runs what the command line asks for.
pub fn run() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    let called = words.first().map(PathBuf::from);
    if called.as_deref().and_then(Path::file_stem).is_some_and(|name| name == "deck") {
        return tollgate_cli::deck(words);
    }
    let arguments = match Arguments::try_parse_from(tollgate_cli::like_go(&Arguments::command(), words)) {
        Ok(arguments) => arguments,
        Err(error) => return tollgate_cli::usage_error(&error),
    };
    let outcome = match arguments.command {
        Command::Start(start) => process::start(&start),
        Command::Stop(place) => place.load().and_then(|node| process::stop(&node)),
        Command::Quit(quit) => process::quit(&quit),
        Command::Restart(place) => process::restart(&place),
        Command::Reload(place) => process::reload(&place),
        Command::Health(place) => place.load().and_then(|node| process::health(&node)),
        Command::Check { conf } => check(conf.as_deref()),
        Command::Prepare(place) => place.load().and_then(|node| process::prepare(&node)),
        Command::Config(command) => config::run(&command),
        Command::Gateway(gateway) => return tollgate_cli::gateway(*gateway),
        Command::Quickstart(arguments) => quickstart::run(&arguments),
        Command::MockLlm(arguments) => arguments.run(),
        Command::Version { all } => {
            version(all);
            Ok(())
        }
        Command::Completion { shell } => return tollgate_cli::completion(&mut Arguments::command(), shell),
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
    /// The checked configuration.
    fn load(&self) -> Result<Node, String> {
        let configuration = load(self.conf.as_deref())?;
        if self.verbose || self.debug {
            for line in configuration.described(self.debug) {
                eprintln!("{line}");
            }
        }
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

fn check(conf: Option<&Path>) -> Result<(), String> {
    let configuration = load(conf)?;
    let node = configuration.check().map_err(|error| error.to_string())?;
    serve::check(&node).map_err(|error| error.to_string())?;
    let place =
        configuration.file.map_or_else(|| "the environment".to_owned(), |file| file.display().to_string());
    println!("configuration at {place} is valid");
    Ok(())
}

fn version(all: bool) {
    println!("{}", env!("CARGO_PKG_VERSION"));
    if all {
        let registry = tollgate_plugins::Registry::bundled();
        let plugins: Vec<&str> = registry.all().iter().map(|plugin| plugin.name).collect();
        println!("decK's commands: {}\nplugins: {}", tollgate_cli::DECK_VERSION, plugins.join(", "));
    }
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
