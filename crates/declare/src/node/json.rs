//! JSON documents. `serde_json` reads strings and numbers; the structure is walked here, for lines and for
//! keys that stand twice.

use serde_json::Value;

use super::{Data, Failure, Members, Node, too_deep, twice};

/// Reads a document; `None` where it is not JSON (and may be YAML).
pub(super) fn parse(text: &str, deepest: usize) -> Option<Result<Node, Failure>> {
    let mut reader = Reader { text, at: 0, line: 1, deepest };
    let node = match reader.value(0) {
        Ok(node) => node,
        Err(Stop::NotJson) => return None,
        Err(Stop::Refused(failure)) => return Some(Err(failure)),
    };
    reader.space();
    (reader.at == text.len()).then_some(Ok(node))
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    line: u32,
    deepest: usize,
}

enum Stop {
    NotJson,
    Refused(Failure),
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while let Some(byte @ (b' ' | b'\t' | b'\r' | b'\n')) = self.peek() {
            self.line += u32::from(byte == b'\n');
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> Result<(), Stop> {
        self.space();
        if self.peek() != Some(byte) {
            return Err(Stop::NotJson);
        }
        self.at += 1;
        Ok(())
    }

    /// Whether a list or mapping ends here, or goes on after a comma.
    fn ends(&mut self, close: u8, first: bool) -> Result<bool, Stop> {
        self.space();
        if self.peek() == Some(close) {
            self.at += 1;
            return Ok(true);
        }
        if !first {
            self.take(b',')?;
        }
        Ok(false)
    }

    fn value(&mut self, depth: usize) -> Result<Node, Stop> {
        if depth > self.deepest {
            return Err(Stop::Refused((self.line as usize, too_deep())));
        }
        self.space();
        let line = self.line;
        let data = match self.peek() {
            Some(b'{') => {
                self.at += 1;
                let mut members = Members::default();
                while !self.ends(b'}', members.list.is_empty())? {
                    self.space();
                    let key_line = self.line;
                    let Value::String(key) = self.scalar()? else { return Err(Stop::NotJson) };
                    self.take(b':')?;
                    let mut node = self.value(depth + 1)?;
                    if matches!(node.data, Data::Scalar(_)) {
                        node.line = key_line;
                    }
                    members
                        .insert(key, node)
                        .map_err(|key| Stop::Refused((key_line as usize, twice(&key))))?;
                }
                Data::Map(members.into_list())
            }
            Some(b'[') => {
                self.at += 1;
                let mut list = Vec::new();
                while !self.ends(b']', list.is_empty())? {
                    list.push(self.value(depth + 1)?);
                }
                Data::List(list)
            }
            _ => Data::Scalar(self.scalar()?),
        };
        Ok(Node { line, data })
    }

    fn scalar(&mut self) -> Result<Value, Stop> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let end = match rest.as_bytes() {
            [b'"', inner @ ..] => string_end(inner).map(|end| end + 2),
            bytes => bytes.iter().position(|byte| b",]} \t\r\n:".contains(byte)).or(Some(rest.len())),
        };
        let token = end.and_then(|end| rest.get(..end)).ok_or(Stop::NotJson)?;
        let value = serde_json::from_str(token).map_err(|_| Stop::NotJson)?;
        self.at += token.len();
        Ok(value)
    }
}

/// Where a string's closing quote stands.
fn string_end(inner: &[u8]) -> Option<usize> {
    let mut escaped = false;
    inner.iter().position(|byte| {
        let closes = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        closes
    })
}
