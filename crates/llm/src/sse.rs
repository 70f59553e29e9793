//! Server-sent events, split where they end, whatever pieces they arrive in.

use bytes::Bytes;

/// Longest event that is looked into; longer ones pass unseen.
const LONGEST_EVENT: usize = 256 * 1024;

/// Finds the ends of events. Holds at most one event that is under way, of bounded length.
#[derive(Debug, Default)]
pub struct Splitter {
    /// Start of the event under way.
    tail: Vec<u8>,
    /// The event under way is too long to be looked into; its start is gone.
    overlong: bool,
}

impl Splitter {
    /// Shows every event that ends in this chunk. What has no end yet is copied and shown later, whole.
    pub fn watch(&mut self, chunk: &Bytes, mut each: impl FnMut(&[u8])) {
        let start = match self.finish_first(chunk) {
            First::UnderWay => return self.keep(&[]),
            First::Ended(event, end) => {
                each(&event);
                self.reuse(event);
                end
            }
            First::Passed(end) | First::Fresh(end) => end,
        };
        let rest = each_event(chunk, start, |from, to| each(&chunk[from..to]));
        self.keep(&chunk[rest..]);
    }

    /// Hands on every event that ends in this chunk, and everything that cannot be looked into; holds back what
    /// has no end yet.
    pub fn pass(&mut self, chunk: Bytes, mut each: impl FnMut(Bytes)) {
        let was_overlong = self.overlong;
        let start = match self.finish_first(&chunk) {
            First::UnderWay if was_overlong => return each(chunk),
            First::UnderWay => {
                // It has just become too long: its start is not held any longer.
                if self.tail.len() > LONGEST_EVENT {
                    each(Bytes::copy_from_slice(&self.tail));
                    self.give_up();
                }
                return;
            }
            First::Ended(event, end) => {
                each(event.into());
                end
            }
            First::Passed(end) => {
                each(chunk.slice(..end));
                end
            }
            First::Fresh(end) => end,
        };
        let rest = each_event(&chunk, start, |from, to| each(chunk.slice(from..to)));
        if chunk.len() - rest > LONGEST_EVENT {
            each(chunk.slice(rest..));
        }
        self.keep(&chunk[rest..]);
    }

    /// What is held of an event when the stream ends.
    pub fn end(&mut self) -> Bytes {
        let tail = std::mem::take(&mut self.tail);
        if std::mem::take(&mut self.overlong) { Bytes::new() } else { tail.into() }
    }

    /// Looks for the end of the event that began in an earlier chunk.
    fn finish_first(&mut self, chunk: &[u8]) -> First {
        if self.tail.is_empty() {
            return First::Fresh(0);
        }
        let before = self.tail.len();
        // An end needs at most three bytes, the last of which is in this chunk.
        let seam = before.saturating_sub(2);
        self.tail.extend_from_slice(chunk);
        match end_of_event(&self.tail[seam..]) {
            Some(end) => {
                let end = seam + end;
                let mut event = std::mem::take(&mut self.tail);
                event.truncate(end);
                match std::mem::take(&mut self.overlong) {
                    true => First::Passed(end - before),
                    false => First::Ended(event, end - before),
                }
            }
            None => {
                if self.overlong {
                    self.give_up();
                }
                First::UnderWay
            }
        }
    }

    /// Keeps the start of an event.
    fn keep(&mut self, start: &[u8]) {
        self.tail.extend_from_slice(start);
        if self.tail.len() > LONGEST_EVENT {
            self.give_up();
        }
    }

    /// Holds only what is needed to see the end of an event.
    fn give_up(&mut self) {
        self.overlong = true;
        let cut = self.tail.len().saturating_sub(2);
        self.tail.drain(..cut);
    }

    /// Keeps the memory of an event for the next one.
    fn reuse(&mut self, mut event: Vec<u8>) {
        event.clear();
        self.tail = event;
    }
}

/// What became of the event that began in an earlier chunk.
enum First {
    /// There was none.
    Fresh(usize),
    /// It has ended: the whole of it, and where it ends in the chunk.
    Ended(Vec<u8>, usize),
    /// It has ended here, but was too long.
    Passed(usize),
    /// It has not ended.
    UnderWay,
}

/// What stands in the `data` lines of an event.
pub(crate) fn data(event: &[u8]) -> impl Iterator<Item = &[u8]> {
    event.split(|byte| *byte == b'\n').filter_map(|line| line.strip_prefix(b"data:")).map(<[u8]>::trim_ascii)
}

/// Calls `each` with the bounds of every event from `start` on; returns where the unfinished rest begins.
fn each_event(chunk: &[u8], start: usize, mut each: impl FnMut(usize, usize)) -> usize {
    let mut from = start;
    while let Some(length) = end_of_event(&chunk[from..]) {
        each(from, from + length);
        from += length;
    }
    from
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
    use proptest::prelude::*;

    fn pieces(stream: &[u8], cuts: &[usize]) -> Vec<Bytes> {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        cuts.windows(2)
            .map(|pair| Bytes::copy_from_slice(&stream[pair[0]..pair[1]]))
            .filter(|piece| !piece.is_empty())
            .collect()
    }

    fn split(pieces: Vec<Bytes>, pass: bool) -> Vec<Vec<u8>> {
        let mut splitter = Splitter::default();
        let mut events = Vec::new();
        for piece in pieces {
            match pass {
                true => splitter.pass(piece, |event| events.push(event.to_vec())),
                false => splitter.watch(&piece, |event| events.push(event.to_vec())),
            }
        }
        let rest = splitter.end();
        if !rest.is_empty() {
            events.push(rest.to_vec());
        }
        events
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_events(lines in prop::collection::vec("[a-c]{0,3}(\n|\r\n)", 0..20), cuts in prop::collection::vec(any::<usize>(), 0..8), pass in any::<bool>()) {
            let stream = lines.concat().into_bytes();
            let whole = split(pieces(&stream, &[]), true);
            prop_assert_eq!(split(pieces(&stream, &cuts), pass), whole.clone());
            prop_assert_eq!(whole.concat(), stream);
        }
    }

    #[test]
    fn a_huge_event_passes_and_is_not_kept() {
        for pass in [true, false] {
            let mut splitter = Splitter::default();
            let (mut passed, mut events) = (0, Vec::new());
            let huge = vec![Bytes::from(vec![b'x'; 64 * 1024]); 100];
            for piece in
                huge.into_iter().chain([Bytes::from_static(b"\n"), Bytes::from_static(b"\ndata: 1\n\n")])
            {
                let mut see = |event: &[u8]| {
                    passed += event.len();
                    events.push(event.len());
                };
                match pass {
                    true => splitter.pass(piece, |event| see(&event)),
                    false => splitter.watch(&piece, see),
                }
                assert!(splitter.tail.len() <= LONGEST_EVENT + 64 * 1024);
            }
            assert_eq!(events.last(), Some(&9));
            assert_eq!(passed, if pass { 100 * 64 * 1024 + 2 + 9 } else { 9 });
        }
    }
}
