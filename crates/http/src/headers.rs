//! Header lists that keep order and case, and cost one allocation per message.

use std::ops::Range;

use bytes::Bytes;

/// An ordered list of header fields. Names keep the case they arrived in; look-ups ignore case.
///
/// Every field stands somewhere as the line it is on the wire: those that were parsed in the received bytes,
/// those set later in one side buffer. Adding a field copies bytes but allocates rarely, and neighbours are
/// written with one copy.
#[derive(Clone, Default)]
pub struct Headers {
    received: Bytes,
    added: Vec<u8>,
    fields: Vec<Field>,
    seen: Seen,
}

/// Where a line stands: `name: value\r\n`.
#[derive(Clone, Copy)]
struct Field {
    /// What the name looks like at a glance, so that most others are told apart without being read.
    glance: u32,
    start: u32,
    name: u32,
    value: u32,
    added: bool,
}

impl Field {
    fn name(&self) -> Range<usize> {
        self.start as usize..(self.start + self.name) as usize
    }

    fn value(&self) -> Range<usize> {
        let start = (self.start + self.name) as usize + SEPARATOR.len();
        start..start + self.value as usize
    }

    fn line(&self) -> Range<usize> {
        self.start as usize..self.value().end + END.len()
    }
}

const SEPARATOR: &[u8] = b": ";
const END: &[u8] = b"\r\n";

/// Length, first and last byte of a name, whatever its case.
#[inline]
fn glance(name: &[u8]) -> u32 {
    match name {
        [] => 0,
        [first, ..] => {
            let last = name[name.len() - 1];
            (name.len() as u32) << 16 | u32::from(first | 0x20) << 8 | u32::from(last | 0x20)
        }
    }
}

/// Bits of every name there is or was, so that most names that are not there need not be looked for.
#[derive(Clone, Copy, Default)]
struct Seen([u64; 2]);

impl Seen {
    #[inline]
    fn bits(glance: u32) -> [u64; 2] {
        let mixed = glance.wrapping_mul(0x9e37_79b1);
        [1 << (mixed >> 26), 1 << (mixed >> 20 & 63)]
    }

    #[inline]
    fn add(&mut self, glance: u32) {
        let [one, other] = Self::bits(glance);
        self.0 = [self.0[0] | one, self.0[1] | other];
    }

    #[inline]
    fn may_have(self, glance: u32) -> bool {
        let [one, other] = Self::bits(glance);
        self.0[0] & one != 0 && self.0[1] & other != 0
    }
}

/// Whether there is a byte that must not stand in a line (CR, LF, NUL). Eight at a time: all of them, and nothing
/// else but a few control bytes, are less than 14.
#[inline]
fn breaks_lines(bytes: &[u8]) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let low = |eight: &[u8; 8]| {
        let word = u64::from_ne_bytes(*eight);
        word.wrapping_sub(ONES * 14) & !word & HIGH
    };
    let suspicious = match bytes.last_chunk() {
        // The last eight overlap those before.
        Some(last) => bytes.as_chunks().0.iter().fold(low(last), |all, eight| all | low(eight)) != 0,
        None => bytes.iter().any(|byte| *byte < 14),
    };
    suspicious && bytes.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0))
}

/// Room for what a proxy usually adds to a message, so that adding it allocates once.
const MORE_FIELDS: usize = 16;
const MORE_BYTES: usize = 512;

impl Headers {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// A list over a received message head. `fields` are (name, value) byte ranges of `received`.
    pub fn from_received(
        received: Bytes,
        fields: impl Iterator<Item = (Range<usize>, Range<usize>)>,
    ) -> Self {
        let list = Vec::with_capacity(fields.size_hint().0 + MORE_FIELDS);
        let mut headers = Self { received, added: Vec::new(), fields: list, seen: Seen::default() };
        for (name, value) in fields {
            let between = headers.received.get(name.end..value.start);
            let after = headers.received.get(value.end..value.end + END.len());
            if between == Some(SEPARATOR) && after == Some(END) {
                let glance = glance(&headers.received[name.clone()]);
                headers.seen.add(glance);
                headers.fields.push(Field {
                    glance,
                    start: name.start as u32,
                    name: name.len() as u32,
                    value: value.len() as u32,
                    added: false,
                });
            } else {
                // Spaced otherwise than lines are here.
                let received = headers.received.clone();
                let field = headers.store(&received[name], &[&received[value]]);
                headers.fields.push(field);
            }
        }
        headers
    }

    /// Bytes of the head the list was received with, first line included; 0 where it was not.
    pub fn received_bytes(&self) -> usize {
        self.received.len()
    }

    /// Number of fields.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The first value of `name`.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.position(name).map(|at| self.value(&self.fields[at]))
    }

    /// The first value of `name`, where it is UTF-8.
    pub fn get_str(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// Every value of `name`, in order.
    pub fn get_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> + 'a {
        let glance = glance(name.as_bytes());
        let fields = if self.seen.may_have(glance) { self.fields.as_slice() } else { &[] };
        fields
            .iter()
            .filter(move |field| self.is_named(field, name, glance))
            .map(move |field| self.value(field))
    }

    /// Whether a field of this name is present.
    pub fn contains(&self, name: &str) -> bool {
        self.position(name).is_some()
    }

    /// Every (name, value), in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> + '_ {
        self.fields.iter().map(move |field| (self.name(field), self.value(field)))
    }

    /// Sets `name` to one value: the first field of that name keeps its place, further ones go, a new one
    /// goes to the end. Bytes that must not stand in a value (CR, LF, NUL) become spaces.
    pub fn set(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.set_parts(name, &[value.as_ref()]);
    }

    /// Sets `name` to one value, which is these parts one behind the other (see [`Headers::set`]).
    pub fn set_parts(&mut self, name: &str, value: &[&[u8]]) {
        match self.position(name) {
            Some(at) => {
                let mut spelled = [0; 64];
                let found = self.name(&self.fields[at]);
                let length = found.len();
                let field = match spelled.get_mut(..length) {
                    Some(spelled) => {
                        spelled.copy_from_slice(found);
                        self.store(spelled, value)
                    }
                    None => self.store(name.as_bytes(), value),
                };
                self.fields[at] = field;
                self.remove_from(name, at + 1);
            }
            None => {
                let field = self.store(name.as_bytes(), value);
                self.fields.push(field);
            }
        }
    }

    /// Adds a further field of this name at the end. Bytes that must not stand in a value become spaces.
    pub fn append(&mut self, name: &str, value: impl AsRef<[u8]>) {
        let field = self.store(name.as_bytes(), &[value.as_ref()]);
        self.fields.push(field);
    }

    /// Removes every field of this name; tells whether there was one.
    pub fn remove(&mut self, name: &str) -> bool {
        self.remove_from(name, 0)
    }

    /// Keeps the fields for which `keep(name, value)` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(&[u8], &[u8]) -> bool) {
        let mut fields = std::mem::take(&mut self.fields);
        fields.retain(|field| keep(self.name(field), self.value(field)));
        self.fields = fields;
    }

    /// Gives every field called `from` the name `to`; tells whether there was one.
    pub fn rename(&mut self, from: &str, to: &str) -> bool {
        let mut renamed = false;
        let glance = glance(from.as_bytes());
        for at in 0..self.fields.len() {
            if self.is_named(&self.fields[at], from, glance) {
                let value = self.value(&self.fields[at]).to_vec();
                self.fields[at] = self.store(to.as_bytes(), &[&value]);
                renamed = true;
            }
        }
        renamed
    }

    /// Appends the lines of the fields for which `write` holds, in order.
    pub(crate) fn put_lines<'a>(&'a self, out: &mut Vec<u8>, mut write: impl FnMut(Line<'a>) -> bool) {
        // Neighbours on the wire are copied together.
        let mut run = (false, 0..0);
        for field in &self.fields {
            if !write(Line { headers: self, field }) {
                continue;
            }
            let line = field.line();
            if run.0 == field.added && run.1.end == line.start {
                run.1.end = line.end;
            } else {
                out.extend_from_slice(&self.buffer(run.0)[run.1]);
                run = (field.added, line);
            }
        }
        out.extend_from_slice(&self.buffer(run.0)[run.1]);
    }

    #[inline]
    fn position(&self, name: &str) -> Option<usize> {
        let glance = glance(name.as_bytes());
        if !self.seen.may_have(glance) {
            return None;
        }
        self.fields.iter().position(|field| self.is_named(field, name, glance))
    }

    /// Removes the fields of this name that stand at `from` or later; tells whether there was one.
    fn remove_from(&mut self, name: &str, from: usize) -> bool {
        let (before, glance) = (self.fields.len(), glance(name.as_bytes()));
        if !self.seen.may_have(glance) {
            return false;
        }
        let mut at = from;
        while let Some(field) = self.fields.get(at) {
            if self.is_named(field, name, glance) {
                self.fields.remove(at);
            } else {
                at += 1;
            }
        }
        self.fields.len() != before
    }

    /// Writes a line into the side buffer.
    fn store(&mut self, name: &[u8], value: &[&[u8]]) -> Field {
        let added = &mut self.added;
        let length: usize = value.iter().map(|part| part.len()).sum();
        let start = added.len();
        let needed = name.len() + SEPARATOR.len() + length + END.len();
        if added.capacity() - start < needed {
            added.reserve(needed.max(MORE_BYTES));
        }
        added.extend_from_slice(name);
        added.extend_from_slice(SEPARATOR);
        value.iter().for_each(|part| added.extend_from_slice(part));
        let line = &mut added[start..];
        if breaks_lines(line) {
            let unfit = |byte: &&mut u8| matches!(byte, b'\r' | b'\n' | 0);
            line.iter_mut().filter(unfit).for_each(|byte| *byte = b' ');
        }
        added.extend_from_slice(END);
        let glance = glance(name);
        self.seen.add(glance);
        Field { glance, start: start as u32, name: name.len() as u32, value: length as u32, added: true }
    }

    fn buffer(&self, added: bool) -> &[u8] {
        if added { &self.added } else { &self.received }
    }

    fn name(&self, field: &Field) -> &[u8] {
        &self.buffer(field.added)[field.name()]
    }

    fn value(&self, field: &Field) -> &[u8] {
        &self.buffer(field.added)[field.value()]
    }

    #[inline]
    fn is_named(&self, field: &Field, name: &str, glance: u32) -> bool {
        field.glance == glance && self.name(field).eq_ignore_ascii_case(name.as_bytes())
    }
}

/// A field, looked at only as far as needed.
#[derive(Clone, Copy)]
pub(crate) struct Line<'a> {
    headers: &'a Headers,
    field: &'a Field,
}

impl<'a> Line<'a> {
    /// Length of the name.
    pub(crate) fn name_len(&self) -> usize {
        self.field.name as usize
    }

    /// Whether it is called so.
    pub(crate) fn is(&self, name: &[u8]) -> bool {
        self.headers.name(self.field).eq_ignore_ascii_case(name)
    }

    /// The value.
    pub(crate) fn value(&self) -> &'a [u8] {
        self.headers.value(self.field)
    }
}

impl std::fmt::Debug for Headers {
    /// Names only: values may be secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| String::from_utf8_lossy(name))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_break_lines_are_found_anywhere() {
        for length in 0..40 {
            for at in 0..length {
                for byte in 0..=255 {
                    let mut bytes = vec![b'x'; length];
                    bytes[at] = byte;
                    assert_eq!(breaks_lines(&bytes), matches!(byte, b'\r' | b'\n' | 0), "{bytes:?}");
                }
            }
        }
    }

    #[test]
    fn set_keeps_the_place_and_drops_repeats() {
        let mut headers = Headers::from_received(
            Bytes::from_static(b"A: 1\r\nB:2\r\na: 3\r\n"),
            [(0..1, 3..4), (6..7, 8..9), (11..12, 14..15)].into_iter(),
        );
        headers.set("a", "9");
        assert_eq!(
            headers.iter().map(|(n, v)| [n, b"=", v].concat()).collect::<Vec<_>>(),
            [b"A=9".to_vec(), b"B=2".to_vec()]
        );
        assert!(headers.remove("b"));
        assert!(!headers.remove("b"));
        headers.append("x", "evil\r\ninjected: 1");
        assert_eq!(headers.get("X"), Some(&b"evil  injected: 1"[..]));
        headers.set_parts("X", &[b"1", b".", b"2\n"]);
        headers.append("y", "");
        let mut out = Vec::new();
        headers.put_lines(&mut out, |_| true);
        assert_eq!(out, b"A: 9\r\nx: 1.2 \r\ny: \r\n");
        out.clear();
        headers.put_lines(&mut out, |line| !line.is(b"X"));
        assert_eq!(out, b"A: 9\r\ny: \r\n");
    }
}
