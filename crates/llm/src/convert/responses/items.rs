//! The items of a response that are more than a text or a function's call, both ways: tools that take a text, and
//! the model's thoughts.

use serde_json::{Map, Value, json};

use crate::convert::chat::Content;
use crate::provider::Asked;

/// What the ids of thoughts begin with that are another provider's: only these can be sent to it again.
const THOUGHTS: &str = "rs_tollgate_";

/// The one parameter of a function that stands for a tool that takes a text.
const INPUT: &str = "input";

/// What the model is told of a tool that takes a text: its description, and the grammar of the text.
pub(super) fn description(tool: &Value) -> String {
    let told = tool["description"].as_str().unwrap_or_default();
    match (tool["format"]["syntax"].as_str(), tool["format"]["definition"].as_str()) {
        (Some(syntax), Some(definition)) => {
            format!("{told}\n\nThe input follows this grammar ({syntax}):\n{definition}")
        }
        _ => told.to_owned(),
    }
}

pub(super) fn parameters() -> Value {
    json!({"type": "object", "properties": {INPUT: {"type": "string"}}, "required": [INPUT]})
}

pub(super) fn arguments(input: String) -> Map<String, Value> {
    [(INPUT.to_owned(), input.into())].into_iter().collect()
}

/// The text that a function's arguments stand for.
pub(super) fn input(arguments: &str) -> String {
    let given: Value = serde_json::from_str(arguments).unwrap_or_default();
    given[INPUT].as_str().map_or_else(|| arguments.to_owned(), str::to_owned)
}

/// Whether the client knows this tool as one that takes a text.
pub(super) fn takes_text(asked: &Asked<'_>, name: &str) -> bool {
    let tools = asked.kept.get("tools").and_then(Value::as_array);
    tools.into_iter().flatten().any(|tool| tool["type"] == "custom" && tool["name"] == name)
}

/// Thoughts as an item.
pub(super) fn reasoning(asked: &Asked<'_>, index: usize, text: &str, secret: Option<&str>) -> Value {
    let summary: Vec<Value> =
        (!text.is_empty()).then(|| json!({"type": "summary_text", "text": text})).into_iter().collect();
    json!({
        "id": reasoning_id(asked.id, index), "type": "reasoning", "summary": summary,
        "encrypted_content": secret,
    })
}

pub(super) fn reasoning_id(id: &str, index: usize) -> String {
    format!("{THOUGHTS}{id}_{index}")
}

/// The thoughts of an item, where they can be sent again.
pub(super) fn thoughts(item: &Value) -> Option<Content> {
    let secret = item["encrypted_content"].as_str().filter(|secret| !secret.is_empty())?.to_owned();
    if !item["id"].as_str().is_some_and(|id| id.starts_with(THOUGHTS)) {
        return None;
    }
    let summary = item["summary"].as_array().into_iter().flatten();
    let text: Vec<&str> = summary.filter_map(|part| part["text"].as_str()).collect();
    Some(match text.is_empty() {
        true => Content::Redacted(secret),
        false => Content::Reasoning { text: text.join(""), signature: Some(secret) },
    })
}
