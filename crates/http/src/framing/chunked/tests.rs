use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::{Chunked, write_chunk_size};
use crate::framing::Decoded;

/// The body, what follows it, and a trailer.
type Read = (Vec<u8>, Vec<u8>, Option<Bytes>);

/// Decodes a body that arrives in these pieces: its bytes, what follows it, and its trailers.
fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Read, &'static str> {
    let mut chunked = Chunked::default();
    let mut buffer = BytesMut::new();
    let mut body = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        while !chunked.is_done() {
            match chunked.decode(&mut buffer)? {
                Decoded::Data(data) => {
                    assert!(!data.is_empty());
                    body.extend_from_slice(&data);
                }
                Decoded::More => break,
                Decoded::End => assert!(chunked.is_done()),
            }
        }
    }
    let trailer = chunked.take_trailers().and_then(|trailers| trailers.get("t").map(Bytes::copy_from_slice));
    if chunked.is_done() { Ok((body, buffer.to_vec(), trailer)) } else { Err("unfinished") }
}

#[test]
fn sizes_are_written_as_hexadecimal() {
    for size in [0, 1, 9, 10, 15, 16, 255, 256, 4096, 65535, 65536, usize::MAX] {
        let mut line = Vec::new();
        write_chunk_size(&mut line, size);
        assert_eq!(line, format!("{size:x}\r\n").as_bytes());
    }
}

#[test]
fn fields_that_frame_are_no_trailers() {
    let mut chunked = Chunked::default();
    let mut buffer = BytesMut::from(&b"0\r\nContent-Length: 1\r\nT: 1\r\nHost: a\r\n\r\n"[..]);
    assert_eq!(chunked.decode(&mut buffer), Ok(Decoded::End));
    let trailers = chunked.take_trailers().unwrap();
    assert_eq!(trailers.iter().collect::<Vec<_>>(), [(&b"T"[..], &b"1"[..])]);
}

proptest! {
    #[test]
    fn any_split_gives_the_same_body(
        chunks in prop::collection::vec((prop::collection::vec(any::<u8>(), 1..40), "(;[a-z]{1,5}(=[a-z]{1,5})?)?"), 0..6),
        trailer in prop::option::of("[a-z]{1,8}"),
        mut cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
    ) {
        let mut encoded = Vec::new();
        for (data, extension) in &chunks {
            encoded.extend_from_slice(format!("{:X}{extension}\r\n", data.len()).as_bytes());
            encoded.extend_from_slice(data);
            encoded.extend_from_slice(b"\r\n");
        }
        encoded.extend_from_slice(b"0\r\n");
        if let Some(trailer) = &trailer {
            encoded.extend_from_slice(format!("t: {trailer}\r\n").as_bytes());
        }
        encoded.extend_from_slice(b"\r\nnext");
        cuts.sort_by_key(|cut| cut.index(encoded.len()));
        let mut pieces = Vec::new();
        let mut rest = encoded.as_slice();
        for cut in &cuts {
            let at = cut.index(encoded.len()) - (encoded.len() - rest.len());
            let (piece, after) = rest.split_at(at);
            pieces.push(piece);
            rest = after;
        }
        pieces.push(rest);
        let body: Vec<u8> = chunks.iter().flat_map(|(data, _)| data.clone()).collect();
        prop_assert_eq!(decode(pieces), Ok((body, b"next".to_vec(), trailer.map(Bytes::from))));
    }

    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(prop::sample::select(b"0123abf;=\r\n\0 x".to_vec()), 0..60)) {
        let whole = decode([bytes.as_slice()]);
        let single = decode(bytes.chunks(1));
        prop_assert_eq!(whole.map(|(body, ..)| body), single.map(|(body, ..)| body));
    }
}
