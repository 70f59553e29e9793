//! What can go wrong with vectors.

use std::time::Duration;

/// Why an index has no answer. Says nothing secret.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// A vector of another length than the index is for.
    #[error(
        "the vector has {found} numbers where `vectordb.dimensions` says {expected}; \
         set it to what the embeddings model gives"
    )]
    Length {
        /// How many numbers it has.
        found: usize,
        /// How many it should have.
        expected: usize,
    },
    /// A vector with a number that is none.
    #[error("the vector has a number that is not finite")]
    NotFinite,
    /// The Redis does not answer, or refuses.
    #[error(transparent)]
    Redis(#[from] tollgate_redis::Error),
    /// The Redis is there, and cannot search.
    #[error("Redis at {server} has no search module (RediSearch, or Redis 8): {reason}")]
    NoSearch {
        /// Who was asked.
        server: String,
        /// What it said.
        reason: String,
    },
    /// The Redis answers with what was not asked.
    #[error("Redis at {server} answers a search with something else")]
    NotUnderstood {
        /// Who was asked.
        server: String,
    },
    /// No connection to Postgres could be made.
    #[error("Postgres at {server} cannot be reached: {reason}")]
    Unreachable {
        /// Where it was looked for.
        server: String,
        /// What happened.
        reason: String,
    },
    /// Postgres did not answer in time.
    #[error("Postgres at {server} did not answer within {} ms", .after.as_millis())]
    Timeout {
        /// Who was asked.
        server: String,
        /// How long the answer was waited for.
        after: Duration,
    },
    /// Postgres refused a statement, or the connection broke.
    #[error("Postgres at {server}: {reason}")]
    Postgres {
        /// Who was asked.
        server: String,
        /// What it said.
        reason: String,
    },
    /// The node stops while the index is at work.
    #[error("the node is stopping")]
    Stopping,
}
