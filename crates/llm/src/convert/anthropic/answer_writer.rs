//! Whole answers and errors, written as Anthropic's Messages API gives them.

use serde_json::{Map, Value, json};

use crate::convert::answer::{Answer, Block, Failure, Finish, Tokens};
use crate::provider::Asked;

/// A whole answer.
pub(crate) fn write(answer: Answer, asked: &Asked<'_>) -> Value {
    let choice = answer.choices.into_iter().next().unwrap_or_default();
    let calls = choice.calls();
    let (reason, sequence) = stop_reason(&choice.finish, calls);
    let content: Vec<Value> = choice.blocks.into_iter().filter(Block::says).filter_map(block).collect();
    json!({
        "id": id(answer.id.as_deref(), asked.id),
        "type": "message",
        "role": "assistant",
        "model": answer.model.as_deref().unwrap_or(asked.model),
        "content": content,
        "stop_reason": reason,
        "stop_sequence": sequence,
        "usage": usage(answer.tokens.unwrap_or_default()),
    })
}

/// A block; `None` for what Anthropic's models do not give.
fn block(block: Block) -> Option<Value> {
    Some(match block {
        Block::Image(_) | Block::Audio(_) => return None,
        Block::Text(text) | Block::Refusal(text) => json!({"type": "text", "text": text}),
        // A signature must be there; that of thoughts whose provider has none is empty.
        Block::Reasoning { text, signature } => {
            json!({"type": "thinking", "thinking": text, "signature": signature.unwrap_or_default()})
        }
        Block::Redacted(data) => json!({"type": "redacted_thinking", "data": data}),
        Block::Call { id, name, arguments } => {
            let input: Map<String, Value> = serde_json::from_str(&arguments).unwrap_or_default();
            json!({"type": "tool_use", "id": id, "name": name, "input": input})
        }
    })
}

/// Anthropic's own id, or one of its kind.
pub(super) fn id(given: Option<&str>, asked: &str) -> String {
    match given.filter(|id| id.starts_with("msg_")) {
        Some(id) => id.to_owned(),
        None => format!("msg_{asked}"),
    }
}

/// Why an answer ended, and the text where it had to stop.
pub(super) fn stop_reason(finish: &Finish, calls: bool) -> (&'static str, Option<&str>) {
    match finish {
        // Some call tools and say that they have said all.
        Finish::Stop | Finish::Other(_) if calls => ("tool_use", None),
        Finish::Stop | Finish::Other(_) => ("end_turn", None),
        Finish::Sequence(sequence) => ("stop_sequence", sequence.as_deref()),
        Finish::Length => ("max_tokens", None),
        Finish::Calls => ("tool_use", None),
        Finish::Filtered | Finish::Guardrail => ("refusal", None),
    }
}

/// Tokens as Anthropic tells them: those of a cache are not among `input_tokens`.
pub(super) fn usage(tokens: Tokens) -> Value {
    let (read, written) = (tokens.cached.unwrap_or(0), tokens.cache_written.unwrap_or(0));
    json!({
        "input_tokens": tokens.prompt.saturating_sub(read + written),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
        "output_tokens": tokens.completion,
    })
}

/// Anthropic's kinds of errors; those of others are told by their status.
const KINDS: [&str; 10] = [
    "invalid_request_error",
    "authentication_error",
    "billing_error",
    "permission_error",
    "not_found_error",
    "request_too_large",
    "rate_limit_error",
    "timeout_error",
    "overloaded_error",
    "api_error",
];

/// An error.
pub(crate) fn error(failure: &Failure<'_>) -> Value {
    let own = KINDS.into_iter().find(|kind| *kind == failure.kind);
    let kind = own.unwrap_or_else(|| kind_of(failure.status));
    json!({"type": "error", "error": {"type": kind, "message": failure.message}})
}

/// What an error of this status is called.
pub(super) fn kind_of(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        408 | 504 => "timeout_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        // Bedrock's models fail so: the request is not at fault.
        424 => "api_error",
        400..=499 => "invalid_request_error",
        503 | 529 => "overloaded_error",
        _ => "api_error",
    }
}
