//! AWS's binary event stream, message by message, whatever pieces it arrives in.

use aws_smithy_eventstream::frame::{read_message_from, write_message_to};
use aws_smithy_types::event_stream::{Header, HeaderValue, Message};
use bytes::{Buf, Bytes, BytesMut};

/// Longest message that AWS sends, in bytes.
const LONGEST_MESSAGE: usize = 16 * 1024 * 1024;

/// Prelude and both checksums: the shortest message.
const SHORTEST_MESSAGE: usize = 16;

/// The stream is not what it should be: a length that cannot be, or a checksum that does not fit.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Broken;

/// Reads messages. Holds at most one that is under way.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    tail: BytesMut,
}

impl Messages {
    /// Takes in a piece.
    pub fn add(&mut self, piece: &Bytes) {
        self.tail.extend_from_slice(piece);
    }

    /// The next message that is there whole, its checksums checked.
    pub fn next(&mut self) -> Result<Option<Message>, Broken> {
        let Some(mut start) = self.tail.get(..4) else { return Ok(None) };
        let length = start.get_u32() as usize;
        if !(SHORTEST_MESSAGE..=LONGEST_MESSAGE).contains(&length) {
            return Err(Broken);
        }
        if self.tail.len() < length {
            return Ok(None);
        }
        let message = self.tail.split_to(length).freeze();
        read_message_from(message).map(Some).map_err(|_| Broken)
    }
}

/// A header that is a string.
pub(crate) fn header<'a>(message: &'a Message, name: &str) -> Option<&'a str> {
    message.headers().iter().find(|header| header.name().as_str() == name).and_then(|header| {
        match header.value() {
            HeaderValue::String(value) => Some(value.as_str()),
            _ => None,
        }
    })
}

/// Writes a message of JSON: of which type, and the header that says what it is called.
pub(crate) fn write(
    out: &mut BytesMut,
    message_type: &'static str,
    (header, kind): (&'static str, &'static str),
    payload: &str,
) {
    let text = |name: &'static str, value: &'static str| Header::new(name, HeaderValue::String(value.into()));
    let headers = vec![
        text(header, kind),
        text(":content-type", "application/json"),
        text(":message-type", message_type),
    ];
    let message = Message::new_from_parts(headers, Bytes::copy_from_slice(payload.as_bytes()));
    let before = out.len();
    // Only a payload of more than 16 MiB is too long; none of it may go out then.
    if write_message_to(&message, out).is_err() {
        out.truncate(before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(payload: &[u8]) -> Vec<u8> {
        let headers = vec![Header::new(":event-type", HeaderValue::String("messageStart".into()))];
        let mut out = Vec::new();
        let message = Message::new_from_parts(headers, Bytes::copy_from_slice(payload));
        write_message_to(&message, &mut out).unwrap();
        out
    }

    fn read(pieces: &[&[u8]]) -> Result<Vec<Vec<u8>>, Broken> {
        let mut messages = Messages::default();
        let mut payloads = Vec::new();
        for piece in pieces {
            messages.add(&Bytes::copy_from_slice(piece));
            while let Some(message) = messages.next()? {
                payloads.push(message.payload().to_vec());
            }
        }
        Ok(payloads)
    }

    /// The prelude of a real stream's first message: 0x89 bytes, 0x52 of them headers, and its checksum.
    #[test]
    fn a_prelude_of_a_real_stream() {
        let names = [":event-type", ":content-type", ":message-type"];
        let values = ["messageStart", "application/json", "event"];
        let header = |(name, value): (&'static str, &'static str)| {
            Header::new(name, HeaderValue::String(value.into()))
        };
        let headers = names.into_iter().zip(values).map(header).collect();
        let mut out = Vec::new();
        write_message_to(&Message::new_from_parts(headers, vec![b' '; 0x89 - 0x52 - 16]), &mut out).unwrap();
        let real = b"\0\0\0\x89\0\0\0\x52\x5c\xb1\x3d\x52\x0b:event-type\x07\0\x0cmessageStart";
        assert!(out.starts_with(real));
        let mut messages = Messages::default();
        messages.add(&Bytes::from_static(real));
        assert_eq!(messages.next(), Ok(None));
    }

    #[test]
    fn every_byte_counts() {
        let whole = frame(br#"{"role":"assistant"}"#);
        for at in 0..whole.len() {
            let mut wrong = whole.clone();
            wrong[at] ^= 1;
            // A length that became longer waits for more; everything else is found out at once.
            let read = read(&[&wrong, &[0; 64]]);
            assert_ne!(read, Ok(vec![br#"{"role":"assistant"}"#.to_vec()]), "byte {at}");
        }
        assert_eq!(read(&[&[0, 0, 0, 15]]), Err(Broken));
        assert_eq!(read(&[&[2, 0, 0, 0]]), Err(Broken));
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same(payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..5), piece in 1_usize..50) {
            let stream: Vec<u8> = payloads.iter().flat_map(|payload| frame(payload)).collect();
            let pieces: Vec<&[u8]> = stream.chunks(piece).collect();
            prop_assert_eq!(read(&pieces), Ok(payloads));
        }

        #[test]
        fn nonsense_is_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&[&bytes]);
        }
    }
}
