//! From a document to a list of entities: nested forms hoisted, shorthands expanded, unknown keys refused.

use std::sync::Arc;

use serde_json::{Map, Value};
use tollgate_model::{Kind, PluginSchemas};

use crate::invalid::Step;
use crate::node::{Data, Node};
use crate::{Problem, environment, hint};

/// Whose files are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// decK's state files.
    Deck,
    /// Kong's DB-less files (`declarative_config`, `POST /config`).
    Kong,
}

/// An entity as a file declares it.
#[derive(Debug, Clone)]
pub struct Declared {
    /// Its kind.
    pub kind: Kind,
    /// Its fields; references are `{"id": …}`, `{"name": …}` or a plain string, or left to `parent`.
    pub fields: Map<String, Value>,
    /// The entity it is nested in: its place in the list.
    pub parent: Option<usize>,
    /// The file it stands in.
    pub file: Arc<str>,
    /// Where in the document: lists and places in them, from 1.
    pub path: Vec<(&'static str, usize)>,
    /// The node it was read from, for lines.
    pub node: Node,
}

impl Declared {
    /// `services[1].routes[2]`
    pub fn path_text(&self) -> String {
        self.path.iter().map(|(name, place)| format!("{name}[{place}]")).collect::<Vec<_>>().join(".")
    }

    /// A problem with a field of it.
    pub fn problem(&self, field: &str, message: impl Into<String>) -> Problem {
        self.problem_with(field, message, None)
    }

    /// A problem with a field of it, with a hint that may come from the plugin's schema.
    pub(crate) fn problem_with(
        &self,
        field: &str,
        message: impl Into<String>,
        plugins: Option<&dyn PluginSchemas>,
    ) -> Problem {
        let (own, message) = (self.path_text(), message.into());
        let path = if field.is_empty() { own } else { format!("{own}.{field}") };
        let hint = hint::of_field(self.kind, &self.node, field, &message, plugins);
        Problem::at(&self.file, self.node.line_of(field), &path, message).with_hint(&hint)
    }

    /// The steps to it in the document.
    pub(crate) fn steps(&self) -> Vec<Step<'_>> {
        self.path.iter().flat_map(|(name, place)| [Step::Name(name), Step::Place(*place)]).collect()
    }
}

/// Everything some files declare.
#[derive(Debug, Clone, Default)]
pub struct Declaration {
    /// `_workspace`
    pub workspace: Option<String>,
    /// Whether the files are for Konnect (`_konnect` is there).
    pub konnect: bool,
    /// Whether a file states its format (`_format_version`).
    pub has_version: bool,
    /// `_konnect.control_plane_name`
    pub control_plane: Option<String>,
    /// `_info.select_tags`, sorted.
    pub select_tags: Vec<String>,
    /// The entities, each after the one it is nested in.
    pub entities: Vec<Declared>,
    /// `_info.defaults`, by singular kind.
    pub defaults: Map<String, Value>,
    /// The other members of `_info`.
    pub info: Map<String, Value>,
    plugin_configs: Map<String, Value>,
    /// What is wrong with the structure of a DB-less document, with Kong's message; the rest is checked all the
    /// same.
    pub(crate) structure: Vec<(Problem, String)>,
}

/// Lists an entity may hold: the key, the kind of what it lists.
fn nested(kind: Kind) -> &'static [(&'static str, Kind)] {
    match kind {
        Kind::Service => &[("routes", Kind::Route), ("plugins", Kind::Plugin)],
        Kind::Route => &[("plugins", Kind::Plugin)],
        Kind::Consumer => &[
            ("keyauth_credentials", Kind::KeyAuthCredential),
            ("plugins", Kind::Plugin),
            ("groups", Kind::ConsumerGroupConsumer),
            ("consumer_group_consumers", Kind::ConsumerGroupConsumer),
        ],
        Kind::ConsumerGroup => &[
            ("consumers", Kind::ConsumerGroupConsumer),
            ("plugins", Kind::Plugin),
            ("consumer_group_consumers", Kind::ConsumerGroupConsumer),
        ],
        Kind::Upstream => &[("targets", Kind::Target)],
        Kind::Certificate => &[("snis", Kind::Sni)],
        _ => &[],
    }
}

/// Kinds that can be declared at the top.
fn top_level(dialect: Dialect) -> impl Iterator<Item = Kind> {
    let only_nested = |kind: &Kind| {
        matches!(kind, Kind::Sni | Kind::Target | Kind::KeyAuthCredential | Kind::ConsumerGroupConsumer)
    };
    let all = Kind::ALL.into_iter().filter(|kind| *kind != Kind::Workspace);
    all.filter(move |kind| dialect == Dialect::Kong || !only_nested(kind))
}

/// Members of a document that are no lists of entities.
const SETTINGS: [&str; 6] =
    ["_format_version", "_transform", "_workspace", "_konnect", "_info", "_plugin_configs"];

impl Declaration {
    /// Adds a file: text with expressions, YAML or JSON.
    ///
    /// # Errors
    /// Everything that is wrong with it, with lines.
    pub fn add(
        &mut self,
        file: &str,
        text: &str,
        dialect: Dialect,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<(), Vec<Problem>> {
        let text = match dialect {
            Dialect::Deck => {
                environment::substitute(file, text, variable).map_err(|problem| vec![problem])?
            }
            Dialect::Kong => text.to_owned(),
        };
        let document = Node::parse(file, &text).map_err(|problem| vec![problem])?;
        self.add_document(file, document, dialect)
    }

    /// Adds a document that has been read.
    ///
    /// # Errors
    /// Everything that is wrong with it, with lines. Of a DB-less document only what is no object at all; the
    /// rest is told with what is wrong with its entities.
    pub fn add_document(&mut self, file: &str, document: Node, dialect: Dialect) -> Result<(), Vec<Problem>> {
        let members = match document.data {
            Data::Map(members) => members,
            Data::Scalar(Value::Null) if dialect == Dialect::Deck => return Ok(()),
            _ => {
                let message = "expected an object with _format_version and lists of entities";
                return Err(vec![Problem::at(file, document.line as usize, "", message)]);
            }
        };
        let mut reading = Reading { file: file.into(), dialect, old_paths: false, problems: Vec::new() };
        match (members.iter().find(|(name, _)| name == "_format_version"), dialect) {
            (Some((_, node)), _) => {
                self.has_version = true;
                reading.version(node);
            }
            (None, Dialect::Kong) => {
                reading.wrong(document.line, "_format_version", "required field missing")
            }
            (None, Dialect::Deck) => {}
        }
        for (name, node) in members {
            let kind = Kind::from_plural(&name).filter(|kind| top_level(dialect).any(|other| other == *kind));
            match kind {
                Some(kind) => self.add_list(kind, kind.plural(), node, None, &[], &mut reading),
                None => self.add_setting(&name, node, &mut reading),
            }
        }
        match dialect {
            Dialect::Kong => self.structure.extend(reading.problems),
            Dialect::Deck if !reading.problems.is_empty() => {
                return Err(reading.problems.into_iter().map(|(problem, _)| problem).collect());
            }
            Dialect::Deck => {}
        }
        Ok(())
    }

    /// A member of the document that is no list of entities.
    fn add_setting(&mut self, name: &str, node: Node, reading: &mut Reading) {
        let line = node.line;
        match (name, reading.dialect) {
            ("_format_version", _) => {}
            ("_transform", dialect) => match node.data {
                Data::Scalar(Value::Bool(true)) => {}
                Data::Scalar(Value::Bool(false)) if dialect == Dialect::Kong => {}
                Data::Scalar(Value::Bool(false)) => {
                    reading.wrong(line, name, "_transform: false is not supported");
                }
                _ => reading.wrong(line, name, "expected a boolean"),
            },
            ("_comment", Dialect::Kong) if node.as_str().is_none() && !node.is_null() => {
                reading.wrong(line, name, "expected a string");
            }
            ("_ignore", Dialect::Kong) if !matches!(node.data, Data::List(_)) && !node.is_null() => {
                reading.wrong(line, name, "expected an array");
            }
            ("_comment" | "_ignore", Dialect::Kong) => {}
            ("_workspace", _) => match (node.as_str(), &self.workspace) {
                (Some(workspace), Some(other)) if workspace != other => {
                    let message = format!("the files name two workspaces, '{other}' and '{workspace}'");
                    reading.wrong(line, name, message);
                }
                (Some(workspace), _) => self.workspace = Some(workspace.to_owned()),
                (None, _) => reading.wrong(line, name, "expected a string"),
            },
            ("_konnect", _) => self.add_konnect(&node, reading),
            ("_info", _) => self.add_info(node, reading),
            ("_plugin_configs", _) => match node.into_value() {
                Value::Object(configs) => self.plugin_configs.extend(configs),
                Value::Null => {}
                _ => reading.wrong(line, name, "expected a map"),
            },
            (_, dialect) => {
                let known = top_level(dialect).map(Kind::plural).chain(SETTINGS);
                let hint = hint::did_you_mean(name, known);
                let message = if dialect == Dialect::Kong { "unknown field" } else { "unknown key" };
                reading.wrong_with(line, name, message, &hint);
            }
        }
    }

    fn add_konnect(&mut self, node: &Node, reading: &mut Reading) {
        let Data::Map(members) = &node.data else {
            return reading.wrong(node.line, "_konnect", "expected an object");
        };
        self.konnect = true;
        let mut named = Vec::new();
        for (name, member) in members {
            let path = format!("_konnect.{name}");
            match (name.as_str(), member.as_str()) {
                ("control_plane_name" | "runtime_group_name", Some(value)) => named.push(value),
                ("control_plane_name" | "runtime_group_name", None) => {
                    reading.wrong(member.line, &path, "expected a string");
                }
                _ => reading.wrong(member.line, &path, "unknown key"),
            }
        }
        match (named.as_slice(), &self.control_plane) {
            ([], _) => {}
            ([name], Some(other)) if name != other => {
                let message = format!("the files name two control planes, '{other}' and '{name}'");
                reading.wrong(node.line, "_konnect", message);
            }
            ([name], _) => self.control_plane = Some((*name).to_owned()),
            _ => {
                let message = "control_plane_name and runtime_group_name are the same; give one of them";
                reading.wrong(node.line, "_konnect", message);
            }
        }
    }

    fn add_info(&mut self, node: Node, reading: &mut Reading) {
        let Data::Map(members) = node.data else {
            return reading.wrong(node.line, "_info", "expected an object");
        };
        for (name, member) in members {
            let (line, path) = (member.line, format!("_info.{name}"));
            let member = match (name.as_str(), member.data) {
                ("defaults", Data::Map(defaults)) => {
                    self.add_defaults(defaults, reading);
                    continue;
                }
                (_, data) => Node { line, data },
            };
            match (name.as_str(), member.into_value()) {
                ("select_tags", Value::Array(tags)) if tags.iter().all(Value::is_string) => {
                    self.select_tags.extend(tags.iter().filter_map(Value::as_str).map(str::to_owned));
                    self.select_tags.sort();
                    self.select_tags.dedup();
                }
                ("select_tags", Value::Null) => {}
                ("select_tags", _) => reading.wrong(line, &path, "expected a list of strings"),
                ("defaults", Value::Null) => {}
                ("defaults", _) => reading.wrong(line, &path, "expected an object"),
                (
                    "default_lookup_tags"
                    | "consumer_group_policy_overrides"
                    | "skip_hash_for_basic_auth"
                    | "include_plugin_definitions",
                    value,
                ) => {
                    self.info.insert(name, value);
                }
                _ => {
                    let known = ["select_tags", "defaults", "default_lookup_tags"];
                    let hint = hint::did_you_mean(&name, known.into_iter());
                    reading.wrong_with(line, &path, "unknown key", &hint);
                }
            }
        }
    }

    /// `_info.defaults`: by kind, but never what tells entities apart (decK).
    fn add_defaults(&mut self, defaults: Vec<(String, Node)>, reading: &mut Reading) {
        for (kind, fields) in defaults {
            let line = fields.line;
            let path = format!("_info.defaults.{kind}");
            let restricted: &[&str] = match kind.as_str() {
                "service" | "route" | "upstream" => &["id", "name"],
                "target" => &["id", "target"],
                _ => {
                    reading.wrong(line, &path, "expected one of: service, route, upstream, target");
                    continue;
                }
            };
            let Value::Object(fields) = fields.into_value() else {
                reading.wrong(line, &path, "expected an object");
                continue;
            };
            let set: Vec<&str> =
                restricted.iter().copied().filter(|name| fields.contains_key(*name)).collect();
            if !set.is_empty() {
                let list = set.join(", ");
                let message = format!("{kind} defaults cannot have these restricted fields set: {list}");
                reading.wrong(line, &path, message);
            }
            self.defaults.insert(kind, Value::Object(fields));
        }
    }

    fn add_list(
        &mut self,
        kind: Kind,
        name: &'static str,
        node: Node,
        parent: Option<usize>,
        above: &[(&'static str, usize)],
        reading: &mut Reading,
    ) {
        let list = match node.data {
            Data::List(list) => list,
            Data::Map(members) if members.is_empty() => return,
            Data::Scalar(Value::Null) => return,
            _ => return reading.wrong(node.line, &path_text(above, name, None), "expected an array"),
        };
        for (index, node) in list.into_iter().enumerate() {
            let line = node.line;
            let members = match node.data {
                Data::Map(members) => members,
                Data::List(list) if list.is_empty() => Vec::new(),
                other => {
                    let missing = other == Data::Scalar(Value::Null);
                    let message = if missing { "required field missing" } else { "expected a record" };
                    reading.wrong(line, &path_text(above, name, Some(index + 1)), message);
                    continue;
                }
            };
            let mut path = Vec::with_capacity(above.len() + 1);
            path.extend_from_slice(above);
            path.push((name, index + 1));
            let (mut own, mut lists) = (Vec::new(), Vec::new());
            for (name, node) in members {
                match nested(kind).iter().find(|(list, _)| *list == name) {
                    Some((list, kind)) => lists.push((*kind, *list, node)),
                    None if name == "_comment" || name == "_ignore" => {}
                    None => own.push((name, node)),
                }
            }
            let node = Node { line, data: Data::Map(own) };
            let Value::Object(mut fields) = node.clone().into_value() else { continue };
            if reading.old_paths && kind == Kind::Route {
                mark_regexes(&mut fields);
            }
            match name {
                "groups" => fields = membership("consumer_group", &["id", "name"], &fields),
                "consumers" if kind == Kind::ConsumerGroupConsumer => {
                    fields = membership("consumer", &["id", "username", "custom_id"], &fields);
                }
                _ => {}
            }
            let place = self.entities.len();
            let file = Arc::clone(&reading.file);
            self.entities.push(Declared { kind, fields, parent, file, path: path.clone(), node });
            for (kind, list, node) in lists {
                self.add_list(kind, list, node, Some(place), &path, reading);
            }
        }
    }

    /// `_info.default_lookup_tags`: entities with all these tags that references may lead to.
    pub fn lookup_tags(&self) -> Vec<(Kind, Vec<String>)> {
        let lookups = self.info.get("default_lookup_tags").and_then(Value::as_object);
        let tags = |list: &Value| {
            list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        lookups
            .into_iter()
            .flatten()
            .filter_map(|(kind, list)| Some((Kind::from_plural(kind)?, tags(list))))
            .collect()
    }

    /// A shared plugin configuration (`_plugin_configs`).
    pub fn plugin_config(&self, name: &str) -> Option<&Value> {
        self.plugin_configs.get(name)
    }
}

/// A document being read.
struct Reading {
    file: Arc<str>,
    dialect: Dialect,
    /// Whether paths are of the old formats, where a regex is not marked.
    old_paths: bool,
    /// With Kong's messages.
    problems: Vec<(Problem, String)>,
}

impl Reading {
    fn wrong(&mut self, line: u32, path: &str, message: impl Into<String>) {
        self.wrong_with(line, path, message, "");
    }

    fn wrong_with(&mut self, line: u32, path: &str, message: impl Into<String>, hint: &str) {
        let message = message.into();
        let problem = Problem::at(&self.file, line as usize, path, message.as_str());
        self.problems.push((problem.with_hint(hint), message));
    }

    fn version(&mut self, node: &Node) {
        let known: &[&str] = match self.dialect {
            Dialect::Deck => &["3.0"],
            Dialect::Kong => &["1.1", "2.1", "3.0"],
        };
        let version = node.as_str();
        self.old_paths = self.dialect == Dialect::Kong && matches!(version, Some("1.1" | "2.1"));
        if version.is_some_and(|version| known.contains(&version)) {
            return;
        }
        let (message, hint) = match (&node.data, self.dialect) {
            (Data::Scalar(Value::Null), Dialect::Kong) => ("required field missing".to_owned(), ""),
            (Data::Scalar(Value::String(_)), Dialect::Kong) => {
                (format!("expected one of: {}", known.join(", ")), "")
            }
            (Data::Scalar(Value::String(version)), Dialect::Deck) => (
                format!("cannot apply '{version}' config format version to Kong version 3.0 or above."),
                "write _format_version: \"3.0\"",
            ),
            _ => ("expected a string".to_owned(), "put it in quotes: \"3.0\""),
        };
        self.wrong_with(node.line, "_format_version", message, hint);
    }
}

fn path_text(above: &[(&str, usize)], name: &str, place: Option<usize>) -> String {
    let mut steps: Vec<String> = above.iter().map(|(name, place)| format!("{name}[{place}]")).collect();
    steps.push(place.map_or_else(|| name.to_owned(), |place| format!("{name}[{place}]")));
    steps.join(".")
}

/// A membership that is written as who or what the entity above is joined with, by the first of these names that is
/// given.
fn membership(field: &str, names: &[&str], given: &Map<String, Value>) -> Map<String, Value> {
    let found = names.iter().find_map(|name| Some(((*name).to_owned(), given.get(*name)?.clone())));
    let reference = found.map_or(Value::Null, |named| Value::Object(Map::from_iter([named])));
    Map::from_iter([(field.to_owned(), reference)])
}

/// In the formats 1.1 and 2.1 a path is a regex where it has characters of one (Kong 3.11).
fn mark_regexes(route: &mut Map<String, Value>) {
    let plain =
        |path: &str| path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_~/%".contains(&byte));
    for path in route.get_mut("paths").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(marked) = path.as_str().filter(|path| !plain(path)).map(|path| format!("~{path}")) {
            *path = marked.into();
        }
    }
}
