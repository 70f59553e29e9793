//! The prompt in a request's body, in the format that clients speak: what was said in it, by whom; and how messages
//! are put into it ([`Insertion`]).

mod insert;

use serde_json::Value;

use crate::Format;
use crate::json::Object;

pub use insert::Insertion;

/// What one message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Who says it: `user`, `assistant`, `system`, or another role as it stands there.
    pub role: String,
    /// Its text; that of several parts with spaces between them.
    pub text: String,
}

impl Said {
    fn new(role: &str, text: impl Into<String>) -> Self {
        Self { role: role.to_owned(), text: text.into() }
    }
}

/// All that is said in a request, oldest first; a prompt that is no message is the user's. `None` where there is
/// none, or a message is not written as it should be. Only texts count: a message without any says nothing.
pub fn said(format: Format, body: &Object<'_>) -> Option<Vec<Said>> {
    let value = |name: &str| -> Option<Value> { serde_json::from_str(body.get(name)?).ok() };
    let some = |name: &str| value(name).filter(|value| !value.is_null());
    match format {
        Format::OpenAi | Format::Responses | Format::HuggingFace => {
            if let Some(messages) = some("messages") {
                return messages.as_array()?.iter().map(message).collect();
            }
            let prompt = match format {
                Format::HuggingFace => some("inputs").or_else(|| some("prompt")),
                _ => some("prompt"),
            };
            if let Some(prompt) = prompt {
                return user_texts(&prompt);
            }
            let mut all = instructions(some("instructions"))?;
            all.extend(input(&some("input")?)?);
            Some(all)
        }
        Format::Anthropic | Format::Bedrock => {
            let mut all = instructions(some("system"))?;
            for message in some("messages")?.as_array()? {
                all.push(self::message(message)?);
            }
            Some(all)
        }
        Format::Gemini => {
            let system = some("systemInstruction").or_else(|| some("system_instruction"));
            let mut all = match system {
                Some(system) => vec![Said::new("system", text(system.get("parts"))?)],
                None => Vec::new(),
            };
            for content in some("contents")?.as_array()? {
                let role = match content.get("role").and_then(Value::as_str) {
                    Some("model") => "assistant",
                    Some(role) => role,
                    None => "user",
                };
                all.push(Said::new(role, text(content.get("parts"))?));
            }
            Some(all)
        }
        Format::Cohere => {
            if let Some(messages) = some("messages") {
                return messages.as_array()?.iter().map(message).collect();
            }
            let mut all = instructions(some("preamble"))?;
            for turn in some("chat_history").as_ref().and_then(Value::as_array).into_iter().flatten() {
                let role = match turn.get("role")?.as_str()? {
                    "USER" => "user",
                    "CHATBOT" => "assistant",
                    "SYSTEM" => "system",
                    other => other,
                };
                all.push(Said::new(role, text(turn.get("message"))?));
            }
            all.push(Said::new("user", some("message")?.as_str()?));
            Some(all)
        }
    }
}

/// A message with `role` and `content`.
fn message(message: &Value) -> Option<Said> {
    Some(Said::new(message.get("role")?.as_str()?, text(message.get("content"))?))
}

fn instructions(value: Option<Value>) -> Option<Vec<Said>> {
    match value {
        Some(value) => Some(vec![Said::new("system", text(Some(&value))?)]),
        None => Some(Vec::new()),
    }
}

/// Text as it is, or of a list of parts; parts of other kinds have none.
fn text(content: Option<&Value>) -> Option<String> {
    match content {
        None | Some(Value::Null) => Some(String::new()),
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Array(parts)) => {
            let texts = parts.iter().filter_map(|part| part.as_str().or_else(|| part.get("text")?.as_str()));
            Some(texts.collect::<Vec<_>>().join(" "))
        }
        Some(_) => None,
    }
}

/// A prompt, or a list of them (token numbers say nothing that could be read).
fn user_texts(prompt: &Value) -> Option<Vec<Said>> {
    match prompt {
        Value::String(text) => Some(vec![Said::new("user", text.as_str())]),
        Value::Array(prompts) => {
            prompts.iter().map(|prompt| Some(Said::new("user", prompt.as_str()?))).collect()
        }
        _ => None,
    }
}

/// `input` of embeddings and of OpenAI's Responses. Items that are no messages have no role, and say nothing.
fn input(input: &Value) -> Option<Vec<Said>> {
    let Value::Array(items) = input else { return user_texts(input) };
    let speaks = |item: &&Value| item.as_object().is_none_or(|item| item.contains_key("role"));
    let said = |item: &Value| match item {
        Value::String(text) => Some(Said::new("user", text.as_str())),
        item => message(item),
    };
    items.iter().filter(speaks).map(said).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_in_each_format() {
        let cases: Vec<Value> = serde_json::from_str(include_str!("../tests/prompts/said.json")).unwrap();
        for case in cases {
            let format = Format::named(case["format"].as_str().unwrap()).unwrap();
            let body = case["body"].to_string();
            let said = said(format, &Object::parse(body.as_bytes()).unwrap());
            let said =
                said.map(|all| all.into_iter().map(|said| vec![said.role, said.text]).collect::<Vec<_>>());
            assert_eq!(serde_json::json!(said), case["said"], "{body}");
        }
    }
}
