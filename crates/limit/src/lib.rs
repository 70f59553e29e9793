//! Windows and counters for limits.
//!
//! Counting in this process takes no lock: counters are atomics in tables that only grow, one table for each
//! window. When a window is over, its table goes as a whole. [`Counters`] count requests in periods of the
//! calendar, [`Windows`] any amounts in windows of any length, [`Shared`] does so in a Redis that nodes share.

mod counters;
mod period;
mod shared;
mod table;
mod windows;

pub use counters::{Counters, Limit, Taken};
pub use period::Period;
pub use shared::{Change, Found, Part, Shared};
pub use windows::{Claim, KeyHash, Used, Window, WindowType, Windows, take};
