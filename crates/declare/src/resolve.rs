//! From declared entities to checked ones: defaults filled, references resolved, ids given.

use std::collections::HashMap;

use serde_json::{Map, Value, json};
use tollgate_model::entity::Target;
use tollgate_model::{Kind, PluginSchemas, Source, check_entity};
use uuid::Uuid;

use crate::{Declaration, Declared, Problem};

/// A checked entity of a declaration.
#[derive(Debug, Clone)]
pub struct Entity {
    /// Its kind.
    pub kind: Kind,
    /// Its fields, all of them.
    pub fields: Map<String, Value>,
}

/// Entities there are already, to find by name: their ids stay, and references may lead to them.
pub trait Known {
    /// The id of an entity by its name (`name`, `username`, …), or by what makes it one of its kind.
    fn id(&self, kind: Kind, name: &str) -> Option<Uuid>;
}

/// Nothing is there yet.
pub struct Nothing;

impl Known for Nothing {
    fn id(&self, _: Kind, _: &str) -> Option<Uuid> {
        None
    }
}

/// Resolves and checks everything a declaration holds. Entities without id get the one Kong's DB-less mode
/// gives them: the same name, the same id.
///
/// # Errors
/// Everything that is wrong, with file, line and field.
pub fn resolve(
    declaration: Declaration,
    plugins: &dyn PluginSchemas,
    known: &dyn Known,
    source: &dyn Source,
) -> Result<Vec<Entity>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut by_name: HashMap<(Kind, String), Uuid> = HashMap::new();
    let mut taken: HashMap<(Kind, String), ()> = HashMap::new();
    let mut ids: Vec<Uuid> = Vec::with_capacity(declaration.entities.len());
    let mut entities = Vec::with_capacity(declaration.entities.len());
    // Names first: a reference may come before what it names.
    for declared in &declaration.entities {
        let id = declared.fields.get("id").and_then(Value::as_str).and_then(|id| Uuid::parse_str(id).ok());
        let name = name_of(declared);
        let parent = declared.parent.and_then(|place| ids.get(place)).copied();
        let id = id
            .or_else(|| {
                name.as_ref()
                    .filter(|_| declared.parent.is_none() || is_named_alone(declared.kind))
                    .and_then(|name| known.id(declared.kind, name))
            })
            .or_else(|| derived_id(declared, parent))
            .unwrap_or_else(|| source.id());
        if let Some(name) = name.filter(|_| is_named_alone(declared.kind))
            && by_name.insert((declared.kind, name.clone()), id).is_some()
        {
            let field = declared.kind.endpoint_key().unwrap_or("name");
            let message = format!(
                "uniqueness violation: '{}' entity with {field} set to '{name}' already declared",
                declared.kind.plural()
            );
            problems.push(declared.problem(field, message));
        }
        if taken.insert((declared.kind, id.to_string()), ()).is_some() && declared.fields.contains_key("id") {
            let message = format!(
                "uniqueness violation: '{}' entity with primary key set to '{id}' already declared",
                declared.kind.plural()
            );
            problems.push(declared.problem("id", message));
        }
        ids.push(id);
    }
    for (place, declared) in declaration.entities.iter().enumerate() {
        let mut fields = declared.fields.clone();
        fields.insert("id".into(), ids[place].to_string().into());
        let parent =
            declared.parent.and_then(|place| Some((declaration.entities.get(place)?, ids.get(place)?)));
        if let Some((above, id)) = parent {
            let field =
                declared.kind.foreign_keys().iter().find(|key| key.to == above.kind).map(|key| key.field);
            if let Some(field) = field {
                fields.insert(field.into(), json!({"id": id.to_string()}));
            }
        }
        for key in declared.kind.foreign_keys() {
            if let Err(message) = resolve_reference(
                &mut fields,
                key.field,
                key.to,
                &by_name,
                &ids,
                &declaration.entities,
                known,
            ) {
                problems.push(declared.problem(key.field, message));
            }
        }
        merge_plugin_config(declared, &declaration, &mut fields, &mut problems);
        apply_defaults(declared.kind, &declaration.defaults, &mut fields);
        add_tags(&declaration.select_tags, &mut fields);
        match check_entity(declared.kind, fields, None, plugins, source) {
            Ok(fields) => entities.push(Entity { kind: declared.kind, fields }),
            Err(errors) => problems
                .extend(errors.flat().into_iter().map(|(path, message)| declared.problem(&path, message))),
        }
    }
    if problems.is_empty() { Ok(entities) } else { Err(problems) }
}

/// Whether a kind's names are unique by themselves, so that references can use them.
fn is_named_alone(kind: Kind) -> bool {
    matches!(kind, Kind::Service | Kind::Route | Kind::Consumer | Kind::Upstream | Kind::Sni)
}

fn name_of(declared: &Declared) -> Option<String> {
    let key = declared.kind.endpoint_key()?;
    declared.fields.get(key).and_then(Value::as_str).map(str::to_owned)
}

/// The id of an entity that has none, from what names it (Kong 3.11's DB-less ids).
fn derived_id(declared: &Declared, parent: Option<Uuid>) -> Option<Uuid> {
    const ROOT: Uuid = Uuid::from_u128(0xfd02_801f_0957_4a15_a55a_c8d9_606f_30b5);
    let namespace = Uuid::new_v5(&ROOT, declared.kind.plural().as_bytes());
    let text = |name: &str| declared.fields.get(name).and_then(Value::as_str).unwrap_or_default();
    let key = match declared.kind {
        Kind::Plugin => {
            // Above a plugin stands a route, a service or a consumer; the others it may name itself.
            let of = |field: &str| match (parent, declared.path.len()) {
                (Some(id), _)
                    if declared
                        .path
                        .iter()
                        .rev()
                        .nth(1)
                        .is_some_and(|(list, _)| list.trim_end_matches('s') == field) =>
                {
                    id.to_string()
                }
                _ => reference_text(declared.fields.get(field)),
            };
            format!("plugins:{}:{}:{}:{}:*", text("name"), of("route"), of("service"), of("consumer"))
        }
        Kind::Target => {
            let (host, port) = Target::split(text("target"))?;
            format!(
                "targets:{}:{host}:{port}:*",
                parent
                    .map(|id| id.to_string())
                    .unwrap_or_else(|| reference_text(declared.fields.get("upstream")))
            )
        }
        Kind::KeyAuthCredential | Kind::Certificate | Kind::CaCertificate | Kind::Workspace => return None,
        _ => name_of(declared)?,
    };
    Some(Uuid::new_v5(&namespace, key.as_bytes()))
}

fn reference_text(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(name)) => name.clone(),
        Some(Value::Object(fields)) => fields.values().find_map(Value::as_str).unwrap_or_default().to_owned(),
        _ => String::new(),
    }
}

/// Turns `service: name`, `{name: …}` and `{id: …}` into `{id: …}`.
fn resolve_reference(
    fields: &mut Map<String, Value>,
    field: &'static str,
    to: Kind,
    by_name: &HashMap<(Kind, String), Uuid>,
    ids: &[Uuid],
    declared: &[Declared],
    known: &dyn Known,
) -> Result<(), String> {
    let name = match fields.get(field) {
        None | Some(Value::Null) => return Ok(()),
        Some(Value::String(name)) => name.clone(),
        Some(Value::Object(reference)) if reference.contains_key("id") => {
            reference.get("id").and_then(Value::as_str).unwrap_or_default().to_owned()
        }
        Some(Value::Object(reference)) => match reference.values().find_map(Value::as_str) {
            Some(name) => name.to_owned(),
            None => return Ok(()),
        },
        Some(_) => return Ok(()),
    };
    let by_id = Uuid::parse_str(&name).ok().filter(|id| {
        ids.iter().zip(declared).any(|(other, declared)| other == id && declared.kind == to)
            || known.id(to, &name).is_some()
    });
    let found = by_id.or_else(|| by_name.get(&(to, name.clone())).copied()).or_else(|| known.id(to, &name));
    match found {
        Some(id) => {
            fields.insert(field.into(), json!({"id": id.to_string()}));
            Ok(())
        }
        None => Err(format!("invalid reference '{field}: {name}' (no such entry in '{}')", to.plural())),
    }
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

pub(crate) fn apply_defaults(kind: Kind, defaults: &Map<String, Value>, fields: &mut Map<String, Value>) {
    let singular = kind.plural().trim_end_matches('s');
    let Some(Value::Object(defaults)) = defaults.get(singular) else { return };
    for (name, value) in defaults {
        fields.entry(name.clone()).or_insert_with(|| value.clone());
    }
}

pub(crate) fn add_tags(tags: &[String], fields: &mut Map<String, Value>) {
    if tags.is_empty() {
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
