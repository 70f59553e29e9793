//! A whole answer of a chat as every format has a notion of it: read from the provider's, written for the client.

use serde_json::{Map, Value};

use super::audio::Audio;
use crate::provider::Asked;
use crate::usage::Seen;
use crate::{Format, Operation};

/// A whole answer of a chat.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// The provider's id of it.
    pub id: Option<String>,
    /// The model that answered; else the one that was asked.
    pub model: Option<String>,
    pub choices: Vec<Choice>,
    pub tokens: Option<Tokens>,
    /// What OpenAI's clients get as `usage` where no tokens are told.
    pub without_tokens: Value,
    /// Further members of an answer in OpenAI's format.
    pub more: Map<String, Value>,
}

/// One of the answers, of which there is nearly always only one.
#[derive(Debug, Default)]
pub(crate) struct Choice {
    pub blocks: Vec<Block>,
    /// What stands between texts where they have to be joined.
    pub joint: &'static str,
    pub finish: Finish,
    /// OpenAI's `logprobs`.
    pub logprobs: Option<Value>,
}

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Block {
    Text(String),
    /// What the model thought, with the signature that its provider knows it by.
    Reasoning {
        text: String,
        signature: Option<String>,
    },
    /// The same, enciphered by the provider.
    Redacted(String),
    /// The model declines.
    Refusal(String),
    /// A picture that the model has made.
    Image(Image),
    /// What the model has spoken.
    Audio(Audio),
    /// A tool called; the arguments are JSON text.
    Call {
        id: String,
        name: String,
        arguments: String,
    },
}

/// A picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Image {
    /// What it is, such as `image/png`.
    pub media_type: String,
    /// Its bytes, as base64.
    pub data: String,
}

impl Block {
    /// Whether it says anything: providers give an empty text beside calls, which others refuse where the answer is
    /// sent again.
    pub fn says(&self) -> bool {
        !matches!(self, Self::Text(text) if text.is_empty())
    }
}

/// Why an answer ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Finish {
    /// The model had said all.
    #[default]
    Stop,
    /// It came to a text where it was to stop.
    Sequence(Option<String>),
    /// There were no more tokens for it.
    Length,
    /// It calls tools.
    Calls,
    /// The provider, or the model, withholds the rest.
    Filtered,
    /// A guardrail of the provider's stepped in.
    Guardrail,
    /// Something else, in the provider's words.
    Other(String),
}

impl Choice {
    /// The texts as one; `None` where there is none.
    pub fn text(&self) -> Option<String> {
        let texts: Vec<&str> = self
            .blocks
            .iter()
            .filter_map(|block| match block {
                Block::Text(text) => Some(&**text),
                _ => None,
            })
            .collect();
        (!texts.is_empty()).then(|| texts.join(self.joint))
    }

    /// The thoughts as one; `None` where there is none.
    pub fn reasoning(&self) -> Option<String> {
        let thoughts: Vec<&str> = self
            .blocks
            .iter()
            .filter_map(|block| match block {
                Block::Reasoning { text, .. } => Some(&**text),
                _ => None,
            })
            .collect();
        (!thoughts.is_empty()).then(|| thoughts.join(self.joint))
    }

    /// Whether tools are called.
    pub fn calls(&self) -> bool {
        self.blocks.iter().any(|block| matches!(block, Block::Call { .. }))
    }

    /// Adds a tool called, of what a provider says of it; arguments that are no object count as none.
    pub fn add_call(&mut self, id: &Value, name: &Value, arguments: &Value) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let arguments = if arguments.is_object() { arguments.to_string() } else { "{}".to_owned() };
        self.blocks.push(Block::Call { id: text(id), name: text(name), arguments });
    }
}

impl Answer {
    /// The answer in the client's format; what it says of itself goes to `seen`.
    pub fn write(self, asked: &Asked<'_>, seen: Option<&mut Seen>) -> Vec<u8> {
        if let Some(seen) = seen {
            seen.model = Some(self.model.clone().unwrap_or_else(|| asked.model.to_owned()));
            seen.usage = self.tokens.map(Tokens::usage);
        }
        asked.format.client().write(self, asked)
    }
}

/// Why an answer of status 200 cannot be passed on, in Kong's words.
pub(crate) fn failed(provider: &str, operation: Operation, reason: &str) -> String {
    format!("transformation failed from type {provider}://{}: {reason}", operation.name())
}

/// An error, as far as formats agree on what one is.
#[derive(Debug)]
pub(crate) struct Failure<'a> {
    /// What the user is told.
    pub message: &'a str,
    /// What it is called, in OpenAI's or Anthropic's terms, or the provider's own.
    pub kind: &'a str,
    /// The status of the answer that it is, or would be.
    pub status: u16,
}

impl Failure<'_> {
    /// The error in the client's format.
    pub fn write(&self, format: Format) -> Value {
        format.client().error(self)
    }
}

/// What an error of this status is called, where the provider does not say.
pub(crate) fn kind_of(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        429 => "rate_limit_error",
        // Bedrock's models fail so: the request is not at fault.
        424 => "server_error",
        400..=499 => "invalid_request_error",
        _ => "server_error",
    }
}

/// Tokens of one call, as a provider tells them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tokens {
    /// Of the prompt, those read from and written to a cache included.
    pub prompt: u64,
    /// Of these, read from a cache.
    pub cached: Option<u64>,
    /// Of these, written to a cache.
    pub cache_written: Option<u64>,
    /// Of these, those that the cache keeps for an hour.
    pub cache_written_hour: Option<u64>,
    pub completion: u64,
    /// Of the answer's, those that were thought.
    pub reasoning: Option<u64>,
    /// Of the prompt's, those of sound.
    pub prompt_audio: Option<u64>,
    /// Of the answer's, those of sound.
    pub completion_audio: Option<u64>,
    /// The tier that served the call.
    pub service_tier: Option<&'static str>,
}

impl Tokens {
    /// As the log tells them.
    pub fn usage(self) -> crate::usage::Usage {
        let details = |counts: [(&str, Option<u64>); 2]| -> Map<String, Value> {
            counts.into_iter().filter_map(|(name, count)| Some((name.to_owned(), count?.into()))).collect()
        };
        crate::usage::Usage {
            prompt_tokens: self.prompt,
            completion_tokens: self.completion,
            total_tokens: self.prompt + self.completion,
            prompt_tokens_details: details([
                ("cached_tokens", self.cached),
                ("audio_tokens", self.prompt_audio),
            ]),
            completion_tokens_details: details([
                ("reasoning_tokens", self.reasoning),
                ("audio_tokens", self.completion_audio),
            ]),
            cache_write_tokens: self
                .cache_written
                .unwrap_or(0)
                .saturating_sub(self.cache_written_hour.unwrap_or(0)),
            cache_write_hour_tokens: self.cache_written_hour.unwrap_or(0),
            service_tier: self.service_tier.map(str::to_owned),
        }
    }
}
