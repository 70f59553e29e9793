//! LLMs.

pub mod ai_proxy;
pub mod ai_proxy_advanced;
mod target;
