//! Server-sent events on their way through: watched, not held.

use bytes::{Bytes, BytesMut};

use crate::json::Object;
use crate::usage::Seen;

/// Longest event that is looked into; longer ones pass unseen.
const LONGEST_EVENT: usize = 256 * 1024;

/// Watches a stream of OpenAI's events for model and usage.
#[derive(Debug, Default)]
pub struct Watch {
    tail: BytesMut,
    /// The event under way is too long to be looked into.
    overlong: bool,
    hide_usage: bool,
    seen: Seen,
}

impl Watch {
    /// `hide_usage` takes the event that holds nothing but usage out of the stream, where the gateway asked for
    /// it and the client did not.
    pub fn new(hide_usage: bool) -> Self {
        Self { hide_usage, ..Self::default() }
    }

    /// Takes in a chunk, in any split of the bytes, and returns what goes on at once.
    pub fn chunk(&mut self, chunk: Bytes) -> Bytes {
        if self.hide_usage {
            return self.filter(&chunk);
        }
        self.tail.extend_from_slice(&chunk);
        while let Some(event) = self.next_event() {
            self.look(&event);
        }
        chunk
    }

    /// What is held of an unfinished event when the stream ends.
    pub fn end(&mut self) -> Bytes {
        let rest = std::mem::take(&mut self.tail).freeze();
        self.look(&rest);
        if self.hide_usage { rest } else { Bytes::new() }
    }

    /// What the stream has said so far.
    pub fn seen(&self) -> &Seen {
        &self.seen
    }

    fn filter(&mut self, chunk: &[u8]) -> Bytes {
        self.tail.extend_from_slice(chunk);
        let mut out = BytesMut::new();
        while let Some(event) = self.next_event() {
            if !self.look(&event) {
                out.extend_from_slice(&event);
            }
        }
        if self.overlong {
            out.extend_from_slice(&std::mem::take(&mut self.tail));
        }
        out.freeze()
    }

    /// The next whole event, its empty line included.
    fn next_event(&mut self) -> Option<Bytes> {
        let end = end_of_event(&self.tail);
        match end {
            Some(end) => {
                let event = self.tail.split_to(end).freeze();
                let cut = std::mem::take(&mut self.overlong);
                // Of an event whose start has passed already only the end is here.
                Some(if cut && !self.hide_usage { Bytes::new() } else { event })
            }
            None => {
                if self.tail.len() > LONGEST_EVENT {
                    self.overlong = true;
                    if !self.hide_usage {
                        let keep = self.tail.len() - 3;
                        let _ = self.tail.split_to(keep);
                    }
                }
                None
            }
        }
    }

    /// Looks into an event; whether it holds nothing but usage.
    fn look(&mut self, event: &[u8]) -> bool {
        // The first event tells the model; of the others only those with usage are worth reading.
        if self.seen.model.is_some() && !has_usage(event) {
            return false;
        }
        let mut only_usage = false;
        for line in event.split(|byte| *byte == b'\n') {
            let Some(data) = line.strip_prefix(b"data:") else { continue };
            if let Some(object) = Object::parse(data.trim_ascii()) {
                self.seen.take(&object);
                only_usage =
                    object.get("choices").is_some_and(|choices| choices == "[]") && object.is_truthy("usage");
            }
        }
        only_usage
    }
}

fn has_usage(event: &[u8]) -> bool {
    memchr::memmem::find_iter(event, b"\"usage\"").any(|at| {
        let rest = event.get(at + 7..).unwrap_or_default().trim_ascii_start();
        rest.strip_prefix(b":").is_some_and(|value| value.trim_ascii_start().starts_with(b"{"))
    })
}

/// Where the first event ends: after an empty line, whatever its line ends are.
fn end_of_event(bytes: &[u8]) -> Option<usize> {
    for at in memchr::memchr_iter(b'\n', bytes) {
        match bytes.get(at + 1..) {
            Some([b'\n', ..]) => return Some(at + 2),
            Some([b'\r', b'\n', ..]) => return Some(at + 3),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = concat!(
        "data: {\"model\":\"gpt-x\",\"choices\":[{\"delta\":{\"content\":\"\\\"usage\\\"\"}}],\"usage\":null}\n\n",
        ": keep-alive\n\n",
        "data: {\"model\":\"gpt-x\",\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\r\n\r\n",
        "data: {\"model\":\"gpt-x\",\"choices\":[],\"usage\":{\"prompt_tokens\":19,\"completion_tokens\":3,\"total_tokens\":22}}\n\n",
        "data: [DONE]\n\n"
    );

    #[test]
    fn any_split_gives_the_same() {
        let hidden = STREAM.replace(
            &STREAM[STREAM.find("data: {\"model\":\"gpt-x\",\"choices\":[],").unwrap()
                ..STREAM.find("data: [DONE]").unwrap()],
            "",
        );
        for hide in [false, true] {
            for split in 0..=STREAM.len() {
                for single in [false, true] {
                    let (first, second) = STREAM.as_bytes().split_at(split);
                    let pieces: Vec<&[u8]> =
                        if single { STREAM.as_bytes().chunks(1).collect() } else { vec![first, second] };
                    let mut watch = Watch::new(hide);
                    let mut out = Vec::new();
                    for piece in pieces {
                        out.extend_from_slice(&watch.chunk(Bytes::copy_from_slice(piece)));
                    }
                    out.extend_from_slice(&watch.end());
                    assert_eq!(String::from_utf8(out).unwrap(), if hide { hidden.as_str() } else { STREAM });
                    let usage = watch.seen().usage.as_ref().unwrap();
                    assert_eq!(
                        (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens),
                        (19, 3, 22)
                    );
                    assert_eq!(watch.seen().model.as_deref(), Some("gpt-x"));
                    if !single && split > 1 {
                        break;
                    }
                }
            }
        }
    }

    #[test]
    fn a_huge_event_passes_and_is_not_kept() {
        for hide in [false, true] {
            let mut watch = Watch::new(hide);
            let mut out = 0;
            for _ in 0..100 {
                out += watch.chunk(Bytes::from(vec![b'x'; 64 * 1024])).len();
                assert!(watch.tail.len() <= LONGEST_EVENT + 64 * 1024);
            }
            out += watch.end().len();
            assert_eq!(out, 100 * 64 * 1024);
        }
    }
}
