//! Windows and counters for rate limits.
