//! Plugins that decide how much traffic passes, and from where.

pub mod correlation_id;
pub mod cors;
pub mod rate_limiting;
pub mod request_termination;
