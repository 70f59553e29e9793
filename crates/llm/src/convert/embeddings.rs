//! Vectors of texts, asked for and answered in OpenAI's format, for providers that speak another.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::chat::object_of;
use crate::provider::Asked;
use crate::request::{Call, Rules};
use crate::usage::{Seen, Usage};

/// What is asked.
pub(crate) struct Embeddings {
    pub texts: Vec<String>,
    pub dimensions: Option<Value>,
    /// Members that are meant for the provider alone.
    pub extra: Map<String, Value>,
}

impl Embeddings {
    /// Reads a request. The configured length of vectors wins over the request's own.
    ///
    /// # Errors
    /// Input that is no text.
    pub fn read(call: &Call<'_>, rules: &Rules<'_>) -> Result<Self, String> {
        let mut body = object_of(call)?;
        let no_text = || "input must be a text or a list of texts".to_owned();
        let texts = match body.shift_remove("input") {
            Some(Value::String(text)) => vec![text],
            Some(Value::Array(items)) => items
                .into_iter()
                .map(|item| match item {
                    Value::String(text) => Ok(text),
                    _ => Err(no_text()),
                })
                .collect::<Result<_, _>>()?,
            _ => return Err(no_text()),
        };
        let configured = rules.options.dimensions.as_deref().and_then(|text| serde_json::from_str(text).ok());
        let own = body.shift_remove("dimensions").filter(|value| !value.is_null());
        let mut extra = match body.shift_remove("extra_body") {
            Some(Value::Object(extra)) => extra,
            _ => Map::new(),
        };
        if let Some(auth) = rules.auth {
            extra.insert(auth.name.to_owned(), auth.value.into());
        }
        Ok(Self { texts, dimensions: configured.or(own), extra })
    }
}

/// What of a request for embeddings their answer is made of too.
pub(crate) fn kept(body: &crate::json::Object<'_>) -> Map<String, Value> {
    match body.get_str(ENCODING) {
        Some(encoding) => [(ENCODING.to_owned(), encoding.into_owned().into())].into_iter().collect(),
        None => Map::new(),
    }
}

const ENCODING: &str = "encoding_format";

/// What is answered: a vector for each text, and the tokens of all where the provider tells them.
pub(crate) struct Vectors {
    pub vectors: Vec<Value>,
    pub tokens: Option<u64>,
}

impl Vectors {
    /// The answer in OpenAI's format; what it says of itself goes to `seen`.
    pub fn write(self, asked: &Asked<'_>, seen: Option<&mut Seen>) -> Vec<u8> {
        if let Some(seen) = seen {
            seen.model = Some(asked.model.to_owned());
            seen.usage = self.tokens.map(|tokens| Usage {
                prompt_tokens: tokens,
                total_tokens: tokens,
                ..Usage::default()
            });
        }
        let in_base64 = asked.kept.get(ENCODING).is_some_and(|encoding| encoding == "base64");
        let data: Vec<Value> = self
            .vectors
            .into_iter()
            .enumerate()
            .map(|(index, vector)| {
                let embedding = if in_base64 { base64_of(&vector) } else { vector };
                json!({"object": "embedding", "index": index, "embedding": embedding})
            })
            .collect();
        let tokens = self.tokens.unwrap_or(0);
        let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens});
        json!({"object": "list", "data": data, "model": asked.model, "usage": usage}).to_string().into_bytes()
    }
}

/// OpenAI's other way to write a vector: its numbers as bytes, least significant first.
fn base64_of(vector: &Value) -> Value {
    let numbers = vector.as_array().into_iter().flatten().filter_map(Value::as_f64);
    let bytes: Vec<u8> = numbers.flat_map(|number| (number as f32).to_le_bytes()).collect();
    STANDARD.encode(bytes).into()
}
