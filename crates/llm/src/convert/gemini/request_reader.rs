//! Requests to Gemini's `generateContent`, read. Members may be written in either of the API's two ways.

use serde_json::{Map, Value, json};

use crate::convert::audio::Speech;
use crate::convert::chat::{Call, Chat, Choice, Content, Part, Schema, Source, Tool, ToolResult, Turn};

/// Reads a request.
///
/// # Errors
/// What cannot be understood, and where.
pub(super) fn read(mut body: Map<String, Value>) -> Result<Chat, String> {
    let mut chat = Chat::default();
    if let Some(system) = take(&mut body, "systemInstruction") {
        let mut parts = Vec::new();
        for part in list(system, "parts") {
            if let Value::String(text) = &part["text"] {
                parts.push(Part::text(text));
            }
        }
        chat.turns.push(Turn::System(parts));
    }
    let mut calls = Calls::default();
    let contents = match take(&mut body, "contents") {
        Some(Value::Array(contents)) => contents,
        Some(only) => vec![only],
        None => Vec::new(),
    };
    for (index, content) in contents.into_iter().enumerate() {
        add(&mut chat.turns, content, &mut calls)
            .map_err(|reason| format!("content at position {}: {reason}", index + 1))?;
    }
    if let Some(Value::Object(config)) = take(&mut body, "generationConfig") {
        configure(&mut chat, config)?;
    }
    let tools = match take(&mut body, "tools") {
        Some(Value::Array(tools)) => tools,
        Some(only) => vec![only],
        None => Vec::new(),
    };
    for tool in tools {
        add_tool(&mut chat, tool)?;
    }
    if let Some(Value::Object(mut config)) = take(&mut body, "toolConfig")
        && let Some(Value::Object(mut calling)) = take(&mut config, "functionCallingConfig")
    {
        let mode = calling.get("mode").and_then(Value::as_str).unwrap_or_default().to_ascii_uppercase();
        let names = list_of(take(&mut calling, "allowedFunctionNames"));
        chat.choice = match (mode.as_str(), names.as_slice()) {
            ("ANY", [Value::String(only)]) => Some(Choice::Function(only.clone())),
            ("ANY", _) => Some(Choice::Required),
            ("NONE", _) => Some(Choice::None),
            ("AUTO" | "VALIDATED", _) => Some(Choice::Auto),
            _ => None,
        };
    }
    chat.body = body;
    Ok(chat)
}

/// Takes a member by its name, be it written `soThat` or `so_that`.
pub(super) fn take(from: &mut Map<String, Value>, name: &str) -> Option<Value> {
    let found = from.shift_remove(name).or_else(|| from.shift_remove(&snake(name)));
    found.filter(|value| !value.is_null())
}

fn snake(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}

fn list_of(value: Option<Value>) -> Vec<Value> {
    match value {
        Some(Value::Array(items)) => items,
        Some(Value::Null) | None => Vec::new(),
        Some(only) => vec![only],
    }
}

fn list(mut of: Value, name: &str) -> Vec<Value> {
    list_of(of.get_mut(name).map(Value::take))
}

fn configure(chat: &mut Chat, mut config: Map<String, Value>) -> Result<(), String> {
    let mut take = |name: &str| take(&mut config, name);
    let modalities = list_of(take("responseModalities"));
    let speech = take("speechConfig").unwrap_or_default();
    if modalities.iter().any(|one| one.as_str().is_some_and(|one| one.eq_ignore_ascii_case("AUDIO"))) {
        chat.speech = Some(self::speech(speech)?);
    }
    chat.max_tokens = take("maxOutputTokens");
    chat.temperature = take("temperature");
    chat.top_p = take("topP");
    chat.top_k = take("topK");
    chat.stop = list_of(take("stopSequences"));
    chat.count = take("candidateCount");
    chat.seed = take("seed");
    chat.presence_penalty = take("presencePenalty");
    chat.frequency_penalty = take("frequencyPenalty");
    chat.logprobs = take("responseLogprobs");
    chat.top_logprobs = take("logprobs");
    let schema = take("responseJsonSchema").or_else(|| take("responseSchema").map(as_json_schema));
    chat.json = take("responseMimeType").is_some_and(|kind| kind == "application/json") && schema.is_none();
    chat.schema = schema.map(|schema| Schema { name: None, schema, strict: None });
    if let Some(Value::Object(mut thinking)) = take("thinkingConfig") {
        let budget = self::take(&mut thinking, "thinkingBudget");
        let level = self::take(&mut thinking, "thinkingLevel");
        chat.reasoning_effort = level.as_ref().and_then(Value::as_str).map(str::to_ascii_lowercase);
        match budget.as_ref().and_then(Value::as_i64) {
            Some(0) => chat.reasoning_effort = Some("none".to_owned()),
            // -1 leaves it to the model.
            Some(budget) => chat.budget = u64::try_from(budget).ok(),
            None => {}
        }
    }
    Ok(())
}

fn speech(config: Value) -> Result<Speech, String> {
    let Value::Object(mut config) = config else { return Ok(Speech::default()) };
    if take(&mut config, "multiSpeakerVoiceConfig").is_some() {
        return Err("this provider speaks with one voice".to_owned());
    }
    let mut inner = |name: &str| match take(&mut config, name) {
        Some(Value::Object(inner)) => config = inner,
        _ => config = Map::new(),
    };
    inner("voiceConfig");
    inner("prebuiltVoiceConfig");
    let voice = take(&mut config, "voiceName").and_then(|voice| voice.as_str().map(str::to_owned));
    Ok(Speech { voice, format: None })
}

/// Gemini's schemas write types in capitals, and say `nullable`.
fn as_json_schema(schema: Value) -> Value {
    let Value::Object(schema) = schema else { return schema };
    let mut out = Map::new();
    let mut nullable = false;
    for (name, value) in schema {
        match (name.as_str(), value) {
            ("type", Value::String(kind)) => {
                out.insert(name, kind.to_ascii_lowercase().into());
            }
            ("nullable", value) => nullable = value == true,
            ("propertyOrdering" | "property_ordering" | "example", _) => {}
            ("properties", Value::Object(properties)) => {
                let properties = properties.into_iter().map(|(name, one)| (name, as_json_schema(one)));
                out.insert(name, properties.collect());
            }
            ("items", value) => drop(out.insert(name, as_json_schema(value))),
            ("anyOf" | "any_of", Value::Array(all)) => {
                out.insert("anyOf".to_owned(), all.into_iter().map(as_json_schema).collect());
            }
            // 64-bit numbers are written as texts.
            ("minItems" | "maxItems" | "minLength" | "maxLength", Value::String(count)) => {
                out.extend(count.parse::<u64>().ok().map(|count| (name, count.into())));
            }
            (_, value) => drop(out.insert(name, value)),
        }
    }
    if nullable && let Some(kind) = out.get_mut("type") {
        *kind = json!([kind.take(), "null"]);
    }
    out.into()
}

fn add_tool(chat: &mut Chat, tool: Value) -> Result<(), String> {
    let Value::Object(mut tool) = tool else { return Err("a tool is no object".to_owned()) };
    for declaration in list_of(take(&mut tool, "functionDeclarations")) {
        let Value::Object(mut declaration) = declaration else {
            return Err("a function declaration is no object".to_owned());
        };
        let name = take(&mut declaration, "name").and_then(|name| name.as_str().map(str::to_owned));
        let parameters = take(&mut declaration, "parametersJsonSchema")
            .or_else(|| take(&mut declaration, "parameters").map(as_json_schema));
        chat.tools.push(Tool {
            name: name.ok_or("a function declaration has no name")?,
            description: take(&mut declaration, "description"),
            parameters: parameters.unwrap_or_else(|| json!({"type": "object", "properties": {}})),
            strict: None,
            cache: None,
        });
    }
    match tool.keys().next() {
        None => Ok(()),
        Some(other) => Err(format!("the tool '{other}' is Gemini's own; this provider has none like it")),
    }
}

/// Calls so far. Those without an id are found by their name, in order.
#[derive(Default)]
struct Calls {
    count: usize,
    /// Names and ids of calls without results.
    open: Vec<(String, String)>,
}

impl Calls {
    fn add(&mut self, id: Option<String>, name: &str) -> String {
        self.count += 1;
        let id = id.unwrap_or_else(|| format!("call_{}", self.count));
        self.open.push((name.to_owned(), id.clone()));
        id
    }

    fn close(&mut self, id: Option<String>, name: &str) -> Option<String> {
        let is_it = |(other, its): &(String, String)| match &id {
            Some(id) => its == id,
            None => other == name,
        };
        let at = self.open.iter().position(is_it)?;
        Some(self.open.remove(at).1)
    }
}

fn add(turns: &mut Vec<Turn>, content: Value, calls: &mut Calls) -> Result<(), String> {
    let role = content["role"].as_str().unwrap_or("user").to_owned();
    let mut parts = Vec::new();
    let mut called = Vec::new();
    for (index, part) in list(content, "parts").into_iter().enumerate() {
        let at = |reason: String| format!("part at position {}: {reason}", index + 1);
        let Value::Object(mut part) = part else { return Err(at("is no object".to_owned())) };
        let text = |value: Option<Value>| value.and_then(|value| value.as_str().map(str::to_owned));
        if let Some(Value::Object(mut call)) = take(&mut part, "functionCall") {
            let name = text(take(&mut call, "name")).ok_or_else(|| at("a call has no name".to_owned()))?;
            let id = calls.add(text(take(&mut call, "id")), &name);
            let arguments = match take(&mut call, "args") {
                Some(Value::Object(arguments)) => arguments,
                _ => Map::new(),
            };
            called.push(Call { id, name, arguments, cache: None });
        } else if let Some(Value::Object(mut given)) = take(&mut part, "functionResponse") {
            let name = text(take(&mut given, "name")).unwrap_or_default();
            let id = calls.close(text(take(&mut given, "id")), &name);
            let id = id.ok_or_else(|| at(format!("no call before it is answered by '{name}'")))?;
            let response = take(&mut given, "response").unwrap_or_default();
            let failed = response.get("error").is_some();
            let parts = vec![Part::text(response.to_string())];
            turns.push(Turn::Tool(ToolResult { id, parts, failed, cache: None }));
        } else if let Some(content) = content_of(part).map_err(at)? {
            parts.push(Part::from(content));
        }
    }
    match role.as_str() {
        "model" => turns.push(Turn::Assistant(parts, called)),
        "user" | "function" | "human" if parts.is_empty() => {}
        "user" | "function" | "human" => turns.push(Turn::User(parts)),
        "system" => turns.push(Turn::System(parts)),
        other => return Err(format!("has the unknown role '{other}'")),
    }
    Ok(())
}

fn content_of(mut part: Map<String, Value>) -> Result<Option<Content>, String> {
    let thought = part.get("thought") == Some(&Value::Bool(true));
    if let Some(Value::String(text)) = take(&mut part, "text") {
        return Ok(Some(match thought {
            true => Content::Reasoning { text, signature: None },
            false => Content::Text(text),
        }));
    }
    let inline = take(&mut part, "inlineData");
    let is_inline = inline.is_some();
    let Some(Value::Object(mut data)) = inline.or_else(|| take(&mut part, "fileData")) else {
        let kind = part.keys().next().map_or("nothing", String::as_str);
        // What stands for itself says nothing to others.
        return match kind {
            "thoughtSignature" | "thought_signature" | "thought" => Ok(None),
            kind => Err(format!("a part with '{kind}' cannot be sent to this provider")),
        };
    };
    let mut text = |name: &str| match take(&mut data, name) {
        Some(Value::String(text)) => text,
        _ => String::new(),
    };
    let media_type = text("mimeType");
    let name = Some(text("displayName")).filter(|name| !name.is_empty());
    let source = match is_inline {
        true => Source::Data { media_type: media_type.clone(), data: text("data") },
        false => Source::Url(text("fileUri")),
    };
    Ok(Some(match (media_type.split_once('/'), source) {
        (Some(("audio", format)), Source::Data { data, .. }) => {
            let format = if format == "mpeg" { "mp3" } else { format };
            Content::Audio { format: format.to_owned(), data }
        }
        (Some(("image", _)), source) => Content::Image(source),
        (_, source) => Content::File { name, source },
    }))
}
