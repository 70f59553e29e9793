//! Bodies of calls: JSON, forms and multipart, the latter two brought into the types the schema asks for.

use tollgate_gateway::query;
use tollgate_http::StatusCode;
use tollgate_model::schema::Shape;
use tollgate_model::{FieldType, Map, Record, Value};

use crate::Call;
use crate::answer::Failure;

const MOST_ARGUMENTS: usize = 1000;

/// The body as an object.
///
/// # Errors
/// A type that is not served, JSON that is none.
pub(crate) fn read(call: &Call, record: Option<&Record>) -> Result<Map<String, Value>, Failure> {
    let kind = call.content_type.as_deref().unwrap_or_default().to_ascii_lowercase();
    if kind.is_empty() && call.body.is_empty() {
        return Ok(Map::new());
    }
    if kind.starts_with("application/json") {
        return match serde_json::from_slice(&call.body) {
            Ok(Value::Object(fields)) => Ok(fields),
            _ => Err(Failure::message(StatusCode::BAD_REQUEST, "Cannot parse JSON body")),
        };
    }
    let pairs = if kind.starts_with("application/x-www-form-urlencoded") {
        pairs_of_form(&call.body)
    } else if kind.starts_with("multipart/form-data") {
        pairs_of_parts(call.content_type.as_deref().unwrap_or_default(), &call.body)
    } else {
        return Err(Failure { status: StatusCode::UNSUPPORTED_MEDIA_TYPE, body: None });
    };
    if pairs.len() > MOST_ARGUMENTS {
        return Err(Failure::message(StatusCode::BAD_REQUEST, "Too many arguments"));
    }
    let mut fields = Value::Object(Map::new());
    for (name, value) in pairs {
        insert(&mut fields, &steps(&name), Value::String(value));
    }
    let Value::Object(mut fields) = fields else { return Ok(Map::new()) };
    if let Some(record) = record {
        infer_record(&mut fields, record);
    }
    Ok(fields)
}

fn pairs_of_form(body: &[u8]) -> Vec<(String, String)> {
    body.split(|byte| *byte == b'&')
        .filter(|pair| !pair.is_empty())
        .take(MOST_ARGUMENTS + 1)
        .map(|pair| {
            let (name, value) =
                memchr::memchr(b'=', pair).map_or((pair, &b"true"[..]), |at| (&pair[..at], &pair[at + 1..]));
            (query::decode(name).into_owned(), query::decode(value).into_owned())
        })
        .collect()
}

fn pairs_of_parts(content_type: &str, body: &[u8]) -> Vec<(String, String)> {
    use tollgate_plugins::body::{Form, Parsed};
    match Form::of(content_type).and_then(|form| Parsed::read(form, body)) {
        Some(Parsed::Multipart(_, parts)) => parts
            .into_iter()
            .map(|part| (part.name, String::from_utf8_lossy(&part.content).into_owned()))
            .collect(),
        _ => Vec::new(),
    }
}

/// A step of a form's name: `a.b[1][]` is a, b, place 1, next.
#[derive(Debug, PartialEq)]
enum Step {
    Name(String),
    Place(usize),
    Next,
}

fn steps(name: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('[')
            && let Some(end) = inner.find(']')
        {
            steps.push(match &inner[..end] {
                "" => Step::Next,
                text => text.parse().map_or_else(|_| Step::Name(text.to_owned()), Step::Place),
            });
            rest = inner[end + 1..].trim_start_matches('.');
            continue;
        }
        let end = rest.find(['.', '[']).filter(|end| *end > 0).unwrap_or(rest.len());
        steps.push(Step::Name(rest[..end].to_owned()));
        rest = rest[end..].trim_start_matches('.');
    }
    steps
}

fn insert(into: &mut Value, steps: &[Step], value: Value) {
    let Some((step, rest)) = steps.split_first() else {
        match into {
            Value::Null => *into = value,
            Value::Array(list) => list.push(value),
            there => *there = Value::Array(vec![there.take(), value]),
        }
        return;
    };
    match step {
        Step::Name(name) => {
            if !into.is_object() {
                *into = Value::Object(Map::new());
            }
            if let Value::Object(fields) = into {
                insert(fields.entry(name.clone()).or_insert(Value::Null), rest, value);
            }
        }
        Step::Place(_) | Step::Next => {
            if !into.is_array() {
                *into = Value::Array(Vec::new());
            }
            if let Value::Array(list) = into {
                let place = match step {
                    Step::Place(place) if (1..=MOST_ARGUMENTS).contains(place) => place - 1,
                    _ => list.len(),
                };
                if list.len() <= place {
                    list.resize(place + 1, Value::Null);
                }
                if let Some(slot) = list.get_mut(place) {
                    insert(slot, rest, value);
                }
            }
        }
    }
}

fn infer_record(fields: &mut Map<String, Value>, record: &Record) {
    for (name, value) in fields.iter_mut() {
        let field = record.fields.iter().chain(&record.shorthands).find(|field| field.name == name);
        if let Some(field) = field {
            infer(value, &field.shape);
        } else if value.as_str() == Some("") {
            *value = Value::Null;
        }
    }
}

/// Brings text into the type a schema asks for; what cannot be is left for the check to name.
pub(crate) fn infer(value: &mut Value, shape: &Shape) {
    if value.as_str() == Some("") {
        *value = Value::Null;
        return;
    }
    match (&shape.kind, &mut *value) {
        (FieldType::Integer | FieldType::Number, Value::String(text)) => {
            if let Ok(number) = text.parse::<i64>() {
                *value = number.into();
            } else if let Ok(number) = text.parse::<f64>() {
                *value = number.into();
            }
        }
        (FieldType::Boolean, Value::String(text)) => match text.as_str() {
            "true" => *value = true.into(),
            "false" => *value = false.into(),
            _ => {}
        },
        (FieldType::Array(element) | FieldType::Set(element), list) => {
            if !list.is_array() {
                *list = Value::Array(vec![list.take()]);
            }
            if let Value::Array(values) = list {
                values.iter_mut().for_each(|value| infer(value, element));
            }
        }
        (FieldType::Map { values, .. }, Value::Object(fields)) => {
            fields.values_mut().for_each(|value| infer(value, values))
        }
        (FieldType::Record(record), Value::Object(fields)) => infer_record(fields, record),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_model::json;

    #[test]
    fn names_are_paths() {
        let read = |pairs: &[(&str, &str)]| {
            let mut value = Value::Object(Map::new());
            for (name, text) in pairs {
                insert(&mut value, &steps(name), Value::from(*text));
            }
            value
        };
        assert_eq!(read(&[("a.b.c", "1"), ("a.d", "2")]), json!({"a": {"b": {"c": "1"}, "d": "2"}}));
        assert_eq!(read(&[("a[]", "1"), ("a[]", "2")]), json!({"a": ["1", "2"]}));
        assert_eq!(read(&[("a", "1"), ("a", "2")]), json!({"a": ["1", "2"]}));
        assert_eq!(read(&[("a[2]", "2"), ("a[1]", "1")]), json!({"a": ["1", "2"]}));
        assert_eq!(
            read(&[("h[foo.bar]", "x"), ("l[1].k", "v")]),
            json!({"h": {"foo.bar": "x"}, "l": [{"k": "v"}]})
        );
    }
}
