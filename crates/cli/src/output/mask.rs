//! Values of `DECK_…` variables are not shown.

use serde_json::Value;

/// What stands in place of a value that is not shown.
const MASKED: &str = "[masked]";

/// Texts that are not shown.
#[derive(Default)]
pub struct Mask(Vec<String>);

impl std::fmt::Debug for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mask({} values)", self.0.len())
    }
}

impl Mask {
    /// Masks the values of all `DECK_…` variables.
    pub fn of_environment() -> Self {
        Self::new(std::env::vars().filter(|(name, _)| name.starts_with("DECK_")).map(|(_, value)| value))
    }

    fn new(values: impl Iterator<Item = String>) -> Self {
        let mut values: Vec<String> = values.filter(|value| !value.is_empty()).collect();
        // A value may be a part of another.
        values.sort_by(|a, b| b.len().cmp(&a.len()).then(a.cmp(b)));
        values.dedup();
        Self(values)
    }

    /// A text without the values: whole words only, so that `1` does not eat into `127.0.0.1`.
    pub fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.0 {
            if text.contains(secret.as_str()) {
                text = replace_words(&text, secret);
            }
        }
        text
    }

    /// A value whose texts and numbers are masked.
    pub fn value(&self, value: &Value) -> Value {
        match value {
            Value::Object(fields) => {
                Value::Object(fields.iter().map(|(name, value)| (name.clone(), self.value(value))).collect())
            }
            Value::Array(list) => Value::Array(list.iter().map(|value| self.value(value)).collect()),
            Value::String(text) => Value::String(self.text(text)),
            Value::Number(number) => {
                let text = number.to_string();
                let masked = self.text(&text);
                if masked == text { value.clone() } else { Value::String(masked) }
            }
            other => other.clone(),
        }
    }
}

fn replace_words(text: &str, word: &str) -> String {
    let in_word = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
    let (first, last) = (word.chars().next(), word.chars().next_back());
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    for (at, _) in text.match_indices(word) {
        if at < from {
            continue;
        }
        let (before, after) = (text[..at].chars().next_back(), text[at + word.len()..].chars().next());
        let part = in_word(before) && in_word(first) || in_word(after) && in_word(last);
        if !part {
            out.push_str(&text[from..at]);
            out.push_str(MASKED);
            from = at + word.len();
        }
    }
    out.push_str(&text[from..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn whole_words_and_the_longest_first() {
        let mask = Mask::new(["sk-1", "sk-1-long", "80", ""].into_iter().map(str::to_owned));
        assert_eq!(mask.text("Bearer sk-1"), "Bearer [masked]");
        assert_eq!(mask.text("sk-1-long xsk-1 sk-12"), "[masked] xsk-1 sk-12");
        assert_eq!(
            mask.value(&json!({"80": 80, "a": [8080, "x"]})),
            json!({"80": "[masked]", "a": [8080, "x"]})
        );
    }
}
