//! LLM formats and providers as pure functions over bytes and JSON.
