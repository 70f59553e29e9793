//! Request ids: 32 lower-case hexadecimal characters (Kong 3.11).

/// Identifies a request in headers, errors and logs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RequestId([u8; 32]);

impl RequestId {
    /// A new id. Ids need to differ, not to be unpredictable: the per-thread generator is seeded by the system.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut bits = fastrand::u128(..);
        let mut text = [0; 32];
        for character in &mut text {
            *character = DIGITS[(bits & 0xf) as usize];
            bits >>= 4;
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
    fn ids_are_32_hexadecimal_characters_and_differ() {
        let ids: HashSet<String> = (0..1000).map(|_| RequestId::new().to_string()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(
            ids.iter()
                .all(|id| id.len() == 32 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))
        );
    }
}
