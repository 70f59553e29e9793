//! Where a body ends: by length, by chunks, by the end of the connection.

mod chunked;

use bytes::{Bytes, BytesMut};

use crate::{BodyError, Headers};
pub(crate) use chunked::{Chunked, write_chunk_size};

/// Takes a body out of the received bytes.
#[derive(Debug)]
pub(crate) enum Decoder {
    /// This many bytes are still to come.
    Length(u64),
    /// Chunked transfer coding.
    Chunked(Box<Chunked>),
    /// All until the peer closes.
    UntilClose,
}

/// What could be taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decoded {
    Data(Bytes),
    /// More bytes must be received first.
    More,
    End,
}

impl Decoder {
    pub(crate) fn chunked() -> Self {
        Self::Chunked(Box::default())
    }

    /// Takes the next piece out of `buffer`.
    pub(crate) fn decode(&mut self, buffer: &mut BytesMut) -> Result<Decoded, BodyError> {
        match self {
            Self::Length(0) => Ok(Decoded::End),
            Self::Chunked(chunked) => chunked.decode(buffer).map_err(BodyError::Malformed),
            _ if buffer.is_empty() => Ok(Decoded::More),
            Self::UntilClose => Ok(Decoded::Data(buffer.split().freeze())),
            Self::Length(remaining) => {
                let length = usize::try_from(*remaining).unwrap_or(usize::MAX).min(buffer.len());
                *remaining -= length as u64;
                Ok(Decoded::Data(buffer.split_to(length).freeze()))
            }
        }
    }

    /// Bytes still to come, where that is known.
    pub(crate) fn remaining(&self) -> Option<u64> {
        match self {
            Self::Length(remaining) => Some(*remaining),
            Self::Chunked(chunked) if chunked.is_done() => Some(0),
            Self::Chunked(_) | Self::UntilClose => None,
        }
    }

    /// Whether the whole body has been taken.
    pub(crate) fn is_done(&self) -> bool {
        self.remaining() == Some(0)
    }

    /// The trailer fields of a chunked body that has ended.
    pub(crate) fn take_trailers(&mut self) -> Option<Headers> {
        match self {
            Self::Chunked(chunked) => chunked.take_trailers(),
            _ => None,
        }
    }
}
