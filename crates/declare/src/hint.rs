//! How to mend what is wrong.

use serde_json::Value;
use tollgate_model::{FieldType, Kind, PluginSchemas, Record};

use crate::node::{Data, Node, plain};

/// "did you mean 'x'?", where one of the names is near.
pub(crate) fn did_you_mean<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> String {
    let normal = |text: &str| text.to_ascii_lowercase().replace('-', "_");
    let most = if name.len() < 4 { 1 } else { 2 };
    let near = names
        .map(|other| (distance(&normal(name), &normal(other)), other))
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance);
    near.map_or_else(String::new, |(_, other)| format!("did you mean '{other}'?"))
}

/// Letters to change, add or take to get from one word to the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (place, letter) in a.chars().enumerate() {
        let mut diagonal = place;
        let mut left = place + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (other, cell) in b.iter().zip(row.iter_mut().skip(1)) {
            let change = diagonal + usize::from(letter != *other);
            diagonal = *cell;
            left = change.min(diagonal + 1).min(left + 1);
            *cell = left;
        }
    }
    row.last().copied().unwrap_or(0)
}

/// A hint for a message about a field, from what stands there.
pub(crate) fn of_field(
    kind: Kind,
    node: &Node,
    path: &str,
    message: &str,
    plugins: Option<&dyn PluginSchemas>,
) -> String {
    let (there, whole) = node.at(path);
    let value = match &there.data {
        Data::Scalar(value) if whole => Some(value),
        _ => None,
    };
    match (message, value) {
        ("expected a string", Some(Value::Number(_) | Value::Bool(_))) => "put it in quotes".to_owned(),
        ("expected an integer" | "expected a number", Some(Value::String(text)))
            if plain(text).is_number() =>
        {
            "write it without quotes".to_owned()
        }
        ("expected a boolean", Some(Value::String(text))) if plain(text).is_boolean() => {
            "write it without quotes".to_owned()
        }
        ("expected an array" | "expected a set", Some(value)) if !value.is_null() => {
            format!("write it as a list: [{value}]")
        }
        ("unknown field", _) => {
            let (above, name) = path.rsplit_once('.').map_or(("", path), |(above, name)| (above, name));
            match record(kind, node, above, plugins) {
                Some(record) => did_you_mean(name, record.fields.iter().map(|field| field.name)),
                None => String::new(),
            }
        }
        _ => String::new(),
    }
}

/// The record at a path of an entity.
fn record<'a>(
    kind: Kind,
    node: &Node,
    path: &str,
    plugins: Option<&'a dyn PluginSchemas>,
) -> Option<&'a Record> {
    let (first, rest) = path.split_once('.').unwrap_or((path, ""));
    let (record, rest) = if kind == Kind::Plugin && first == "config" {
        (plugins?.get(node.get("name")?.as_str()?)?.config, rest)
    } else {
        (kind.schema(), path)
    };
    if rest.is_empty() {
        return Some(record);
    }
    match &record.shape_at(rest)?.kind {
        FieldType::Record(record) => Some(record),
        _ => None,
    }
}
