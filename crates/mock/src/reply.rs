//! What the mock says, whatever the protocol it is said in.

use serde_json::{Value, json};
use tollgate_http::RequestHead;

use crate::Wishes;

/// What the mock says.
pub(crate) struct Reply<'a> {
    pub(crate) request: &'a Value,
    pub(crate) chat: bool,
    pub(crate) words: Vec<String>,
    pub(crate) calls: Vec<Value>,
    pub(crate) prompt_tokens: usize,
}

impl<'a> Reply<'a> {
    /// A reply to a request that is written as OpenAI's API takes it.
    pub(crate) fn new(
        head: &RequestHead,
        request: &'a Value,
        body: &[u8],
        chat: bool,
        wishes: &Wishes,
    ) -> Self {
        let question = last_question(request);
        let text = if wishes.echo {
            let headers: serde_json::Map<String, Value> = head
                .headers
                .iter()
                .map(|(name, value)| {
                    (
                        String::from_utf8_lossy(name).to_ascii_lowercase(),
                        String::from_utf8_lossy(value).into(),
                    )
                })
                .collect();
            let target = String::from_utf8_lossy(&head.target).into_owned();
            json!({"method": head.method.as_str(), "target": target, "headers": headers, "body": String::from_utf8_lossy(body)}).to_string()
        } else {
            format!("This is Tollgate's mock LLM, not a real model. You asked: {question}")
        };
        let mut words: Vec<String> = match wishes.echo {
            true => vec![text],
            false => text.split_inclusive(' ').map(str::to_owned).collect(),
        };
        if let Some(tokens) = wishes.tokens {
            words = (0..tokens).map(|number| format!("word{number} ")).collect();
        }
        let limit = request["max_tokens"].as_u64().or(request["max_completion_tokens"].as_u64());
        if let Some(limit) = limit {
            words.truncate(limit.max(1) as usize);
        }
        let prompt_tokens = body.len().div_ceil(4);
        Self { request, chat, words, calls: tool_calls(request, &question), prompt_tokens }
    }

    pub(crate) fn finish_reason(&self) -> &'static str {
        let limit = self.request["max_tokens"].as_u64().or(self.request["max_completion_tokens"].as_u64());
        if !self.calls.is_empty() {
            "tool_calls"
        } else if limit.is_some_and(|limit| limit as usize == self.words.len()) {
            "length"
        } else {
            "stop"
        }
    }
}

/// The text of the last message, or the prompt.
fn last_question(request: &Value) -> String {
    let content = match request["messages"].as_array().and_then(|messages| messages.last()) {
        Some(message) => &message["content"],
        None => &request["prompt"],
    };
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    }
}

/// Calls of the tools that the request demands, or whose names the question holds.
fn tool_calls(request: &Value, question: &str) -> Vec<Value> {
    let answered = request["messages"]
        .as_array()
        .and_then(|messages| messages.last())
        .is_some_and(|last| last["role"] == "tool");
    let names: Vec<&str> = request["tools"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|tool| tool["function"]["name"].as_str())
        .collect();
    let chosen = request["tool_choice"]["function"]["name"].as_str();
    let wanted = names.iter().enumerate().filter(|(index, name)| {
        let demanded = chosen == Some(**name) || *index == 0 && request["tool_choice"] == "required";
        demanded || question.contains(**name) && request["tool_choice"] != "none"
    });
    if answered {
        return Vec::new();
    }
    wanted
        .map(|(index, name)| json!({"id": format!("call_mock_{index}"), "type": "function", "function": {"name": name, "arguments": "{\"mock\":true}"}}))
        .collect()
}
