//! From one format to another: a file for each pair and direction. What the pairs share is what they all read
//! ([`chat`]) and what they all write ([`chunks`], [`answer`]).

pub(crate) mod answer;
pub(crate) mod anthropic_to_openai;
pub(crate) mod bedrock_to_openai;
pub(crate) mod chat;
pub(crate) mod chunks;
pub(crate) mod completion;
pub(crate) mod ollama_to_openai;
pub(crate) mod openai_to_anthropic;
pub(crate) mod openai_to_bedrock;
pub(crate) mod openai_to_ollama;
