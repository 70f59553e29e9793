//! The part of Konnect's API that decK uses: control planes are workspaces.

use tollgate_http::{Method, StatusCode};
use tollgate_model::schema::{Constraint, FieldType, Record, Shape};
use tollgate_model::{Kind, Map, Value, json};
use uuid::Uuid;

use crate::answer::{Answer, Failure, ok};
use crate::{Admin, Call};

/// Answers a call to Konnect's API; `None` where it is Kong's.
pub(crate) fn answer(admin: &Admin, call: &Call) -> Option<Answer> {
    match call.segments()[..] {
        ["konnect-api", "api", "runtime_groups"] | ["v2", "control-planes"] if call.method == Method::GET => {
            Some(control_planes(admin))
        }
        ["v2", "organizations", "me"] => Some(ok(json!({"id": Uuid::nil().to_string(), "name": "Tollgate"}))),
        ["v1", "schemas", "json", name] if call.konnect => {
            let kind = Kind::ALL.into_iter().find(|kind| kind.plural().trim_end_matches('s') == name);
            Some(match kind {
                Some(kind) => ok(json_schema(kind.schema())),
                None => Err(Failure::message(StatusCode::NOT_FOUND, "Not found")),
            })
        }
        _ => None,
    }
}

fn control_planes(admin: &Admin) -> Answer {
    let page = admin.store.read(|view| view.list(Kind::Workspace, Uuid::nil(), None, usize::MAX, None))?;
    let data: Vec<Value> = page
        .entities
        .iter()
        .map(|stored| json!({"id": stored.id.to_string(), "name": stored.fields.get("name")}))
        .collect();
    let total = data.len();
    ok(
        json!({"data": data, "page": 1, "pageCount": 1, "meta": {"page": {"total": total, "size": total, "number": 1}}, "tollgate": {"version": admin.facts.version}}),
    )
}

/// A schema as JSON Schema.
fn json_schema(record: &Record) -> Value {
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
        FieldType::Record(record) => json_schema(record),
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
