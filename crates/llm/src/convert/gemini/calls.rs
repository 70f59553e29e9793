//! Ids of Gemini's calls. A call's thought signature has to come back with it, and clients of other formats send
//! back nothing but the id: the signature is made part of it.

/// What stands between an id and the signature of its call.
const MARK: &str = "__thought__";

/// An id that holds the signature of its call. A signature is base64, which is written with characters that every
/// format allows in ids.
pub(crate) fn with_signature(id: &str, signature: Option<&str>) -> String {
    match signature {
        None => id.to_owned(),
        Some(signature) => {
            let safe = signature.trim_end_matches('=').replace('+', "-").replace('/', "_");
            format!("{id}{MARK}{safe}")
        }
    }
}

/// The id alone, and the signature that it held.
pub(crate) fn split(id: &str) -> (&str, Option<String>) {
    let Some((id, safe)) = id.split_once(MARK) else { return (id, None) };
    let mut signature = safe.replace('-', "+").replace('_', "/");
    while signature.len() % 4 != 0 {
        signature.push('=');
    }
    (id, Some(signature))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_go_there_and_back() {
        for signature in ["", "QQ==", "CpY+/w8=", "abcd"] {
            let id = with_signature("call_1", Some(signature));
            assert!(id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte)), "{id}");
            assert_eq!(split(&id), ("call_1", Some(signature.to_owned())));
        }
        assert_eq!(with_signature("call_1", None), "call_1");
        assert_eq!(split("call_1"), ("call_1", None));
    }
}
