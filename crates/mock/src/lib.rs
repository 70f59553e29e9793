//! A clearly labelled mock LLM provider for trying, testing and measuring.
