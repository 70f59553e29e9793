//! `custom_fields_by_lua`, as far as it can be had without Lua: constants, `nil`, and fields of the request.

use std::collections::BTreeMap;

use tollgate_gateway::Exchange;
use tollgate_gateway::secrets::REDACTED;
use tollgate_model::{Map, Value};

/// A field of the log entry, and what it is set to.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct LuaField {
    /// Names from the entry down.
    path: Vec<String>,
    value: Expression,
}

/// What a snippet returns.
#[derive(Debug, Clone, PartialEq)]
enum Expression {
    /// `nil`: the field goes.
    Nil,
    /// A boolean, number or string.
    Constant(Value),
    /// `kong.request.get_header("…")`
    Header(String),
}

/// Whether a snippet can be run, for the schema.
///
/// # Errors
/// Says what can be.
pub(super) fn check(snippet: &Value) -> Result<(), String> {
    parse(snippet.as_str().unwrap_or_default()).map(|_| ()).ok_or_else(|| {
        "this Lua cannot be run: there is no Lua here; what can be had is 'return' with nil, true, false, a \
         number, a string, or kong.request.get_header(\"name\")"
            .to_owned()
    })
}

/// The fields of a checked configuration.
pub(super) fn compile(fields: &BTreeMap<String, String>) -> Vec<LuaField> {
    fields
        .iter()
        .filter_map(|(name, snippet)| Some(LuaField { path: split(name), value: parse(snippet)? }))
        .collect()
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

fn parse(snippet: &str) -> Option<Expression> {
    let rest = snippet.trim().strip_prefix("return")?;
    let expression = rest.trim().trim_end_matches(';').trim_end();
    // `return"x"` is Lua, `returnnil` is not.
    if !rest.starts_with(|next: char| next.is_whitespace() || next == '"' || next == '\'') {
        return None;
    }
    if let Some(arguments) = expression.strip_prefix("kong.request.get_header") {
        let arguments = arguments.trim();
        let inside = arguments.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).unwrap_or(arguments);
        return string(inside.trim()).map(Expression::Header);
    }
    match expression {
        "nil" => Some(Expression::Nil),
        "true" => Some(Expression::Constant(true.into())),
        "false" => Some(Expression::Constant(false.into())),
        _ => match string(expression) {
            Some(text) => Some(Expression::Constant(text.into())),
            None if expression.starts_with(|first: char| first.is_ascii_digit() || first == '-') => {
                serde_json::from_str(expression).ok().map(Expression::Constant)
            }
            None => None,
        },
    }
}

/// A Lua string in quotes, with the escapes that stand for one character.
fn string(literal: &str) -> Option<String> {
    let quote = literal.chars().next().filter(|first| matches!(first, '"' | '\''))?;
    let inside = literal.get(1..)?.strip_suffix(quote)?;
    let mut text = String::new();
    let mut characters = inside.chars();
    while let Some(character) = characters.next() {
        text.push(match character {
            '\\' => match characters.next()? {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                same @ ('\\' | '"' | '\'') => same,
                _ => return None,
            },
            '\n' => return None,
            end if end == quote => return None,
            other => other,
        });
    }
    Some(text)
}

impl LuaField {
    /// Sets the field in an entry. Where something on the way to it is no object, nothing changes (Kong 3.11).
    pub(super) fn apply(&self, entry: &mut Map<String, Value>, exchange: &Exchange) {
        let Some((last, way)) = self.path.split_last() else { return };
        let mut at = entry;
        for name in way {
            let next = match self.value {
                Expression::Nil => at.get_mut(name),
                _ => Some(at.entry(name.clone()).or_insert_with(|| Value::Object(Map::new()))),
            };
            match next {
                Some(Value::Object(fields)) => at = fields,
                _ => return,
            }
        }
        let value = match &self.value {
            Expression::Nil => None,
            Expression::Constant(value) => Some(value.clone()),
            Expression::Header(name) => header(exchange, name),
        };
        match value {
            Some(value) => at.insert(last.clone(), value),
            None => at.remove(last),
        };
    }
}

fn header(exchange: &Exchange, name: &str) -> Option<Value> {
    let headers = exchange.facts.request_headers.as_ref().unwrap_or(&exchange.head.headers);
    let value = headers.get(name)?;
    Some(if exchange.snapshot.secret_names.contains(name) {
        REDACTED.into()
    } else {
        String::from_utf8_lossy(value).into_owned().into()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_can_be_run_is_and_the_rest_refused() {
        let constant = |value: Value| Some(Expression::Constant(value));
        for (snippet, expected) in [
            ("return nil", Some(Expression::Nil)),
            (" return  'a\\'b' ; ", constant(json!("a'b"))),
            ("return\"x\"", constant(json!("x"))),
            ("return -1.5", constant(json!(-1.5))),
            ("return true", constant(json!(true))),
            ("return kong.request.get_header('X-A')", Some(Expression::Header("X-A".into()))),
            ("return kong.request.get_header( \"a\" )", Some(Expression::Header("a".into()))),
            ("returnnil", None),
            ("return", None),
            ("return \"a\" .. \"b\"", None),
            ("return {}", None),
            ("return os.execute('x')", None),
            ("local x = 1 return x", None),
            ("return \"a", None),
        ] {
            assert_eq!(parse(snippet), expected, "{snippet}");
        }
        assert!(check(&json!("return os")).unwrap_err().contains("no Lua"));
    }

    #[test]
    fn dots_lead_down() {
        assert_eq!(split("a.b\\.c.d"), ["a", "b.c", "d"]);
        assert_eq!(split("a\\b"), ["a\\b"]);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(snippet in ".{0,60}", name in ".{0,20}") {
            let _ = parse(&snippet);
            let _ = parse(&format!("return {snippet}"));
            proptest::prop_assert!(!split(&name).is_empty());
        }
    }
}
