//! Chats written as Cohere's Chat takes them (version 2), text completions, and texts to be embedded.

use serde_json::{Map, Value, json};

use crate::convert::chat::{Chat, Choice, Content, Part, Source, Turn};
use crate::convert::embeddings::Embeddings;
use crate::convert::openai::completion::Completion;
use crate::convert::openai::request_writer::tool;
use crate::request::{Call, Rules};

/// A chat.
///
/// # Errors
/// What cannot be said in Cohere's format.
pub(crate) fn chat(call: &Call<'_>, rules: &Rules<'_>) -> Result<Value, String> {
    let mut chat = Chat::read(call, rules)?.for_one_text()?;
    let mut sent = Map::new();
    sent.insert("model".to_owned(), call.model.as_deref().unwrap_or_default().into());
    let turns = std::mem::take(&mut chat.turns).into_iter().map(message);
    sent.insert("messages".to_owned(), turns.collect::<Result<_, _>>()?);
    set_tools(&mut sent, &mut chat);
    let stop = std::mem::take(&mut chat.stop);
    let format = match chat.schema.take() {
        Some(schema) => Some(json!({"type": "json_object", "json_schema": schema.schema})),
        None => chat.json.then(|| json!({"type": "json_object"})),
    };
    for (name, value) in [
        ("response_format", format),
        ("max_tokens", chat.max_tokens.take()),
        ("temperature", chat.temperature.take()),
        ("p", chat.top_p.take()),
        ("k", chat.top_k.take()),
        ("stop_sequences", (!stop.is_empty()).then(|| stop.into())),
        ("seed", chat.seed.take()),
        ("frequency_penalty", chat.frequency_penalty.take()),
        ("presence_penalty", chat.presence_penalty.take()),
        ("logprobs", chat.logprobs.take()),
        ("thinking", thinking(&chat)),
        ("safety_mode", chat.body.shift_remove("safety_mode")),
        ("documents", chat.body.shift_remove("documents")),
        ("citation_options", chat.body.shift_remove("citation_options")),
    ] {
        sent.extend(value.map(|value| (name.to_owned(), value)));
    }
    chat.add_extras(&mut sent, rules);
    sent.insert("stream".to_owned(), call.stream.into());
    Ok(sent.into())
}

/// A text completion.
///
/// # Errors
/// A prompt that is not one text.
pub(crate) fn completion(call: &Call<'_>, rules: &Rules<'_>) -> Result<Value, String> {
    let asked = Completion::read(call)?;
    let options = rules.options;
    let mut sent = Map::new();
    sent.insert("model".to_owned(), call.model.as_deref().unwrap_or_default().into());
    sent.insert("prompt".to_owned(), asked.prompt()?.into());
    for (name, value) in [
        ("max_tokens", asked.option(&options.max_tokens, "max_tokens")),
        ("temperature", asked.option(&options.temperature, "temperature")),
        ("p", asked.option(&options.top_p, "top_p")),
        ("k", asked.option(&options.top_k, "top_k")),
        ("stop_sequences", asked.stop()),
        ("seed", asked.own("seed")),
        ("frequency_penalty", asked.own("frequency_penalty")),
        ("presence_penalty", asked.own("presence_penalty")),
        ("num_generations", asked.own("n")),
        ("stream", Some(call.stream.into())),
    ] {
        sent.extend(value.map(|value| (name.to_owned(), value)));
    }
    if let Some(auth) = rules.auth {
        sent.insert(auth.name.to_owned(), auth.value.into());
    }
    Ok(sent.into())
}

/// Texts to be embedded; `input_type` says what for.
pub(crate) fn embeddings(asked: Embeddings, model: &str, input_type: &str) -> Value {
    let mut sent = Map::new();
    for (name, value) in [
        ("model", Some(model.into())),
        ("texts", Some(asked.texts.into())),
        ("input_type", Some(input_type.into())),
        ("embedding_types", Some(json!(["float"]))),
        ("output_dimension", asked.dimensions),
    ] {
        sent.extend(value.map(|value| (name.to_owned(), value)));
    }
    sent.extend(asked.extra);
    sent.into()
}

fn thinking(chat: &Chat) -> Option<Value> {
    match (chat.budget, chat.reasoning_effort.as_deref()) {
        (Some(budget), _) => Some(json!({"type": "enabled", "token_budget": budget})),
        (None, Some("none")) => Some(json!({"type": "disabled"})),
        (None, Some(_)) => Some(json!({"type": "enabled"})),
        (None, None) => None,
    }
}

/// No single function can be demanded; but where it is the only one, it is.
fn set_tools(sent: &mut Map<String, Value>, chat: &mut Chat) {
    let mut tools = std::mem::take(&mut chat.tools);
    if let Some(Choice::Function(name)) = &chat.choice {
        tools.retain(|tool| tool.name == *name);
    }
    if tools.is_empty() {
        return;
    }
    let strict = tools.iter().any(|tool| tool.strict == Some(true.into()));
    let tools = tools.into_iter().map(|mut function| {
        function.strict = None;
        tool(function)
    });
    sent.insert("tools".to_owned(), tools.collect());
    if strict {
        sent.insert("strict_tools".to_owned(), true.into());
    }
    match chat.choice {
        Some(Choice::Required | Choice::Function(_)) => {
            drop(sent.insert("tool_choice".to_owned(), "REQUIRED".into()))
        }
        Some(Choice::None) => drop(sent.insert("tool_choice".to_owned(), "NONE".into())),
        Some(Choice::Auto) | None => {}
    }
}

fn message(turn: Turn) -> Result<Value, String> {
    Ok(match turn {
        Turn::System(parts) => json!({"role": "system", "content": content(parts)?}),
        Turn::User(parts) => json!({"role": "user", "content": content(parts)?}),
        Turn::Assistant(parts, calls) if calls.is_empty() => {
            json!({"role": "assistant", "content": content(parts)?})
        }
        Turn::Assistant(parts, calls) => {
            let calls = calls.into_iter().map(|call| {
                let arguments = Value::Object(call.arguments).to_string();
                json!({"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}})
            });
            let mut message = json!({"role": "assistant", "tool_calls": calls.collect::<Vec<_>>()});
            // What is said beside calls is the plan of them.
            let plan = text(parts);
            if !plan.is_empty() {
                message["tool_plan"] = plan.into();
            }
            message
        }
        Turn::Tool(result) => {
            json!({"role": "tool", "tool_call_id": result.id, "content": text(result.parts)})
        }
    })
}

fn text(parts: Vec<Part>) -> String {
    let texts = parts.into_iter().filter_map(|part| match part.content {
        Content::Text(text) => Some(text),
        _ => None,
    });
    texts.collect::<Vec<_>>().join("\n")
}

/// Parts as content: a lone text stays a text.
fn content(parts: Vec<Part>) -> Result<Value, String> {
    let mut written = Vec::with_capacity(parts.len());
    for part in parts {
        written.push(match part.content {
            Content::Text(text) => json!({"type": "text", "text": text}),
            Content::Image(Source::Data { media_type, data }) => {
                json!({"type": "image_url", "image_url": {"url": format!("data:{media_type};base64,{data}")}})
            }
            Content::Image(Source::Url(url)) => json!({"type": "image_url", "image_url": {"url": url}}),
            Content::Image(Source::Id(_)) => {
                return Err("an image that is stored at another provider cannot be sent on".to_owned());
            }
            Content::File { .. } => return Err("Cohere takes no files".to_owned()),
            Content::Audio { .. } => return Err("Cohere takes no audio".to_owned()),
            Content::Reasoning { .. } | Content::Redacted(_) => continue,
        });
    }
    Ok(match written.as_mut_slice() {
        [] => "".into(),
        [only] if only["type"] == "text" => only["text"].take(),
        _ => written.into(),
    })
}
