//! A streamed answer of Gemini's, split into its elements: events, or a list of objects, as it was asked for. What
//! comes first says which.

use crate::convert::lines::{Lines, TooLong, json_of};

/// Longest element that is read, in bytes.
const LONGEST: usize = 16 * 1024 * 1024;

/// Finds the objects of a stream, whatever pieces it arrives in.
#[derive(Debug, Default)]
pub(crate) enum Objects {
    /// Nothing has come that says what it is.
    #[default]
    Unknown,
    Events(Lines),
    List(List),
}

/// Objects in a list: found by their braces.
#[derive(Debug, Default)]
pub(crate) struct List {
    /// The object under way.
    object: Vec<u8>,
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Objects {
    /// Shows every object that ends in this chunk.
    ///
    /// # Errors
    /// The object under way is too long.
    pub fn watch(&mut self, chunk: &[u8], each: impl FnMut(&[u8])) -> Result<(), TooLong> {
        if matches!(self, Self::Unknown)
            && let Some(first) = chunk.iter().find(|byte| !byte.is_ascii_whitespace())
        {
            *self = match first {
                b'[' | b'{' => Self::List(List::default()),
                _ => Self::Events(Lines::default()),
            };
        }
        let mut each = each;
        match self {
            Self::Unknown => Ok(()),
            Self::Events(lines) => lines.watch(chunk, |line| {
                if let Some(json) = json_of(line) {
                    each(json);
                }
            }),
            Self::List(list) => list.watch(chunk, each),
        }
    }

    /// What is held of an object when the stream ends.
    pub fn end(&mut self) -> Vec<u8> {
        match std::mem::take(self) {
            Self::Unknown => Vec::new(),
            Self::Events(mut lines) => json_of(&lines.end()).map(<[u8]>::to_vec).unwrap_or_default(),
            Self::List(list) => list.object,
        }
    }
}

impl List {
    fn watch(&mut self, chunk: &[u8], mut each: impl FnMut(&[u8])) -> Result<(), TooLong> {
        let mut start = 0;
        for (at, byte) in chunk.iter().enumerate() {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_string => self.escaped = true,
                b'"' if self.depth > 0 => self.in_string = !self.in_string,
                _ if self.in_string => {}
                b'{' => {
                    if self.depth == 0 {
                        start = at;
                    }
                    self.depth += 1;
                }
                b'}' if self.depth > 0 => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        let piece = chunk.get(start..=at).unwrap_or_default();
                        if self.object.is_empty() {
                            each(piece);
                        } else {
                            self.object.extend_from_slice(piece);
                            each(&std::mem::take(&mut self.object));
                        }
                    }
                }
                _ => {}
            }
        }
        if self.depth > 0 {
            self.object.extend_from_slice(chunk.get(start..).unwrap_or_default());
        }
        match self.object.len() > LONGEST {
            true => Err(TooLong),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(pieces: &[&[u8]]) -> Vec<String> {
        let mut objects = Objects::default();
        let mut found = Vec::new();
        for piece in pieces {
            let each = |object: &[u8]| found.push(String::from_utf8(object.to_vec()).unwrap());
            objects.watch(piece, each).unwrap();
        }
        let rest = objects.end();
        assert_eq!(String::from_utf8(rest).unwrap(), "");
        found
    }

    #[test]
    fn lists_and_events_in_any_pieces() {
        let expected = [r#"{"a": "}]\"{", "b": [{}, [1]]}"#, "{}", r#"{"c":1}"#];
        let [one, two, three] = expected;
        for text in [
            format!("[{one},{two}\n, {three}]"),
            format!(" {one}{two}\r\n{three}"),
            format!("data: {one}\n\ndata:{two}\n\n: x\nevent: y\ndata: {three}\n\ndata: [DONE]\n\n"),
        ] {
            for cut in 0..=text.len() {
                let (start, end) = text.as_bytes().split_at(cut);
                assert_eq!(objects(&[start, end]), expected, "{text} cut at {cut}");
            }
            assert_eq!(objects(&text.as_bytes().chunks(1).collect::<Vec<_>>()), expected);
        }
        assert!(objects(&[b" [", b" ] "]).is_empty());
    }
}
