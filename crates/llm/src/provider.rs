//! The providers: a file each, and a line in [`named`].

pub mod openai;

use bytes::Bytes;

use crate::Operation;
use crate::request::{Call, Rules};
use crate::usage::Seen;

/// Someone who runs models: where its API is, what it is sent, what its answers mean.
pub trait Provider: Send + Sync {
    /// Kong's name for it.
    fn name(&self) -> &'static str;

    /// Host of its API, reached with TLS on port 443.
    fn host(&self) -> &'static str;

    /// Path of an operation; `None` where the client's own path is kept.
    fn path(&self, operation: Operation) -> Option<&'static str>;

    /// Makes of the client's request what is sent.
    fn request(&self, call: &Call<'_>, rules: &Rules<'_>) -> Sent;

    /// Checks a whole answer of status 200, and takes in what it says where that is wanted.
    ///
    /// # Errors
    /// Why it cannot be passed on, in Kong's words; the client gets status 500.
    fn answer(&self, body: &[u8], operation: Operation, seen: Option<&mut Seen>) -> Result<(), String>;

    /// What follows a streamed answer on its way.
    fn stream(&self, wishes: StreamWishes) -> Box<dyn Stream>;
}

/// A request as the provider gets it.
#[derive(Debug, PartialEq, Eq)]
pub struct Sent {
    /// The body.
    pub body: Vec<u8>,
    /// Whether the event with the usage is to be hidden from the client, who did not ask for it.
    pub hide_usage: bool,
}

/// What is wanted of a streamed answer besides passing it on.
#[derive(Debug, Clone, Copy, Default)]
pub struct StreamWishes {
    /// Hide the event that holds nothing but usage.
    pub hide_usage: bool,
    /// Keep the text of the answer.
    pub keep_text: bool,
}

/// A streamed answer on its way.
pub trait Stream: Send {
    /// Takes in a chunk, in any split of the bytes, and returns what goes on at once.
    fn chunk(&mut self, chunk: Bytes) -> Bytes;

    /// What is held of an unfinished event when the stream ends.
    fn end(&mut self) -> Bytes;

    /// Gives away what the stream has said.
    fn take_seen(&mut self) -> Seen;
}

/// The provider of this name; `None` for one that is not served yet.
pub fn named(name: &str) -> Option<&'static dyn Provider> {
    match name {
        "openai" => Some(&openai::OpenAi),
        _ => None,
    }
}
