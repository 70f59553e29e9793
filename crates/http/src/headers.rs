//! Header lists that keep order and case, and cost one allocation per message.

use bytes::Bytes;

/// An ordered list of header fields. Names keep the case they arrived in; look-ups ignore case.
///
/// Fields that were parsed from the wire are slices of the received bytes; fields set later live in one
/// side buffer, so adding a field copies bytes but allocates rarely.
#[derive(Clone, Default)]
pub struct Headers {
    received: Bytes,
    added: Vec<u8>,
    fields: Vec<Field>,
}

#[derive(Clone, Copy)]
struct Field {
    /// What the name looks like at a glance, so that most others are told apart without being read.
    glance: u32,
    name: Span,
    value: Span,
}

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

#[derive(Clone, Copy)]
struct Span {
    start: u32,
    length: u32,
    added: bool,
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
        fields: impl Iterator<Item = (std::ops::Range<usize>, std::ops::Range<usize>)>,
    ) -> Self {
        let span = |range: std::ops::Range<usize>| Span {
            start: range.start as u32,
            length: (range.end - range.start) as u32,
            added: false,
        };
        let mut list = Vec::with_capacity(fields.size_hint().0 + MORE_FIELDS);
        list.extend(fields.map(|(name, value)| Field {
            glance: glance(&received[name.clone()]),
            name: span(name),
            value: span(value),
        }));
        Self { received, added: Vec::new(), fields: list }
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
        self.position(name).map(|at| self.bytes(self.fields[at].value))
    }

    /// The first value of `name`, where it is UTF-8.
    pub fn get_str(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// Every value of `name`, in order.
    pub fn get_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> + 'a {
        let glance = glance(name.as_bytes());
        self.fields
            .iter()
            .filter(move |field| self.is_named(field, name, glance))
            .map(move |field| self.bytes(field.value))
    }

    /// Whether a field of this name is present.
    pub fn contains(&self, name: &str) -> bool {
        self.position(name).is_some()
    }

    /// Every (name, value), in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> + '_ {
        self.fields.iter().map(move |field| (self.bytes(field.name), self.bytes(field.value)))
    }

    /// Sets `name` to one value: the first field of that name keeps its place, further ones go, a new one
    /// goes to the end. Bytes that must not stand in a value (CR, LF, NUL) become spaces.
    pub fn set(&mut self, name: &str, value: impl AsRef<[u8]>) {
        let value = self.store(value.as_ref());
        match self.position(name) {
            Some(at) => {
                self.fields[at].value = value;
                self.remove_from(name, at + 1);
            }
            None => self.push(name, value),
        }
    }

    /// Adds a further field of this name at the end. Bytes that must not stand in a value become spaces.
    pub fn append(&mut self, name: &str, value: impl AsRef<[u8]>) {
        let value = self.store(value.as_ref());
        self.push(name, value);
    }

    /// Removes every field of this name; tells whether there was one.
    pub fn remove(&mut self, name: &str) -> bool {
        self.remove_from(name, 0)
    }

    /// Keeps the fields for which `keep(name, value)` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(&[u8], &[u8]) -> bool) {
        let mut fields = std::mem::take(&mut self.fields);
        fields.retain(|field| keep(self.bytes(field.name), self.bytes(field.value)));
        self.fields = fields;
    }

    /// Gives every field called `from` the name `to`; tells whether there was one.
    pub fn rename(&mut self, from: &str, to: &str) -> bool {
        let mut renamed = false;
        let (old, new) = (glance(from.as_bytes()), glance(to.as_bytes()));
        for at in 0..self.fields.len() {
            if self.is_named(&self.fields[at], from, old) {
                self.fields[at].name = self.store(to.as_bytes());
                self.fields[at].glance = new;
                renamed = true;
            }
        }
        renamed
    }

    fn position(&self, name: &str) -> Option<usize> {
        let glance = glance(name.as_bytes());
        self.fields.iter().position(|field| self.is_named(field, name, glance))
    }

    /// Removes the fields of this name that stand at `from` or later; tells whether there was one.
    fn remove_from(&mut self, name: &str, from: usize) -> bool {
        let (before, glance) = (self.fields.len(), glance(name.as_bytes()));
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

    fn push(&mut self, name: &str, value: Span) {
        let glance = glance(name.as_bytes());
        let name = self.store(name.as_bytes());
        self.fields.push(Field { glance, name, value });
    }

    fn store(&mut self, bytes: &[u8]) -> Span {
        let start = self.added.len();
        if self.added.capacity() == 0 {
            self.added.reserve(MORE_BYTES);
        }
        self.added.extend_from_slice(bytes);
        if memchr::memchr3(b'\r', b'\n', 0, bytes).is_some() {
            let unfit = |byte: &&mut u8| matches!(byte, b'\r' | b'\n' | 0);
            self.added[start..].iter_mut().filter(unfit).for_each(|byte| *byte = b' ');
        }
        Span { start: start as u32, length: bytes.len() as u32, added: true }
    }

    fn bytes(&self, span: Span) -> &[u8] {
        let buffer: &[u8] = if span.added { &self.added } else { &self.received };
        &buffer[span.start as usize..][..span.length as usize]
    }

    #[inline]
    fn is_named(&self, field: &Field, name: &str, glance: u32) -> bool {
        field.glance == glance && self.bytes(field.name).eq_ignore_ascii_case(name.as_bytes())
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
    fn set_keeps_the_place_and_drops_repeats() {
        let mut headers = Headers::from_received(
            Bytes::from_static(b"A: 1B: 2a: 3"),
            [(0..1, 3..4), (4..5, 7..8), (8..9, 11..12)].into_iter(),
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
    }
}
