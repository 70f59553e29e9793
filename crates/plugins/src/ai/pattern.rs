//! Regexes over what people and models write. They are PCRE's (Kong 3.11), look-around and back-references
//! included; what PCRE would search for without end ends here after a number of steps.

use fancy_regex::{Regex, RegexBuilder};

/// Steps of going back that a search may take; one without look-around and back-references takes none, and ends in
/// time linear to the text (Kong 3.11: `lua_regex_match_limit`).
const MOST_STEPS: usize = 100_000;

/// A regex.
pub(super) struct Pattern {
    source: String,
    /// What cannot be read fails where it is used, as it does in Kong.
    regex: Result<Regex, String>,
}

impl Pattern {
    /// Dots do not match line ends, and letters count as they are.
    pub(super) fn new(source: &str) -> Self {
        Self::built(source, &mut RegexBuilder::new(source))
    }

    /// Letters match in either case, `^` and `$` at every line.
    pub(super) fn of_lines(source: &str) -> Self {
        Self::built(source, RegexBuilder::new(source).case_insensitive(true).multi_line(true))
    }

    fn built(source: &str, builder: &mut RegexBuilder) -> Self {
        let regex = builder.backtrack_limit(MOST_STEPS).build().map_err(|error| error.to_string());
        Self { source: source.to_owned(), regex }
    }

    /// The first piece of the text that matches.
    ///
    /// # Errors
    /// Kong's words for a regex that cannot be read, or whose search took too long.
    pub(super) fn find<'t>(&self, text: &'t str) -> Result<Option<&'t str>, String> {
        let failed = |error: &dyn std::fmt::Display| {
            format!("bad regex pattern '{}', failed to execute: {error}", self.source)
        };
        let regex = self.regex.as_ref().map_err(|error| failed(error))?;
        let found = regex.find(text).map_err(|error| failed(&error))?;
        Ok(found.map(|found| found.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regexes_of_pcre() {
        for (source, text, found) in [
            ("pa..ern", "a pattern!", Some("pattern")),
            ("pa..ern", "PATTERN", None),
            ("a.b", "a\nb", None),
            ("(?i)pass(?!port)", "Passport, password", Some("pass")),
            (r"(\w)\1", "abba", Some("bb")),
            (r"[[:digit:]]++\b", "a 12", Some("12")),
            (r"\#*\=", "a ##=", Some("##=")),
        ] {
            assert_eq!(Pattern::new(source).find(text).unwrap(), found, "{source}");
        }
        assert_eq!(Pattern::of_lines("^b$").find("a\nB\nc").unwrap(), Some("B"));
        let unreadable = Pattern::new("[]").find("a").unwrap_err();
        assert!(unreadable.starts_with("bad regex pattern '[]', failed to execute: "), "{unreadable}");
    }

    /// What takes PCRE exponential time ends.
    #[test]
    fn no_text_keeps_a_search_busy() {
        let text = "a".repeat(5000) + "!";
        assert_eq!(Pattern::new("^(a+)+$").find(&text).unwrap(), None);
        let endless = Pattern::new(r"(a|aa)+\1b").find(&text).unwrap_err();
        assert!(endless.contains("failed to execute: "), "{endless}");
    }
}
