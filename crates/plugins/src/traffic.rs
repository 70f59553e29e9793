//! Plugins that decide how much traffic passes, and from where.

pub mod rate_limiting;
