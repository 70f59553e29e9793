//! Query arguments and form fields: read, edited, written again.

use tollgate_gateway::query;

use super::edits::Rendered;

/// Named arguments in order; one without `=` has no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arguments(Vec<(String, Option<String>)>);

impl Arguments {
    /// Reads a query or a form.
    pub fn read(bytes: &[u8]) -> Self {
        let pairs = query::parse(bytes);
        Self(pairs.map(|(name, value)| (name.into_owned(), value.map(|value| value.into_owned()))).collect())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one has this name.
    pub fn contains(&self, name: &str) -> bool {
        self.0.iter().any(|(other, _)| other == name)
    }

    /// Every value of a name; `None` where there is no `=`.
    pub fn values(&self, name: &str) -> impl Iterator<Item = Option<&str>> {
        self.0.iter().filter(move |(other, _)| other == name).map(|(_, value)| value.as_deref())
    }

    /// Adds all of another list.
    pub fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// Removes a name; tells whether it was there.
    pub fn remove(&mut self, name: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|(other, _)| other != name);
        self.0.len() != before
    }

    /// Removes, renames, replaces, adds and appends; tells whether anything was to be done.
    pub(super) fn edit(&mut self, edits: &Rendered<'_>) -> bool {
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let mut edited = !edits.remove.is_empty();
        for name in edits.remove {
            self.remove(name);
        }
        for (old, new) in &edits.rename {
            let new = text(new);
            if *old == new || !self.contains(old) {
                continue;
            }
            self.remove(&new);
            self.0.iter_mut().filter(|(name, _)| name == old).for_each(|(name, _)| name.clone_from(&new));
            edited = true;
        }
        for (name, value) in edits.replace.iter() {
            if self.remove(name) {
                self.0.push(((*name).to_owned(), Some(text(value))));
                edited = true;
            }
        }
        for (name, value) in edits.add.iter() {
            if !self.contains(name) {
                self.0.push(((*name).to_owned(), Some(text(value))));
                edited = true;
            }
        }
        for (name, value) in edits.append.iter() {
            // A single argument without value gives way (Kong 3.11).
            if self.values(name).eq([None]) {
                self.remove(name);
            }
            self.0.push(((*name).to_owned(), Some(text(value))));
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
                groups.push(query::write(self.values(name).map(|value| (name.as_str(), value))));
            }
        }
        groups.sort();
        groups.join("&")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_by_name() {
        let arguments = Arguments::read(b"b=2&a=1&b=3&c&a-b=x%20y");
        assert_eq!(arguments.write(), "a-b=x%20y&a=1&b=2&b=3&c");
        assert_eq!(arguments.values("b").collect::<Vec<_>>(), [Some("2"), Some("3")]);
        assert_eq!(arguments.values("c").collect::<Vec<_>>(), [None]);
    }
}
