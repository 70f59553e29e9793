//! LLMs.

pub mod accounts;
pub mod ai_proxy;
mod target;
