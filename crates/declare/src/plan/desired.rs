//! From declared entities to those that should be: ids found or given, references resolved, tags and defaults
//! put in, everything checked that can be checked without the server.

use std::collections::HashMap;

use serde_json::{Map, Value, json};
use tollgate_model::{Kind, PluginSchema, PluginSchemas, Source, check_entity};

use super::fill::{fill, plugin_protocols};
use super::{Known, Schemas, identities};
use crate::resolve::{add_tags, apply_defaults, merge_plugin_config};
use crate::{Declaration, Declared, Problem};

/// An entity as it should be.
#[derive(Debug, Clone)]
pub struct Desired {
    /// Its kind.
    pub kind: Kind,
    /// Its id.
    pub id: String,
    /// Its fields, as they are sent.
    pub fields: Map<String, Value>,
    /// Its place among the declared entities.
    pub place: usize,
}

/// Everything the entities of a declaration are resolved against.
pub struct Surroundings<'a> {
    /// Entities that are managed now, to keep their ids.
    pub current: &'a Known,
    /// Others that references may lead to: looked up by tags, or everything there is.
    pub referable: &'a Known,
    /// Schemas, for defaults.
    pub schemas: &'a Schemas,
    /// Clock and new ids.
    pub source: &'a dyn Source,
}

/// Resolves a declaration.
///
/// # Errors
/// Everything that is wrong, with file, line and field.
pub fn desired(declaration: &Declaration, around: &Surroundings<'_>) -> Result<Vec<Desired>, Vec<Problem>> {
    let mut problems = Vec::new();
    let names = Names::collect(declaration, around, &mut problems);
    let mut entities = Vec::with_capacity(declaration.entities.len());
    let mut taken: HashMap<(Kind, String), ()> = HashMap::new();
    for (place, declared) in declaration.entities.iter().enumerate() {
        let mut fields = declared.fields.clone();
        let before = problems.len();
        link_to_parent(declared, declaration, &names, &mut fields, &mut problems);
        for key in declared.kind.foreign_keys() {
            if let Err(message) = names.resolve(declared, key.field, key.to, &mut fields, around) {
                problems.push(declared.problem(key.field, message));
            }
        }
        merge_plugin_config(declared, declaration, &mut fields, &mut problems);
        if problems.len() > before {
            continue;
        }
        check(declared, &mut fields, around.source, &mut problems);
        apply_defaults(declared.kind, &declaration.defaults, &mut fields);
        if let Some(defaults) = around.schemas.entity(declared.kind) {
            fill(&mut fields, defaults);
        }
        add_tags(declared.kind, &declaration.select_tags, &mut fields);
        if declared.kind == Kind::Plugin {
            complete_plugin(&mut fields, around.schemas);
        }
        fields.retain(|_, value| !value.is_null());
        let own = identities(declared.kind, &fields);
        let id = match names.ids.get(place) {
            Some(Some(id)) => id.clone(),
            _ if declared.kind == Kind::ConsumerGroupConsumer => own.first().cloned().unwrap_or_default(),
            _ => {
                let existing = own.iter().find_map(|name| around.current.find(declared.kind, name));
                existing.map_or_else(|| around.source.id().to_string(), |existing| existing.id.clone())
            }
        };
        // Kinds with names were looked at before references were resolved.
        let repeated = !is_named(declared.kind)
            && own.into_iter().any(|name| taken.insert((declared.kind, name), ()).is_some());
        if repeated {
            problems.push(declared.problem("", already_exists(declared)));
        }
        fields.insert("id".into(), id.clone().into());
        entities.push(Desired { kind: declared.kind, id, fields, place });
    }
    if problems.is_empty() { Ok(entities) } else { Err(problems) }
}

/// Whether entities of the kind are known by a name of their own, whatever they refer to.
fn is_named(kind: Kind) -> bool {
    !matches!(kind, Kind::Plugin | Kind::Target | Kind::ConsumerGroupConsumer)
}

fn already_exists(declared: &Declared) -> String {
    let (kind, name) = (super::printed(declared.kind), super::own_name(declared.kind, &declared.fields));
    format!("inserting {kind} into state: inserting {kind} {name}: entity already exists")
}

/// Ids of the declared entities that have a name or an id, and where names lead.
struct Names {
    /// By place.
    ids: Vec<Option<String>>,
    by_name: HashMap<(Kind, String), String>,
}

impl Names {
    fn collect(declaration: &Declaration, around: &Surroundings<'_>, problems: &mut Vec<Problem>) -> Self {
        let mut names = Self { ids: Vec::with_capacity(declaration.entities.len()), by_name: HashMap::new() };
        for declared in &declaration.entities {
            let given = declared.fields.get("id").and_then(Value::as_str).map(str::to_owned);
            if declared.kind == Kind::ConsumerGroupConsumer {
                // Follows from what it joins, once that is resolved.
                names.ids.push(None);
                continue;
            }
            if !is_named(declared.kind) {
                names.ids.push(given);
                continue;
            }
            let own = identities(declared.kind, &declared.fields);
            let existing = own.first().and_then(|name| around.current.find(declared.kind, name));
            let id = given
                .or_else(|| existing.map(|existing| existing.id.clone()))
                .unwrap_or_else(|| around.source.id().to_string());
            let mut repeated = names.by_name.insert((declared.kind, id.clone()), id.clone()).is_some();
            for name in own {
                repeated |= names.by_name.insert((declared.kind, name), id.clone()).is_some();
            }
            if repeated {
                problems.push(
                    declared.problem(declared.kind.endpoint_key().unwrap_or("id"), already_exists(declared)),
                );
            }
            names.ids.push(Some(id));
        }
        names
    }

    /// Turns `service: name`, `{name: …}` and `{id: …}` into `{id: …}`.
    fn resolve(
        &self,
        declared: &Declared,
        field: &str,
        to: Kind,
        fields: &mut Map<String, Value>,
        around: &Surroundings<'_>,
    ) -> Result<(), String> {
        let name = match fields.get(field) {
            None | Some(Value::Null) => return Ok(()),
            Some(Value::String(name)) => name,
            Some(Value::Object(reference)) => {
                let named = ["id", "name", "username"]
                    .iter()
                    .find_map(|key| reference.get(*key).and_then(Value::as_str).map(str::to_owned));
                let custom = || Some(format!("custom_id:{}", reference.get("custom_id")?.as_str()?));
                &named.or_else(custom).ok_or("expected {name: …} or {id: …}")?
            }
            Some(_) => return Err("expected a name, {name: …} or {id: …}".into()),
        };
        let found = self
            .by_name
            .get(&(to, name.to_owned()))
            .or_else(|| around.referable.find(to, name).map(|existing| &existing.id));
        let Some(id) = found.cloned() else {
            let (kind, own) =
                (super::printed(declared.kind), super::own_name(declared.kind, &declared.fields));
            let whose = format!("{kind} {own}");
            return Err(format!("{} {name} for {}: entity not found", super::printed(to), whose.trim_end()));
        };
        fields.insert(field.to_owned(), json!({"id": id}));
        Ok(())
    }
}

fn link_to_parent(
    declared: &Declared,
    declaration: &Declaration,
    names: &Names,
    fields: &mut Map<String, Value>,
    problems: &mut Vec<Problem>,
) {
    let Some(place) = declared.parent else { return };
    let (Some(above), Some(Some(id))) = (declaration.entities.get(place), names.ids.get(place)) else {
        return;
    };
    let Some(key) = declared.kind.foreign_keys().iter().find(|key| key.to == above.kind) else { return };
    if fields.get(key.field).is_some_and(|given| !given.is_null()) {
        let parent = super::printed(above.kind);
        let name = super::own_name(above.kind, &above.fields);
        let (kind, own) = (super::printed(declared.kind), super::own_name(declared.kind, &declared.fields));
        let message =
            format!("nesting {parent} ({name}) under {parent}-scoped {kind} ({own}) is not allowed");
        problems.push(declared.problem(key.field, message));
        return;
    }
    fields.insert(key.field.into(), json!({"id": id}));
}

/// Plugins are checked by the server, which knows them.
struct NoPlugins;

impl PluginSchemas for NoPlugins {
    fn get(&self, _: &str) -> Option<&PluginSchema> {
        None
    }

    fn all(&self) -> Vec<&PluginSchema> {
        Vec::new()
    }
}

/// Checks an entity against its schema and takes over what the check expands: a service's `url`, a target's
/// port, what gRPC demands of a route.
fn check(
    declared: &Declared,
    fields: &mut Map<String, Value>,
    source: &dyn Source,
    problems: &mut Vec<Problem>,
) {
    let mut report = |errors: tollgate_model::FieldErrors| {
        for (path, message) in errors.flat() {
            problems.push(declared.problem(&path, message));
        }
    };
    if declared.kind == Kind::Plugin {
        let mut input = fields.clone();
        let config = input.remove("config").unwrap_or_else(|| json!({}));
        if !config.is_object() && !config.is_null() {
            report(tollgate_model::FieldErrors::of("config", "expected a record"));
        }
        input.insert("config".into(), json!({}));
        if let Err(errors) = declared.kind.schema().check(input, tollgate_model::Mode::Insert) {
            report(errors);
        }
        return;
    }
    let checked = match check_entity(declared.kind, fields.clone(), None, &NoPlugins, source) {
        Ok(checked) => checked,
        Err(errors) => return report(errors),
    };
    if fields.remove("url").is_some_and(|url| !url.is_null()) {
        for name in ["protocol", "host", "port", "path"] {
            if let Some(value) = checked.get(name).filter(|value| !value.is_null()) {
                fields.insert(name.into(), value.clone());
            }
        }
    }
    for name in ["target", "strip_path"] {
        if let Some(value) = checked.get(name)
            && (name == "target" || value == false)
        {
            fields.insert(name.into(), value.clone());
        }
    }
}

fn complete_plugin(fields: &mut Map<String, Value>, schemas: &Schemas) {
    let missing = |fields: &Map<String, Value>, name: &str| fields.get(name).is_none_or(Value::is_null);
    if missing(fields, "enabled") {
        fields.insert("enabled".into(), true.into());
    }
    if let Some(config) = fields.get_mut("config") {
        // As Go writes them.
        *config = super::compare::numbers_alike(config.take());
    }
    let name = fields.get("name").and_then(Value::as_str).unwrap_or_default();
    if missing(fields, "protocols")
        && let Some(protocols) = schemas.plugin(name).and_then(plugin_protocols)
    {
        fields.insert("protocols".into(), protocols.clone());
    }
}
