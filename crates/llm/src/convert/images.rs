//! Pictures asked for and answered in OpenAI's format (`images/generations`, `images/edits`), for providers that speak
//! another.
//!
//! Words that a provider has none for (`background`, `moderation`, `style`) have no effect there, as with Kong. What
//! would make another picture is refused: a mask where there is none, a stream of unfinished pictures.

use serde_json::{Map, Value, json};

use super::answer::Image;
use super::chat::{Source, object_of};
use super::openai::request_reader::source;
use super::taken;
use crate::Operation;
use crate::json::Object;
use crate::provider::Asked;
use crate::request::{Call, Rules};
use crate::usage::{Seen, Usage};

/// What is asked.
pub(crate) struct Images {
    pub prompt: String,
    /// How many pictures.
    pub count: Option<u64>,
    /// Width and height, in pixels.
    pub size: Option<(u64, u64)>,
    pub quality: Option<String>,
    /// Pictures to make the new one of.
    pub originals: Vec<Source>,
    /// Where they are to be changed.
    pub mask: Option<Source>,
    /// Members that are left: those that only some providers know.
    pub body: Map<String, Value>,
    /// Members that are meant for the provider alone.
    pub extra: Map<String, Value>,
}

impl Images {
    /// Reads a request. A form of parts comes as the JSON that says the same: its numbers are texts.
    ///
    /// # Errors
    /// What cannot be understood.
    pub fn read(call: &Call<'_>, rules: &Rules<'_>) -> Result<Self, String> {
        let mut body = object_of(call)?;
        let mut take = |name: &str| body.shift_remove(name).filter(|value| !value.is_null());
        let Some(Value::String(prompt)) = take("prompt") else {
            return Err("prompt must be a text".to_owned());
        };
        if matches!(take("stream"), Some(stream) if stream == true || stream == "true") {
            return Err("this provider's pictures cannot be streamed".to_owned());
        }
        let count = match take("n") {
            Some(count) => Some(number(&count).ok_or("n must be a number")?),
            None => None,
        };
        let size = match take("size").as_ref().map(|size| size.as_str().unwrap_or_default()) {
            None | Some("auto") => None,
            Some(size) => {
                Some(pixels(size).ok_or("size must be 'auto', or width and height as in 1024x1024")?)
            }
        };
        let quality = take("quality").and_then(|quality| quality.as_str().map(str::to_owned));
        let originals = [take("images"), take("image")].into_iter().flatten().flat_map(|given| match given {
            Value::Array(all) => all,
            one => vec![one],
        });
        let originals: Vec<Source> = originals.map(picture).collect::<Result<_, _>>()?;
        if rules.operation == Operation::ImageEdits && originals.is_empty() {
            return Err("an edit needs an image".to_owned());
        }
        let mask = take("mask").map(picture).transpose()?;
        let mut extra = match take("extra_body") {
            Some(Value::Object(extra)) => extra,
            _ => Map::new(),
        };
        if let Some(auth) = rules.auth {
            extra.insert(auth.name.to_owned(), auth.value.into());
        }
        Ok(Self { prompt, count, size, quality, originals, mask, body, extra })
    }
}

fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

fn pixels(size: &str) -> Option<(u64, u64)> {
    let (width, height) = size.split_once('x')?;
    let (width, height) = (width.parse().ok()?, height.parse().ok()?);
    (width > 0 && height > 0).then_some((width, height))
}

/// A picture of the request: a URL, which may hold it, or an object with that or a file's id.
fn picture(mut given: Value) -> Result<Source, String> {
    let url = taken(&mut given, "image_url");
    match (given, url) {
        (Value::String(url), _) | (_, Value::String(url)) => source(url),
        (given, _) => match given["file_id"].as_str() {
            Some(id) => Ok(Source::Id(id.to_owned())),
            None => Err("an image needs image_url or file_id".to_owned()),
        },
    }
}

/// What of a request for pictures their answer is made of too.
pub(crate) fn kept(body: &Object<'_>) -> Map<String, Value> {
    match body.get_str(RESPONSE_FORMAT) {
        Some(format) => [(RESPONSE_FORMAT.to_owned(), format.into_owned().into())].into_iter().collect(),
        None => Map::new(),
    }
}

const RESPONSE_FORMAT: &str = "response_format";

/// What is answered.
#[derive(Default)]
pub(crate) struct Pictures {
    pub all: Vec<Picture>,
    /// Tokens as OpenAI tells them of pictures; `null` where the provider tells none.
    pub usage: Value,
}

/// A picture that was made.
pub(crate) enum Picture {
    Here(Image),
    /// Where the provider keeps it for a while.
    At(String),
}

impl Pictures {
    /// The answer in OpenAI's format; what it says of itself goes to `seen`. Where nothing is told of tokens, none
    /// were used: pictures are not estimated.
    ///
    /// Who asks for a URL of a picture that is here gets one that holds it.
    pub fn write(self, asked: &Asked<'_>, seen: Option<&mut Seen>) -> Vec<u8> {
        if let Some(seen) = seen {
            seen.model = Some(asked.model.to_owned());
            seen.usage = Some(Usage::from_openai(&self.usage.to_string()).unwrap_or_default());
        }
        let wants_url = asked.kept.get(RESPONSE_FORMAT).is_some_and(|format| format == "url");
        let data = self.all.into_iter().map(|picture| match picture {
            Picture::At(url) => json!({"url": url}),
            Picture::Here(image) if wants_url => {
                json!({"url": format!("data:{};base64,{}", image.media_type, image.data)})
            }
            Picture::Here(image) => json!({"b64_json": image.data}),
        });
        let mut written = json!({"created": asked.created, "data": data.collect::<Vec<_>>()});
        if !self.usage.is_null() {
            written["usage"] = self.usage;
        }
        written.to_string().into_bytes()
    }
}
