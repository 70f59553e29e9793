//! Query arguments and form fields: read, edited, written again.

use std::borrow::Cow;

use tollgate_gateway::query;

use super::edits::Rendered;

/// Named arguments in order; one without `=` has no value. Bytes, for they may be in any encoding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arguments(Vec<(Vec<u8>, Option<Vec<u8>>)>);

impl Arguments {
    /// Reads a query or a form.
    pub fn read(bytes: &[u8]) -> Self {
        let pairs = query::pairs(bytes);
        Self(pairs.map(|(name, value)| (name.into_owned(), value.map(Cow::into_owned))).collect())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds all of another list.
    pub fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    fn contains(&self, name: &[u8]) -> bool {
        self.0.iter().any(|(other, _)| other == name)
    }

    /// Every value of a name; `None` where there is no `=`.
    fn values(&self, name: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
        self.0.iter().filter(move |(other, _)| other == name).map(|(_, value)| value.as_deref())
    }

    /// Removes a name; tells whether it was there.
    fn remove(&mut self, name: &[u8]) -> bool {
        let before = self.0.len();
        self.0.retain(|(other, _)| other != name);
        self.0.len() != before
    }

    fn push(&mut self, name: &str, value: &[u8]) {
        self.0.push((name.as_bytes().to_vec(), Some(value.to_vec())));
    }

    /// Removes, renames, replaces, adds and appends; tells whether anything was to be done.
    pub(super) fn edit(&mut self, edits: &Rendered<'_>) -> bool {
        let mut edited = !edits.remove.is_empty();
        for name in edits.remove {
            self.remove(name.as_bytes());
        }
        for (old, new) in &edits.rename {
            let old = old.as_bytes();
            if old == &**new || !self.contains(old) {
                continue;
            }
            self.remove(new);
            self.0.iter_mut().filter(|(name, _)| name == old).for_each(|(name, _)| *name = new.to_vec());
            edited = true;
        }
        for (name, value) in &edits.replace {
            if self.remove(name.as_bytes()) {
                self.push(name, value);
                edited = true;
            }
        }
        for (name, value) in &edits.add {
            if !self.contains(name.as_bytes()) {
                self.push(name, value);
                edited = true;
            }
        }
        for (name, value) in &edits.append {
            // A single argument without value gives way (Kong 3.11).
            if self.values(name.as_bytes()).eq([None]) {
                self.remove(name.as_bytes());
            }
            self.push(name, value);
            edited = true;
        }
        edited
    }

    /// Writes them: the values of a name beside each other, sorted, as Kong 3.11 does.
    pub fn write(&self) -> String {
        let mut groups: Vec<String> = Vec::new();
        for (place, (name, _)) in self.0.iter().enumerate() {
            let is_first = !self.0.iter().take(place).any(|(other, _)| other == name);
            if is_first {
                groups.push(query::write(self.values(name).map(|value| (name.as_slice(), value))));
            }
        }
        groups.sort();
        groups.join("&")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_again(query in "[a-c=&%+20é]{0,40}") {
            let written = Arguments::read(query.as_bytes()).write();
            prop_assert_eq!(Arguments::read(written.as_bytes()).write(), written);
        }
    }

    #[test]
    fn written_by_name() {
        let arguments = Arguments::read(b"b=2&a=1&b=3&c&a-b=x%20y");
        assert_eq!(arguments.write(), "a-b=x%20y&a=1&b=2&b=3&c");
        assert_eq!(Arguments::read(b"b=%ff%FE&a").write(), "a&b=%FF%FE", "bytes stay what they are");
    }
}
