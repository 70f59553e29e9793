//! LLMs.

pub mod ai_proxy;
