//! Gemini's answers, whole and streamed, read.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::calls;
use super::objects::Objects;
use crate::convert::answer::{self, Answer, Block, Choice, Failure, Finish, Image, Tokens, failed};
use crate::convert::audio::Audio;
use crate::convert::embeddings::Vectors;
use crate::convert::events::{Events, unquoted};
use crate::convert::taken;
use crate::json::quote;
use crate::provider::{Asked, Shape, Stream, StreamWishes};
use crate::usage::{Seen, Usage};
use crate::{Format, Operation};

const NAME: &str = "gemini";

/// A whole answer, or an element of a streamed one. Text stays JSON text, for it goes out as such.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Element<'a> {
    #[serde(borrow, default)]
    candidates: Vec<Candidate<'a>>,
    prompt_feedback: Option<Value>,
    usage_metadata: Option<Value>,
    response_id: Option<String>,
    error: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Candidate<'a> {
    #[serde(borrow)]
    content: Option<Content<'a>>,
    #[serde(borrow)]
    finish_reason: Option<Cow<'a, str>>,
    #[serde(default)]
    index: u64,
    logprobs_result: Option<Value>,
}

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(borrow, default)]
    parts: Vec<Part<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Part<'a> {
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(default)]
    thought: bool,
    #[serde(borrow)]
    thought_signature: Option<Cow<'a, str>>,
    function_call: Option<FunctionCall>,
    inline_data: Option<InlineData>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InlineData {
    mime_type: String,
    data: String,
}

/// What is neither text nor call.
enum Media {
    Image(Image),
    Audio(Audio),
}

impl Part<'_> {
    /// The picture or the sound that it is. Those of thoughts are sketches of it.
    fn media(&mut self) -> Option<Media> {
        let InlineData { mime_type: media_type, data } = self.inline_data.take().filter(|_| !self.thought)?;
        if media_type.starts_with("image/") {
            return Some(Media::Image(Image { media_type, data }));
        }
        let is_audio = media_type.starts_with("audio/");
        is_audio.then(|| Media::Audio(Audio { media_type, data, ..Audio::default() }))
    }
}

#[derive(Deserialize)]
struct FunctionCall {
    id: Option<String>,
    #[serde(default)]
    name: String,
    #[serde(default)]
    args: Map<String, Value>,
}

impl FunctionCall {
    /// Its id, else one that is made for it; with the signature that has to come back with it.
    fn id(&self, call: &str, index: usize, signature: Option<&str>) -> String {
        match &self.id {
            Some(id) => calls::with_signature(id, signature),
            None => calls::with_signature(&format!("call_{call}_{index}"), signature),
        }
    }
}

/// A whole answer, of a chat or a text completion.
///
/// # Errors
/// Why it cannot be understood, in Kong's words.
pub(crate) fn chat(body: &[u8], asked: &Asked<'_>, seen: Option<&mut Seen>) -> Result<Vec<u8>, String> {
    let failed = |reason| failed(NAME, asked.operation, reason);
    let given: Element<'_> =
        serde_json::from_slice(body).map_err(|_| failed("failed to decode response from Gemini"))?;
    let mut called = 0;
    let mut choices: Vec<Choice> =
        given.candidates.into_iter().map(|candidate| choice(candidate, asked, &mut called)).collect();
    if let Some(reason) = given.prompt_feedback.as_ref().and_then(blocked) {
        let blocks = vec![Block::Refusal(reason)];
        choices = vec![Choice { blocks, finish: Finish::Filtered, ..Choice::default() }];
    }
    if choices.is_empty() {
        return Err(failed("no generation candidates received from Gemini, or max_tokens too short"));
    }
    let tokens = given.usage_metadata.as_ref().and_then(tokens);
    Ok(Answer { id: given.response_id, choices, tokens, ..Answer::default() }.write(asked, seen))
}

fn choice(candidate: Candidate<'_>, asked: &Asked<'_>, called: &mut usize) -> Choice {
    let mut choice =
        Choice { logprobs: candidate.logprobs_result.as_ref().map(logprobs), ..Choice::default() };
    for mut part in candidate.content.map(|content| content.parts).unwrap_or_default() {
        let media = part.media();
        let text = part.text.map(|text| unquoted(text.get()).into_owned()).filter(|text| !text.is_empty());
        match text {
            Some(text) if part.thought => choice.blocks.push(Block::Reasoning { text, signature: None }),
            Some(text) => choice.blocks.push(Block::Text(text)),
            None => {}
        }
        match (media, choice.blocks.last_mut()) {
            (Some(Media::Image(image)), _) => choice.blocks.push(Block::Image(image)),
            (Some(Media::Audio(piece)), Some(Block::Audio(audio))) => audio.add(piece),
            (Some(Media::Audio(audio)), _) => choice.blocks.push(Block::Audio(audio)),
            (None, _) => {}
        }
        if let Some(call) = part.function_call {
            let id = call.id(asked.id, *called, part.thought_signature.as_deref());
            *called += 1;
            choice.blocks.push(Block::Call {
                id,
                name: call.name,
                arguments: Value::Object(call.args).to_string(),
            });
        }
    }
    choice.finish = finish(candidate.finish_reason.as_deref().unwrap_or_default(), choice.calls());
    choice
}

fn finish(reason: &str, calls: bool) -> Finish {
    match reason {
        "MAX_TOKENS" => Finish::Length,
        "SAFETY"
        | "RECITATION"
        | "BLOCKLIST"
        | "PROHIBITED_CONTENT"
        | "SPII"
        | "IMAGE_SAFETY"
        | "IMAGE_PROHIBITED_CONTENT"
        | "IMAGE_RECITATION"
        | "MODEL_ARMOR" => Finish::Filtered,
        _ if calls => Finish::Calls,
        _ => Finish::Stop,
    }
}

/// Why a prompt was not answered, where it was not.
pub(super) fn blocked(feedback: &Value) -> Option<String> {
    let reason = feedback["blockReason"].as_str().filter(|reason| *reason != "BLOCK_REASON_UNSPECIFIED")?;
    Some(match feedback["blockReasonMessage"].as_str() {
        Some(message) => format!("Gemini has blocked the prompt ({reason}): {message}"),
        None => format!("Gemini has blocked the prompt ({reason})"),
    })
}

/// Gemini's `usageMetadata`: what was thought counts with the answer, what tools gave with the prompt.
pub(crate) fn tokens(usage: &Value) -> Option<Tokens> {
    let count = |name: &str| usage[name].as_u64();
    let prompt = count("promptTokenCount")?;
    let thoughts = count("thoughtsTokenCount");
    let of_audio = |details: &str| {
        let mut all = usage[details].as_array().into_iter().flatten();
        all.find(|one| one["modality"] == "AUDIO")?["tokenCount"].as_u64()
    };
    Some(Tokens {
        prompt: prompt + count("toolUsePromptTokenCount").unwrap_or(0),
        cached: count("cachedContentTokenCount"),
        completion: count("candidatesTokenCount").unwrap_or(0) + thoughts.unwrap_or(0),
        reasoning: thoughts,
        prompt_audio: of_audio("promptTokensDetails"),
        completion_audio: of_audio("candidatesTokensDetails"),
        ..Tokens::default()
    })
}

/// Probabilities as OpenAI tells them.
fn logprobs(result: &Value) -> Value {
    let of = |candidate: &Value| {
        let token = candidate["token"].as_str().unwrap_or_default();
        json!({"token": token, "logprob": candidate["logProbability"], "bytes": token.as_bytes()})
    };
    let chosen = result["chosenCandidates"].as_array().into_iter().flatten();
    let content: Vec<Value> = chosen
        .enumerate()
        .map(|(index, candidate)| {
            let top = result["topCandidates"][index]["candidates"].as_array().into_iter().flatten();
            let mut told = of(candidate);
            told["top_logprobs"] = top.map(of).collect();
            told
        })
        .collect();
    json!({"content": content, "refusal": null})
}

/// Vectors, of AI Studio or of Vertex.
///
/// # Errors
/// Why they cannot be understood, in Kong's words.
pub(crate) fn embeddings(body: &[u8], asked: &Asked<'_>, seen: Option<&mut Seen>) -> Result<Vec<u8>, String> {
    let failed = |reason| failed(NAME, asked.operation, reason);
    let mut given: Value =
        serde_json::from_slice(body).map_err(|_| failed("failed to decode response from Gemini"))?;
    let mut list = |name: &str| match given.get_mut(name).map(Value::take) {
        Some(Value::Array(items)) => Some(items),
        _ => None,
    };
    let (vectors, tokens): (Vec<Value>, _) = if let Some(embeddings) = list("embeddings") {
        let usage = given["usageMetadata"]["promptTokenCount"].as_u64();
        (embeddings.into_iter().map(|mut one| taken(&mut one, "values")).collect(), usage)
    } else if let Some(predictions) = list("predictions") {
        let count = |one: &Value| one["embeddings"]["statistics"]["token_count"].as_f64();
        let told = predictions.iter().any(|one| count(one).is_some());
        let sum = predictions.iter().filter_map(count).sum::<f64>() as u64;
        let vectors = predictions
            .into_iter()
            .map(|mut one| taken(&mut taken(&mut one, "embeddings"), "values"))
            .collect();
        (vectors, told.then_some(sum))
    } else {
        return Err(failed(NO_EMBEDDINGS));
    };
    if !vectors.iter().all(Value::is_array) {
        return Err(failed(NO_EMBEDDINGS));
    }
    Ok(Vectors { vectors, tokens }.write(asked, seen))
}

const NO_EMBEDDINGS: &str = "no embeddings received from Gemini";

/// Takes in what a whole answer says that passes as it is.
pub(crate) fn look(body: &[u8], asked: &Asked<'_>, seen: &mut Seen) {
    let Ok(given) = serde_json::from_slice::<Value>(body) else { return };
    seen.model = Some(given["modelVersion"].as_str().unwrap_or(asked.model).to_owned());
    seen.usage = tokens(&given["usageMetadata"]).map(Tokens::usage);
    // What counts tokens uses none.
    if given["totalTokens"].is_number() {
        seen.usage = Some(Usage::default());
    }
}

/// An error answer, be it in a list or not; `None` where it is not Gemini's, or the client's format already.
pub(crate) fn error(status: u16, body: &[u8], format: Format) -> Option<Vec<u8>> {
    let given: Value = serde_json::from_slice(body).ok()?;
    let error = if given.is_array() { &given[0]["error"] } else { &given["error"] };
    if format == Format::Gemini && error["status"].is_string() {
        return None;
    }
    let failure = Failure { message: error["message"].as_str()?, kind: answer::kind_of(status), status };
    Some(failure.write(format).to_string().into_bytes())
}

/// A streamed answer.
pub(crate) struct Reader {
    objects: Objects,
    translation: Translation,
}

struct Translation {
    events: Events,
    id: String,
    /// Whether the model's own version is the one to be logged: where the answer passes as it is.
    names_version: bool,
    chat: bool,
    named: bool,
    calls: usize,
}

impl Reader {
    pub fn new(asked: &Asked<'_>, wishes: StreamWishes) -> Self {
        let translation = Translation {
            events: Events::new(asked, wishes),
            id: asked.id.to_owned(),
            names_version: wishes.shape == Shape::Nothing,
            chat: asked.operation == Operation::Chat,
            named: false,
            calls: 0,
        };
        Self { objects: Objects::default(), translation }
    }
}

impl Stream for Reader {
    fn chunk(&mut self, chunk: Bytes) -> Bytes {
        let Self { objects, translation } = self;
        if objects.watch(&chunk, |object| translation.element(object)).is_err() {
            translation.events.fail("an element of Gemini's answer is too long", "server_error", 502);
        }
        translation.events.take()
    }

    fn end(&mut self) -> Bytes {
        let rest = self.objects.end();
        if !rest.is_empty() {
            self.translation.element(&rest);
        }
        let events = &mut self.translation.events;
        events.close("Gemini");
        events.take()
    }

    fn take_seen(&mut self) -> Seen {
        self.translation.events.take_seen()
    }
}

/// The one member that only passing answers need.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    model_version: Option<String>,
}

impl Translation {
    fn element(&mut self, object: &[u8]) {
        let Ok(mut element) = serde_json::from_slice::<Element<'_>>(object) else {
            return self.events.fail("an element of Gemini's answer is no JSON", "server_error", 502);
        };
        if let Some(error) = &element.error {
            let message = error["message"].as_str().unwrap_or("Gemini tells of an error, but not of which");
            let code = error["code"].as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or(500);
            return self.events.fail(message, answer::kind_of(code), code);
        }
        if !self.named {
            self.named = true;
            let version = match self.names_version {
                true => serde_json::from_slice::<Version>(object).ok().and_then(|one| one.model_version),
                false => None,
            };
            self.events.name(element.response_id.as_deref(), version.as_deref());
        }
        if let Some(told) = element.usage_metadata.as_ref().and_then(tokens) {
            self.events.tokens = Some(told);
        }
        if self.chat && element.candidates.is_empty() {
            self.events.start();
        }
        if let Some(reason) = element.prompt_feedback.as_ref().and_then(blocked) {
            self.events.refusal(&quote(&reason));
            return self.events.finish(Finish::Filtered);
        }
        for candidate in &mut element.candidates {
            if self.events.choice(candidate.index) {
                self.candidate(candidate);
            }
        }
    }

    fn candidate(&mut self, candidate: &mut Candidate<'_>) {
        if self.chat {
            self.events.start();
        }
        for part in candidate.content.iter_mut().flat_map(|content| &mut content.parts) {
            self.part(part);
        }
        if let Some(reason) = &candidate.finish_reason {
            let finish = finish(reason, self.events.has_calls());
            self.events.finish(finish);
        }
    }

    fn part(&mut self, part: &mut Part<'_>) {
        match part.text {
            Some(text) if part.thought => self.events.reasoning(text.get()),
            Some(text) => self.events.text(text.get()),
            None => {}
        }
        match part.media() {
            Some(Media::Image(image)) => self.events.image(image),
            Some(Media::Audio(piece)) => self.events.audio(piece),
            None => {}
        }
        if let Some(call) = &part.function_call {
            let id = call.id(&self.id, self.calls, part.thought_signature.as_deref());
            self.calls += 1;
            self.events.call(&id, &call.name);
            let arguments = serde_json::to_string(&call.args).unwrap_or_default();
            self.events.arguments(&quote(&arguments));
            self.events.end_call();
        }
    }
}
