//! LLMs.

pub mod ai_proxy;

pub use tollgate_llm::openai::HOST as OPENAI_HOST;
