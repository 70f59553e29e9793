//! What an answer cost in tokens.

use serde_json::{Map, Value};

use crate::estimate::{self, Text};
use crate::json::Object;

/// Tokens of one call, as the provider counted them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// Tokens of the answer.
    pub completion_tokens: u64,
    /// Both.
    pub total_tokens: u64,
    /// Kinds of prompt tokens.
    pub prompt_tokens_details: Map<String, Value>,
    /// Kinds of answer tokens.
    pub completion_tokens_details: Map<String, Value>,
    /// Prompt tokens that were written to the provider's cache, for minutes.
    pub cache_write_tokens: u64,
    /// The same, for an hour.
    pub cache_write_hour_tokens: u64,
    /// The tier that served the call, in the provider's words.
    pub service_tier: Option<String>,
}

impl Usage {
    /// Reads OpenAI's `usage` object.
    pub fn from_openai(text: &str) -> Option<Self> {
        let value: Map<String, Value> = serde_json::from_str(text).ok()?;
        let count = |name: &str| value.get(name).and_then(Value::as_u64);
        let details = |names: [&str; 3]| {
            let mut found = names.into_iter().filter_map(|name| value.get(name)?.as_object());
            found.next().cloned().unwrap_or_default()
        };
        let prompt_tokens = count("prompt_tokens").or(count("input_tokens"))?;
        let completion_tokens = count("completion_tokens").or(count("output_tokens")).unwrap_or(0);
        Some(Self {
            prompt_tokens,
            completion_tokens,
            total_tokens: count("total_tokens").unwrap_or(prompt_tokens + completion_tokens),
            prompt_tokens_details: details([
                "prompt_tokens_details",
                "input_tokens_details",
                "input_token_details",
            ]),
            completion_tokens_details: details([
                "completion_tokens_details",
                "output_tokens_details",
                "output_token_details",
            ]),
            ..Self::default()
        })
    }

    /// Adds the tokens of another answer.
    pub fn add(&mut self, other: &Self) {
        self.prompt_tokens = self.prompt_tokens.saturating_add(other.prompt_tokens);
        self.completion_tokens = self.completion_tokens.saturating_add(other.completion_tokens);
        self.total_tokens = self.total_tokens.saturating_add(other.total_tokens);
        self.cache_write_tokens = self.cache_write_tokens.saturating_add(other.cache_write_tokens);
        self.cache_write_hour_tokens =
            self.cache_write_hour_tokens.saturating_add(other.cache_write_hour_tokens);
        add_counts(&mut self.prompt_tokens_details, &other.prompt_tokens_details);
        add_counts(&mut self.completion_tokens_details, &other.completion_tokens_details);
        self.service_tier = other.service_tier.clone().or(self.service_tier.take());
    }

    /// Prompt tokens that were read from the provider's cache.
    pub fn cached_tokens(&self) -> u64 {
        self.prompt_tokens_details.get("cached_tokens").and_then(Value::as_u64).unwrap_or(0)
    }
}

/// Adds counts by their names, also those within others.
fn add_counts(counts: &mut Map<String, Value>, more: &Map<String, Value>) {
    for (name, more) in more {
        let count = counts.entry(name.as_str()).or_insert(Value::Null);
        match (&mut *count, more) {
            (Value::Object(counts), Value::Object(more)) => add_counts(counts, more),
            (Value::Null, more) => *count = more.clone(),
            (count, more) => {
                if let (Some(one), Some(other)) = (count.as_u64(), more.as_u64()) {
                    *count = one.saturating_add(other).into();
                }
            }
        }
    }
}

/// What an answer says about itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Seen {
    /// The model that answered.
    pub model: Option<String>,
    /// Tokens, once the provider has told.
    pub usage: Option<Usage>,
    /// The text of a streamed answer.
    pub text: Text,
    /// Why a streamed answer ended, where its text is kept.
    pub finish_reason: Option<String>,
    /// Where a streamed answer ended in an error: the status that it would have as an answer.
    pub failed: Option<u16>,
}

impl Seen {
    /// Takes in a whole answer in OpenAI's format, or an event of a streamed one.
    pub fn take(&mut self, answer: &Object<'_>) {
        if self.model.is_none() {
            self.model = answer.get_str("model").map(|model| model.into_owned());
        }
        if let Some(mut usage) = answer.get("usage").and_then(Usage::from_openai) {
            usage.service_tier = answer.get_str("service_tier").map(|tier| tier.into_owned());
            self.usage = Some(usage);
        }
    }

    /// Tokens as the provider counted them, else as they are estimated from the request sent and the text seen
    /// (Kong 3.11).
    pub fn tokens(&self, request: &[u8], stream: bool) -> Usage {
        let told = match &self.usage {
            // No prompt is empty: some tell of the answer alone.
            Some(usage) if usage.prompt_tokens == 0 && usage.completion_tokens > 0 => usage.clone(),
            Some(usage) => return usage.clone(),
            None => Usage { completion_tokens: self.text.tokens(), ..Usage::default() },
        };
        let prompt_tokens = estimate::prompt_tokens(request, stream);
        Usage { prompt_tokens, total_tokens: prompt_tokens + told.completion_tokens, ..told }
    }
}
