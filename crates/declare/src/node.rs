//! YAML and JSON documents with the line of every value.

mod json;
mod scalar;

use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span};
use serde_json::{Map, Value};

use crate::Problem;
pub(crate) use scalar::plain;

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
const MOST_ALIASED: usize = 200_000;

impl Node {
    /// Reads a document: JSON where it is JSON, else YAML.
    ///
    /// # Errors
    /// Where it is malformed.
    pub fn parse(file: &str, text: &str) -> Result<Self, Problem> {
        let problem = |(line, message): Failure| Problem::at(file, line, "", message);
        // Some editors put a byte order mark in front.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if text.trim_start().starts_with(['{', '['])
            && let Some(outcome) = json::parse(text, DEEPEST)
        {
            return outcome.map_err(problem);
        }
        let mut loader = Loader { anchors: HashMap::new(), aliased: 0 };
        let mut parser = Parser::new_from_str(text);
        let mut events = std::iter::from_fn(|| parser.next_event());
        let mut document = None;
        while let Some(event) = events.next() {
            let (event, span) = event.map_err(|error| problem(unreadable(&error)))?;
            match event {
                Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
                Event::StreamEnd => break,
                event if document.is_none() => {
                    let line = span.start.line();
                    document = Some(loader.build(event, line, &mut events, 0).map_err(problem)?);
                }
                _ => {
                    let message = "there is more than one document in the file";
                    return Err(problem((span.start.line(), message.into())));
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

    /// The node at a dotted path inside (`config.key_names[1]`), or the deepest part of it that is there, and
    /// whether it is the whole path.
    pub(crate) fn at(&self, path: &str) -> (&Node, bool) {
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
                None => return (node, false),
            }
        }
        (node, true)
    }

    /// The line of a dotted path inside, or of the deepest part of it that is there.
    pub fn line_of(&self, path: &str) -> usize {
        self.at(path).0.line as usize
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
    /// Nodes that can be referred to, with the number of nodes in each.
    anchors: HashMap<usize, (Node, usize)>,
    /// Nodes that aliases have been replaced by.
    aliased: usize,
}

/// Line and message.
pub(crate) type Failure = (usize, String);

type Events<'a, 'b> = &'b mut dyn Iterator<Item = Result<(Event<'a>, Span), ScanError>>;

fn unreadable(error: &ScanError) -> Failure {
    let (line, column) = (error.marker().line(), error.marker().col() + 1);
    if error.info().contains("recursion limit") {
        return (line, too_deep());
    }
    (line, format!("the YAML cannot be read at column {column}: {}", error.info()))
}

pub(crate) fn too_deep() -> String {
    format!("the document is nested deeper than {DEEPEST} levels")
}

pub(crate) fn twice(key: &str) -> String {
    format!("the key '{key}' stands twice in one mapping")
}

impl Loader {
    fn build<'a>(
        &mut self,
        event: Event<'a>,
        line: usize,
        events: Events<'a, '_>,
        depth: usize,
    ) -> Result<Node, Failure> {
        if depth > DEEPEST {
            return Err((line, too_deep()));
        }
        let (anchor, data) = match event {
            Event::Alias(id) => return self.alias(id, line),
            Event::Scalar(text, style, anchor, tag) => {
                let tag = tag.as_ref().map(|tag| tag.suffix.as_str());
                let value = match (tag, style) {
                    (Some("str"), _) => Value::String(text.into_owned()),
                    (Some("int" | "float" | "bool" | "null"), _) | (_, ScalarStyle::Plain) => plain(&text),
                    _ => Value::String(text.into_owned()),
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
        let node = Node { line: u32::try_from(line).unwrap_or(0), data };
        if anchor > 0 {
            let size = size(&node);
            self.anchors.insert(anchor, (node.clone(), size));
        }
        Ok(node)
    }

    fn alias(&mut self, id: usize, line: usize) -> Result<Node, Failure> {
        let Some((node, size)) = self.anchors.get(&id) else {
            return Err((line, "an alias (*) without its anchor (&)".to_owned()));
        };
        self.aliased = self.aliased.saturating_add(*size);
        if self.aliased > MOST_ALIASED {
            return Err((
                line,
                format!("the document's aliases (*) expand to more than {MOST_ALIASED} values"),
            ));
        }
        Ok(node.clone())
    }

    fn build_map<'a>(&mut self, line: usize, events: Events<'a, '_>, depth: usize) -> Result<Data, Failure> {
        let mut members = Members::default();
        let mut merged: Vec<(String, Node)> = Vec::new();
        loop {
            let (event, key_line) = next(events, line)?;
            let (key, plain_key) = match event {
                Event::MappingEnd => break,
                Event::Scalar(text, style, ..) => (text.into_owned(), style == ScalarStyle::Plain),
                _ => return Err((key_line, "a mapping's key must be a plain value".into())),
            };
            let (event, value_line) = next(events, key_line)?;
            let mut node = self.build(event, value_line, events, depth + 1)?;
            if key == "<<" && plain_key {
                merged.extend(merge_sources(node).ok_or((key_line, "'<<' merges mappings".to_owned()))?);
                continue;
            }
            // What is wrong with a list or mapping as a whole is found at its key, too.
            node.line = u32::try_from(key_line).unwrap_or(0);
            members.insert(key, node).map_err(|key| (key_line, twice(&key)))?;
        }
        for (key, node) in merged {
            // What the mapping says itself wins, and so does the first of several that are merged in.
            let _ = members.insert(key, node);
        }
        Ok(Data::Map(members.into_list()))
    }
}

/// The mappings that a `<<` merges in.
fn merge_sources(node: Node) -> Option<Vec<(String, Node)>> {
    match node.data {
        Data::Map(members) => Some(members),
        Data::List(list) => {
            let sources: Option<Vec<_>> = list
                .into_iter()
                .map(|node| if let Data::Map(members) = node.data { Some(members) } else { None })
                .collect();
            Some(sources?.into_iter().flatten().collect())
        }
        Data::Scalar(_) => None,
    }
}

/// Members of a mapping on the way, each name once.
#[derive(Default)]
pub(crate) struct Members {
    pub(crate) list: Vec<(String, Node)>,
    /// The names, kept once there are many.
    names: Option<HashSet<String>>,
}

impl Members {
    /// The members, in no more room than they need: there may be a million mappings.
    pub(crate) fn into_list(mut self) -> Vec<(String, Node)> {
        self.list.shrink_to_fit();
        self.list
    }

    /// Above this many members names are looked up in a table.
    const FEW: usize = 24;

    /// Adds a member.
    ///
    /// # Errors
    /// The name, where it is taken.
    pub(crate) fn insert(&mut self, name: String, node: Node) -> Result<(), String> {
        if self.list.len() == Self::FEW && self.names.is_none() {
            self.names = Some(self.list.iter().map(|(name, _)| name.clone()).collect());
        }
        let taken = match &mut self.names {
            Some(names) => !names.insert(name.clone()),
            None => self.list.iter().any(|(other, _)| *other == name),
        };
        if taken {
            return Err(name);
        }
        self.list.push((name, node));
        Ok(())
    }
}

fn next<'a>(events: Events<'a, '_>, line: usize) -> Result<(Event<'a>, usize), Failure> {
    match events.next() {
        Some(Ok((event, span))) => Ok((event, span.start.line())),
        Some(Err(error)) => Err(unreadable(&error)),
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

#[cfg(test)]
mod tests;
