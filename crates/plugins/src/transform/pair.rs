//! Configured `name:value` pairs.

use tollgate_model::Value;
use tollgate_model::entity::rules;

use super::template::Template;

/// Name and value of an entry: what stands before the first `:` (and any that follow it at once), and behind.
/// Without a `:` the value is empty. `None` where there is no name.
pub fn split(entry: &str) -> Option<(&str, &str)> {
    let (name, value) = entry.split_once(':').unwrap_or((entry, ""));
    (!name.is_empty()).then(|| (name, value.trim_start_matches(':')))
}

/// Names and values.
pub type Pairs = Vec<(Box<str>, Box<str>)>;

/// Splits a list of entries.
pub fn pairs(entries: &[String]) -> Pairs {
    let entries = entries.iter().filter_map(|entry| split(entry));
    entries.map(|(name, value)| (name.into(), value.into())).collect()
}

fn parts(entry: &Value) -> Result<(&str, &str), String> {
    let entry = entry.as_str().unwrap_or_default();
    split(entry).ok_or_else(|| format!("invalid value: {entry}"))
}

fn header(name: &str) -> Result<(), String> {
    let valid = !name.is_empty() && rules::header_name(&Value::from(name)).is_ok();
    if valid { Ok(()) } else { Err(format!("'{name}' is not a valid header")) }
}

fn template(value: &str) -> Result<(), String> {
    match Template::new(value) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("value '{value}' is not in supported format, error:{error}")),
    }
}

fn colon(entry: &Value) -> Result<(), String> {
    let text = entry.as_str().unwrap_or_default();
    if text.contains(':') { Ok(()) } else { Err(format!("invalid value: {text}")) }
}

/// An entry with a name and a value.
pub fn with_value(entry: &Value) -> Result<(), String> {
    let (name, value) = parts(entry)?;
    if value.is_empty() { Err(format!("key '{name}' has no value")) } else { Ok(()) }
}

/// The same, and the value is a template.
pub fn with_template(entry: &Value) -> Result<(), String> {
    with_value(entry)?;
    template(parts(entry)?.1)
}

/// A header; what stands behind a `:` does not matter.
pub fn header_name(entry: &Value) -> Result<(), String> {
    header(parts(entry)?.0)
}

/// A header and a template.
pub fn header_with_template(entry: &Value) -> Result<(), String> {
    colon(entry)?;
    let (name, value) = parts(entry)?;
    header(name)?;
    template(value)
}

/// Two headers.
pub fn two_headers(entry: &Value) -> Result<(), String> {
    colon(entry)?;
    let (name, other) = parts(entry)?;
    header(name)?;
    header(other)
}

/// A template on its own.
pub fn only_template(value: &Value) -> Result<(), String> {
    template(value.as_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_split_at_its_first_colon() {
        assert_eq!(split("a:b:c"), Some(("a", "b:c")));
        assert_eq!(split("a::b"), Some(("a", "b")));
        assert_eq!(split("a"), Some(("a", "")));
        assert_eq!(split(":b"), None);
    }
}
