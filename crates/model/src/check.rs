//! Checking an object against its schema, after filling in what it leaves out.

use serde_json::{Map, Value};

use crate::FieldErrors;
use crate::entity_check::run_check;
use crate::fill::{Shorthands, whole};
use crate::schema::{Constraint, Field, FieldType, Record, Shape};

/// What is being done with the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A new or replaced object.
    Insert,
    /// An object of which some fields were changed: messages about the whole say so.
    Update,
}

impl Record {
    /// Fills in defaults, checks, and returns the object with every field of the schema, in its order.
    ///
    /// # Errors
    /// Everything that is wrong, with Kong's texts.
    pub fn check(&self, input: Map<String, Value>, mode: Mode) -> Result<Map<String, Value>, FieldErrors> {
        let filled = self.fill(input, Shorthands::of(mode))?;
        self.validate(&filled, mode).into_result()?;
        Ok(filled)
    }

    /// Everything that is wrong with a filled object.
    pub(crate) fn validate(&self, filled: &Map<String, Value>, mode: Mode) -> FieldErrors {
        let mut errors = self.validate_fields(filled, mode);
        for check in &self.checks {
            run_check(check, &|path| self.shape_at(path), filled, mode, &mut errors);
        }
        errors
    }

    /// What is wrong with the fields, each by itself.
    pub(crate) fn validate_fields(&self, filled: &Map<String, Value>, mode: Mode) -> FieldErrors {
        let mut errors = FieldErrors::new();
        for field in &self.fields {
            let value = filled.get(field.name).unwrap_or(&Value::Null);
            if let Err(error) = field.shape.validate_in(value, mode) {
                errors.put(field.name, error);
            }
        }
        if filled.len() > self.fields.len() || self.fields.iter().any(|field| field.shape.transient) {
            self.name_unknown(filled, &mut errors);
        }
        errors
    }

    fn name_unknown(&self, filled: &Map<String, Value>, errors: &mut FieldErrors) {
        for name in filled.keys() {
            let known = |field: &Field| field.name == name;
            let deprecated = |field: &Field| field.name == name && field.replaced_by.is_some();
            if !self.fields.iter().any(known) && !self.shorthands.iter().any(deprecated) {
                errors.add(name, "unknown field");
            }
        }
    }
}

impl Shape {
    /// Fills in and checks a value.
    ///
    /// # Errors
    /// A message, or a tree of them.
    pub fn check(&self, value: Value, mode: Mode) -> Result<Value, Value> {
        let filled = self.fill(Some(value), Shorthands::of(mode)).map_err(FieldErrors::into_value)?;
        self.validate_in(&filled, mode)?;
        Ok(filled)
    }

    /// Checks a filled value.
    ///
    /// # Errors
    /// A message, or a tree of them.
    pub fn validate(&self, value: &Value) -> Result<(), Value> {
        self.validate_in(value, Mode::Insert)
    }

    fn validate_in(&self, value: &Value, mode: Mode) -> Result<(), Value> {
        if value.is_null() {
            return self.validate_null().map_err(Value::from);
        }
        for constraint in &self.constraints {
            if let Constraint::Eq(Value::Null) = constraint {
                constraint.check(value).map_err(|message| self.message(message))?;
            }
        }
        self.validate_type(value, mode)?;
        if self.is_reference(value) {
            return Ok(());
        }
        self.constraints
            .iter()
            .try_for_each(|constraint| constraint.check(value))
            .map_err(|message| self.message(message))
    }

    fn message(&self, message: String) -> Value {
        Value::from(self.error.map_or(message, str::to_owned))
    }

    fn validate_null(&self) -> Result<(), String> {
        for constraint in &self.constraints {
            match constraint {
                Constraint::Ne(Value::Null) => constraint.check(&Value::Null)?,
                Constraint::Eq(value) if !value.is_null() => constraint.check(&Value::Null)?,
                _ => {}
            }
        }
        if self.required && !self.auto { Err("required field missing".into()) } else { Ok(()) }
    }

    /// Whether the value is a `{vault://…}` reference where one may stand.
    pub(crate) fn is_reference(&self, value: &Value) -> bool {
        self.referenceable
            && value.as_str().is_some_and(|text| text.starts_with("{vault://") && text.ends_with('}'))
    }

    /// Whether a value satisfies a condition besides what the shape demands; the condition takes the place of
    /// a demand of its own sort.
    pub(crate) fn satisfies(&self, condition: &Constraint, value: &Value) -> Result<(), String> {
        let text = |error: Value| error.as_str().map_or_else(|| error.to_string(), str::to_owned);
        if value.is_null() {
            return match condition {
                Constraint::Required | Constraint::Ne(Value::Null) => condition.check(value),
                Constraint::Eq(wanted) if !wanted.is_null() => condition.check(value),
                _ => self.validate_null(),
            };
        }
        if let Constraint::Eq(Value::Null) = condition {
            return condition.check(value);
        }
        let replaced =
            |constraint: &Constraint| std::mem::discriminant(constraint) == std::mem::discriminant(condition);
        match (condition, &self.kind) {
            // The elements' own demands give way to the condition's.
            (Constraint::Elements(_), _) => {}
            _ => self.validate_type(value, Mode::Insert).map_err(text)?,
        }
        let mut all: Vec<&Constraint> =
            self.constraints.iter().filter(|constraint| !replaced(constraint)).collect();
        all.push(condition);
        all.sort_by_key(|constraint| constraint.rank());
        all.into_iter()
            .try_for_each(|constraint| constraint.check(value))
            .map_err(|message| self.error.map_or(message, str::to_owned))
    }

    fn validate_type(&self, value: &Value, mode: Mode) -> Result<(), Value> {
        let expected = |right: bool, text: &str| if right { Ok(()) } else { Err(Value::from(text)) };
        match (&self.kind, value) {
            (FieldType::String, value) => {
                expected(value.is_string(), "expected a string")?;
                let limited = |constraint: &Constraint| matches!(constraint, Constraint::LenMin(_));
                let empty = value.as_str() == Some("") && !self.constraints.iter().any(limited);
                if empty { Err(self.message("length must be at least 1".into())) } else { Ok(()) }
            }
            (FieldType::Integer, Value::Number(number)) => {
                expected(whole(number).is_some(), "expected an integer")
            }
            (FieldType::Integer, _) => expected(false, "expected an integer"),
            (FieldType::Number, value) => expected(value.is_number(), "expected a number"),
            (FieldType::Boolean, value) => expected(value.is_boolean(), "expected a boolean"),
            (FieldType::Array(element) | FieldType::Set(element), Value::Array(list)) => {
                validate_list(element, list, mode)
            }
            (FieldType::Array(_), _) => expected(false, "expected an array"),
            (FieldType::Set(_), _) => expected(false, "expected a set"),
            (FieldType::Map { keys, values }, Value::Object(fields)) => {
                fields.iter().try_for_each(|(name, value)| {
                    keys.validate_in(&Value::from(name.as_str()), mode)?;
                    validate_element(values, value, mode)
                })
            }
            // A list's keys are numbers to Lua.
            (FieldType::Map { .. }, Value::Array(_)) => expected(false, "expected a string"),
            (FieldType::Map { .. }, _) => expected(false, "expected a map"),
            (FieldType::Record(record), Value::Object(fields)) => {
                record.validate(fields, mode).into_result().map_err(FieldErrors::into_value)
            }
            (FieldType::Record(_), _) => expected(false, "expected a record"),
            (FieldType::Foreign(kind), Value::Object(fields)) => validate_reference(*kind, fields),
            (FieldType::Foreign(_), _) => Err(serde_json::json!({"id": "missing primary key"})),
            (FieldType::Json, _) => Ok(()),
        }
    }
}

fn validate_list(element: &Shape, list: &[Value], mode: Mode) -> Result<(), Value> {
    let mut errors = Vec::new();
    for (index, value) in list.iter().enumerate() {
        if let Err(error) = validate_element(element, value, mode) {
            errors.resize(index, Value::Null);
            errors.push(error);
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(Value::Array(errors)) }
}

fn validate_element(element: &Shape, value: &Value, mode: Mode) -> Result<(), Value> {
    if value.is_null() {
        return Err("required field missing".into());
    }
    element.validate_in(value, mode)
}

/// A reference is an object with an id. One without is checked as the entity it could be, so that it is named
/// what is wrong (Kong 3.11).
fn validate_reference(kind: crate::Kind, fields: &Map<String, Value>) -> Result<(), Value> {
    let mut errors = FieldErrors::new();
    match fields.get("id") {
        Some(Value::String(id)) if id.len() == 36 && uuid::Uuid::parse_str(id).is_ok() => return Ok(()),
        Some(Value::Null) => errors.add("id", "required field missing"),
        Some(Value::String(_)) => errors.add("id", "expected a valid UUID"),
        Some(_) => errors.add("id", "expected a string"),
        None => {}
    }
    let schema = kind.schema();
    for (name, value) in fields.iter().filter(|(name, _)| *name != "id") {
        match schema.fields.iter().find(|field| field.name == name) {
            Some(field) => {
                if let Err(error) = field.shape.validate(value) {
                    errors.put(name, error);
                }
            }
            None => errors.add(name, "unknown field"),
        }
    }
    if errors.is_empty() {
        errors.add("id", "missing primary key");
    }
    Err(errors.into_value())
}
