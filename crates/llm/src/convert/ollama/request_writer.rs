//! Chats written as Ollama's own API takes them, and text completions.

use serde_json::{Map, Value, json};

use crate::convert::chat::{Chat, Content, Part, Source, Tool, Turn};
use crate::convert::embeddings::Embeddings;
use crate::convert::openai::completion::Completion;
use crate::json::to_bytes;
use crate::request::{Call, Rules};

/// A chat.
///
/// # Errors
/// What cannot be said in Ollama's format.
pub(crate) fn chat(call: &Call<'_>, rules: &Rules<'_>) -> Result<Vec<u8>, String> {
    let mut chat = Chat::read(call, rules)?.for_one_text()?;
    let mut messages = Vec::with_capacity(chat.turns.len());
    // Results name the tool that gave them.
    let mut called: Vec<(String, String)> = Vec::new();
    for turn in std::mem::take(&mut chat.turns) {
        messages.push(match turn {
            Turn::System(parts) => message("system", parts)?,
            Turn::User(parts) => message("user", parts)?,
            Turn::Assistant(parts, calls) => {
                let mut message = message("assistant", parts)?;
                called.extend(calls.iter().map(|call| (call.id.clone(), call.name.clone())));
                if !calls.is_empty() {
                    let calls = calls
                        .into_iter()
                        .map(|call| json!({"function": {"name": call.name, "arguments": call.arguments}}));
                    message["tool_calls"] = calls.collect();
                }
                message
            }
            Turn::Tool(result) => {
                let mut message = message("tool", result.parts)?;
                if let Some((_, name)) = called.iter().rev().find(|(other, _)| *other == result.id) {
                    message["tool_name"] = name.as_str().into();
                }
                message
            }
        });
    }
    let mut sent = Map::new();
    sent.insert("model".to_owned(), call.model.as_deref().unwrap_or_default().into());
    sent.insert("messages".to_owned(), messages.into());
    let tools: Vec<Value> = std::mem::take(&mut chat.tools).into_iter().map(tool).collect();
    if !tools.is_empty() {
        sent.insert("tools".to_owned(), tools.into());
    }
    if let Some(schema) = chat.schema.take() {
        sent.insert("format".to_owned(), schema.schema);
    } else if chat.json {
        sent.insert("format".to_owned(), "json".into());
    }
    match chat.reasoning_effort.as_deref() {
        Some("none") => drop(sent.insert("think".to_owned(), false.into())),
        Some(effort @ ("low" | "medium" | "high")) => drop(sent.insert("think".to_owned(), effort.into())),
        _ => {}
    }
    let stop = std::mem::take(&mut chat.stop);
    set_options(
        &mut sent,
        [
            ("num_predict", chat.max_tokens.take()),
            ("temperature", chat.temperature.take()),
            ("top_p", chat.top_p.take()),
            ("top_k", chat.top_k.take()),
            ("seed", chat.seed.take()),
            ("stop", (!stop.is_empty()).then(|| stop.into())),
        ],
    );
    chat.add_extras(&mut sent, rules);
    sent.insert("stream".to_owned(), call.stream.into());
    Ok(to_bytes(&sent))
}

/// A text completion.
///
/// # Errors
/// A prompt that is not one text.
pub(crate) fn completion(call: &Call<'_>, rules: &Rules<'_>) -> Result<Vec<u8>, String> {
    let asked = Completion::read(call)?.with_one_answer()?;
    let prompt = asked.prompt()?;
    let options = rules.options;
    let mut sent = Map::new();
    sent.insert("model".to_owned(), call.model.as_deref().unwrap_or_default().into());
    sent.insert("prompt".to_owned(), prompt.into());
    set_options(
        &mut sent,
        [
            ("num_predict", asked.option(&options.max_tokens, "max_tokens")),
            ("temperature", asked.option(&options.temperature, "temperature")),
            ("top_p", asked.option(&options.top_p, "top_p")),
            ("top_k", asked.option(&options.top_k, "top_k")),
            ("seed", asked.own("seed")),
            ("stop", asked.stop()),
        ],
    );
    sent.insert("stream".to_owned(), call.stream.into());
    Ok(to_bytes(&sent))
}

/// Texts to be embedded.
///
/// # Errors
/// Input that is no text.
pub(crate) fn embeddings(call: &Call<'_>, rules: &Rules<'_>) -> Result<Vec<u8>, String> {
    let asked = Embeddings::read(call, rules)?;
    let mut sent = Map::new();
    sent.insert("model".to_owned(), call.model.as_deref().unwrap_or_default().into());
    sent.insert("input".to_owned(), asked.texts.into());
    sent.extend(asked.dimensions.map(|dimensions| ("dimensions".to_owned(), dimensions)));
    sent.extend(asked.extra);
    Ok(to_bytes(&sent))
}

fn set_options(sent: &mut Map<String, Value>, options: [(&str, Option<Value>); 6]) {
    let options: Map<String, Value> =
        options.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
    if !options.is_empty() {
        sent.insert("options".to_owned(), options.into());
    }
}

fn tool(tool: Tool) -> Value {
    let mut function = json!({"name": tool.name});
    if let Some(description) = tool.description {
        function["description"] = description;
    }
    function["parameters"] = tool.parameters;
    json!({"type": "function", "function": function})
}

/// A message: its texts as one, its images beside them.
fn message(role: &str, parts: Vec<Part>) -> Result<Value, String> {
    let (mut texts, mut images, mut thoughts) = (Vec::new(), Vec::new(), Vec::new());
    for part in parts {
        match part.content {
            Content::Text(text) => texts.push(text),
            Content::Image(Source::Data { data, .. }) => images.push(data),
            Content::Image(_) => return Err("Ollama takes images as data URLs, and fetches none".to_owned()),
            Content::File { .. } => return Err("Ollama takes no files".to_owned()),
            Content::Audio { .. } => return Err("Ollama takes no audio".to_owned()),
            Content::Reasoning { text, .. } => thoughts.push(text),
            Content::Redacted(_) => {}
        }
    }
    let mut message = json!({"role": role, "content": texts.join("\n")});
    if !images.is_empty() {
        message["images"] = images.into();
    }
    if !thoughts.is_empty() {
        message["thinking"] = thoughts.join("\n").into();
    }
    Ok(message)
}
