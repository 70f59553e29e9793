//! Vectors of texts, kept and searched: what looks for meaning goes by how near two of them are.
//!
//! [`Index`] is what its users know; [`Embedded`] keeps the vectors in this process and beside the store,
//! [`RedisIndex`] in a Redis with a search module, [`PgVector`] in a Postgres with the `pgvector` extension. All
//! three search exactly, and measure alike ([`Metric`]).

mod distance;
mod embedded;
mod error;
mod pgvector;
mod redis;

use std::pin::Pin;

pub use distance::Metric;
pub use embedded::{Embedded, Shelf};
pub use error::Error;
pub use pgvector::{PgVector, PgVectorSettings, PgVectorTls};
pub use redis::RedisIndex;

/// An answer that may take time, though it never holds its thread up.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// Where vectors are kept, each under an id that is unique in its namespace. Namespaces need not be made, and see
/// nothing of each other.
pub trait Index: Send + Sync {
    /// Kong's name of it, for logs and metrics (`vectordb.strategy`).
    fn name(&self) -> &'static str;

    /// Keeps a vector, in place of the one that has this id already.
    fn put<'a>(&'a self, namespace: &'a str, id: &'a str, vector: &'a [f32]) -> Answer<'a, ()>;

    /// Whether there is a vector of this id.
    fn has<'a>(&'a self, namespace: &'a str, id: &'a str) -> Answer<'a, bool>;

    /// Forgets a vector. It is no error where there is none.
    fn delete<'a>(&'a self, namespace: &'a str, id: &'a str) -> Answer<'a, ()>;

    /// The vectors that a search is for, nearest first.
    fn nearest<'a>(&'a self, namespace: &'a str, search: Search<'a>) -> Answer<'a, Vec<Hit>>;
}

/// What is looked for.
#[derive(Debug, Clone, Copy)]
pub struct Search<'a> {
    /// What the vectors are to be near to.
    pub vector: &'a [f32],
    /// Ids of those that count; `None` for all.
    pub among: Option<&'a [String]>,
    /// How many are wanted.
    pub most: usize,
    /// How far they may be.
    pub within: Option<f64>,
}

/// What the vectors of an index are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    /// How many numbers each has.
    pub dimensions: usize,
    /// How their distance is measured.
    pub metric: Metric,
}

impl Shape {
    /// # Errors
    /// A vector of another length, or one that is no point.
    fn check(self, vector: &[f32]) -> Result<(), Error> {
        if vector.len() != self.dimensions {
            return Err(Error::Length { found: vector.len(), expected: self.dimensions });
        }
        vector.iter().all(|number| number.is_finite()).then_some(()).ok_or(Error::NotFinite)
    }
}

/// A vector that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// Its id.
    pub id: String,
    /// How far it is from the one that was looked for.
    pub distance: f64,
}

/// The nearest of them, in order.
fn nearest_of(mut hits: Vec<Hit>, most: usize, within: Option<f64>) -> Vec<Hit> {
    hits.retain(|hit| within.is_none_or(|within| hit.distance <= within));
    hits.sort_by(|one, other| one.distance.total_cmp(&other.distance).then_with(|| one.id.cmp(&other.id)));
    hits.truncate(most);
    hits
}
