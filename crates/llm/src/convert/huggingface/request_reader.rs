//! A text to go on with, read as a chat of one message.

use serde_json::{Map, Value};

use crate::convert::chat::{Chat, Part, Schema, Turn};

/// Reads a request. What only a model's own server can do (watermarks, penalties for what was said, kinds of
/// sampling) has no place elsewhere, and is left out.
///
/// # Errors
/// What cannot be understood, and where.
pub(super) fn read(mut body: Map<String, Value>) -> Result<Chat, String> {
    let Some(Value::String(prompt)) = body.shift_remove("inputs") else {
        return Err("inputs must be one text".to_owned());
    };
    let mut parameters = match body.shift_remove("parameters") {
        Some(Value::Object(parameters)) => parameters,
        None | Some(Value::Null) => Map::new(),
        Some(_) => return Err("parameters must be an object".to_owned()),
    };
    body.shift_remove("stream");
    let mut take = |name: &str| parameters.shift_remove(name).filter(|value| !value.is_null());
    let schema = match take("grammar") {
        Some(Value::Object(mut grammar)) if grammar.get("type").is_some_and(|kind| kind == "json") => {
            Some(schema(grammar.shift_remove("value").unwrap_or_default())?)
        }
        Some(_) => return Err("a grammar of another type than 'json' has no place in a chat".to_owned()),
        None => None,
    };
    Ok(Chat {
        turns: vec![Turn::User(vec![Part::text(prompt)])],
        schema,
        max_tokens: take("max_new_tokens"),
        temperature: take("temperature"),
        top_p: take("top_p"),
        top_k: take("top_k"),
        stop: match take("stop") {
            Some(Value::Array(stop)) => stop,
            Some(one) => vec![one],
            None => Vec::new(),
        },
        seed: take("seed"),
        frequency_penalty: take("frequency_penalty"),
        body,
        ..Chat::default()
    })
}

/// A schema, or its text.
fn schema(value: Value) -> Result<Schema, String> {
    let schema = match value {
        Value::String(text) => serde_json::from_str(&text)
            .map_err(|error| format!("the value of the grammar is no JSON schema: {error}"))?,
        value => value,
    };
    Ok(Schema { name: None, schema, strict: None })
}
