//! Request ids: 32 lower-case hexadecimal characters (Kong 3.11).

/// Identifies a request in headers, errors and logs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RequestId([u8; 32]);

impl RequestId {
    /// A new id. Ids need to differ, not to be unpredictable: the per-thread generator is seeded by the system.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        let bits = fastrand::u128(..);
        let mut text = [0; 32];
        for (place, eight) in text.as_chunks_mut().0.iter_mut().enumerate() {
            *eight = digits((bits >> (32 * place)) as u32);
        }
        Self(text)
    }

    /// The id as bytes, all of them ASCII.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// Eight hexadecimal digits, all worked out at once.
fn digits(bits: u32) -> [u8; 8] {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let mut word = u64::from(bits);
    word = (word | word << 16) & 0x0000_ffff_0000_ffff;
    word = (word | word << 8) & 0x00ff_00ff_00ff_00ff;
    word = (word | word << 4) & (ONES * 0xf);
    let letters = ((word + ONES * 6) >> 4) & ONES;
    (word + ONES * u64::from(b'0') + letters * u64::from(b'a' - b'0' - 10)).to_be_bytes()
}

impl std::fmt::Display for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn digits_are_those_of_the_number() {
        for bits in [0, 1, 0x0123_4567, 0x89ab_cdef, 0x9a0f_f0a9, u32::MAX] {
            assert_eq!(digits(bits), format!("{bits:08x}").as_bytes());
        }
    }

    #[test]
    fn ids_are_32_hexadecimal_characters_and_differ() {
        let ids: HashSet<String> = (0..1000).map(|_| RequestId::new().to_string()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(
            ids.iter()
                .all(|id| id.len() == 32 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))
        );
    }
}
