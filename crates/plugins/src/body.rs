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
    let finder = memchr::memmem::Finder::new(delimiter.as_bytes());
    let starts: Vec<usize> =
        finder.find_iter(bytes).filter(|at| *at == 0 || bytes.get(at - 1) == Some(&b'\n')).collect();
    let mut parts = Vec::new();
    for pair in starts.windows(2) {
        let [from, to] = pair else { continue };
        let part = bytes.get(from + delimiter.len()..*to)?.strip_prefix(b"\r\n")?;
        let part = part.strip_suffix(b"\r\n").unwrap_or(part);
        let (head, content) = match memchr::memmem::find(part, b"\r\n\r\n") {
            Some(end) => (&part[..end], &part[end + 4..]),
            None => continue,
        };
        let head = String::from_utf8_lossy(head).into_owned();
        let Some(name) = part_name(&head) else { continue };
        parts.push(Part { name, head, content: content.to_vec() });
    }
    (!starts.is_empty()).then_some(parts)
}

/// The `name` of a part's `Content-Disposition`.
fn part_name(head: &str) -> Option<String> {
    let line = head.lines().find(|line| {
        line.get(..20).is_some_and(|start| start.eq_ignore_ascii_case("content-disposition:"))
    })?;
    line.split(';')
        .map(str::trim)
        .find_map(|item| item.strip_prefix("name="))
        .map(|name| name.trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
