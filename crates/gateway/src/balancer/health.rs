//! Whether a target is fit, by the requests sent to it (Kong 3.11: passive health checks).

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

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

/// When a target is taken for unhealthy. A count of 0 is never reached.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PassiveChecks {
    /// Statuses that end a row of failures.
    pub healthy_statuses: Vec<u16>,
    /// Statuses that are failures.
    pub unhealthy_statuses: Vec<u16>,
    /// How many failures by status make a target unhealthy.
    pub http_failures: u32,
    /// How many failures to connect.
    pub tcp_failures: u32,
    /// How many answers that did not come in time.
    pub timeouts: u32,
}

impl PassiveChecks {
    /// Whether anything makes a target unhealthy.
    pub fn is_on(&self) -> bool {
        self.http_failures + self.tcp_failures + self.timeouts > 0
    }
}

/// Health and rows of failures of a target.
#[derive(Debug, Default)]
pub(super) struct TargetHealth {
    unhealthy: AtomicBool,
    http_failures: AtomicU32,
    tcp_failures: AtomicU32,
    timeouts: AtomicU32,
}

impl TargetHealth {
    pub(super) fn is_healthy(&self) -> bool {
        !self.unhealthy.load(Ordering::Relaxed)
    }

    /// Counts an outcome. A target that is unhealthy stays so until somebody says otherwise: it gets no
    /// requests by which it could recover (Kong 3.11).
    pub(super) fn report(&self, outcome: Outcome, checks: &PassiveChecks) {
        let (counter, limit) = match outcome {
            Outcome::Status(status) if checks.unhealthy_statuses.contains(&status) => {
                (&self.http_failures, checks.http_failures)
            }
            Outcome::Status(status) => {
                if checks.healthy_statuses.contains(&status) {
                    self.forget();
                }
                return;
            }
            Outcome::Failed => (&self.tcp_failures, checks.tcp_failures),
            Outcome::TimedOut => (&self.timeouts, checks.timeouts),
        };
        if limit > 0 && counter.fetch_add(1, Ordering::Relaxed) + 1 >= limit {
            self.unhealthy.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn set(&self, healthy: bool) {
        self.forget();
        self.unhealthy.store(!healthy, Ordering::Relaxed);
    }

    /// Ends all rows of failures. Written only where there is one, so that success costs no shared write.
    fn forget(&self) {
        for counter in [&self.http_failures, &self.tcp_failures, &self.timeouts] {
            if counter.load(Ordering::Relaxed) > 0 {
                counter.store(0, Ordering::Relaxed);
            }
        }
    }
}
