//! YAML as decK writes it: keys sorted, lists at the level of their key, text in quotes only where it must be.

use serde_json::Value;

use crate::node::plain;

/// A value as a YAML document.
pub fn to_yaml(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(fields) if !fields.is_empty() => map(&mut out, value, 0),
        Value::Array(list) if !list.is_empty() => sequence(&mut out, list, 0),
        other => {
            out.push_str(&scalar(other, 0));
            out.push('\n');
        }
    }
    out
}

fn indent(out: &mut String, depth: usize) {
    out.extend(std::iter::repeat_n("  ", depth));
}

fn map(out: &mut String, value: &Value, depth: usize) {
    let mut fields: Vec<_> = value.as_object().into_iter().flatten().collect();
    fields.sort_by_key(|(name, _)| name.as_str());
    for (place, (name, value)) in fields.into_iter().enumerate() {
        // The first key of a list's element stands behind the dash.
        if place > 0 || !out.ends_with("- ") {
            indent(out, depth);
        }
        out.push_str(&text(name, None));
        out.push(':');
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                out.push('\n');
                map(out, value, depth + 1);
            }
            Value::Array(list) if !list.is_empty() => {
                out.push('\n');
                sequence(out, list, depth);
            }
            other => {
                out.push(' ');
                out.push_str(&scalar(other, depth));
                out.push('\n');
            }
        }
    }
}

fn sequence(out: &mut String, list: &[Value], depth: usize) {
    for value in list {
        if !out.ends_with("- ") {
            indent(out, depth);
        }
        out.push_str("- ");
        match value {
            Value::Object(fields) if !fields.is_empty() => map(out, value, depth + 1),
            Value::Array(inner) if !inner.is_empty() => sequence(out, inner, depth + 1),
            other => {
                out.push_str(&scalar(other, depth));
                out.push('\n');
            }
        }
    }
}

fn scalar(value: &Value, depth: usize) -> String {
    match value {
        Value::String(content) => text(content, Some(depth)),
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 9e15 => {
                (float as i64).to_string()
            }
            _ => number.to_string(),
        },
        Value::Array(_) => "[]".into(),
        Value::Object(_) => "{}".into(),
        other => other.to_string(),
    }
}

/// Text in the plainest form that reads back as the same text. Over several lines only where a depth is given.
fn text(content: &str, depth: Option<usize>) -> String {
    let printable =
        |c: char| !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{85}');
    if let Some(depth) = depth
        && content.contains('\n')
        && !content.starts_with([' ', '\n', '\t'])
        && content.chars().all(|c| c == '\n' || printable(c))
        && content.lines().all(|line| !line.ends_with(' '))
    {
        return block(content, depth);
    }
    if !content.chars().all(printable) || is_taken(content) {
        return quoted(content);
    }
    if needs_quotes(content) {
        return format!("'{}'", content.replace('\'', "''"));
    }
    content.to_owned()
}

fn block(content: &str, depth: usize) -> String {
    let end = match content.len() - content.trim_end_matches('\n').len() {
        0 => "-",
        1 => "",
        _ => "+",
    };
    let mut out = format!("|{end}");
    for line in content.strip_suffix('\n').unwrap_or(content).split('\n') {
        out.push('\n');
        if !line.is_empty() {
            indent(&mut out, depth + 1);
            out.push_str(line);
        }
    }
    out
}

fn quoted(content: &str) -> String {
    let mut out = String::from("\"");
    for character in content.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                out.push_str(&format!("\\u{:04X}", c as u32));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Whether YAML (1.1 or 1.2) would read the text as something that is no text.
fn is_taken(content: &str) -> bool {
    let number_like =
        content.trim_start_matches(['+', '-']).starts_with(|c: char| c.is_ascii_digit() || c == '.')
            && content.chars().all(|c| c.is_ascii_hexdigit() || "xXoO_.:+-eETZtz ".contains(c));
    let word = matches!(
        content,
        "y" | "Y" | "n" | "N" | "=" | "<<" | ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN"
    );
    number_like && content.contains(|c: char| c.is_ascii_digit())
        || word
        || !matches!(plain(content), Value::String(_))
}

fn needs_quotes(content: &str) -> bool {
    let first = content.chars().next();
    let second_is_space = content.chars().nth(1).is_none_or(char::is_whitespace);
    first.is_some_and(|c| ",[]{}#&*!|>'\"%@`".contains(c))
        || first.is_some_and(|c| "-?:".contains(c)) && second_is_space
        || content.starts_with("---")
        || content.starts_with("...")
        || content.starts_with(char::is_whitespace)
        || content.ends_with(char::is_whitespace)
        || content.ends_with(':')
        || content.contains(": ")
        || content.contains(" #")
        || content.contains("\t#")
        || content.contains(":\t")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::Node;

    #[test]
    fn as_deck_writes_it() {
        let value = json!({
            "services": [{"routes": [{"paths": ["/a", "~/b$"], "name": "r"}], "name": "s", "port": 80}],
            "key": "123456", "flag": "yes", "empty": {}, "none": null, "list": [[1, 2], []], "text": "a\nb\n",
            "star": "*", "temperature": 1.0, "date": "2024-01-01"
        });
        assert_eq!(
            to_yaml(&value),
            "date: \"2024-01-01\"\nempty: {}\nflag: \"yes\"\nkey: \"123456\"\nlist:\n- - 1\n  - 2\n- []\nnone: null\n\
             services:\n- name: s\n  port: 80\n  routes:\n  - name: r\n    paths:\n    - /a\n    - ~/b$\nstar: '*'\n\
             temperature: 1\ntext: |\n  a\n  b\n"
        );
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "\\PC{0,12}".prop_map(Value::from),
            "[-a-z0-9:#'\"\\\\ \n\t{}\\[\\],&*!|>%@~=<.+_]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[-a-z:# ]{1,6}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(value in any_value()) {
            let written = to_yaml(&json!({"value": value.clone()}));
            let read = Node::parse("f", &written).map(Node::into_value);
            prop_assert_eq!(read, Ok(json!({"value": value})), "{}", written);
        }
    }
}
