//! Chats written as Bedrock's Converse and ConverseStream take them.

use serde_json::{Map, Value, json};

use crate::convert::chat::{Chat, Choice, Content, Part, Source, Tool, Turn};
use crate::json::{Object, to_bytes};
use crate::request::{Call, Rules};

/// Models that know no system prompts, by what their names begin with.
const WITHOUT_SYSTEM: [&str; 5] = [
    "amazon.titan-",
    "cohere.command-text-",
    "cohere.command-light-text-",
    "mistral.mistral-7b-instruct-",
    "mistral.mixtral-8x7b-instruct-",
];

/// Members of the request that are Bedrock's own, and pass.
const OWN_MEMBERS: [&str; 4] = ["guardrailConfig", "requestMetadata", "performanceConfig", "promptVariables"];

/// Whether a model takes instructions (`system`).
pub(crate) fn takes_system(model: &str) -> bool {
    !WITHOUT_SYSTEM.iter().any(|start| model.starts_with(start))
}

/// A chat.
///
/// # Errors
/// What cannot be said in Bedrock's format.
pub(crate) fn chat(
    call: &Call<'_>,
    rules: &Rules<'_>,
    anthropic_version: Option<&str>,
    latency: Option<&str>,
) -> Result<Vec<u8>, String> {
    let mut chat = Chat::read(call, rules)?.for_one_text()?;
    let model = call.model.as_deref().unwrap_or_default();
    let mut system = Vec::new();
    let mut messages = Messages::default();
    let mut called: Vec<String> = Vec::new();
    let mut without_thoughts = false;
    for turn in std::mem::take(&mut chat.turns) {
        match turn {
            Turn::System(parts) => system.extend(blocks(parts)?),
            Turn::User(parts) => messages.add("user", blocks(parts)?),
            Turn::Assistant(parts, calls) => {
                let mut blocks = blocks(parts)?;
                let thinks = blocks.iter().any(|block| block.get("reasoningContent").is_some());
                without_thoughts = !calls.is_empty() && !thinks;
                called.extend(calls.iter().map(|call| call.name.clone()));
                for call in calls {
                    blocks.push(json!({
                        "toolUse": {"toolUseId": call.id, "name": call.name, "input": call.arguments},
                    }));
                    blocks.extend(call.cache.map(|_| cache_point()));
                }
                messages.add("assistant", blocks);
            }
            Turn::Tool(given) => {
                let content = blocks(given.parts)?.into_iter().map(result).collect::<Vec<_>>();
                let mut block = json!({"toolResult": {"toolUseId": given.id, "content": content}});
                if given.failed {
                    block["toolResult"]["status"] = "error".into();
                }
                let cache = given.cache.map(|_| cache_point());
                messages.add("user", [block].into_iter().chain(cache).collect());
            }
        }
    }
    let mut sent = Map::new();
    if !system.is_empty() {
        if !takes_system(model) {
            return Err(format!("system prompts are unsupported for model '{model}'"));
        }
        sent.insert("system".to_owned(), system.into());
    }
    sent.insert("messages".to_owned(), messages.0.into());
    let mut extra = match chat.body.shift_remove("additionalModelRequestFields") {
        Some(Value::Object(extra)) => extra,
        _ => Map::new(),
    };
    let budget = set_reasoning(&mut extra, &chat, model, without_thoughts);
    set_inference(&mut sent, &mut extra, &mut chat, model, budget);
    set_tools(&mut sent, &mut chat, called);
    if !extra.is_empty() {
        sent.insert("additionalModelRequestFields".to_owned(), extra.into());
    }
    if let Some(schema) = chat.schema.take() {
        let format = json!({"type": "json_schema", "structure": {"jsonSchema": {"schema": schema.schema.to_string()}}});
        sent.insert("outputConfig".to_owned(), json!({"textFormat": format}));
    }
    let own =
        OWN_MEMBERS.iter().filter_map(|name| Some(((*name).to_owned(), chat.body.shift_remove(*name)?)));
    sent.extend(own.collect::<Vec<_>>());
    if let Some(latency) = latency.filter(|latency| !latency.is_empty()) {
        sent.insert("performanceConfig".to_owned(), json!({"latency": latency}));
    }
    // Kong always sends it; models of others do not mind.
    sent.insert("anthropic_version".to_owned(), anthropic_version.unwrap_or("bedrock-2023-05-31").into());
    chat.add_extras(&mut sent, rules);
    Ok(to_bytes(&sent))
}

/// The client's own request, of which only what the route decides is changed.
pub(crate) fn passed(call: &Call<'_>, rules: &Rules<'_>) -> Vec<u8> {
    let options = rules.options;
    let decided: Vec<(&str, Option<&str>)> = [
        ("maxTokens", options.max_tokens.as_deref()),
        ("temperature", options.temperature.as_deref()),
        ("topP", options.top_p.as_deref()),
    ]
    .into_iter()
    .filter(|(_, value)| value.is_some())
    .collect();
    if decided.is_empty() {
        return call.body.text().as_bytes().to_vec();
    }
    let own = call.body.get("inferenceConfig").and_then(|config| Object::parse(config.as_bytes()));
    let config = own.unwrap_or_default().edit(&decided);
    let config = String::from_utf8(config).unwrap_or_default();
    call.body.edit(&[("inferenceConfig", Some(&config))])
}

/// Messages whose roles must alternate.
#[derive(Default)]
struct Messages(Vec<Value>);

impl Messages {
    fn add(&mut self, role: &str, mut blocks: Vec<Value>) {
        if blocks.is_empty() {
            return;
        }
        if let Some(last) = self.0.last_mut().filter(|last| last["role"] == role)
            && let Some(before) = last["content"].as_array_mut()
        {
            return before.append(&mut blocks);
        }
        self.0.push(json!({"role": role, "content": blocks}));
    }
}

/// Lets the model think as hard as is asked, by the family it is of; returns the tokens that a Claude is given.
fn set_reasoning(
    extra: &mut Map<String, Value>,
    chat: &Chat,
    model: &str,
    without_thoughts: bool,
) -> Option<u64> {
    if model.contains("anthropic.") {
        let budget = chat.thinking_budget(without_thoughts)?;
        extra.insert("thinking".to_owned(), json!({"type": "enabled", "budget_tokens": budget}));
        return Some(budget);
    }
    let effort = chat.reasoning_effort.as_deref()?;
    if model.contains("amazon.nova-2") && ["low", "medium", "high"].contains(&effort) {
        extra.insert("reasoningConfig".to_owned(), json!({"type": "enabled", "maxReasoningEffort": effort}));
    } else if model.contains("openai.") {
        extra.insert("reasoning_effort".to_owned(), effort.into());
    }
    None
}

fn set_inference(
    sent: &mut Map<String, Value>,
    extra: &mut Map<String, Value>,
    chat: &mut Chat,
    model: &str,
    budget: Option<u64>,
) {
    // A Claude that thinks takes no sampling parameters, and more tokens than it may think with.
    let limit = chat.max_tokens.take().or_else(|| budget.map(|budget| (budget + 4096).into()));
    let sampling = |value: Option<Value>| value.filter(|_| budget.is_none());
    let stop = std::mem::take(&mut chat.stop);
    let mut config = Map::new();
    for (name, value) in [
        ("maxTokens", limit),
        ("temperature", sampling(chat.temperature.take())),
        ("topP", sampling(chat.top_p.take())),
        ("stopSequences", (!stop.is_empty()).then(|| stop.into())),
    ] {
        config.extend(value.map(|value| (name.to_owned(), value)));
    }
    if !config.is_empty() {
        sent.insert("inferenceConfig".to_owned(), config.into());
    }
    if let Some(top_k) = sampling(chat.top_k.take()) {
        match model.contains("amazon.nova") {
            true => extra.insert("inferenceConfig".to_owned(), json!({"topK": top_k})),
            false => extra.insert("top_k".to_owned(), top_k),
        };
    }
}

/// Tools, and which of them to call. Where calls stand in the conversation Bedrock wants tools, whatever the client
/// thinks of them.
fn set_tools(sent: &mut Map<String, Value>, chat: &mut Chat, called: Vec<String>) {
    let mut tools = Vec::new();
    if chat.choice != Some(Choice::None) || !called.is_empty() {
        for tool in std::mem::take(&mut chat.tools) {
            let cached = tool.cache.is_some();
            tools.push(spec(tool));
            tools.extend(cached.then(cache_point));
        }
    }
    if tools.is_empty() {
        let mut named: Vec<String> = Vec::new();
        for name in called {
            if !named.contains(&name) {
                named.push(name);
            }
        }
        let parameters = json!({"type": "object", "properties": {}});
        tools.extend(named.into_iter().map(|name| {
            spec(Tool { name, description: None, parameters: parameters.clone(), strict: None, cache: None })
        }));
    }
    if tools.is_empty() {
        return;
    }
    let choice = match &chat.choice {
        Some(Choice::Auto) => Some(json!({"auto": {}})),
        Some(Choice::Required) => Some(json!({"any": {}})),
        Some(Choice::Function(name)) => Some(json!({"tool": {"name": name}})),
        Some(Choice::None) | None => None,
    };
    let mut config = json!({"tools": tools});
    if let Some(choice) = choice {
        config["toolChoice"] = choice;
    }
    sent.insert("toolConfig".to_owned(), config);
}

fn spec(tool: Tool) -> Value {
    let mut spec = json!({"name": tool.name});
    if let Some(description) = tool.description {
        spec["description"] = description;
    }
    spec["inputSchema"] = json!({"json": tool.parameters});
    json!({"toolSpec": spec})
}

fn cache_point() -> Value {
    json!({"cachePoint": {"type": "default"}})
}

/// A result that is a JSON object says so.
fn result(block: Value) -> Value {
    let object =
        block["text"].as_str().and_then(|text| serde_json::from_str::<Map<String, Value>>(text).ok());
    object.map_or(block, |object| json!({"json": object}))
}

/// Parts as content blocks. Empty texts are refused by Bedrock, and left out.
fn blocks(parts: Vec<Part>) -> Result<Vec<Value>, String> {
    let mut blocks = Vec::with_capacity(parts.len());
    for part in parts {
        let cached = part.cache.is_some();
        blocks.push(match part.content {
            Content::Text(text) if text.trim().is_empty() => continue,
            Content::Text(text) => json!({"text": text}),
            Content::Image(source) => image(source)?,
            Content::File { name, source } => document(name, source, blocks.len())?,
            Content::Audio { .. } => return Err("Bedrock's Converse takes no audio".to_owned()),
            Content::Reasoning { text, signature: Some(signature) } => {
                json!({"reasoningContent": {"reasoningText": {"text": text, "signature": signature}}})
            }
            // Thoughts of others are refused.
            Content::Reasoning { signature: None, .. } => continue,
            Content::Redacted(data) => json!({"reasoningContent": {"redactedContent": data}}),
        });
        blocks.extend(cached.then(cache_point));
    }
    Ok(blocks)
}

fn image(source: Source) -> Result<Value, String> {
    let (format, source) = match source {
        Source::Data { media_type, data } => {
            let format = match media_type.as_str() {
                "image/png" => "png",
                "image/jpeg" | "image/jpg" => "jpeg",
                "image/gif" => "gif",
                "image/webp" => "webp",
                other => {
                    return Err(format!("Bedrock takes images of png, jpeg, gif and webp, not of {other}"));
                }
            };
            (format, json!({"bytes": data}))
        }
        Source::Url(url) if url.starts_with("s3://") => {
            let end = url.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
            let format = match end.as_str() {
                "jpeg" | "jpg" => "jpeg",
                "gif" => "gif",
                "webp" => "webp",
                _ => "png",
            };
            (format, json!({"s3Location": {"uri": url}}))
        }
        Source::Url(_) | Source::Id(_) => {
            return Err("Bedrock takes images as data URLs or from s3://, and fetches none".to_owned());
        }
    };
    Ok(json!({"image": {"format": format, "source": source}}))
}

fn document(name: Option<String>, source: Source, index: usize) -> Result<Value, String> {
    let (media_type, source) = match source {
        Source::Data { media_type, data } => (media_type, json!({"bytes": data})),
        Source::Url(url) if url.starts_with("s3://") => (String::new(), json!({"s3Location": {"uri": url}})),
        Source::Url(_) | Source::Id(_) => {
            return Err("Bedrock takes files as data URLs or from s3://, and fetches none".to_owned());
        }
    };
    let format = match media_type.as_str() {
        "application/pdf" | "" => "pdf",
        "text/csv" => "csv",
        "text/html" => "html",
        "text/plain" => "txt",
        "text/markdown" => "md",
        "application/msword" => "doc",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document" => "docx",
        "application/vnd.ms-excel" => "xls",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet" => "xlsx",
        other => return Err(format!("Bedrock takes no files of {other}")),
    };
    // Names are of letters, digits, single spaces, hyphens, parentheses and brackets.
    let allowed = |character: char| character.is_ascii_alphanumeric() || "-()[]".contains(character);
    let name: String = name
        .unwrap_or_else(|| format!("document-{index}"))
        .chars()
        .map(|character| if allowed(character) { character } else { '-' })
        .collect();
    Ok(json!({"document": {"format": format, "name": name, "source": source}}))
}
