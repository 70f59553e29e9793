//! Defaults, read from the schemas a server shows (`GET /schemas/…`), as decK fills them in.

use serde_json::{Map, Value};

/// Defaults of an entity, from its schema: Kong's form (`{"fields": […]}`) or Konnect's JSON Schema.
pub fn entity_defaults(schema: &Value) -> Map<String, Value> {
    let mut defaults = Map::new();
    for (name, field) in kong_fields(schema) {
        let is_record = field.get("type").is_some_and(|kind| kind == "record");
        insert_default(&mut defaults, name, field, is_record && field.get("fields").is_some());
    }
    for (name, field) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let open = field.get("additionalProperties").is_none_or(|more| more == true);
        let is_record = open && field.get("properties").is_some();
        insert_default(&mut defaults, name, field, is_record);
    }
    defaults
}

fn insert_default(defaults: &mut Map<String, Value>, name: &str, field: &Value, is_record: bool) {
    if is_record {
        let inner = entity_defaults(field);
        if !inner.is_empty() {
            defaults.insert(name.to_owned(), Value::Object(inner));
        }
    } else if let Some(default) = field.get("default").filter(|default| !default.is_null()) {
        defaults.insert(name.to_owned(), default.clone());
    }
}

/// The fields of a schema in Kong's form: a list of objects with one member each.
pub fn kong_fields(schema: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let list = schema.get("fields").and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(Value::as_object)
        .flatten()
        .map(|(name, field)| (name.as_str(), field))
}

/// Puts defaults where a value is missing or null; records are filled inside.
pub fn fill(fields: &mut Map<String, Value>, defaults: &Map<String, Value>) {
    for (name, default) in defaults {
        match (fields.get_mut(name), default) {
            (None | Some(Value::Null), _) => {
                fields.insert(name.clone(), default.clone());
            }
            (Some(Value::Object(inner)), Value::Object(defaults)) => fill(inner, defaults),
            _ => {}
        }
    }
}

/// The schema of a plugin's `config` within the plugin's schema.
pub fn plugin_config_schema(schema: &Value) -> Option<&Value> {
    kong_fields(schema).find(|(name, _)| *name == "config").map(|(_, field)| field)
}

/// The protocols a plugin has where none are given.
pub fn plugin_protocols(schema: &Value) -> Option<&Value> {
    kong_fields(schema).find(|(name, _)| *name == "protocols").and_then(|(_, field)| field.get("default"))
}

/// A plugin's configuration with every field of its schema: the default where there is one, else null; and
/// with sets sorted. Two configurations that mean the same are equal then.
pub fn fill_config(config: Option<&Value>, schema: &Value) -> Value {
    fill_record(config.and_then(Value::as_object), schema, schema.get("default"))
}

fn fill_record(given: Option<&Map<String, Value>>, schema: &Value, defaults: Option<&Value>) -> Value {
    let mut filled = given.cloned().unwrap_or_default();
    use_new_names(&mut filled, schema);
    for (name, field) in kong_fields(schema) {
        let kind = field.get("type").and_then(Value::as_str).unwrap_or_default();
        let own = filled.get(name).filter(|value| !value.is_null()).cloned();
        let default = || {
            let outer = defaults.and_then(|defaults| defaults.get(name));
            outer.or_else(|| field.get("default")).cloned().unwrap_or(Value::Null)
        };
        let value = match (kind, own) {
            ("record", Some(Value::Object(own))) => fill_record(Some(&own), field, field.get("default")),
            ("record", None) if field.get("required").is_some_and(|required| required == true) => {
                fill_record(None, field, field.get("default"))
            }
            ("array" | "set", Some(Value::Array(list))) => Value::Array(fill_elements(list, field)),
            (_, Some(own)) => own,
            (_, None) => default(),
        };
        filled.insert(name.to_owned(), sorted_set(kind, value));
    }
    Value::Object(filled)
}

/// Puts the values of deprecated names where they belong now; servers show them under both.
fn use_new_names(config: &mut Map<String, Value>, schema: &Value) {
    let list = schema.get("shorthand_fields").and_then(Value::as_array);
    for (name, field) in list.into_iter().flatten().filter_map(Value::as_object).flatten() {
        let heir = field.pointer("/deprecation/replaced_with/0/path").and_then(Value::as_array);
        let Some([above @ .., last]) = heir.map(Vec::as_slice) else { continue };
        let Some(value) = config.remove(name).filter(|value| !value.is_null()) else { continue };
        let mut at = Some(&mut *config);
        for step in above.iter().filter_map(Value::as_str) {
            let inner = at.map(|map| map.entry(step).or_insert(Value::Null));
            at = inner.and_then(|inner| {
                if inner.is_null() {
                    *inner = Value::Object(Map::new());
                }
                inner.as_object_mut()
            });
        }
        if let (Some(map), Some(last)) = (at, last.as_str())
            && map.get(last).is_none_or(Value::is_null)
        {
            map.insert(last.to_owned(), value);
        }
    }
}

fn fill_elements(list: Vec<Value>, field: &Value) -> Vec<Value> {
    let Some(elements) = field.get("elements").filter(|elements| elements.get("fields").is_some()) else {
        return list;
    };
    list.into_iter()
        .map(|element| match element {
            Value::Object(fields) => fill_record(Some(&fields), elements, elements.get("default")),
            other => other,
        })
        .collect()
}

fn sorted_set(kind: &str, value: Value) -> Value {
    match value {
        Value::Array(mut list) if kind == "set" => {
            list.sort_by_cached_key(ToString::to_string);
            Value::Array(list)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn entities_are_filled_from_both_forms() {
        let kong = json!({"fields": [
            {"port": {"type": "integer", "default": 80}},
            {"path": {"type": "string"}},
            {"checks": {"type": "record", "fields": [{"type": {"type": "string", "default": "http"}}]}},
        ]});
        let konnect = json!({"properties": {
            "port": {"type": "integer", "default": 80},
            "path": {"type": "string"},
            "checks": {"type": "object", "properties": {"type": {"type": "string", "default": "http"}}},
        }});
        let expected = json!({"port": 80, "checks": {"type": "http"}});
        assert_eq!(Value::Object(entity_defaults(&kong)), expected);
        assert_eq!(Value::Object(entity_defaults(&konnect)), expected);
        let mut fields = json!({"port": null, "checks": {"more": 1}}).as_object().unwrap().clone();
        fill(&mut fields, expected.as_object().unwrap());
        assert_eq!(Value::Object(fields), json!({"port": 80, "checks": {"more": 1, "type": "http"}}));
    }

    #[test]
    fn configurations_get_every_field() {
        let schema = json!({"type": "record", "fields": [
            {"names": {"type": "set", "elements": {"type": "string"}, "default": ["b", "a"]}},
            {"anonymous": {"type": "string"}},
            {"model": {"type": "record", "required": true, "fields": [{"provider": {"type": "string"}}]}},
            {"extra": {"type": "record", "fields": [{"x": {"type": "string"}}]}},
            {"rules": {"type": "array", "elements": {"type": "record", "fields": [{"on": {"type": "boolean", "default": true}}]}}},
        ]});
        assert_eq!(
            fill_config(Some(&json!({"rules": [{}]})), &schema),
            json!({"rules": [{"on": true}], "names": ["a", "b"], "anonymous": null, "model": {"provider": null}, "extra": null})
        );
    }

    #[test]
    fn deprecated_names_mean_the_new_ones() {
        let schema = json!({
            "fields": [{"redis": {"type": "record", "required": true, "fields": [
                {"host": {"type": "string"}}, {"port": {"type": "integer", "default": 6379}}
            ]}}],
            "shorthand_fields": [{"redis_host": {
                "type": "string", "deprecation": {"replaced_with": [{"path": ["redis", "host"]}]}
            }}],
        });
        let expected = json!({"redis": {"host": "h", "port": 6379}});
        for given in [
            json!({"redis_host": "h"}),
            json!({"redis": {"host": "h"}}),
            json!({"redis": {"host": "h", "port": 6379}, "redis_host": "h"}),
            json!({"redis": null, "redis_host": "h"}),
        ] {
            assert_eq!(fill_config(Some(&given), &schema), expected);
        }
    }
}
