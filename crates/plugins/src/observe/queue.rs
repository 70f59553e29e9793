//! What is to be sent to another server waits here (Kong 3.11: `config.queue`): whoever has an entry hands it over and
//! goes on; in the background entries are gathered into batches, and sent until they have arrived or their time is
//! over.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use tokio::sync::Notify;
use tokio::time::Instant;
use tollgate_model::Config;
use tollgate_telemetry::log;

use crate::background;

/// How entries wait and are sent.
#[derive(Debug, Clone, Config)]
pub struct QueueConfig {
    /// Most entries that are sent together.
    #[config(default = 1, between(1, 1_000_000))]
    pub max_batch_size: usize,
    /// Longest time, in seconds, that the first entry waits for others to be sent with it.
    #[config(default = 1, between(0, 3600))]
    pub max_coalescing_delay: f64,
    /// Most entries that wait; where there are more, the oldest is lost.
    #[config(default = 10_000, between(1, 1_000_000))]
    pub max_entries: usize,
    /// Most bytes that wait, for entries that are texts.
    #[config(optional)]
    #[allow(dead_code, reason = "Kong 3.11 has it for all; what waits here is not text")]
    pub max_bytes: Option<u64>,
    /// Seconds after which a batch that cannot be sent is lost; -1 for no second try.
    #[config(default = 60)]
    pub max_retry_time: f64,
    /// Seconds before the second try; each further one waits twice as long.
    #[config(default = 0.01, between(0.001, 1_000_000))]
    pub initial_retry_delay: f64,
    /// Longest time, in seconds, between two tries.
    #[config(default = 60, between(0.001, 1_000_000))]
    pub max_retry_delay: f64,
    /// Batches that are sent at a time: 1, or -1 for any number.
    #[config(default = 1, one_of(-1, 1))]
    pub concurrency_limit: i64,
}

/// Sends batches.
pub trait Delivery<T>: Send + Sync + 'static {
    /// Sends one batch, once.
    ///
    /// # Errors
    /// Why it has not arrived; it may be sent again.
    fn deliver(&self, batch: &[T]) -> impl Future<Output = Result<(), String>> + Send;
}

/// A queue. When the last handle goes, what waits is sent still.
pub struct Queue<T: Send + 'static> {
    line: Arc<Line<T>>,
}

struct Line<T> {
    /// What sends, and where to, for the error log.
    name: String,
    waiting: ArrayQueue<T>,
    arrived: Notify,
    /// Entries that found the queue full, and pushed others out.
    lost: AtomicU64,
    /// Nobody has a handle any more.
    closed: AtomicBool,
}

/// Entries of all queues that have neither arrived nor been lost.
static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);
/// The node stops: nothing waits for others any more, nor for a second try.
static STOPPING: AtomicBool = AtomicBool::new(false);

type Wakes = Mutex<HashMap<usize, Weak<dyn Wake>>>;

/// What has to be woken when the node stops.
static ALL: LazyLock<Wakes> = LazyLock::new(Mutex::default);

trait Wake: Send + Sync {
    fn wake(&self);
}

impl<T: Send> Wake for Line<T> {
    fn wake(&self) {
        self.arrived.notify_one();
    }
}

/// Has what waits in all queues sent, and waits for that at most so long.
pub fn flush_all(allowed: Duration) {
    let deadline = std::time::Instant::now() + allowed;
    STOPPING.store(true, Ordering::Release);
    let lines: Vec<_> = ALL.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
    lines.iter().filter_map(Weak::upgrade).for_each(|line| line.wake());
    while UNDER_WAY.load(Ordering::Acquire) > 0 && std::time::Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl<T: Send + 'static> Queue<T> {
    /// A queue whose batches `delivery` sends. `name` says in the error log what sends, and where to.
    ///
    /// # Errors
    /// There is no thread to send with.
    pub fn new(name: String, config: QueueConfig, delivery: impl Delivery<T>) -> io::Result<Self>
    where
        T: Sync,
    {
        let runtime =
            background::runtime().map_err(|error| io::Error::new(error.kind(), error.to_string()))?;
        let line = Arc::new(Line {
            name,
            waiting: ArrayQueue::new(config.max_entries.max(1)),
            arrived: Notify::new(),
            lost: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        });
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, line| line.strong_count() > 0);
        let wakes: Weak<dyn Wake> = Arc::<Line<T>>::downgrade(&line) as Weak<dyn Wake>;
        all.insert(Arc::as_ptr(&line) as usize, wakes);
        runtime.spawn(run(Arc::clone(&line), config, Arc::new(delivery)));
        Ok(Self { line })
    }

    /// Hands an entry over. Never waits: where the queue is full, the oldest entry is lost.
    pub fn push(&self, entry: T) {
        UNDER_WAY.fetch_add(1, Ordering::AcqRel);
        if self.line.waiting.force_push(entry).is_some() {
            UNDER_WAY.fetch_sub(1, Ordering::AcqRel);
            self.line.lost.fetch_add(1, Ordering::Relaxed);
        }
        self.line.arrived.notify_one();
    }
}

impl<T: Send + 'static> Drop for Queue<T> {
    fn drop(&mut self) {
        self.line.closed.store(true, Ordering::Release);
        self.line.wake();
    }
}

/// Sends what comes, until nobody can hand anything over any more.
async fn run<T: Send + Sync + 'static>(
    line: Arc<Line<T>>,
    config: QueueConfig,
    delivery: Arc<impl Delivery<T>>,
) {
    let config = Arc::new(config);
    loop {
        let batch = line.gather(&config).await;
        let lost = line.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            log!(Error, "{}: the queue was full; its {lost} oldest entries were lost", line.name);
        }
        if batch.is_empty() {
            return;
        }
        let sending = send(Arc::clone(&line), Arc::clone(&config), Arc::clone(&delivery), batch);
        match config.concurrency_limit {
            1 => sending.await,
            _ => drop(tokio::spawn(sending)),
        }
    }
}

impl<T> Line<T> {
    /// The next batch; empty where there is none and none can come.
    async fn gather(&self, config: &QueueConfig) -> Vec<T> {
        let mut until = None;
        loop {
            let is_last = self.closed.load(Ordering::Acquire);
            let now = Instant::now();
            let is_due = until.is_some_and(|until| now >= until) || STOPPING.load(Ordering::Acquire);
            let is_there = !self.waiting.is_empty();
            if is_last || is_there && is_due || self.waiting.len() >= config.max_batch_size {
                let most = config.max_batch_size.min(self.waiting.len());
                return (0..most).map_while(|_| self.waiting.pop()).collect();
            }
            match until {
                Some(until) => drop(tokio::time::timeout_at(until, self.arrived.notified()).await),
                None if is_there => until = Some(now + seconds(config.max_coalescing_delay)),
                None => self.arrived.notified().await,
            }
        }
    }
}

/// Sends a batch until it has arrived, or its time is over.
async fn send<T: Send + Sync + 'static>(
    line: Arc<Line<T>>,
    config: Arc<QueueConfig>,
    delivery: Arc<impl Delivery<T>>,
    batch: Vec<T>,
) {
    let started = Instant::now();
    let mut pause = seconds(config.initial_retry_delay);
    while let Err(error) = delivery.deliver(&batch).await {
        let over = config.max_retry_time < 0.0
            || started.elapsed() + pause > seconds(config.max_retry_time)
            || STOPPING.load(Ordering::Acquire);
        if over {
            log!(
                Error,
                "{}: could not send entries due to max_retry_time exceeded. {} queue entries were lost: {error}",
                line.name,
                batch.len()
            );
            break;
        }
        log!(Warn, "{}: handler could not process entries: {error}", line.name);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(seconds(config.max_retry_delay));
    }
    UNDER_WAY.fetch_sub(batch.len(), Ordering::AcqRel);
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Tells of each batch, and fails the first times.
    struct Teller {
        tell: Mutex<Sender<Vec<u32>>>,
        fails: AtomicUsize,
    }

    impl Delivery<u32> for Teller {
        async fn deliver(&self, batch: &[u32]) -> Result<(), String> {
            let fails = self.fails.load(Ordering::Relaxed);
            if fails > 0 {
                self.fails.store(fails - 1, Ordering::Relaxed);
                return Err("not now".to_owned());
            }
            self.tell.lock().unwrap().send(batch.to_vec()).map_err(|error| error.to_string())
        }
    }

    fn queue(change: impl Fn(&mut QueueConfig), fails: usize) -> (Queue<u32>, Receiver<Vec<u32>>) {
        let shape = tollgate_model::schema::Shape::new(tollgate_model::FieldType::Record(
            QueueConfig::schema().clone(),
        ));
        let filled = shape.check(tollgate_model::json!({}), tollgate_model::Mode::Insert).unwrap();
        let mut config = QueueConfig::from_checked(&filled).unwrap();
        change(&mut config);
        let (tell, told) = channel();
        let delivery = Teller { tell: Mutex::new(tell), fails: AtomicUsize::new(fails) };
        (Queue::new("test".to_owned(), config, delivery).unwrap(), told)
    }

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn batches_are_full_or_due() {
        let (queue, told) = queue(
            |config| {
                config.max_batch_size = 3;
                config.max_coalescing_delay = 0.05;
            },
            0,
        );
        (0..4).for_each(|entry| queue.push(entry));
        assert_eq!(told.recv_timeout(LONG).unwrap(), [0, 1, 2]);
        assert_eq!(told.recv_timeout(LONG).unwrap(), [3]);
    }

    #[test]
    fn what_waits_is_sent_when_the_queue_goes() {
        let (queue, told) = queue(
            |config| {
                config.max_batch_size = 100;
                config.max_coalescing_delay = 3600.0;
            },
            0,
        );
        queue.push(7);
        drop(queue);
        assert_eq!(told.recv_timeout(LONG).unwrap(), [7]);
    }

    #[test]
    fn a_batch_is_sent_again_until_its_time_is_over() {
        let (queue, told) = queue(|_| {}, 3);
        queue.push(1);
        assert_eq!(told.recv_timeout(LONG).unwrap(), [1]);
        let (queue, told) = self::queue(|config| config.max_retry_time = -1.0, 1);
        queue.push(1);
        queue.push(2);
        assert_eq!(told.recv_timeout(LONG).unwrap(), [2]);
    }

    #[test]
    fn the_oldest_entries_are_lost_where_there_is_no_room() {
        let (queue, told) = queue(
            |config| {
                config.max_entries = 2;
                config.max_batch_size = 5;
                config.max_coalescing_delay = 3600.0;
            },
            0,
        );
        (0..10).for_each(|entry| queue.push(entry));
        drop(queue);
        assert_eq!(told.recv_timeout(LONG).unwrap(), [8, 9]);
    }
}
