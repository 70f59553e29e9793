//! Chats written as Gemini's `generateContent` takes them, and texts to be embedded.

use serde_json::{Map, Value, json};

use super::schema;
use crate::convert::audio::Speech;
use crate::convert::chat::{Call as ToolCall, Chat, Choice, Content, Part, Source, Tool, ToolResult, Turn};
use crate::convert::embeddings::Embeddings;
use crate::convert::merge;
use crate::request::{Call, Rules};

/// What stands for the signature of a call that another provider's model made.
const NO_SIGNATURE: &str = "skip_thought_signature_validator";

/// Members of Gemini's own request that a client of another format may add to its.
pub(super) const OWN: [&str; 5] = ["cachedContent", "safetySettings", "labels", "toolConfig", "tool_config"];

/// Where Gemini's files are found by their names.
const FILES: &str = "https://generativelanguage.googleapis.com/v1beta/";

/// A chat. Vertex does not know ids of calls: there they are told apart by name and order.
///
/// # Errors
/// What cannot be said in Gemini's format.
pub(crate) fn chat(
    mut chat: Chat,
    call: &Call<'_>,
    rules: &Rules<'_>,
    vertex: bool,
) -> Result<Map<String, Value>, String> {
    let model = call.model.as_deref().unwrap_or_default();
    let Contents { system, contents, .. } = Contents::new(&mut chat, model, vertex)?;
    let mut sent = Map::new();
    if !system.is_empty() && model.starts_with("gemini-1.0") {
        return Err("system prompts aren't supported on gemini-1.0 models".to_owned());
    }
    // There must be something to answer.
    let (system, contents) = match contents.is_empty() {
        true => (Vec::new(), vec![json!({"role": "user", "parts": system})]),
        false => (system, contents),
    };
    sent.insert("contents".to_owned(), contents.into());
    if !system.is_empty() {
        sent.insert("systemInstruction".to_owned(), json!({"parts": system}));
    }
    set_tools(&mut sent, &mut chat)?;
    for name in OWN {
        sent.extend(chat.body.shift_remove(name).map(|value| (name.to_owned(), value)));
    }
    let mut generation = generation_config(&mut chat, model);
    if let Some(speech) = chat.speech.take() {
        speak(&mut generation, &speech, call.stream)?;
    }
    let mut extra = match chat.body.shift_remove("extra_body") {
        Some(Value::Object(extra)) => extra,
        _ => Map::new(),
    };
    for own in [chat.body.shift_remove("generationConfig"), extra.shift_remove("generationConfig")] {
        if let Some(Value::Object(own)) = own {
            merge(&mut generation, own);
        }
    }
    if !generation.is_empty() {
        sent.insert("generationConfig".to_owned(), generation.into());
    }
    sent.extend(extra);
    chat.add_extras(&mut sent, rules);
    Ok(sent)
}

/// Texts to be embedded, as AI Studio takes them.
pub(crate) fn embeddings(asked: Embeddings, model: &str) -> Value {
    let request = |text: String| {
        let mut request = json!({"model": format!("models/{model}"), "content": {"parts": [{"text": text}]}});
        if let Some(dimensions) = &asked.dimensions {
            request["outputDimensionality"] = dimensions.clone();
        }
        request
    };
    let mut sent = Map::new();
    sent.insert("requests".to_owned(), asked.texts.into_iter().map(request).collect());
    sent.extend(asked.extra);
    sent.into()
}

/// Texts to be embedded, as Vertex takes them.
pub(crate) fn predictions(asked: Embeddings) -> Value {
    let mut sent = Map::new();
    sent.insert(
        "instances".to_owned(),
        asked.texts.into_iter().map(|text| json!({"content": text})).collect(),
    );
    if let Some(dimensions) = asked.dimensions {
        sent.insert("parameters".to_owned(), json!({"outputDimensionality": dimensions}));
    }
    sent.extend(asked.extra);
    sent.into()
}

/// Asks for a spoken answer: Gemini's models that speak do nothing else.
///
/// # Errors
/// A format that the answer would have to be compressed to, or a stream that begins with the length of all.
fn speak(generation: &mut Map<String, Value>, speech: &Speech, stream: bool) -> Result<(), String> {
    match speech.format.as_deref() {
        None | Some("pcm16") => {}
        Some("wav") if !stream => {}
        Some("wav") => return Err("audio.format must be pcm16 where the answer is streamed".to_owned()),
        Some(other) => return Err(format!("audio.format is '{other}', and Gemini speaks as pcm16 or wav")),
    }
    generation.insert("responseModalities".to_owned(), json!(["AUDIO"]));
    if let Some(voice) = &speech.voice {
        let voice = json!({"voiceConfig": {"prebuiltVoiceConfig": {"voiceName": voice}}});
        generation.insert("speechConfig".to_owned(), voice);
    }
    Ok(())
}

fn generation_config(chat: &mut Chat, model: &str) -> Map<String, Value> {
    let stop = std::mem::take(&mut chat.stop);
    let schema = chat.schema.take();
    let is_json = schema.is_some() || chat.json;
    let mut config = Map::new();
    for (name, value) in [
        ("maxOutputTokens", chat.max_tokens.take()),
        ("temperature", chat.temperature.take()),
        ("topP", chat.top_p.take()),
        ("topK", chat.top_k.take()),
        ("stopSequences", (!stop.is_empty()).then(|| stop.into())),
        ("candidateCount", chat.count.take()),
        ("seed", chat.seed.take()),
        ("presencePenalty", chat.presence_penalty.take()),
        ("frequencyPenalty", chat.frequency_penalty.take()),
        ("responseLogprobs", chat.logprobs.take()),
        ("logprobs", chat.top_logprobs.take()),
        ("responseMimeType", is_json.then(|| "application/json".into())),
        ("responseSchema", schema.map(|schema| schema::cleaned(&schema.schema))),
        ("thinkingConfig", thinking(chat, model)),
        ("responseModalities", modalities(chat)),
    ] {
        config.extend(value.map(|value| (name.to_owned(), value)));
    }
    config
}

/// What the answer may be of, where pictures are wanted.
fn modalities(chat: &mut Chat) -> Option<Value> {
    let asked = chat.body.shift_remove("modalities")?;
    let words: Vec<&str> = asked.as_array()?.iter().filter_map(Value::as_str).collect();
    words.contains(&"image").then(|| words.iter().map(|word| word.to_ascii_uppercase()).collect())
}

/// How hard the model is to think: in words for Gemini 3 and later, in tokens for those before it. `None` where
/// nobody says, or the model does not think.
fn thinking(chat: &Chat, model: &str) -> Option<Value> {
    if ["gemini-1", "gemini-2.0", "gemma"].iter().any(|start| model.starts_with(start)) {
        return None;
    }
    if let Some(budget) = chat.budget {
        return Some(json!({"thinkingBudget": budget, "includeThoughts": budget > 0}));
    }
    let effort = chat.reasoning_effort.as_deref()?;
    let thinks = effort != "none";
    if generation(model) < Some(3) {
        let budget = match effort {
            "none" => 0,
            "minimal" | "low" => 1024,
            "medium" => 8192,
            "high" | "xhigh" | "max" => 24_576,
            _ => return None,
        };
        // Its larger model cannot but think.
        let budget = if model.starts_with("gemini-2.5-pro") { budget.max(128) } else { budget };
        return Some(json!({"thinkingBudget": budget, "includeThoughts": thinks}));
    }
    let has_two_levels = model.starts_with("gemini-3-pro");
    let level = match effort {
        "none" | "minimal" if model.contains("flash") => "minimal",
        "none" | "minimal" | "low" => "low",
        "medium" if !has_two_levels => "medium",
        "medium" | "high" | "xhigh" | "max" => "high",
        _ => return None,
    };
    Some(json!({"thinkingLevel": level, "includeThoughts": thinks}))
}

/// The first number of a model's name.
fn generation(model: &str) -> Option<u32> {
    model.strip_prefix("gemini-")?.chars().next()?.to_digit(10)
}

fn set_tools(sent: &mut Map<String, Value>, chat: &mut Chat) -> Result<(), String> {
    let mut tools = Vec::new();
    let functions: Vec<Value> = std::mem::take(&mut chat.tools).into_iter().map(function).collect();
    let has_functions = !functions.is_empty();
    if has_functions {
        tools.push(json!({"functionDeclarations": functions}));
    }
    for own in std::mem::take(&mut chat.own_tools) {
        tools.push(own_tool(&own)?);
    }
    if tools.is_empty() {
        return Ok(());
    }
    sent.insert("tools".to_owned(), tools.into());
    let config = match chat.choice.as_ref().filter(|_| has_functions) {
        Some(Choice::Auto) => json!({"mode": "AUTO"}),
        Some(Choice::None) => json!({"mode": "NONE"}),
        Some(Choice::Required) => json!({"mode": "ANY"}),
        Some(Choice::Function(name)) => json!({"mode": "ANY", "allowedFunctionNames": [name]}),
        None => return Ok(()),
    };
    sent.insert("toolConfig".to_owned(), json!({"functionCallingConfig": config}));
    Ok(())
}

fn function(tool: Tool) -> Value {
    let mut function = json!({"name": tool.name});
    if let Some(description) = tool.description {
        function["description"] = description;
    }
    let parameters = schema::cleaned(&tool.parameters);
    // An object without properties is refused; a function without parameters is not.
    if parameters.get("properties").is_some() {
        function["parameters"] = parameters;
    }
    function
}

/// A tool of the provider's own, by the names that OpenAI and Anthropic give it.
fn own_tool(tool: &Value) -> Result<Value, String> {
    let kind = tool["type"].as_str().unwrap_or_default();
    if kind.starts_with("web_search") {
        return Ok(json!({"googleSearch": {}}));
    }
    if kind.starts_with("code_interpreter") || kind.starts_with("code_execution") {
        return Ok(json!({"codeExecution": {}}));
    }
    Err(format!("Gemini has no tool of the type '{kind}'"))
}

/// What is said, turn by turn.
struct Contents {
    system: Vec<Value>,
    contents: Vec<Value>,
    /// Results name the function that gave them.
    called: Vec<(String, String)>,
    has_ids: bool,
}

impl Contents {
    fn new(chat: &mut Chat, model: &str, vertex: bool) -> Result<Self, String> {
        let mut all = Self { system: Vec::new(), contents: Vec::new(), called: Vec::new(), has_ids: !vertex };
        for turn in std::mem::take(&mut chat.turns) {
            match turn {
                Turn::System(said) => all.system.extend(parts(said)?),
                Turn::User(said) => {
                    let parts = parts(said)?;
                    all.add("user", parts);
                }
                Turn::Assistant(said, calls) => {
                    let mut parts = parts(said)?;
                    for (index, call) in calls.into_iter().enumerate() {
                        all.called.push((call.id.clone(), call.name.clone()));
                        let signature = chat.signatures.get(&call.id).cloned();
                        // Gemini 3 refuses a round of calls without one.
                        let needs_one = index == 0 && generation(model) >= Some(3);
                        let signature = signature.or_else(|| needs_one.then(|| NO_SIGNATURE.to_owned()));
                        parts.push(all.function_call(call, signature));
                    }
                    all.add("model", parts);
                }
                Turn::Tool(result) => all.add_result(result)?,
            }
        }
        Ok(all)
    }

    /// Adds a turn; one that says nothing is refused, and left out.
    fn add(&mut self, role: &str, parts: Vec<Value>) {
        if !parts.is_empty() {
            self.contents.push(json!({"role": role, "parts": parts}));
        }
    }

    /// Results of one round of calls belong into one turn.
    fn add_result(&mut self, result: ToolResult) -> Result<(), String> {
        let name = self.called.iter().rev().find(|(id, _)| *id == result.id).map(|(_, name)| name.clone());
        let name =
            name.ok_or_else(|| format!("no tool call before it has the id '{}' of a result", result.id))?;
        let mut more = Vec::new();
        let mut texts = Vec::new();
        for part in result.parts {
            match part.content {
                Content::Text(text) => texts.push(text),
                _ => more.extend(parts(vec![part])?),
            }
        }
        let text = texts.join("\n");
        let response = match serde_json::from_str(&text) {
            Ok(Value::Object(object)) if !result.failed => Value::Object(object),
            _ if result.failed => json!({"error": text}),
            Ok(value @ (Value::Array(_) | Value::Number(_) | Value::Bool(_))) => json!({"result": value}),
            _ => json!({"result": text}),
        };
        let mut answer = json!({"name": name, "response": response});
        if self.has_ids {
            answer["id"] = result.id.into();
        }
        let mut written = vec![json!({"functionResponse": answer})];
        written.append(&mut more);
        if let Some(last) = self.contents.last_mut()
            && let Some(has) = last["parts"].as_array_mut()
            && has.iter().any(|part| part.get("functionResponse").is_some())
        {
            has.append(&mut written);
            return Ok(());
        }
        self.add("user", written);
        Ok(())
    }

    fn function_call(&self, call: ToolCall, signature: Option<String>) -> Value {
        let mut part = json!({"functionCall": {"name": call.name, "args": call.arguments}});
        if self.has_ids {
            part["functionCall"]["id"] = call.id.into();
        }
        if let Some(signature) = signature {
            part["thoughtSignature"] = signature.into();
        }
        part
    }
}

fn parts(parts: Vec<Part>) -> Result<Vec<Value>, String> {
    let mut written = Vec::with_capacity(parts.len());
    for part in parts {
        written.push(match part.content {
            Content::Text(text) if text.is_empty() => continue,
            Content::Text(text) => json!({"text": text}),
            Content::Image(source) => data(source, "image/generic"),
            Content::File { source, .. } => data(source, "application/pdf"),
            Content::Audio { format, data } => {
                json!({"inlineData": {"mimeType": format!("audio/{format}"), "data": data}})
            }
            // Thoughts are not told again.
            Content::Reasoning { .. } | Content::Redacted(_) => continue,
        });
    }
    Ok(written)
}

/// Data, or where it is found: of what kind it is, is said by the ending of its name.
pub(super) fn data(source: Source, otherwise: &str) -> Value {
    match source {
        Source::Data { media_type, data } => json!({"inlineData": {"mimeType": media_type, "data": data}}),
        Source::Url(url) => {
            let media_type = media_type_of(&url).unwrap_or(otherwise);
            json!({"fileData": {"mimeType": media_type, "fileUri": url}})
        }
        Source::Id(id) if id.starts_with("files/") => {
            json!({"fileData": {"fileUri": format!("{FILES}{id}")}})
        }
        Source::Id(id) => json!({"fileData": {"fileUri": id}}),
    }
}

fn media_type_of(url: &str) -> Option<&'static str> {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let (_, ending) = path.rsplit('/').next()?.rsplit_once('.')?;
    Some(match ending.to_ascii_lowercase().as_str() {
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "heic" => "image/heic",
        "heif" => "image/heif",
        "gif" => "image/gif",
        "pdf" => "application/pdf",
        "txt" => "text/plain",
        "csv" => "text/csv",
        "html" => "text/html",
        "mp3" => "audio/mp3",
        "wav" => "audio/wav",
        "flac" => "audio/flac",
        "mp4" => "video/mp4",
        "mov" => "video/mov",
        "webm" => "video/webm",
        _ => return None,
    })
}
