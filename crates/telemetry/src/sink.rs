//! Files that lines are written to in the background.
//!
//! Whoever has a line hands it over and goes on: a worker never waits for a disk. The queue is bounded; lines
//! that find it full are dropped and counted, and the error log says so. A file is open once however many write
//! to it, and every write ends with a line, so lines of different requests never mix.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Most lines that wait to be written.
const MOST_LINES: usize = 8 * 1024;
/// Most bytes of lines that wait.
const MOST_BYTES: usize = 32 * 1024 * 1024;
/// How long lines are collected before they are written together. The queue wakes nobody meanwhile.
const COLLECT: Duration = Duration::from_millis(10);
/// Bytes that are written at once.
const WRITE_AT: usize = 256 * 1024;
/// How often trouble with a file is reported.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// A file with its queue. When the last handle goes, what waits is written and the file is closed.
pub struct Sink {
    path: PathBuf,
    queue: SyncSender<Job>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    waiting: AtomicUsize,
    dropped: AtomicU64,
    reopen: AtomicBool,
}

enum Job {
    /// A line, its line feed included; `true` opens the file anew before it.
    Line(Vec<u8>, bool),
    /// Tells when everything before it has been written.
    Flush(SyncSender<()>),
    /// Makes the writer look at its state.
    Wake,
}

/// The sinks that are open, by path.
fn open_sinks() -> &'static Mutex<HashMap<PathBuf, Weak<Sink>>> {
    static OPEN: OnceLock<Mutex<HashMap<PathBuf, Weak<Sink>>>> = OnceLock::new();
    OPEN.get_or_init(Mutex::default)
}

fn all_open() -> Vec<Arc<Sink>> {
    let sinks = open_sinks().lock().unwrap_or_else(PoisonError::into_inner);
    sinks.values().filter_map(Weak::upgrade).collect()
}

impl Sink {
    /// The sink of a file, which is opened when the first line comes: a file that cannot be written to is
    /// reported in the error log.
    ///
    /// # Errors
    /// The thread that writes cannot be started.
    pub fn to(path: &Path) -> io::Result<Arc<Self>> {
        Self::shared(path, None)
    }

    /// The sink of a file that must be there to be written to: it is created now, with its folder.
    ///
    /// # Errors
    /// What keeps it from being opened.
    pub fn open(path: &Path) -> io::Result<Arc<Self>> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)?;
        }
        let target = Target::open(path)?;
        Self::shared(path, Some(target))
    }

    fn shared(path: &Path, target: Option<Target>) -> io::Result<Arc<Self>> {
        let mut sinks = open_sinks().lock().unwrap_or_else(PoisonError::into_inner);
        sinks.retain(|_, sink| sink.strong_count() > 0);
        if let Some(sink) = sinks.get(path).and_then(Weak::upgrade) {
            return Ok(sink);
        }
        let (queue, jobs) = sync_channel(MOST_LINES);
        let state = Arc::new(State::default());
        let writer = Writer {
            path: path.to_owned(),
            target,
            state: Arc::clone(&state),
            batch: Vec::new(),
            batch_lines: 0,
            lost: 0,
            reported: None,
        };
        std::thread::Builder::new().name("log-writer".into()).spawn({
            let at_work = AtWork::count();
            move || {
                let _at_work = at_work;
                writer.run(&jobs);
            }
        })?;
        let sink = Arc::new(Self { path: path.to_owned(), queue, state });
        sinks.insert(path.to_owned(), Arc::downgrade(&sink));
        Ok(sink)
    }

    /// Hands over a line, its line feed included. Never waits: where the queue is full the line is dropped and
    /// counted.
    pub fn write(&self, line: Vec<u8>) {
        self.push(line, false);
    }

    /// The same, opening the file anew first: lines go to the file that has the name now.
    pub fn write_reopening(&self, line: Vec<u8>) {
        self.push(line, true);
    }

    fn push(&self, line: Vec<u8>, reopen: bool) {
        let length = line.len();
        let waiting = self.state.waiting.fetch_add(length, Ordering::Relaxed);
        if waiting > MOST_BYTES || self.queue.try_send(Job::Line(line, reopen)).is_err() {
            self.state.waiting.fetch_sub(length, Ordering::Relaxed);
            self.state.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sink({})", self.path.display())
    }
}

/// Opens every file anew, as after a rotation (nginx: SIGUSR1).
pub fn reopen_all() {
    for sink in all_open() {
        sink.state.reopen.store(true, Ordering::Relaxed);
        let _ = sink.queue.try_send(Job::Wake);
    }
}

/// Waits until everything handed over so far is written, for at most `allowed` in all. Sinks that nobody holds
/// any more count too: their writers are still at it.
pub fn flush_all(allowed: Duration) {
    let deadline = Instant::now() + allowed;
    let wait = || {
        std::thread::sleep(Duration::from_millis(1));
        Instant::now() < deadline
    };
    let (done, flushed) = sync_channel(usize::from(u8::MAX));
    let open = all_open();
    let mut told = 0;
    for sink in &open {
        loop {
            match sink.queue.try_send(Job::Flush(done.clone())) {
                Ok(()) => told += 1,
                Err(TrySendError::Full(_)) if wait() => continue,
                Err(_) => {}
            }
            break;
        }
    }
    for _ in 0..told {
        if flushed.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_err() {
            return;
        }
    }
    while WRITERS.load(Ordering::Acquire) > open.len() && wait() {}
}

/// Writers at work.
static WRITERS: AtomicUsize = AtomicUsize::new(0);

/// Counts a writer for as long as it lives.
struct AtWork;

impl AtWork {
    fn count() -> Self {
        WRITERS.fetch_add(1, Ordering::AcqRel);
        Self
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        WRITERS.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What is written to.
enum Target {
    File(File),
    Stdout,
    Stderr,
}

impl Target {
    fn open(path: &Path) -> io::Result<Self> {
        // By name these may be sockets, which cannot be opened.
        match path.to_str() {
            Some("/dev/stdout") => Ok(Self::Stdout),
            Some("/dev/stderr") => Ok(Self::Stderr),
            _ => Ok(Self::File(create(path)?)),
        }
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Self::File(file) => file.write_all(lines),
            Self::Stdout => io::stdout().write_all(lines).and_then(|()| io::stdout().flush()),
            Self::Stderr => io::stderr().write_all(lines),
        }
    }
}

/// Opens a file to append to; a new one may be read by everybody and written by its owner (Kong 3.11: 0644).
fn create(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    OpenOptions::new().append(true).create(true).mode(0o644).open(path)
}

struct Writer {
    path: PathBuf,
    target: Option<Target>,
    state: Arc<State>,
    batch: Vec<u8>,
    batch_lines: u64,
    /// Lines that were lost since the last report.
    lost: u64,
    reported: Option<Instant>,
}

impl Writer {
    fn run(mut self, jobs: &Receiver<Job>) {
        while let Ok(first) = jobs.recv() {
            std::thread::sleep(COLLECT);
            let mut next = Some(first);
            let mut reopened = false;
            while let Some(job) = next {
                match job {
                    Job::Line(line, reopen) => {
                        self.state.waiting.fetch_sub(line.len(), Ordering::Relaxed);
                        if reopen && !reopened {
                            self.target = None;
                            reopened = true;
                        }
                        self.batch.extend_from_slice(&line);
                        self.batch_lines += 1;
                        if self.batch.len() >= WRITE_AT {
                            self.flush();
                        }
                    }
                    Job::Flush(done) => {
                        self.flush();
                        let _ = done.try_send(());
                    }
                    Job::Wake => {}
                }
                next = jobs.try_recv().ok();
            }
            self.flush();
            self.batch.shrink_to(WRITE_AT);
        }
        self.flush();
    }

    fn flush(&mut self) {
        if self.state.reopen.swap(false, Ordering::Relaxed) {
            match Target::open(&self.path) {
                Ok(target) => self.target = Some(target),
                // The old file is better than none.
                Err(error) => self.report(&error),
            }
        }
        let dropped = self.state.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            crate::log!(
                Error,
                "{dropped} lines for {} were dropped: they come faster than they can be written",
                self.path.display()
            );
        }
        if self.batch.is_empty() {
            return;
        }
        let target = match &mut self.target {
            Some(target) => Ok(target),
            empty => Target::open(&self.path).map(|target| empty.insert(target)),
        };
        match target.and_then(|target| target.write(&self.batch)) {
            Ok(()) => {}
            Err(error) => {
                self.target = None;
                self.lost += self.batch_lines;
                self.report(&error);
            }
        }
        self.batch.clear();
        self.batch_lines = 0;
    }

    /// Says what is wrong with the file, but not for every line.
    fn report(&mut self, error: &io::Error) {
        if self.reported.is_some_and(|last| last.elapsed() < REPORT_EVERY) {
            return;
        }
        self.reported = Some(Instant::now());
        let lost = std::mem::take(&mut self.lost);
        crate::log!(
            Error,
            "failed to open or write the file {}: {error}; {lost} lines were lost",
            self.path.display()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &Path) -> Vec<String> {
        std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    #[test]
    fn lines_of_many_threads_stay_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let path = &path;
                scope.spawn(move || {
                    let sink = Sink::to(path).unwrap();
                    for number in 0..200 {
                        sink.write(format!("{thread} {number} {}\n", "x".repeat(number)).into_bytes());
                    }
                    flush_all(Duration::from_secs(10));
                });
            }
        });
        let lines = lines(&path);
        assert_eq!(lines.len(), 1600);
        for line in lines {
            let mut words = line.split(' ');
            let number: usize = words.nth(1).unwrap().parse().unwrap();
            assert_eq!(words.next().unwrap(), "x".repeat(number));
        }
    }

    #[test]
    fn a_rotated_file_is_left_when_told() {
        let folder = tempfile::tempdir().unwrap();
        let (path, old) = (folder.path().join("b.log"), folder.path().join("b.log.1"));
        let sink = Sink::open(&path).unwrap();
        let flush = || flush_all(Duration::from_secs(10));
        sink.write(b"1\n".to_vec());
        flush();
        std::fs::rename(&path, &old).unwrap();
        sink.write(b"2\n".to_vec());
        flush();
        sink.write_reopening(b"3\n".to_vec());
        flush();
        assert_eq!((lines(&old), lines(&path)), (vec!["1".into(), "2".into()], vec!["3".to_owned()]));
        std::fs::rename(&path, &old).unwrap();
        reopen_all();
        sink.write(b"4\n".to_vec());
        flush();
        assert_eq!(lines(&path), ["4"]);
    }

    #[test]
    fn a_file_that_does_not_take_lines_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let (pipe, said) = (folder.path().join("pipe"), folder.path().join("error.log"));
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        crate::error_log::set_target(Some(Sink::open(&said).unwrap()));
        // Nobody reads the pipe: to open it is to wait.
        let sink = Sink::to(&pipe).unwrap();
        for number in 0..MOST_LINES * 2 {
            sink.write(format!("{number}\n").into_bytes());
        }
        let reader = std::thread::spawn(move || lines(&pipe));
        flush_all(Duration::from_secs(10));
        drop(sink);
        let received = reader.join().unwrap();
        flush_all(Duration::from_secs(10));
        crate::error_log::set_target(None);
        let numbers: Vec<usize> = received.iter().map(|line| line.parse().unwrap()).collect();
        assert!(numbers.is_sorted() && numbers.len() >= MOST_LINES && numbers.len() < MOST_LINES * 2);
        let dropped = format!("{} lines for ", MOST_LINES * 2 - numbers.len());
        assert!(lines(&said).iter().any(|line| line.contains(&dropped)), "{:?}", lines(&said));
    }

    #[test]
    fn one_path_is_one_sink_and_a_full_queue_drops() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing").join("c.log");
        let sink = Sink::to(&path).unwrap();
        assert!(Arc::ptr_eq(&sink, &Sink::to(&path).unwrap()));
        sink.state.waiting.store(MOST_BYTES + 1, Ordering::Relaxed);
        sink.write(b"x\n".to_vec());
        assert_eq!(sink.state.dropped.load(Ordering::Relaxed), 1);
        assert!(Sink::open(&folder.path().join("d.log")).is_ok());
        assert!(Sink::open(folder.path()).is_err());
    }
}
