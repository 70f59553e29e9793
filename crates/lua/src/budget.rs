//! How long a call may run.

use std::cell::Cell;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Most instructions of a call, and steps in matching its patterns.
const STEPS: u64 = 10_000_000;

/// Most time on a core. Instructions differ in what they cost: one can copy a long string.
const TIME: Duration = Duration::from_millis(500);

/// A call may run no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it ran for more than {STEPS} instructions or {} ms", TIME.as_millis())]
pub(crate) struct Spent;

/// What is left of a call's time.
pub(crate) struct Budget {
    steps: Cell<u64>,
    started: Cell<Instant>,
    time: Cell<Duration>,
    spent: Cell<bool>,
}

impl Budget {
    pub(crate) fn new() -> Self {
        Self {
            steps: Cell::new(0),
            started: Cell::new(Instant::now()),
            time: Cell::new(on_core()),
            spent: Cell::new(false),
        }
    }

    /// A call begins.
    pub(crate) fn begin(&self) {
        self.steps.set(0);
        self.started.set(Instant::now());
        self.time.set(on_core());
        self.spent.set(false);
    }

    /// Whether the call may run no longer.
    pub(crate) fn is_spent(&self) -> bool {
        self.spent.get()
    }

    /// Counts so many steps.
    ///
    /// # Errors
    /// They were too many; so they stay until the next call begins.
    pub(crate) fn spend(&self, steps: u64) -> Result<(), Spent> {
        self.steps.set(self.steps.get().saturating_add(steps));
        if self.steps.get() > STEPS {
            self.spent.set(true);
        }
        if self.spent.get() { Err(Spent) } else { Ok(()) }
    }

    /// The same, with a look at the clock.
    ///
    /// # Errors
    /// See [`Budget::spend`].
    pub(crate) fn spend_and_look(&self, steps: u64) -> Result<(), Spent> {
        // The wall's clock is cheap to ask; but while others have the core, no time of this call goes by.
        if self.started.get().elapsed() > TIME && on_core().saturating_sub(self.time.get()) > TIME {
            self.spent.set(true);
        }
        self.spend(steps)
    }
}

/// Time that this thread has had on a core.
fn on_core() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}
