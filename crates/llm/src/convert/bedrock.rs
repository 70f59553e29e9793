//! Bedrock's Converse and ConverseStream.

pub(crate) mod answer_reader;
pub(crate) mod request_writer;
