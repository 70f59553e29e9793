//! Edits of JSON objects.

use bytes::Bytes;
use serde_json::{Map, Number, Value};

use super::config::{JsonType, Values};
use crate::transform::members::{append, is_true, rename};
use crate::transform::pair;

/// Edits of the members of a JSON object.
pub(super) struct JsonEdits {
    remove: Vec<Box<str>>,
    rename: Vec<(Box<str>, Box<str>)>,
    replace: Members,
    add: Members,
    append: Members,
}

type Members = Vec<(Box<str>, Value)>;

impl JsonEdits {
    /// Compiles the lists of `remove`, `rename`, and `replace`, `add` and `append`.
    pub(super) fn new(remove: &[String], rename: &[String], values: [&Values; 3]) -> Self {
        let [replace, add, appended] = values.map(members);
        Self {
            remove: pair::pairs(remove).into_iter().map(|(name, _)| name).collect(),
            rename: pair::pairs(rename).into_iter().filter(|(_, new)| !new.is_empty()).collect(),
            replace,
            add,
            append: appended,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.remove.is_empty()
            && self.rename.is_empty()
            && [&self.replace, &self.add, &self.append].iter().all(|members| members.is_empty())
    }

    /// The body edited; `None` where it is no JSON object.
    pub(super) fn apply(&self, body: &[u8]) -> Option<Bytes> {
        let Ok(Value::Object(mut fields)) = serde_json::from_slice(body) else { return None };
        self.edit(&mut fields);
        Some(Value::Object(fields).to_string().into())
    }

    fn edit(&self, fields: &mut Map<String, Value>) {
        for name in &self.remove {
            fields.shift_remove(&**name);
        }
        for (old, new) in &self.rename {
            rename(fields, old, new);
        }
        for (name, value) in &self.replace {
            if is_true(fields.get(&**name)) {
                fields.insert(name.to_string(), value.clone());
            }
        }
        for (name, value) in &self.add {
            if !is_true(fields.get(&**name)) {
                fields.insert(name.to_string(), value.clone());
            }
        }
        for (name, value) in &self.append {
            append(fields, name, value.clone());
        }
    }
}

fn members(values: &Values) -> Members {
    let types = values.json_types.iter().map(|kind| Some(*kind)).chain(std::iter::repeat(None));
    let entries = values.json.iter().zip(types);
    entries
        .filter_map(|(entry, kind)| {
            let (name, value) = pair::split(entry)?;
            Some((name.into(), cast(value, kind)?))
        })
        .collect()
}

/// A configured value as JSON; `None` where it is not of its type.
fn cast(value: &str, kind: Option<JsonType>) -> Option<Value> {
    // An entry without value stands for the text `null`, and backslashes are doubled (Kong 3.11).
    let text = match value {
        "" => "null".to_owned(),
        value => {
            let quoted = Value::from(value).to_string();
            let inner = quoted.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(&quoted);
            inner.replace("\\\"", "\"")
        }
    };
    Some(match kind {
        Some(JsonType::Boolean) => Value::Bool(text == "true"),
        Some(JsonType::Number) => match text.trim().parse::<i64>() {
            Ok(whole) => whole.into(),
            Err(_) => Value::Number(Number::from_f64(text.trim().parse().ok()?)?),
        },
        Some(JsonType::String) | None => text.into(),
    })
}
