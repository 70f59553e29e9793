//! What traces tell of a call, in the terms of OpenTelemetry's conventions for generative AI: read of the request as it
//! was sent, and of an answer in OpenAI's format, which any answer can be had in.

use serde_json::{Value, json};

use crate::json::Object;
use crate::{Format, Operation, prompt};

/// What an operation is called; `None` for one that generates nothing.
pub fn operation_name(operation: Operation) -> Option<&'static str> {
    match operation {
        Operation::Chat | Operation::Responses => Some("chat"),
        Operation::Completions => Some("text_completion"),
        Operation::Embeddings => Some("embeddings"),
        Operation::Images
        | Operation::ImageEdits
        | Operation::Speech
        | Operation::Transcriptions
        | Operation::Translations
        | Operation::Realtime => Some("generate_content"),
        Operation::Assistants | Operation::Files | Operation::Batches | Operation::Preserve => None,
    }
}

/// What a request asks for.
#[derive(Debug, Default, PartialEq)]
pub struct Wanted {
    /// Most tokens of the answer.
    pub max_tokens: Option<u64>,
    /// How freely the model chooses.
    pub temperature: Option<f64>,
    /// `text`, `json`, `image` or `speech`.
    pub output_type: Option<&'static str>,
}

/// Where the formats have the most tokens of an answer.
const MAX_TOKENS: [&str; 8] = [
    "/max_tokens",
    "/max_completion_tokens",
    "/max_output_tokens",
    "/inferenceConfig/maxTokens",
    "/generationConfig/maxOutputTokens",
    "/options/num_predict",
    "/parameters/max_new_tokens",
    "/max_tokens_to_sample",
];
/// Where they have the temperature.
const TEMPERATURE: [&str; 5] = [
    "/temperature",
    "/inferenceConfig/temperature",
    "/generationConfig/temperature",
    "/options/temperature",
    "/parameters/temperature",
];
/// Where they have the form of the answer.
const OUTPUT_TYPE: [&str; 4] =
    ["/response_format/type", "/text/format/type", "/generationConfig/responseMimeType", "/format"];

impl Wanted {
    /// Of a request as it was sent.
    pub fn of(sent: &[u8], operation: Operation) -> Self {
        let body: Value = serde_json::from_slice(sent).unwrap_or_default();
        let first = |places: &[&str]| {
            places.iter().find_map(|place| body.pointer(place).filter(|value| !value.is_null()).cloned())
        };
        let is_json = || match first(&OUTPUT_TYPE) {
            Some(Value::String(kind)) => kind.contains("json"),
            // Ollama takes a schema itself.
            Some(Value::Object(_)) => true,
            _ => false,
        };
        let output_type = match operation {
            Operation::Chat | Operation::Responses | Operation::Completions => {
                Some(if is_json() { "json" } else { "text" })
            }
            Operation::Transcriptions | Operation::Translations => Some("text"),
            Operation::Images | Operation::ImageEdits => Some("image"),
            Operation::Speech | Operation::Realtime => Some("speech"),
            _ => None,
        };
        Self {
            max_tokens: first(&MAX_TOKENS).and_then(|count| count.as_u64()),
            temperature: first(&TEMPERATURE).and_then(|number| number.as_f64()),
            output_type,
        }
    }
}

/// The messages of a client's request; `None` where it has none. Only texts are told.
pub fn input_messages(format: Format, body: &[u8]) -> Option<Value> {
    let said = prompt::said(format, &Object::parse(body)?)?;
    let message =
        |said: prompt::Said| json!({"role": said.role, "parts": [{"type": "text", "content": said.text}]});
    Some(said.into_iter().map(message).collect())
}

/// What an answer says of itself.
#[derive(Debug, Default, PartialEq)]
pub struct Told {
    /// The provider's id of it.
    pub id: Option<String>,
    /// The model that answered.
    pub model: Option<String>,
    /// Why each choice ended, in OpenAI's terms.
    pub finish_reasons: Vec<String>,
    /// The tools that are called.
    pub calls: Vec<ToolCall>,
    /// The choices, as messages.
    pub messages: Vec<Value>,
}

/// A tool that an answer calls.
#[derive(Debug, PartialEq, Eq)]
pub struct ToolCall {
    /// The call's id.
    pub id: String,
    /// The tool's name.
    pub name: String,
}

impl Told {
    /// Of an answer in OpenAI's format: a chat completion, a completion, or a response.
    pub fn of(answer: &[u8]) -> Self {
        let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
        let text = |name: &str| answer.get(name).and_then(Value::as_str).map(str::to_owned);
        let mut told = Self { id: text("id"), model: text("model"), ..Self::default() };
        for choice in array(&answer, "choices") {
            told.take_choice(choice);
        }
        if let Some(output) = answer.get("output") {
            told.take_output(output, &answer);
        }
        told
    }

    fn take_choice(&mut self, choice: &Value) {
        let reason = choice.get("finish_reason").and_then(Value::as_str).unwrap_or_default();
        if !reason.is_empty() {
            self.finish_reasons.push(reason.to_owned());
        }
        let message = choice.get("message").unwrap_or(&Value::Null);
        let mut parts = Vec::new();
        let content = message.get("content").or_else(|| choice.get("text")).and_then(Value::as_str);
        parts.extend(content.map(text_part));
        for call in array(message, "tool_calls") {
            let function = call.get("function").unwrap_or(&Value::Null);
            parts.extend(self.take_call(call.get("id"), function));
        }
        self.messages.push(json!({"role": "assistant", "parts": parts, "finish_reason": reason}));
    }

    /// The items of a response.
    fn take_output(&mut self, output: &Value, answer: &Value) {
        let mut parts = Vec::new();
        for item in output.as_array().into_iter().flatten() {
            match item.get("type").and_then(Value::as_str) {
                Some("message") => {
                    let texts = array(item, "content").filter_map(|part| part.get("text")?.as_str());
                    parts.extend(texts.map(text_part));
                }
                Some("function_call") => parts.extend(self.take_call(item.get("call_id"), item)),
                _ => {}
            }
        }
        let reason = match answer.pointer("/incomplete_details/reason").and_then(Value::as_str) {
            Some("max_output_tokens") => "length",
            Some(other) => other,
            None if self.calls.is_empty() => "stop",
            None => "tool_calls",
        };
        self.finish_reasons.push(reason.to_owned());
        self.messages.push(json!({"role": "assistant", "parts": parts, "finish_reason": reason}));
    }

    fn take_call(&mut self, id: Option<&Value>, function: &Value) -> Option<Value> {
        let name = function.get("name")?.as_str()?;
        let id = id.and_then(Value::as_str).unwrap_or_default();
        let arguments = function.get("arguments").and_then(Value::as_str).unwrap_or_default();
        let arguments: Value = serde_json::from_str(arguments).unwrap_or_else(|_| arguments.into());
        self.calls.push(ToolCall { id: id.to_owned(), name: name.to_owned() });
        Some(json!({"type": "tool_call", "id": id, "name": name, "arguments": arguments}))
    }
}

fn array<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value.get(name).and_then(Value::as_array).into_iter().flatten()
}

fn text_part(text: &str) -> Value {
    json!({"type": "text", "content": text})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_requests_ask_for() {
        for (sent, max_tokens, temperature, output_type) in [
            (json!({"max_tokens": 5, "temperature": 0.5}), Some(5), Some(0.5), "text"),
            (
                json!({"max_completion_tokens": 6, "response_format": {"type": "json_schema"}}),
                Some(6),
                None,
                "json",
            ),
            (json!({"inferenceConfig": {"maxTokens": 7, "temperature": 1}}), Some(7), Some(1.0), "text"),
            (
                json!({"generationConfig": {"maxOutputTokens": 8, "responseMimeType": "application/json"}}),
                Some(8),
                None,
                "json",
            ),
            (json!({"options": {"num_predict": 9}, "format": {"type": "object"}}), Some(9), None, "json"),
        ] {
            let wanted = Wanted::of(sent.to_string().as_bytes(), Operation::Chat);
            assert_eq!(wanted, Wanted { max_tokens, temperature, output_type: Some(output_type) }, "{sent}");
        }
        assert_eq!(Wanted::of(b"\x00", Operation::Images).output_type, Some("image"));
    }

    #[test]
    fn what_answers_say() {
        let chat = json!({
            "id": "c", "model": "m", "choices": [
                {"finish_reason": "tool_calls", "message": {"content": "Hi", "tool_calls": [
                    {"id": "t", "function": {"name": "f", "arguments": "{\"a\":1}"}}
                ]}},
                {"finish_reason": "stop", "message": {"content": "Ho"}}
            ]
        });
        let told = Told::of(chat.to_string().as_bytes());
        assert_eq!((told.id.as_deref(), told.model.as_deref()), (Some("c"), Some("m")));
        assert_eq!(told.finish_reasons, ["tool_calls", "stop"]);
        assert_eq!(told.calls, [ToolCall { id: "t".into(), name: "f".into() }]);
        assert_eq!(
            told.messages[0],
            json!({"role": "assistant", "finish_reason": "tool_calls", "parts": [
                {"type": "text", "content": "Hi"},
                {"type": "tool_call", "id": "t", "name": "f", "arguments": {"a": 1}}
            ]})
        );
        let response = json!({
            "id": "r", "model": "m", "status": "incomplete",
            "incomplete_details": {"reason": "max_output_tokens"},
            "output": [
                {"type": "message", "content": [{"type": "output_text", "text": "Hi"}]},
                {"type": "function_call", "call_id": "t", "name": "f", "arguments": "{"}
            ]
        });
        let told = Told::of(response.to_string().as_bytes());
        assert_eq!(told.finish_reasons, ["length"]);
        assert_eq!(told.messages[0]["parts"][1]["arguments"], "{");
        let completion = json!({"choices": [{"text": "Hi", "finish_reason": "length"}]});
        assert_eq!(Told::of(completion.to_string().as_bytes()).finish_reasons, ["length"]);
        assert_eq!(Told::of(b"nonsense"), Told::default());
    }

    #[test]
    fn what_clients_say() {
        let body = br#"{"messages":[{"role":"user","content":"Hi"}]}"#;
        let expected = json!([{"role": "user", "parts": [{"type": "text", "content": "Hi"}]}]);
        assert_eq!(input_messages(Format::OpenAi, body), Some(expected));
        assert_eq!(input_messages(Format::OpenAi, b"{}"), None);
    }
}
