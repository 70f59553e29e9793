//! One timer per connection, armed lazily.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::task::coop::has_budget_remaining;
use tokio::time::{Instant, Sleep, sleep_until};

/// A timer whose deadline may move with every wait without touching the runtime's timer wheel.
///
/// A connection waits for many things, mostly with deadlines further away each time. The timer stays armed
/// for the earliest deadline it was given; when it fires early it is armed again for the one that counts.
#[derive(Default)]
pub(crate) struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    /// Only ever polled by one task.
    of_one_task: bool,
    /// Will wake a task at the time it is armed for.
    is_set: bool,
}

impl Timer {
    /// A timer that only one task ever polls, so that it needs to be told once whom to wake.
    pub(crate) fn of_one_task() -> Self {
        Self { of_one_task: true, ..Self::default() }
    }

    /// Ready once `deadline` has passed; else wakes the task no later than shortly after it.
    pub(crate) fn poll_expired(&mut self, context: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
            self.is_set = false;
        }
        if self.is_set && self.of_one_task && !sleep.is_elapsed() {
            return Poll::Pending;
        }
        loop {
            // Out of budget, the timer wakes the task at once instead of being set.
            self.is_set = has_budget_remaining();
            ready!(sleep.as_mut().poll(context));
            if sleep.deadline() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_deadline_may_move_either_way() {
        for mut timer in [Timer::default(), Timer::of_one_task()] {
            let mut wait = async |milliseconds| {
                let deadline = Instant::now() + Duration::from_millis(milliseconds);
                std::future::poll_fn(|context| timer.poll_expired(context, deadline)).await;
                assert!(Instant::now() >= deadline);
            };
            // As a connection mostly waits: what it waits for comes before.
            for milliseconds in [60_000, 30_000, 90_000] {
                let _ = tokio::time::timeout(Duration::from_millis(1), wait(milliseconds)).await;
            }
            for milliseconds in [5, 30, 1, 10] {
                wait(milliseconds).await;
            }
        }
    }

    #[tokio::test]
    async fn a_timer_that_was_asked_without_budget_wakes_all_the_same() {
        let mut timer = Timer::of_one_task();
        let deadline = Instant::now() + Duration::from_millis(5);
        let mut asked = 0;
        std::future::poll_fn(|context| {
            asked += 1;
            while asked == 1 && has_budget_remaining() {
                let _ = std::pin::pin!(tokio::task::coop::consume_budget()).poll(context);
            }
            timer.poll_expired(context, deadline)
        })
        .await;
        assert!(Instant::now() >= deadline);
    }
}
