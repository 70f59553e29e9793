//! Field lines as nearly all are, read in one pass.

use bytes::Bytes;

use super::{END, Headers, SEPARATOR, glance, spare};
use crate::head::alphanumeric_and;

/// The field lines of a head.
pub(crate) struct Lines(Headers);

/// Bytes that may stand in a name (RFC 9110 §5.6.2).
const TOKEN: [bool; 256] = alphanumeric_and(b"!#$%&'*+-.^_`|~");

impl Lines {
    /// Reads the lines of `head` from `start` to the empty line that ends it, and tells where that ends. `None` at
    /// anything else than lines spaced as they are written here, and where there are more than `most`: what is odd,
    /// broken or not all there is for others to judge.
    pub(crate) fn read(head: &[u8], start: usize, most: usize) -> Option<(Self, usize)> {
        let mut lines = Self(Headers(Some(spare())));
        let list = lines.0.list_mut();
        let mut at = start;
        loop {
            let rest = head.get(at..)?;
            if rest.starts_with(END) {
                return Some((lines, at + END.len()));
            }
            let length = rest.iter().position(|byte| !TOKEN[usize::from(*byte)])?;
            let (name, rest) = rest.split_at(length);
            let rest = rest.strip_prefix(SEPARATOR)?;
            let (value, rest) = rest.split_at(text_length(rest)?);
            let is_plain = !name.is_empty()
                && matches!(value, [first, ..] if *first != b' ')
                && matches!(value, [.., last] if *last != b' ');
            if !is_plain || !rest.starts_with(END) || list.fields.len() >= most {
                return None;
            }
            list.push_received(glance(name), at, name.len(), value.len());
            at += name.len() + SEPARATOR.len() + value.len() + END.len();
        }
    }

    /// The list of these lines. `received` is the head they were read from.
    pub(crate) fn over(mut self, received: Bytes) -> Headers {
        self.0.list_mut().received = received;
        self.0
    }
}

/// Bytes before the first control byte; `None` where there is none. Eight at a time.
#[inline]
pub(crate) fn text_length(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let (eights, rest) = bytes.as_chunks();
    for (number, eight) in eights.iter().enumerate() {
        let word = u64::from_le_bytes(*eight);
        // The lowest bit that is set tells the first; borrows may set some above it.
        let low = word.wrapping_sub(ONES * 0x20) & !word;
        let deletes = word ^ (ONES * 0x7f);
        let delete = deletes.wrapping_sub(ONES) & !deletes;
        let found = (low | delete) & HIGH;
        if found != 0 {
            return Some(number * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    rest.iter().position(u8::is_ascii_control).map(|at| eights.len() * 8 + at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_control_byte_is_found_anywhere() {
        for length in 0..40 {
            assert_eq!(text_length(&vec![0xe4; length]), None);
            for at in 0..length {
                for byte in 0..=255_u8 {
                    let mut bytes = vec![b'~'; length];
                    bytes[at] = byte;
                    // What stands behind does not count.
                    if let Some(after) = bytes.get_mut(at + 1) {
                        *after = b'\r';
                    }
                    let expected = if byte.is_ascii_control() { Some(at) } else { Some(at + 1) };
                    assert_eq!(text_length(&bytes), expected.filter(|at| *at < length), "{bytes:?}");
                }
            }
        }
    }
}
