//! The chunked transfer coding (RFC 9112 §7.1), read strictly.

use bytes::BytesMut;

use super::Decoded;
use crate::Headers;
use crate::head::{HeadLimits, HeadScanner};

/// Longest chunk-size line, extensions included.
const LONGEST_SIZE_LINE: usize = 1024;
/// Most bytes spent on chunk extensions in one body.
const MOST_EXTENSION_BYTES: usize = 16 * 1024;
/// Bounds on the trailer section.
const TRAILER_LIMITS: HeadLimits = HeadLimits { line: 8 * 1024, total: 16 * 1024, fields: 64 };

/// Reads a chunked body from any split of its bytes.
#[derive(Debug, Default)]
pub(crate) struct Chunked {
    state: State,
    extension_bytes: usize,
    trailers: Option<Headers>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Size,
    Data(u64),
    DataEnd,
    Trailers(HeadScanner),
    Done,
}

impl Chunked {
    pub(super) fn decode(&mut self, buffer: &mut BytesMut) -> Result<Decoded, &'static str> {
        loop {
            match &mut self.state {
                State::Size => {
                    let line = buffer.get(..buffer.len().min(LONGEST_SIZE_LINE)).unwrap_or_default();
                    let Some(end) = memchr::memchr(b'\n', line) else {
                        return if line.len() == LONGEST_SIZE_LINE {
                            Err("a chunk size line is too long")
                        } else {
                            Ok(Decoded::More)
                        };
                    };
                    let line = line
                        .get(..end)
                        .and_then(|line| line.strip_suffix(b"\r"))
                        .ok_or("a chunk size line ends in a bare line feed")?;
                    let (size, extension) = parse_size(line)?;
                    self.extension_bytes += extension;
                    if self.extension_bytes > MOST_EXTENSION_BYTES {
                        return Err("too many bytes of chunk extensions");
                    }
                    let _ = buffer.split_to(end + 1);
                    self.state =
                        if size == 0 { State::Trailers(HeadScanner::default()) } else { State::Data(size) };
                }
                State::Data(remaining) => {
                    if buffer.is_empty() {
                        return Ok(Decoded::More);
                    }
                    let length = usize::try_from(*remaining).unwrap_or(usize::MAX).min(buffer.len());
                    *remaining -= length as u64;
                    if *remaining == 0 {
                        self.state = State::DataEnd;
                    }
                    return Ok(Decoded::Data(buffer.split_to(length).freeze()));
                }
                State::DataEnd => match buffer.as_ref() {
                    [b'\r', b'\n', ..] => {
                        let _ = buffer.split_to(2);
                        self.state = State::Size;
                    }
                    [] | [b'\r'] => return Ok(Decoded::More),
                    _ => return Err("a chunk is longer than its size"),
                },
                State::Trailers(scanner) => {
                    match scanner.find_end(buffer, &TRAILER_LIMITS, false) {
                        Ok(Some(end)) => {
                            let section = buffer.split_to(end).freeze();
                            self.trailers = parse_trailers(section)?;
                            self.state = State::Done;
                        }
                        Ok(None) => return Ok(Decoded::More),
                        Err(_) => return Err("the trailer section is malformed or too long"),
                    };
                }
                State::Done => return Ok(Decoded::End),
            }
        }
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    pub(super) fn take_trailers(&mut self) -> Option<Headers> {
        self.trailers.take()
    }
}

/// The size a chunk-size line states, and the length of its extensions.
fn parse_size(line: &[u8]) -> Result<(u64, usize), &'static str> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    // 15 digits leave room for sums of sizes in 64 bits.
    if digits == 0 || digits > 15 {
        return Err("a chunk size is not a hexadecimal number");
    }
    let (number, extension) = line.split_at(digits);
    let size = number
        .iter()
        .fold(0, |size, digit| size << 4 | u64::from((*digit as char).to_digit(16).unwrap_or(0)));
    match extension.trim_ascii_start().first() {
        None if extension.is_empty() => {}
        Some(b';') if extension.iter().all(|byte| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f)) => {}
        _ => return Err("a chunk size is followed by odd bytes"),
    }
    Ok((size, extension.len()))
}

/// The fields of a trailer section, without those that must not stand in one (RFC 9110 §6.5.1).
fn parse_trailers(section: bytes::Bytes) -> Result<Option<Headers>, &'static str> {
    let mut fields = [httparse::EMPTY_HEADER; TRAILER_LIMITS.fields];
    let parsed = match httparse::parse_headers(&section, &mut fields) {
        Ok(httparse::Status::Complete((_, parsed))) => parsed,
        _ => return Err("the trailer section is malformed"),
    };
    if parsed.is_empty() {
        return Ok(None);
    }
    let base = section.as_ptr() as usize;
    let mut trailers = Headers::from_received(section.clone(), crate::head::ranges(base, parsed));
    const NEVER: [&str; 7] =
        ["content-length", "transfer-encoding", "host", "connection", "trailer", "te", "content-encoding"];
    trailers.retain(|name, _| !NEVER.iter().any(|never| name.eq_ignore_ascii_case(never.as_bytes())));
    Ok(Some(trailers))
}

/// Appends the line that opens a chunk of this size.
pub(crate) fn write_chunk_size(out: &mut Vec<u8>, size: usize) {
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4).max(1);
    for place in (0..digits).rev() {
        let digit = (size >> (place * 4) & 0xf) as u32;
        out.push(char::from_digit(digit, 16).unwrap_or('0') as u8);
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests;
