//! Pictures of Gemini's models, which make them as they chat.

use serde_json::{Map, Value, json};

use super::answer_reader::{blocked, tokens};
use super::request_reader::take;
use super::request_writer::{OWN, data};
use crate::convert::answer::{Image, failed};
use crate::convert::images::{Images, Picture, Pictures};
use crate::convert::merge;
use crate::provider::Asked;
use crate::usage::Seen;

/// Shapes that can be asked for, width to height.
const SHAPES: [(&str, f64); 10] = [
    ("1:1", 1.0),
    ("2:3", 2.0 / 3.0),
    ("3:2", 3.0 / 2.0),
    ("3:4", 3.0 / 4.0),
    ("4:3", 4.0 / 3.0),
    ("4:5", 4.0 / 5.0),
    ("5:4", 5.0 / 4.0),
    ("9:16", 9.0 / 16.0),
    ("16:9", 16.0 / 9.0),
    ("21:9", 21.0 / 9.0),
];

/// A request, as a chat of one message. OpenAI's `size` says the shape; Gemini's own words for it (`imageConfig`,
/// `generationConfig`) stand beside the prompt or in `extra_body`, and win.
///
/// # Errors
/// A mask: what is to be changed can only be said in the prompt.
pub(crate) fn request(mut asked: Images) -> Result<Map<String, Value>, String> {
    if asked.mask.is_some() {
        return Err("Gemini takes no mask: say in the prompt what is to be changed".to_owned());
    }
    let mut parts = vec![json!({"text": asked.prompt})];
    parts.extend(asked.originals.into_iter().map(|original| data(original, "image/png")));
    let mut generation = Map::new();
    generation.insert("responseModalities".to_owned(), json!(["TEXT", "IMAGE"]));
    if let Some(count) = asked.count.filter(|count| *count > 1) {
        generation.insert("candidateCount".to_owned(), count.into());
    }
    if let Some(size) = asked.size {
        generation.insert("imageConfig".to_owned(), json!({"aspectRatio": shape(size)}));
    }
    let mut sent = Map::new();
    sent.insert("contents".to_owned(), json!([{"role": "user", "parts": parts}]));
    for name in OWN {
        sent.extend(asked.body.shift_remove(name).map(|value| (name.to_owned(), value)));
    }
    for own in [&mut asked.body, &mut asked.extra] {
        if let Some(config) = take(own, "imageConfig") {
            merge(&mut generation, [("imageConfig".to_owned(), config)].into_iter().collect());
        }
        if let Some(Value::Object(config)) = take(own, "generationConfig") {
            merge(&mut generation, config);
        }
    }
    sent.insert("generationConfig".to_owned(), generation.into());
    sent.extend(asked.extra);
    Ok(sent)
}

/// The shape that is nearest to a size.
fn shape((width, height): (u64, u64)) -> &'static str {
    let wanted = width as f64 / height as f64;
    let distance = |ratio: f64| (ratio / wanted).ln().abs();
    let nearest = SHAPES.iter().min_by(|(_, a), (_, b)| distance(*a).total_cmp(&distance(*b)));
    nearest.map_or("1:1", |(name, _)| name)
}

/// An answer in OpenAI's format.
///
/// # Errors
/// Why it cannot be understood, or has no picture.
pub(crate) fn answer(body: &[u8], asked: &Asked<'_>, seen: Option<&mut Seen>) -> Result<Vec<u8>, String> {
    let failed = |reason: &str| failed("gemini", asked.operation, reason);
    let given: Value =
        serde_json::from_slice(body).map_err(|_| failed("failed to decode response from Gemini"))?;
    let candidates = given["candidates"].as_array().into_iter().flatten();
    let parts = candidates.clone().filter_map(|candidate| candidate["content"]["parts"].as_array()).flatten();
    // Those of thoughts are sketches.
    let parts = parts.filter(|part| part["thought"] != true);
    let all: Vec<Picture> = parts.clone().filter_map(picture).collect();
    if all.is_empty() {
        let told = candidates.filter_map(|candidate| candidate["finishMessage"].as_str());
        let said = told.chain(parts.filter_map(|part| part["text"].as_str())).collect::<Vec<_>>().join(" ");
        let reason = blocked(&given["promptFeedback"]);
        let reason = reason.unwrap_or_else(|| format!("no image received from Gemini: {said}"));
        return Err(failed(reason.trim_end_matches([':', ' '])));
    }
    Ok(Pictures { all, usage: usage(&given["usageMetadata"]) }.write(asked, seen))
}

fn picture(part: &Value) -> Option<Picture> {
    let media_type = part["inlineData"]["mimeType"].as_str().filter(|kind| kind.starts_with("image/"))?;
    let data = part["inlineData"]["data"].as_str()?;
    Some(Picture::Here(Image { media_type: media_type.to_owned(), data: data.to_owned() }))
}

/// Tokens as OpenAI tells them of pictures; what was thought counts with the answer.
fn usage(told: &Value) -> Value {
    let Some(tokens) = tokens(told) else { return Value::Null };
    let of = |details: &str, modality: &str| {
        let mut all = told[details].as_array().into_iter().flatten();
        all.find(|one| one["modality"] == modality).and_then(|one| one["tokenCount"].as_u64())
    };
    let text = of("promptTokensDetails", "TEXT").unwrap_or(0);
    let images = of("promptTokensDetails", "IMAGE").unwrap_or(0);
    json!({
        "input_tokens": tokens.prompt,
        "output_tokens": tokens.completion,
        "total_tokens": tokens.prompt + tokens.completion,
        "input_tokens_details": {"text_tokens": text, "image_tokens": images},
    })
}
