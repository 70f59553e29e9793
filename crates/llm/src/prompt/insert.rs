//! Messages put into a request, before and behind those that are there. Every other byte of it stays.

use serde_json::{Value, json};

use crate::Format;
use crate::json::Object;

/// Messages to put into requests of a format, written ahead of time.
#[derive(Debug)]
pub struct Insertion {
    format: Format,
    before: Written,
    behind: Written,
}

/// Messages as elements of JSON lists, with commas between them.
#[derive(Debug, Default)]
struct Written {
    /// Of the list of messages.
    messages: String,
    /// Of the list of instructions, in formats that keep them apart.
    system: String,
}

/// Roles and texts.
type Messages<'a> = &'a [(String, String)];

impl Insertion {
    /// Messages by role (`system`, `user`, `assistant`) and text.
    pub fn new(format: Format, before: Messages<'_>, behind: Messages<'_>) -> Self {
        Self { format, before: Written::new(format, before), behind: Written::new(format, behind) }
    }

    /// The request with the messages in it; `None` where it holds no chat.
    pub fn apply(&self, body: &Object<'_>) -> Option<Vec<u8>> {
        let list = if self.format == Format::Gemini { "contents" } else { "messages" };
        let messages = elements(body.get(list)?).filter(|messages| !messages.is_empty())?;
        let messages = joined(&[&self.before.messages, messages, &self.behind.messages]);
        let Some((name, system)) = self.system(body) else {
            return Some(body.edit(&[(list, Some(&messages))]));
        };
        Some(body.edit(&[(name, Some(&system)), (list, Some(&messages))]))
    }

    /// The member of the instructions, where any are put in.
    fn system(&self, body: &Object<'_>) -> Option<(&'static str, String)> {
        if self.before.system.is_empty() && self.behind.system.is_empty() {
            return None;
        }
        let with = |present: &str| joined(&[&self.before.system, present, &self.behind.system]);
        if self.format != Format::Gemini {
            let present = body.get("system").unwrap_or("null");
            return Some((
                "system",
                match elements(present) {
                    Some(blocks) => with(blocks),
                    None if present.starts_with('"') => {
                        with(&format!("{{\"type\":\"text\",\"text\":{present}}}"))
                    }
                    None => with(""),
                },
            ));
        }
        let name = ["system_instruction", "systemInstruction"]
            .into_iter()
            .find(|name| body.get(name).is_some())
            .unwrap_or("systemInstruction");
        let present = body.get(name).and_then(|text| Object::parse(text.as_bytes())).unwrap_or_default();
        let parts = with(present.get("parts").and_then(elements).unwrap_or_default());
        let system = match present.text() {
            "" => format!("{{\"parts\":{parts}}}").into_bytes(),
            _ => present.edit(&[("parts", Some(&parts))]),
        };
        Some((name, String::from_utf8(system).ok()?))
    }
}

impl Written {
    fn new(format: Format, messages: Messages<'_>) -> Self {
        let mut written = Self::default();
        for (role, text) in messages {
            let (list, element) = match (format, role.as_str()) {
                (Format::OpenAi | Format::Responses | Format::HuggingFace | Format::Cohere, role) => {
                    (&mut written.messages, json!({"role": role, "content": text}))
                }
                (Format::Anthropic, "system") => (&mut written.system, json!({"type": "text", "text": text})),
                (Format::Anthropic, role) => (&mut written.messages, json!({"role": role, "content": text})),
                (Format::Bedrock | Format::Gemini, "system") => (&mut written.system, json!({"text": text})),
                (Format::Bedrock, role) => {
                    (&mut written.messages, json!({"role": role, "content": [{"text": text}]}))
                }
                (Format::Gemini, role) => {
                    let role = if role == "assistant" { "model" } else { role };
                    (&mut written.messages, json!({"role": role, "parts": [{"text": text}]}))
                }
            };
            add(list, &element);
        }
        written
    }
}

fn add(list: &mut String, element: &Value) {
    if !list.is_empty() {
        list.push(',');
    }
    list.push_str(&element.to_string());
}

/// What stands between the brackets of a list; `None` for what is no list.
fn elements(list: &str) -> Option<&str> {
    Some(list.strip_prefix('[')?.strip_suffix(']')?.trim_ascii())
}

/// A list of these elements.
fn joined(parts: &[&str]) -> String {
    let parts: Vec<&str> = parts.iter().copied().filter(|part| !part.is_empty()).collect();
    format!("[{}]", parts.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_in_each_format() {
        let cases: Vec<Value> =
            serde_json::from_str(include_str!("../../tests/prompts/inserted.json")).unwrap();
        for case in cases {
            let list = |name: &str| -> Vec<(String, String)> {
                serde_json::from_value(case[name].clone()).unwrap_or_default()
            };
            let format = Format::named(case["format"].as_str().unwrap()).unwrap();
            let insertion = Insertion::new(format, &list("before"), &list("behind"));
            let body = case["body"].as_str().unwrap();
            let written = insertion.apply(&Object::parse(body.as_bytes()).unwrap());
            let written = written.map(|body| String::from_utf8(body).unwrap());
            assert_eq!(written.as_deref(), case["becomes"].as_str(), "{body}");
        }
    }
}
