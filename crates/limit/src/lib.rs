//! Windows and counters for rate limits.
//!
//! Counting takes no lock: counters are atomics in tables that only grow, one table for each window. When a
//! window is over, its table goes as a whole.

mod counters;
mod period;
mod table;

pub use counters::{Counters, Limit, Taken};
pub use period::Period;
