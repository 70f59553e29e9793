//! Under which names requests carry secrets, so that no log shows them.

use std::borrow::Cow;
use std::collections::HashSet;

use crate::query;

/// What is shown in place of a secret (Kong 3.11).
pub const REDACTED: &str = "REDACTED";

/// Names that stand for a secret whatever is configured: those Kong takes out, and where LLM clients put keys.
const ALWAYS: [&str; 6] =
    ["authorization", "proxy-authorization", "apikey", "api-key", "x-api-key", "x-goog-api-key"];

/// Names of header fields and query arguments that hold secrets. One set for the whole configuration: a key that
/// is sent to the wrong route is a key all the same.
#[derive(Debug, Clone)]
pub struct SecretNames(HashSet<Box<str>>);

impl Default for SecretNames {
    fn default() -> Self {
        Self::new(std::iter::empty())
    }
}

impl SecretNames {
    /// The names that always count, and those the plugins look for secrets under.
    pub fn new(names: impl Iterator<Item = String>) -> Self {
        Self(ALWAYS.into_iter().map(normal).chain(names.map(|name| normal(&name))).map(Box::from).collect())
    }

    /// Whether what stands under a name is a secret.
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains(normal(name).as_str())
    }

    /// A target or address with its arguments, the secret ones taken out.
    pub fn redact<'a>(&self, target: &'a [u8]) -> Cow<'a, [u8]> {
        let Some(start) = memchr::memchr(b'?', target).map(|at| at + 1) else { return Cow::Borrowed(target) };
        let (path, arguments) = target.split_at(start);
        let pairs = arguments.split(|byte| *byte == b'&');
        let is_secret = |pair: &[u8]| {
            memchr::memchr(b'=', pair).is_some_and(|at| self.contains(&query::decode(&pair[..at])))
        };
        if !pairs.clone().any(is_secret) {
            return Cow::Borrowed(target);
        }
        let shown: Vec<Cow<'_, [u8]>> = pairs
            .map(|pair| match memchr::memchr(b'=', pair) {
                Some(at) if is_secret(pair) => Cow::Owned([&pair[..=at], REDACTED.as_bytes()].concat()),
                _ => Cow::Borrowed(pair),
            })
            .collect();
        Cow::Owned([path, &shown.join(&b'&')[..]].concat())
    }
}

/// Names that differ in case, or in `_` for `-`, are one.
fn normal(name: &str) -> String {
    name.replace('_', "-").to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_arguments_are_taken_out() {
        let names = SecretNames::new(["my_key".to_owned()].into_iter());
        for (target, shown) in [
            ("/a", "/a"),
            ("/a?", "/a?"),
            ("/a?x=1&apikey", "/a?x=1&apikey"),
            ("/a?my_key=s&x=1&My-Key=t", "/a?my_key=REDACTED&x=1&My-Key=REDACTED"),
            ("/a?%6dy_key=s%26&&APIKEY=a=b", "/a?%6dy_key=REDACTED&&APIKEY=REDACTED"),
            ("https://h/a?apikey=", "https://h/a?apikey=REDACTED"),
        ] {
            assert_eq!(names.redact(target.as_bytes()), shown.as_bytes(), "{target}");
        }
        assert!(names.contains("Authorization") && !names.contains("x"));
    }

    proptest::proptest! {
        #[test]
        fn no_secret_survives(before in "[a-z=&?%]{0,12}", after in "[a-z=&?%]{0,12}") {
            let target = format!("/{before}?x=1&apikey=CANARY&{after}");
            let shown = SecretNames::default();
            let shown = shown.redact(target.as_bytes());
            proptest::prop_assert!(!shown.windows(6).any(|part| part == b"CANARY"), "{target}");
        }
    }
}
