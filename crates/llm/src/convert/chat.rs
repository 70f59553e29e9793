//! A chat as every format has a notion of it: what a client asks, read from its format and written for the
//! provider's.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::audio::Speech;
use super::{gemini, openai};
use crate::request::{Call as Request, Rules};

/// Fewest tokens that thinking can be given.
const LEAST_BUDGET: u64 = 1024;

/// A request to chat. Numbers stay as they were written.
#[derive(Debug, Default)]
pub(crate) struct Chat {
    pub turns: Vec<Turn>,
    pub tools: Vec<Tool>,
    /// Tools that are the provider's own, as they stand in the client's request.
    pub own_tools: Vec<Value>,
    pub choice: Option<Choice>,
    /// Whether the model may call one tool at a time only.
    pub one_call_at_a_time: bool,
    /// Schema that the answer is to follow.
    pub schema: Option<Schema>,
    /// Whether the answer is to be JSON of any shape.
    pub json: bool,
    pub max_tokens: Option<Value>,
    pub temperature: Option<Value>,
    pub top_p: Option<Value>,
    pub top_k: Option<Value>,
    pub stop: Vec<Value>,
    pub seed: Option<Value>,
    /// How many answers.
    pub count: Option<Value>,
    /// Whether the probabilities of tokens are told.
    pub logprobs: Option<Value>,
    /// Of how many other tokens.
    pub top_logprobs: Option<Value>,
    pub frequency_penalty: Option<Value>,
    pub presence_penalty: Option<Value>,
    /// Names the end user.
    pub user: Option<Value>,
    /// `auto`, `default`, …, as OpenAI names them.
    pub service_tier: Option<Value>,
    pub reasoning_effort: Option<String>,
    /// How the answer is to be spoken, where it is to be.
    pub speech: Option<Speech>,
    /// Tokens to think with, where the client says so in numbers.
    pub budget: Option<u64>,
    /// Gemini's signatures of its calls, by the calls' ids.
    pub signatures: HashMap<String, String>,
    /// Members that are left: those that only some providers know.
    pub body: Map<String, Value>,
}

/// A schema that the answer is to follow.
#[derive(Debug, Clone)]
pub(crate) struct Schema {
    pub name: Option<String>,
    pub schema: Value,
    /// Whether to the letter.
    pub strict: Option<bool>,
}

/// A message.
#[derive(Debug)]
pub(crate) enum Turn {
    /// Of the roles `system` and `developer`.
    System(Vec<Part>),
    User(Vec<Part>),
    Assistant(Vec<Part>, Vec<Call>),
    /// What a tool has given.
    Tool(ToolResult),
}

/// What a tool has given.
#[derive(Debug)]
pub(crate) struct ToolResult {
    /// Of the call.
    pub id: String,
    pub parts: Vec<Part>,
    /// Whether it is the tool's failure.
    pub failed: bool,
    /// Mark that ends what is to be cached.
    pub cache: Option<Value>,
}

/// A part of a message.
#[derive(Debug)]
pub(crate) struct Part {
    pub content: Content,
    /// Mark that ends what is to be cached (Anthropic's `cache_control`).
    pub cache: Option<Value>,
}

impl Part {
    pub fn text(text: impl Into<String>) -> Self {
        Content::Text(text.into()).into()
    }
}

impl From<Content> for Part {
    fn from(content: Content) -> Self {
        Self { content, cache: None }
    }
}

/// What a part holds.
#[derive(Debug)]
pub(crate) enum Content {
    Text(String),
    Image(Source),
    File {
        name: Option<String>,
        source: Source,
    },
    /// In base64; `format` is `wav`, `mp3`, ….
    Audio {
        format: String,
        data: String,
    },
    /// What the model thought before, with the signature that its provider knows it by.
    Reasoning {
        text: String,
        signature: Option<String>,
    },
    /// The same, enciphered by the provider.
    Redacted(String),
}

/// Where an image or a file is.
#[derive(Debug)]
pub(crate) enum Source {
    /// Here, in base64.
    Data {
        media_type: String,
        data: String,
    },
    Url(String),
    /// At the provider's.
    Id(String),
}

/// A tool called.
#[derive(Debug)]
pub(crate) struct Call {
    pub id: String,
    pub name: String,
    pub arguments: Map<String, Value>,
    /// Mark that ends what is to be cached.
    pub cache: Option<Value>,
}

/// A function that the model may call.
#[derive(Debug)]
pub(crate) struct Tool {
    pub name: String,
    pub description: Option<Value>,
    pub parameters: Value,
    /// Whether its arguments follow the schema to the letter.
    pub strict: Option<Value>,
    pub cache: Option<Value>,
}

/// Which tools the model is to call.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    Auto,
    None,
    Required,
    Function(String),
}

impl Chat {
    /// Reads a request in the client's format. Configured options win over the request's own.
    ///
    /// # Errors
    /// What cannot be understood, and where.
    pub fn read(request: &Request<'_>, rules: &Rules<'_>) -> Result<Self, String> {
        request.refuse_action()?;
        let body = object_of(request)?;
        let mut chat = rules.format.client().read(body)?;
        chat.take_signatures();
        chat.set_options(rules);
        Ok(chat)
    }

    /// A text to be completed, as a chat of one message.
    ///
    /// # Errors
    /// A prompt that is not one text.
    pub fn of_completion(request: &Request<'_>, rules: &Rules<'_>) -> Result<Self, String> {
        let mut body = object_of(request)?;
        let Some(Value::String(prompt)) = body.shift_remove("prompt") else {
            return Err("prompt must be one text".to_owned());
        };
        // What is asked besides is said as in a chat.
        for name in ["echo", "suffix", "best_of", "logprobs"] {
            body.shift_remove(name);
        }
        let mut chat = openai::request_reader::read(body)?;
        chat.turns.push(Turn::User(vec![Part::text(prompt)]));
        chat.set_options(rules);
        Ok(chat)
    }

    /// The chat, for a provider that gives one answer to a request, in writing.
    ///
    /// # Errors
    /// More are asked for, as [`one_answer`] has it, or it is to be spoken.
    pub fn for_one_text(self) -> Result<Self, String> {
        one_answer(self.count.as_ref())?;
        match self.speech {
            Some(_) => {
                Err("the answer is to be spoken (modalities), and this provider only writes".to_owned())
            }
            None => Ok(self),
        }
    }

    /// Takes the signatures out of calls' ids: only the provider that gave them reads them.
    fn take_signatures(&mut self) {
        for turn in &mut self.turns {
            match turn {
                Turn::Assistant(_, calls) => {
                    for call in calls {
                        let (id, signature) = gemini::calls::split(&call.id);
                        if let Some(signature) = signature {
                            let id = id.to_owned();
                            self.signatures.insert(id.clone(), signature);
                            call.id = id;
                        }
                    }
                }
                Turn::Tool(result) => {
                    let id = gemini::calls::split(&result.id).0.len();
                    result.id.truncate(id);
                }
                Turn::System(_) | Turn::User(_) => {}
            }
        }
    }

    /// Configured options win over the request's own.
    fn set_options(&mut self, rules: &Rules<'_>) {
        let configured =
            |text: &Option<String>| text.as_deref().and_then(|text| serde_json::from_str(text).ok());
        let options = rules.options;
        for (configured, own) in [
            (configured(&options.max_tokens), &mut self.max_tokens),
            (configured(&options.temperature), &mut self.temperature),
            (configured(&options.top_p), &mut self.top_p),
            (configured(&options.top_k), &mut self.top_k),
        ] {
            if configured.is_some() {
                *own = configured;
            }
        }
    }

    /// What the answer may have at most, as a number.
    pub fn limit(&self) -> Option<u64> {
        self.max_tokens.as_ref().and_then(Value::as_u64)
    }

    /// Tokens that a Claude model may think with; `None` where it is not to think.
    ///
    /// Thinking does not go with a tool that must be called, nor after calls whose thoughts are not there to be
    /// sent again (`without_thoughts`): OpenAI's format has no place for their signatures.
    pub fn thinking_budget(&self, without_thoughts: bool) -> Option<u64> {
        let wanted = match (self.budget, self.reasoning_effort.as_deref()) {
            (Some(budget), _) => budget,
            (None, Some("low")) => LEAST_BUDGET,
            (None, Some("medium")) => 2 * LEAST_BUDGET,
            (None, Some("high")) => 4 * LEAST_BUDGET,
            (None, Some("xhigh" | "max")) => 16 * LEAST_BUDGET,
            (None, _) => return None,
        };
        let forced = matches!(self.choice, Some(Choice::Required | Choice::Function(_)));
        let budget = self.limit().map_or(wanted, |limit| wanted.min(limit.saturating_sub(1)));
        (!forced && !without_thoughts && budget >= LEAST_BUDGET).then_some(budget)
    }

    /// Adds what is meant for the provider alone: the members of `extra_body`, and the key that goes into the body.
    pub fn add_extras(&mut self, to: &mut Map<String, Value>, rules: &Rules<'_>) {
        if let Some(Value::Object(extra)) = self.body.shift_remove("extra_body") {
            to.extend(extra);
        }
        if let Some(auth) = rules.auth
            && !(auth.keep_own && self.body.contains_key(auth.name))
        {
            to.insert(auth.name.to_owned(), auth.value.into());
        }
    }
}

/// Refuses several answers (`n`, Gemini's `candidateCount`) of a provider that gives one to a request: who asks for
/// more would take the one for a failure of the others.
///
/// # Errors
/// More than one is asked for.
pub(crate) fn one_answer(count: Option<&Value>) -> Result<(), String> {
    match count.and_then(Value::as_u64) {
        Some(count @ 2..) => Err(format!(
            "{count} answers are asked for (n, candidateCount), and this provider gives one to a request"
        )),
        _ => Ok(()),
    }
}

/// The body as an object.
///
/// # Errors
/// One that is none.
pub(crate) fn object_of(request: &Request<'_>) -> Result<Map<String, Value>, String> {
    serde_json::from_str(request.body.text())
        .map_err(|error| format!("the request is no JSON object: {error}"))
}
