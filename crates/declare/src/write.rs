//! Entities as a decK file: nested as people write them, references by name.

mod sanitize;
mod yaml;

use std::collections::HashMap;

use serde_json::{Map, Value, json};
use tollgate_model::Kind;

use crate::plan::fill::{kong_fields, plugin_config_schema};
use crate::plan::{Existing, Known, Schemas, own_name, set_only};
pub use sanitize::Sanitizer;
pub use yaml::to_yaml;

/// What a document holds besides the entities.
#[derive(Debug, Clone, Default)]
pub struct Header {
    /// `_workspace`
    pub workspace: Option<String>,
    /// `_konnect.control_plane_name`
    pub control_plane: Option<String>,
    /// `_info.select_tags`
    pub select_tags: Vec<String>,
}

/// How entities are written.
#[derive(Debug, Clone, Copy, Default)]
pub struct Style<'a> {
    /// Ids are kept also where names would do.
    pub with_id: bool,
    /// References are ids.
    pub by_id: bool,
    /// Values that are the defaults of these schemas are left out.
    pub without_defaults: Option<&'a Schemas>,
}

/// The document (format 3.0) that declares these entities.
pub fn document(entities: Vec<Existing>, header: &Header, style: Style<'_>) -> Value {
    let known = Known::new(entities);
    let mut writer = Writer { known: &known, style, below: HashMap::new() };
    let mut document = Map::from_iter([("_format_version".to_owned(), json!("3.0"))]);
    if let Some(workspace) = &header.workspace {
        document.insert("_workspace".into(), json!(workspace));
    }
    if let Some(name) = &header.control_plane {
        document.insert("_konnect".into(), json!({"control_plane_name": name}));
    }
    if !header.select_tags.is_empty() {
        document.insert("_info".into(), json!({"defaults": {}, "select_tags": header.select_tags}));
    }
    // From the inside out: what is nested must be there when its parent is written.
    for kind in Kind::ALL.into_iter().rev().filter(|kind| *kind != Kind::Workspace) {
        let mut list: Vec<(String, Value)> = Vec::new();
        for entity in known.entities().iter().filter(|entity| entity.kind == kind) {
            let (parent, value) = writer.entity(entity);
            let name = sort_key(entity, &known);
            match parent {
                Some(parent) => writer.below.entry((parent, kind)).or_default().push((name, value)),
                None => list.push((name, value)),
            }
        }
        if !list.is_empty() {
            document.insert(kind.plural().into(), in_order(list));
        }
    }
    Value::Object(document)
}

fn in_order(mut list: Vec<(String, Value)>) -> Value {
    list.sort_by(|(a, _), (b, _)| a.cmp(b));
    list.into_iter().map(|(_, value)| value).collect()
}

fn sort_key(entity: &Existing, known: &Known) -> String {
    match entity.kind {
        Kind::ConsumerGroupConsumer => {
            let group = entity.fields.get("consumer_group").and_then(|group| group.get("id"));
            let group = group.and_then(Value::as_str).and_then(|id| known.find(Kind::ConsumerGroup, id));
            group.map(|group| own_name(group.kind, &group.fields)).unwrap_or_default()
        }
        Kind::KeyAuthCredential => {
            entity.fields.get("key").and_then(Value::as_str).unwrap_or_default().to_owned()
        }
        _ => own_name(entity.kind, &entity.fields),
    }
}

struct Writer<'a> {
    known: &'a Known,
    style: Style<'a>,
    /// What has been written, by the id of its parent.
    below: HashMap<(String, Kind), Vec<(String, Value)>>,
}

impl Writer<'_> {
    /// A membership as it is written into its consumer: the group.
    fn membership(&self, entity: &Existing) -> (Option<String>, Value) {
        let id = |field: &str| {
            entity.fields.get(field).and_then(|to| to.get("id")).and_then(Value::as_str).map(str::to_owned)
        };
        let group = id("consumer_group").unwrap_or_default();
        let named = self.known.find(Kind::ConsumerGroup, &group).filter(|_| !self.style.by_id);
        let written = match named {
            Some(group) => {
                let shown = ["name", "tags"]
                    .iter()
                    .filter_map(|name| Some(((*name).to_owned(), set_only(group.fields.get(*name)?)?)));
                Value::Object(shown.collect())
            }
            None => json!({"id": group}),
        };
        (id("consumer"), written)
    }

    /// An entity as it is written, and the id of the one it is written into.
    fn entity(&mut self, entity: &Existing) -> (Option<String>, Value) {
        if entity.kind == Kind::ConsumerGroupConsumer {
            return self.membership(entity);
        }
        let mut fields: Map<String, Value> = Map::new();
        for field in &entity.kind.schema().fields {
            let unseen = match field.name {
                "created_at" | "updated_at" => true,
                "snis" => entity.kind == Kind::Certificate,
                "cert_digest" => entity.kind == Kind::CaCertificate,
                "id" => !self.keeps_id(entity),
                _ => false,
            };
            let Some(value) = entity.fields.get(field.name).filter(|_| !unseen) else { continue };
            let is_config = entity.kind == Kind::Plugin && field.name == "config";
            if let Some(value) = if is_config { Some(value.clone()) } else { set_only(value) } {
                fields.insert(field.name.into(), value);
            }
        }
        let parent = self.take_references(entity, &mut fields);
        if let Some(schemas) = self.style.without_defaults {
            drop_defaults(entity.kind, &mut fields, schemas);
        }
        for kind in Kind::ALL {
            if let Some(list) = self.below.remove(&(entity.id.clone(), kind)) {
                let name = if kind == Kind::ConsumerGroupConsumer { "groups" } else { kind.plural() };
                fields.insert(name.into(), in_order(list));
            }
        }
        (parent, Value::Object(fields))
    }

    fn keeps_id(&self, entity: &Existing) -> bool {
        let named = match entity.kind {
            Kind::Certificate | Kind::CaCertificate => false,
            Kind::Plugin => true,
            _ => !crate::plan::identities(entity.kind, &entity.fields).is_empty(),
        };
        self.style.with_id || !named
    }

    /// Writes references as names; the one that decides the place is taken out, and its id returned.
    fn take_references(&self, entity: &Existing, fields: &mut Map<String, Value>) -> Option<String> {
        let keys = entity.kind.foreign_keys();
        let set: Vec<_> = keys.iter().filter(|key| fields.contains_key(key.field)).collect();
        let mut parent = None;
        for key in &set {
            let id = fields.get(key.field).and_then(|to| to.get("id")).and_then(Value::as_str);
            let Some(id) = id.map(str::to_owned) else { continue };
            let there = self.known.find(key.to, &id);
            let nests = key.field != "client_certificate" && set.len() == 1 && there.is_some();
            if nests {
                fields.remove(key.field);
                parent = Some(id);
                continue;
            }
            let named = there.filter(|_| !self.style.by_id);
            let name = named.map_or_else(|| id.clone(), |there| own_name(there.kind, &there.fields));
            let written = match (entity.kind, key.field) {
                (Kind::Plugin, _) => json!(name),
                (Kind::Service, "client_certificate") => json!(id),
                _ => json!({"id": id}),
            };
            fields.insert(key.field.into(), written);
        }
        parent
    }
}

/// Takes out what the schema's defaults would put back.
fn drop_defaults(kind: Kind, fields: &mut Map<String, Value>, schemas: &Schemas) {
    if let Some(defaults) = schemas.entity(kind) {
        drop_equal(fields, defaults);
    }
    if kind != Kind::Plugin {
        return;
    }
    let name = fields.get("name").and_then(Value::as_str).unwrap_or_default();
    let Some(schema) = schemas.plugin(name) else { return };
    let protocols = crate::plan::fill::plugin_protocols(schema);
    if fields.get("protocols") == protocols {
        fields.remove("protocols");
    }
    if fields.get("enabled") == Some(&Value::Bool(true)) {
        fields.remove("enabled");
    }
    if let (Some(schema), Some(Value::Object(config))) =
        (plugin_config_schema(schema), fields.get_mut("config"))
    {
        drop_config_defaults(config, schema);
        if config.is_empty() {
            fields.remove("config");
        }
    }
}

fn drop_equal(fields: &mut Map<String, Value>, defaults: &Map<String, Value>) {
    fields.retain(|name, value| match (value, defaults.get(name)) {
        (value, Some(default)) if value == default => false,
        (Value::Object(inner), Some(Value::Object(defaults))) => {
            drop_equal(inner, defaults);
            !inner.is_empty()
        }
        _ => true,
    });
}

fn drop_config_defaults(config: &mut Map<String, Value>, schema: &Value) {
    for (name, field) in kong_fields(schema) {
        let default = field.get("default").unwrap_or(&Value::Null);
        let drop = match config.get_mut(name) {
            None => continue,
            Some(Value::Object(inner)) if field.get("fields").is_some() => {
                drop_config_defaults(inner, field);
                // An optional record that is there at all says something.
                inner.is_empty() && field.get("required").is_some_and(|required| required == true)
            }
            Some(value) => value == default || value.is_null(),
        };
        if drop {
            config.remove(name);
        }
    }
}

#[cfg(test)]
mod tests;
