//! Embeddings of Bedrock's Titan and Cohere models.

use serde_json::{Map, Value, json};

use crate::convert::answer::failed;
use crate::convert::embeddings::{Embeddings, Vectors};
use crate::provider::Asked;
use crate::request::{Call, Rules};
use crate::usage::Seen;

/// A request as the model takes it.
///
/// # Errors
/// A model of another family; an input that it does not take.
pub(crate) fn request(
    call: &Call<'_>,
    rules: &Rules<'_>,
    normalizes: Option<bool>,
    input_type: Option<&str>,
) -> Result<Vec<u8>, String> {
    let model = call.model.as_deref().unwrap_or_default();
    let Embeddings { texts, dimensions, extra } = Embeddings::read(call, rules)?;
    let mut sent = if model.contains("amazon.titan-embed") {
        titan(model, &texts, dimensions, normalizes)?
    } else if model.contains("cohere.embed") {
        cohere(model, &texts, dimensions, input_type.unwrap_or("search_document"))
    } else {
        return Err(format!(
            "embeddings of the model '{model}' cannot be asked for; use one of Amazon's Titan or of Cohere"
        ));
    };
    if let Some(members) = sent.as_object_mut() {
        members.extend(extra);
    }
    Ok(sent.to_string().into_bytes())
}

fn titan(
    model: &str,
    texts: &[String],
    dimensions: Option<Value>,
    normalizes: Option<bool>,
) -> Result<Value, String> {
    let [text] = texts else {
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

fn cohere(model: &str, texts: &[String], dimensions: Option<Value>, input_type: &str) -> Value {
    let mut sent = json!({"texts": texts, "input_type": input_type, "embedding_types": ["float"]});
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
    let tokens = given.get("inputTextTokenCount").and_then(Value::as_u64);
    Ok(Vectors { vectors, tokens }.write(asked, seen))
}

fn vectors(given: &Map<String, Value>) -> Option<Vec<Value>> {
    if let Some(vector) = given.get("embedding").filter(|vector| vector.is_array()) {
        return Some(vec![vector.clone()]);
    }
    let embeddings = given.get("embeddings")?;
    let list = embeddings.get("float").unwrap_or(embeddings).as_array()?;
    Some(list.clone())
}
