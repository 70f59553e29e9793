//! Pictures of DashScope's models, asked for and answered in its own format: its chats are OpenAI's.

use serde_json::{Map, Value, json};

use super::answer::failed;
use super::chat::Source;
use super::images::{Images, Picture, Pictures};
use super::merge;
use crate::json::to_bytes;
use crate::provider::Asked;
use crate::request::{Call, Rules};
use crate::usage::Seen;

/// A request, for a new picture or of others.
///
/// # Errors
/// What cannot be said in DashScope's format.
pub(crate) fn request(call: &Call<'_>, rules: &Rules<'_>) -> Result<Vec<u8>, String> {
    let asked = Images::read(call, rules)?;
    if asked.mask.is_some() {
        return Err("DashScope's models take no mask: say in the prompt what is to be changed".to_owned());
    }
    let mut content: Vec<Value> = asked
        .originals
        .into_iter()
        .map(|original| Ok(json!({"image": url(original)?})))
        .collect::<Result<_, String>>()?;
    content.push(json!({"text": asked.prompt}));
    let mut parameters = Map::new();
    if let Some(count) = asked.count {
        parameters.insert("n".to_owned(), count.into());
    }
    if let Some((width, height)) = asked.size {
        parameters.insert("size".to_owned(), format!("{width}*{height}").into());
    }
    let mut sent = Map::new();
    sent.insert("model".to_owned(), call.model.as_deref().unwrap_or_default().into());
    sent.insert("input".to_owned(), json!({"messages": [{"role": "user", "content": content}]}));
    if !parameters.is_empty() {
        sent.insert("parameters".to_owned(), parameters.into());
    }
    merge(&mut sent, asked.extra);
    Ok(to_bytes(&sent))
}

fn url(picture: Source) -> Result<String, String> {
    match picture {
        Source::Data { media_type, data } => Ok(format!("data:{media_type};base64,{data}")),
        Source::Url(url) => Ok(url),
        Source::Id(_) => Err("an image that is stored at another provider cannot be sent on".to_owned()),
    }
}

/// An answer in OpenAI's format: pictures are kept for a day where the URLs say. It tells no tokens.
///
/// # Errors
/// Why it cannot be understood, or has no picture.
pub(crate) fn answer(body: &[u8], asked: &Asked<'_>, seen: Option<&mut Seen>) -> Result<Vec<u8>, String> {
    let failed = |reason: &str| failed("dashscope", asked.operation, reason);
    let given: Value =
        serde_json::from_slice(body).map_err(|_| failed("failed to decode response from DashScope"))?;
    let choices = given["output"]["choices"].as_array().into_iter().flatten();
    let parts = choices.filter_map(|choice| choice["message"]["content"].as_array()).flatten();
    let urls = parts.filter_map(|part| part["image"].as_str());
    let all: Vec<Picture> = urls.map(|url| Picture::At(url.to_owned())).collect();
    if all.is_empty() {
        return Err(failed("no images in the response from DashScope"));
    }
    Ok(Pictures { all, usage: Value::Null }.write(asked, seen))
}
