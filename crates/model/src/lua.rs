//! Values as Kong prints Lua tables in its messages.

use serde_json::{Map, Value};

/// On one line: `{services={{host="required field missing"}}}`.
pub fn compact(value: &Value) -> String {
    write(value, "")
}

/// Over several lines, two spaces a level.
pub(crate) fn indented(value: &Value) -> String {
    write(value, "  ")
}

fn write(value: &Value, space: &str) -> String {
    if let Value::String(text) = value {
        return quote(text);
    }
    let mut lines = Vec::new();
    table(value, String::new(), "", space.to_owned(), space, &mut lines);
    if let Some(last) = lines.last_mut().filter(|last| last.ends_with(',')) {
        last.pop();
    }
    lines.join(if space.is_empty() { "" } else { "\n" })
}

fn table(value: &Value, start: String, old: &str, indent: String, space: &str, lines: &mut Vec<String>) {
    let deeper = format!("{indent}{space}");
    let set = if space.is_empty() { "=" } else { " = " };
    match value {
        Value::Array(list) => {
            lines.push(format!("{start}{{"));
            // A list's part before its first hole has no keys.
            let plain = list.iter().take_while(|value| !value.is_null()).count();
            for (place, value) in list.iter().enumerate().filter(|(_, value)| !value.is_null()) {
                let key = if place < plain { String::new() } else { format!("[{}]{set}", place + 1) };
                table(value, format!("{indent}{key}"), &indent, deeper.clone(), space, lines);
            }
            close(old, lines);
        }
        Value::Object(fields) => {
            lines.push(format!("{start}{{"));
            for (name, value) in sorted(fields) {
                let key = if is_identifier(name) { name.clone() } else { format!("[{}]", quote(name)) };
                table(value, format!("{indent}{key}{set}"), &indent, deeper.clone(), space, lines);
            }
            close(old, lines);
        }
        Value::String(text) => lines.push(format!("{start}{},", quote(text))),
        other => lines.push(format!("{start}{other},")),
    }
}

fn close(indent: &str, lines: &mut Vec<String>) {
    if let Some(last) = lines.last_mut().filter(|last| last.ends_with(',')) {
        last.pop();
    }
    lines.push(format!("{indent}}},"));
}

pub(crate) fn sorted(fields: &Map<String, Value>) -> Vec<(&String, &Value)> {
    let mut list: Vec<_> = fields.iter().collect();
    list.sort_by(|(a, _), (b, _)| a.as_bytes().cmp(b.as_bytes()));
    list
}

fn is_identifier(name: &str) -> bool {
    const KEYWORDS: [&str; 22] = [
        "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "goto", "if", "in",
        "local", "nil", "not", "or", "repeat", "return", "then", "true", "until", "while",
    ];
    !KEYWORDS.contains(&name)
        && name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// A string in quotes; in long brackets where it has lines.
fn quote(text: &str) -> String {
    if text.contains('\n') && !text.contains('\r') {
        let mut level = 0;
        while text.contains(&format!("]{}]", "=".repeat(level))) {
            level += 1;
        }
        let (bar, start) = ("=".repeat(level), if text.starts_with('\n') { "\n" } else { "" });
        return format!("[{bar}[{start}{text}]{bar}]");
    }
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\r' => out.push_str("\\r"),
            '\n' => out.push_str("\\\n"),
            '\0'..='\x1f' | '\x7f' => out.push_str(&format!("\\{}", character as u32)),
            _ => out.push(character),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tables() {
        let cases = [
            (json!({}), "{}"),
            (json!([]), "{}"),
            (json!({"b": 1, "a": "x\"y"}), r#"{a="x\"y",b=1}"#),
            (json!({"@entity": ["m"]}), r#"{["@entity"]={"m"}}"#),
            (json!([null, {"a": true}]), "{[2]={a=true}}"),
            (json!(["x", null, "z"]), r#"{"x",[3]="z"}"#),
            (json!({"end": 1, "a-b": 2}), r#"{["a-b"]=2,["end"]=1}"#),
            (json!({"a": "x\ny"}), "{a=[[x\ny]]}"),
        ];
        for (value, expected) in cases {
            assert_eq!(compact(&value), expected);
        }
        assert_eq!(
            indented(&json!({"a": {"b": "c"}, "d": ["e", "f"]})),
            "{\n  a = {\n    b = \"c\"\n  },\n  d = {\n    \"e\",\n    \"f\"\n  }\n}"
        );
    }
}
