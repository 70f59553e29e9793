//! The APIs that the upstream speaks: one answer, whole or in pieces.

use aws_smithy_eventstream::frame::write_message_to;
use aws_smithy_types::event_stream::{Header, HeaderValue, Message};
use serde_json::{Value, json};

/// Who answers chats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// Chat completions; what clients speak too.
    OpenAi,
    /// Messages.
    Anthropic,
    /// Converse and ConverseStream.
    Bedrock,
}

const TEXT: &str = "A short answer that is as long as short answers are, so that a proxy which reads it has something to read.";

impl Provider {
    /// Whose API a request is for.
    pub fn asked(path: &str) -> Self {
        match path {
            "/v1/messages" => Self::Anthropic,
            path if path.starts_with("/model/") => Self::Bedrock,
            _ => Self::OpenAi,
        }
    }

    /// Where chats are sent.
    pub fn path(self, streamed: bool) -> &'static str {
        match (self, streamed) {
            (Self::OpenAi, _) => "/v1/chat/completions",
            (Self::Anthropic, _) => "/v1/messages",
            (Self::Bedrock, false) => "/model/bench/converse",
            (Self::Bedrock, true) => "/model/bench/converse-stream",
        }
    }

    /// `config.auth` and `config.model` of the plugin that sends chats there.
    pub fn configured(self, upstream: u16) -> (Value, Value) {
        let url = format!("http://127.0.0.1:{upstream}");
        match self {
            Self::OpenAi => (
                json!({"header_name": "Authorization", "header_value": "Bearer bench"}),
                json!({"provider": "openai", "name": "gpt-4.1", "options": {
                    "temperature": 1.0, "upstream_url": format!("{url}/v1/chat/completions")
                }}),
            ),
            Self::Anthropic => (
                json!({"header_name": "x-api-key", "header_value": "bench"}),
                json!({"provider": "anthropic", "name": "bench", "options": {
                    "temperature": 1.0, "upstream_url": format!("{url}/v1/messages"),
                    "anthropic_version": "2023-06-01"
                }}),
            ),
            Self::Bedrock => (
                json!({"aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": "bench"}),
                json!({"provider": "bedrock", "name": "bench", "options": {
                    "temperature": 1.0, "upstream_url": url, "bedrock": {"aws_region": "us-east-1"}
                }}),
            ),
        }
    }

    /// A whole answer.
    pub fn whole(self) -> String {
        match self {
            Self::OpenAi => format!(
                "{}{TEXT}{}",
                concat!(
                    r#"{"id":"chatcmpl-bench","object":"chat.completion","created":1741569952,"model":"gpt-4.1","#,
                    r#""choices":[{"index":0,"message":{"role":"assistant","content":""#
                ),
                concat!(
                    r#"","refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"stop"}],"#,
                    r#""usage":{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"#,
                    r#""completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}},"#,
                    r#""service_tier":"default"}"#
                )
            ),
            Self::Anthropic => format!(
                "{}{TEXT}{}",
                concat!(
                    r#"{"id":"msg_bench","type":"message","role":"assistant","model":"bench","#,
                    r#""content":[{"type":"text","text":""#
                ),
                concat!(
                    r#""}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":19,"cache_creation_input_tokens":0,"#,
                    r#""cache_read_input_tokens":0,"cache_creation":{"ephemeral_5m_input_tokens":0,"ephemeral_1h_input_tokens":0},"#,
                    r#""output_tokens":10,"service_tier":"standard"}}"#
                )
            ),
            Self::Bedrock => format!(
                "{}{TEXT}{}",
                r#"{"metrics":{"latencyMs":551},"output":{"message":{"content":[{"text":""#,
                concat!(
                    r#""}],"role":"assistant"}},"stopReason":"end_turn","#,
                    r#""usage":{"cacheReadInputTokens":0,"cacheWriteInputTokens":0,"inputTokens":19,"outputTokens":10,"totalTokens":29}}"#
                )
            ),
        }
    }

    /// `Content-Type` of a streamed answer.
    pub fn stream_type(self) -> &'static str {
        match self {
            Self::OpenAi | Self::Anthropic => "text/event-stream",
            Self::Bedrock => "application/vnd.amazon.eventstream",
        }
    }

    /// What a streamed answer begins with.
    pub fn start(self) -> Vec<u8> {
        match self {
            Self::OpenAi => openai(r#"{"role":"assistant","content":"","refusal":null}"#, "null"),
            Self::Anthropic => [
                anthropic(
                    "message_start",
                    concat!(
                        r#""message":{"id":"msg_bench","type":"message","role":"assistant","model":"bench","content":[],"#,
                        r#""stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":19,"output_tokens":1}}"#
                    ),
                ),
                anthropic("content_block_start", r#""index":0,"content_block":{"type":"text","text":""}"#),
                b"event: ping\ndata: {\"type\":\"ping\"}\n\n".to_vec(),
            ]
            .concat(),
            Self::Bedrock => bedrock("messageStart", r#"{"p":"abcdefgh","role":"assistant"}"#),
        }
    }

    /// A piece of a streamed answer; its text must need no escapes.
    pub fn piece(self, text: &str) -> Vec<u8> {
        match self {
            Self::OpenAi => openai(&format!(r#"{{"content":"{text}"}}"#), "null"),
            Self::Anthropic => anthropic(
                "content_block_delta",
                &format!(r#""index":0,"delta":{{"type":"text_delta","text":"{text}"}}"#),
            ),
            Self::Bedrock => bedrock(
                "contentBlockDelta",
                &format!(
                    r#"{{"contentBlockIndex":0,"delta":{{"text":"{text}"}},"p":"abcdefghijklmnopqrstuvwx"}}"#
                ),
            ),
        }
    }

    /// What a streamed answer ends with.
    pub fn end(self) -> Vec<u8> {
        match self {
            Self::OpenAi => [openai("{}", r#""stop""#), b"data: [DONE]\n\n".to_vec()].concat(),
            Self::Anthropic => [
                anthropic("content_block_stop", r#""index":0"#),
                anthropic(
                    "message_delta",
                    r#""delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":200}"#,
                ),
                b"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n".to_vec(),
            ]
            .concat(),
            Self::Bedrock => [
                bedrock("contentBlockStop", r#"{"contentBlockIndex":0,"p":"abcdefgh"}"#),
                bedrock("messageStop", r#"{"p":"abcdefgh","stopReason":"end_turn"}"#),
                bedrock(
                    "metadata",
                    r#"{"metrics":{"latencyMs":551},"p":"abcdefgh","usage":{"inputTokens":19,"outputTokens":200,"totalTokens":219}}"#,
                ),
            ]
            .concat(),
        }
    }
}

fn openai(delta: &str, reason: &str) -> Vec<u8> {
    format!(
        "data: {{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",\"created\":1741569952,\"model\":\"gpt-4.1\",\
         \"choices\":[{{\"index\":0,\"delta\":{delta},\"logprobs\":null,\"finish_reason\":{reason}}}]}}\n\n"
    )
    .into_bytes()
}

fn anthropic(kind: &str, members: &str) -> Vec<u8> {
    format!("event: {kind}\ndata: {{\"type\":\"{kind}\",{members}}}\n\n").into_bytes()
}

fn bedrock(kind: &'static str, payload: &str) -> Vec<u8> {
    let header =
        |name: &'static str, value: &'static str| Header::new(name, HeaderValue::String(value.into()));
    let headers = vec![
        header(":event-type", kind),
        header(":content-type", "application/json"),
        header(":message-type", "event"),
    ];
    let mut out = Vec::new();
    // Only more than 16 MiB could not be written.
    let _ = write_message_to(&Message::new_from_parts(headers, payload.as_bytes().to_vec()), &mut out);
    out
}
