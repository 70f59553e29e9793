//! Rust types as schema types: what `#[derive(Config)]` builds on.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};
use uuid::Uuid;

use crate::FieldErrors;
use crate::schema::{Constraint, FieldType, Shape};

/// A type a field can have.
pub trait ConfigValue: Sized {
    /// Its schema type. A type that cannot be absent is required.
    fn shape() -> Shape;

    /// Reads a checked value.
    ///
    /// # Errors
    /// Only for a value that has not been checked.
    fn read(value: &Value) -> Result<Self, FieldErrors>;
}

/// Reads a field of a checked object.
///
/// # Errors
/// Only for an object that has not been checked.
pub fn read_field<T: ConfigValue>(object: &Value, name: &str) -> Result<T, FieldErrors> {
    T::read(object.get(name).unwrap_or(&Value::Null)).map_err(|errors| {
        let mut outer = FieldErrors::new();
        match errors.fields().get("@entity").and_then(|list| list.get(0)).and_then(Value::as_str) {
            Some(message) => outer.add(name, message),
            None => outer.nest(name, errors.into_value()),
        }
        outer
    })
}

/// The error of a value that is not what its schema promises.
pub fn unchecked(expected: &str) -> FieldErrors {
    let mut errors = FieldErrors::new();
    errors.add_entity(format!("expected {expected}"));
    errors
}

macro_rules! plain {
    ($($type:ty, $kind:ident, $article:literal, |$value:ident| $read:expr;)*) => {$(
        impl ConfigValue for $type {
            fn shape() -> Shape {
                Shape::new(FieldType::$kind)
            }

            fn read($value: &Value) -> Result<Self, FieldErrors> {
                $read.ok_or_else(|| unchecked($article))
            }
        }
    )*};
}

plain! {
    String, String, "a string", |value| value.as_str().map(str::to_owned);
    Arc<str>, String, "a string", |value| value.as_str().map(Arc::from);
    Box<str>, String, "a string", |value| value.as_str().map(Box::from);
    bool, Boolean, "a boolean", |value| value.as_bool();
    i64, Integer, "an integer", |value| value.as_i64();
    u64, Integer, "an integer", |value| value.as_u64();
    u32, Integer, "an integer", |value| value.as_u64().and_then(|number| number.try_into().ok());
    u16, Integer, "an integer", |value| value.as_u64().and_then(|number| number.try_into().ok());
    usize, Integer, "an integer", |value| value.as_u64().and_then(|number| number.try_into().ok());
    f64, Number, "a number", |value| value.as_f64();
    Value, Json, "a value", |value| Some(value.clone());
}

impl ConfigValue for Uuid {
    fn shape() -> Shape {
        let mut shape = Shape::new(FieldType::String);
        shape.constraints.push(Constraint::Uuid);
        shape
    }

    fn read(value: &Value) -> Result<Self, FieldErrors> {
        value.as_str().and_then(|id| Uuid::parse_str(id).ok()).ok_or_else(|| unchecked("a valid UUID"))
    }
}

impl<T: ConfigValue> ConfigValue for Option<T> {
    fn shape() -> Shape {
        Shape { required: false, ..T::shape() }
    }

    fn read(value: &Value) -> Result<Self, FieldErrors> {
        if value.is_null() { Ok(None) } else { T::read(value).map(Some) }
    }
}

fn element<T: ConfigValue>() -> Box<Shape> {
    Box::new(Shape { required: false, ..T::shape() })
}

impl<T: ConfigValue> ConfigValue for Vec<T> {
    fn shape() -> Shape {
        Shape::new(FieldType::Array(element::<T>()))
    }

    fn read(value: &Value) -> Result<Self, FieldErrors> {
        value.as_array().ok_or_else(|| unchecked("an array"))?.iter().map(T::read).collect()
    }
}

/// A list without repeats, in the order given.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Set<T>(pub Vec<T>);

impl<T> std::ops::Deref for Set<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T: ConfigValue> ConfigValue for Set<T> {
    fn shape() -> Shape {
        Shape::new(FieldType::Set(element::<T>()))
    }

    fn read(value: &Value) -> Result<Self, FieldErrors> {
        Vec::read(value).map(Self)
    }
}

impl<T: ConfigValue> ConfigValue for BTreeMap<String, T> {
    fn shape() -> Shape {
        Shape::new(FieldType::Map { keys: element::<String>(), values: element::<T>() })
    }

    fn read(value: &Value) -> Result<Self, FieldErrors> {
        let fields: &Map<String, Value> = value.as_object().ok_or_else(|| unchecked("a map"))?;
        fields.iter().map(|(name, value)| Ok((name.clone(), T::read(value)?))).collect()
    }
}

/// A reference to another entity: `{"id": "…"}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reference {
    /// Id of the entity referred to.
    pub id: Uuid,
}

impl ConfigValue for Reference {
    fn shape() -> Shape {
        // The kind referred to is the field's `foreign` attribute.
        Shape::new(FieldType::Foreign(crate::Kind::Workspace))
    }

    fn read(value: &Value) -> Result<Self, FieldErrors> {
        let id = value.get("id").and_then(Value::as_str).and_then(|id| Uuid::parse_str(id).ok());
        id.map(|id| Self { id }).ok_or_else(|| unchecked("a reference"))
    }
}

/// A string that never shows itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Wraps a secret.
    pub fn new(secret: impl Into<Arc<str>>) -> Self {
        Self(secret.into())
    }

    /// The secret itself, for the one who must send it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("******")
    }
}

impl ConfigValue for Secret {
    fn shape() -> Shape {
        Shape { encrypted: true, ..Shape::new(FieldType::String) }
    }

    fn read(value: &Value) -> Result<Self, FieldErrors> {
        value.as_str().map(Self::new).ok_or_else(|| unchecked("a string"))
    }
}
