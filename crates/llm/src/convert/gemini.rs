//! Gemini's `generateContent`, of AI Studio and of Vertex.

pub(crate) mod answer_reader;
pub(crate) mod calls;
mod objects;
pub(crate) mod request_writer;
mod schema;
