//! Answers to chats in OpenAI's format, whole and event by event, written for providers that speak another; and
//! streamed text completions.

use bytes::BytesMut;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::Operation;
use crate::convert::answer::{Answer, Block, Choice, Failure, Finish, Image, Tokens};
use crate::convert::audio::Audio;
use crate::convert::events::Writer;
use crate::json::{quote, to_bytes};
use crate::provider::Asked;

/// A whole answer, of a chat or of a text completion.
#[derive(Serialize)]
struct Whole<'a> {
    id: String,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: Vec<WholeChoice>,
    usage: Told,
    #[serde(flatten)]
    more: Map<String, Value>,
}

/// What an answer says of its tokens.
#[derive(Serialize)]
#[serde(untagged)]
enum Told {
    Tokens(Usage),
    /// What stands for them where none are told.
    Nothing(Value),
}

#[derive(Serialize)]
struct WholeChoice {
    index: usize,
    /// Of a chat.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Message>,
    /// Of a text completion.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    logprobs: Option<Value>,
    finish_reason: String,
}

#[derive(Serialize)]
struct Message {
    role: &'static str,
    content: Option<String>,
    refusal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
    /// Not OpenAI's own: where gateways tell of pictures in chats, as OpenAI has them in requests.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    images: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    audio: Option<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ToolCall>,
}

#[derive(Serialize)]
struct ToolCall {
    id: String,
    r#type: &'static str,
    function: Function,
}

#[derive(Serialize)]
struct Function {
    name: String,
    arguments: String,
}

/// Tokens as OpenAI tells them.
#[derive(Serialize)]
pub(crate) struct Usage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_tokens_details: Option<PromptDetails>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completion_tokens_details: Option<CompletionDetails>,
}

#[derive(Serialize)]
struct PromptDetails {
    #[serde(skip_serializing_if = "Option::is_none")]
    cached_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    audio_tokens: Option<u64>,
}

#[derive(Serialize)]
struct CompletionDetails {
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    audio_tokens: Option<u64>,
}

/// Writes a whole answer.
pub(crate) fn write(answer: Answer, asked: &Asked<'_>) -> Vec<u8> {
    let is_text = asked.operation == Operation::Completions;
    let (object, kind) = if is_text { ("text_completion", "cmpl") } else { ("chat.completion", "chatcmpl") };
    to_bytes(&Whole {
        id: answer.id.unwrap_or_else(|| format!("{kind}-{}", asked.id)),
        object,
        created: asked.created,
        model: answer.model.as_deref().unwrap_or(asked.model),
        choices: (0..)
            .zip(answer.choices)
            .map(|(index, choice)| whole_choice(index, choice, is_text, asked))
            .collect(),
        usage: answer
            .tokens
            .map_or(Told::Nothing(answer.without_tokens), |tokens| Told::Tokens(usage(tokens))),
        more: if is_text { Map::new() } else { answer.more },
    })
}

fn whole_choice(index: usize, choice: Choice, is_text: bool, asked: &Asked<'_>) -> WholeChoice {
    let finish_reason = finish_reason(&choice.finish).to_owned();
    let content = choice.text();
    if is_text {
        let text = Some(content.unwrap_or_default());
        return WholeChoice { index, message: None, text, logprobs: choice.logprobs, finish_reason };
    }
    let reasoning_content = choice.reasoning();
    let (images, tool_calls) = (Vec::new(), Vec::new());
    let (refusal, audio) = (None, None);
    let mut message =
        Message { role: "assistant", content, refusal, reasoning_content, images, audio, tool_calls };
    for block in choice.blocks {
        match block {
            Block::Call { id, name, arguments } => message.tool_calls.push(ToolCall {
                id,
                r#type: "function",
                function: Function { name, arguments },
            }),
            Block::Refusal(text) => message.refusal = Some(text),
            Block::Image(picture) => message.images.push(image(message.images.len(), &picture)),
            Block::Audio(audio) => message.audio = Some(audio.for_openai(asked)),
            Block::Text(_) | Block::Reasoning { .. } | Block::Redacted(_) => {}
        }
    }
    WholeChoice { index, message: Some(message), text: None, logprobs: choice.logprobs, finish_reason }
}

/// A picture, as a part of a message has it.
fn image(index: usize, image: &Image) -> Value {
    let url = format!("data:{};base64,{}", image.media_type, image.data);
    json!({"type": "image_url", "image_url": {"url": url}, "index": index})
}

/// OpenAI's word for why an answer ended.
pub(crate) fn finish_reason(finish: &Finish) -> &str {
    match finish {
        Finish::Stop | Finish::Sequence(_) => "stop",
        Finish::Length => "length",
        Finish::Calls => "tool_calls",
        Finish::Filtered => "content_filter",
        // Kong keeps it, for clients to tell it from the model's own refusals.
        Finish::Guardrail => "guardrail_intervened",
        Finish::Other(reason) => reason,
    }
}

/// An error.
pub(crate) fn error(failure: &Failure<'_>) -> Value {
    json!({"error": {"message": failure.message, "type": failure.kind, "param": null, "code": null}})
}

/// Tokens as OpenAI tells them.
pub(crate) fn usage(tokens: Tokens) -> Usage {
    let (cached_tokens, reasoning_tokens) = (tokens.cached, tokens.reasoning);
    let prompt = PromptDetails { cached_tokens, audio_tokens: tokens.prompt_audio };
    let completion = CompletionDetails { reasoning_tokens, audio_tokens: tokens.completion_audio };
    Usage {
        prompt_tokens: tokens.prompt,
        completion_tokens: tokens.completion,
        total_tokens: tokens.prompt + tokens.completion,
        prompt_tokens_details: tokens.cached.or(tokens.prompt_audio).map(|_| prompt),
        completion_tokens_details: tokens.reasoning.or(tokens.completion_audio).map(|_| completion),
    }
}

/// The events of a streamed answer.
pub(crate) struct Chunks {
    /// What every event begins with: all before the index of its choice.
    head: Vec<u8>,
    /// The index, and all between it and the delta.
    place: String,
    chat: bool,
    model: String,
    id: String,
    /// Of what is spoken, where its provider has none.
    audio_id: String,
    created: u64,
    /// The client has not asked for the tokens.
    hide_usage: bool,
}

impl Chunks {
    pub fn new(asked: &Asked<'_>, hide_usage: bool) -> Self {
        let mut chunks = Self {
            head: Vec::new(),
            place: String::new(),
            chat: asked.operation == Operation::Chat,
            model: asked.model.to_owned(),
            id: format!("chatcmpl-{}", asked.id),
            audio_id: format!("audio_{}", asked.id),
            created: asked.created,
            hide_usage,
        };
        chunks.write_head();
        chunks.choice(0);
        chunks
    }

    fn object(&self) -> &'static str {
        if self.chat { "chat.completion.chunk" } else { "text_completion" }
    }

    fn write_head(&mut self) {
        let (id, object, created, model) = (quote(&self.id), self.object(), self.created, quote(&self.model));
        self.head = format!(
            r#"data: {{"id":{id},"object":"{object}","created":{created},"model":{model},"choices":[{{"index":"#
        )
        .into_bytes();
    }

    fn delta(&self, out: &mut BytesMut, delta: &[&[u8]]) {
        self.event(out, delta, "null");
    }

    fn event(&self, out: &mut BytesMut, pieces: &[&[u8]], reason: &str) {
        out.extend_from_slice(&self.head);
        out.extend_from_slice(self.place.as_bytes());
        pieces.iter().for_each(|piece| out.extend_from_slice(piece));
        out.extend_from_slice(br#","logprobs":null,"finish_reason":"#);
        out.extend_from_slice(reason.as_bytes());
        out.extend_from_slice(b"}]}\n\n");
    }
}

impl Writer for Chunks {
    fn name(&mut self, id: Option<&str>, model: Option<&str>) {
        if let Some(id) = id {
            id.clone_into(&mut self.id);
        }
        if let Some(model) = model {
            model.clone_into(&mut self.model);
        }
        self.write_head();
    }

    fn choice(&mut self, index: u64) -> bool {
        let member = if self.chat { "delta" } else { "text" };
        self.place = format!(r#"{index},"{member}":"#);
        true
    }

    fn start(&mut self, out: &mut BytesMut, _: Option<Tokens>) {
        if self.chat {
            self.delta(out, &[br#"{"role":"assistant","content":""}"#]);
        }
    }

    fn text(&mut self, out: &mut BytesMut, quoted: &str) {
        match self.chat {
            true => self.delta(out, &[br#"{"content":"#, quoted.as_bytes(), b"}"]),
            false => self.delta(out, &[quoted.as_bytes()]),
        }
    }

    fn reasoning(&mut self, out: &mut BytesMut, quoted: &str) {
        // A completion has no place for it.
        if !self.chat {
            return;
        }
        self.delta(out, &[br#"{"reasoning_content":"#, quoted.as_bytes(), b"}"]);
    }

    fn refusal(&mut self, out: &mut BytesMut, quoted: &str) {
        self.delta(out, &[br#"{"refusal":"#, quoted.as_bytes(), b"}"]);
    }

    fn image(&mut self, out: &mut BytesMut, index: usize, picture: Image) {
        // A completion has no place for it.
        if self.chat {
            let images = json!({"images": [image(index, &picture)]}).to_string();
            self.delta(out, &[images.as_bytes()]);
        }
    }

    fn audio(&mut self, out: &mut BytesMut, piece: Audio) {
        // A completion has no place for it.
        if self.chat {
            let id = piece.id.clone().unwrap_or_else(|| self.audio_id.clone());
            let delta = Audio { id: Some(id), ..piece }.delta().to_string();
            self.delta(out, &[delta.as_bytes()]);
        }
    }

    fn call(&mut self, out: &mut BytesMut, index: usize, id: &str, name: &str) {
        let call = format!(
            r#"{{"tool_calls":[{{"index":{index},"id":{},"type":"function","function":{{"name":{},"arguments":""}}}}]}}"#,
            quote(id),
            quote(name)
        );
        self.delta(out, &[call.as_bytes()]);
    }

    fn arguments(&mut self, out: &mut BytesMut, index: usize, quoted: &str) {
        let start = format!(r#"{{"tool_calls":[{{"index":{index},"function":{{"arguments":"#);
        self.delta(out, &[start.as_bytes(), quoted.as_bytes(), b"}}]}"]);
    }

    fn finish(&mut self, out: &mut BytesMut, finish: &Finish) {
        let nothing: &[u8] = if self.chat { b"{}" } else { br#""""# };
        self.event(out, &[nothing], &quote(finish_reason(finish)));
    }

    fn done(&mut self, out: &mut BytesMut, tokens: Option<Tokens>) {
        if let Some(tokens) = tokens.filter(|_| !self.hide_usage) {
            let event = json!({
                "id": self.id, "object": self.object(), "created": self.created,
                "model": self.model, "choices": [], "usage": usage(tokens),
            });
            put(out, &event);
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
    }

    fn fail(&mut self, out: &mut BytesMut, failure: &Failure<'_>) {
        let mut told = error(failure);
        told["error"]["status"] = failure.status.into();
        put(out, &told);
    }
}

fn put(out: &mut BytesMut, event: &Value) {
    out.extend_from_slice(format!("data: {event}\n\n").as_bytes());
}
