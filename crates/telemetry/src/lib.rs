//! Access log and metrics: every name in one table, sinks with bounded queues.
