//! Message heads: finding their end, reading them strictly.

pub(crate) mod partial;
mod request;
mod response;
mod target;
#[cfg(test)]
mod tests;

pub(crate) use request::{ParsedRequest, RequestFraming, parse_request, plain_request};
pub(crate) use response::{ParsedResponse, ResponseFraming, parse_response, plain_response};
pub(crate) use target::{is_sound, valid_host};

/// A table of the bytes that are letters, digits or one of `others`.
pub(crate) const fn alphanumeric_and(others: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut at = 0;
    while at < 256 {
        table[at] = (at as u8).is_ascii_alphanumeric();
        at += 1;
    }
    at = 0;
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    table
}

/// Bounds on a received head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadLimits {
    /// Longest single line in bytes (nginx: the size in `large_client_header_buffers`).
    pub line: usize,
    /// Longest head in bytes (nginx: number × size of `large_client_header_buffers`).
    pub total: usize,
    /// Most header fields; at most [`MOST_FIELDS`] counts.
    pub fields: usize,
}

/// The most header fields a message may have, whatever the configuration.
pub const MOST_FIELDS: usize = 256;

impl HeadLimits {
    /// What `large_client_header_buffers number size` of nginx allows.
    pub fn from_buffers(number: usize, size: usize) -> Self {
        Self { line: size, total: number.saturating_mul(size), fields: MOST_FIELDS }
    }
}

impl Default for HeadLimits {
    /// nginx: `large_client_header_buffers 4 8k`.
    fn default() -> Self {
        Self::from_buffers(4, 8 * 1024)
    }
}

/// Why the end of a head cannot be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScanError {
    /// A line feed without a carriage return before it.
    BareLineFeed,
    /// The first line is longer than a line may be.
    FirstLineTooLong,
    /// A further line, or the head, is longer than allowed.
    TooLong,
}

/// Finds the end of a head that arrives in pieces, looking at every byte once.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HeadScanner {
    scanned: usize,
    line_start: usize,
}

impl HeadScanner {
    /// Whether it has looked at nothing yet.
    pub(crate) fn is_fresh(self) -> bool {
        self.scanned == 0
    }

    /// The length of the head with its empty line, once all of it is in `bytes` (which only ever grows).
    /// `bare_line_feeds` tells whether a line may end in LF alone.
    pub(crate) fn find_end(
        &mut self,
        bytes: &[u8],
        limits: &HeadLimits,
        bare_line_feeds: bool,
    ) -> Result<Option<usize>, ScanError> {
        loop {
            let found = memchr::memchr(b'\n', bytes.get(self.scanned..).unwrap_or_default());
            let end = found.map_or(bytes.len(), |at| self.scanned + at);
            let first = self.line_start == 0;
            if end - self.line_start > limits.line {
                return Err(if first { ScanError::FirstLineTooLong } else { ScanError::TooLong });
            }
            if end > limits.total {
                return Err(ScanError::TooLong);
            }
            if found.is_none() {
                self.scanned = end;
                return Ok(None);
            }
            let line = bytes.get(self.line_start..end).unwrap_or_default();
            let content = line.strip_suffix(b"\r").unwrap_or(line);
            if content.len() == line.len() && !bare_line_feeds {
                return Err(ScanError::BareLineFeed);
            }
            self.scanned = end + 1;
            self.line_start = end + 1;
            if content.is_empty() {
                return Ok(Some(end + 1));
            }
        }
    }
}

/// The (name, value) ranges of `fields` within the head that starts at address `base`.
pub(crate) fn ranges<'a>(
    base: usize,
    fields: &'a [httparse::Header<'a>],
) -> impl Iterator<Item = (std::ops::Range<usize>, std::ops::Range<usize>)> + 'a {
    let range = move |part: &[u8]| {
        let start = (part.as_ptr() as usize).wrapping_sub(base);
        // An empty part may point anywhere.
        if part.is_empty() { 0..0 } else { start..start + part.len() }
    };
    fields.iter().map(move |field| (range(field.name.as_bytes()), range(field.value)))
}

/// Whether a comma-separated list has this token, ignoring case.
pub(crate) fn has_token(list: &[u8], token: &str) -> bool {
    list.split(|byte| *byte == b',').any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

/// A `Content-Length` value: digits only, no list, no sign (RFC 9110 §8.6).
fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(value.iter().fold(0, |length, digit| length * 10 + u64::from(digit - b'0')))
}
