//! Header lists that keep order and case, and cost next to no allocation.

mod lines;

use std::cell::RefCell;
use std::ops::Range;

use bytes::Bytes;

pub(crate) use lines::{Lines, text_length};

/// An ordered list of header fields. Names keep the case they arrived in; look-ups ignore case.
///
/// Every field stands somewhere as the line it is on the wire: those that were parsed in the received bytes,
/// those set later in one side buffer. Adding a field copies bytes but allocates rarely, and neighbours are
/// written with one copy. A list that is dropped is used again for the next message.
#[derive(Default)]
pub struct Headers(Option<Box<List>>);

#[derive(Clone, Default)]
struct List {
    received: Bytes,
    added: Vec<u8>,
    fields: Vec<Field>,
    seen: Seen,
}

static EMPTY: List =
    List { received: Bytes::new(), added: Vec::new(), fields: Vec::new(), seen: Seen([0; 3]) };

/// Most lists that a thread keeps for messages to come, and the most room each may have.
const MOST_SPARE: usize = 64;
const MOST_SPARE_FIELDS: usize = 128;
const MOST_SPARE_BYTES: usize = 4096;

thread_local! {
    // The boxes themselves are what is used again.
    #[allow(clippy::vec_box)]
    static SPARE: RefCell<Vec<Box<List>>> = const { RefCell::new(Vec::new()) };
}

/// Room for what a message usually has with what a proxy adds to it, so that a list rarely grows.
const USUAL_FIELDS: usize = 32;
const USUAL_BYTES: usize = 1024;

/// A list without fields, and with room.
fn spare() -> Box<List> {
    SPARE.with_borrow_mut(Vec::pop).unwrap_or_else(|| {
        let (added, fields) = (Vec::with_capacity(USUAL_BYTES), Vec::with_capacity(USUAL_FIELDS));
        Box::new(List { added, fields, ..List::default() })
    })
}

impl Drop for Headers {
    fn drop(&mut self) {
        let Some(mut list) = self.0.take() else { return };
        if list.fields.capacity() > MOST_SPARE_FIELDS || list.added.capacity() > MOST_SPARE_BYTES {
            return;
        }
        list.received = Bytes::new();
        list.added.clear();
        list.fields.clear();
        list.seen = Seen::default();
        // The thread may be ending; then nothing is kept any more.
        let _ = SPARE.try_with(|lists| {
            let mut lists = lists.borrow_mut();
            if lists.len() < MOST_SPARE {
                lists.push(list);
            }
        });
    }
}

impl Clone for Headers {
    fn clone(&self) -> Self {
        Self(self.0.as_ref().filter(|list| !list.fields.is_empty() || !list.received.is_empty()).cloned())
    }
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

/// Length, first byte and last two of a name, whatever its case. Of a name that is written in the code it is a
/// constant, if what takes the name is inlined.
#[inline]
pub(crate) const fn glance(name: &[u8]) -> u32 {
    let (first, last_but_one, last) = match name {
        [] => return 0,
        [only] => (*only, *only, *only),
        [first, last] => (*first, *first, *last),
        [first, .., last_but_one, last] => (*first, *last_but_one, *last),
    };
    (name.len() as u32) << 24 | u32::from_be_bytes([0, first, last_but_one, last]) | 0x20_20_20
}

/// Bits of every name there is or was, so that most names that are not there need not be looked for.
#[derive(Clone, Copy, Default)]
struct Seen([u64; 3]);

impl Seen {
    /// A bit of each word. With the twenty names of a usual message, one in forty that are not there is looked for.
    #[inline]
    fn bits(glance: u32) -> [u64; 3] {
        let mixed = glance.wrapping_mul(0x9e37_79b1);
        [1 << (mixed >> 26), 1 << (mixed >> 20 & 63), 1 << (mixed >> 14 & 63)]
    }

    #[inline]
    fn add(&mut self, glance: u32) {
        let [one, other, third] = Self::bits(glance);
        self.0 = [self.0[0] | one, self.0[1] | other, self.0[2] | third];
    }

    #[inline]
    fn may_have(self, glance: u32) -> bool {
        let [one, other, third] = Self::bits(glance);
        self.0[0] & one != 0 && self.0[1] & other != 0 && self.0[2] & third != 0
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
        let mut list = spare();
        for (name, value) in fields {
            let between = received.get(name.end..value.start);
            let after = received.get(value.end..value.end + END.len());
            let glance = glance(&received[name.clone()]);
            if between == Some(SEPARATOR) && after == Some(END) {
                list.push_received(glance, name.start, name.len(), value.len());
            } else {
                // Spaced otherwise than lines are here.
                list.push(glance, &received[name], [&received[value]]);
            }
        }
        list.received = received;
        Self(Some(list))
    }

    #[inline]
    fn list(&self) -> &List {
        self.0.as_deref().unwrap_or(&EMPTY)
    }

    #[inline]
    fn list_mut(&mut self) -> &mut List {
        self.0.get_or_insert_with(spare)
    }

    /// Bytes of the head the list was received with, first line included; 0 where it was not.
    pub fn received_bytes(&self) -> usize {
        self.list().received.len()
    }

    /// Number of fields.
    #[inline]
    pub fn len(&self) -> usize {
        self.list().fields.len()
    }

    /// Whether there is no field.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first value of `name`.
    #[inline]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        let list = self.list();
        list.position(name).map(|at| list.value(&list.fields[at]))
    }

    /// The first value of `name`, where it is UTF-8.
    #[inline]
    pub fn get_str(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// Every value of `name`, in order.
    #[inline]
    pub fn get_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> + 'a {
        let glance = glance(name.as_bytes());
        let list = self.list();
        let fields = if list.seen.may_have(glance) { list.fields.as_slice() } else { &[] };
        fields
            .iter()
            .filter(move |field| list.is_named(field, glance, name.as_bytes()))
            .map(move |field| list.value(field))
    }

    /// Whether a field of this name is present.
    #[inline]
    pub fn contains(&self, name: &str) -> bool {
        self.list().position(name).is_some()
    }

    /// Every (name, value), in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> + '_ {
        let list = self.list();
        list.fields.iter().map(move |field| (list.name(field), list.value(field)))
    }

    /// Sets `name` to one value: the first field of that name keeps its place, further ones go, a new one
    /// goes to the end. Bytes that must not stand in a value (CR, LF, NUL) become spaces.
    #[inline]
    pub fn set(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.set_parts(name, [value.as_ref()]);
    }

    /// Sets `name` to one value, which is these parts one behind the other (see [`Headers::set`]).
    #[inline]
    pub fn set_parts<const PARTS: usize>(&mut self, name: &str, value: [&[u8]; PARTS]) {
        let (list, name) = (self.list_mut(), name.as_bytes());
        let glance = glance(name);
        if list.seen.may_have(glance) && list.replace(glance, name, value) {
            return;
        }
        list.push(glance, name, value);
    }

    /// Sets `name` to a value that the gateway itself has made of letters, digits and the like: it is not looked through
    /// for bytes that must not stand in a value. What others have a say in is for [`Headers::set`].
    #[inline]
    pub fn set_own(&mut self, name: &str, value: impl AsRef<[u8]>) {
        let (list, name, value) = (self.list_mut(), name.as_bytes(), value.as_ref());
        debug_assert!(!breaks_lines(value), "{value:?} is not the gateway's own");
        let glance = glance(name);
        if list.seen.may_have(glance) && list.replace(glance, name, [value]) {
            return;
        }
        let start = list.begin_line(name, [value]);
        let field = list.end_sound_line(glance, start, name.len(), value.len());
        list.fields.push(field);
    }

    /// Adds a further field of this name at the end. Bytes that must not stand in a value become spaces.
    #[inline]
    pub fn append(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.list_mut().push(glance(name.as_bytes()), name.as_bytes(), [value.as_ref()]);
    }

    /// Adds fields that were set one by one in `shared`, all with one copy, where none of their names is here. Tells
    /// whether it did; it does not where it cannot tell at a glance.
    pub fn append_absent(&mut self, shared: &Headers) -> bool {
        let (list, shared) = (self.list_mut(), shared.list());
        let by = list.added.len() as u32;
        let may_collide = |field: &Field| !field.added || list.seen.may_have(field.glance);
        if shared.fields.iter().any(may_collide) {
            return false;
        }
        list.added.extend_from_slice(&shared.added);
        for field in &shared.fields {
            list.seen.add(field.glance);
            list.fields.push(Field { start: by + field.start, ..*field });
        }
        true
    }

    /// Removes every field of this name; tells whether there was one.
    #[inline]
    pub fn remove(&mut self, name: &str) -> bool {
        let glance = glance(name.as_bytes());
        match &mut self.0 {
            Some(list) if list.seen.may_have(glance) => list.remove_from(glance, name.as_bytes(), 0),
            _ => false,
        }
    }

    /// Keeps the fields for which `keep(name, value)` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(&[u8], &[u8]) -> bool) {
        let Some(list) = &mut self.0 else { return };
        let mut fields = std::mem::take(&mut list.fields);
        fields.retain(|field| keep(list.name(field), list.value(field)));
        list.fields = fields;
    }

    /// Gives every field called `from` the name `to`; tells whether there was one.
    pub fn rename(&mut self, from: &str, to: &str) -> bool {
        let mut renamed = false;
        let (glance, new) = (glance(from.as_bytes()), glance(to.as_bytes()));
        let Some(list) = &mut self.0 else { return false };
        for at in 0..list.fields.len() {
            if list.is_named(&list.fields[at], glance, from.as_bytes()) {
                let value = list.value(&list.fields[at]).to_vec();
                list.fields[at] = list.store(new, to.as_bytes(), [&value]);
                renamed = true;
            }
        }
        renamed
    }

    /// The fields as lines, looked at only as far as needed.
    pub(crate) fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        let list = self.list();
        list.fields.iter().map(move |field| Line { list, field })
    }

    /// Appends the lines of the fields for which `write` holds, in order.
    #[inline]
    pub(crate) fn put_lines<'a>(&'a self, out: &mut Vec<u8>, mut write: impl FnMut(Line<'a>) -> bool) {
        let list = self.list();
        // Neighbours on the wire are copied together.
        let mut run = (false, 0..0);
        for field in &list.fields {
            if !write(Line { list, field }) {
                continue;
            }
            let line = field.line();
            if run.0 == field.added && run.1.end == line.start {
                run.1.end = line.end;
            } else {
                out.extend_from_slice(&list.buffer(run.0)[run.1]);
                run = (field.added, line);
            }
        }
        out.extend_from_slice(&list.buffer(run.0)[run.1]);
    }
}

impl List {
    #[inline]
    fn position(&self, name: &str) -> Option<usize> {
        let glance = glance(name.as_bytes());
        if self.seen.may_have(glance) { self.find(glance, name.as_bytes()) } else { None }
    }

    fn find(&self, glance: u32, name: &[u8]) -> Option<usize> {
        self.fields.iter().position(|field| self.is_named(field, glance, name))
    }

    /// Gives the first field of this name, where there is one, another value, and removes the others.
    #[inline(never)]
    fn replace<const PARTS: usize>(&mut self, glance: u32, name: &[u8], value: [&[u8]; PARTS]) -> bool {
        let Some(at) = self.find(glance, name) else { return false };
        let mut spelled = [0; 64];
        let found = self.name(&self.fields[at]);
        let length = found.len();
        let field = match spelled.get_mut(..length) {
            Some(spelled) => {
                spelled.copy_from_slice(found);
                self.store(glance, spelled, value)
            }
            None => self.store(glance, name, value),
        };
        self.fields[at] = field;
        self.remove_from(glance, name, at + 1);
        true
    }

    /// Removes the fields of this name that stand at `from` or later; tells whether there was one.
    fn remove_from(&mut self, glance: u32, name: &[u8], from: usize) -> bool {
        let before = self.fields.len();
        let mut at = from;
        while let Some(field) = self.fields.get(at) {
            if self.is_named(field, glance, name) {
                self.fields.remove(at);
            } else {
                at += 1;
            }
        }
        self.fields.len() != before
    }

    #[inline]
    fn push<const PARTS: usize>(&mut self, glance: u32, name: &[u8], value: [&[u8]; PARTS]) {
        let field = self.store(glance, name, value);
        self.fields.push(field);
    }

    fn push_received(&mut self, glance: u32, start: usize, name: usize, value: usize) {
        self.seen.add(glance);
        self.fields.push(Field {
            glance,
            start: start as u32,
            name: name as u32,
            value: value as u32,
            added: false,
        });
    }

    /// Writes a line into the side buffer.
    #[inline]
    fn store<const PARTS: usize>(&mut self, glance: u32, name: &[u8], value: [&[u8]; PARTS]) -> Field {
        let start = self.begin_line(name, value);
        self.end_line(glance, start, name.len())
    }

    /// Writes a line without its end, and tells where it begins.
    #[inline]
    fn begin_line<const PARTS: usize>(&mut self, name: &[u8], value: [&[u8]; PARTS]) -> usize {
        let start = self.added.len();
        self.added.extend_from_slice(name);
        self.added.extend_from_slice(SEPARATOR);
        for part in value {
            self.added.extend_from_slice(part);
        }
        start
    }

    /// Ends the line that begins at `start` of the side buffer.
    #[inline(never)]
    fn end_line(&mut self, glance: u32, start: usize, name: usize) -> Field {
        let line = &mut self.added[start..];
        let value = line.len() - name - SEPARATOR.len();
        if breaks_lines(line) {
            let unfit = |byte: &&mut u8| matches!(byte, b'\r' | b'\n' | 0);
            line.iter_mut().filter(unfit).for_each(|byte| *byte = b' ');
        }
        self.end_sound_line(glance, start, name, value)
    }

    /// The same for one that has no byte in it that must not be there.
    #[inline]
    fn end_sound_line(&mut self, glance: u32, start: usize, name: usize, value: usize) -> Field {
        self.added.extend_from_slice(END);
        self.seen.add(glance);
        Field { glance, start: start as u32, name: name as u32, value: value as u32, added: true }
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
    fn is_named(&self, field: &Field, glance: u32, name: &[u8]) -> bool {
        field.glance == glance && same_name(self.name(field), name)
    }
}

/// Whether two names are the same, case aside. Eight bytes at a time, since names that are compared mostly are.
#[inline]
fn same_name(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let differ = |a: &[u8; 8], b: &[u8; 8]| lower(u64::from_ne_bytes(*a)) ^ lower(u64::from_ne_bytes(*b));
    // The last bytes overlap those before.
    if let (Some(a_last), Some(b_last)) = (a.last_chunk(), b.last_chunk()) {
        let eights = a.as_chunks().0.iter().zip(b.as_chunks().0);
        return eights.fold(differ(a_last, b_last), |all, (a, b)| all | differ(a, b)) == 0;
    }
    let both_ends = |name: &[u8]| {
        let (first, last) = (name.first_chunk()?, name.last_chunk()?);
        Some(u64::from(u32::from_ne_bytes(*first)) << 32 | u64::from(u32::from_ne_bytes(*last)))
    };
    match (both_ends(a), both_ends(b)) {
        (Some(a), Some(b)) => lower(a) == lower(b),
        _ => a.eq_ignore_ascii_case(b),
    }
}

/// Eight bytes with their capital letters made small.
#[inline]
fn lower(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let seven = word & !HIGH;
    let from_a = seven + ONES * (0x80 - b'A' as u64);
    let behind_z = seven + ONES * (0x80 - b'Z' as u64 - 1);
    let capital = (from_a & !behind_z & !word & HIGH) >> 2;
    word | capital
}

/// A field, looked at only as far as needed.
#[derive(Clone, Copy)]
pub(crate) struct Line<'a> {
    list: &'a List,
    field: &'a Field,
}

impl<'a> Line<'a> {
    /// What the name looks like at a [`glance`].
    pub(crate) fn glance(&self) -> u32 {
        self.field.glance
    }

    /// Whether it is called so.
    pub(crate) fn is(&self, name: &[u8]) -> bool {
        same_name(self.list.name(self.field), name)
    }

    /// The value.
    pub(crate) fn value(&self) -> &'a [u8] {
        self.list.value(self.field)
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
    fn names_are_the_same_but_for_the_case_of_letters() {
        for (at, length) in (0..20).flat_map(|length| (0..length).map(move |at| (at, length))) {
            for (one, other) in (0..=255).flat_map(|one| [one, one ^ 0x20, one ^ 1].map(|other| (one, other)))
            {
                let (mut a, mut b) = (vec![b'x'; length], vec![b'X'; length]);
                (a[at], b[at]) = (one, other);
                assert_eq!(same_name(&a, &b), a.eq_ignore_ascii_case(&b), "{a:?} {b:?}");
            }
        }
        assert!(!same_name(b"ab", b"abc"));
    }

    #[test]
    fn a_list_that_is_used_again_has_nothing_of_the_one_before() {
        for value in ["1", "2"] {
            let mut headers =
                Headers::from_received(Bytes::from_static(b"A: 1\r\n"), std::iter::once((0..1, 3..4)));
            assert!(!headers.contains("b"));
            headers.set("b", value);
            let copy = headers.clone();
            drop(headers);
            assert_eq!(copy.get("b"), Some(value.as_bytes()));
            assert_eq!(Headers::new().len(), 0);
            let mut added = Headers::new();
            added.append("c", "3");
            assert_eq!((added.len(), added.received_bytes()), (1, 0));
        }
    }

    #[test]
    fn shared_fields_are_added_where_none_of_them_is() {
        let mut shared = Headers::new();
        shared.set("X-Real-IP", "127.0.0.1");
        shared.set("X-Forwarded-Port", "8000");
        let received =
            || Headers::from_received(Bytes::from_static(b"host: a\r\n"), std::iter::once((0..4, 6..7)));
        let mut headers = received();
        headers.set("b", "1");
        assert!(headers.append_absent(&shared));
        assert!(!headers.append_absent(&shared));
        headers.set("x-real-ip", "::1");
        let mut out = Vec::new();
        headers.put_lines(&mut out, |_| true);
        assert_eq!(out, b"host: a\r\nb: 1\r\nX-Real-IP: ::1\r\nX-Forwarded-Port: 8000\r\n");
        // Of a list that was received, the lines stand elsewhere.
        assert!(!Headers::new().append_absent(&received()));
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
        headers.set_parts("X", [b"1", b".", b"2\n"]);
        headers.append("y", "");
        let mut out = Vec::new();
        headers.put_lines(&mut out, |_| true);
        assert_eq!(out, b"A: 9\r\nx: 1.2 \r\ny: \r\n");
        out.clear();
        headers.put_lines(&mut out, |line| !line.is(b"X"));
        assert_eq!(out, b"A: 9\r\ny: \r\n");
    }
}
