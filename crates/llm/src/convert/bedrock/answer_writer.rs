//! Whole answers, written as Bedrock's Converse gives them.

use serde_json::{Map, Value, json};

use crate::convert::answer::{Answer, Block, Finish, Tokens};

/// A whole answer.
pub(crate) fn write(answer: Answer) -> Value {
    let choice = answer.choices.into_iter().next().unwrap_or_default();
    let reason = stop_reason(&choice.finish, choice.calls());
    let content: Vec<Value> = choice.blocks.into_iter().filter(Block::says).filter_map(block).collect();
    json!({
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": reason,
        "usage": usage(answer.tokens.unwrap_or_default()),
        "metrics": metrics(),
    })
}

fn block(block: Block) -> Option<Value> {
    Some(match block {
        // There is no place for it.
        Block::Audio(_) => return None,
        Block::Text(text) | Block::Refusal(text) => json!({"text": text}),
        Block::Reasoning { text, signature } => {
            let mut reasoning = json!({"text": text});
            if let Some(signature) = signature {
                reasoning["signature"] = signature.into();
            }
            json!({"reasoningContent": {"reasoningText": reasoning}})
        }
        Block::Image(image) => {
            let format = image.media_type.strip_prefix("image/").unwrap_or_default();
            json!({"image": {"format": format, "source": {"bytes": image.data}}})
        }
        Block::Redacted(data) => json!({"reasoningContent": {"redactedContent": data}}),
        Block::Call { id, name, arguments } => {
            let input: Map<String, Value> = serde_json::from_str(&arguments).unwrap_or_default();
            json!({"toolUse": {"toolUseId": id, "name": name, "input": input}})
        }
    })
}

/// Why an answer ended.
pub(super) fn stop_reason(finish: &Finish, calls: bool) -> &'static str {
    match finish {
        // Some call tools and say that they have said all.
        Finish::Stop | Finish::Other(_) if calls => "tool_use",
        Finish::Stop | Finish::Other(_) => "end_turn",
        Finish::Sequence(_) => "stop_sequence",
        Finish::Length => "max_tokens",
        Finish::Calls => "tool_use",
        Finish::Filtered => "content_filtered",
        Finish::Guardrail => "guardrail_intervened",
    }
}

/// Tokens as Bedrock tells them: those of a cache are not among `inputTokens`.
pub(super) fn usage(tokens: Tokens) -> Value {
    let (read, written) = (tokens.cached.unwrap_or(0), tokens.cache_written.unwrap_or(0));
    let mut usage = json!({
        "inputTokens": tokens.prompt.saturating_sub(read + written),
        "outputTokens": tokens.completion,
        "totalTokens": tokens.prompt + tokens.completion,
    });
    if let Some(read) = tokens.cached {
        usage["cacheReadInputTokens"] = read.into();
    }
    if let Some(written) = tokens.cache_written {
        usage["cacheWriteInputTokens"] = written.into();
    }
    usage
}

/// Clients demand that a latency is told; other providers do not tell it.
pub(super) fn metrics() -> Value {
    json!({"latencyMs": 0})
}

/// AWS's name for an error of this status.
pub(super) fn exception_of(status: u16) -> &'static str {
    match status {
        401 | 403 => "AccessDeniedException",
        404 => "ResourceNotFoundException",
        408 | 504 => "ModelTimeoutException",
        424 => "ModelErrorException",
        429 => "ThrottlingException",
        400..=499 => "ValidationException",
        503 | 529 => "ServiceUnavailableException",
        _ => "InternalServerException",
    }
}
