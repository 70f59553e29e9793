//! Members of JSON objects, as Lua sees them.

use serde_json::{Map, Value};

/// Whether a member is there, and not `false`. `null` is (Kong 3.11 reads it as a value of its own).
pub fn is_true(value: Option<&Value>) -> bool {
    !matches!(value, None | Some(Value::Bool(false)))
}

/// Gives a member another name; one that has it already goes.
pub fn rename(fields: &mut Map<String, Value>, old: &str, new: &str) {
    if old != new
        && let Some(value) = fields.shift_remove(old)
    {
        fields.insert(new.to_owned(), value);
    }
}

/// Puts a value beside what a member has: text becomes a list, a list grows, anything else gives way to a list of
/// the value alone.
pub fn append(fields: &mut Map<String, Value>, name: &str, value: Value) {
    let list = match fields.get_mut(name).map(Value::take) {
        Some(old @ Value::String(_)) => vec![old, value],
        Some(Value::Array(mut list)) => {
            list.push(value);
            list
        }
        _ => vec![value],
    };
    fields.insert(name.to_owned(), list.into());
}
