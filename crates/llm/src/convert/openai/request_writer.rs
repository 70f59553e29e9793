//! A chat written in OpenAI's format, for clients that speak another.

use serde_json::{Map, Value, json};

use crate::convert::chat::{Call, Chat, Choice, Content, Part, Source, Tool, Turn};

/// Longest name of a user that OpenAI takes, in bytes; requests with a longer one are refused.
const LONGEST_USER: usize = 64;

/// Who speaks where nobody says: OpenAI has to be told.
const DEFAULT_VOICE: &str = "alloy";

/// Writes a request. Model, streaming and authentication are the provider's to add.
///
/// # Errors
/// What cannot be said in OpenAI's format.
pub(crate) fn write(mut chat: Chat) -> Result<Map<String, Value>, String> {
    let mut messages = Vec::with_capacity(chat.turns.len());
    let mut shown = Vec::new();
    for turn in std::mem::take(&mut chat.turns) {
        if matches!(turn, Turn::System(_) | Turn::Assistant(..)) {
            show(&mut messages, &mut shown)?;
        }
        messages.push(match turn {
            Turn::System(parts) => json!({"role": "system", "content": content(parts)?}),
            Turn::User(mut parts) => {
                parts.splice(..0, shown.drain(..));
                json!({"role": "user", "content": content(parts)?})
            }
            Turn::Assistant(parts, calls) => assistant(parts, calls)?,
            Turn::Tool(result) => {
                let is_text = |part: &Part| matches!(part.content, Content::Text(_));
                let (texts, others): (Vec<Part>, Vec<Part>) = result.parts.into_iter().partition(is_text);
                shown.extend(others);
                json!({"role": "tool", "tool_call_id": result.id, "content": content(texts)?})
            }
        });
    }
    show(&mut messages, &mut shown)?;
    let mut sent = Map::new();
    sent.insert("messages".to_owned(), messages.into());
    if let Some(speech) = chat.speech {
        sent.insert("modalities".to_owned(), json!(["text", "audio"]));
        // Samples are what both whole answers and streams can be of.
        let voice = speech.voice.as_deref().unwrap_or(DEFAULT_VOICE);
        sent.insert("audio".to_owned(), json!({"voice": voice, "format": "pcm16"}));
    }
    let tools: Vec<Value> = chat.tools.into_iter().map(tool).collect();
    let has_tools = !tools.is_empty();
    let choice = chat.choice.filter(|_| has_tools).map(|choice| match choice {
        Choice::Auto => "auto".into(),
        Choice::None => "none".into(),
        Choice::Required => "required".into(),
        Choice::Function(name) => json!({"type": "function", "function": {"name": name}}),
    });
    let format = match chat.schema {
        Some(schema) => {
            let mut named =
                json!({"name": schema.name.as_deref().unwrap_or("answer"), "schema": schema.schema});
            if let Some(strict) = schema.strict {
                named["strict"] = strict.into();
            }
            Some(json!({"type": "json_schema", "json_schema": named}))
        }
        None => chat.json.then(|| json!({"type": "json_object"})),
    };
    // The hardest has a name of its own elsewhere.
    let effort = chat.reasoning_effort.map(|effort| if effort == "max" { "high".to_owned() } else { effort });
    let effort = effort.or_else(|| chat.budget.map(|budget| effort_of(budget).to_owned()));
    for (name, value) in [
        ("tools", has_tools.then(|| tools.into())),
        ("tool_choice", choice),
        ("parallel_tool_calls", (has_tools && chat.one_call_at_a_time).then(|| false.into())),
        ("response_format", format),
        ("max_tokens", chat.max_tokens),
        ("temperature", chat.temperature),
        ("top_p", chat.top_p),
        ("top_k", chat.top_k),
        ("stop", (!chat.stop.is_empty()).then(|| chat.stop.into())),
        ("seed", chat.seed),
        ("n", chat.count),
        ("logprobs", chat.logprobs),
        ("top_logprobs", chat.top_logprobs),
        ("frequency_penalty", chat.frequency_penalty),
        ("presence_penalty", chat.presence_penalty),
        ("user", chat.user.filter(|user| user.as_str().is_some_and(|user| user.len() <= LONGEST_USER))),
        ("service_tier", chat.service_tier),
        ("reasoning_effort", effort.map(Value::from)),
    ] {
        sent.extend(value.map(|value| (name.to_owned(), value)));
    }
    Ok(sent)
}

/// What tools have given besides texts is shown by the user: their own messages hold nothing but texts.
fn show(messages: &mut Vec<Value>, shown: &mut Vec<Part>) -> Result<(), String> {
    if !shown.is_empty() {
        messages.push(json!({"role": "user", "content": content(std::mem::take(shown))?}));
    }
    Ok(())
}

/// How hard a model thinks that is given so many tokens for it.
fn effort_of(budget: u64) -> &'static str {
    match budget {
        ..2048 => "low",
        2048..8192 => "medium",
        _ => "high",
    }
}

fn assistant(parts: Vec<Part>, calls: Vec<Call>) -> Result<Value, String> {
    let mut message = json!({"role": "assistant"});
    let content = content(parts)?;
    message["content"] = match content.as_str() {
        Some("") if !calls.is_empty() => Value::Null,
        _ => content,
    };
    if !calls.is_empty() {
        let calls = calls.into_iter().map(|call| {
            let arguments = Value::Object(call.arguments).to_string();
            json!({"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}})
        });
        message["tool_calls"] = calls.collect();
    }
    Ok(message)
}

/// A tool.
pub(crate) fn tool(tool: Tool) -> Value {
    let mut function = json!({"name": tool.name});
    if let Some(description) = tool.description {
        function["description"] = description;
    }
    function["parameters"] = tool.parameters;
    if let Some(strict) = tool.strict {
        function["strict"] = strict;
    }
    json!({"type": "function", "function": function})
}

/// Parts as content: a lone text stays a text. Thoughts have no place.
fn content(parts: Vec<Part>) -> Result<Value, String> {
    let mut written = Vec::with_capacity(parts.len());
    for part in parts {
        written.push(match part.content {
            Content::Text(text) => json!({"type": "text", "text": text}),
            Content::Image(Source::Id(_)) => {
                return Err("an image that is stored at another provider cannot be sent on".to_owned());
            }
            Content::Image(source) => json!({"type": "image_url", "image_url": {"url": url(source)}}),
            Content::File { name, source } => file(name, source)?,
            Content::Audio { format, data } => {
                json!({"type": "input_audio", "input_audio": {"data": data, "format": format}})
            }
            Content::Reasoning { .. } | Content::Redacted(_) => continue,
        });
    }
    Ok(match written.as_mut_slice() {
        [] => "".into(),
        [only] if only["type"] == "text" => only["text"].take(),
        _ => written.into(),
    })
}

fn file(name: Option<String>, source: Source) -> Result<Value, String> {
    let mut file = match source {
        Source::Id(id) => json!({"file_id": id}),
        Source::Url(_) => return Err("files are taken as data URLs, and not fetched".to_owned()),
        data => json!({"file_data": url(data)}),
    };
    if let Some(name) = name {
        file["filename"] = name.into();
    }
    Ok(json!({"type": "file", "file": file}))
}

fn url(source: Source) -> String {
    match source {
        Source::Data { media_type, data } => format!("data:{media_type};base64,{data}"),
        Source::Url(url) | Source::Id(url) => url,
    }
}
