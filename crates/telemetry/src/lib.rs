//! What a node tells about its work: access log, error log, metrics. Every metric's name stands in one table,
//! every file is written through a bounded queue.

pub mod access_log;
pub mod error_log;
pub mod metrics;
pub mod sink;
mod time;

pub use error_log::Level;
pub use sink::Sink;
