//! Answers of Hugging Face's text generation, whole and piece by piece, read.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::Format;
use crate::convert::answer::{self, Answer, Block, Choice, Failure, Finish, Tokens};
use crate::convert::events::{Events, unquoted};
use crate::convert::lines::{Lines, json_of};
use crate::convert::openai;
use crate::json::quote;
use crate::provider::{Asked, Stream, StreamWishes};
use crate::usage::Seen;

/// What of a whole answer cannot be understood.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// It is no JSON.
    NoJson,
    /// It tells an error.
    Error(String),
    /// It is JSON of another shape.
    NoAnswer,
    /// There is no answer in it.
    Empty,
    /// What stands for the text is none.
    NoText,
}

/// A whole answer: an object, a list of them, or such a list below `data`.
///
/// # Errors
/// What cannot be understood.
pub(crate) fn read(body: &[u8]) -> Result<Answer, Unreadable> {
    let given: Value = serde_json::from_slice(body).map_err(|_| Unreadable::NoJson)?;
    if let Some(message) = message_of(&given) {
        return Err(Unreadable::Error(message.to_owned()));
    }
    let answers = match (&given, &given["data"]) {
        (Value::Array(list), _) | (_, Value::Array(list)) => &list[..],
        (one @ Value::Object(members), _) if members.contains_key("generated_text") => {
            std::slice::from_ref(one)
        }
        _ => return Err(Unreadable::NoAnswer),
    };
    if answers.is_empty() {
        return Err(Unreadable::Empty);
    }
    let choices: Vec<Choice> = answers.iter().map(choice).collect::<Result<_, _>>()?;
    let told = answers.iter().filter_map(|answer| tokens(&answer["details"]));
    let told = told.reduce(|sum, next| Tokens { completion: sum.completion + next.completion, ..sum });
    let tokens = openai::answer_reader::tokens(&given["usage"]).or(told);
    Ok(Answer { choices, tokens, ..Answer::default() })
}

fn choice(answer: &Value) -> Result<Choice, Unreadable> {
    let text = match &answer["generated_text"] {
        Value::String(text) => text.clone(),
        Value::Null => return Err(Unreadable::Empty),
        _ => return Err(Unreadable::NoText),
    };
    let finish = finish(answer["details"]["finish_reason"].as_str().unwrap_or_default());
    Ok(Choice { blocks: vec![Block::Text(text)], finish, ..Choice::default() })
}

/// The message of an error; the first of several.
fn message_of(given: &Value) -> Option<&str> {
    let error = &given["error"];
    [error, &error["message"], &error[0], &given["message"]].into_iter().find_map(Value::as_str)
}

fn finish(reason: &str) -> Finish {
    match reason {
        "length" => Finish::Length,
        "stop_sequence" => Finish::Sequence(None),
        _ => Finish::Stop,
    }
}

/// Tokens of an answer. Those of the prompt are told at the end of streams; otherwise only where each is listed.
fn tokens(details: &Value) -> Option<Tokens> {
    let listed = details["prefill"].as_array().map_or(0, Vec::len) as u64;
    let prompt = details["input_length"].as_u64().unwrap_or(listed);
    Some(Tokens { prompt, completion: details["generated_tokens"].as_u64()?, ..Tokens::default() })
}

/// Takes in what a whole answer says that passes as it is.
pub(crate) fn look(body: &[u8], asked: &Asked<'_>, seen: &mut Seen) {
    seen.model = Some(asked.model.to_owned());
    let Ok(answer) = read(body) else { return };
    seen.usage = answer.tokens.map(Tokens::usage);
    for text in answer.choices.iter().filter_map(Choice::text) {
        seen.text.add(quote(&text).as_bytes(), false);
    }
}

/// An error answer; `None` where it is not one of this format, or the client's format already.
pub(crate) fn error(status: u16, body: &[u8], format: Format) -> Option<Vec<u8>> {
    if format == Format::HuggingFace {
        return None;
    }
    let given: Value = serde_json::from_slice(body).ok()?;
    let failure = Failure { message: message_of(&given)?, kind: answer::kind_of(status), status };
    Some(failure.write(format).to_string().into_bytes())
}

/// A streamed answer: an event for each token.
pub(crate) struct Reader {
    lines: Lines,
    translation: Translation,
}

struct Translation {
    provider: &'static str,
    /// What is left of a text that may begin with the prompt.
    without_prompt: Option<fn(&str) -> &str>,
    any: bool,
    events: Events,
}

/// An event. Text stays JSON text, for it goes out as such.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    token: Option<Token<'a>>,
    #[serde(borrow)]
    generated_text: Option<&'a RawValue>,
    details: Option<Value>,
    #[serde(borrow)]
    error_type: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Token<'a> {
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    /// It says something to the server alone, such as the end.
    #[serde(default)]
    special: bool,
}

impl Reader {
    /// Of the answer of who is called so in errors.
    pub fn new(provider: &'static str, asked: &Asked<'_>, wishes: StreamWishes) -> Self {
        let events = Events::new(asked, wishes);
        let translation = Translation { provider, without_prompt: None, any: false, events };
        Self { lines: Lines::default(), translation }
    }

    /// Of a server that may put the prompt before the answer: what `without_prompt` leaves of a whole answer counts,
    /// and no white space before it.
    pub fn without_prompt(mut self, without_prompt: fn(&str) -> &str) -> Self {
        self.translation.without_prompt = Some(without_prompt);
        self
    }
}

impl Stream for Reader {
    fn chunk(&mut self, chunk: Bytes) -> Bytes {
        let Self { lines, translation } = self;
        if lines.watch(&chunk, |line| translation.line(line)).is_err() {
            translation.fail("a line", "is too long");
        }
        translation.events.take()
    }

    fn end(&mut self) -> Bytes {
        let rest = self.lines.end();
        self.translation.line(&rest);
        let Translation { events, provider, .. } = &mut self.translation;
        events.close(provider);
        events.take()
    }

    fn take_seen(&mut self) -> Seen {
        self.translation.events.take_seen()
    }
}

impl Translation {
    fn line(&mut self, line: &[u8]) {
        let Some(json) = json_of(line) else { return };
        match serde_json::from_slice::<Event<'_>>(json) {
            Ok(Event { token: Some(token), generated_text, details, .. }) => {
                self.token(&token);
                // With the last token the text as a whole is told.
                if details.is_some() || generated_text.is_some() {
                    let details = details.unwrap_or_default();
                    self.events.tokens = tokens(&details);
                    self.events.finish(finish(details["finish_reason"].as_str().unwrap_or_default()));
                    self.events.done();
                }
            }
            Ok(Event { error_type, .. }) => self.whole(json, error_type.as_deref()),
            Err(_) => self.whole(json, None),
        }
    }

    fn fail(&mut self, what: &str, fault: &str) {
        let message = format!("{what} of {}'s answer {fault}", self.provider);
        self.events.fail(&message, "server_error", 502);
    }

    fn token(&mut self, token: &Token<'_>) {
        self.events.start();
        let Some(text) = token.text.filter(|_| !token.special) else { return };
        if self.any || self.without_prompt.is_none() {
            return self.events.text(text.get());
        }
        let text = unquoted(text.get());
        let text = text.trim_start();
        self.any = !text.is_empty();
        self.events.text(&quote(text));
    }

    /// An error, or a whole answer of a server that does not stream.
    fn whole(&mut self, json: &[u8], error_type: Option<&str>) {
        let answer = match read(json) {
            Ok(answer) => answer,
            Err(Unreadable::Error(message)) => {
                let status = match error_type {
                    Some("overloaded") => 429,
                    Some("validation") => 422,
                    Some("generation") => 424,
                    _ => 500,
                };
                return self.events.fail(&message, answer::kind_of(status), status);
            }
            Err(Unreadable::NoJson) => return self.fail("an event", "is no JSON"),
            Err(_) => return self.fail("an event", "has no token"),
        };
        let Some(choice) = answer.choices.into_iter().next() else { return };
        let text = choice.text().unwrap_or_default();
        let text = self.without_prompt.map_or(&*text, |without_prompt| without_prompt(&text));
        self.events.tokens = answer.tokens;
        self.events.text(&quote(text));
        self.events.finish(choice.finish);
        self.events.done();
    }
}
