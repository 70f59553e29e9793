//! Ollama's own API.

pub(crate) mod answer_reader;
pub(crate) mod request_writer;
