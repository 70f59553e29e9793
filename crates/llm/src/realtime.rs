//! What a conversation over a WebSocket says about itself: OpenAI's realtime events, read of the provider's frames
//! (RFC 6455 §5) as they pass.

use memchr::memmem;

use crate::json::Object;
use crate::usage::{Seen, Usage};

/// Longest message that is read, in bytes: of a longer one, such as one with much sound in it, nothing is.
const LONGEST: usize = 1024 * 1024;

/// Longest head of a frame, in bytes: opcode, length and mask.
const LONGEST_HEAD: usize = 14;

/// The provider's side of a conversation.
#[derive(Debug)]
pub struct Conversation {
    /// As much of a frame's head as has come.
    head: Vec<u8>,
    /// Bytes of the frame that are still to come.
    left: u64,
    frame: Frame,
    /// What has come of a message that is read.
    message: Vec<u8>,
    /// Whether the message under way is one that is read.
    reads: bool,
    /// Whether an answer has begun that has not ended.
    answers: bool,
    seen: Seen,
}

/// Of a frame whose head is there.
#[derive(Debug, Clone, Copy, Default)]
struct Frame {
    /// Whether it is a part of a message, and not a ping, pong or close between two parts.
    is_part: bool,
    /// Whether it is the message's last.
    is_last: bool,
}

impl Default for Conversation {
    fn default() -> Self {
        Self {
            head: Vec::with_capacity(LONGEST_HEAD),
            left: 0,
            frame: Frame::default(),
            message: Vec::new(),
            reads: false,
            answers: false,
            // Nothing is estimated of what the provider counts.
            seen: Seen { usage: Some(Usage::default()), ..Seen::default() },
        }
    }
}

impl Conversation {
    /// Takes in what the provider sends, in any split of the bytes.
    pub fn read(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left == 0 {
                bytes = self.read_head(bytes);
                continue;
            }
            let here = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
            let (payload, rest) = bytes.split_at(here);
            bytes = rest;
            self.left -= here as u64;
            if self.frame.is_part && self.reads {
                self.reads = self.message.len() + here <= LONGEST;
                if self.reads {
                    self.message.extend_from_slice(payload);
                }
            }
            self.end_frame();
        }
    }

    /// Whether an answer has begun that has not ended.
    pub fn answers(&self) -> bool {
        self.answers
    }

    /// Gives away what was said: the model, and the tokens of all answers.
    pub fn take_seen(&mut self) -> Seen {
        std::mem::take(&mut self.seen)
    }

    /// Takes in a byte of a frame's head; what is behind it.
    fn read_head<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let Some((byte, rest)) = bytes.split_first() else { return bytes };
        self.head.push(*byte);
        let Some(length) = length(&self.head) else { return rest };
        let [first, second, ..] = *self.head else { return rest };
        let opcode = first & 0x0f;
        self.frame = Frame { is_part: opcode < 8, is_last: first & 0x80 != 0 };
        if matches!(opcode, TEXT | BINARY) {
            self.message.clear();
            // A provider masks nothing, and compresses only what was agreed on.
            self.reads = opcode == TEXT && first & 0x70 == 0 && second & 0x80 == 0;
        }
        self.left = length;
        self.head.clear();
        self.end_frame();
        rest
    }

    /// Reads a message that is there to its end.
    fn end_frame(&mut self) {
        if self.left == 0 && self.frame.is_part && self.frame.is_last && std::mem::take(&mut self.reads) {
            self.read_message();
        }
    }

    fn read_message(&mut self) {
        let may_be = |name: &[u8]| memmem::find(&self.message, name).is_some();
        if !may_be(b"response.created") && !may_be(b"response.done") && !may_be(b"session.") {
            return;
        }
        let Some(event) = Object::parse(&self.message) else { return };
        let part = |name: &str| event.get(name).and_then(|part| Object::parse(part.as_bytes()));
        match event.get_str("type").as_deref() {
            Some("session.created" | "session.updated") => {
                let model = part("session").and_then(|session| Some(session.get_str("model")?.into_owned()));
                self.seen.model = model.or(self.seen.model.take());
            }
            Some("response.created") => self.answers = true,
            Some("response.done") => {
                self.answers = false;
                let usage = part("response").and_then(|response| Usage::from_openai(response.get("usage")?));
                if let Some(usage) = usage {
                    self.seen.usage.get_or_insert_default().add(&usage);
                }
            }
            _ => {}
        }
    }
}

/// Opcodes that begin a message.
const TEXT: u8 = 1;
const BINARY: u8 = 2;

/// Bytes of the payload behind a frame's head; `None` while the head is not there to its end.
fn length(head: &[u8]) -> Option<u64> {
    let second = *head.get(1)?;
    let (length, end) = match second & 0x7f {
        126 => (u64::from(u16::from_be_bytes(head.get(2..4)?.try_into().ok()?)), 4),
        127 => (u64::from_be_bytes(head.get(2..10)?.try_into().ok()?), 10),
        short => (u64::from(short), 2),
    };
    let end = if second & 0x80 == 0 { end } else { end + 4 };
    (head.len() >= end).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// A frame as a server sends it.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        match payload.len() {
            length @ 0..126 => frame.push(length as u8),
            length @ 126..65536 => {
                frame.push(126);
                frame.extend_from_slice(&(length as u16).to_be_bytes());
            }
            length => {
                frame.push(127);
                frame.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        [&frame, payload].concat()
    }

    fn text(event: &Value) -> Vec<u8> {
        frame(0x81, event.to_string().as_bytes())
    }

    /// An answer's end, as OpenAI documents it.
    fn done(cached: u64) -> Value {
        json!({"event_id": "event_1", "type": "response.done", "response": {
            "object": "realtime.response", "id": "resp_1", "status": "completed",
            "usage": {
                "total_tokens": 253, "input_tokens": 132, "output_tokens": 121,
                "input_token_details": {
                    "text_tokens": 119, "audio_tokens": 13, "image_tokens": 0, "cached_tokens": cached,
                    "cached_tokens_details": {"text_tokens": cached, "audio_tokens": 0},
                },
                "output_token_details": {"text_tokens": 30, "audio_tokens": 91},
            },
        }})
    }

    fn conversation() -> Vec<u8> {
        let session = json!({"type": "session.created", "session": {"model": "gpt-realtime-2025-08-28"}});
        let last = done(64).to_string();
        let (begins, ends) = last.split_at(40);
        let sound = json!({"type": "response.output_audio.delta", "delta": "A".repeat(70_000)});
        [
            text(&session),
            text(&json!({"type": "response.created", "response": {"usage": null}})),
            text(&sound),
            text(&done(0)),
            // Of another conversation's end a user may speak.
            text(&json!({"type": "response.output_text.delta", "delta": "response.done"})),
            frame(0x01, begins.as_bytes()),
            frame(0x89, b"ping"),
            frame(0x80, ends.as_bytes()),
            frame(0x82, done(0).to_string().as_bytes()),
            frame(0xc1, done(0).to_string().as_bytes()),
            frame(0x81, b""),
            frame(0x81, b"{"),
            frame(0x88, &[3, 232]),
        ]
        .concat()
    }

    #[test]
    fn answers_are_added_up_whatever_the_split() {
        let bytes = conversation();
        for size in [1, 2, 3, 7, 125, 4096, bytes.len()] {
            let mut conversation = Conversation::default();
            let mut answered = false;
            for piece in bytes.chunks(size) {
                conversation.read(piece);
                answered |= conversation.answers();
            }
            assert!(!conversation.answers() && (answered || size == bytes.len()), "{size}");
            let seen = conversation.take_seen();
            assert_eq!(seen.model.as_deref(), Some("gpt-realtime-2025-08-28"));
            let usage = seen.usage.unwrap();
            let counts = (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens);
            assert_eq!(counts, (264, 242, 506), "{size}");
            assert_eq!(usage.cached_tokens(), 64);
            let details = json!({
                "text_tokens": 238, "audio_tokens": 26, "image_tokens": 0, "cached_tokens": 64,
                "cached_tokens_details": {"text_tokens": 64, "audio_tokens": 0},
            });
            assert_eq!(json!(usage.prompt_tokens_details), details);
            let details = json!({"text_tokens": 60, "audio_tokens": 182});
            assert_eq!(json!(usage.completion_tokens_details), details);
        }
    }

    #[test]
    fn what_is_too_long_is_not_kept() {
        let mut conversation = Conversation::default();
        let long = json!({"type": "response.done", "response": {"usage": {"input_tokens": 1}, "x": "x".repeat(LONGEST)}});
        for piece in text(&long).chunks(1000) {
            conversation.read(piece);
            assert!(conversation.message.len() <= LONGEST);
        }
        conversation.read(&text(&done(0)));
        assert_eq!(conversation.take_seen().usage.unwrap().prompt_tokens, 132);
        // A length that nothing can have.
        conversation.read(&[0x81, 127, 255, 255, 255, 255, 255, 255, 255, 255, b'x']);
        assert_eq!(conversation.take_seen(), Seen::default());
    }
}
