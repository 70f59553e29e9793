//! Answers that are spoken, in chats.
//!
//! OpenAI says how (`modalities`, `audio`), and gives what was said in words beside it; Gemini speaks as plain samples
//! (`audio/L16`), without the words. Who asks Gemini for `wav` gets the samples with a head; what would have to be
//! compressed is refused.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::json::Object;
use crate::provider::Asked;

/// What samples are called that OpenAI knows as `pcm16`: 16 bits, one channel, 24,000 a second.
pub(crate) const PCM16: &str = "audio/L16;codec=pcm;rate=24000";

/// Samples a second, where nobody says.
const RATE: u32 = 24_000;

/// How an answer is to be spoken.
#[derive(Debug, Default)]
pub(crate) struct Speech {
    pub voice: Option<String>,
    /// `pcm16`, `wav`, …, as OpenAI names them.
    pub format: Option<String>,
}

/// What was spoken, or a piece of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Audio {
    /// Its provider's id of it.
    pub id: Option<String>,
    /// What it is, such as [`PCM16`].
    pub media_type: String,
    /// Its bytes, as base64.
    pub data: String,
    /// The same in words, where they are told.
    pub transcript: String,
    /// Until when its provider knows it, in seconds since 1970.
    pub expires_at: Option<u64>,
}

impl Audio {
    /// Reads OpenAI's, whole or a piece.
    pub fn of_openai(given: &Value) -> Self {
        let text = |name: &str| given[name].as_str().unwrap_or_default().to_owned();
        Self {
            id: given["id"].as_str().map(str::to_owned),
            media_type: PCM16.to_owned(),
            data: text("data"),
            transcript: text("transcript"),
            expires_at: given["expires_at"].as_u64(),
        }
    }

    /// Adds the piece that follows. Each piece is base64 of its own.
    pub fn add(&mut self, piece: Self) {
        let rest = if self.data.ends_with('=') { self.data.len().saturating_sub(4) } else { self.data.len() };
        let bytes = self.data.get(rest..).map(|rest| STANDARD.decode(rest).unwrap_or_default());
        match bytes.filter(|bytes| !bytes.is_empty()) {
            Some(mut bytes) => {
                bytes.extend(STANDARD.decode(&piece.data).unwrap_or_default());
                self.data.truncate(rest);
                STANDARD.encode_string(bytes, &mut self.data);
            }
            None => self.data.push_str(&piece.data),
        }
        self.transcript.push_str(&piece.transcript);
        self.id = self.id.take().or(piece.id);
        self.expires_at = piece.expires_at.or(self.expires_at);
    }

    /// OpenAI's `message.audio`. An answer that its provider does not keep has an id all the same.
    pub fn for_openai(self, asked: &Asked<'_>) -> Value {
        let wants_wav = asked.kept.get(AUDIO).is_some_and(|format| format == "wav");
        let data = if wants_wav { wav(&self.media_type, self.data) } else { self.data };
        json!({
            "id": self.id.unwrap_or_else(|| format!("audio_{}", asked.id)),
            "data": data,
            "expires_at": self.expires_at.unwrap_or(asked.created),
            "transcript": self.transcript,
        })
    }

    /// OpenAI's `delta.audio`: what the piece has.
    pub fn delta(self) -> Value {
        let text = |text: String| (!text.is_empty()).then(|| Value::from(text));
        let members = [
            ("id", self.id.map(Value::from)),
            ("data", text(self.data)),
            ("transcript", text(self.transcript)),
            ("expires_at", self.expires_at.map(Value::from)),
        ];
        let members = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        json!({"audio": members.collect::<Map<_, _>>()})
    }
}

/// What of a request its spoken answer is made of too: the format.
pub(crate) fn kept(body: &Object<'_>) -> Map<String, Value> {
    let audio = body.get(AUDIO).and_then(|audio| Object::parse(audio.as_bytes()));
    let format = audio.and_then(|audio| audio.get_str("format").map(|format| format.into_owned()));
    format.map(|format| (AUDIO.to_owned(), format.into())).into_iter().collect()
}

const AUDIO: &str = "audio";

/// Plain samples with the head of a WAV file (RIFF, one channel of 16 bits); anything else stays as it is.
fn wav(media_type: &str, data: String) -> String {
    let is_plain = media_type.get(..9).is_some_and(|start| start.eq_ignore_ascii_case("audio/L16"));
    let Some(samples) = is_plain.then(|| STANDARD.decode(&data).ok()).flatten() else { return data };
    let rate = media_type.split(';').find_map(|parameter| parameter.trim().strip_prefix("rate="));
    let rate = rate.and_then(|rate| rate.parse().ok()).unwrap_or(RATE);
    let length = u32::try_from(samples.len()).unwrap_or(u32::MAX);
    let mut file = Vec::with_capacity(44 + samples.len());
    file.extend_from_slice(b"RIFF");
    file.extend_from_slice(&length.saturating_add(36).to_le_bytes());
    file.extend_from_slice(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    file.extend_from_slice(&rate.to_le_bytes());
    file.extend_from_slice(&u32::saturating_mul(rate, 2).to_le_bytes());
    file.extend_from_slice(b"\x02\0\x10\0data");
    file.extend_from_slice(&length.to_le_bytes());
    file.extend_from_slice(&samples);
    STANDARD.encode(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pieces of any length make the bytes that they are of.
    #[test]
    fn pieces_are_added() {
        let bytes: Vec<u8> = (0..40).collect();
        for length in 1..=7 {
            let mut whole = Audio::default();
            for piece in bytes.chunks(length) {
                whole.add(Audio { data: STANDARD.encode(piece), ..Audio::default() });
            }
            assert_eq!(STANDARD.decode(&whole.data).unwrap(), bytes, "{length}");
        }
    }

    #[test]
    fn what_is_no_base64_is_no_panic() {
        let mut whole = Audio { data: "é=".to_owned(), ..Audio::default() };
        whole.add(Audio { data: "\u{1f600}".to_owned(), ..Audio::default() });
        whole.add(Audio { data: "=".to_owned(), ..Audio::default() });
        assert_eq!(wav(PCM16, "é".to_owned()), "é");
    }

    #[test]
    fn samples_get_a_head() {
        let file = STANDARD.decode(wav("audio/L16;rate=8000", STANDARD.encode([1, 2, 3, 4]))).unwrap();
        assert_eq!(&file[..4], b"RIFF");
        assert_eq!(file[4..8], 40_u32.to_le_bytes());
        assert_eq!(&file[8..16], b"WAVEfmt ");
        // Head of 16 bytes, plain samples, one channel, samples and bytes a second, bytes and bits of a sample.
        assert_eq!(file[16..24], [16, 0, 0, 0, 1, 0, 1, 0]);
        assert_eq!(file[24..32], [8000_u32.to_le_bytes(), 16_000_u32.to_le_bytes()].concat());
        assert_eq!(file[32..36], [2, 0, 16, 0]);
        assert_eq!(&file[36..40], b"data");
        assert_eq!(file[40..], [4, 0, 0, 0, 1, 2, 3, 4]);
        assert_eq!(wav("audio/mpeg", "SUQz".to_owned()), "SUQz");
    }
}
