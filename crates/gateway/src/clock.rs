//! The time of day.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The time since 1970.
pub fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Milliseconds since 1970.
pub fn milliseconds() -> u64 {
    now().as_millis() as u64
}

/// Seconds since 1970.
pub fn seconds() -> u64 {
    milliseconds() / 1000
}
