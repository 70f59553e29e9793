//! Answers in Gemini's format, whole and streamed.

use std::collections::BTreeMap;

use bytes::BytesMut;
use serde_json::{Map, Value, json};

use super::ALT;
use crate::convert::answer::{Answer, Block, Choice, Failure, Finish, Tokens};
use crate::convert::audio::Audio;
use crate::convert::events::{Writer, unquoted};
use crate::json::quote;
use crate::provider::Asked;

/// A whole answer.
pub(super) fn write(answer: Answer, asked: &Asked<'_>) -> Value {
    let mut written = Map::new();
    let candidates: Vec<Value> = answer.choices.into_iter().enumerate().map(candidate).collect();
    written.insert("candidates".to_owned(), candidates.into());
    if let Some(tokens) = answer.tokens {
        written.insert("usageMetadata".to_owned(), usage(tokens));
    }
    let model = answer.model.as_deref().unwrap_or(asked.model);
    written.insert("modelVersion".to_owned(), model.into());
    written.insert("responseId".to_owned(), answer.id.as_deref().unwrap_or(asked.id).into());
    Value::Object(written)
}

fn candidate((index, choice): (usize, Choice)) -> Value {
    let reason = finish_reason(&choice.finish);
    let parts: Vec<Value> = choice
        .blocks
        .into_iter()
        .filter(Block::says)
        .filter_map(|block| match block {
            Block::Text(text) | Block::Refusal(text) => Some(json!({"text": text})),
            Block::Reasoning { text, .. } => Some(json!({"text": text, "thought": true})),
            Block::Image(image) => Some(inline_data(&image.media_type, &image.data)),
            // The words of what is spoken have no place.
            Block::Audio(audio) => Some(inline_data(&audio.media_type, &audio.data)),
            Block::Redacted(_) => None,
            Block::Call { id, name, arguments } => Some(function_call(&id, &name, &arguments)),
        })
        .collect();
    json!({"content": {"parts": parts, "role": "model"}, "finishReason": reason, "index": index})
}

fn inline_data(media_type: &str, data: &str) -> Value {
    json!({"inlineData": {"mimeType": media_type, "data": data}})
}

fn function_call(id: &str, name: &str, arguments: &str) -> Value {
    let arguments: Value = serde_json::from_str(arguments).unwrap_or_else(|_| json!({}));
    json!({"functionCall": {"id": id, "name": name, "args": arguments}})
}

/// Gemini's word for why an answer ended: it has none for calls.
fn finish_reason(finish: &Finish) -> &'static str {
    match finish {
        Finish::Stop | Finish::Sequence(_) | Finish::Calls => "STOP",
        Finish::Length => "MAX_TOKENS",
        Finish::Filtered | Finish::Guardrail => "SAFETY",
        Finish::Other(_) => "OTHER",
    }
}

fn usage(tokens: Tokens) -> Value {
    let thoughts = tokens.reasoning.unwrap_or(0).min(tokens.completion);
    let mut usage = json!({
        "promptTokenCount": tokens.prompt,
        "candidatesTokenCount": tokens.completion - thoughts,
        "totalTokenCount": tokens.prompt + tokens.completion,
    });
    if let Some(cached) = tokens.cached {
        usage["cachedContentTokenCount"] = cached.into();
    }
    if thoughts > 0 {
        usage["thoughtsTokenCount"] = thoughts.into();
    }
    let audio =
        [("promptTokensDetails", tokens.prompt_audio), ("candidatesTokensDetails", tokens.completion_audio)];
    for (name, count) in audio {
        if let Some(count) = count.filter(|count| *count > 0) {
            usage[name] = json!([{"modality": "AUDIO", "tokenCount": count}]);
        }
    }
    usage
}

/// An error.
pub(super) fn error(status: u16, message: &str) -> Value {
    json!({"error": {"code": status, "message": message, "status": status_name(status)}})
}

/// Google's name of a status.
fn status_name(status: u16) -> &'static str {
    match status {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        409 => "ABORTED",
        429 => "RESOURCE_EXHAUSTED",
        // Bedrock's models fail so: the request is not at fault.
        424 => "INTERNAL",
        400..=499 => "INVALID_ARGUMENT",
        501 => "UNIMPLEMENTED",
        502 | 503 | 529 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        _ => "INTERNAL",
    }
}

/// The elements of a streamed answer: events, or a list, as the client asks for them.
pub(super) struct Elements {
    as_events: bool,
    any: bool,
    model: String,
    id: String,
    /// What every element ends with behind its candidates.
    tail: String,
    /// What an element with one part ends with behind that.
    part_tail: String,
    /// Which of the answers is told of.
    index: u64,
    /// The answers that have begun, by their indexes.
    candidates: BTreeMap<u64, Candidate>,
}

/// What is yet to be told of an answer.
#[derive(Default)]
struct Candidate {
    finish: Option<&'static str>,
    /// Id and name of the call under way, and its arguments so far.
    call: Option<(String, String, String)>,
}

impl Elements {
    pub fn new(asked: &Asked<'_>) -> Self {
        let mut elements = Self {
            as_events: asked.kept.contains_key(ALT),
            any: false,
            model: asked.model.to_owned(),
            id: asked.id.to_owned(),
            tail: String::new(),
            part_tail: String::new(),
            index: 0,
            candidates: BTreeMap::new(),
        };
        elements.write_tails();
        elements
    }

    fn write_tails(&mut self) {
        let (model, id, index) = (quote(&self.model), quote(&self.id), self.index);
        self.tail = format!(r#""modelVersion":{model},"responseId":{id}}}"#);
        self.part_tail = format!(r#"],"role":"model"}},"index":{index}}}],{}"#, self.tail);
    }

    fn candidate(&mut self) -> &mut Candidate {
        self.candidates.entry(self.index).or_default()
    }

    fn begin(&mut self, out: &mut BytesMut) {
        let start: &[u8] = match (self.as_events, self.any) {
            (true, _) => b"data: ",
            (false, false) => b"[",
            (false, true) => b",\r\n",
        };
        self.any = true;
        out.extend_from_slice(start);
    }

    fn end(&self, out: &mut BytesMut) {
        if self.as_events {
            out.extend_from_slice(b"\r\n\r\n");
        }
    }

    /// An element with one part.
    fn part(&mut self, out: &mut BytesMut, pieces: &[&str]) {
        self.begin(out);
        out.extend_from_slice(br#"{"candidates":[{"content":{"parts":["#);
        pieces.iter().for_each(|piece| out.extend_from_slice(piece.as_bytes()));
        out.extend_from_slice(self.part_tail.as_bytes());
        self.end(out);
    }
}

impl Writer for Elements {
    fn name(&mut self, id: Option<&str>, model: Option<&str>) {
        if let Some(id) = id {
            id.clone_into(&mut self.id);
        }
        if let Some(model) = model {
            model.clone_into(&mut self.model);
        }
        self.write_tails();
    }

    fn choice(&mut self, index: u64) -> bool {
        self.index = index;
        self.write_tails();
        true
    }

    fn start(&mut self, _: &mut BytesMut, _: Option<Tokens>) {
        self.candidate();
    }

    fn text(&mut self, out: &mut BytesMut, quoted: &str) {
        self.part(out, &[r#"{"text":"#, quoted, "}"]);
    }

    fn reasoning(&mut self, out: &mut BytesMut, quoted: &str) {
        self.part(out, &[r#"{"text":"#, quoted, r#","thought":true}"#]);
    }

    fn audio(&mut self, out: &mut BytesMut, piece: Audio) {
        if !piece.data.is_empty() {
            self.part(out, &[&inline_data(&piece.media_type, &piece.data).to_string()]);
        }
    }

    fn call(&mut self, _: &mut BytesMut, _: usize, id: &str, name: &str) {
        self.candidate().call = Some((id.to_owned(), name.to_owned(), String::new()));
    }

    fn arguments(&mut self, _: &mut BytesMut, _: usize, quoted: &str) {
        if let Some((_, _, arguments)) = &mut self.candidate().call {
            arguments.push_str(&unquoted(quoted));
        }
    }

    /// A call is told when all its arguments are there.
    fn end_call(&mut self, out: &mut BytesMut, _: usize) {
        if let Some((id, name, arguments)) = self.candidate().call.take() {
            self.part(out, &[&function_call(&id, &name, &arguments).to_string()]);
        }
    }

    fn finish(&mut self, _: &mut BytesMut, finish: &Finish) {
        self.candidate().finish = Some(finish_reason(finish));
    }

    fn done(&mut self, out: &mut BytesMut, tokens: Option<Tokens>) {
        self.begin(out);
        let ends = self.candidates.iter().map(|(index, candidate)| {
            let reason = candidate.finish.unwrap_or("STOP");
            json!({"content": {"parts": [{"text": ""}], "role": "model"}, "finishReason": reason, "index": index})
        });
        let ends = Value::from_iter(ends);
        out.extend_from_slice(format!(r#"{{"candidates":{ends},"#).as_bytes());
        if let Some(tokens) = tokens {
            out.extend_from_slice(format!(r#""usageMetadata":{},"#, usage(tokens)).as_bytes());
        }
        out.extend_from_slice(self.tail.as_bytes());
        self.end(out);
        if !self.as_events {
            out.extend_from_slice(b"]");
        }
    }

    fn fail(&mut self, out: &mut BytesMut, failure: &Failure<'_>) {
        self.begin(out);
        out.extend_from_slice(error(failure.status, failure.message).to_string().as_bytes());
        self.end(out);
        if !self.as_events {
            out.extend_from_slice(b"]");
        }
    }
}
