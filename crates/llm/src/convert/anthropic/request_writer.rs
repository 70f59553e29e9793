//! Chats written as Anthropic's Messages API takes them, and its older text completions.

use serde_json::{Map, Value, json};

use crate::convert::chat::{Call as ToolCall, Chat, Choice, Content, Part, Source, Tool, ToolResult, Turn};
use crate::convert::openai::completion::Completion;
use crate::json::{quote, to_bytes};
use crate::request::{Call, Rules};

/// `max_tokens` where nobody says: the API demands one, and every model allows this many.
const DEFAULT_MAX_TOKENS: u64 = 4096;

/// Models that refuse sampling parameters and think as they see fit (Kong 3.14).
const ADAPTIVE: [&str; 3] = ["claude-opus-4-7", "claude-opus-4-8", "claude-fable"];

/// A chat.
///
/// # Errors
/// What cannot be said in Anthropic's format.
pub(crate) fn chat(call: &Call<'_>, rules: &Rules<'_>) -> Result<Vec<u8>, String> {
    Ok(to_bytes(&written(call, rules)?))
}

/// A chat as Vertex takes it: the model stands in the path, and the version in the body.
///
/// # Errors
/// As [`chat`].
pub(crate) fn chat_on_vertex(call: &Call<'_>, rules: &Rules<'_>, version: &str) -> Result<Vec<u8>, String> {
    let mut sent = written(call, rules)?;
    sent.shift_remove("model");
    sent.insert("anthropic_version".to_owned(), version.into());
    Ok(to_bytes(&sent))
}

fn written(call: &Call<'_>, rules: &Rules<'_>) -> Result<Map<String, Value>, String> {
    let mut chat = Chat::read(call, rules)?.for_one_text()?;
    let model = call.model.as_deref().unwrap_or_default();
    let mut sent = Map::new();
    sent.insert("model".to_owned(), model.into());
    let mut system = Vec::new();
    let mut messages: Vec<Value> = Vec::new();
    let mut without_thoughts = false;
    for turn in std::mem::take(&mut chat.turns) {
        match turn {
            Turn::System(parts) => system.extend(parts),
            Turn::User(parts) => messages.push(json!({"role": "user", "content": content(parts)?})),
            Turn::Assistant(parts, calls) => {
                without_thoughts = !calls.is_empty() && !thinks(&parts);
                let uses = calls.into_iter().map(tool_use);
                let content = match uses.len() {
                    0 if parts.is_empty() => continue,
                    0 => content(parts)?,
                    _ => {
                        let mut blocks = blocks(parts)?;
                        // An empty text beside calls is refused.
                        blocks.retain(|block| block["text"] != "");
                        blocks.extend(uses);
                        blocks.into()
                    }
                };
                messages.push(json!({"role": "assistant", "content": content}));
            }
            Turn::Tool(result) => add_result(&mut messages, tool_result(result)?),
        }
    }
    sent.insert("messages".to_owned(), messages.into());
    if !system.is_empty() {
        sent.insert("system".to_owned(), content(system)?);
    }
    let budget = set_thinking(&mut sent, &chat, model, without_thoughts);
    let max_tokens = match (&chat.max_tokens, budget) {
        (Some(own), _) => own.clone(),
        (None, budget) => (DEFAULT_MAX_TOKENS + budget.unwrap_or(0)).into(),
    };
    sent.insert("max_tokens".to_owned(), max_tokens);
    if budget.is_none() && !is_adaptive(model) {
        let sampling = [("temperature", &chat.temperature), ("top_p", &chat.top_p), ("top_k", &chat.top_k)];
        sent.extend(sampling.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?))));
    }
    if !chat.stop.is_empty() {
        sent.insert("stop_sequences".to_owned(), std::mem::take(&mut chat.stop).into());
    }
    set_tools(&mut sent, &mut chat);
    if let Some(schema) = chat.schema.take() {
        sent.entry("output_config").or_insert_with(|| json!({}))["format"] =
            json!({"type": "json_schema", "schema": schema.schema});
    }
    if let Some(user) = chat.user.as_ref().filter(|user| user.is_string()) {
        sent.insert("metadata".to_owned(), json!({"user_id": user}));
    }
    match chat.service_tier.as_ref().and_then(Value::as_str) {
        Some("auto") => drop(sent.insert("service_tier".to_owned(), "auto".into())),
        Some("default") => drop(sent.insert("service_tier".to_owned(), "standard_only".into())),
        _ => {}
    }
    chat.add_extras(&mut sent, rules);
    sent.insert("stream".to_owned(), call.stream.into());
    Ok(sent)
}

/// The client's own request, of which only what the route decides is changed.
pub(crate) fn passed(call: &Call<'_>, rules: &Rules<'_>) -> Vec<u8> {
    let model = quote(call.model.as_deref().unwrap_or_default());
    let mut edits = Vec::with_capacity(8);
    // A model that stands there already keeps its bytes.
    if call.body.get("model") != Some(&model) {
        edits.push(("model", Some(&*model)));
    }
    if call.stream && !call.body.is_truthy("stream") {
        edits.push(("stream", Some("true")));
    }
    let secret = rules.auth.map(|auth| quote(auth.value));
    edits.extend(decided(call, rules, secret.as_deref()));
    call.body.edit(&edits)
}

/// The client's own request as a cloud takes it that serves Claude: the path says which model.
///
/// # Errors
/// What only Anthropic can be asked.
pub(crate) fn passed_to_cloud(
    call: &Call<'_>,
    rules: &Rules<'_>,
    cloud: &Cloud<'_>,
) -> Result<Vec<u8>, String> {
    call.refuse_action()?;
    let version = quote(cloud.version);
    let betas = betas(call, rules, cloud);
    let mut edits = vec![("model", None), ("anthropic_version", Some(&*version))];
    match cloud.path_says_stream {
        true => edits.push(("stream", None)),
        false => edits.push(("stream", Some(if call.stream { "true" } else { "false" }))),
    }
    if let Some(betas) = &betas {
        edits.push(("anthropic_beta", Some(betas)));
    }
    edits.extend(cloud.refused.iter().map(|name| (*name, None)));
    let secret = rules.auth.map(|auth| quote(auth.value));
    edits.extend(decided(call, rules, secret.as_deref()));
    Ok(call.body.edit(&edits))
}

/// How a cloud takes Anthropic's requests.
pub(crate) struct Cloud<'a> {
    /// Its version of the API.
    pub version: &'a str,
    /// Features to come that it lets through.
    pub betas: &'static [&'static str],
    /// Members that it refuses.
    pub refused: &'static [&'static str],
    /// Whether its path says that the answer is to be streamed, and nothing else may.
    pub path_says_stream: bool,
}

/// What the route decides of the body, whatever the way it goes.
fn decided<'a>(
    call: &Call<'_>,
    rules: &Rules<'a>,
    secret: Option<&'a str>,
) -> impl Iterator<Item = (&'a str, Option<&'a str>)> {
    let options = rules.options;
    let counts = !call.action.is_empty();
    let options = [
        ("max_tokens", options.max_tokens.as_deref()),
        ("temperature", options.temperature.as_deref()),
        ("top_p", options.top_p.as_deref()),
        ("top_k", options.top_k.as_deref()),
    ];
    let auth = rules.auth.filter(|auth| !(auth.keep_own && call.body.get(auth.name).is_some()));
    options
        .into_iter()
        .filter(move |(_, value)| value.is_some() && !counts)
        .chain(auth.map(|auth| (auth.name, secret)))
}

/// Features to come that a cloud knows of those the client asks for, as JSON text; it refuses a request that names
/// others, which clients do unasked. `None` where the client asks for none.
fn betas(call: &Call<'_>, rules: &Rules<'_>, cloud: &Cloud<'_>) -> Option<String> {
    let own: Vec<String> =
        call.body.get("anthropic_beta").and_then(|list| serde_json::from_str(list).ok()).unwrap_or_default();
    let named = rules.betas.unwrap_or_default().split(',').map(|name| name.trim().to_owned());
    let mut betas = own;
    for beta in named.filter(|name| cloud.betas.contains(&name.as_str())) {
        if !betas.contains(&beta) {
            betas.push(beta);
        }
    }
    (!betas.is_empty()).then(|| json!(betas).to_string())
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
    sent.insert("prompt".to_owned(), format!("Human: {prompt}\n\nAssistant:").into());
    let limit = asked.option(&options.max_tokens, "max_tokens").unwrap_or_else(|| DEFAULT_MAX_TOKENS.into());
    sent.insert("max_tokens_to_sample".to_owned(), limit);
    for (name, value) in [
        ("temperature", asked.option(&options.temperature, "temperature")),
        ("top_p", asked.option(&options.top_p, "top_p")),
        ("top_k", asked.option(&options.top_k, "top_k")),
        ("stop_sequences", asked.stop()),
    ] {
        sent.extend(value.map(|value| (name.to_owned(), value)));
    }
    sent.insert("stream".to_owned(), call.stream.into());
    Ok(to_bytes(&sent))
}

fn is_adaptive(model: &str) -> bool {
    ADAPTIVE.iter().any(|start| model.starts_with(start))
}

/// Lets the model think as hard as is asked, where it may; returns the tokens it is given.
fn set_thinking(
    sent: &mut Map<String, Value>,
    chat: &Chat,
    model: &str,
    without_thoughts: bool,
) -> Option<u64> {
    if is_adaptive(model) {
        let effort = match chat.reasoning_effort.as_deref()? {
            "none" => return None,
            "minimal" => "low",
            effort => effort,
        };
        sent.insert("output_config".to_owned(), json!({"effort": effort}));
        if !without_thoughts {
            sent.insert("thinking".to_owned(), json!({"type": "adaptive"}));
        }
        return None;
    }
    let budget = chat.thinking_budget(without_thoughts)?;
    sent.insert("thinking".to_owned(), json!({"type": "enabled", "budget_tokens": budget}));
    Some(budget)
}

fn set_tools(sent: &mut Map<String, Value>, chat: &mut Chat) {
    let mut tools: Vec<Value> = std::mem::take(&mut chat.tools).into_iter().map(tool).collect();
    tools.append(&mut chat.own_tools);
    let mut choice = match &chat.choice {
        Some(Choice::Auto) => Some(json!({"type": "auto"})),
        Some(Choice::None) => Some(json!({"type": "none"})),
        Some(Choice::Required) => Some(json!({"type": "any"})),
        Some(Choice::Function(name)) => Some(json!({"type": "tool", "name": name})),
        None => None,
    };
    if chat.one_call_at_a_time && !tools.is_empty() && chat.choice != Some(Choice::None) {
        choice.get_or_insert_with(|| json!({"type": "auto"}))["disable_parallel_tool_use"] = true.into();
    }
    if !tools.is_empty() {
        sent.insert("tools".to_owned(), tools.into());
    }
    sent.extend(choice.map(|choice| ("tool_choice".to_owned(), choice)));
}

fn tool(tool: Tool) -> Value {
    let mut sent = json!({"name": tool.name});
    if let Some(description) = tool.description {
        sent["description"] = description;
    }
    sent["input_schema"] = tool.parameters;
    if let Some(cache) = tool.cache {
        sent["cache_control"] = cache;
    }
    sent
}

fn tool_use(call: ToolCall) -> Value {
    let mut block = json!({"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments});
    if let Some(cache) = call.cache {
        block["cache_control"] = cache;
    }
    block
}

fn tool_result(result: ToolResult) -> Result<Value, String> {
    let mut block =
        json!({"type": "tool_result", "tool_use_id": result.id, "content": content(result.parts)?});
    if result.failed {
        block["is_error"] = true.into();
    }
    if let Some(cache) = result.cache {
        block["cache_control"] = cache;
    }
    Ok(block)
}

/// Whether thoughts are there that can be sent again.
fn thinks(parts: &[Part]) -> bool {
    parts.iter().any(|part| {
        matches!(part.content, Content::Redacted(_) | Content::Reasoning { signature: Some(_), .. })
    })
}

/// Results of one round of calls belong into one message.
fn add_result(messages: &mut Vec<Value>, result: Value) {
    if let Some(last) = messages.last_mut()
        && let Some(blocks) = last["content"].as_array_mut()
        && blocks.last().is_some_and(|block| block["type"] == "tool_result")
    {
        return blocks.push(result);
    }
    messages.push(json!({"role": "user", "content": [result]}));
}

/// Parts as content: a lone text stays a text.
fn content(mut parts: Vec<Part>) -> Result<Value, String> {
    match parts.as_mut_slice() {
        [] => Ok("".into()),
        [Part { content: Content::Text(text), cache: None }] => Ok(std::mem::take(text).into()),
        _ => blocks(parts).map(Value::Array),
    }
}

fn blocks(parts: Vec<Part>) -> Result<Vec<Value>, String> {
    let mut blocks = Vec::with_capacity(parts.len());
    for part in parts {
        let mut block = match part.content {
            Content::Text(text) => json!({"type": "text", "text": text}),
            Content::Image(source) => json!({"type": "image", "source": source_of(source)}),
            Content::File { name, source } => document(name, source),
            Content::Audio { .. } => return Err("Anthropic's models do not take audio".to_owned()),
            Content::Reasoning { text, signature: Some(signature) } => {
                json!({"type": "thinking", "thinking": text, "signature": signature})
            }
            // Thoughts of others are refused.
            Content::Reasoning { signature: None, .. } => continue,
            Content::Redacted(data) => json!({"type": "redacted_thinking", "data": data}),
        };
        if let Some(cache) = part.cache {
            block["cache_control"] = cache;
        }
        blocks.push(block);
    }
    Ok(blocks)
}

fn document(name: Option<String>, source: Source) -> Value {
    let mut block = json!({"type": "document", "source": source_of(source)});
    if let Some(name) = name {
        block["title"] = name.into();
    }
    block
}

fn source_of(source: Source) -> Value {
    match source {
        Source::Data { media_type, data } => {
            json!({"type": "base64", "media_type": media_type, "data": data})
        }
        Source::Url(url) => json!({"type": "url", "url": url}),
        Source::Id(id) => json!({"type": "file", "file_id": id}),
    }
}
