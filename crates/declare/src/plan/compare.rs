//! When two entities mean the same, and how an entity is shown in differences.

use serde_json::{Map, Value};
use tollgate_model::Kind;

use super::Schemas;
use super::fill::{fill_config, plugin_config_schema};

/// An entity in the form in which it is compared and shown: no time stamps, nothing that is unset, nothing a
/// declaration cannot say, lists without order sorted, a plugin's configuration with its defaults.
pub fn comparable(kind: Kind, fields: &Map<String, Value>, schemas: &Schemas) -> Map<String, Value> {
    let mut out = Map::new();
    for field in &kind.schema().fields {
        let unseen = match field.name {
            "created_at" | "updated_at" => true,
            "snis" => kind == Kind::Certificate,
            "cert_digest" => kind == Kind::CaCertificate,
            _ => false,
        };
        if unseen {
            continue;
        }
        let Some(value) = fields.get(field.name) else { continue };
        let value = match (kind, field.name) {
            (Kind::Plugin, "config") => Some(value.clone()),
            (Kind::Plugin, "protocols") | (Kind::Service, "ca_certificates") | (_, "tags") => {
                set_only(value).map(sorted)
            }
            _ => set_only(value),
        };
        if let Some(value) = value {
            out.insert(field.name.to_owned(), reference_only(value));
        }
    }
    if kind == Kind::Plugin {
        let name = fields.get("name").and_then(Value::as_str).unwrap_or_default();
        if let Some(schema) = schemas.plugin(name).and_then(plugin_config_schema) {
            let filled = fill_config(out.get("config"), schema);
            // Schemas write defaults in their own way: 1.0, say.
            out.insert("config".into(), numbers_alike(filled));
        }
    }
    out
}

/// A value without what is null or empty; `None` where nothing stays.
pub fn set_only(value: &Value) -> Option<Value> {
    match value {
        Value::Null => None,
        Value::Array(list) if list.is_empty() => None,
        Value::Object(fields) => {
            let fields: Map<String, Value> =
                fields.iter().filter_map(|(name, value)| Some((name.clone(), set_only(value)?))).collect();
            (!fields.is_empty()).then_some(Value::Object(fields))
        }
        other => Some(numbers_alike(other.clone())),
    }
}

/// `1.0` as `1`: numbers are compared by value.
pub(super) fn numbers_alike(value: Value) -> Value {
    match value {
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 9e15 => {
                Value::from(float as i64)
            }
            _ => Value::Number(number),
        },
        Value::Array(list) => Value::Array(list.into_iter().map(numbers_alike).collect()),
        Value::Object(fields) => {
            Value::Object(fields.into_iter().map(|(name, value)| (name, numbers_alike(value))).collect())
        }
        other => other,
    }
}

/// A reference counts by its id alone.
fn reference_only(value: Value) -> Value {
    match value {
        Value::Object(fields) if fields.get("id").is_some_and(Value::is_string) => {
            Value::Object(fields.into_iter().filter(|(name, _)| name == "id").collect())
        }
        other => other,
    }
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Array(mut list) => {
            list.sort_by_cached_key(ToString::to_string);
            Value::Array(list)
        }
        other => other,
    }
}
