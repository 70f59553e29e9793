//! JSON objects edited in place: members that are not touched keep every byte.

mod scan;

use std::borrow::Cow;

/// The members of a JSON object, as slices of its text. Numbers, spacing and nested values stay as written.
#[derive(Debug)]
pub struct Object<'a> {
    text: &'a str,
    members: Vec<(Cow<'a, str>, &'a str)>,
}

impl Default for Object<'_> {
    /// An object without members.
    fn default() -> Self {
        Self { text: "{}", members: Vec::new() }
    }
}

impl<'a> Object<'a> {
    /// Reads an object; `None` for anything else, and for malformed JSON.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let mut members = Vec::with_capacity(16);
        let mut at = scan::space(bytes, 0);
        if bytes.get(at) != Some(&b'{') {
            return None;
        }
        at = scan::space(bytes, at + 1);
        if bytes.get(at) != Some(&b'}') {
            loop {
                let name_end = scan::string(bytes, at)?;
                let start = scan::colon(bytes, name_end)?;
                let end = scan::value(bytes, start)?;
                members.push((unquote(&bytes[at..name_end])?, &text[start..end]));
                at = scan::space(bytes, end);
                match bytes.get(at)? {
                    b',' => at = scan::space(bytes, at + 1),
                    b'}' => break,
                    _ => return None,
                }
            }
        }
        (scan::space(bytes, at + 1) == bytes.len()).then_some(Self { text, members })
    }

    /// The whole text.
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// Names and values, in order.
    pub fn members(&self) -> impl Iterator<Item = (&str, &'a str)> + '_ {
        self.members.iter().map(|(name, value)| (&**name, *value))
    }

    /// The text of a member's value; of several with one name the last counts.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.members.iter().rev().find(|(other, _)| other == name).map(|(_, value)| *value)
    }

    /// A member that is a string.
    pub fn get_str(&self, name: &str) -> Option<Cow<'a, str>> {
        self.get(name).and_then(|value| unquote(value.as_bytes()))
    }

    /// Whether a member is there and neither null nor false.
    pub fn is_truthy(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value != "null" && value != "false")
    }

    /// The text with members set (to JSON text) or removed (`None`). New members go to the end, all others keep
    /// their place and bytes.
    pub fn edit(&self, edits: &[(&str, Option<&str>)]) -> Vec<u8> {
        let mut out = Vec::with_capacity(
            self.text.len()
                + edits.iter().map(|(name, value)| name.len() + value.map_or(0, str::len) + 4).sum::<usize>(),
        );
        let base = self.text.as_ptr() as usize;
        let mut copied = 0;
        let mut kept = 0;
        let mut start = self.text.find('{').map_or(0, |at| at + 1);
        for (name, value) in &self.members {
            let from = value.as_ptr() as usize - base;
            let to = from + value.len();
            // A member reaches from the end of the one before it (its comma included) to the end of its value.
            match edits.iter().find(|(other, _)| other == name) {
                Some((_, None)) => {
                    out.extend_from_slice(&self.text.as_bytes()[copied..start]);
                    copied = to;
                }
                Some((_, Some(new))) => {
                    out.extend_from_slice(&self.text.as_bytes()[copied..from]);
                    out.extend_from_slice(new.as_bytes());
                    copied = to;
                    kept += 1;
                }
                None => kept += 1,
            }
            start = to;
        }
        out.extend_from_slice(&self.text.as_bytes()[copied..start]);
        if kept == 0 || self.first_was_removed(edits) {
            drop_leading_comma(&mut out);
        }
        for (name, value) in edits {
            let Some(value) = value.filter(|_| !self.members.iter().any(|(other, _)| other == name)) else {
                continue;
            };
            if kept > 0 {
                out.push(b',');
            }
            out.push(b'"');
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"\":");
            out.extend_from_slice(value.as_bytes());
            kept += 1;
        }
        out.extend_from_slice(&self.text.as_bytes()[start..]);
        out
    }

    fn first_was_removed(&self, edits: &[(&str, Option<&str>)]) -> bool {
        self.members
            .first()
            .is_some_and(|(name, _)| edits.iter().any(|(other, value)| other == name && value.is_none()))
    }
}

/// After the first member went, the comma of the next one stands at the front.
fn drop_leading_comma(out: &mut Vec<u8>) {
    let Some(open) = out.iter().position(|byte| *byte == b'{') else { return };
    if let Some(at) = out.iter().skip(open + 1).position(|byte| !byte.is_ascii_whitespace())
        && out.get(open + 1 + at) == Some(&b',')
    {
        out.remove(open + 1 + at);
    }
}

/// A string from its JSON text, borrowed unless it holds escapes; `None` for what is no string.
pub fn unquote(quoted: &[u8]) -> Option<Cow<'_, str>> {
    let inner = quoted.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if memchr::memchr(b'\\', inner).is_some() {
        return serde_json::from_slice(quoted).ok().map(Cow::Owned);
    }
    std::str::from_utf8(inner).ok().map(Cow::Borrowed)
}

/// The string, quotes included, that a text begins with; `None` where it begins with something else or the
/// string has no end.
pub fn string_at_start(text: &[u8]) -> Option<&[u8]> {
    scan::string(text, 0).and_then(|end| text.get(..end))
}

/// A value as JSON text. It must have texts for names, as all have that are written here.
pub(crate) fn to_bytes(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

/// A string as JSON text.
pub fn quote(text: &str) -> String {
    let needs_escape = |byte: u8| byte < b' ' || byte == b'"' || byte == b'\\';
    if text.bytes().any(needs_escape) {
        return serde_json::Value::from(text).to_string();
    }
    ["\"", text, "\""].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_what_is_edited_changes() {
        let text = r#" { "model" : "a\u0041" , "zzz":1.0,"n": [ 1 , 2 ]} "#;
        let object = Object::parse(text.as_bytes()).unwrap();
        assert_eq!(object.get_str("model").unwrap(), "aA");
        let edited = object.edit(&[("model", Some("\"b\"")), ("stream", Some("false")), ("n", None)]);
        assert_eq!(String::from_utf8(edited).unwrap(), r#" { "model" : "b" , "zzz":1.0,"stream":false} "#);
        assert_eq!(object.edit(&[("model", None), ("zzz", None), ("n", None)]), b" {} ");
        assert_eq!(
            Object::parse(b"{}").unwrap().edit(&[("a", Some("1")), ("b", Some("2"))]),
            br#"{"a":1,"b":2}"#
        );
        assert!(Object::parse(b"[1]").is_none());
        assert!(Object::parse(b"{\"a\":").is_none());
    }

    fn value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            ".*".prop_map(serde_json::Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                prop::collection::btree_map(".{0,4}", inner, 0..4)
                    .prop_map(|map| map.into_iter().collect::<serde_json::Map<_, _>>().into()),
            ]
        })
    }

    proptest! {
        #[test]
        fn strings_go_there_and_back(text in ".*", rest in ".*") {
            let quoted = quote(&text);
            let followed = format!("{quoted}{rest}");
            prop_assert_eq!(string_at_start(followed.as_bytes()), Some(quoted.as_bytes()));
            prop_assert_eq!(unquote(quoted.as_bytes()), Some(Cow::Borrowed(text.as_str())));
            prop_assert_eq!(string_at_start(&quoted.as_bytes()[..quoted.len() - 1]), None);
        }

        /// Editing text gives what editing the value gives, and every other member keeps its text.
        #[test]
        fn agrees_with_editing_values(members in prop::collection::btree_map("[a-e\"\\\\]{1,2}", value(), 0..5), set in "[a-e]{1,2}", gone in "[a-e]{1,2}", pretty in any::<bool>()) {
            prop_assume!(set != gone);
            let mut expected: serde_json::Map<String, serde_json::Value> = members.into_iter().collect();
            let before = serde_json::Value::Object(expected.clone());
            let text = if pretty { serde_json::to_string_pretty(&before).unwrap() } else { before.to_string() };
            let object = Object::parse(text.as_bytes()).unwrap();
            let edited = object.edit(&[(&set, Some("\"new\"")), (&gone, None)]);
            expected.insert(set.clone(), "new".into());
            expected.shift_remove(&gone);
            let parsed = Object::parse(&edited).unwrap();
            for (name, _) in expected.iter().filter(|(name, _)| **name != set) {
                prop_assert_eq!(parsed.get(name), object.get(name));
            }
            prop_assert_eq!(serde_json::from_slice::<serde_json::Value>(&edited).unwrap(), serde_json::Value::Object(expected));
        }
    }
}
