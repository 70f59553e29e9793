//! Schemas of entities as JSON Schema, as Konnect gives them and decK fills defaults from.

use tollgate_model::schema::{Constraint, FieldType, Record, Shape};
use tollgate_model::{Map, Value, json};

/// A schema as JSON Schema.
pub(crate) fn of(record: &Record) -> Value {
    let mut properties = Map::new();
    for field in &record.fields {
        properties.insert(field.name.into(), property(&field.shape));
    }
    let required: Vec<&str> = record
        .fields
        .iter()
        .filter(|field| field.shape.required && field.shape.default.is_none() && !field.shape.auto)
        .map(|field| field.name)
        .collect();
    json!({"type": "object", "properties": properties, "required": required})
}

fn property(shape: &Shape) -> Value {
    let mut out = match &shape.kind {
        FieldType::String => json!({"type": "string"}),
        FieldType::Integer => json!({"type": "integer"}),
        FieldType::Number => json!({"type": "number"}),
        FieldType::Boolean => json!({"type": "boolean"}),
        FieldType::Array(element) => json!({"type": "array", "items": property(element)}),
        FieldType::Set(element) => json!({"type": "array", "uniqueItems": true, "items": property(element)}),
        FieldType::Map { values, .. } => json!({"type": "object", "additionalProperties": property(values)}),
        FieldType::Record(record) => of(record),
        FieldType::Foreign(_) => {
            json!({"type": "object", "additionalProperties": false, "properties": {"id": {"type": "string"}}})
        }
        FieldType::Json => json!({}),
    };
    if let Some(object) = out.as_object_mut() {
        if let Some(default) = &shape.default {
            object.insert("default".into(), default.clone());
        }
        for constraint in &shape.constraints {
            match constraint {
                Constraint::OneOf(values) => drop(object.insert("enum".into(), Value::Array(values.clone()))),
                Constraint::Between(low, high) => {
                    object.insert("minimum".into(), json!(low));
                    object.insert("maximum".into(), json!(high));
                }
                _ => {}
            }
        }
    }
    out
}
