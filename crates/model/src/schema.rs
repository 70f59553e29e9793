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
    /// Input-only fields that are turned into real ones, such as a service's `url`, in the order in which that
    /// is done.
    pub shorthands: Vec<Field>,
}

impl Record {
    /// The shape of a field, by its dotted path.
    pub fn shape_at(&self, path: &str) -> Option<&Shape> {
        let (name, rest) = path.split_once('.').map_or((path, None), |(name, rest)| (name, Some(rest)));
        let shape = &self.fields.iter().find(|field| field.name == name)?.shape;
        match (rest, &shape.kind) {
            (None, _) => Some(shape),
            (Some(rest), FieldType::Record(record)) => record.shape_at(rest),
            _ => None,
        }
    }

    /// The field of this name.
    pub fn field_mut(&mut self, name: &str) -> Option<&mut Field> {
        self.fields.iter_mut().find(|field| field.name == name)
    }
}

/// A named field.
#[derive(Debug, Clone)]
pub struct Field {
    /// The name.
    pub name: &'static str,
    /// Type and constraints.
    pub shape: Shape,
    /// For a deprecated shorthand: dotted path of the field of the same record that took its place. Answers
    /// show the shorthand with its heir's value.
    pub replaced_by: Option<&'static str>,
    /// For a shorthand that stands for several fields: what it turns into.
    pub expand: Option<Expand>,
}

/// What a shorthand's value turns into: fields of the same record, which win over those given.
pub type Expand = fn(&Value) -> Map<String, Value>;

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
    /// Said to be optional, which `/schemas` then shows (`"required": false`).
    pub optional: bool,
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
    /// Not filled in where it is not given, such as a certificate's `snis`.
    pub transient: bool,
    /// Not shown by `/schemas`, such as a credential's `ttl`.
    pub hidden: bool,
    /// The message for every check that fails, instead of the check's own.
    pub error: Option<&'static str>,
    /// What is said about a field that is going away.
    pub deprecation: Option<Deprecation>,
    /// Checks on the value, in the order Kong applies them.
    pub constraints: Vec<Constraint>,
}

/// What `/schemas` says about a field that is going away.
#[derive(Debug, Clone)]
pub struct Deprecation {
    /// What to use instead.
    pub message: &'static str,
    /// The version without the field.
    pub removal_in_version: &'static str,
}

impl Shape {
    /// A required value of this type, without further demands.
    pub fn new(kind: FieldType) -> Self {
        Self {
            kind,
            description: "",
            required: true,
            optional: false,
            default: None,
            auto: false,
            unique: false,
            referenceable: false,
            encrypted: false,
            transient: false,
            hidden: false,
            error: None,
            deprecation: None,
            constraints: Vec::new(),
        }
    }

    /// Puts the checks into the order in which Kong applies them.
    pub fn sort_constraints(&mut self) {
        self.constraints.sort_by_key(Constraint::rank);
    }

    /// Makes the defaults of some fields of a record the default of the record, as Kong shows it.
    pub fn record_default(&mut self, names: &[&str]) {
        let FieldType::Record(record) = &self.kind else { return };
        let fields = record.fields.iter().filter(|field| names.is_empty() || names.contains(&field.name));
        let defaults = fields
            .filter_map(|field| Some((field.name.to_owned(), field.shape.default.clone()?)))
            .collect::<Map<_, _>>();
        self.default = Some(Value::Object(defaults));
    }

    /// Gives a field of a record another default, which the record's own default then has too, as Kong shows it.
    pub fn field_default(&mut self, name: &str, value: Value) {
        if let FieldType::Record(record) = &mut self.kind
            && let Some(field) = record.field_mut(name)
        {
            field.shape.default = Some(value.clone());
            self.default = Some(Value::Object(Map::from_iter([(name.to_owned(), value)])));
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
    /// The value must be there (of a conditional check).
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
    /// String matches one of these Lua-like patterns.
    MatchAny {
        /// Shown in `/schemas`.
        patterns: &'static [&'static str],
        /// Regular expression (crate `regex`) that decides.
        regex: &'static str,
        /// The message.
        error: &'static str,
    },
    /// List contains this.
    Contains(Value),
    /// Every element of a list satisfies this (of a conditional check).
    Elements(Box<Constraint>),
    /// At most one of these groups has members in the list.
    ExclusiveSubsets(&'static [&'static [&'static str]]),
    /// A regular expression.
    Regex,
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
    /// Depending on one field, at least one of others must be set; with a second condition for the rest.
    ConditionalAtLeastOneOf {
        /// Dotted path.
        if_field: &'static str,
        /// Condition and what must be set then; the first that holds counts.
        branches: Vec<Branch>,
    },
    /// Of two sets of fields only one may be used.
    MutuallyExclusiveSets(Vec<&'static str>, Vec<&'static str>),
    /// A check by a function over some fields, looked at only where they are right in themselves.
    CustomOn {
        /// The fields.
        fields: Vec<&'static str>,
        /// Whether it is also run where fields are not set; `/schemas` shows it.
        run_with_missing_fields: bool,
        /// Returns the message when they are wrong together.
        check: fn(&Map<String, Value>) -> Result<(), String>,
    },
    /// A check by a named function over the whole object.
    Custom(&'static str, fn(&Map<String, Value>) -> Result<(), crate::FieldErrors>),
}

/// A condition and what it demands.
#[derive(Debug, Clone)]
pub struct Branch {
    /// What the first field must satisfy.
    pub matches: Constraint,
    /// Fields of which at least one must be set then.
    pub at_least_one_of: Vec<&'static str>,
    /// Message instead of Kong's default; `%s` stands for the list of fields.
    pub error: Option<&'static str>,
}
