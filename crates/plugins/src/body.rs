//! Request bodies with named fields: forms, JSON objects, multipart. Read, changed, written again in kind.

use bytes::Bytes;
use serde_json::{Map, Value};
use tollgate_gateway::query;

/// Kinds of body that have fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// `application/x-www-form-urlencoded`
    UrlEncoded,
    /// `application/json`
    Json,
    /// `multipart/form-data`, with its boundary
    Multipart(String),
}

impl Form {
    /// The kind that a `Content-Type` names.
    pub fn of(content_type: &str) -> Option<Self> {
        let starts =
            |name: &str| content_type.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
        if starts("application/x-www-form-urlencoded") {
            Some(Self::UrlEncoded)
        } else if starts("application/json") {
            Some(Self::Json)
        } else if starts("multipart/form-data") {
            let (_, boundary) = content_type.split_once("boundary=")?;
            let boundary = boundary.split(';').next().unwrap_or_default().trim().trim_matches('"');
            (!boundary.is_empty()).then(|| Self::Multipart(boundary.to_owned()))
        } else {
            None
        }
    }
}

/// One part of a multipart body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Value of its `name`.
    pub name: String,
    /// Its header lines, as they came.
    pub head: String,
    /// Its content.
    pub content: Vec<u8>,
}

impl Part {
    /// The value of one of its header fields, whose name is given in small letters.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (other, value) = line.split_once(':')?;
            other.trim().eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

/// What stands in a field.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FieldValue<'a> {
    /// Text of a form or a part; bytes, for it may be in any encoding.
    Text(&'a [u8]),
    /// The field of a form that has no `=`.
    Flag,
    /// A member of a JSON object.
    Json(&'a Value),
}

/// A body's fields.
#[derive(Debug, Clone, PartialEq)]
pub enum Parsed {
    /// A form: names and values in order.
    UrlEncoded(Vec<(Vec<u8>, Option<Vec<u8>>)>),
    /// A JSON object (anything else has no fields).
    Json(Map<String, Value>),
    /// Parts, and the boundary between them.
    Multipart(String, Vec<Part>),
}

impl Parsed {
    /// Reads a body; `None` where it is not of its kind.
    pub fn read(form: Form, bytes: &[u8]) -> Option<Self> {
        match form {
            Form::UrlEncoded => Some(Self::UrlEncoded(
                query::pairs(bytes)
                    .map(|(name, value)| (name.into_owned(), value.map(|value| value.into_owned())))
                    .collect(),
            )),
            Form::Json => match serde_json::from_slice(bytes).ok()? {
                Value::Object(fields) => Some(Self::Json(fields)),
                _ => None,
            },
            Form::Multipart(boundary) => {
                let parts = read_parts(bytes, &boundary)?;
                Some(Self::Multipart(boundary, parts))
            }
        }
    }

    /// The fields as a JSON object: names that repeat become lists, bytes that are not UTF-8 become U+FFFD.
    pub fn to_json(&self) -> Value {
        let text = |bytes: &[u8]| Value::from(String::from_utf8_lossy(bytes));
        let mut fields = Map::new();
        let mut add = |name: &[u8], value: Value| {
            let name = String::from_utf8_lossy(name).into_owned();
            match fields.get_mut(&name) {
                Some(Value::Array(values)) => values.push(value),
                Some(first) => *first = Value::from(vec![first.take(), value]),
                None => {
                    fields.insert(name, value);
                }
            }
        };
        match self {
            Self::UrlEncoded(pairs) => {
                for (name, value) in pairs {
                    add(name, value.as_deref().map_or(Value::Bool(true), text));
                }
            }
            Self::Json(fields) => return Value::Object(fields.clone()),
            Self::Multipart(_, parts) => {
                for part in parts {
                    add(part.name.as_bytes(), text(&part.content));
                }
            }
        }
        Value::Object(fields)
    }

    /// Every value of a field.
    pub fn values<'a>(&'a self, name: &'a str) -> Vec<FieldValue<'a>> {
        match self {
            Self::UrlEncoded(pairs) => pairs
                .iter()
                .filter(|(other, _)| other == name.as_bytes())
                .map(|(_, value)| value.as_deref().map_or(FieldValue::Flag, FieldValue::Text))
                .collect(),
            Self::Json(fields) => fields.get(name).map(FieldValue::Json).into_iter().collect(),
            Self::Multipart(_, parts) => parts
                .iter()
                .filter(|part| part.name == name)
                .map(|part| FieldValue::Text(&part.content))
                .collect(),
        }
    }

    /// Removes a field; tells whether it was there.
    pub fn remove(&mut self, name: &str) -> bool {
        match self {
            Self::UrlEncoded(pairs) => {
                let before = pairs.len();
                pairs.retain(|(other, _)| other != name.as_bytes());
                pairs.len() != before
            }
            Self::Json(fields) => fields.shift_remove(name).is_some(),
            Self::Multipart(_, parts) => {
                let before = parts.len();
                parts.retain(|part| part.name != name);
                parts.len() != before
            }
        }
    }

    /// The body again, and the `Content-Type` where it is to be set anew. Forms are sorted by name, as Kong
    /// does.
    pub fn write(mut self) -> (Bytes, Option<String>) {
        match &mut self {
            Self::UrlEncoded(pairs) => {
                pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
                (query::write(std::mem::take(pairs)).into(), None)
            }
            Self::Json(fields) => (Value::Object(std::mem::take(fields)).to_string().into(), None),
            Self::Multipart(boundary, parts) => {
                parts.sort_by(|a, b| a.name.cmp(&b.name));
                let mut out = Vec::new();
                for part in parts.iter() {
                    out.extend_from_slice(format!("--{boundary}\r\n{}\r\n\r\n", part.head).as_bytes());
                    out.extend_from_slice(&part.content);
                    out.extend_from_slice(b"\r\n");
                }
                out.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
                (out.into(), Some(format!("multipart/form-data; boundary={boundary}")))
            }
        }
    }
}

fn read_parts(bytes: &[u8], boundary: &str) -> Option<Vec<Part>> {
    let delimiter = format!("--{boundary}");
    let starts: Vec<usize> = memchr::memmem::find_iter(bytes, delimiter.as_bytes())
        .filter(|at| is_delimiter(bytes, *at, delimiter.len()))
        .collect();
    let mut parts = Vec::new();
    for pair in starts.windows(2) {
        let [from, to] = pair else { continue };
        let part = bytes.get(from + delimiter.len()..*to)?;
        let part = part.get(memchr::memchr(b'\n', part)? + 1..)?;
        let part = part.strip_suffix(b"\r\n").unwrap_or(part);
        let Some(end) = memchr::memmem::find(part, b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(part.get(..end)?).into_owned();
        let Some(name) = part_name(&head) else { continue };
        parts.push(Part { name, head, content: part.get(end + 4..)?.to_vec() });
    }
    (!starts.is_empty()).then_some(parts)
}

/// Whether a delimiter stands alone on its line, white space apart, or is the last one (RFC 2046 §5.1.1).
fn is_delimiter(bytes: &[u8], at: usize, length: usize) -> bool {
    let begins_line = at == 0 || bytes.get(at - 1) == Some(&b'\n');
    let rest = bytes.get(at + length..).unwrap_or_default();
    let line = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
    begins_line && (line.starts_with(b"--") || line.trim_ascii().is_empty() && line.len() < rest.len())
}

/// The `name` of a part's `Content-Disposition`.
fn part_name(head: &str) -> Option<String> {
    let line = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case("content-disposition").then_some(value)
    })?;
    let mut quoted = false;
    let parameters = line.split(|character| {
        quoted ^= character == '"';
        character == ';' && !quoted
    });
    parameters.filter_map(|parameter| parameter.trim().split_once('=')).find_map(|(name, value)| {
        name.trim().eq_ignore_ascii_case("name").then(|| value.trim().trim_matches('"').to_owned())
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, reason = "tests fail by panicking")]

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_field_is_taken_out_of_each_kind() {
        let multipart = "--x\r\nContent-Disposition: form-data; name=\"b\"\r\n\r\n2\r\n--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--x--\r\n";
        for (content_type, body, without) in [
            ("application/x-www-form-urlencoded; charset=utf-8", "b=2&c&a=%ff", "a=%FF&c"),
            ("Application/JSON", r#"{"b":2,"a":[1.0]}"#, r#"{"a":[1.0]}"#),
            (
                "multipart/form-data; boundary=\"x\"",
                multipart,
                "--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--x--\r\n",
            ),
        ] {
            let mut parsed = Parsed::read(Form::of(content_type).unwrap(), body.as_bytes()).unwrap();
            assert_eq!(parsed.values("b").len(), 1, "{content_type}");
            assert!(parsed.remove("b"));
            assert_eq!(parsed.write().0, without.as_bytes(), "{content_type}");
        }
        assert_eq!(Form::of("text/plain"), None);
        assert_eq!(Parsed::read(Form::Json, b"[1]"), None);
    }

    #[test]
    fn names_of_parts() {
        for (head, name) in [
            ("Content-Disposition: form-data; name=\"a\"", Some("a")),
            ("content-disposition:form-data;filename=\"x; name=y\" ; NAME=b", Some("b")),
            ("Content-Type: text/plain\r\nContent-Disposition: form-data; name=\"a;b\"", Some("a;b")),
            ("Content-Disposition: form-data; filename=\"name=x\"", None),
            ("X: name=a", None),
        ] {
            assert_eq!(part_name(head).as_deref(), name, "{head}");
        }
    }

    #[test]
    fn what_only_looks_like_a_delimiter_is_content() {
        let body = b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\n--xy\r\n --x\r\n--x \r\nContent-Disposition: form-data; name=b\r\n\r\n\r\n--x--";
        let Some(Parsed::Multipart(_, parts)) = Parsed::read(Form::Multipart("x".into()), body) else {
            panic!("no parts");
        };
        let fields: Vec<_> = parts.iter().map(|part| (part.name.as_str(), part.content.as_slice())).collect();
        assert_eq!(fields, [("a", &b"--xy\r\n --x"[..]), ("b", b"")]);
    }

    proptest! {
        /// What was written is read again, whatever the content is.
        #[test]
        fn parts_go_there_and_back(fields in prop::collection::vec(("[a-z ;=]{1,5}", prop::collection::vec(any::<u8>(), 0..20)), 0..5)) {
            let mut parts: Vec<Part> = fields
                .into_iter()
                .map(|(name, content)| Part { head: format!("Content-Disposition: form-data; name=\"{name}\""), name, content })
                .collect();
            parts.sort_by(|a, b| a.name.cmp(&b.name));
            let form = Parsed::Multipart("-b0undary".into(), parts);
            let (written, _) = form.clone().write();
            prop_assert_eq!(Parsed::read(Form::Multipart("-b0undary".into()), &written), Some(form));
        }

        /// Forms keep their bytes, encoded anew.
        #[test]
        fn forms_go_there_and_back(fields in prop::collection::vec((prop::collection::vec(any::<u8>(), 1..5), prop::option::of(prop::collection::vec(any::<u8>(), 0..5))), 0..5)) {
            let mut fields = fields;
            fields.sort_by(|(a, _), (b, _)| a.cmp(b));
            let form = Parsed::UrlEncoded(fields);
            let (written, _) = form.clone().write();
            prop_assert_eq!(Parsed::read(Form::UrlEncoded, &written), Some(form));
        }

        #[test]
        fn nothing_that_is_sent_is_too_odd(bytes in prop::collection::vec(prop::sample::select(b"-x\r\n:;=\" aname".to_vec()), 0..60)) {
            let _ = Parsed::read(Form::Multipart("x".into()), &bytes);
            let _ = Parsed::read(Form::UrlEncoded, &bytes);
        }
    }
}
