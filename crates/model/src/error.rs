//! Validation errors: a tree with the shape of the checked object.

use serde_json::{Map, Value};

/// Everything that is wrong with one object, all at once. The tree has the shape of the object: a field's
/// name leads to a message, or to a nested tree for records, maps and arrays.
///
/// Rendered as Kong's Admin API does: `fields` of a schema violation, and the one-line summary
/// (`schema violation (name: required field missing)`, `2 schema violations (…; …)`).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FieldErrors {
    fields: Map<String, Value>,
}

impl FieldErrors {
    /// No error yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The tree, as the `fields` member of Kong's answer.
    pub fn fields(&self) -> &Map<String, Value> {
        &self.fields
    }
}
