//! Regexes of paths and header values.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;
use regex::bytes::Regex;
use regex_syntax::hir::Look;
use regex_syntax::hir::literal::Extractor;

use super::{Captures, RouteGroups, RouterError};

/// A compiled regex.
pub(super) struct Pattern {
    pub(super) regex: Regex,
    /// Bytes that everything that matches begins with.
    pub(super) literal: Box<[u8]>,
}

/// Compiles regexes, or finds them among those a route had before.
pub(super) struct Patterns<'a> {
    known: HashMap<&'a str, &'a Arc<Pattern>, RandomState>,
}

impl<'a> Patterns<'a> {
    pub(super) fn new(before: Option<&'a RouteGroups>) -> Self {
        let patterns = before.into_iter().flat_map(RouteGroups::patterns);
        Self { known: patterns.map(|pattern| (pattern.regex.as_str(), pattern)).collect() }
    }

    /// The regex of a path: anchored at the start, open at the end (Kong 3.11).
    pub(super) fn path(&self, route: usize, pattern: &str) -> Result<Arc<Pattern>, RouterError> {
        self.get(&format!("^{pattern}")).map_err(|error| refuse(route, "paths".into(), pattern, &error))
    }

    /// The regex of a header's value, which counts in lower case (Kong 3.11): letters of either case match.
    pub(super) fn header(
        &self,
        route: usize,
        name: &str,
        pattern: &str,
    ) -> Result<Arc<Pattern>, RouterError> {
        self.get(&format!("(?i){pattern}"))
            .map_err(|error| refuse(route, format!("headers.{name}"), pattern, &error))
    }

    fn get(&self, pattern: &str) -> Result<Arc<Pattern>, regex::Error> {
        match self.known.get(pattern) {
            Some(known) => Ok(Arc::clone(known)),
            None => {
                Ok(Arc::new(Pattern { regex: Regex::new(pattern)?, literal: literal_beginning(pattern) }))
            }
        }
    }
}

impl Pattern {
    /// Length of what matches, and the captures: none where the pattern has no groups, else `0` too, which is all
    /// that matches.
    pub(super) fn describe(&self, text: &[u8]) -> Option<(usize, Captures)> {
        if self.regex.captures_len() == 1 {
            return self.regex.find(text).map(|found| (found.len(), Captures::new()));
        }
        let found = self.regex.captures(text)?;
        let mut captures = Captures::new();
        for (number, name) in self.regex.capture_names().enumerate() {
            let Some(text) = found.get(number) else { continue };
            let text: Box<str> = String::from_utf8_lossy(text.as_bytes()).into();
            if let Some(name) = name {
                captures.push((name.into(), text.clone()));
            }
            captures.push((number.to_string().into(), text));
        }
        Some((found.get(0)?.len(), captures))
    }
}

/// What all text that a pattern matches begins with, as far as that is plain to see.
fn literal_beginning(pattern: &str) -> Box<[u8]> {
    let parsed = regex_syntax::ParserBuilder::new().utf8(false).build().parse(pattern);
    // An alternative that the anchor does not bind, as in `^/a|/b`, may match further on.
    parsed
        .ok()
        .filter(|hir| hir.properties().look_set_prefix().contains(Look::Start))
        .and_then(|hir| Extractor::new().extract(&hir).longest_common_prefix().map(Box::from))
        .unwrap_or_default()
}

fn refuse(route: usize, field: String, pattern: &str, error: &regex::Error) -> RouterError {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    let mut reason = last.strip_prefix("error: ").unwrap_or(last).to_owned();
    if ["(?=", "(?!", "(?<=", "(?<!", "(?>"].iter().any(|feature| pattern.contains(feature)) {
        reason.push_str(" (look-around and atomic groups of PCRE cannot be used here)");
    } else if text.contains("backreference") {
        reason.push_str(" (back-references of PCRE cannot be used here)");
    }
    RouterError { route, field, pattern: pattern.to_owned(), reason }
}
