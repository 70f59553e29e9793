//! Checks on one value.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use serde_json::Value;

use crate::schema::Constraint;

/// A value in a message.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn join(values: &[Value]) -> String {
    values.iter().map(shown).collect::<Vec<_>>().join(", ")
}

/// `'a', 'b'`
pub(crate) fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ")
}

fn length(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(list) => list.len(),
        Value::Object(fields) => fields.len(),
        _ => 0,
    }
}

impl Constraint {
    /// Place in the order in which Kong applies checks.
    pub fn rank(&self) -> u8 {
        match self {
            Self::Required => 0,
            Self::Eq(_) => 1,
            Self::Ne(_) => 2,
            Self::NotOneOf(_) => 3,
            Self::OneOf(_) => 4,
            Self::Gt(_) => 5,
            Self::Timestamp => 6,
            Self::Uuid => 7,
            Self::Regex => 8,
            Self::Between(..) => 9,
            Self::LenEq(_) => 10,
            Self::LenMin(_) => 11,
            Self::LenMax(_) => 12,
            Self::StartsWith(_) => 13,
            Self::Match { negated: true, error: None, .. } => 14,
            Self::Match { negated: true, .. } => 15,
            Self::Match { error: None, .. } => 16,
            Self::Match { .. } => 17,
            Self::MatchAny { .. } => 18,
            Self::Contains(_) => 19,
            Self::Elements(_) => 20,
            Self::Custom(..) => 21,
            Self::ExclusiveSubsets(_) => 22,
        }
    }

    /// Whether a value satisfies this; the message otherwise.
    ///
    /// # Errors
    /// Kong's message.
    pub fn check(&self, value: &Value) -> Result<(), String> {
        let must = |holds: bool, message: String| if holds { Ok(()) } else { Err(message) };
        match self {
            Self::Eq(expected) => must(same(value, expected), format!("value must be {}", shown(expected))),
            Self::Ne(other) => must(!same(value, other), format!("value must not be {}", shown(other))),
            Self::Required => must(!value.is_null(), "required field missing".into()),
            Self::Gt(bound) => {
                must(value.as_f64().is_none_or(|v| v > *bound), format!("value must be greater than {bound}"))
            }
            // Kong prints bounds as whole numbers, whatever they are.
            Self::Between(low, high) => must(
                value.as_f64().is_none_or(|v| (*low..=*high).contains(&v)),
                format!("value should be between {} and {}", *low as i64, *high as i64),
            ),
            Self::OneOf(values) => must(
                values.iter().any(|other| same(value, other)),
                format!("expected one of: {}", join(values)),
            ),
            Self::NotOneOf(values) => must(
                !values.iter().any(|other| same(value, other)),
                format!("must not be one of: {}", join(values)),
            ),
            Self::LenMin(count) => must(length(value) >= *count, format!("length must be at least {count}")),
            Self::LenMax(count) => must(length(value) <= *count, format!("length must be at most {count}")),
            Self::LenEq(count) => must(length(value) == *count, format!("length must be {count}")),
            Self::StartsWith(prefix) => must(
                value.as_str().is_none_or(|v| v.starts_with(prefix)),
                format!("should start with: {prefix}"),
            ),
            Self::Match { regex, error, negated, .. } => {
                let Some(text) = value.as_str() else { return Ok(()) };
                must(
                    matches(regex, text) != *negated,
                    error.map_or_else(|| format!("invalid value: {text}"), str::to_owned),
                )
            }
            Self::MatchAny { regex, error, .. } => {
                must(value.as_str().is_none_or(|text| matches(regex, text)), (*error).to_owned())
            }
            Self::Contains(wanted) => must(
                value.as_array().is_some_and(|list| list.iter().any(|value| same(value, wanted))),
                format!("expected to contain: {}", shown(wanted)),
            ),
            Self::Elements(inner) => {
                value.as_array().into_iter().flatten().try_for_each(|element| inner.check(element))
            }
            Self::ExclusiveSubsets(subsets) => exclusive(subsets, value),
            Self::Regex => {
                let Some(text) = value.as_str() else { return Ok(()) };
                must(regex::Regex::new(text).is_ok(), format!("not a valid regex: {text}"))
            }
            Self::Uuid => must(
                value.as_str().is_some_and(|v| v.len() == 36 && uuid::Uuid::parse_str(v).is_ok()),
                "expected a valid UUID".into(),
            ),
            Self::Timestamp => {
                must(value.as_f64().is_some_and(|v| v > 0.0), "expected a valid timestamp".into())
            }
            Self::Custom(_, check) => check(value),
        }
    }
}

/// Whether two values are the same to Lua, where 1 and 1.0 are.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        _ => a == b,
    }
}

/// Names the groups that have members, in the order of the members.
fn exclusive(subsets: &[&[&str]], value: &Value) -> Result<(), String> {
    let mut used: Vec<&[&str]> = Vec::new();
    for member in value.as_array().into_iter().flatten().filter_map(Value::as_str) {
        if let Some(subset) = subsets.iter().find(|subset| subset.contains(&member))
            && !used.contains(subset)
        {
            used.push(subset);
        }
    }
    if used.len() < 2 {
        return Ok(());
    }
    let sets: Vec<String> = used.iter().map(|set| format!("({})", quoted(set))).collect();
    Err(format!("these sets are mutually exclusive: {}", sets.join(", ")))
}

/// Schemas are few and fixed: their regexes are compiled once and kept.
fn matches(pattern: &'static str, text: &str) -> bool {
    type Known = HashMap<&'static str, Option<Arc<regex::Regex>>>;
    static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let regex = known.entry(pattern).or_insert_with(|| regex::Regex::new(pattern).ok().map(Arc::new)).clone();
    drop(known);
    regex.is_some_and(|regex| regex.is_match(text))
}
