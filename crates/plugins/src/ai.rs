//! LLMs.

pub mod ai_proxy;
mod target;
