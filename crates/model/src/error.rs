//! Validation errors: a tree with the shape of the checked object.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::lua::{indented, sorted};

/// Everything that is wrong with one object, all at once. The tree has the shape of the object: a field's
/// name leads to a message, or to a nested tree for records, maps and arrays.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FieldErrors {
    fields: Map<String, Value>,
}

impl FieldErrors {
    /// No error yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// One error.
    pub fn of(field: &str, message: impl Into<String>) -> Self {
        let mut errors = Self::new();
        errors.add(field, message);
        errors
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// `Ok` where nothing is wrong.
    ///
    /// # Errors
    /// Itself, otherwise.
    pub fn into_result(self) -> Result<(), Self> {
        if self.is_empty() { Ok(()) } else { Err(self) }
    }

    /// The tree, as the `fields` member of Kong's answer.
    pub fn fields(&self) -> &Map<String, Value> {
        &self.fields
    }

    /// Says that a field is wrong; the first message for a field stays.
    pub fn add(&mut self, field: &str, message: impl Into<String>) {
        self.fields.entry(field).or_insert_with(|| Value::String(message.into()));
    }

    /// Says that a field is wrong: a message or a tree, in place of what was said before.
    pub(crate) fn put(&mut self, field: &str, error: Value) {
        self.fields.insert(field.to_owned(), error);
    }

    /// Says that a dotted path is wrong, in place of what was said before.
    pub(crate) fn put_at(&mut self, path: &str, message: &str) {
        let (field, rest) = path.split_once('.').map_or((path, None), |(field, rest)| (field, Some(rest)));
        let Some(rest) = rest else { return self.put(field, message.into()) };
        let mut inner = match self.fields.remove(field) {
            Some(Value::Object(fields)) => Self { fields },
            // A field that is wrong as a whole has no parts.
            Some(whole) => return self.put(field, whole),
            None => Self::new(),
        };
        inner.put_at(rest, message);
        self.put(field, Value::Object(inner.fields));
    }

    /// Says what is wrong inside a field.
    pub fn nest(&mut self, field: &str, errors: Value) {
        match (self.fields.get_mut(field), errors) {
            (Some(Value::Object(there)), Value::Object(more)) => there.extend(more),
            (_, errors) => {
                self.fields.insert(field.to_owned(), errors);
            }
        }
    }

    /// Says that a dotted path is wrong.
    pub fn add_at(&mut self, path: &str, message: impl Into<String>) {
        match path.split_once('.') {
            None => self.add(path, message),
            Some((field, rest)) => {
                let mut inner = match self.fields.remove(field) {
                    Some(Value::Object(fields)) => Self { fields },
                    _ => Self::new(),
                };
                inner.add_at(rest, message);
                self.fields.insert(field.to_owned(), Value::Object(inner.fields));
            }
        }
    }

    /// Says what is wrong with the object as a whole.
    pub fn add_entity(&mut self, message: impl Into<String>) {
        let list = self.fields.entry("@entity").or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(list) = list {
            list.push(Value::String(message.into()));
        }
    }

    /// Adds all errors of another tree.
    pub fn merge(&mut self, other: Self) {
        for (field, error) in other.fields {
            match (field.as_str(), error) {
                ("@entity", Value::Array(list)) => {
                    list.iter().filter_map(Value::as_str).for_each(|message| self.add_entity(message));
                }
                (field, Value::String(message)) => self.add(field, message),
                (field, error) => self.nest(field, error),
            }
        }
    }

    /// The tree as a value.
    pub fn into_value(self) -> Value {
        Value::Object(self.fields)
    }

    /// Every message with its dotted path (`config.key_names[1]`), whole-object messages first, then by name.
    pub fn flat(&self) -> Vec<(String, String)> {
        let mut list = Vec::new();
        flatten("", &Value::Object(self.fields.clone()), &mut list);
        list
    }

    /// Kong's one-line summary: `schema violation (host: required field missing)`,
    /// `2 schema violations (…; …)`. Fields of fields are named with a dot; what lies deeper is printed as Lua
    /// prints tables.
    pub fn summary(&self) -> String {
        let mut all: Vec<String> = Vec::new();
        if let Some(Value::Array(messages)) = self.fields.get("@entity") {
            all.extend(messages.iter().filter_map(Value::as_str).map(str::to_owned));
        }
        for (field, error) in sorted(&self.fields) {
            match error {
                _ if field == "@entity" => {}
                Value::Object(inner) => {
                    all.extend(sorted(inner).into_iter().map(|(name, error)| line(field, name, error)));
                }
                Value::Array(list) => {
                    let wrong = list.iter().enumerate().filter(|(_, error)| !error.is_null());
                    all.extend(wrong.map(|(index, error)| line(field, &(index + 1).to_string(), error)));
                }
                message => all.push(format!("{field}: {}", message.as_str().unwrap_or_default())),
            }
        }
        match all.as_slice() {
            [only] => format!("schema violation ({only})"),
            all => format!("{} schema violations ({})", all.len(), all.join("; ")),
        }
    }
}

fn line(field: &str, name: &str, error: &Value) -> String {
    match error {
        Value::String(message) => format!("{field}.{name}: {message}"),
        tree => format!("{field}.{name}: {}", indented(tree)),
    }
}

fn flatten(path: &str, value: &Value, list: &mut Vec<(String, String)>) {
    match value {
        Value::String(message) => list.push((path.to_owned(), message.clone())),
        Value::Array(values) => {
            for (index, value) in values.iter().enumerate() {
                flatten(&format!("{path}[{}]", index + 1), value, list);
            }
        }
        Value::Object(fields) => {
            if let Some(Value::Array(messages)) = fields.get("@entity") {
                for message in messages.iter().filter_map(Value::as_str) {
                    list.push((path.to_owned(), message.to_owned()));
                }
            }
            let sorted: BTreeMap<_, _> = fields.iter().filter(|(name, _)| *name != "@entity").collect();
            for (name, value) in sorted {
                let inner = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                flatten(&inner, value, list);
            }
        }
        _ => {}
    }
}

impl std::fmt::Display for FieldErrors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.summary())
    }
}

impl std::error::Error for FieldErrors {}
