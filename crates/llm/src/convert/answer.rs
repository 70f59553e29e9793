//! Answers in OpenAI's format, written for those that speak another.

use serde_json::{Map, Value, json};

use crate::Operation;
use crate::provider::Asked;

/// A whole answer of a chat.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub id: String,
    pub text: Option<String>,
    pub reasoning: Option<String>,
    pub calls: Vec<Value>,
    pub finish_reason: &'static str,
    /// OpenAI's `usage`, or whatever stands for it.
    pub usage: Value,
}

impl Answer {
    /// Adds a tool called; `arguments` is JSON text.
    pub fn add_call(&mut self, id: &Value, name: &Value, arguments: String) {
        self.calls
            .push(json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}));
    }

    /// The answer as `model` gave it.
    pub fn write(self, asked: &Asked<'_>, model: &str) -> Value {
        let mut message = json!({"role": "assistant", "content": self.text, "refusal": null});
        if let Some(reasoning) = self.reasoning {
            message["reasoning_content"] = reasoning.into();
        }
        if !self.calls.is_empty() {
            message["tool_calls"] = self.calls.into();
        }
        json!({
            "id": self.id,
            "object": "chat.completion",
            "created": asked.created,
            "model": model,
            "choices": [{"index": 0, "message": message, "logprobs": null, "finish_reason": self.finish_reason}],
            "usage": self.usage,
        })
    }
}

/// Why an answer of status 200 cannot be passed on, in Kong's words.
pub(crate) fn failed(provider: &str, operation: Operation, reason: &str) -> String {
    format!("transformation failed from type {provider}://{}: {reason}", operation.name())
}

/// An error as OpenAI's clients read it.
pub(crate) fn error(message: &str, kind: &str) -> Value {
    json!({"error": {"message": message, "type": kind, "param": null, "code": null}})
}

/// What an error of this status is called, where the provider does not say.
pub(crate) fn kind_of(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        _ => "server_error",
    }
}

/// Tokens of one call, as a provider tells them.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tokens {
    /// Of the prompt, those read from and written to a cache included.
    pub prompt: u64,
    /// Of these, read from a cache.
    pub cached: Option<u64>,
    pub completion: u64,
    pub reasoning: Option<u64>,
}

impl Tokens {
    /// As OpenAI tells them.
    pub fn write(self) -> Value {
        let mut usage = json!({
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
        });
        if let Some(cached) = self.cached {
            usage["prompt_tokens_details"] = json!({"cached_tokens": cached});
        }
        if let Some(reasoning) = self.reasoning {
            usage["completion_tokens_details"] = json!({"reasoning_tokens": reasoning});
        }
        usage
    }

    /// As the log tells them.
    pub fn usage(self) -> crate::usage::Usage {
        let details = |name: &str, count: Option<u64>| -> Map<String, Value> {
            count.map(|count| (name.to_owned(), count.into())).into_iter().collect()
        };
        crate::usage::Usage {
            prompt_tokens: self.prompt,
            completion_tokens: self.completion,
            total_tokens: self.prompt + self.completion,
            prompt_tokens_details: details("cached_tokens", self.cached),
            completion_tokens_details: details("reasoning_tokens", self.reasoning),
        }
    }
}
