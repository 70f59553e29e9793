//! Requests to Cohere's Chat (version 2), read.

use serde_json::{Map, Value};

use crate::convert::chat::{Chat, Choice, Schema};
use crate::convert::openai::request_reader;

/// Reads a request. Its messages and tools are written as OpenAI's are.
///
/// # Errors
/// What cannot be understood, and where.
pub(super) fn read(mut body: Map<String, Value>) -> Result<Chat, String> {
    if let Some(Value::Array(messages)) = body.get_mut("messages") {
        messages.iter_mut().for_each(rewrite);
    }
    let mut take = |name: &str| body.shift_remove(name).filter(|value| !value.is_null());
    let (top_p, top_k, stop, thinking) = (take("p"), take("k"), take("stop_sequences"), take("thinking"));
    let format = take("response_format");
    let choice = take("tool_choice");
    take("strict_tools");
    let mut chat = request_reader::read(body)?;
    chat.top_p = top_p;
    chat.top_k = top_k;
    chat.stop = match stop {
        Some(Value::Array(stop)) => stop,
        _ => Vec::new(),
    };
    chat.choice = match choice.as_ref().and_then(Value::as_str) {
        Some("REQUIRED") => Some(Choice::Required),
        Some("NONE") => Some(Choice::None),
        _ => None,
    };
    if let Some(mut format) = format.filter(|format| format["type"] == "json_object") {
        let schema = ["json_schema", "schema"]
            .into_iter()
            .find_map(|name| format.get_mut(name).map(Value::take).filter(Value::is_object));
        chat.json = schema.is_none();
        chat.schema = schema.map(|schema| Schema { name: None, schema, strict: None });
    }
    if let Some(thinking) = thinking {
        match (thinking["type"].as_str(), thinking["token_budget"].as_u64()) {
            (Some("disabled"), _) => chat.reasoning_effort = Some("none".to_owned()),
            (_, Some(budget)) => chat.budget = Some(budget),
            _ => chat.reasoning_effort = Some("medium".to_owned()),
        }
    }
    Ok(chat)
}

/// What a message says in words of Cohere's own.
fn rewrite(message: &mut Value) {
    let plan = message.get_mut("tool_plan").map(Value::take).filter(Value::is_string);
    if let (Some(plan), true) = (plan, message["content"].is_null()) {
        message["content"] = plan;
    }
    let Some(parts) = message.get_mut("content").and_then(Value::as_array_mut) else { return };
    parts.retain(|part| part["type"] != "thinking");
    for part in parts {
        if part["type"] == "document" {
            let data = &part["document"]["data"];
            let text = data.as_str().map_or_else(|| data.to_string(), str::to_owned);
            *part = serde_json::json!({"type": "text", "text": text});
        }
    }
}
