//! Starting a node, and talking to one that runs: through its pid file, which it keeps locked while it lives,
//! and signals.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};

use super::Place;
use crate::conf::Node;
use crate::serve::{self, Running};

/// `start`
#[derive(clap::Args)]
pub(super) struct Start {
    #[command(flatten)]
    place: Place,
    /// Serve in the background, once everything is up
    #[arg(long)]
    daemon: bool,
    /// Set for the process in the background
    #[arg(long, hide = true)]
    detached: bool,
    /// Accepted for compatibility: the store is always brought up to date
    #[arg(long, hide = true)]
    run_migrations: bool,
}

/// `quit`
#[derive(clap::Args)]
pub(super) struct Quit {
    #[command(flatten)]
    place: Place,
    /// Seconds for requests under way to end
    #[arg(short, long, default_value_t = 10)]
    timeout: u64,
    /// Seconds to wait before
    #[arg(short, long, default_value_t = 0)]
    wait: u64,
}

/// How long a node drains at most when it is told to quit; `quit` ends it sooner.
const LONGEST_DRAIN: Duration = Duration::from_secs(300);
/// How long a node may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(60);

fn folder(node: &Node, name: &str) -> Result<PathBuf, String> {
    let folder = node.prefix.join(name);
    std::fs::create_dir_all(&folder)
        .map_err(|error| format!("prefix: cannot make {}: {error}", folder.display()))?;
    Ok(folder)
}

fn pid_file(node: &Node) -> PathBuf {
    node.prefix.join("pids").join("tollgate.pid")
}

/// Where a node says how a reload went.
fn reload_file(node: &Node) -> PathBuf {
    node.prefix.join("pids").join("tollgate.reload")
}

/// The process that runs under this prefix, where one does.
fn running(node: &Node) -> Option<Pid> {
    let mut file = File::open(pid_file(node)).ok()?;
    if !matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)) {
        return None;
    }
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    Pid::from_raw(text.trim().parse().ok()?)
}

/// Takes the pid file; it is this process's for as long as the file is held.
fn take_pid_file(node: &Node) -> Result<File, String> {
    folder(node, "pids")?;
    let path = pid_file(node);
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(format!("Tollgate is already running in {}", node.prefix.display()));
        }
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    file.set_len(0).and_then(|()| write!(file, "{}", std::process::id())).map_err(failed)?;
    Ok(file)
}

fn tell(process: Pid, what: Signal) -> Result<(), String> {
    kill_process(process, what)
        .map_err(|error| format!("the process {} cannot be told: {error}", process.as_raw_nonzero()))
}

fn not_running(node: &Node) -> String {
    format!("Tollgate is not running in {}", node.prefix.display())
}

pub(super) fn start(flags: &Start) -> Result<(), String> {
    let node = flags.place.load()?;
    if flags.daemon {
        return detach(&flags.place, &node);
    }
    if flags.detached {
        // Away from the terminal: what ends that must not end this.
        let _ = rustix::process::setsid();
    }
    let held = take_pid_file(&node)?;
    let mut server = serve::start(&node).map_err(|error| error.to_string())?;
    let mut signals = Signals::listen()?;
    server.announce();
    println!("Tollgate started");
    let grace = serve_until_told(&flags.place, node, &mut server, &mut signals);
    std::thread::spawn(move || {
        // Told again while requests end: at once.
        while signals.wait().is_none() {}
        std::process::exit(0);
    });
    server.stop(grace);
    drop(held);
    Ok(())
}

/// Serves, and reads the configuration again when told to; how long requests under way may take in the end.
fn serve_until_told(place: &Place, mut node: Node, server: &mut Running, signals: &mut Signals) -> Duration {
    loop {
        if let Some(grace) = signals.wait() {
            return grace;
        }
        let outcome = place.load().and_then(|new| {
            server.reload(&node, &new).map_err(|error| error.to_string())?;
            node = new;
            Ok(())
        });
        match &outcome {
            Ok(()) => println!("Tollgate reloaded"),
            Err(message) => eprintln!("Error: the configuration stays as it was: {message}"),
        }
        let said = outcome.err().unwrap_or_default();
        let (file, part) = (reload_file(&node), reload_file(&node).with_extension("part"));
        if let Err(error) = std::fs::write(&part, said).and_then(|()| std::fs::rename(&part, &file)) {
            eprintln!("Error: {}: {error}", file.display());
        }
    }
}

/// What a process can be told. A signal that comes while nobody waits is kept.
struct Signals {
    runtime: tokio::runtime::Runtime,
    terminate: SignalStream,
    interrupt: SignalStream,
    quit: SignalStream,
    hang_up: SignalStream,
    rotated: SignalStream,
}

impl Signals {
    fn listen() -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        let on = |kind: SignalKind| {
            let _inside = runtime.enter();
            signal(kind).map_err(|error| error.to_string())
        };
        let (terminate, interrupt) = (on(SignalKind::terminate())?, on(SignalKind::interrupt())?);
        let (quit, hang_up) = (on(SignalKind::quit())?, on(SignalKind::hangup())?);
        let rotated = on(SignalKind::user_defined1())?;
        Ok(Self { runtime, terminate, interrupt, quit, hang_up, rotated })
    }

    /// Waits for the next: how long requests under way may take before the end, or `None` for a reload.
    fn wait(&mut self) -> Option<Duration> {
        let Self { runtime, terminate, interrupt, quit, hang_up, rotated } = self;
        runtime.block_on(async {
            loop {
                tokio::select! {
                    biased;
                    _ = terminate.recv() => return Some(Duration::ZERO),
                    _ = interrupt.recv() => return Some(Duration::ZERO),
                    _ = quit.recv() => return Some(LONGEST_DRAIN),
                    _ = hang_up.recv() => return None,
                    _ = rotated.recv() => tollgate_telemetry::sink::reopen_all(),
                }
            }
        })
    }
}

/// Waits until the process is told to end; how long requests under way may take.
///
/// # Errors
/// What the system reports.
pub fn wait_for_signal() -> Result<Duration, String> {
    let mut signals = Signals::listen()?;
    loop {
        if let Some(grace) = signals.wait() {
            return Ok(grace);
        }
    }
}

/// Starts a process in the background and waits until it serves.
fn detach(place: &Place, node: &Node) -> Result<(), String> {
    if running(node).is_some() {
        return Err(format!("Tollgate is already running in {}", node.prefix.display()));
    }
    let path = folder(node, "logs")?.join("error.log");
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut log =
        OpenOptions::new().create(true).append(true).read(true).mode(0o640).open(&path).map_err(failed)?;
    let from = log.seek(SeekFrom::End(0)).map_err(failed)?;
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command.args(["start", "--detached"]);
    for (flag, value) in [("--conf", &place.conf), ("--prefix", &place.prefix)] {
        if let Some(value) = value {
            command.arg(flag).arg(std::path::absolute(value).map_err(|error| error.to_string())?);
        }
    }
    let (out, errors) = (log.try_clone().map_err(failed)?, log.try_clone().map_err(failed)?);
    let mut process =
        command.stdin(Stdio::null()).stdout(out).stderr(errors).spawn().map_err(|error| error.to_string())?;
    let started = Instant::now();
    loop {
        let said = said_since(&path, from).map_err(failed)?;
        if said.lines().any(|line| line == "Tollgate started") {
            // The log's own lines stand among what a start says.
            let told = |line: &&str| *line == "Tollgate started" || line.starts_with("listening: ");
            said.lines().filter(told).for_each(|line| println!("{line}"));
            return Ok(());
        }
        if let Some(status) = process.try_wait().map_err(|error| error.to_string())? {
            let reason = said_since(&path, from).map_err(failed)?;
            let reason = reason.trim().trim_start_matches("Error: ").to_owned();
            return Err(if reason.is_empty() { format!("the process ended: {status}") } else { reason });
        }
        if started.elapsed() > PATIENCE {
            let _ = process.kill();
            return Err(format!("Tollgate is not up after {} s; see {}", PATIENCE.as_secs(), path.display()));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn said_since(path: &Path, from: u64) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    let mut said = Vec::new();
    file.read_to_end(&mut said)?;
    Ok(String::from_utf8_lossy(&said).into_owned())
}

pub(super) fn stop(node: &Node) -> Result<(), String> {
    let process = running(node).ok_or_else(|| not_running(node))?;
    tell(process, Signal::TERM)?;
    if !gone(node, PATIENCE) {
        return Err(format!("the process {} does not stop", process.as_raw_nonzero()));
    }
    println!("Tollgate stopped");
    Ok(())
}

/// Waits until nothing runs under the prefix.
fn gone(node: &Node, patience: Duration) -> bool {
    let started = Instant::now();
    while running(node).is_some() {
        if started.elapsed() >= patience {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

pub(super) fn quit(flags: &Quit) -> Result<(), String> {
    let node = flags.place.load()?;
    let process = running(&node).ok_or_else(|| not_running(&node))?;
    std::thread::sleep(Duration::from_secs(flags.wait));
    tell(process, Signal::QUIT)?;
    if gone(&node, Duration::from_secs(flags.timeout)) {
        println!("Tollgate stopped (gracefully)");
        return Ok(());
    }
    eprintln!("Requests are still under way after {} s; they are cut off", flags.timeout);
    stop(&node)
}

pub(super) fn restart(place: &Place) -> Result<(), String> {
    let node = place.load()?;
    if running(&node).is_some() {
        stop(&node)?;
    }
    detach(place, &node)
}

pub(super) fn reload(place: &Place) -> Result<(), String> {
    let node = place.load()?;
    let process = running(&node).ok_or_else(|| not_running(&node))?;
    let file = reload_file(&node);
    let _ = std::fs::remove_file(&file);
    tell(process, Signal::HUP)?;
    let started = Instant::now();
    loop {
        match std::fs::read_to_string(&file) {
            Ok(said) if said.is_empty() => {
                println!("Tollgate reloaded");
                return Ok(());
            }
            Ok(reason) => return Err(format!("the configuration stays as it was: {reason}")),
            Err(_) if running(&node).is_none() => return Err("the node ended".into()),
            Err(_) if started.elapsed() > PATIENCE => {
                return Err(format!("the node does not say how it went after {} s", PATIENCE.as_secs()));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

pub(super) fn health(node: &Node) -> Result<(), String> {
    match running(node) {
        Some(process) => {
            println!(
                "tollgate....running (process {})\n\nTollgate is healthy at {}",
                process.as_raw_nonzero(),
                node.prefix.display()
            );
            Ok(())
        }
        None => Err(format!("Tollgate is not running at {}", node.prefix.display())),
    }
}

pub(super) fn prepare(node: &Node) -> Result<(), String> {
    folder(node, "pids")?;
    folder(node, "logs").map(drop)
}
