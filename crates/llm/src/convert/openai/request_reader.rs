//! A chat in OpenAI's format, read.

use serde_json::{Map, Value};

use crate::convert::audio::Speech;
use crate::convert::chat::{Call, Chat, Choice, Content, Part, Schema, Source, Tool, ToolResult, Turn};
use crate::convert::taken;

/// Reads a request.
///
/// # Errors
/// What cannot be understood, and where.
pub(crate) fn read(mut body: Map<String, Value>) -> Result<Chat, String> {
    let modalities = body.get("modalities").and_then(Value::as_array);
    let speaks = modalities.is_some_and(|all| all.iter().any(|one| one == "audio"));
    let mut take = |name: &str| body.shift_remove(name).filter(|value| !value.is_null());
    let (own_limit, old_limit) = (take("max_completion_tokens"), take("max_tokens"));
    let mut format = take("response_format").unwrap_or_default();
    let wants_json = matches!(format["type"].as_str(), Some("json_object" | "json_schema"));
    let schema = (format["type"] == "json_schema").then(|| schema(taken(&mut format, "json_schema")));
    let schema = schema.filter(|schema| !schema.schema.is_null());
    let mut chat = Chat {
        choice: take("tool_choice").as_ref().and_then(choice),
        one_call_at_a_time: take("parallel_tool_calls") == Some(false.into()),
        json: wants_json && schema.is_none(),
        schema,
        max_tokens: own_limit.or(old_limit),
        temperature: take("temperature"),
        top_p: take("top_p"),
        top_k: take("top_k"),
        stop: match take("stop") {
            Some(Value::Array(list)) => list,
            Some(one) => vec![one],
            None => Vec::new(),
        },
        seed: take("seed"),
        count: take("n"),
        logprobs: take("logprobs"),
        top_logprobs: take("top_logprobs"),
        frequency_penalty: take("frequency_penalty"),
        presence_penalty: take("presence_penalty"),
        user: take("user"),
        service_tier: take("service_tier"),
        speech: speaks.then(|| take("audio").map(speech).unwrap_or_default()),
        reasoning_effort: take("reasoning_effort").as_ref().and_then(Value::as_str).map(str::to_owned),
        ..Chat::default()
    };
    if let Some(Value::Array(messages)) = take("messages") {
        for (index, message) in messages.into_iter().enumerate() {
            let turn =
                turn(message).map_err(|reason| format!("message at position {}: {reason}", index + 1))?;
            chat.turns.push(turn);
        }
    }
    // Before `tools` there were `functions`.
    if let Some(Value::Array(functions)) = take("functions") {
        for (index, definition) in functions.into_iter().enumerate() {
            let tool = function(serde_json::json!({"function": definition}));
            chat.tools.push(tool.ok_or_else(|| format!("function at position {} has no name", index + 1))?);
        }
    }
    if let Some(wanted) = take("function_call") {
        chat.choice = match wanted["name"].as_str() {
            Some(name) => Some(Choice::Function(name.to_owned())),
            None => choice(&wanted),
        };
    }
    if let Some(Value::Array(tools)) = take("tools") {
        for (index, tool) in tools.into_iter().enumerate() {
            match tool["type"].as_str() {
                Some("function") | None => chat.tools.push(
                    function(tool).ok_or_else(|| format!("tool at position {} has no name", index + 1))?,
                ),
                Some(_) => chat.own_tools.push(tool),
            }
        }
    }
    chat.body = body;
    Ok(chat)
}

fn speech(given: Value) -> Speech {
    // A voice of one's own is named by an id.
    let voice = given["voice"].as_str().or(given["voice"]["id"].as_str());
    Speech { voice: voice.map(str::to_owned), format: given["format"].as_str().map(str::to_owned) }
}

fn schema(mut given: Value) -> Schema {
    Schema {
        name: given["name"].as_str().map(str::to_owned),
        strict: given["strict"].as_bool(),
        schema: taken(&mut given, "schema"),
    }
}

fn turn(message: Value) -> Result<Turn, String> {
    let Value::Object(mut message) = message else { return Err("is no object".to_owned()) };
    let role = message.shift_remove("role").unwrap_or_default();
    let cache = message.shift_remove("cache_control");
    let mut parts = parts(message.shift_remove("content").unwrap_or_default())?;
    if let Some(last) = parts.last_mut().filter(|part| part.cache.is_none()) {
        last.cache = cache;
    }
    Ok(match role.as_str() {
        Some("system" | "developer") => Turn::System(parts),
        Some("user") => Turn::User(parts),
        Some("assistant") => {
            if message.get("audio").is_some_and(Value::is_object) {
                return Err(
                    "an answer in audio that is stored at another provider cannot be sent on".to_owned()
                );
            }
            // Pictures of answers before, as they were told.
            if let Some(images) = message.shift_remove("images").filter(Value::is_array) {
                parts.extend(self::parts(images)?);
            }
            let mut calls = match message.shift_remove("tool_calls") {
                Some(Value::Array(calls)) => calls.into_iter().map(call).collect::<Result<_, _>>()?,
                _ => Vec::new(),
            };
            if let Some(function) = message.shift_remove("function_call").filter(Value::is_object) {
                let id = old_call_id(&function);
                calls.push(call(serde_json::json!({"id": id, "function": function}))?);
            }
            Turn::Assistant(parts, calls)
        }
        Some("tool") => {
            let id = message.get("tool_call_id").and_then(Value::as_str);
            let id = id.ok_or("has no tool_call_id")?.to_owned();
            Turn::Tool(ToolResult { id, parts, failed: false, cache: None })
        }
        Some("function") => {
            let name = Value::Object(message);
            Turn::Tool(ToolResult { id: old_call_id(&name), parts, failed: false, cache: None })
        }
        _ => return Err(format!("has the unknown role {role}")),
    })
}

/// `function_call` has no id: the function's name stands for it.
fn old_call_id(named: &Value) -> String {
    format!("call_{}", named["name"].as_str().unwrap_or_default())
}

fn parts(content: Value) -> Result<Vec<Part>, String> {
    match content {
        Value::Null => Ok(Vec::new()),
        Value::String(text) => Ok(vec![Part::text(text)]),
        Value::Array(parts) => parts
            .into_iter()
            .enumerate()
            .map(|(index, part)| {
                part_of(part).map_err(|reason| format!("part at position {}: {reason}", index + 1))
            })
            .collect(),
        other => Err(format!("its content is neither text nor a list of parts but {other}")),
    }
}

fn part_of(mut part: Value) -> Result<Part, String> {
    let kind = part["type"].as_str().unwrap_or_default().to_owned();
    let mut string = |path: &str| match part.pointer_mut(path).map(Value::take) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    };
    let content = match kind.as_str() {
        "text" => {
            Content::Text(string("/text").ok_or("message part type is 'text' but is missing .text block")?)
        }
        "refusal" => Content::Text(string("/refusal").ok_or("message part type is 'refusal' but has none")?),
        "image_url" => {
            let url = string("/image_url/url")
                .ok_or("message part type is 'image_url' but is missing .image_url.url block")?;
            Content::Image(source(url)?)
        }
        "file" => {
            let name = string("/file/filename");
            let source = match (string("/file/file_data"), string("/file/file_id")) {
                (Some(data), _) => source(data)?,
                (None, Some(id)) => Source::Id(id),
                (None, None) => return Err("a file needs file_data or file_id".to_owned()),
            };
            Content::File { name, source }
        }
        "input_audio" => Content::Audio {
            format: string("/input_audio/format").unwrap_or_default(),
            data: string("/input_audio/data").ok_or("audio needs input_audio.data")?,
        },
        kind => return Err(format!("cannot transform part of type '{kind}'")),
    };
    let cache = part.get_mut("cache_control").map(Value::take);
    Ok(Part { content, cache })
}

/// What stands in a URL: its data where it is a `data:` URL.
///
/// # Errors
/// One that is neither.
pub(crate) fn source(url: String) -> Result<Source, String> {
    let Some(rest) = url.strip_prefix("data:") else {
        return match ["http://", "https://", "s3://", "gs://"].iter().any(|scheme| url.starts_with(scheme)) {
            true => Ok(Source::Url(url)),
            false => Err("neither an http(s) nor a data URL".to_owned()),
        };
    };
    let (kind, data) = rest.split_once(";base64,").ok_or("a data URL must be base64")?;
    let media_type = kind.split(';').next().unwrap_or_default().to_owned();
    Ok(Source::Data { media_type, data: data.to_owned() })
}

fn call(call: Value) -> Result<Call, String> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let function = &call["function"];
    let arguments = function["arguments"].as_str().unwrap_or_default();
    let arguments = match arguments.trim() {
        "" => Map::new(),
        arguments => serde_json::from_str(arguments).map_err(|_| {
            "failed to decode function response arguments from assistant's message, not JSON format"
                .to_owned()
        })?,
    };
    Ok(Call {
        id: text(&call["id"]).ok_or("a tool call has no id")?,
        name: text(&function["name"]).ok_or("a tool call has no function.name")?,
        arguments,
        cache: None,
    })
}

fn function(mut tool: Value) -> Option<Tool> {
    let cache = tool.get_mut("cache_control").map(Value::take);
    let mut function = tool.get_mut("function")?.take();
    let mut take = |name: &str| function.get_mut(name).map(Value::take).filter(|value| !value.is_null());
    Some(Tool {
        name: take("name")?.as_str()?.to_owned(),
        description: take("description"),
        parameters: take("parameters")
            .unwrap_or_else(|| serde_json::json!({"type": "object", "properties": {}})),
        strict: take("strict"),
        cache: take("cache_control").or(cache),
    })
}

fn choice(choice: &Value) -> Option<Choice> {
    match choice.as_str() {
        Some("auto") => Some(Choice::Auto),
        Some("none") => Some(Choice::None),
        Some("required") => Some(Choice::Required),
        _ => choice["function"]["name"].as_str().map(|name| Choice::Function(name.to_owned())),
    }
}
