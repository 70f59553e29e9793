//! Embeddings in OpenAI's format, of Bedrock's Titan and Cohere models.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::convert::answer::failed;
use crate::convert::chat::object_of;
use crate::provider::Asked;
use crate::request::{Call, Rules};
use crate::usage::{Seen, Usage};

/// A request as the model takes it.
///
/// # Errors
/// A model of another family; an input that it does not take.
pub(crate) fn request(
    call: &Call<'_>,
    rules: &Rules<'_>,
    normalizes: Option<bool>,
) -> Result<Vec<u8>, String> {
    let model = call.model.as_deref().unwrap_or_default();
    let mut body = object_of(call)?;
    let configured = rules.options.dimensions.as_deref().and_then(|text| serde_json::from_str(text).ok());
    let dimensions: Option<Value> =
        configured.or_else(|| body.shift_remove("dimensions")).filter(|value: &Value| !value.is_null());
    let texts = texts(body.shift_remove("input").unwrap_or_default())?;
    let sent = if model.contains("amazon.titan-embed") {
        titan(model, texts, dimensions, normalizes)?
    } else if model.contains("cohere.embed") {
        let kind = body.shift_remove("input_type").unwrap_or_else(|| "search_document".into());
        cohere(model, texts, dimensions, &kind)
    } else {
        return Err(format!(
            "embeddings of the model '{model}' cannot be asked for; use one of Amazon's Titan or of Cohere"
        ));
    };
    Ok(sent.to_string().into_bytes())
}

fn texts(input: Value) -> Result<Vec<String>, String> {
    let list = match input {
        Value::String(text) => return Ok(vec![text]),
        Value::Array(list) => list,
        _ => Vec::new(),
    };
    let texts = list.into_iter().map(|item| match item {
        Value::String(text) => Ok(text),
        _ => Err("input must be a text or a list of texts".to_owned()),
    });
    texts.collect()
}

fn titan(
    model: &str,
    texts: Vec<String>,
    dimensions: Option<Value>,
    normalizes: Option<bool>,
) -> Result<Value, String> {
    let [text] = texts.as_slice() else {
        return Err(format!("the model '{model}' takes one text at a time"));
    };
    let mut sent = json!({"inputText": text});
    if model.contains("titan-embed-image") {
        if let Some(dimensions) = dimensions {
            sent["embeddingConfig"] = json!({"outputEmbeddingLength": dimensions});
        }
    } else if model.contains("titan-embed-text-v2") {
        // The first version knows neither.
        if let Some(dimensions) = dimensions {
            sent["dimensions"] = dimensions;
        }
        if let Some(normalizes) = normalizes {
            sent["normalize"] = normalizes.into();
        }
    }
    Ok(sent)
}

fn cohere(model: &str, texts: Vec<String>, dimensions: Option<Value>, kind: &Value) -> Value {
    let mut sent = json!({"texts": texts, "input_type": kind, "embedding_types": ["float"]});
    if let Some(dimensions) = dimensions.filter(|_| model.contains("embed-v4")) {
        sent["output_dimension"] = dimensions;
    }
    sent
}

/// An answer in OpenAI's format.
///
/// # Errors
/// Why it cannot be understood, in Kong's words.
pub(crate) fn answer(body: &[u8], asked: &Asked<'_>, seen: Option<&mut Seen>) -> Result<Vec<u8>, String> {
    let failed = |reason: &str| failed("bedrock", asked.operation, reason);
    let given: Map<String, Value> =
        serde_json::from_slice(body).map_err(|_| failed("failed to decode response from Bedrock"))?;
    let vectors = vectors(&given).ok_or_else(|| failed("no embeddings in the response from Bedrock"))?;
    let in_base64 = asked.kept.get("encoding_format").is_some_and(|format| format == "base64");
    let data: Vec<Value> = vectors
        .into_iter()
        .enumerate()
        .map(|(index, vector)| {
            let vector = if in_base64 { packed(vector) } else { vector.clone() };
            json!({"object": "embedding", "index": index, "embedding": vector})
        })
        .collect();
    let mut answer = json!({"object": "list", "data": data, "model": asked.model});
    let count = given.get("inputTextTokenCount").and_then(Value::as_u64);
    if let Some(count) = count {
        answer["usage"] = json!({"prompt_tokens": count, "total_tokens": count});
    }
    if let Some(seen) = seen {
        seen.model = Some(asked.model.to_owned());
        seen.usage =
            count.map(|count| Usage { prompt_tokens: count, total_tokens: count, ..Usage::default() });
    }
    Ok(answer.to_string().into_bytes())
}

fn vectors(given: &Map<String, Value>) -> Option<Vec<&Value>> {
    if let Some(vector) = given.get("embedding").filter(|vector| vector.is_array()) {
        return Some(vec![vector]);
    }
    let embeddings = given.get("embeddings")?;
    let list = embeddings.get("float").unwrap_or(embeddings).as_array()?;
    Some(list.iter().collect())
}

/// A vector as OpenAI packs it: numbers of four bytes, the least significant first, in base64.
fn packed(vector: &Value) -> Value {
    let numbers = vector.as_array().into_iter().flatten().filter_map(Value::as_f64);
    let bytes: Vec<u8> = numbers.flat_map(|number| (number as f32).to_le_bytes()).collect();
    STANDARD.encode(bytes).into()
}
