//! Plugins that tell what happened.

pub mod file_log;
mod lua_field;
pub mod opentelemetry;
pub mod prometheus;
pub mod queue;
