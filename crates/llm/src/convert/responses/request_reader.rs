//! A request for a response, read.

use serde_json::{Map, Value, json};

use super::items;
use crate::convert::chat::{Call, Chat, Choice, Content, Part, Schema, Source, Tool, ToolResult, Turn};
use crate::convert::openai::request_reader::source;
use crate::convert::taken;

/// Reads a request.
///
/// # Errors
/// What cannot be understood, and where.
pub(super) fn read(mut body: Map<String, Value>) -> Result<Chat, String> {
    let mut take = |name: &str| body.shift_remove(name).filter(|value| !value.is_null());
    let text = take("text").unwrap_or_default();
    let format = &text["format"];
    let reasoning = take("reasoning").unwrap_or_default();
    let mut chat = Chat {
        choice: take("tool_choice").as_ref().and_then(choice),
        one_call_at_a_time: take("parallel_tool_calls") == Some(false.into()),
        schema: (format["type"] == "json_schema").then(|| Schema {
            name: format["name"].as_str().map(str::to_owned),
            schema: format["schema"].clone(),
            strict: format["strict"].as_bool(),
        }),
        json: format["type"] == "json_object",
        max_tokens: take("max_output_tokens"),
        temperature: take("temperature"),
        top_p: take("top_p"),
        top_logprobs: take("top_logprobs"),
        user: take("user"),
        service_tier: take("service_tier"),
        reasoning_effort: reasoning["effort"].as_str().map(str::to_owned),
        ..Chat::default()
    };
    chat.logprobs = chat.top_logprobs.is_some().then(|| true.into());
    if let Some(instructions) = take("instructions").as_ref().and_then(Value::as_str) {
        chat.turns.push(Turn::System(vec![Part::text(instructions)]));
    }
    match take("input") {
        Some(Value::String(text)) => chat.turns.push(Turn::User(vec![Part::text(text)])),
        Some(Value::Array(items)) => {
            for (index, item) in items.into_iter().enumerate() {
                add(&mut chat.turns, item)
                    .map_err(|reason| format!("item of input at position {}: {reason}", index + 1))?;
            }
        }
        other => {
            return Err(format!(
                "input is neither text nor a list of items but {}",
                other.unwrap_or_default()
            ));
        }
    }
    if let Some(Value::Array(tools)) = take("tools") {
        for (index, given) in tools.into_iter().enumerate() {
            let name = || given["name"].as_str().map(str::to_owned);
            let named = || name().ok_or_else(|| format!("tool at position {} has no name", index + 1));
            match given["type"].as_str() {
                Some("function") => chat.tools.push(Tool {
                    name: named()?,
                    description: given.get("description").filter(|text| !text.is_null()).cloned(),
                    parameters: given
                        .get("parameters")
                        .filter(|parameters| parameters.is_object())
                        .cloned()
                        .unwrap_or_else(|| json!({"type": "object", "properties": {}})),
                    strict: given.get("strict").filter(|strict| !strict.is_null()).cloned(),
                    cache: None,
                }),
                // A tool that takes a text becomes a function of that text.
                Some("custom") => chat.tools.push(Tool {
                    name: named()?,
                    description: Some(items::description(&given).into()),
                    parameters: items::parameters(),
                    strict: None,
                    cache: None,
                }),
                // Tools that OpenAI itself runs are nowhere else.
                _ => {}
            }
        }
    }
    chat.body = body;
    Ok(chat)
}

fn choice(choice: &Value) -> Option<Choice> {
    let named = |name: &Value| name.as_str().map(|name| Choice::Function(name.to_owned()));
    match choice.as_str().or(choice["mode"].as_str()) {
        Some("auto") => Some(Choice::Auto),
        Some("none") => Some(Choice::None),
        Some("required") => Some(Choice::Required),
        _ => named(&choice["name"]),
    }
}

/// Adds an item of the input to the turns.
fn add(turns: &mut Vec<Turn>, mut item: Value) -> Result<(), String> {
    let string = |name: &str| item[name].as_str().map(str::to_owned);
    match item["type"].as_str() {
        Some("message") | None => {
            let parts = parts(taken(&mut item, "content"))?;
            match item["role"].as_str() {
                Some("user") => turns.push(Turn::User(parts)),
                Some("system" | "developer") => turns.push(Turn::System(parts)),
                Some("assistant") => assistant(turns, parts, None),
                _ => return Err(format!("has the unknown role {}", item["role"])),
            }
        }
        Some("function_call") => {
            let arguments = string("arguments").unwrap_or_default();
            let arguments = match arguments.trim() {
                "" => Map::new(),
                text => serde_json::from_str(text).map_err(|_| "its arguments are no JSON object")?,
            };
            let (id, name) = called(&item)?;
            assistant(turns, [], Some(Call { id, name, arguments, cache: None }));
        }
        Some("custom_tool_call") => {
            let (id, name) = called(&item)?;
            let arguments = items::arguments(string("input").unwrap_or_default());
            assistant(turns, [], Some(Call { id, name, arguments, cache: None }));
        }
        Some("function_call_output" | "custom_tool_call_output") => {
            let id = string("call_id").ok_or("has no call_id")?;
            let parts = parts(taken(&mut item, "output"))?;
            turns.push(Turn::Tool(ToolResult { id, parts, failed: false, cache: None }));
        }
        Some("image_generation_call") => {
            let format = item["output_format"].as_str().unwrap_or("png");
            let data = item["result"].as_str().ok_or("has no result")?.to_owned();
            let source = Source::Data { media_type: format!("image/{format}"), data };
            assistant(turns, Some(Content::Image(source).into()), None);
        }
        Some("reasoning") => assistant(turns, items::thoughts(&item).map(Part::from), None),
        Some(kind) => return Err(format!("an item of type '{kind}' cannot be sent to this provider")),
    }
    Ok(())
}

fn called(item: &Value) -> Result<(String, String), String> {
    let text = |name: &str| item[name].as_str().map(str::to_owned).ok_or_else(|| format!("has no {name}"));
    Ok((text("call_id")?, text("name")?))
}

/// Adds to the assistant's turn that is under way, or begins one.
fn assistant(turns: &mut Vec<Turn>, parts: impl IntoIterator<Item = Part>, calls: Option<Call>) {
    if let Some(Turn::Assistant(before, called)) = turns.last_mut() {
        before.extend(parts);
        called.extend(calls);
        return;
    }
    turns.push(Turn::Assistant(parts.into_iter().collect(), calls.into_iter().collect()));
}

fn parts(content: Value) -> Result<Vec<Part>, String> {
    match content {
        Value::Null => Ok(Vec::new()),
        Value::String(text) => Ok(vec![Part::text(text)]),
        Value::Array(parts) => parts
            .into_iter()
            .enumerate()
            .map(|(index, part)| {
                content_of(&part)
                    .map(Part::from)
                    .map_err(|reason| format!("part at position {}: {reason}", index + 1))
            })
            .collect(),
        other => Err(format!("its content is neither text nor a list of parts but {other}")),
    }
}

fn content_of(part: &Value) -> Result<Content, String> {
    let string = |name: &str| part[name].as_str().map(str::to_owned);
    Ok(match part["type"].as_str() {
        Some("input_text" | "output_text" | "text") => Content::Text(string("text").ok_or("has no text")?),
        Some("refusal") => Content::Text(string("refusal").ok_or("has no refusal")?),
        Some("input_image") => Content::Image(match (string("image_url"), string("file_id")) {
            (Some(url), _) => source(url)?,
            (None, Some(id)) => Source::Id(id),
            (None, None) => return Err("an image needs image_url or file_id".to_owned()),
        }),
        Some("input_file") => {
            let source = match (string("file_data"), string("file_url"), string("file_id")) {
                (Some(data), ..) => source(data)?,
                (None, Some(url), _) => Source::Url(url),
                (None, None, Some(id)) => Source::Id(id),
                (None, None, None) => return Err("a file needs file_data, file_url or file_id".to_owned()),
            };
            Content::File { name: string("filename"), source }
        }
        Some("input_audio") => {
            let audio = &part["input_audio"];
            let text = |name: &str| audio[name].as_str().map(str::to_owned);
            Content::Audio {
                format: text("format").unwrap_or_default(),
                data: text("data").ok_or("audio needs input_audio.data")?,
            }
        }
        kind => return Err(format!("cannot transform part of type '{}'", kind.unwrap_or_default())),
    })
}
