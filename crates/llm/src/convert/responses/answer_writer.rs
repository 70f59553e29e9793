//! A whole response.

use serde_json::{Map, Value, json};

use super::items;
use crate::convert::answer::{Answer, Block, Choice, Finish, Image, Tokens};
use crate::provider::Asked;

/// A whole response.
pub(super) fn write(answer: Answer, asked: &Asked<'_>) -> Value {
    let model = answer.model.as_deref().unwrap_or(asked.model);
    let choice = answer.choices.into_iter().next().unwrap_or_default();
    let mut response = frame(asked, &id(asked), model);
    end(&mut response, &choice.finish, answer.tokens);
    response.insert("output".to_owned(), output(choice, asked));
    Value::Object(response)
}

pub(super) fn id(asked: &Asked<'_>) -> String {
    format!("resp_{}", asked.id)
}

/// A response that has not begun: what is asked, and nothing answered.
pub(super) fn frame(asked: &Asked<'_>, id: &str, model: &str) -> Map<String, Value> {
    let mut frame = Map::new();
    for (name, value) in [
        ("id", json!(id)),
        ("object", json!("response")),
        ("created_at", json!(asked.created)),
        ("status", json!("in_progress")),
        ("background", json!(false)),
        ("error", Value::Null),
        ("incomplete_details", Value::Null),
        ("instructions", Value::Null),
        ("max_output_tokens", Value::Null),
        ("metadata", json!({})),
        ("model", json!(model)),
        ("output", json!([])),
        ("parallel_tool_calls", json!(true)),
        ("previous_response_id", Value::Null),
        ("reasoning", json!({"effort": null, "summary": null})),
        ("store", json!(false)),
        ("temperature", json!(1.0)),
        ("text", json!({"format": {"type": "text"}})),
        ("tool_choice", json!("auto")),
        ("tools", json!([])),
        ("top_p", json!(1.0)),
        ("truncation", json!("disabled")),
        ("usage", Value::Null),
        ("user", Value::Null),
    ] {
        frame.insert(name.to_owned(), value);
    }
    for (name, value) in asked.kept {
        if !value.is_null() {
            frame.insert(name.clone(), value.clone());
        }
    }
    frame
}

/// Says how a response ended.
pub(super) fn end(response: &mut Map<String, Value>, finish: &Finish, tokens: Option<Tokens>) {
    let cut = match finish {
        Finish::Length => Some("max_output_tokens"),
        Finish::Filtered | Finish::Guardrail => Some("content_filter"),
        Finish::Stop | Finish::Sequence(_) | Finish::Calls | Finish::Other(_) => None,
    };
    let status = if cut.is_some() { "incomplete" } else { "completed" };
    response.insert("status".to_owned(), status.into());
    if let Some(reason) = cut {
        response.insert("incomplete_details".to_owned(), json!({"reason": reason}));
    }
    if let Some(tokens) = tokens {
        response.insert("usage".to_owned(), usage(tokens));
    }
}

/// What a response calls the error that it fails with: OpenAI lists what there can be.
pub(super) fn error_code(status: u16) -> &'static str {
    match status {
        429 => "rate_limit_exceeded",
        // Bedrock's models fail so: the request is not at fault.
        424 => "server_error",
        400..=499 => "invalid_prompt",
        _ => "server_error",
    }
}

fn usage(tokens: Tokens) -> Value {
    json!({
        "input_tokens": tokens.prompt,
        "input_tokens_details": {"cached_tokens": tokens.cached.unwrap_or(0)},
        "output_tokens": tokens.completion,
        "output_tokens_details": {"reasoning_tokens": tokens.reasoning.unwrap_or(0)},
        "total_tokens": tokens.prompt + tokens.completion,
    })
}

fn output(choice: Choice, asked: &Asked<'_>) -> Value {
    let mut items: Vec<Value> = Vec::new();
    for block in choice.blocks.into_iter().filter(Block::says) {
        let index = items.len();
        match block {
            Block::Text(text) => add_part(&mut items, asked, output_text(&text)),
            Block::Refusal(text) => add_part(&mut items, asked, refusal(&text)),
            Block::Reasoning { text, signature } => {
                items.push(items::reasoning(asked, index, &text, signature.as_deref()));
            }
            Block::Audio(_) => {}
            Block::Image(picture) => items.push(image(asked, index, picture)),
            Block::Redacted(data) => items.push(items::reasoning(asked, index, "", Some(&data))),
            Block::Call { id, name, arguments } => {
                items.push(call(asked, index, &id, &name, &arguments, "completed"));
            }
        }
    }
    items.into()
}

/// Texts that follow each other are parts of one message.
fn add_part(items: &mut Vec<Value>, asked: &Asked<'_>, part: Value) {
    if let Some(last) = items.last_mut().filter(|item| item["type"] == "message")
        && let Some(parts) = last["content"].as_array_mut()
    {
        return parts.push(part);
    }
    items.push(message(asked, items.len(), "completed", vec![part]));
}

pub(super) fn message(asked: &Asked<'_>, index: usize, status: &str, content: Vec<Value>) -> Value {
    json!({
        "id": format!("msg_{}_{index}", asked.id), "type": "message", "status": status, "role": "assistant",
        "content": content,
    })
}

pub(super) fn output_text(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}

pub(super) fn refusal(text: &str) -> Value {
    json!({"type": "refusal", "refusal": text})
}

/// A picture, as OpenAI's own tool gives it.
pub(super) fn image(asked: &Asked<'_>, index: usize, image: Image) -> Value {
    json!({
        "id": format!("ig_{}_{index}", asked.id), "type": "image_generation_call", "status": "completed",
        "output_format": image.media_type.strip_prefix("image/"), "result": image.data,
    })
}

/// A call of a function, or of a tool that takes a text.
pub(super) fn call(
    asked: &Asked<'_>,
    index: usize,
    call_id: &str,
    name: &str,
    arguments: &str,
    status: &str,
) -> Value {
    match items::takes_text(asked, name) {
        true => json!({
            "id": format!("ctc_{}_{index}", asked.id), "type": "custom_tool_call", "status": status,
            "call_id": call_id, "name": name,
            "input": if arguments.is_empty() { String::new() } else { items::input(arguments) },
        }),
        false => json!({
            "id": format!("fc_{}_{index}", asked.id), "type": "function_call", "status": status,
            "call_id": call_id, "name": name, "arguments": arguments,
        }),
    }
}
