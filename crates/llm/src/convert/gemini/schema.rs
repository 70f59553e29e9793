//! JSON schemas as Gemini takes them: a part of OpenAPI's, that refuses the keywords it does not know.

use serde_json::{Map, Value, json};

/// Deepest nesting that is kept: references may lead in a circle.
const DEEPEST: usize = 24;

/// Keywords that mean the same there.
const KEPT: [&str; 18] = [
    "title",
    "description",
    "nullable",
    "enum",
    "required",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "minLength",
    "maxLength",
    "minProperties",
    "maxProperties",
    "pattern",
    "format",
    "default",
    "example",
    "propertyOrdering",
];

/// Formats of texts and numbers that are known there.
const FORMATS: [&str; 8] = ["enum", "date-time", "date", "time", "float", "double", "int32", "int64"];

/// A schema without what Gemini refuses: references are followed, other ways to say the same are rewritten, and what
/// cannot be said is left out.
pub(crate) fn cleaned(schema: &Value) -> Value {
    clean(schema, schema, 0)
}

fn clean(schema: &Value, root: &Value, depth: usize) -> Value {
    let Some(given) = schema.as_object() else {
        // `true` stands for anything; so does a schema that is none.
        return json!({"type": "string"});
    };
    if depth > DEEPEST {
        return json!({"type": "object"});
    }
    if let Some(reference) = given.get("$ref").and_then(Value::as_str) {
        let target = reference.strip_prefix('#').and_then(|pointer| root.pointer(pointer));
        let mut followed = clean(target.unwrap_or(&Value::Null), root, depth + 1);
        for name in ["description", "title", "default"] {
            if let Some(value) = given.get(name) {
                followed[name] = value.clone();
            }
        }
        return followed;
    }
    let mut out = Map::new();
    for part in given.get("allOf").and_then(Value::as_array).into_iter().flatten() {
        if let Value::Object(part) = clean(part, root, depth + 1) {
            merge(&mut out, part);
        }
    }
    let mut own: Map<String, Value> = given
        .iter()
        .filter(|(name, value)| is_kept(name, value))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if let Some(constant) = given.get("const") {
        own.insert("enum".to_owned(), json!([constant]));
    }
    if let Some(Value::Object(properties)) = given.get("properties") {
        let cleaned = properties.iter().map(|(name, schema)| (name.clone(), clean(schema, root, depth + 1)));
        own.insert("properties".to_owned(), cleaned.collect());
    }
    match given.get("items").filter(|items| !items.is_null()).or_else(|| given.get("prefixItems")) {
        Some(Value::Array(items)) => {
            let alternatives: Vec<Value> = items.iter().map(|item| clean(item, root, depth + 1)).collect();
            if !alternatives.is_empty() {
                own.insert("items".to_owned(), json!({"anyOf": alternatives}));
            }
        }
        Some(items) => drop(own.insert("items".to_owned(), clean(items, root, depth + 1))),
        None => {}
    }
    let alternatives = given.get("anyOf").or_else(|| given.get("oneOf")).and_then(Value::as_array);
    set_alternatives(&mut own, alternatives.into_iter().flatten().map(|one| clean(one, root, depth + 1)));
    set_type(&mut own, given.get("type"));
    merge(&mut out, own);
    tidy(&mut out);
    Value::Object(out)
}

fn is_kept(name: &str, value: &Value) -> bool {
    match name {
        "format" => value.as_str().is_some_and(|format| FORMATS.contains(&format)),
        // A schema of its own draft may say something else by it.
        "required" | "enum" | "propertyOrdering" => value.is_array(),
        name => KEPT.contains(&name),
    }
}

/// Alternatives; one that is `null` says that the others are nullable.
fn set_alternatives(out: &mut Map<String, Value>, alternatives: impl Iterator<Item = Value>) {
    let all: Vec<Value> = alternatives.collect();
    let is_null = |one: &Value| one["type"] == "null";
    let mut others: Vec<Value> = all.iter().filter(|one| !is_null(one)).cloned().collect();
    if others.len() < all.len() {
        out.insert("nullable".to_owned(), true.into());
    }
    match others.as_mut_slice() {
        [] => {}
        [Value::Object(only)] => merge(out, std::mem::take(only)),
        _ => drop(out.insert("anyOf".to_owned(), others.into())),
    }
}

/// One type; of several, `null` says nullable, and the rest are alternatives.
fn set_type(out: &mut Map<String, Value>, kind: Option<&Value>) {
    match kind {
        Some(Value::Array(kinds)) => {
            let kinds = kinds.iter().map(|kind| json!({"type": kind}));
            set_alternatives(out, kinds);
        }
        Some(kind) => drop(out.insert("type".to_owned(), kind.clone())),
        None => {}
    }
}

fn merge(out: &mut Map<String, Value>, part: Map<String, Value>) {
    for (name, value) in part {
        match (out.get_mut(&name), value) {
            (Some(Value::Object(has)), Value::Object(more)) if name == "properties" => has.extend(more),
            (Some(Value::Array(has)), Value::Array(more)) if name == "required" => has.extend(more),
            (_, value) => drop(out.insert(name, value)),
        }
    }
}

/// Only texts may be enumerated; only properties that there are may be required.
fn tidy(out: &mut Map<String, Value>) {
    if let Some(Value::Array(values)) = out.get_mut("enum") {
        values.retain(|value| !value.is_null());
        let texts = values.iter().all(Value::is_string);
        match (texts, out.get("type").and_then(Value::as_str)) {
            (true, _) => drop(out.entry("type").or_insert_with(|| "string".into())),
            // The numbers stay allowed; which of them cannot be said.
            (false, _) => drop(out.shift_remove("enum")),
        }
    }
    let names: Vec<String> = out
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(name, _)| name.clone())
        .collect();
    if let Some(Value::Array(required)) = out.get_mut("required") {
        required.retain(|name| names.iter().any(|other| name == other));
        if required.is_empty() {
            out.shift_remove("required");
        }
    }
    if names.is_empty() {
        out.shift_remove("properties");
    } else {
        out.entry("type").or_insert_with(|| "object".into());
    }
    if out.contains_key("items") {
        out.entry("type").or_insert_with(|| "array".into());
    } else if out.get("type").is_some_and(|kind| kind == "array") {
        out.insert("items".to_owned(), json!({"type": "string"}));
    }
    // A type has to be said, also of what may be anything.
    if !out.contains_key("anyOf") {
        out.entry("type").or_insert_with(|| "string".into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_gemini_refuses_is_rewritten_or_left_out() {
        let cases: Vec<Value> =
            serde_json::from_str(include_str!("../../../tests/gemini_schemas.json")).unwrap();
        for case in cases {
            assert_eq!(cleaned(&case["given"]), case["sent"], "{}", case["given"]);
        }
    }
}
