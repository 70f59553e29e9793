//! Checking an object against its schema and filling in what it leaves out.

use serde_json::{Map, Value};

use crate::FieldErrors;
use crate::schema::{Constraint, EntityCheck, Field, FieldType, Record, Shape};

/// What is being done with the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A new or replaced object: defaults are filled in, everything is checked.
    Insert,
    /// Some fields of an object that exists: given fields are checked, the whole is checked after merging.
    Update,
}

impl Record {
    /// Checks `input`, fills defaults, and returns the object with every field of the schema, in its order.
    ///
    /// # Errors
    /// Everything that is wrong, with Kong's texts.
    pub fn check(&self, input: Map<String, Value>, mode: Mode) -> Result<Map<String, Value>, FieldErrors> {
        let (filled, errors) = self.check_partly(input, mode);
        errors.into_result()?;
        Ok(filled)
    }

    /// The same, with what could be filled in beside what is wrong.
    pub(crate) fn check_partly(
        &self,
        input: Map<String, Value>,
        mode: Mode,
    ) -> (Map<String, Value>, FieldErrors) {
        let mut errors = FieldErrors::new();
        let filled = self.fill(input, mode, &mut errors);
        if mode == Mode::Insert {
            for check in &self.checks {
                run_check(check, &filled, &mut errors);
            }
        }
        (filled, errors)
    }

    fn fill(
        &self,
        mut input: Map<String, Value>,
        mode: Mode,
        errors: &mut FieldErrors,
    ) -> Map<String, Value> {
        errors.merge(self.move_shorthands(&mut input));
        let mut filled = Map::new();
        for field in &self.fields {
            let shape = &field.shape;
            let given = input.remove(field.name);
            if given.is_none() && mode == Mode::Update {
                continue;
            }
            let value = match given {
                None | Some(Value::Null) if shape.default.is_some() => {
                    if matches!(given, Some(Value::Null)) && !shape.required {
                        Value::Null
                    } else {
                        shape.default.clone().unwrap_or_default()
                    }
                }
                None | Some(Value::Null) => shape.empty(),
                Some(value) => value,
            };
            match shape.check(value, mode) {
                Ok(value) => {
                    filled.insert(field.name.to_owned(), value);
                }
                Err(Value::String(message)) => errors.add(field.name, message),
                Err(tree) => errors.nest(field.name, tree),
            }
        }
        for unknown in input.keys() {
            errors.add(unknown, "unknown field");
        }
        filled
    }
}

impl Record {
    /// Puts the values of deprecated fields where their heirs are read from (Kong 3.11).
    pub(crate) fn move_shorthands(&self, input: &mut Map<String, Value>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        for shorthand in &self.shorthands {
            if let (Some(path), Some(value)) = (shorthand.replaced_by, input.remove(shorthand.name))
                && let Err(error) = move_shorthand(shorthand, path, value, input)
            {
                errors.nest(shorthand.name, error);
            }
        }
        errors
    }
}

fn move_shorthand(
    shorthand: &Field,
    path: &str,
    value: Value,
    input: &mut Map<String, Value>,
) -> Result<(), Value> {
    let value = shorthand.shape.check(value, Mode::Insert)?;
    if value.is_null() {
        return Ok(());
    }
    let there = at(input, path);
    if !there.is_null() && *there != value {
        return Err(format!(
            "both deprecated and new field are used but their values mismatch: {} = {} vs {path} = {}",
            shorthand.name,
            lua(&value),
            lua(there)
        )
        .into());
    }
    let mut into = input;
    let mut names = path.split('.').peekable();
    while let Some(name) = names.next() {
        if names.peek().is_none() {
            into.insert(name.to_owned(), value);
            break;
        }
        let inner = into.entry(name).or_insert(Value::Null);
        if inner.is_null() {
            *inner = Value::Object(Map::new());
        }
        // What is no record stays, for the check of that field to refuse.
        let Value::Object(fields) = inner else { break };
        into = fields;
    }
    Ok(())
}

impl Shape {
    /// What stands for a value that was not given: nothing, or a record of defaults.
    fn empty(&self) -> Value {
        match &self.kind {
            FieldType::Record(record) if self.required || record.has_defaults() => Value::Object(Map::new()),
            _ => Value::Null,
        }
    }

    /// Checks a value; the error is a message or a tree.
    pub fn check(&self, value: Value, mode: Mode) -> Result<Value, Value> {
        let wrong = |message: &str| Err(Value::from(message));
        if value.is_null() {
            for constraint in &self.constraints {
                if let Constraint::Eq(_) | Constraint::Ne(_) = constraint {
                    constraint.check(&value).map_err(Value::from)?;
                }
            }
            return if self.required && !self.auto {
                wrong("required field missing")
            } else {
                Ok(Value::Null)
            };
        }
        let value = match (&self.kind, value) {
            (FieldType::String, value @ Value::String(_)) => {
                let limited = self
                    .constraints
                    .iter()
                    .any(|c| matches!(c, Constraint::LenMin(_) | Constraint::LenEq(_)));
                if !limited && value.as_str() == Some("") {
                    return wrong("length must be at least 1");
                }
                value
            }
            (FieldType::String, _) => return wrong("expected a string"),
            (FieldType::Integer, Value::Number(number)) => match integer(&number) {
                Some(whole) => Value::from(whole),
                None => return wrong("expected an integer"),
            },
            (FieldType::Integer, _) => return wrong("expected an integer"),
            (FieldType::Number, value @ Value::Number(_)) => value,
            (FieldType::Number, _) => return wrong("expected a number"),
            (FieldType::Boolean, value @ Value::Bool(_)) => value,
            (FieldType::Boolean, _) => return wrong("expected a boolean"),
            (FieldType::Array(element), Value::Array(values)) => {
                Value::Array(check_list(element, values, mode)?)
            }
            (FieldType::Set(element), Value::Array(values)) => {
                let mut unique: Vec<Value> = Vec::new();
                for value in check_list(element, values, mode)? {
                    if !unique.contains(&value) {
                        unique.push(value);
                    }
                }
                Value::Array(unique)
            }
            // An empty Lua table is an object to JSON.
            (FieldType::Array(_) | FieldType::Set(_), Value::Object(fields)) if fields.is_empty() => {
                Value::Array(Vec::new())
            }
            (FieldType::Array(_), _) => return wrong("expected an array"),
            (FieldType::Set(_), _) => return wrong("expected a set"),
            (FieldType::Map { keys, values }, Value::Object(fields)) => {
                Value::Object(check_map(keys, values, fields, mode)?)
            }
            (FieldType::Map { .. }, Value::Array(list)) if list.is_empty() => Value::Object(Map::new()),
            (FieldType::Map { .. }, _) => return wrong("expected a map"),
            (FieldType::Record(record), Value::Object(fields)) => {
                Value::Object(record.check(fields, Mode::Insert).map_err(FieldErrors::into_value)?)
            }
            (FieldType::Record(record), Value::Array(list)) if list.is_empty() => {
                Value::Object(record.check(Map::new(), Mode::Insert).map_err(FieldErrors::into_value)?)
            }
            (FieldType::Record(_), _) => return wrong("expected a record"),
            (FieldType::Foreign(_), Value::Object(fields)) => check_reference(fields)?,
            (FieldType::Foreign(_), _) => return wrong("expected a record"),
            (FieldType::Json, value) => value,
        };
        for constraint in &self.constraints {
            constraint.check(&value).map_err(Value::from)?;
        }
        Ok(value)
    }
}

impl Record {
    fn has_defaults(&self) -> bool {
        self.fields.iter().any(|field| match &field.shape.kind {
            FieldType::Record(record) => record.has_defaults(),
            _ => field.shape.default.is_some(),
        })
    }
}

fn integer(number: &serde_json::Number) -> Option<i64> {
    number.as_i64().or_else(|| {
        number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < 9e15).map(|float| float as i64)
    })
}

fn check_list(element: &Shape, values: Vec<Value>, mode: Mode) -> Result<Vec<Value>, Value> {
    let mut errors = Vec::new();
    let mut checked = Vec::with_capacity(values.len());
    for (index, value) in values.into_iter().enumerate() {
        let result = if value.is_null() {
            Err(Value::from("required field missing"))
        } else {
            element.check(value, mode)
        };
        match result {
            Ok(value) => checked.push(value),
            Err(error) => {
                errors.resize(index, Value::Null);
                errors.push(error);
            }
        }
    }
    if errors.is_empty() { Ok(checked) } else { Err(Value::Array(errors)) }
}

fn check_map(
    keys: &Shape,
    values: &Shape,
    fields: Map<String, Value>,
    mode: Mode,
) -> Result<Map<String, Value>, Value> {
    let mut errors = Map::new();
    let mut checked = Map::new();
    for (name, value) in fields {
        if let Err(error) = keys.check(Value::from(name.as_str()), mode) {
            errors.insert(name.clone(), error);
        }
        match values.check(value, mode) {
            Ok(value) => {
                checked.insert(name, value);
            }
            Err(error) => {
                errors.insert(name, error);
            }
        }
    }
    if errors.is_empty() { Ok(checked) } else { Err(Value::Object(errors)) }
}

/// A reference is an object with an id; a name in its place is resolved by whoever reads files.
fn check_reference(fields: Map<String, Value>) -> Result<Value, Value> {
    match fields.get("id") {
        Some(Value::String(id)) if uuid::Uuid::parse_str(id).is_ok() => Ok(serde_json::json!({ "id": id })),
        Some(_) => Err(serde_json::json!({"id": "expected a valid UUID"})),
        None if fields.values().any(Value::is_string) => Ok(Value::Object(fields)),
        None => Err(serde_json::json!({"id": "missing primary key"})),
    }
}

fn lua(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn join(values: &[Value]) -> String {
    values.iter().map(lua).collect::<Vec<_>>().join(", ")
}

fn number(float: f64) -> String {
    if float.fract() == 0.0 { format!("{float:.0}") } else { float.to_string() }
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
    /// Whether a value satisfies this; the message otherwise.
    pub fn check(&self, value: &Value) -> Result<(), String> {
        let must = |holds: bool, message: String| if holds { Ok(()) } else { Err(message) };
        match self {
            Self::Eq(expected) => must(value == expected, format!("value must be {}", lua(expected))),
            Self::Ne(other) => must(value != other, format!("value must not be {}", lua(other))),
            Self::Required => must(!value.is_null(), "required field missing".into()),
            Self::Gt(bound) => must(
                value.as_f64().is_none_or(|v| v > *bound),
                format!("value must be greater than {}", number(*bound)),
            ),
            Self::Between(low, high) => must(
                value.as_f64().is_none_or(|v| (*low..=*high).contains(&v)),
                format!("value should be between {} and {}", number(*low), number(*high)),
            ),
            Self::OneOf(values) => must(values.contains(value), format!("expected one of: {}", join(values))),
            Self::NotOneOf(values) => {
                must(!values.contains(value), format!("must not be one of: {}", join(values)))
            }
            Self::LenMin(count) => must(length(value) >= *count, format!("length must be at least {count}")),
            Self::LenMax(count) => must(length(value) <= *count, format!("length must be at most {count}")),
            Self::LenEq(count) => must(length(value) == *count, format!("length must be {count}")),
            Self::StartsWith(prefix) => must(
                value.as_str().is_none_or(|v| v.starts_with(prefix)),
                format!("should start with: {prefix}"),
            ),
            Self::Match { regex, error, negated, .. } => {
                let Some(text) = value.as_str() else { return Ok(()) };
                let matches = compiled(regex).is_some_and(|regex| regex.is_match(text));
                must(
                    matches != *negated,
                    error.map_or_else(|| format!("invalid value: {text}"), str::to_owned),
                )
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

/// Schemas are few and fixed: their regexes are compiled once and kept.
fn compiled(pattern: &'static str) -> Option<regex::Regex> {
    use std::collections::HashMap;
    use std::sync::{LazyLock, Mutex, PoisonError};
    static KNOWN: LazyLock<Mutex<HashMap<&'static str, Option<regex::Regex>>>> =
        LazyLock::new(Mutex::default);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    known.entry(pattern).or_insert_with(|| regex::Regex::new(pattern).ok()).clone()
}

fn at<'a>(fields: &'a Map<String, Value>, path: &str) -> &'a Value {
    let mut names = path.split('.');
    let first = names.next().and_then(|name| fields.get(name)).unwrap_or(&Value::Null);
    names.fold(first, |value, name| value.get(name).unwrap_or(&Value::Null))
}

fn is_set(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        _ => true,
    }
}

fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ")
}

pub(crate) fn run_check(check: &EntityCheck, fields: &Map<String, Value>, errors: &mut FieldErrors) {
    let set = |names: &[&'static str]| names.iter().filter(|name| is_set(at(fields, name))).count();
    match check {
        EntityCheck::AtLeastOneOf(names) if set(names) == 0 => {
            errors.add_entity(format!("at least one of these fields must be non-empty: {}", quoted(names)));
        }
        EntityCheck::OnlyOneOf(names) if set(names) != 1 => {
            errors.add_entity(format!("exactly one of these fields must be non-empty: {}", quoted(names)));
        }
        EntityCheck::MutuallyRequired(names) if set(names) != 0 && set(names) != names.len() => {
            errors.add_entity(format!("all or none of these fields must be set: {}", quoted(names)));
        }
        EntityCheck::MutuallyExclusive(names) if set(names) > 1 => {
            errors.add_entity(format!("only one or none of these fields must be set: {}", quoted(names)));
        }
        EntityCheck::Distinct(names) => {
            let values: Vec<_> =
                names.iter().map(|name| at(fields, name)).filter(|value| is_set(value)).collect();
            let repeated = values.iter().enumerate().any(|(index, value)| values[..index].contains(value));
            if repeated {
                errors.add_entity(format!("values of these fields must be distinct: {}", quoted(names)));
            }
        }
        EntityCheck::Conditional { if_field, if_match, then_field, then_match, then_error } => {
            if if_match.check(at(fields, if_field)).is_err() {
                return;
            }
            if let Err(message) = then_match.check(at(fields, then_field)) {
                errors.add_at(then_field, message);
                let general = || format!("failed conditional validation given value of field '{if_field}'");
                errors.add_entity(then_error.map_or_else(general, str::to_owned));
            }
        }
        EntityCheck::Custom(_, check) => {
            if let Err(more) = check(fields) {
                errors.merge(more);
            }
        }
        _ => {}
    }
}
