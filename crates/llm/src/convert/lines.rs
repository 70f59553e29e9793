//! Lines of a stream, split where they end, whatever pieces they arrive in.

/// Longest line that is read, in bytes.
const LONGEST_LINE: usize = 16 * 1024 * 1024;

/// A line is longer than any that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLong;

/// Finds the ends of lines. Holds at most one line that is under way, of bounded length.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    /// Start of the line under way.
    tail: Vec<u8>,
}

impl Lines {
    /// Shows every line that ends in this chunk.
    ///
    /// # Errors
    /// The line under way is too long; its start is gone.
    pub fn watch(&mut self, chunk: &[u8], mut each: impl FnMut(&[u8])) -> Result<(), TooLong> {
        let mut rest = chunk;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let (line, after) = rest.split_at(end + 1);
            rest = after;
            if self.tail.is_empty() {
                each(line);
            } else {
                self.tail.extend_from_slice(line);
                each(&std::mem::take(&mut self.tail));
            }
        }
        self.tail.extend_from_slice(rest);
        if self.tail.len() > LONGEST_LINE {
            self.tail = Vec::new();
            return Err(TooLong);
        }
        Ok(())
    }

    /// What is held of a line when the stream ends.
    pub fn end(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.tail)
    }
}

/// The JSON text of a line, be it a line of JSON or one of an event that has all its data in one line; `None` for
/// lines that have none.
pub(crate) fn json_of(line: &[u8]) -> Option<&[u8]> {
    let line = line.trim_ascii();
    let data = line.strip_prefix(b"data:").map(<[u8]>::trim_ascii);
    match data {
        Some(b"" | b"[DONE]") => None,
        Some(data) => Some(data),
        None if line.is_empty() || line.starts_with(b":") => None,
        None if [&b"event:"[..], b"id:", b"retry:"].iter().any(|field| line.starts_with(field)) => None,
        None => Some(line),
    }
}
