//! `custom_fields_by_lua`: fields of the log entry that snippets of Lua make.

use std::collections::BTreeMap;

use tollgate_gateway::{BuildError, Exchange};
use tollgate_lua::{Secrets, Snippet};
use tollgate_model::{Map, Value};
use tollgate_telemetry::Level;

/// A field of the log entry, and the snippet that returns what it is set to.
pub(super) struct LuaField {
    name: String,
    /// Names from the entry down.
    path: Vec<String>,
    snippet: Snippet,
}

/// The fields of a configuration.
///
/// # Errors
/// A snippet cannot be compiled.
pub(super) fn compile(fields: &BTreeMap<String, String>) -> Result<Vec<LuaField>, BuildError> {
    let field = |(name, text): (&String, &String)| {
        let snippet = Snippet::compile(text).map_err(|error| BuildError {
            field: format!("config.custom_fields_by_lua.{name}"),
            message: error.to_string(),
        })?;
        Ok(LuaField { name: name.clone(), path: split(name), snippet })
    };
    fields.iter().map(field).collect()
}

/// A name at its dots, but for those after a backslash.
fn split(name: &str) -> Vec<String> {
    let mut path = vec![String::new()];
    let mut characters = name.chars().peekable();
    while let Some(character) = characters.next() {
        match (character, path.last_mut()) {
            ('.', _) => path.push(String::new()),
            ('\\', Some(last)) if characters.next_if_eq(&'.').is_some() => last.push('.'),
            (other, Some(last)) => last.push(other),
            (_, None) => {}
        }
    }
    path
}

impl LuaField {
    /// Sets the field in an entry, or takes it out where the snippet returns `nil`. Where something on the way to it is
    /// no object, nothing changes (Kong 3.11); nor where the snippet fails, which the error log tells.
    pub(super) fn apply(&self, entry: &mut Map<String, Value>, exchange: &Exchange) {
        match self.snippet.run(exchange, Secrets::Redacted) {
            Ok(value) => set(entry, &self.path, value),
            Err(error) => {
                let message = format_args!("file-log: custom_fields_by_lua.{}: {error}", self.name);
                exchange.write_error_log(Level::Error, &message);
            }
        }
    }
}

fn set(entry: &mut Map<String, Value>, path: &[String], value: Value) {
    let Some((last, way)) = path.split_last() else { return };
    let mut at = entry;
    for name in way {
        let next = match value {
            Value::Null => at.get_mut(name),
            _ => Some(at.entry(name.clone()).or_insert_with(|| Value::Object(Map::new()))),
        };
        match next {
            Some(Value::Object(fields)) => at = fields,
            _ => return,
        }
    }
    match value {
        Value::Null => at.remove(last),
        value => at.insert(last.clone(), value),
    };
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn dots_lead_down() {
        assert_eq!(split("a.b\\.c.d"), ["a", "b.c", "d"]);
        assert_eq!(split("a\\b"), ["a\\b"]);
    }

    #[test]
    fn fields_are_set_and_taken_out() {
        for (name, value, expected) in [
            ("a", json!(null), json!({"b": {"c": 1}})),
            ("b.c", json!(null), json!({"a": 1, "b": {}})),
            ("x.y", json!(null), json!({"a": 1, "b": {"c": 1}})),
            ("x.y", json!([1]), json!({"a": 1, "b": {"c": 1}, "x": {"y": [1]}})),
            ("b\\.c", json!("d"), json!({"a": 1, "b": {"c": 1}, "b.c": "d"})),
            ("a.b", json!(2), json!({"a": 1, "b": {"c": 1}})),
        ] {
            let Value::Object(mut entry) = json!({"a": 1, "b": {"c": 1}}) else { panic!("it is an object") };
            set(&mut entry, &split(name), value);
            assert_eq!(Value::Object(entry), expected, "{name}");
        }
    }

    #[test]
    fn what_is_no_lua_is_refused_with_its_field() {
        let fields = BTreeMap::from([("a.b".to_owned(), "return (".to_owned())]);
        let Err(error) = compile(&fields) else { panic!("it was compiled") };
        assert_eq!(error.field, "config.custom_fields_by_lua.a.b");
        assert!(error.message.contains("unexpected symbol near '<eof>'"), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn any_name_is_split(name in ".{0,20}") {
            proptest::prop_assert!(!split(&name).is_empty());
        }
    }
}
