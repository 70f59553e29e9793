//! Where JSON values end: one pass that checks the grammar (RFC 8259) and builds nothing.

/// How deep values may be nested (as cjson, which Kong reads with).
const DEEPEST: usize = 1000;

/// Where the value that begins at `at` ends; `None` where there is no valid one.
pub(super) fn value(text: &[u8], at: usize) -> Option<usize> {
    nested(text, at, DEEPEST)
}

/// The first place from `at` on that is no white space.
pub(super) fn space(text: &[u8], at: usize) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    at + rest.iter().position(|byte| !matches!(byte, b' ' | b'\n' | b'\r' | b'\t')).unwrap_or(rest.len())
}

/// Where the string whose opening quote is at `at` ends, behind its closing quote.
pub(super) fn string(text: &[u8], at: usize) -> Option<usize> {
    if text.get(at) != Some(&b'"') {
        return None;
    }
    let mut from = at + 1;
    loop {
        let rest = text.get(from..)?;
        let length = plain_length(rest)?;
        let escape = match rest.get(length..)? {
            [b'"', ..] => return Some(from + length + 1),
            [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => 2,
            [b'\\', b'u', digits @ ..] if digits.get(..4)?.iter().all(u8::is_ascii_hexdigit) => 6,
            _ => return None,
        };
        from += length + escape;
    }
}

/// How many bytes come before the first that is not plain: the end of the string, an escape, or a control byte,
/// which must not be there. `None` where all are plain.
fn plain_length(rest: &[u8]) -> Option<usize> {
    // Names and most values end soon: a call for each would cost more than looking.
    const SOON: usize = 4;
    let words = rest.as_chunks::<8>().0;
    for (place, word) in words.iter().take(SOON).enumerate() {
        let found = not_plain(u64::from_le_bytes(*word));
        if found != 0 {
            return Some(place * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let begun = words.len().min(SOON) * 8;
    let rest = rest.get(begun..)?;
    let length = memchr::memchr2(b'"', b'\\', rest)?;
    let plain = rest.get(..length)?;
    // Without a branch per byte, so that it is done many bytes at a time.
    if plain.iter().fold(false, |found, byte| found | (*byte < b' ')) {
        return plain.iter().position(|byte| *byte < b' ').map(|at| begun + at);
    }
    Some(begun + length)
}

/// Has the high bit of the first byte set that is a quote, a backslash or a control byte; bits above it mean nothing.
fn not_plain(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let zero = |word: u64| word.wrapping_sub(ONES) & !word;
    let less_than_space = word.wrapping_sub(ONES * b' ' as u64) & !word;
    let (quotes, backslashes) = (zero(word ^ (ONES * b'"' as u64)), zero(word ^ (ONES * b'\\' as u64)));
    (quotes | backslashes | less_than_space) & HIGH
}

fn nested(text: &[u8], at: usize, depth: usize) -> Option<usize> {
    match text.get(at)? {
        b'"' => string(text, at),
        b'{' => members(text, at, depth.checked_sub(1)?),
        b'[' => elements(text, at, depth.checked_sub(1)?),
        b't' => word(text, at, b"true"),
        b'f' => word(text, at, b"false"),
        b'n' => word(text, at, b"null"),
        _ => number(text, at),
    }
}

fn word(text: &[u8], at: usize, word: &[u8]) -> Option<usize> {
    text.get(at..)?.starts_with(word).then_some(at + word.len())
}

fn members(text: &[u8], at: usize, depth: usize) -> Option<usize> {
    let mut at = space(text, at + 1);
    if text.get(at) == Some(&b'}') {
        return Some(at + 1);
    }
    loop {
        at = colon(text, string(text, at)?)?;
        at = space(text, nested(text, at, depth)?);
        match text.get(at)? {
            b',' => at = space(text, at + 1),
            b'}' => return Some(at + 1),
            _ => return None,
        }
    }
}

/// Behind the colon that follows a name, where its value begins.
pub(super) fn colon(text: &[u8], at: usize) -> Option<usize> {
    let at = space(text, at);
    (text.get(at) == Some(&b':')).then(|| space(text, at + 1))
}

fn elements(text: &[u8], at: usize, depth: usize) -> Option<usize> {
    let mut at = space(text, at + 1);
    if text.get(at) == Some(&b']') {
        return Some(at + 1);
    }
    loop {
        at = space(text, nested(text, at, depth)?);
        match text.get(at)? {
            b',' => at = space(text, at + 1),
            b']' => return Some(at + 1),
            _ => return None,
        }
    }
}

fn number(text: &[u8], at: usize) -> Option<usize> {
    let digits = |from: usize| {
        let rest = text.get(from..).unwrap_or_default();
        rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len())
    };
    let mut at = at + usize::from(text.get(at) == Some(&b'-'));
    let whole = digits(at);
    if whole == 0 || whole > 1 && text.get(at) == Some(&b'0') {
        return None;
    }
    at += whole;
    if text.get(at) == Some(&b'.') {
        let fraction = digits(at + 1);
        at += 1 + (fraction > 0).then_some(fraction)?;
    }
    if matches!(text.get(at), Some(b'e' | b'E')) {
        at += 1 + usize::from(matches!(text.get(at + 1), Some(b'+' | b'-')));
        let exponent = digits(at);
        at += (exponent > 0).then_some(exponent)?;
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn accepts(text: &str) -> bool {
        let bytes = text.as_bytes();
        let start = space(bytes, 0);
        value(bytes, start).is_some_and(|end| space(bytes, end) == bytes.len())
    }

    fn serde_accepts(text: &str) -> bool {
        serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok()
    }

    #[test]
    fn strings_end_at_the_first_byte_that_is_not_plain() {
        for length in 0..90 {
            for at in 0..length {
                for byte in [0, 0x1f, b' ', b'!', b'"', b'\\', 0x7f] {
                    let mut text = vec![b'x'; length];
                    text[at] = byte;
                    text.push(b'"');
                    let expected = if matches!(byte, b' ' | b'!' | 0x7f) { length } else { at };
                    assert_eq!(plain_length(&text), Some(expected), "{length} {at} {byte}");
                }
            }
        }
    }

    #[test]
    fn agrees_on_what_is_easily_got_wrong() {
        for text in [
            "0",
            "-0",
            "00",
            "01",
            "-",
            "1.",
            ".5",
            "1.5e",
            "1e+",
            "1E-9",
            "+1",
            "1e5.5",
            "--1",
            "0x1",
            "NaN",
            "true",
            "tru",
            "truee",
            "nulL",
            r#""a"#,
            r#""\x""#,
            r#""\u12g4""#,
            r#""\u12""#,
            "\"\u{1}\"",
            r#""\ud800""#,
            "[1,]",
            "[,1]",
            "[1 2]",
            "[]",
            "[ ]",
            "{}",
            "{ }",
            r#"{"a"}"#,
            r#"{"a":}"#,
            r#"{"a":1,}"#,
            r#"{,"a":1}"#,
            r#"{a:1}"#,
            r#"{"a" : 1 }"#,
            "[1]]",
            "",
            " ",
            "\u{a0}1",
            "[1\u{b}]",
        ] {
            assert_eq!(accepts(text), serde_accepts(text), "{text:?}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(accepts(&nested(DEEPEST)));
        assert!(!accepts(&nested(DEEPEST + 1)));
        assert!(!accepts(&"[".repeat(1_000_000)));
    }

    proptest! {
        #[test]
        fn agrees_with_serde_json(text in r#"[\[\]{},:" \\u0-9a-ftrnl.eE+-]{0,24}"#) {
            prop_assert_eq!(accepts(&text), serde_accepts(&text));
        }

        #[test]
        fn agrees_on_nearly_valid_text(parts in prop::collection::vec(prop::sample::select(vec!["{", "}", "[", "]", ",", ":", "\"a\"", "\"\\n\"", "1", "-2.5e3", "true", "null", " "]), 0..12)) {
            let text = parts.concat();
            prop_assert_eq!(accepts(&text), serde_accepts(&text));
        }
    }
}
