//! Takes gzip off an answer while it arrives.

use std::io::Write;

use bytes::Bytes;
use flate2::write::MultiGzDecoder;

/// A gzip'd body under way.
pub(super) struct Gunzip {
    /// `None` once the body has turned out not to be gzip.
    decoder: Option<MultiGzDecoder<Vec<u8>>>,
}

/// The body is not what its `Content-Encoding` says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotGzip;

impl Gunzip {
    pub(super) fn new() -> Self {
        Self { decoder: Some(MultiGzDecoder::new(Vec::new())) }
    }

    /// All that can be known of the body with this chunk. After an error there is nothing more.
    pub(super) fn chunk(&mut self, chunk: &[u8]) -> Result<Bytes, NotGzip> {
        let Some(decoder) = &mut self.decoder else { return Ok(Bytes::new()) };
        match decoder.write_all(chunk).and_then(|()| decoder.flush()) {
            Ok(()) => Ok(std::mem::take(decoder.get_mut()).into()),
            Err(_) => {
                self.decoder = None;
                Err(NotGzip)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;

    #[test]
    fn every_flushed_piece_comes_at_once() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        let mut gunzip = Gunzip::new();
        for event in ["data: 1\n\n", "data: 2\n\n"] {
            encoder.write_all(event.as_bytes()).unwrap();
            encoder.flush().unwrap();
            let chunk = std::mem::take(encoder.get_mut());
            assert_eq!(gunzip.chunk(&chunk).unwrap(), event);
        }
        let rest = encoder.finish().unwrap();
        assert_eq!(gunzip.chunk(&rest).unwrap(), "");
    }

    #[test]
    fn any_split_gives_the_same_and_nonsense_is_told_once() {
        let text = "data: hello hello hello\n\n".repeat(20);
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text.as_bytes()).unwrap();
        let encoded = encoder.finish().unwrap();
        for split in 0..encoded.len() {
            let mut gunzip = Gunzip::new();
            let (one, two) = encoded.split_at(split);
            let whole = [gunzip.chunk(one).unwrap(), gunzip.chunk(two).unwrap()].concat();
            assert_eq!(whole, text.as_bytes());
        }
        let mut gunzip = Gunzip::new();
        assert_eq!(gunzip.chunk(b"this is no gzip, and it is long enough to show"), Err(NotGzip));
        assert_eq!(gunzip.chunk(b"more").unwrap(), "");
    }
}
