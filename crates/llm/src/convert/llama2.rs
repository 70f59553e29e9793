//! Llama 2's own prompt: chats and texts written as the model was taught to read them, and what a server without any
//! notion of a chat answers.

use serde_json::{Map, Value};

use super::answer::{Answer, Block, failed};
use super::chat::{Chat, Choice, Content, Part, Turn};
use super::huggingface::answer_reader::{self, Unreadable};
use super::huggingface::request_writer::{Parameters, body, of_chat, of_completion};
use super::openai::completion::Completion;
use crate::provider::Asked;
use crate::request::{Call, Rules};
use crate::usage::Seen;

/// Where the model's turn begins.
const ANSWER: &str = "[/INST]";

/// A chat.
///
/// # Errors
/// What has no place in such a prompt.
pub(crate) fn chat(call: &Call<'_>, rules: &Rules<'_>) -> Result<Value, String> {
    let mut chat = Chat::read(call, rules)?.for_one_text()?;
    let has_tools = !chat.tools.is_empty() || !chat.own_tools.is_empty();
    if has_tools && chat.choice != Some(Choice::None) {
        return Err("Llama 2's prompt has no place for tools".to_owned());
    }
    let prompt = prompt(std::mem::take(&mut chat.turns))?;
    let mut sent = request(prompt, of_chat(&mut chat), call);
    chat.add_extras(&mut sent, rules);
    Ok(sent.into())
}

/// A text completion (Kong 3.11's prompt to the letter, the mark after its instruction included).
///
/// # Errors
/// A prompt that is not one text.
pub(crate) fn completion(call: &Call<'_>, rules: &Rules<'_>) -> Result<Value, String> {
    let asked = Completion::read(call)?.with_one_answer()?;
    let text = asked.prompt()?;
    let prompt = format!("<s> [INST] <<SYS>> You are a helpful assistant. <<SYS>> {text} {ANSWER}");
    let mut sent = request(prompt, of_completion(&asked, rules.options), call);
    if let Some(auth) = rules.auth {
        sent.insert(auth.name.to_owned(), auth.value.into());
    }
    Ok(sent.into())
}

/// Kong 3.11 says among the parameters whether the answer is to be streamed; the servers that can, look beside them.
fn request(prompt: String, mut parameters: Parameters, call: &Call<'_>) -> Map<String, Value> {
    parameters.push(("stream", Some(call.stream.into())));
    let mut sent = body(prompt, parameters);
    if call.stream {
        sent.insert("stream".to_owned(), true.into());
    }
    sent
}

/// A chat as Llama 2 reads it: each question between marks, with instructions before it, and what the model has
/// answered behind it, ended. Kong 3.11 leaves the answers out. A chat that ends with an answer has it gone on with.
fn prompt(turns: Vec<Turn>) -> Result<String, String> {
    let mut prompt = String::new();
    // Instructions that no question has followed yet.
    let mut instructions: Vec<String> = Vec::new();
    let last = turns.len().saturating_sub(1);
    for (index, turn) in turns.into_iter().enumerate() {
        match turn {
            Turn::System(parts) => instructions.push(text(parts)?),
            Turn::User(parts) => question(&mut prompt, &mut instructions, &text(parts)?),
            Turn::Assistant(_, calls) if !calls.is_empty() => {
                return Err("Llama 2's prompt has no place for calls of tools".to_owned());
            }
            Turn::Assistant(parts, _) => {
                if prompt.is_empty() || !instructions.is_empty() {
                    question(&mut prompt, &mut instructions, "");
                }
                prompt.push(' ');
                prompt.push_str(&text(parts)?);
                if index != last {
                    prompt.push_str(" </s>");
                }
            }
            Turn::Tool(_) => return Err("Llama 2's prompt has no place for results of tools".to_owned()),
        }
    }
    if !instructions.is_empty() {
        question(&mut prompt, &mut instructions, "");
    }
    Ok(prompt)
}

/// Adds what the user says, with the instructions for it.
fn question(prompt: &mut String, instructions: &mut Vec<String>, text: &str) {
    if !prompt.is_empty() && !prompt.ends_with("</s>") {
        prompt.push(' ');
    }
    prompt.push_str("<s>[INST] ");
    if !instructions.is_empty() {
        let all = std::mem::take(instructions).join("\n");
        prompt.push_str(&format!("<<SYS>> {all} <</SYS>> "));
    }
    if !text.is_empty() {
        prompt.push_str(text);
        prompt.push(' ');
    }
    prompt.push_str(ANSWER);
}

fn text(parts: Vec<Part>) -> Result<String, String> {
    let mut texts = Vec::with_capacity(parts.len());
    for part in parts {
        match part.content {
            Content::Text(text) => texts.push(text),
            Content::Image(_) => return Err("Llama 2 takes no images".to_owned()),
            Content::File { .. } => return Err("Llama 2 takes no files".to_owned()),
            Content::Audio { .. } => return Err("Llama 2 takes no audio".to_owned()),
            Content::Reasoning { .. } | Content::Redacted(_) => {}
        }
    }
    Ok(texts.join("\n"))
}

/// A whole answer, which may begin with the prompt.
///
/// # Errors
/// Why it cannot be understood, in Kong's words.
pub(crate) fn whole(body: &[u8], asked: &Asked<'_>, seen: Option<&mut Seen>) -> Result<Vec<u8>, String> {
    let mut answer: Answer = answer_reader::read(body).map_err(|unreadable| {
        let reason = match unreadable {
            Unreadable::NoJson => "failed to decode llama2 response",
            Unreadable::NoAnswer | Unreadable::Error(_) => "cannot parse response from llama2 endpoint",
            Unreadable::Empty => "response data is empty from llama2 endpoint",
            Unreadable::NoText => "response did not contain a system reply",
        };
        failed("llama2", asked.operation, reason)
    })?;
    for block in answer.choices.iter_mut().flat_map(|choice| &mut choice.blocks) {
        if let Block::Text(text) = block {
            *text = without_prompt(text).to_owned();
        }
    }
    Ok(answer.write(asked, seen))
}

/// The answer alone of a text that may begin with the prompt.
pub(crate) fn without_prompt(text: &str) -> &str {
    text.rsplit_once(ANSWER).map_or(text, |(_, answer)| answer).trim()
}
