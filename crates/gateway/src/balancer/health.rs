//! Whether a target is fit: by the requests sent to it, and by requests of the gateway's own (Kong 3.11: passive
//! and active health checks).

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

/// How a try went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The target answered with this status.
    Status(u16),
    /// It could not be reached, or broke off.
    Failed,
    /// It was too slow.
    TimedOut,
}

/// What a target is taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Fit.
    Healthy,
    /// Not fit: it gets no requests.
    Unhealthy,
    /// Nobody checks (`HEALTHCHECKS_OFF`).
    Off,
}

/// When a target changes from healthy to unhealthy and back. A count of 0 is never reached.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Thresholds {
    /// Statuses that are successes.
    pub healthy_statuses: Vec<u16>,
    /// How many successes in a row make a target healthy.
    pub successes: u32,
    /// Statuses that are failures.
    pub unhealthy_statuses: Vec<u16>,
    /// How many failures by status make a target unhealthy.
    pub http_failures: u32,
    /// How many failures to connect.
    pub tcp_failures: u32,
    /// How many answers that did not come in time.
    pub timeouts: u32,
}

impl Thresholds {
    /// Whether anything makes a target unhealthy.
    pub fn can_fail(&self) -> bool {
        self.http_failures + self.tcp_failures + self.timeouts > 0
    }
}

/// How the gateway asks targets by itself.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ActiveChecks {
    /// Whether it speaks TLS.
    pub tls: bool,
    /// Whether the target's certificate is checked.
    pub verify: bool,
    /// Server name for TLS, where it is not the target's.
    pub server_name: Option<Box<str>>,
    /// Path that is asked for.
    pub path: Box<str>,
    /// Fields that are sent.
    pub headers: Vec<(Box<str>, Box<str>)>,
    /// Time for an answer.
    pub timeout: Duration,
    /// Targets asked at a time.
    pub concurrency: usize,
    /// Time between questions to a healthy target; zero for none.
    pub healthy_interval: Duration,
    /// Time between questions to an unhealthy target; zero for none.
    pub unhealthy_interval: Duration,
    /// What the answers mean.
    pub thresholds: Thresholds,
}

impl ActiveChecks {
    /// Whether targets are asked at all.
    pub fn is_on(&self) -> bool {
        !self.healthy_interval.is_zero() || !self.unhealthy_interval.is_zero()
    }
}

/// Health and rows of successes and failures of a target.
#[derive(Debug, Default)]
pub(super) struct TargetHealth {
    unhealthy: AtomicBool,
    successes: AtomicU32,
    http_failures: AtomicU32,
    tcp_failures: AtomicU32,
    timeouts: AtomicU32,
}

impl TargetHealth {
    pub(super) fn is_healthy(&self) -> bool {
        !self.unhealthy.load(Ordering::Relaxed)
    }

    /// Counts an outcome. A success ends all rows of failures, a failure the row of successes; what has no limit
    /// is not counted at all and ends nothing (Kong 3.11).
    pub(super) fn report(&self, outcome: Outcome, thresholds: &Thresholds) {
        let (counter, limit) = match outcome {
            Outcome::Status(status) if thresholds.healthy_statuses.contains(&status) => {
                (&self.successes, thresholds.successes)
            }
            Outcome::Status(status) if thresholds.unhealthy_statuses.contains(&status) => {
                (&self.http_failures, thresholds.http_failures)
            }
            Outcome::Status(_) => return,
            Outcome::Failed => (&self.tcp_failures, thresholds.tcp_failures),
            Outcome::TimedOut => (&self.timeouts, thresholds.timeouts),
        };
        if limit == 0 {
            return;
        }
        let succeeded = std::ptr::eq(counter, &self.successes);
        match succeeded {
            true => forget(&[&self.http_failures, &self.tcp_failures, &self.timeouts]),
            false => forget(&[&self.successes]),
        }
        if succeeded != self.is_healthy() && counter.fetch_add(1, Ordering::Relaxed) + 1 >= limit {
            self.set(succeeded);
        }
    }

    pub(super) fn set(&self, healthy: bool) {
        forget(&[&self.successes, &self.http_failures, &self.tcp_failures, &self.timeouts]);
        self.unhealthy.store(!healthy, Ordering::Relaxed);
    }
}

/// Ends rows. Written only where there is one, so that success costs no shared write.
fn forget(counters: &[&AtomicU32]) {
    for counter in counters {
        if counter.load(Ordering::Relaxed) > 0 {
            counter.store(0, Ordering::Relaxed);
        }
    }
}
