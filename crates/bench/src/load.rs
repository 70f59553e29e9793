//! The load: connections that send one prepared request again and again.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::cases::Case;
use crate::upstream;

/// What a turn of load gave.
#[derive(Default)]
pub struct Outcome {
    /// Requests answered as expected.
    pub answered: u64,
    /// Requests answered otherwise, or not at all.
    pub failed: u64,
    /// Chunks of streams received.
    pub chunks: u64,
    /// How long it took.
    pub elapsed: Duration,
    /// Latency of each request, or of each event of a stream, in microseconds.
    pub latencies: Vec<f64>,
}

impl Outcome {
    fn merge(&mut self, other: Outcome) {
        self.answered += other.answered;
        self.failed += other.failed;
        self.chunks += other.chunks;
        self.latencies.extend(other.latencies);
    }
}

/// Every connection sends its next request as soon as the last is answered.
pub async fn closed_loop(port: u16, case: &Case, connections: usize, turn: Duration) -> Outcome {
    let connections = if case.streamed { connections.min(32) } else { connections };
    let started = Instant::now();
    let tasks: Vec<_> = (0..connections)
        .map(|number| {
            let requests = case.requests(number);
            tokio::spawn(async move {
                let mut outcome = Outcome::default();
                let Ok(mut connection) = Connection::open(port).await else {
                    outcome.failed += 1;
                    return outcome;
                };
                for request in requests.iter().cycle() {
                    if started.elapsed() >= turn {
                        break;
                    }
                    match connection.exchange(request).await {
                        Ok((200, chunks)) => {
                            outcome.answered += 1;
                            outcome.chunks += chunks;
                            outcome.latencies.append(&mut connection.event_delays);
                        }
                        Ok(_) => outcome.failed += 1,
                        Err(_) => {
                            outcome.failed += 1;
                            break;
                        }
                    }
                }
                outcome
            })
        })
        .collect();
    let mut total = Outcome::default();
    for task in tasks {
        if let Ok(outcome) = task.await {
            total.merge(outcome);
        }
    }
    total.elapsed = started.elapsed();
    total
}

/// Requests leave at fixed times whether or not earlier ones are answered, so that a stall is not hidden.
pub async fn fixed_rate(port: u16, case: &Case, rate: f64, turn: Duration) -> Outcome {
    const CONNECTIONS: usize = 32;
    let started = Instant::now() + Duration::from_millis(20);
    let gap = Duration::from_secs_f64(CONNECTIONS as f64 / rate.max(1.0));
    let tasks: Vec<_> = (0..CONNECTIONS)
        .map(|number| {
            let requests = case.requests(number);
            let mut due = started + gap.mul_f64(number as f64 / CONNECTIONS as f64);
            tokio::spawn(async move {
                let mut outcome = Outcome::default();
                let Ok(mut connection) = Connection::open(port).await else {
                    outcome.failed += 1;
                    return outcome;
                };
                for request in requests.iter().cycle() {
                    if due >= started + turn {
                        break;
                    }
                    tokio::time::sleep_until(due.into()).await;
                    // The timer wakes up to a millisecond late: count from the wake-up unless the last answer
                    // was what kept this request waiting.
                    let late = due.elapsed();
                    let from = if late > Duration::from_millis(3) { due } else { Instant::now() };
                    match connection.exchange(request).await {
                        Ok((200, _)) => outcome.latencies.push(from.elapsed().as_secs_f64() * 1e6),
                        _ => outcome.failed += 1,
                    }
                    outcome.answered += 1;
                    due += gap;
                }
                outcome
            })
        })
        .collect();
    let mut total = Outcome::default();
    for task in tasks {
        if let Ok(outcome) = task.await {
            total.merge(outcome);
        }
    }
    total.elapsed = started.elapsed();
    total
}

/// A keep-alive connection of the load.
pub struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
    /// How long after it was sent the newest event of each read came, in microseconds.
    event_delays: Vec<f64>,
}

impl Connection {
    /// Connects to a port of the loopback.
    pub async fn open(port: u16) -> std::io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, received: Vec::with_capacity(16 * 1024), event_delays: Vec::new() })
    }

    /// Sends a request and reads its answer whole: the status, and how many chunks it held.
    pub async fn exchange(&mut self, request: &[u8]) -> std::io::Result<(u16, u64)> {
        self.stream.write_all(request).await?;
        loop {
            if let Some(end) = memchr::memmem::find(&self.received, b"\r\n\r\n") {
                let head = &self.received[..end];
                let status = std::str::from_utf8(head.get(9..12).unwrap_or_default())
                    .ok()
                    .and_then(|s| s.parse().ok())
                    .unwrap_or(0);
                if is_chunked(head) {
                    self.received.drain(..end + 4);
                    return Ok((status, self.read_chunks().await?));
                }
                let length = end + 4 + content_length(head);
                while self.received.len() < length {
                    self.read().await?;
                }
                self.received.drain(..length);
                return Ok((status, 0));
            }
            self.read().await?;
        }
    }

    async fn read_chunks(&mut self) -> std::io::Result<u64> {
        let mut chunks = 0;
        loop {
            chunks += memchr::memmem::find_iter(&self.received, upstream::SENT).count() as u64;
            self.event_delays.extend(upstream::sent(&self.received).map(|sent| upstream::clock() - sent));
            if self.received.ends_with(b"0\r\n\r\n") {
                self.received.clear();
                return Ok(chunks);
            }
            // One byte less than what tells a chunk, so that none counts twice.
            let keep = self.received.len().min(upstream::SENT.len() - 1);
            self.received.drain(..self.received.len() - keep);
            self.read().await?;
        }
    }

    async fn read(&mut self) -> std::io::Result<()> {
        match self.stream.read_buf(&mut self.received).await? {
            0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

/// The `Content-Length` of a head; 0 where there is none.
pub fn content_length(head: &[u8]) -> usize {
    field(head, "content-length").and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

fn is_chunked(head: &[u8]) -> bool {
    field(head, "transfer-encoding").is_some_and(|value| value.trim().eq_ignore_ascii_case("chunked"))
}

fn field<'a>(head: &'a [u8], name: &str) -> Option<&'a str> {
    head.split(|byte| *byte == b'\n').skip(1).find_map(|line| {
        let at = memchr::memchr(b':', line)?;
        line[..at].eq_ignore_ascii_case(name.as_bytes()).then(|| std::str::from_utf8(&line[at + 1..]).ok())?
    })
}
