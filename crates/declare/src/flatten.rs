//! From a document to a list of entities: nested forms hoisted, shorthands expanded, unknown keys refused.

use serde_json::{Map, Value};
use tollgate_model::Kind;

use crate::node::{Data, Node};
use crate::{Problem, environment};

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
    pub file: String,
    /// Where in the document.
    pub path: Vec<(String, usize)>,
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
        let own = self.path_text();
        Problem {
            file: self.file.clone(),
            line: self.node.line_of(field),
            path: if field.is_empty() { own } else { format!("{own}.{field}") },
            message: message.into(),
        }
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
    /// `_info.default_lookup_tags`: entities with all these tags that references may lead to.
    pub lookup_tags: Vec<(Kind, Vec<String>)>,
    /// The entities, each after the one it is nested in.
    pub entities: Vec<Declared>,
    /// `_info.defaults`, by singular kind.
    pub defaults: Map<String, Value>,
    plugin_configs: Map<String, Value>,
}

/// Lists an entity may hold: the key, the kind of what it lists.
fn nested(kind: Kind) -> &'static [(&'static str, Kind)] {
    match kind {
        Kind::Service => &[("routes", Kind::Route), ("plugins", Kind::Plugin)],
        Kind::Route => &[("plugins", Kind::Plugin)],
        Kind::Consumer => &[("keyauth_credentials", Kind::KeyAuthCredential), ("plugins", Kind::Plugin)],
        Kind::Upstream => &[("targets", Kind::Target)],
        Kind::Certificate => &[("snis", Kind::Sni)],
        _ => &[],
    }
}

const TOP_LEVEL: [Kind; 7] = [
    Kind::Service,
    Kind::Route,
    Kind::Consumer,
    Kind::Plugin,
    Kind::Upstream,
    Kind::Certificate,
    Kind::CaCertificate,
];
const KONG_TOP_LEVEL: [Kind; 3] = [Kind::Sni, Kind::Target, Kind::KeyAuthCredential];

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
    /// Everything that is wrong with it, with lines.
    pub fn add_document(&mut self, file: &str, document: Node, dialect: Dialect) -> Result<(), Vec<Problem>> {
        let mut problems = Vec::new();
        let problem = |line: u32, path: &str, message: String| Problem {
            file: file.to_owned(),
            line: line as usize,
            path: path.to_owned(),
            message,
        };
        let members = match document.data {
            Data::Map(members) => members,
            Data::Scalar(Value::Null) if dialect == Dialect::Deck => return Ok(()),
            _ => {
                return Err(vec![problem(
                    document.line,
                    "",
                    "expected an object with _format_version and lists of entities".into(),
                )]);
            }
        };
        if dialect == Dialect::Kong && !members.iter().any(|(name, _)| name == "_format_version") {
            problems.push(problem(document.line, "_format_version", "required field missing".into()));
        }
        for (name, node) in members {
            let kind = Kind::from_plural(&name).filter(|kind| {
                TOP_LEVEL.contains(kind) || dialect == Dialect::Kong && KONG_TOP_LEVEL.contains(kind)
            });
            if let Some(kind) = kind {
                self.add_list(kind, &name, node, None, &[], file, &mut problems);
                continue;
            }
            match (name.as_str(), dialect) {
                ("_format_version", _) => self.check_version(&node, dialect, file, &mut problems),
                ("_transform", _) | ("_comment" | "_ignore", Dialect::Kong) => {}
                ("_workspace", _) => self.workspace = node.as_str().map(str::to_owned),
                ("_konnect", _) => {
                    self.konnect = true;
                    let named = node.get("control_plane_name").or_else(|| node.get("runtime_group_name"));
                    self.control_plane = named.and_then(Node::as_str).map(str::to_owned);
                }
                ("_info", _) => self.read_info(node),
                ("_plugin_configs", Dialect::Deck) => {
                    if let Value::Object(configs) = node.into_value() {
                        self.plugin_configs.extend(configs);
                    }
                }
                _ => problems.push(problem(node.line, &name, unknown_key(&name))),
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    fn check_version(&mut self, node: &Node, dialect: Dialect, file: &str, problems: &mut Vec<Problem>) {
        self.has_version = true;
        let known: &[&str] = match dialect {
            Dialect::Deck => &["3.0"],
            Dialect::Kong => &["1.1", "2.1", "3.0"],
        };
        if !node.as_str().is_some_and(|version| known.contains(&version)) {
            let message = format!("expected one of: {} (a string, in quotes)", known.join(", "));
            problems.push(Problem {
                file: file.to_owned(),
                line: node.line as usize,
                path: "_format_version".into(),
                message,
            });
        }
    }

    fn read_info(&mut self, node: Node) {
        let Value::Object(mut info) = node.into_value() else { return };
        if let Some(Value::Array(tags)) = info.remove("select_tags") {
            self.select_tags.extend(tags.iter().filter_map(Value::as_str).map(str::to_owned));
            self.select_tags.sort();
            self.select_tags.dedup();
        }
        if let Some(Value::Object(lookups)) = info.remove("default_lookup_tags") {
            for (kind, tags) in lookups {
                let tags = tags.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned);
                self.lookup_tags.extend(Kind::from_plural(&kind).map(|kind| (kind, tags.collect())));
            }
        }
        if let Some(Value::Object(defaults)) = info.remove("defaults") {
            self.defaults.extend(defaults);
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn add_list(
        &mut self,
        kind: Kind,
        name: &str,
        node: Node,
        parent: Option<usize>,
        path: &[(String, usize)],
        file: &str,
        problems: &mut Vec<Problem>,
    ) {
        let line = node.line as usize;
        let at = |place: Option<usize>| {
            let mut steps: Vec<String> =
                path.iter().map(|(name, place)| format!("{name}[{place}]")).collect();
            steps.push(place.map_or_else(|| name.to_owned(), |place| format!("{name}[{place}]")));
            steps.join(".")
        };
        let list = match node.data {
            Data::List(list) => list,
            Data::Scalar(Value::Null) => return,
            _ => {
                problems.push(Problem {
                    file: file.to_owned(),
                    line,
                    path: at(None),
                    message: "expected an array".into(),
                });
                return;
            }
        };
        for (index, node) in list.into_iter().enumerate() {
            let Data::Map(members) = node.data else {
                let message = "expected a record".to_owned();
                problems.push(Problem {
                    file: file.to_owned(),
                    line: node.line as usize,
                    path: at(Some(index + 1)),
                    message,
                });
                continue;
            };
            let mut path = path.to_vec();
            path.push((name.to_owned(), index + 1));
            let (mut own, mut lists) = (Vec::new(), Vec::new());
            for (name, node) in members {
                match nested(kind).iter().find(|(list, _)| *list == name) {
                    Some((list, kind)) => lists.push((*kind, *list, node)),
                    None => own.push((name, node)),
                }
            }
            let node = Node { line: node.line, data: Data::Map(own) };
            let Value::Object(mut fields) = node.clone().into_value() else { continue };
            fields.retain(|name, _| !matches!(name.as_str(), "_comment" | "_ignore"));
            let place = self.entities.len();
            self.entities.push(Declared {
                kind,
                fields,
                parent,
                file: file.to_owned(),
                path: path.clone(),
                node,
            });
            for (kind, list, node) in lists {
                self.add_list(kind, list, node, Some(place), &path, file, problems);
            }
        }
    }

    /// A shared plugin configuration (`_plugin_configs`).
    pub fn plugin_config(&self, name: &str) -> Option<&Value> {
        self.plugin_configs.get(name)
    }
}

fn unknown_key(name: &str) -> String {
    let near = TOP_LEVEL.iter().map(|kind| kind.plural()).find(|plural| {
        plural.trim_end_matches('s') == name.trim_end_matches('s')
            || plural.replace('_', "") == name.replace(['_', '-'], "")
    });
    match near {
        Some(near) => format!("unknown key; did you mean '{near}'?"),
        None => "unknown key".to_owned(),
    }
}
