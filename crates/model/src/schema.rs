//! The one source of truth about every entity and plugin: what fields it has, of which type, with which
//! defaults and checks.

use serde_json::{Map, Value};

pub use crate::value::{ConfigValue, Reference, Secret, Set, read_field, unchecked};

/// A type whose definition is its schema, its defaults, its checks and its docs. Derived:
/// `#[derive(Config)]`.
pub trait Config: Sized {
    /// The schema. Built once.
    fn schema() -> &'static Record;

    /// Reads a value that has passed [`Record::check`] (so every default is filled in).
    ///
    /// # Errors
    /// Only for a value that has not been checked.
    fn from_checked(value: &Value) -> Result<Self, crate::FieldErrors>;
}

/// An object with named fields.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Fields in declaration order.
    pub fields: Vec<Field>,
    /// Checks over several fields.
    pub checks: Vec<EntityCheck>,
    /// Input-only fields that are turned into real ones, such as a service's `url`.
    pub shorthands: Vec<Field>,
}

/// A named field.
#[derive(Debug, Clone)]
pub struct Field {
    /// The name.
    pub name: &'static str,
    /// Type and constraints.
    pub shape: Shape,
    /// For a deprecated shorthand: dotted path of the field of the same record that took its place.
    pub replaced_by: Option<&'static str>,
}

/// The type of a value with everything that is demanded of it. Used for fields and for the elements of
/// arrays, sets and maps.
#[derive(Debug, Clone)]
pub struct Shape {
    /// The type.
    pub kind: FieldType,
    /// What it is for, one or two sentences; from the rustdoc of the struct's field.
    pub description: &'static str,
    /// Must not be null once defaults are filled in.
    pub required: bool,
    /// Value where none is given.
    pub default: Option<Value>,
    /// Set by the server when absent (`id`, `created_at`).
    pub auto: bool,
    /// Value unique among the entities of the kind in a workspace.
    pub unique: bool,
    /// A `{vault://…}` reference may stand for the value.
    pub referenceable: bool,
    /// A secret: encrypted at rest where that is on, never printed.
    pub encrypted: bool,
    /// Checks on the value, in the order Kong applies them.
    pub constraints: Vec<Constraint>,
}

impl Shape {
    /// A required value of this type, without further demands.
    pub fn new(kind: FieldType) -> Self {
        Self {
            kind,
            description: "",
            required: true,
            default: None,
            auto: false,
            unique: false,
            referenceable: false,
            encrypted: false,
            constraints: Vec::new(),
        }
    }

    /// Shape of the elements of an array or set.
    pub fn element_mut(&mut self) -> Option<&mut Shape> {
        match &mut self.kind {
            FieldType::Array(element) | FieldType::Set(element) => Some(element),
            _ => None,
        }
    }

    /// Shape of the keys of a map.
    pub fn keys_mut(&mut self) -> Option<&mut Shape> {
        match &mut self.kind {
            FieldType::Map { keys, .. } => Some(keys),
            _ => None,
        }
    }

    /// Shape of the values of a map.
    pub fn values_mut(&mut self) -> Option<&mut Shape> {
        match &mut self.kind {
            FieldType::Map { values, .. } => Some(values),
            _ => None,
        }
    }
}

/// Types of Kong's schema language.
#[derive(Debug, Clone)]
pub enum FieldType {
    /// `string`
    String,
    /// `integer`
    Integer,
    /// `number`
    Number,
    /// `boolean`
    Boolean,
    /// `array` with elements of one shape
    Array(Box<Shape>),
    /// `set`: an array without repeats
    Set(Box<Shape>),
    /// `map` from one shape to another
    Map {
        /// Shape of the keys.
        keys: Box<Shape>,
        /// Shape of the values.
        values: Box<Shape>,
    },
    /// `record`
    Record(Record),
    /// `foreign`: a reference to an entity of another kind
    Foreign(crate::Kind),
    /// `json`: any JSON value
    Json,
}

/// A check on one value. Names are Kong's.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Constraint {
    /// The value must equal this (`null` for "must be absent").
    Eq(Value),
    /// The value must not equal this.
    Ne(Value),
    /// The value must be there.
    Required,
    /// Number greater than this.
    Gt(f64),
    /// Number in this range, bounds included.
    Between(f64, f64),
    /// One of these values.
    OneOf(Vec<Value>),
    /// None of these values.
    NotOneOf(Vec<Value>),
    /// Least length (of a string in bytes, of a list in elements).
    LenMin(usize),
    /// Greatest length.
    LenMax(usize),
    /// Exact length.
    LenEq(usize),
    /// String starts with this.
    StartsWith(&'static str),
    /// String matches this Lua-like pattern; the regex is ours, the pattern is what the schema shows.
    Match {
        /// Shown in `/schemas`.
        pattern: &'static str,
        /// Regular expression (crate `regex`) that decides.
        regex: &'static str,
        /// Message instead of Kong's default.
        error: Option<&'static str>,
        /// Whether the string must *not* match (`not_match`).
        negated: bool,
    },
    /// A UUID.
    Uuid,
    /// A Unix time stamp.
    Timestamp,
    /// A check by a named function: returns the message when the value is wrong.
    Custom(&'static str, fn(&Value) -> Result<(), String>),
}

/// A check over several fields. Names are Kong's.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum EntityCheck {
    /// At least one of these fields must be set.
    AtLeastOneOf(Vec<&'static str>),
    /// Exactly one may be set.
    OnlyOneOf(Vec<&'static str>),
    /// All or none.
    MutuallyRequired(Vec<&'static str>),
    /// At most one.
    MutuallyExclusive(Vec<&'static str>),
    /// These fields must differ from each other.
    Distinct(Vec<&'static str>),
    /// If one field passes a check, another must pass one.
    Conditional {
        /// Dotted path.
        if_field: &'static str,
        /// What the first must satisfy for the second to be looked at.
        if_match: Box<Constraint>,
        /// Dotted path.
        then_field: &'static str,
        /// What the second must satisfy.
        then_match: Box<Constraint>,
        /// Message instead of Kong's default.
        then_error: Option<&'static str>,
    },
    /// A check by a named function over the whole object.
    Custom(&'static str, fn(&Map<String, Value>) -> Result<(), crate::FieldErrors>),
}
