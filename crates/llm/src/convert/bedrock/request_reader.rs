//! A request to Bedrock's Converse, read for providers that speak another.

use serde_json::{Map, Value, json};

use crate::convert::chat::{Call, Chat, Choice, Content, Part, Schema, Source, Tool, ToolResult, Turn};

/// Members that change what comes out, and that only Bedrock can heed.
const ONLY_BEDROCK: [&str; 2] = ["guardrailConfig", "promptVariables"];

/// Reads a request.
///
/// # Errors
/// What cannot be understood, and where.
pub(crate) fn read(mut body: Map<String, Value>) -> Result<Chat, String> {
    let mut take = |name: &str| body.shift_remove(name).filter(|value| !value.is_null());
    for name in ONLY_BEDROCK {
        if take(name).is_some() {
            return Err(format!("{name}: other providers than Bedrock have none; leave it out"));
        }
    }
    let mut inference = take("inferenceConfig").unwrap_or_default();
    let mut tools = take("toolConfig").unwrap_or_default();
    let mut extra = take("additionalModelRequestFields").unwrap_or_default();
    let format = take("outputConfig").unwrap_or_default()["textFormat"]["structure"]["jsonSchema"].clone();
    let of = self::take;
    let mut chat = Chat {
        choice: choice(&tools["toolChoice"]),
        schema: match format["schema"].as_str() {
            Some(schema) => Some(Schema {
                name: format["name"].as_str().map(str::to_owned),
                schema: serde_json::from_str(schema)
                    .map_err(|error| format!("outputConfig: its schema is no JSON: {error}"))?,
                strict: None,
            }),
            None => None,
        },
        max_tokens: of(&mut inference, "maxTokens"),
        temperature: of(&mut inference, "temperature"),
        top_p: of(&mut inference, "topP"),
        stop: match of(&mut inference, "stopSequences") {
            Some(Value::Array(list)) => list,
            _ => Vec::new(),
        },
        top_k: of(&mut extra, "top_k").or_else(|| of(&mut extra, "topK")),
        budget: extra["thinking"]["budget_tokens"].as_u64(),
        reasoning_effort: extra["reasoning_effort"].as_str().map(str::to_owned),
        service_tier: take("serviceTier").and_then(|tier| tier.get("type").cloned()),
        ..Chat::default()
    };
    if let Some(system) = take("system") {
        chat.turns.push(Turn::System(parts(system).map_err(|reason| format!("system: {reason}"))?));
    }
    if let Some(Value::Array(messages)) = take("messages") {
        for (index, message) in messages.into_iter().enumerate() {
            add(&mut chat.turns, message).map_err(|reason| format!("messages.{index}: {reason}"))?;
        }
    }
    for (index, given) in list(of(&mut tools, "tools").unwrap_or_default()).into_iter().enumerate() {
        add_tool(&mut chat.tools, given).map_err(|reason| format!("toolConfig.tools.{index}: {reason}"))?;
    }
    chat.body = body;
    Ok(chat)
}

fn take(of: &mut Value, name: &str) -> Option<Value> {
    of.get_mut(name).map(Value::take).filter(|value| !value.is_null())
}

fn list(value: Value) -> Vec<Value> {
    match value {
        Value::Array(list) => list,
        _ => Vec::new(),
    }
}

fn choice(choice: &Value) -> Option<Choice> {
    if let Some(name) = choice["tool"]["name"].as_str() {
        return Some(Choice::Function(name.to_owned()));
    }
    if choice["any"].is_object() {
        return Some(Choice::Required);
    }
    choice["auto"].is_object().then_some(Choice::Auto)
}

fn mark() -> Value {
    json!({"type": "ephemeral"})
}

/// Adds a tool; a cache point marks the one before it.
fn add_tool(tools: &mut Vec<Tool>, mut given: Value) -> Result<(), String> {
    if given["cachePoint"].is_object() {
        if let Some(last) = tools.last_mut() {
            last.cache = Some(mark());
        }
        return Ok(());
    }
    let Some(mut spec) = take(&mut given, "toolSpec") else {
        return Err("is no toolSpec; tools of Bedrock's own go nowhere else".to_owned());
    };
    let mut schema = take(&mut spec, "inputSchema").unwrap_or_default();
    tools.push(Tool {
        name: spec["name"].as_str().ok_or("has no name")?.to_owned(),
        description: take(&mut spec, "description"),
        parameters: take(&mut schema, "json").unwrap_or_else(|| json!({"type": "object", "properties": {}})),
        strict: take(&mut spec, "strict"),
        cache: None,
    });
    Ok(())
}

/// Adds a message; results of tools come before all else that the user says in it.
fn add(turns: &mut Vec<Turn>, mut message: Value) -> Result<(), String> {
    let content = list(take(&mut message, "content").unwrap_or_default());
    match message["role"].as_str() {
        Some("user") => {
            let (mut results, mut rest) = (Vec::new(), Vec::new());
            for (index, mut block) in content.into_iter().enumerate() {
                let place = |reason: String| format!("content.{index}: {reason}");
                match take(&mut block, "toolResult") {
                    Some(result) => results.push(tool_result(result).map_err(place)?),
                    None if rest.is_empty() && block["cachePoint"].is_object() => {
                        if let Some(last) = results.last_mut() {
                            last.cache = Some(mark());
                        }
                    }
                    None => add_part(&mut rest, block).map_err(place)?,
                }
            }
            let only_results = !results.is_empty() && rest.is_empty();
            turns.extend(results.into_iter().map(Turn::Tool));
            if !only_results {
                turns.push(Turn::User(rest));
            }
        }
        Some("assistant") => {
            let (mut said, mut calls) = (Vec::new(), Vec::<Call>::new());
            for (index, mut block) in content.into_iter().enumerate() {
                let place = |reason: String| format!("content.{index}: {reason}");
                match (take(&mut block, "toolUse"), calls.last_mut()) {
                    (Some(given), _) => calls.push(call(given).map_err(place)?),
                    (None, Some(last)) if block["cachePoint"].is_object() => last.cache = Some(mark()),
                    _ => add_part(&mut said, block).map_err(place)?,
                }
            }
            turns.push(Turn::Assistant(said, calls));
        }
        _ => return Err(format!("has the unknown role {}", message["role"])),
    }
    Ok(())
}

fn parts(content: Value) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    for (index, block) in list(content).into_iter().enumerate() {
        add_part(&mut parts, block).map_err(|reason| format!("content.{index}: {reason}"))?;
    }
    Ok(parts)
}

/// Adds what a block says; a cache point marks the part before it.
fn add_part(parts: &mut Vec<Part>, block: Value) -> Result<(), String> {
    let Value::Object(block) = block else { return Err("is no object".to_owned()) };
    let Some((kind, mut given)) = block.into_iter().next() else { return Err("is empty".to_owned()) };
    let text =
        |value: &Value| value.as_str().map(str::to_owned).ok_or_else(|| format!("{kind}: has no text"));
    let content = match kind.as_str() {
        "text" => Content::Text(text(&given)?),
        "guardContent" => Content::Text(text(&given["text"]["text"])?),
        "image" => {
            let format = given["format"].as_str().unwrap_or_default().to_owned();
            let source = take(&mut given, "source").unwrap_or_default();
            Content::Image(self::source(format!("image/{format}"), source)?)
        }
        "document" => document(given)?,
        "json" => Content::Text(given.to_string()),
        "reasoningContent" => match given["redactedContent"].as_str() {
            Some(data) => Content::Redacted(data.to_owned()),
            None => {
                let reasoning = &given["reasoningText"];
                let signature = reasoning["signature"].as_str().map(str::to_owned);
                Content::Reasoning { text: text(&reasoning["text"])?, signature }
            }
        },
        "citationsContent" | "searchResult" => {
            let texts = given["content"].as_array().into_iter().flatten();
            Content::Text(texts.filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n"))
        }
        "cachePoint" => {
            if let Some(last) = parts.last_mut() {
                last.cache = Some(mark());
            }
            return Ok(());
        }
        kind => return Err(format!("a block of the kind '{kind}' cannot be sent to this provider")),
    };
    parts.push(content.into());
    Ok(())
}

fn source(media_type: String, mut source: Value) -> Result<Source, String> {
    if let Some(Value::String(data)) = take(&mut source, "bytes") {
        return Ok(Source::Data { media_type, data });
    }
    match source["s3Location"]["uri"].as_str() {
        Some(url) => Ok(Source::Url(url.to_owned())),
        None => Err("its source has neither bytes nor an s3Location".to_owned()),
    }
}

fn document(mut given: Value) -> Result<Content, String> {
    let mut from = take(&mut given, "source").unwrap_or_default();
    if let Some(Value::String(text)) = take(&mut from, "text") {
        return Ok(Content::Text(text));
    }
    let media_type = match given["format"].as_str().unwrap_or("txt") {
        "pdf" => "application/pdf",
        "csv" => "text/csv",
        "html" => "text/html",
        "md" => "text/markdown",
        "doc" => "application/msword",
        "docx" => "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "xls" => "application/vnd.ms-excel",
        "xlsx" => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        _ => "text/plain",
    };
    let name = given["name"].as_str().map(str::to_owned);
    Ok(Content::File { name, source: source(media_type.to_owned(), from)? })
}

fn tool_result(mut result: Value) -> Result<ToolResult, String> {
    Ok(ToolResult {
        id: result["toolUseId"].as_str().ok_or("toolResult has no toolUseId")?.to_owned(),
        failed: result["status"] == "error",
        cache: None,
        parts: parts(take(&mut result, "content").unwrap_or_default())?,
    })
}

fn call(mut given: Value) -> Result<Call, String> {
    let text = |name: &str| {
        given[name].as_str().map(str::to_owned).ok_or_else(|| format!("toolUse has no '{name}'"))
    };
    let (id, name) = (text("toolUseId")?, text("name")?);
    let arguments = match take(&mut given, "input") {
        Some(Value::Object(arguments)) => arguments,
        _ => Map::new(),
    };
    Ok(Call { id, name, arguments, cache: None })
}
