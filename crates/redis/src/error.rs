//! What can go wrong with Redis.

use std::time::Duration;

/// Why a call to Redis failed. Says nothing secret.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// No connection could be made.
    #[error("Redis at {server} cannot be reached: {reason}")]
    Unreachable {
        /// Where it was looked for.
        server: String,
        /// What happened.
        reason: String,
    },
    /// Connected, but no answer came in time.
    #[error("Redis at {server} did not answer within {} ms", .after.as_millis())]
    Timeout {
        /// Who was asked.
        server: String,
        /// How long the answer was waited for.
        after: Duration,
    },
    /// The connection broke, or the command was refused.
    #[error("Redis at {server}: {reason}")]
    Failed {
        /// Who was asked.
        server: String,
        /// What it said.
        reason: String,
    },
}
