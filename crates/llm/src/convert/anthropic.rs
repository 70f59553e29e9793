//! Anthropic's Messages, and its older text completions.

pub(crate) mod answer_reader;
pub(crate) mod request_writer;
