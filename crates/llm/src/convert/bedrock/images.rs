//! Pictures of Amazon's Titan Image Generator and Nova Canvas.

use serde_json::{Map, Value, json};

use crate::convert::answer::{Image, failed};
use crate::convert::chat::Source;
use crate::convert::images::{Images, Picture, Pictures};
use crate::convert::merge;
use crate::json::to_bytes;
use crate::provider::Asked;
use crate::request::{Call, Rules};
use crate::usage::Seen;

/// A request as the model takes it: of a text, a variation of pictures, or with a mask a change of one. Bedrock's mask
/// is black where the picture is to be changed, and white elsewhere; it is sent as the client gives it.
///
/// # Errors
/// A model of another family; a picture that is not here.
pub(crate) fn request(call: &Call<'_>, rules: &Rules<'_>) -> Result<Vec<u8>, String> {
    let model = call.model.as_deref().unwrap_or_default();
    if !["amazon.titan-image", "amazon.nova-canvas"].iter().any(|family| model.contains(family)) {
        return Err(format!(
            "pictures of the model '{model}' cannot be asked for; use Amazon's Titan Image Generator or Nova Canvas"
        ));
    }
    let asked = Images::read(call, rules)?;
    let mut generation = Map::new();
    if let Some(count) = asked.count {
        generation.insert("numberOfImages".to_owned(), count.into());
    }
    if let Some((width, height)) = asked.size {
        generation.insert("width".to_owned(), width.into());
        generation.insert("height".to_owned(), height.into());
    }
    let quality = match asked.quality.as_deref() {
        Some("high" | "hd" | "premium") => Some("premium"),
        Some("low" | "medium" | "standard") => Some("standard"),
        _ => None,
    };
    generation.extend(quality.map(|quality| ("quality".to_owned(), quality.into())));
    let originals: Vec<String> = asked.originals.into_iter().map(bytes).collect::<Result<_, _>>()?;
    let mask = asked.mask.map(bytes).transpose()?;
    let (task, name, what) = match (originals.as_slice(), mask) {
        ([], _) => ("TEXT_IMAGE", "textToImageParams", json!({"text": asked.prompt})),
        ([original], Some(mask)) => {
            let what = json!({"text": asked.prompt, "image": original, "maskImage": mask});
            ("INPAINTING", "inPaintingParams", what)
        }
        (_, Some(_)) => return Err("a mask is of one image".to_owned()),
        (originals, None) => {
            let what = json!({"text": asked.prompt, "images": originals});
            ("IMAGE_VARIATION", "imageVariationParams", what)
        }
    };
    let mut sent = Map::new();
    sent.insert("taskType".to_owned(), task.into());
    sent.insert(name.to_owned(), what);
    if !generation.is_empty() {
        sent.insert("imageGenerationConfig".to_owned(), generation.into());
    }
    merge(&mut sent, asked.extra);
    Ok(to_bytes(&sent))
}

/// A picture's bytes, in base64.
fn bytes(picture: Source) -> Result<String, String> {
    match picture {
        Source::Data { data, .. } => Ok(data),
        Source::Url(_) | Source::Id(_) => Err("images are taken as data URLs, and not fetched".to_owned()),
    }
}

/// An answer in OpenAI's format. It tells no tokens.
///
/// # Errors
/// Why it cannot be understood, or has no picture.
pub(crate) fn answer(body: &[u8], asked: &Asked<'_>, seen: Option<&mut Seen>) -> Result<Vec<u8>, String> {
    let failed = |reason: &str| failed("bedrock", asked.operation, reason);
    let given: Value =
        serde_json::from_slice(body).map_err(|_| failed("failed to decode response from Bedrock"))?;
    let images = given["images"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let png = |data: &str| Image { media_type: "image/png".to_owned(), data: data.to_owned() };
    let all: Vec<Picture> = images.map(png).map(Picture::Here).collect();
    if all.is_empty() {
        return Err(failed(given["error"].as_str().unwrap_or("no images in the response from Bedrock")));
    }
    Ok(Pictures { all, usage: Value::Null }.write(asked, seen))
}
