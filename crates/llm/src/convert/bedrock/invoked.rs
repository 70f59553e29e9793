//! Answers to Bedrock's `invoke`, in the format of the model that was invoked.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use serde_json::Value;

use aws_smithy_types::event_stream::Message;

use super::answer_reader::{Failed, failure};
use crate::Format;
use crate::aws_events::{Broken, Messages};
use crate::convert::answer::{Failure, Tokens};
use crate::convert::anthropic::answer_reader::Reader;
use crate::convert::anthropic::event_writer;
use crate::provider::{Asked, Shape, Stream, StreamWishes};
use crate::usage::{Seen, Usage};

/// What stands in the events of a streamed answer.
#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow)]
    bytes: &'a str,
}

/// The model's own event, as text; `None` where a message holds none.
fn inner(message: &Message) -> Option<String> {
    let chunk: Chunk<'_> = serde_json::from_slice(message.payload()).ok()?;
    String::from_utf8(STANDARD.decode(chunk.bytes).ok()?).ok()
}

/// Takes in what a whole answer says that passes as it is: usage, where the model tells it as most do.
pub(crate) fn look(body: &[u8], seen: &mut Seen) {
    let Ok(given) = serde_json::from_slice::<Value>(body) else { return };
    seen.usage = tokens(&given["usage"]);
}

/// Tokens by the names that models have for them; those of a cache count as the prompt's.
fn tokens(usage: &Value) -> Option<Usage> {
    let count = |names: &[&str]| names.iter().find_map(|name| usage[*name].as_u64());
    let fresh = count(&["input_tokens", "inputTokens", "inputTokenCount", "prompt_tokens"])?;
    let cached = count(&["cache_read_input_tokens", "cacheReadInputTokenCount", "cacheReadInputTokens"]);
    let written =
        count(&["cache_creation_input_tokens", "cacheWriteInputTokenCount", "cacheWriteInputTokens"]);
    let tokens = Tokens {
        prompt: fresh + cached.unwrap_or(0) + written.unwrap_or(0),
        cached,
        cache_written: written,
        completion: count(&["output_tokens", "outputTokens", "outputTokenCount", "completion_tokens"])
            .unwrap_or(0),
        cache_written_hour: usage["cache_creation"]["ephemeral_1h_input_tokens"].as_u64(),
        ..Tokens::default()
    };
    Some(tokens.usage())
}

/// A streamed answer of a Claude, given to Anthropic's clients: the events inside AWS's are theirs.
pub(crate) struct MessageEvents {
    messages: Messages,
    out: BytesMut,
    /// Reads along, for usage and text.
    reader: Reader,
    /// Whether the answer has come to its end, or to an error.
    over: bool,
}

impl MessageEvents {
    pub fn new(asked: &Asked<'_>, wishes: StreamWishes) -> Self {
        let wishes = StreamWishes { shape: Shape::Nothing, ..wishes };
        Self {
            messages: Messages::default(),
            out: BytesMut::new(),
            reader: Reader::new(asked, wishes),
            over: false,
        }
    }

    fn message(&mut self, message: &Message) {
        if self.over {
            return;
        }
        if let Some(Failed { text, kind, status }) = failure(message) {
            return self.fail(&text, &kind, status);
        }
        let before = self.out.len();
        let kind = inner(message).and_then(|data| event_writer::pass(&data, &mut self.out));
        match kind.as_deref() {
            Some("message_stop" | "error") => self.over = true,
            Some(_) => {}
            None => return self.fail("an event of Bedrock's answer is no JSON", "api_error", 502),
        }
        self.reader.chunk(Bytes::copy_from_slice(self.out.get(before..).unwrap_or_default()));
    }

    fn fail(&mut self, message: &str, kind: &str, status: u16) {
        let error = Failure { message, kind, status }.write(Format::Anthropic).to_string();
        event_writer::pass(&error, &mut self.out);
        self.over = true;
    }
}

impl Stream for MessageEvents {
    fn chunk(&mut self, chunk: Bytes) -> Bytes {
        self.messages.add(&chunk);
        loop {
            match self.messages.next() {
                Ok(Some(message)) => self.message(&message),
                Ok(None) => break,
                Err(Broken) => {
                    self.messages = Messages::default();
                    if !self.over {
                        let text = "the answer of Bedrock is damaged: a checksum or a length does not fit";
                        self.fail(text, "api_error", 502);
                    }
                    break;
                }
            }
        }
        self.out.split().freeze()
    }

    fn end(&mut self) -> Bytes {
        if !self.over {
            self.fail("the answer of Bedrock ended before it was complete", "api_error", 502);
        }
        self.out.split().freeze()
    }

    fn take_seen(&mut self) -> Seen {
        self.reader.take_seen()
    }
}

/// Reads a streamed answer that passes as it is, whatever the model: Bedrock adds the tokens to its last event.
#[derive(Default)]
pub(crate) struct Invocation {
    messages: Messages,
    seen: Seen,
}

impl Stream for Invocation {
    fn chunk(&mut self, chunk: Bytes) -> Bytes {
        self.messages.add(&chunk);
        while let Ok(Some(message)) = self.messages.next() {
            let data = inner(&message).filter(|data| data.contains("amazon-bedrock-invocationMetrics"));
            let event: Option<Value> = data.and_then(|data| serde_json::from_str(&data).ok());
            if let Some(usage) = event.and_then(|event| tokens(&event["amazon-bedrock-invocationMetrics"])) {
                self.seen.usage = Some(usage);
            }
        }
        Bytes::new()
    }

    fn end(&mut self) -> Bytes {
        Bytes::new()
    }

    fn take_seen(&mut self) -> Seen {
        std::mem::take(&mut self.seen)
    }
}
