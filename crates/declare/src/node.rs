//! YAML and JSON documents with the line of every value.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value};

use crate::Problem;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Line, from 1; 0 where it is not known.
    pub line: u32,
    /// What stands there.
    pub data: Data,
}

/// What a node holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    /// Null, boolean, number or string.
    Scalar(Value),
    /// A list.
    List(Vec<Node>),
    /// A mapping, in order.
    Map(Vec<(String, Node)>),
}

/// Bounds against documents made to exhaust memory.
const DEEPEST: usize = 64;
const MOST_ALIASED: usize = 1_000_000;

impl Node {
    /// Reads a document: JSON where it opens with `{`, else YAML.
    ///
    /// # Errors
    /// Where it is malformed.
    pub fn parse(file: &str, text: &str) -> Result<Self, Problem> {
        let problem = |line: usize, message: String| Problem {
            file: file.to_owned(),
            line,
            path: String::new(),
            message,
        };
        if text.trim_start().starts_with('{')
            && let Ok(value) = serde_json::from_str::<Value>(text)
        {
            return Ok(Self::from(value));
        }
        let mut loader = Loader { anchors: HashMap::new(), aliased: 0 };
        let mut parser = Parser::new_from_str(text);
        let mut events = std::iter::from_fn(|| parser.next_event());
        let mut document = None;
        while let Some(event) = events.next() {
            let (event, span) = event.map_err(|error| {
                problem(error.marker().line(), format!("the YAML cannot be read: {}", error.info()))
            })?;
            match event {
                Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
                Event::StreamEnd => break,
                event if document.is_none() => {
                    let line = span.start.line();
                    let node = loader
                        .build(event, line, &mut events, 0)
                        .map_err(|(line, message)| problem(line, message))?;
                    document = Some(node);
                }
                _ => {
                    return Err(problem(
                        span.start.line(),
                        "there is more than one document in the file".into(),
                    ));
                }
            }
        }
        Ok(document.unwrap_or(Node { line: 0, data: Data::Scalar(Value::Null) }))
    }

    /// The member of a mapping.
    pub fn get(&self, name: &str) -> Option<&Node> {
        match &self.data {
            Data::Map(members) => members.iter().find(|(other, _)| other == name).map(|(_, node)| node),
            _ => None,
        }
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match &self.data {
            Data::Scalar(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    /// Whether it is null.
    pub fn is_null(&self) -> bool {
        self.data == Data::Scalar(Value::Null)
    }

    /// The value without lines.
    pub fn into_value(self) -> Value {
        match self.data {
            Data::Scalar(value) => value,
            Data::List(list) => Value::Array(list.into_iter().map(Node::into_value).collect()),
            Data::Map(members) => Value::Object(
                members.into_iter().map(|(name, node)| (name, node.into_value())).collect::<Map<_, _>>(),
            ),
        }
    }

    /// The line of a dotted path inside (`config.key_names[1]`), or of the deepest part of it that is there.
    pub fn line_of(&self, path: &str) -> usize {
        let mut node = self;
        for step in path.split(['.', '[', ']']).filter(|step| !step.is_empty()) {
            let next = match &node.data {
                Data::Map(_) => node.get(step),
                Data::List(list) => {
                    step.parse::<usize>().ok().and_then(|place| list.get(place.checked_sub(1)?))
                }
                Data::Scalar(_) => None,
            };
            match next {
                Some(next) => node = next,
                None => break,
            }
        }
        node.line as usize
    }
}

impl From<Value> for Node {
    fn from(value: Value) -> Self {
        let data = match value {
            Value::Array(list) => Data::List(list.into_iter().map(Node::from).collect()),
            Value::Object(fields) => {
                Data::Map(fields.into_iter().map(|(name, value)| (name, Node::from(value))).collect())
            }
            scalar => Data::Scalar(scalar),
        };
        Self { line: 0, data }
    }
}

struct Loader {
    anchors: HashMap<usize, Node>,
    aliased: usize,
}

type Failure = (usize, String);

impl Loader {
    fn build<'a>(
        &mut self,
        event: Event<'a>,
        line: usize,
        events: &mut dyn Iterator<Item = Result<(Event<'a>, saphyr_parser::Span), saphyr_parser::ScanError>>,
        depth: usize,
    ) -> Result<Node, Failure> {
        if depth > DEEPEST {
            return Err((line, format!("the document is nested deeper than {DEEPEST} levels")));
        }
        let (anchor, data) = match event {
            Event::Alias(id) => {
                let node = self
                    .anchors
                    .get(&id)
                    .cloned()
                    .ok_or_else(|| (line, "an alias (*) without its anchor (&)".to_owned()))?;
                self.aliased += size(&node);
                if self.aliased > MOST_ALIASED {
                    return Err((line, "the document's aliases (*) expand to too much".into()));
                }
                return Ok(node);
            }
            Event::Scalar(text, style, anchor, tag) => {
                let is_text = tag.as_ref().is_some_and(|tag| tag.suffix == "str");
                let value = if style == ScalarStyle::Plain && !is_text {
                    plain(&text)
                } else {
                    Value::String(text.into_owned())
                };
                (anchor, Data::Scalar(value))
            }
            Event::SequenceStart(anchor, _) => {
                let mut list = Vec::new();
                loop {
                    match next(events, line)? {
                        (Event::SequenceEnd, _) => break (anchor, Data::List(list)),
                        (event, line) => list.push(self.build(event, line, events, depth + 1)?),
                    }
                }
            }
            Event::MappingStart(anchor, _) => (anchor, self.build_map(line, events, depth)?),
            _ => return Err((line, "the YAML cannot be read".into())),
        };
        let node = Node { line: line as u32, data };
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn build_map<'a>(
        &mut self,
        line: usize,
        events: &mut dyn Iterator<Item = Result<(Event<'a>, saphyr_parser::Span), saphyr_parser::ScanError>>,
        depth: usize,
    ) -> Result<Data, Failure> {
        let mut members: Vec<(String, Node)> = Vec::new();
        let mut merged: Vec<(String, Node)> = Vec::new();
        loop {
            let (event, key_line) = next(events, line)?;
            let key = match event {
                Event::MappingEnd => break,
                Event::Scalar(text, ..) => text.into_owned(),
                _ => return Err((key_line, "a mapping's key must be a plain value".into())),
            };
            let (event, value_line) = next(events, key_line)?;
            let mut node = self.build(event, value_line, events, depth + 1)?;
            if key == "<<" {
                let sources = match node.data {
                    Data::Map(members) => vec![members],
                    Data::List(list) => list
                        .into_iter()
                        .filter_map(
                            |node| if let Data::Map(members) = node.data { Some(members) } else { None },
                        )
                        .collect(),
                    Data::Scalar(_) => return Err((key_line, "'<<' merges mappings".into())),
                };
                merged.extend(sources.into_iter().flatten());
                continue;
            }
            if members.iter().any(|(other, _)| *other == key) {
                return Err((key_line, format!("the key '{key}' stands twice in one mapping")));
            }
            if node.line == 0 || matches!(node.data, Data::Scalar(_)) {
                node.line = key_line as u32;
            }
            members.push((key, node));
        }
        for (key, node) in merged {
            if !members.iter().any(|(other, _)| *other == key) {
                members.push((key, node));
            }
        }
        Ok(Data::Map(members))
    }
}

fn next<'a>(
    events: &mut dyn Iterator<Item = Result<(Event<'a>, saphyr_parser::Span), saphyr_parser::ScanError>>,
    line: usize,
) -> Result<(Event<'a>, usize), Failure> {
    match events.next() {
        Some(Ok((event, span))) => Ok((event, span.start.line())),
        Some(Err(error)) => {
            Err((error.marker().line(), format!("the YAML cannot be read: {}", error.info())))
        }
        None => Err((line, "the document ends too early".into())),
    }
}

fn size(node: &Node) -> usize {
    match &node.data {
        Data::Scalar(_) => 1,
        Data::List(list) => 1 + list.iter().map(size).sum::<usize>(),
        Data::Map(members) => 1 + members.iter().map(|(_, node)| size(node)).sum::<usize>(),
    }
}

/// A plain scalar's value, with YAML 1.1's booleans, as decK and Kong read them.
pub(crate) fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => return Value::Bool(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => {
            return Value::Bool(false);
        }
        _ => {}
    }
    let digits = text.trim_start_matches(['-', '+']);
    if !digits.starts_with(|first: char| first.is_ascii_digit() || first == '.') {
        return Value::String(text.to_owned());
    }
    if let Some(hex) = digits.strip_prefix("0x")
        && let Ok(number) = i64::from_str_radix(hex, 16)
    {
        return Value::from(if text.starts_with('-') { -number } else { number });
    }
    let octal = digits
        .strip_prefix("0o")
        .or_else(|| digits.strip_prefix('0').filter(|rest| !rest.is_empty() && !rest.contains(['.', 'e'])));
    if let Some(octal) = octal
        && let Ok(number) = i64::from_str_radix(octal, 8)
    {
        return Value::from(if text.starts_with('-') { -number } else { number });
    }
    if let Ok(number) = text.parse::<i64>() {
        return Value::from(number);
    }
    let numeric =
        digits.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-'));
    match text.parse::<f64>() {
        Ok(number) if numeric && number.is_finite() => Value::from(number),
        _ => Value::String(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn values_and_lines() {
        let text = "a: &x\n  port: 80\n  on: yes\nb:\n- <<: *x\n  port: 0o17\n- \"80\"\n- 1.5\n- 10.0.0.1\n- {k: ~}\n";
        let node = Node::parse("f", text).unwrap();
        assert_eq!(node.line_of("b[3]"), 8);
        assert_eq!(node.line_of("a.port"), 2);
        assert_eq!(node.line_of("b[1].port"), 6);
        assert_eq!(
            node.into_value(),
            json!({"a": {"port": 80, "on": true}, "b": [{"port": 15, "on": true}, "80", 1.5, "10.0.0.1", {"k": null}]})
        );
    }

    #[test]
    fn errors_name_the_line() {
        let message = |text: &str| Node::parse("f.yaml", text).unwrap_err().to_string();
        assert!(message("a: 1\na: 2\n").starts_with("f.yaml:2: the key 'a' stands twice"));
        assert!(message("a:\n  - b\n c: [\n").starts_with("f.yaml:"));
        assert!(message("a: *none\n").contains("f.yaml:1"));
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_reader(text in "\\PC{0,200}") {
            let _ = Node::parse("f", &text);
        }

        #[test]
        fn yaml_like_text_neither(text in "[a-c:\\-\\[\\]{}&*<>|\"'# \n,]{0,120}") {
            let _ = Node::parse("f", &text);
        }
    }
}
