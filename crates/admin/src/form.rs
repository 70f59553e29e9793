//! Bodies of calls: JSON, forms and multipart, the latter two brought into the types the schema asks for.

use std::collections::BTreeMap;

use tollgate_gateway::query;
use tollgate_http::{RequestHead, StatusCode};
use tollgate_model::schema::Shape;
use tollgate_model::{FieldType, Map, Record, Value};

use crate::answer::Failure;
use crate::{Call, MOST_ARGUMENTS};

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";
const MULTIPART: &str = "multipart/form-data";

/// Whether a call's body has a type that is read (Kong 3.11: by prefix, in lower case).
///
/// # Errors
/// 415 for another type, or a body without one; 400 for two.
pub(crate) fn check_content_type(call: &Call, head: &RequestHead) -> Result<(), Failure> {
    if !matches!(call.method.as_str(), "POST" | "PUT" | "PATCH") {
        return Ok(());
    }
    if head.headers.get_all("content-type").nth(1).is_some() {
        let message = "Multiple Content-Type headers not allowed";
        return Err(Failure { status: StatusCode::BAD_REQUEST, body: Some(message.into()) });
    }
    let is_config = call.path.len() == 1 && call.path.first().is_some_and(|first| first == "config");
    let known = match call.content_type.as_deref() {
        None => call.body.is_empty(),
        Some(given) => {
            let yaml = ["application/yaml", "text/yaml"];
            [JSON, FORM, MULTIPART].iter().any(|known| given.starts_with(known))
                || is_config && yaml.iter().any(|known| given.starts_with(known))
        }
    };
    if known { Ok(()) } else { Err(Failure { status: StatusCode::UNSUPPORTED_MEDIA_TYPE, body: None }) }
}

/// Whether a body that says it is JSON is (Kong 3.11: before anything is looked up).
///
/// # Errors
/// JSON that is none.
pub(crate) fn check_json(call: &Call) -> Result<(), Failure> {
    let is_json = call.content_type.as_deref().is_some_and(|kind| kind.starts_with(JSON));
    let writes = matches!(call.method.as_str(), "POST" | "PUT" | "PATCH");
    if writes && is_json && serde_json::from_slice::<serde::de::IgnoredAny>(&call.body).is_err() {
        return Err(no_json());
    }
    Ok(())
}

fn no_json() -> Failure {
    Failure::message(StatusCode::BAD_REQUEST, "Cannot parse JSON body")
}

/// Whether the body is a form, whose values are text.
pub(crate) fn is_form(call: &Call) -> bool {
    call.content_type.as_deref().is_some_and(|kind| kind.starts_with(FORM) || kind.starts_with(MULTIPART))
}

/// The body as an object.
///
/// # Errors
/// JSON that is none, too many fields.
pub(crate) fn read(call: &Call, record: Option<&Record>) -> Result<Map<String, Value>, Failure> {
    let kind = call.content_type.as_deref().unwrap_or_default();
    if kind.starts_with(JSON) {
        return match serde_json::from_slice(&call.body) {
            Ok(Value::Object(fields)) => Ok(fields),
            // Kong 3.11: whatever else is JSON has no fields.
            Ok(_) => Ok(Map::new()),
            Err(_) => Err(no_json()),
        };
    }
    let pairs = match kind {
        kind if kind.starts_with(FORM) => pairs_of_form(&call.body),
        kind if kind.starts_with(MULTIPART) => pairs_of_parts(kind, &call.body),
        _ => Vec::new(),
    };
    if pairs.len() > MOST_ARGUMENTS {
        return Err(Failure::message(StatusCode::BAD_REQUEST, "Too many arguments"));
    }
    let mut fields = Node::default();
    for (name, value) in pairs.into_iter().filter(|(name, _)| !name.is_empty()) {
        fields.insert(&steps(&name), value);
    }
    let Value::Object(mut fields) = fields.into_value() else { return Ok(Map::new()) };
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
enum Step<'a> {
    Name(&'a str),
    Place(usize),
    Next,
}

/// Most steps of a name; no schema is as deep, and what is deeper would only cost.
const MOST_STEPS: usize = 32;

fn steps(name: &str) -> Vec<Step<'_>> {
    let mut steps = Vec::new();
    let mut rest = name;
    while !rest.is_empty() && steps.len() < MOST_STEPS {
        if let Some(inner) = rest.strip_prefix('[')
            && let Some((inside, after)) = inner.split_once(']')
        {
            steps.push(match inside {
                "" => Step::Next,
                text => text.parse().map_or(Step::Name(text), Step::Place),
            });
            rest = after.trim_start_matches('.');
            continue;
        }
        let end = rest.find(['.', '[']).filter(|end| *end > 0).unwrap_or(rest.len());
        let (step, after) = rest.split_at(end);
        steps.push(Step::Name(step));
        rest = after.trim_start_matches('.');
    }
    steps
}

/// Values of a form by the steps of their names.
#[derive(Debug, Default)]
enum Node {
    #[default]
    Nothing,
    /// The values of a name that came once or several times.
    Texts(Vec<String>),
    Named(Vec<(String, Node)>),
    /// By place; gaps close.
    Places(BTreeMap<usize, Node>),
}

impl Node {
    fn insert(&mut self, steps: &[Step<'_>], text: String) {
        let Some((step, rest)) = steps.split_first() else {
            match self {
                Self::Texts(texts) => texts.push(text),
                // `a[]=1&a=2` is one list.
                Self::Places(_) => self.insert(&[Step::Next], text),
                _ => *self = Self::Texts(vec![text]),
            }
            return;
        };
        match step {
            Step::Name(name) => {
                if !matches!(self, Self::Named(_)) {
                    *self = Self::Named(Vec::new());
                }
                if let Self::Named(fields) = self {
                    match fields.iter_mut().find(|(there, _)| there == name) {
                        Some((_, node)) => node.insert(rest, text),
                        None => {
                            let mut node = Self::Nothing;
                            node.insert(rest, text);
                            fields.push(((*name).to_owned(), node));
                        }
                    }
                }
            }
            Step::Place(_) | Step::Next => {
                if let Self::Texts(texts) = self {
                    let nodes = std::mem::take(texts).into_iter().map(|text| Self::Texts(vec![text]));
                    *self = Self::Places((1..).zip(nodes).collect());
                } else if !matches!(self, Self::Places(_)) {
                    *self = Self::Places(BTreeMap::new());
                }
                if let Self::Places(nodes) = self {
                    let next = || nodes.last_key_value().map_or(1, |(last, _)| last.saturating_add(1));
                    let place = if let Step::Place(place) = step { *place } else { next() };
                    nodes.entry(place).or_default().insert(rest, text);
                }
            }
        }
    }

    fn into_value(self) -> Value {
        match self {
            Self::Nothing => Value::Null,
            Self::Texts(mut texts) if texts.len() == 1 => texts.pop().into(),
            Self::Texts(texts) => texts.into(),
            Self::Named(fields) => {
                Value::Object(fields.into_iter().map(|(name, node)| (name, node.into_value())).collect())
            }
            Self::Places(nodes) => nodes.into_values().map(Self::into_value).collect(),
        }
    }
}

fn infer_record(fields: &mut Map<String, Value>, record: &Record) {
    for (name, value) in fields.iter_mut() {
        let field = record.fields.iter().chain(&record.shorthands).find(|field| field.name == name);
        match field {
            Some(field) => infer(value, &field.shape),
            None if value.as_str() == Some("") => *value = Value::Null,
            None => {}
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
            if let Ok(number) = text.trim().parse::<i64>() {
                *value = number.into();
            } else if let Some(number) =
                text.trim().parse::<f64>().ok().and_then(serde_json::Number::from_f64)
            {
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
    use proptest::prelude::*;
    use tollgate_model::{Kind, json};

    use super::*;

    fn read_pairs(pairs: &[(&str, &str)]) -> Value {
        let mut node = Node::default();
        for (name, text) in pairs {
            node.insert(&steps(name), (*text).to_owned());
        }
        node.into_value()
    }

    #[test]
    fn names_are_paths() {
        for (pairs, expected) in [
            (&[("a.b.c", "1"), ("a.d", "2")][..], json!({"a": {"b": {"c": "1"}, "d": "2"}})),
            (&[("a[]", "1"), ("a[]", "2")], json!({"a": ["1", "2"]})),
            (&[("a", "1"), ("a", "2")], json!({"a": ["1", "2"]})),
            (&[("a", "1"), ("a[]", "2")], json!({"a": ["1", "2"]})),
            (&[("a[]", "1"), ("a", "2")], json!({"a": ["1", "2"]})),
            (&[("a[2]", "2"), ("a[1]", "1")], json!({"a": ["1", "2"]})),
            (&[("a[7]", "2"), ("a[3]", "1")], json!({"a": ["1", "2"]})),
            (
                &[("h[foo.bar]", "x"), ("l[1].k", "v"), ("l[1].j", "w")],
                json!({"h": {"foo.bar": "x"}, "l": [{"k": "v", "j": "w"}]}),
            ),
            (&[("a[18446744073709551615]", "1"), ("a[]", "2")], json!({"a": [["1", "2"]]})),
            (&[("", "x"), ("[", "y"), ("a.", "z")], json!({"[": "y", "a": "z"})),
        ] {
            assert_eq!(read_pairs(pairs), expected, "{pairs:?}");
        }
    }

    #[test]
    fn text_takes_the_type_of_its_field() {
        let infer = |kind: Kind, pairs: &[(&str, &str)]| {
            let Value::Object(mut fields) = read_pairs(pairs) else { panic!() };
            infer_record(&mut fields, kind.schema());
            Value::Object(fields)
        };
        assert_eq!(
            infer(
                Kind::Service,
                &[("port", "80"), ("enabled", "false"), ("tags", "a"), ("name", ""), ("url", "x")]
            ),
            json!({"port": 80, "enabled": false, "tags": ["a"], "name": null, "url": "x"})
        );
        assert_eq!(
            infer(
                Kind::Upstream,
                &[("healthchecks.active.timeout", "1.5"), ("slots", "many"), ("weight", "inf")]
            ),
            json!({"healthchecks": {"active": {"timeout": 1.5}}, "slots": "many", "weight": "inf"})
        );
        assert_eq!(
            infer(Kind::Route, &[("headers.x-a", "1"), ("headers[x.b][]", "2"), ("service.id", "i")]),
            json!({"headers": {"x-a": ["1"], "x.b": ["2"]}, "service": {"id": "i"}})
        );
    }

    proptest! {
        /// Whatever is sent, no text that ends a path is lost and none is made up.
        #[test]
        fn every_text_is_kept(texts in proptest::collection::vec("[a-z]{1,4}", 1..20)) {
            let pairs: Vec<(String, String)> =
                texts.iter().enumerate().map(|(at, text)| (format!("a[{at}].b"), text.clone())).collect();
            let pairs: Vec<(&str, &str)> = pairs.iter().map(|(name, text)| (&**name, &**text)).collect();
            let value = read_pairs(&pairs);
            let read: Vec<&str> =
                value["a"].as_array().unwrap().iter().map(|item| item["b"].as_str().unwrap()).collect();
            prop_assert_eq!(read, texts);
        }

        /// Nothing that can be sent makes reading fail, or takes a schema's depth.
        #[test]
        fn anything_can_be_read(names in proptest::collection::vec("[a-c.\\[\\]0-9]{0,40}", 0..30), body in ".{0,200}") {
            let pairs: Vec<(&str, &str)> = names.iter().map(|name| (&**name, "1")).collect();
            if let Value::Object(mut fields) = read_pairs(&pairs) {
                infer_record(&mut fields, Kind::Upstream.schema());
            }
            pairs_of_form(body.as_bytes());
        }

        /// A number stays the number it was written as.
        #[test]
        fn numbers_are_read(number in any::<i64>()) {
            let mut value = Value::from(number.to_string());
            infer(&mut value, &Shape::new(FieldType::Integer));
            prop_assert_eq!(value, Value::from(number));
        }
    }
}
