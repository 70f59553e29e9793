//! Filling in what an object leaves out: shorthands are turned into real fields, defaults stand in, sets lose
//! their repeats. What is wrong stays as it is, for the check to name.

use serde_json::{Map, Value};

use crate::FieldErrors;
use crate::check::Mode;
use crate::constraint::shown;
use crate::schema::{Field, FieldType, Record, Shape};

/// What is done about shorthands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shorthands {
    /// They are turned into real fields.
    Expand,
    /// They have been; one that is there is a field nobody knows.
    Done,
}

impl Shorthands {
    /// An object that was changed had its shorthands expanded when the changes were laid over it.
    pub(crate) fn of(mode: Mode) -> Self {
        if mode == Mode::Insert { Self::Expand } else { Self::Done }
    }
}

impl Record {
    /// The object with every field of the schema, in its order, followed by the fields nobody knows and by the
    /// deprecated names of fields that have values.
    ///
    /// # Errors
    /// Shorthands that are wrong; nothing else is looked at then (Kong 3.11).
    pub(crate) fn fill(
        &self,
        mut input: Map<String, Value>,
        shorthands: Shorthands,
    ) -> Result<Map<String, Value>, FieldErrors> {
        if shorthands == Shorthands::Expand {
            self.expand(&mut input)?;
        }
        let mut filled = Map::with_capacity(self.fields.len());
        for field in &self.fields {
            let given = input.remove(field.name);
            if given.is_none() && field.shape.transient {
                continue;
            }
            filled.insert(field.name.to_owned(), field.shape.fill(given, shorthands)?);
        }
        filled.extend(input);
        self.show_shorthands(&mut filled);
        Ok(filled)
    }

    /// Turns shorthands into what they stand for.
    pub(crate) fn expand(&self, input: &mut Map<String, Value>) -> Result<(), FieldErrors> {
        let mut errors = FieldErrors::new();
        for shorthand in &self.shorthands {
            let Some(value) = input.get(shorthand.name).cloned() else { continue };
            if let Err(error) = shorthand.shape.validate(&value) {
                errors.put(shorthand.name, error);
                continue;
            }
            match (shorthand.replaced_by, shorthand.expand) {
                (Some(heir), _) => {
                    if let Err(message) = hand_over(shorthand, heir, value, input) {
                        errors.add(shorthand.name, message);
                    }
                }
                (None, Some(expand)) => {
                    input.remove(shorthand.name);
                    input.extend(expand(&value));
                }
                (None, None) => {}
            }
        }
        errors.into_result()
    }

    /// Deprecated names show the values of their heirs.
    fn show_shorthands(&self, filled: &mut Map<String, Value>) {
        for shorthand in &self.shorthands {
            if let Some(heir) = shorthand.replaced_by {
                let value = at(filled, heir).clone();
                filled.insert(shorthand.name.to_owned(), value);
            }
        }
    }

    /// Takes the deprecated names out of an object that is shown with them.
    pub(crate) fn hide_shorthands(&self, filled: &mut Map<String, Value>) {
        for shorthand in self.shorthands.iter().filter(|shorthand| shorthand.replaced_by.is_some()) {
            filled.remove(shorthand.name);
        }
        for field in &self.fields {
            if let (FieldType::Record(record), Some(Value::Object(inner))) =
                (&field.shape.kind, filled.get_mut(field.name))
            {
                record.hide_shorthands(inner);
            }
        }
    }

    /// Lays changes over an object: records are merged, everything else is replaced. Shorthands among the
    /// changes are expanded first.
    pub(crate) fn merge(
        &self,
        below: &mut Map<String, Value>,
        mut changes: Map<String, Value>,
    ) -> Result<(), FieldErrors> {
        self.expand(&mut changes)?;
        for (name, change) in changes {
            let field = self.fields.iter().find(|field| field.name == name);
            match (field.map(|field| &field.shape.kind), below.get_mut(&name), change) {
                (Some(FieldType::Record(record)), Some(Value::Object(there)), Value::Object(more)) => {
                    record.merge(there, more)?;
                }
                (Some(FieldType::Record(record)), _, Value::Object(more)) => {
                    let mut fresh = Map::new();
                    record.merge(&mut fresh, more)?;
                    below.insert(name, Value::Object(fresh));
                }
                (_, _, change) => {
                    below.insert(name, change);
                }
            }
        }
        Ok(())
    }
}

/// Moves a deprecated field's value to its heir's place, where nothing stands yet.
fn hand_over(field: &Field, heir: &str, value: Value, input: &mut Map<String, Value>) -> Result<(), String> {
    let there = at(input, heir);
    if !there.is_null() && !value.is_null() && *there != value {
        return Err(format!(
            "both deprecated and new field are used but their values mismatch: {} = {} vs {heir} = {}",
            field.name,
            shown(&value),
            shown(there)
        ));
    }
    let settled = !there.is_null();
    input.remove(field.name);
    if settled || value.is_null() {
        return Ok(());
    }
    let mut into = input;
    let mut names = heir.split('.').peekable();
    while let Some(name) = names.next() {
        if names.peek().is_none() {
            into.insert(name.to_owned(), value);
            break;
        }
        let inner = into.entry(name).or_insert(Value::Null);
        if inner.is_null() {
            *inner = Value::Object(Map::new());
        }
        // What is no record stays, for the check to refuse.
        let Value::Object(fields) = inner else { break };
        into = fields;
    }
    Ok(())
}

impl Shape {
    pub(crate) fn fill(&self, given: Option<Value>, shorthands: Shorthands) -> Result<Value, FieldErrors> {
        let value = match given {
            Some(value) => value,
            None => match (&self.default, &self.kind) {
                (Some(default), _) => default.clone(),
                (None, FieldType::Record(_)) if self.required => Value::Object(Map::new()),
                (None, _) => Value::Null,
            },
        };
        Ok(match (&self.kind, value) {
            (FieldType::Record(record), Value::Object(fields)) => {
                Value::Object(record.fill(fields, shorthands)?)
            }
            // An empty Lua table is a list as well as an object.
            (FieldType::Record(record), Value::Array(list)) if list.is_empty() => {
                Value::Object(record.fill(Map::new(), shorthands)?)
            }
            (FieldType::Array(_) | FieldType::Set(_), Value::Object(fields)) if fields.is_empty() => {
                Value::Array(Vec::new())
            }
            (FieldType::Map { .. }, Value::Array(list)) if list.is_empty() => Value::Object(Map::new()),
            (FieldType::Array(element), Value::Array(list)) => {
                Value::Array(fill_all(element, list, shorthands)?)
            }
            (FieldType::Set(element), Value::Array(list)) => {
                Value::Array(distinct(fill_all(element, list, shorthands)?))
            }
            (FieldType::Map { values, .. }, Value::Object(fields)) => Value::Object(
                fields
                    .into_iter()
                    .map(|(name, value)| Ok((name, values.fill(Some(value), shorthands)?)))
                    .collect::<Result<_, FieldErrors>>()?,
            ),
            (FieldType::Integer, Value::Number(number)) => {
                whole(&number).map_or(Value::Number(number), Value::from)
            }
            (FieldType::Foreign(_), Value::Object(fields)) => reference(fields),
            (_, value) => value,
        })
    }
}

fn fill_all(element: &Shape, list: Vec<Value>, shorthands: Shorthands) -> Result<Vec<Value>, FieldErrors> {
    list.into_iter().map(|value| element.fill(Some(value), shorthands)).collect()
}

/// The list without repeats; what is compared by value is compared in a table once the list is long.
fn distinct(list: Vec<Value>) -> Vec<Value> {
    let mut seen = std::collections::HashSet::new();
    list.into_iter().filter(|value| seen.insert(value.to_string())).collect()
}

/// A whole number, also where it is written with a fraction of nothing.
pub(crate) fn whole(number: &serde_json::Number) -> Option<i64> {
    number.as_i64().or_else(|| {
        number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < 9e18).map(|float| float as i64)
    })
}

/// Of a reference only the id is kept, where there is one.
fn reference(fields: Map<String, Value>) -> Value {
    match fields.get("id") {
        Some(Value::String(id)) if uuid::Uuid::parse_str(id).is_ok() => serde_json::json!({"id": id}),
        _ => Value::Object(fields),
    }
}

/// The value at a dotted path; null where there is none.
pub(crate) fn at<'a>(fields: &'a Map<String, Value>, path: &str) -> &'a Value {
    let mut names = path.split('.');
    let first = names.next().and_then(|name| fields.get(name)).unwrap_or(&Value::Null);
    names.fold(first, |value, name| value.get(name).unwrap_or(&Value::Null))
}
