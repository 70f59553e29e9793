//! Plugins that change requests and answers.

mod arguments;
mod edits;
mod members;
mod pair;
pub mod request_transformer;
pub mod response_transformer;
pub(crate) mod template;
