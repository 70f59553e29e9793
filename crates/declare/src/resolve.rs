//! From a DB-less declaration to checked entities: references resolved, ids given, defaults filled.
//!
//! Kong checks in three steps and tells only what the first that fails has found: the entities by themselves;
//! names, ids and references; other values that must be unique. So does this.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value, json};
use tollgate_model::{Kind, PluginSchemas, Source, check_entity};
use uuid::Uuid;

use crate::invalid::Step;
use crate::{Declaration, Declared, Invalid, Problem};

/// A checked entity of a declaration.
#[derive(Debug, Clone)]
pub struct Entity {
    /// Its kind.
    pub kind: Kind,
    /// Its fields, all of them.
    pub fields: Map<String, Value>,
}

impl Invalid {
    /// Reads, resolves and checks a DB-less document.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn read(
        file: &str,
        document: crate::Node,
        plugins: &dyn PluginSchemas,
        source: &dyn Source,
    ) -> Result<Vec<Entity>, Self> {
        let mut declaration = Declaration::default();
        if let Err(mut problems) = declaration.add_document(file, document, crate::Dialect::Kong)
            && let Some(problem) = problems.pop()
        {
            return Err(Self::unreadable(problem, "expected an object"));
        }
        resolve(declaration, plugins, source)
    }

    /// A document whose text cannot be read.
    pub fn malformed(problem: Problem) -> Self {
        let why = match problem.line {
            0 => problem.message.clone(),
            line => format!("line {line}: {}", problem.message),
        };
        Self::unreadable(problem, &why)
    }
}

/// Resolves and checks everything a DB-less declaration holds. Entities without id get the one that Kong gives
/// them: the same name, the same id.
///
/// # Errors
/// Everything that is wrong, with file, line and field.
pub fn resolve(
    mut declaration: Declaration,
    plugins: &dyn PluginSchemas,
    source: &dyn Source,
) -> Result<Vec<Entity>, Invalid> {
    let mut wrong = Invalid::default();
    for (problem, message) in std::mem::take(&mut declaration.structure) {
        wrong.add(problem, &message);
    }
    let (index, misplaced) = Index::build(&declaration, source);
    let mut dangling = Invalid::default();
    let mut entities = Vec::with_capacity(declaration.entities.len());
    for place in 0..declaration.entities.len() {
        // The fields move on: there may be a million of them.
        let Some(mut fields) =
            declaration.entities.get_mut(place).map(|declared| std::mem::take(&mut declared.fields))
        else {
            break;
        };
        index.link(&declaration, place, &mut fields, &mut dangling);
        let Some(declared) = declaration.entities.get(place) else { break };
        let mut missing = Vec::new();
        merge_plugin_config(declared, &declaration, &mut fields, &mut missing);
        for problem in missing {
            let message = problem.message.clone();
            wrong.add(problem, &message);
        }
        apply_defaults(declared.kind, &declaration.defaults, &mut fields);
        add_tags(declared.kind, &declaration.select_tags, &mut fields);
        match check_entity(declared.kind, fields, None, plugins, source) {
            Ok(fields) => entities.push(Entity { kind: declared.kind, fields }),
            Err(errors) => {
                let problems = errors.flat().into_iter();
                wrong.problems.extend(
                    problems.map(|(path, message)| declared.problem_with(&path, message, Some(plugins))),
                );
                wrong.put(&declared.steps(), errors.into_value());
            }
        }
    }
    for mut found in [wrong, joined(misplaced, dangling), repeated(&declaration, &entities)] {
        if !found.is_empty() {
            found.problems.sort_by_key(|problem| problem.line);
            return Err(found);
        }
    }
    Ok(entities)
}

fn joined(mut first: Invalid, second: Invalid) -> Invalid {
    first.problems.extend(second.problems);
    for (name, errors) in second.fields {
        first.put(&[Step::Name(&name)], errors);
    }
    first
}

/// Ids and names of what is declared.
struct Index {
    ids: Vec<Uuid>,
    by_id: HashMap<Kind, HashSet<Uuid>>,
    by_name: HashMap<Kind, HashMap<String, Uuid>>,
}

impl Index {
    /// Gives every entity its id; tells which names and ids are declared twice.
    fn build(declaration: &Declaration, source: &dyn Source) -> (Self, Invalid) {
        let count = declaration.entities.len();
        let mut index =
            Self { ids: Vec::with_capacity(count), by_id: HashMap::new(), by_name: HashMap::new() };
        let mut wrong = Invalid::default();
        for declared in &declaration.entities {
            let given = declared.fields.get("id").and_then(Value::as_str);
            let parent = declared
                .parent
                .and_then(|place| Some((declaration.entities.get(place)?.kind, *index.ids.get(place)?)));
            let id = given
                .and_then(|id| Uuid::parse_str(id).ok())
                .or_else(|| derived_id(declared, parent))
                .unwrap_or_else(|| source.id());
            index.ids.push(id);
            let mut twice = |key: &str, value: &str| {
                let message = format!(
                    "uniqueness violation: '{}' entity with {key} set to '{value}' already declared",
                    declared.kind.plural()
                );
                let field = if key == "primary key" { "id" } else { key };
                wrong.problems.push(declared.problem(field, message.as_str()));
                // Kong names the place from the nearest entity above only.
                let steps = declared.steps();
                wrong.put(steps.get(steps.len().saturating_sub(4)..).unwrap_or(&steps), message.into());
            };
            let name = unique_name(declared.kind, &declared.fields);
            if let Some((key, name)) = name {
                let names = index.by_name.entry(declared.kind).or_default();
                if names.insert(name.to_owned(), id).is_some() {
                    twice(key, name);
                    continue;
                }
            }
            if !index.by_id.entry(declared.kind).or_default().insert(id) {
                twice("primary key", &id.to_string());
            }
        }
        (index, wrong)
    }

    /// Puts in the id, the reference to the entity above, and ids for names.
    fn link(
        &self,
        declaration: &Declaration,
        place: usize,
        fields: &mut Map<String, Value>,
        wrong: &mut Invalid,
    ) {
        let (Some(declared), Some(id)) = (declaration.entities.get(place), self.ids.get(place)) else {
            return;
        };
        if fields.get("id").is_none_or(Value::is_null) {
            fields.insert("id".into(), id.to_string().into());
        }
        let parent = declared
            .parent
            .and_then(|place| Some((declaration.entities.get(place)?.kind, self.ids.get(place)?)));
        for key in declared.kind.foreign_keys() {
            if let Some((_, id)) = parent.filter(|(kind, _)| *kind == key.to) {
                fields.insert(key.field.into(), json!({"id": id.to_string()}));
                continue;
            }
            let Some((shown, name)) = referred(fields.get(key.field)) else { continue };
            let found = self.find(key.to, &name);
            // One that leads nowhere is told of later; the check of the fields needs something to look at.
            let reference = json!({"id": found.unwrap_or_default().to_string()});
            fields.insert(key.field.into(), reference);
            if found.is_some() {
                continue;
            }
            let plural = key.to.plural();
            let message = format!("invalid reference '{}: {shown}' (no such entry in '{plural}')", key.field);
            let names = self.by_name.get(&key.to).into_iter().flat_map(HashMap::keys).map(String::as_str);
            let hint = crate::hint::did_you_mean(&name, names);
            wrong.problems.push(declared.problem(key.field, message.as_str()).with_hint(&hint));
            let at = unique_name(declared.kind, fields)
                .map_or_else(|| id.to_string(), |(_, name)| name.to_owned());
            let list = wrong
                .fields
                .entry(declared.kind.plural())
                .or_insert_with(|| json!({}))
                .as_object_mut()
                .map(|entities| entities.entry(at).or_insert_with(|| json!([])));
            if let Some(Value::Array(list)) = list {
                list.push(message.into());
            }
        }
    }

    fn find(&self, kind: Kind, name: &str) -> Option<Uuid> {
        let by_name = self.by_name.get(&kind).and_then(|names| names.get(name)).copied();
        by_name.or_else(|| {
            let id = Uuid::parse_str(name).ok()?;
            self.by_id.get(&kind)?.contains(&id).then_some(id)
        })
    }
}

/// What a reference names, as it is shown and by id or name. `None` for what is no reference.
fn referred(value: Option<&Value>) -> Option<(String, String)> {
    match value? {
        Value::String(name) => Some((name.clone(), name.clone())),
        Value::Object(reference) => {
            let name = reference.get("id").or_else(|| reference.values().next())?.as_str()?;
            let plain = reference.len() == 1 || reference.contains_key("id");
            plain.then(|| (Value::Object(reference.clone()).to_string(), name.to_owned()))
        }
        _ => None,
    }
}

/// The name by which an entity can be referred to, with its field.
fn unique_name(kind: Kind, fields: &Map<String, Value>) -> Option<(&'static str, &str)> {
    // A target's address is its own only among those of its upstream.
    let key = kind.endpoint_key().filter(|_| kind != Kind::Target)?;
    Some((key, fields.get(key)?.as_str()?))
}

/// Values that must be unique besides names, of entities that are right in themselves.
fn repeated(declaration: &Declaration, entities: &[Entity]) -> Invalid {
    let mut wrong = Invalid::default();
    let mut seen: HashSet<(Kind, &str, &str)> = HashSet::new();
    for (declared, entity) in declaration.entities.iter().zip(entities) {
        let groups = entity.kind.unique().iter().filter(|group| group.len() == 1);
        for name in groups.flat_map(|group| group.iter()) {
            let Some(value) = entity.fields.get(*name).and_then(Value::as_str) else { continue };
            if seen.insert((entity.kind, name, value)) {
                continue;
            }
            let plural = entity.kind.plural();
            let message = format!(
                "uniqueness violation: '{plural}' entity with {name} set to '{value}' already declared"
            );
            wrong.problems.push(declared.problem(name, message.as_str()));
            let key = unique_name(entity.kind, &entity.fields).map(|(_, name)| name);
            let at = key.or_else(|| entity.fields.get("id").and_then(Value::as_str)).unwrap_or_default();
            // Kong keeps the last one of each kind.
            wrong.fields.insert(plural.into(), json!({at: message}));
        }
    }
    wrong
}

/// The id of an entity that has none, from what names it (Kong 3.11's DB-less ids). `None` where nothing does.
fn derived_id(declared: &Declared, parent: Option<(Kind, Uuid)>) -> Option<Uuid> {
    const ROOT: Uuid = Uuid::from_u128(0xfd02_801f_0957_4a15_a55a_c8d9_606f_30b5);
    let namespace = Uuid::new_v5(&ROOT, declared.kind.plural().as_bytes());
    let groups = declared.fields.get("consumer_group").is_some_and(|group| !group.is_null())
        || parent.is_some_and(|(kind, _)| kind == Kind::ConsumerGroup);
    let parts: &[&str] = match declared.kind {
        // Kong Enterprise has the group in all of these; where there is none, they are Kong's.
        Kind::Plugin if groups => &["name", "route", "service", "consumer", "consumer_group"],
        Kind::Plugin => &["name", "route", "service", "consumer"],
        Kind::Target => &["upstream", "target"],
        Kind::KeyAuthCredential
        | Kind::Certificate
        | Kind::CaCertificate
        | Kind::Workspace
        | Kind::ConsumerGroupConsumer => return None,
        _ => {
            let (_, name) = unique_name(declared.kind, &declared.fields)?;
            return Some(Uuid::new_v5(&namespace, name.as_bytes()));
        }
    };
    let above = parent.and_then(|(kind, id)| {
        declared.kind.foreign_keys().iter().find(|key| key.to == kind).map(|key| (key.field, id))
    });
    // `*` stands for the workspace.
    let mut key = vec![declared.kind.plural().to_owned(), "*".to_owned()];
    for part in parts {
        match (declared.fields.get(*part), above) {
            (Some(Value::String(text)), _) => key.push(text.clone()),
            (None, Some((field, id))) if field == *part => key.push(id.to_string()),
            (None, _) if ["upstream", "target", "name"].contains(part) => return None,
            (None, _) => key.push(String::new()),
            // What is neither text nor absent is left out.
            (Some(_), _) => {}
        }
    }
    Some(Uuid::new_v5(&namespace, key.join(":").as_bytes()))
}

/// `_config: name` puts a shared configuration under a plugin's own.
pub(crate) fn merge_plugin_config(
    declared: &Declared,
    declaration: &Declaration,
    fields: &mut Map<String, Value>,
    problems: &mut Vec<Problem>,
) {
    if declared.kind != Kind::Plugin {
        return;
    }
    let Some(Value::String(name)) = fields.remove("_config") else { return };
    match declaration.plugin_config(&name) {
        Some(shared) => {
            let mut merged = shared.clone();
            if let Some(own) = fields.remove("config") {
                merge(&mut merged, own);
            }
            fields.insert("config".into(), merged);
        }
        None => problems.push(declared.problem("_config", format!("_plugin_config \"{name}\" not found"))),
    }
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

/// `_info.defaults` stand in for what an entity does not say.
pub(crate) fn apply_defaults(kind: Kind, defaults: &Map<String, Value>, fields: &mut Map<String, Value>) {
    let singular = kind.plural().trim_end_matches('s');
    let Some(Value::Object(defaults)) = defaults.get(singular) else { return };
    for (name, value) in defaults {
        fields.entry(name.clone()).or_insert_with(|| value.clone());
    }
}

/// Adds the tags that an entity does not have yet; a membership has none.
pub(crate) fn add_tags(kind: Kind, tags: &[String], fields: &mut Map<String, Value>) {
    if tags.is_empty() || kind == Kind::ConsumerGroupConsumer {
        return;
    }
    let mut all = fields.get("tags").and_then(Value::as_array).cloned().unwrap_or_default();
    for tag in tags {
        if !all.iter().any(|other| other == tag) {
            all.push(tag.as_str().into());
        }
    }
    fields.insert("tags".into(), Value::Array(all));
}
