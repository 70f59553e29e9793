//! OpenAI's events on their way to the client: watched for model and usage, not held.

use std::sync::LazyLock;

use bytes::{Bytes, BytesMut};
use memchr::memmem::Finder;

use crate::json::{self, Object};
use crate::provider::{Stream, StreamWishes};
use crate::sse::{Splitter, data};
use crate::usage::Seen;

/// Finds a member by its name, quotes included; made once, for events are many and short.
type Name = LazyLock<Finder<'static>>;

static USAGE: Name = LazyLock::new(|| Finder::new(b"\"usage\""));
static CONTENT: Name = LazyLock::new(|| Finder::new(b"\"content\""));
static TEXT: Name = LazyLock::new(|| Finder::new(b"\"text\""));
static FINISH_REASON: Name = LazyLock::new(|| Finder::new(b"\"finish_reason\""));

/// A streamed answer that passes as it is.
pub(super) struct Watched {
    splitter: Splitter,
    wishes: StreamWishes,
    seen: Seen,
}

impl Watched {
    pub(super) fn new(wishes: StreamWishes) -> Self {
        Self { splitter: Splitter::default(), wishes, seen: Seen::default() }
    }
}

impl Stream for Watched {
    fn chunk(&mut self, chunk: Bytes) -> Bytes {
        let Self { splitter, wishes, seen } = self;
        if !wishes.hide_usage {
            splitter.watch(&chunk, |event| look(event, seen, wishes.keep_text));
            return chunk;
        }
        let mut kept = Kept::default();
        splitter.pass(chunk, |event| {
            look(&event, seen, wishes.keep_text);
            if !holds_only_usage(&event) {
                kept.add(event);
            }
        });
        kept.finish()
    }

    fn end(&mut self) -> Bytes {
        let rest = self.splitter.end();
        look(&rest, &mut self.seen, self.wishes.keep_text);
        match self.wishes.hide_usage && !holds_only_usage(&rest) {
            true => rest,
            false => Bytes::new(),
        }
    }

    fn take_seen(&mut self) -> Seen {
        std::mem::take(&mut self.seen)
    }
}

/// A streamed response (`llm/v1/responses`) that passes as it is.
pub(super) struct WatchedResponse {
    splitter: Splitter,
    keep_text: bool,
    seen: Seen,
}

static DELTA: Name = LazyLock::new(|| Finder::new(b"\"delta\""));
static OUTPUT_TEXT: Name = LazyLock::new(|| Finder::new(b"response.output_text.delta"));
static RESPONSE: Name = LazyLock::new(|| Finder::new(b"\"response\""));

impl WatchedResponse {
    pub(super) fn new(wishes: StreamWishes) -> Self {
        Self { splitter: Splitter::default(), keep_text: wishes.keep_text, seen: Seen::default() }
    }

    /// Pieces of text, and the events that tell of the whole response.
    fn look(event: &[u8], seen: &mut Seen, keep_text: bool) {
        if OUTPUT_TEXT.find(event).is_some() {
            if let Some(text) = string(event, &DELTA) {
                seen.text.add(text, keep_text);
            }
        } else if values(event, &RESPONSE).next().is_some() {
            for object in data(event).filter_map(Object::parse) {
                let response = object.get("response").and_then(|text| Object::parse(text.as_bytes()));
                if let Some(response) = response {
                    seen.take(&response);
                }
            }
        }
    }
}

impl Stream for WatchedResponse {
    fn chunk(&mut self, chunk: Bytes) -> Bytes {
        let Self { splitter, keep_text, seen } = self;
        splitter.watch(&chunk, |event| Self::look(event, seen, *keep_text));
        chunk
    }

    fn end(&mut self) -> Bytes {
        let rest = self.splitter.end();
        Self::look(&rest, &mut self.seen, self.keep_text);
        Bytes::new()
    }

    fn take_seen(&mut self) -> Seen {
        std::mem::take(&mut self.seen)
    }
}

/// Pieces that go on, without a copy as long as there is only one.
#[derive(Default)]
struct Kept {
    only: Bytes,
    more: BytesMut,
}

impl Kept {
    fn add(&mut self, piece: Bytes) {
        if self.only.is_empty() && self.more.is_empty() {
            self.only = piece;
            return;
        }
        if self.more.is_empty() {
            self.more.extend_from_slice(&std::mem::take(&mut self.only));
        }
        self.more.extend_from_slice(&piece);
    }

    fn finish(self) -> Bytes {
        if self.more.is_empty() { self.only } else { self.more.freeze() }
    }
}

/// Takes in what an event says. Only events that tell model or usage are read as JSON; of the others the text
/// is found by its name.
fn look(event: &[u8], seen: &mut Seen, keep_text: bool) {
    if seen.model.is_none() || usage(event).is_some() {
        for object in data(event).filter_map(Object::parse) {
            seen.take(&object);
        }
    }
    if let Some(text) = text(event) {
        seen.text.add(text, keep_text);
    }
    if keep_text && let Some(reason) = string(event, &FINISH_REASON) {
        seen.finish_reason = json::unquote(reason).map(|reason| reason.into_owned());
    }
}

/// The `usage` of an event, from its opening brace on.
fn usage(event: &[u8]) -> Option<&[u8]> {
    values(event, &USAGE).find(|value| value.starts_with(b"{"))
}

/// The event that OpenAI sends last where usage was asked for.
fn holds_only_usage(event: &[u8]) -> bool {
    usage(event).is_some()
        && data(event)
            .filter_map(Object::parse)
            .any(|object| object.get("choices").is_some_and(|choices| choices.replace(' ', "") == "[]"))
}

/// The text of an event's first choice, as JSON text.
fn text(event: &[u8]) -> Option<&[u8]> {
    string(event, &CONTENT).or_else(|| string(event, &TEXT))
}

/// The first string that stands under a name.
fn string<'a>(event: &'a [u8], name: &Name) -> Option<&'a [u8]> {
    values(event, name).find_map(json::string_at_start)
}

/// What stands behind the colon, wherever a name is followed by one.
fn values<'a>(event: &'a [u8], name: &Name) -> impl Iterator<Item = &'a [u8]> {
    let length = name.needle().len();
    name.find_iter(event).filter_map(move |at| {
        let rest = event.get(at + length..)?.trim_ascii_start();
        rest.strip_prefix(b":").map(<[u8]>::trim_ascii_start)
    })
}
