//! A request to Anthropic's Messages API, read for providers that speak another.

use serde_json::{Map, Value, json};

use crate::convert::chat::{Call, Chat, Choice, Content, Part, Schema, Source, Tool, ToolResult, Turn};

/// Reads a request.
///
/// # Errors
/// What cannot be understood, and where.
pub(crate) fn read(mut body: Map<String, Value>) -> Result<Chat, String> {
    let mut take = |name: &str| body.shift_remove(name).filter(|value| !value.is_null());
    if take("mcp_servers").is_some_and(|servers| servers != json!([])) {
        return Err("mcp_servers: only Anthropic itself calls them".to_owned());
    }
    let choice = take("tool_choice").unwrap_or_default();
    let thinking = take("thinking").unwrap_or_default();
    let mut config = take("output_config").unwrap_or_default();
    // `output_format` came before `output_config`.
    let format = self::take(&mut config, "format").or_else(|| take("output_format")).unwrap_or_default();
    let mut chat = Chat {
        choice: choice_of(&choice),
        one_call_at_a_time: choice["disable_parallel_tool_use"] == true,
        schema: (format["type"] == "json_schema").then(|| Schema {
            name: None,
            schema: format["schema"].clone(),
            strict: None,
        }),
        max_tokens: take("max_tokens"),
        temperature: take("temperature"),
        top_p: take("top_p"),
        top_k: take("top_k"),
        stop: match take("stop_sequences") {
            Some(Value::Array(list)) => list,
            _ => Vec::new(),
        },
        user: take("metadata").and_then(|metadata| metadata.get("user_id").cloned()),
        service_tier: take("service_tier").map(|tier| match tier.as_str() {
            Some("standard_only") => "default".into(),
            _ => tier,
        }),
        reasoning_effort: config["effort"].as_str().map(str::to_owned),
        budget: match thinking["type"].as_str() {
            Some("enabled") => thinking["budget_tokens"].as_u64(),
            _ => None,
        },
        ..Chat::default()
    };
    if let Some(system) = take("system") {
        let parts = parts(system).map_err(|reason| format!("system: {reason}"))?;
        chat.turns.push(Turn::System(parts));
    }
    if let Some(Value::Array(messages)) = take("messages") {
        for (index, message) in messages.into_iter().enumerate() {
            add(&mut chat.turns, message).map_err(|reason| format!("messages.{index}: {reason}"))?;
        }
    }
    if let Some(Value::Array(tools)) = take("tools") {
        for (index, given) in tools.into_iter().enumerate() {
            chat.tools.push(tool(given).map_err(|reason| format!("tools.{index}: {reason}"))?);
        }
    }
    chat.body = body;
    Ok(chat)
}

fn choice_of(choice: &Value) -> Option<Choice> {
    match choice["type"].as_str()? {
        "auto" => Some(Choice::Auto),
        "none" => Some(Choice::None),
        "any" => Some(Choice::Required),
        "tool" => choice["name"].as_str().map(|name| Choice::Function(name.to_owned())),
        _ => None,
    }
}

fn tool(mut given: Value) -> Result<Tool, String> {
    let name = given["name"].as_str().unwrap_or_default().to_owned();
    if let Some(kind) = given["type"].as_str().filter(|kind| *kind != "custom") {
        return Err(format!(
            "the tool '{name}' of the type '{kind}' is Anthropic's own, and other providers have none; leave it out"
        ));
    }
    if name.is_empty() {
        return Err("has no name".to_owned());
    }
    let mut take = |name: &str| given.get_mut(name).map(Value::take).filter(|value| !value.is_null());
    Ok(Tool {
        name,
        description: take("description"),
        parameters: take("input_schema").unwrap_or_else(|| json!({"type": "object", "properties": {}})),
        strict: take("strict"),
        cache: take("cache_control"),
    })
}

/// Adds a message; results of tools come before all else that the user says in it.
fn add(turns: &mut Vec<Turn>, mut message: Value) -> Result<(), String> {
    let content = take(&mut message, "content").unwrap_or_default();
    match message["role"].as_str() {
        Some("system") => turns.push(Turn::System(parts(content)?)),
        Some("user") => {
            let mut rest = Vec::new();
            let mut results = false;
            for (index, block) in blocks(content)?.into_iter().enumerate() {
                let place = |reason: String| format!("content.{index}: {reason}");
                if block["type"] == "tool_result" {
                    results = true;
                    turns.push(Turn::Tool(tool_result(block).map_err(place)?));
                } else {
                    rest.extend(part(block).map_err(place)?);
                }
            }
            if !rest.is_empty() || !results {
                turns.push(Turn::User(rest));
            }
        }
        Some("assistant") => {
            let (mut said, mut calls) = (Vec::new(), Vec::new());
            for (index, block) in blocks(content)?.into_iter().enumerate() {
                let place = |reason: String| format!("content.{index}: {reason}");
                match block["type"].as_str() {
                    Some("tool_use") => calls.push(call(block).map_err(place)?),
                    // What Anthropic has looked up itself stands in the text that follows.
                    Some(kind) if kind == "server_tool_use" || kind.ends_with("_tool_result") => {}
                    Some("mcp_tool_use" | "compaction" | "fallback") => {}
                    _ => said.extend(part(block).map_err(place)?),
                }
            }
            turns.push(Turn::Assistant(said, calls));
        }
        _ => return Err(format!("has the unknown role {}", message["role"])),
    }
    Ok(())
}

fn blocks(content: Value) -> Result<Vec<Value>, String> {
    match content {
        Value::Null => Ok(Vec::new()),
        Value::String(text) => Ok(vec![json!({"type": "text", "text": text})]),
        Value::Array(blocks) => Ok(blocks),
        other => Err(format!("its content is neither text nor a list of blocks but {other}")),
    }
}

fn parts(content: Value) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    for (index, block) in blocks(content)?.into_iter().enumerate() {
        parts.extend(part(block).map_err(|reason| format!("content.{index}: {reason}"))?);
    }
    Ok(parts)
}

/// What a block says; `None` where it says nothing to other providers.
fn part(mut block: Value) -> Result<Option<Part>, String> {
    let cache = take(&mut block, "cache_control");
    let mut string = |name: &str| match block.get_mut(name).map(Value::take) {
        Some(Value::String(text)) => Ok(text),
        _ => Err(format!("has no text as '{name}'")),
    };
    let kind = string("type").unwrap_or_default();
    let content = match kind.as_str() {
        "text" => Content::Text(string("text")?),
        "thinking" => {
            let signature = string("signature").ok().filter(|signature| !signature.is_empty());
            Content::Reasoning { text: string("thinking")?, signature }
        }
        "redacted_thinking" => Content::Redacted(string("data")?),
        "image" => Content::Image(source(&mut take(&mut block, "source").unwrap_or_default())?),
        "document" => document(&mut block)?,
        "search_result" => Content::Text(text_of(&block["content"])),
        // Names a tool that is known from now on: all are.
        "tool_reference" => return Ok(None),
        "container_upload" => return Err("files for Anthropic's code execution go nowhere else".to_owned()),
        kind => return Err(format!("a block of the type '{kind}' cannot be sent to this provider")),
    };
    Ok(Some(Part { content, cache }))
}

fn document(block: &mut Value) -> Result<Content, String> {
    let name = block["title"].as_str().map(str::to_owned);
    let mut given = take(block, "source").unwrap_or_default();
    match given["type"].as_str() {
        Some("text") => Ok(Content::Text(given["data"].as_str().unwrap_or_default().to_owned())),
        Some("content") => Ok(Content::Text(text_of(&given["content"]))),
        _ => Ok(Content::File { name, source: source(&mut given)? }),
    }
}

/// The texts of content, as lines.
fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(blocks) => {
            blocks.iter().filter_map(|block| block["text"].as_str()).collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    }
}

fn source(given: &mut Value) -> Result<Source, String> {
    let mut string = |name: &str| match given.get_mut(name).map(Value::take) {
        Some(Value::String(text)) => Ok(text),
        _ => Err(format!("its source has no text as '{name}'")),
    };
    match string("type")?.as_str() {
        "base64" => Ok(Source::Data { media_type: string("media_type")?, data: string("data")? }),
        "url" => string("url").map(Source::Url),
        "file" => string("file_id").map(Source::Id),
        kind => Err(format!("a source of the type '{kind}' cannot be sent to this provider")),
    }
}

fn tool_result(mut block: Value) -> Result<ToolResult, String> {
    Ok(ToolResult {
        id: block["tool_use_id"].as_str().ok_or("has no tool_use_id")?.to_owned(),
        failed: block["is_error"] == true,
        cache: take(&mut block, "cache_control"),
        parts: parts(take(&mut block, "content").unwrap_or_default())?,
    })
}

fn call(mut block: Value) -> Result<Call, String> {
    let text = |name: &str| block[name].as_str().map(str::to_owned).ok_or_else(|| format!("has no '{name}'"));
    let (id, name) = (text("id")?, text("name")?);
    let arguments = match take(&mut block, "input") {
        Some(Value::Object(arguments)) => arguments,
        _ => Map::new(),
    };
    Ok(Call { id, name, arguments, cache: take(&mut block, "cache_control") })
}

fn take(block: &mut Value, name: &str) -> Option<Value> {
    block.get_mut(name).map(Value::take).filter(|value| !value.is_null())
}
