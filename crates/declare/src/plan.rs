//! What must change so that a server has what a declaration says: decK's rules of matching, comparing and
//! order.

mod compare;
mod desired;
pub mod fill;

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};
use tollgate_model::{Kind, membership_id};

pub use compare::comparable;
pub(crate) use compare::set_only;
pub use desired::{Desired, Surroundings, desired};

/// An entity a server has.
#[derive(Debug, Clone)]
pub struct Existing {
    /// Its kind.
    pub kind: Kind,
    /// Its id.
    pub id: String,
    /// Its fields, as the server showed them.
    pub fields: Map<String, Value>,
}

/// Entities to find by id or name.
#[derive(Debug, Default)]
pub struct Known {
    entities: Vec<Existing>,
    index: HashMap<(Kind, String), usize>,
}

impl Known {
    /// Indexes entities.
    pub fn new(entities: Vec<Existing>) -> Self {
        let mut index = HashMap::new();
        for (place, entity) in entities.iter().enumerate() {
            index.insert((entity.kind, entity.id.clone()), place);
            for name in identities(entity.kind, &entity.fields) {
                index.entry((entity.kind, name)).or_insert(place);
            }
        }
        Self { entities, index }
    }

    /// All of them.
    pub fn entities(&self) -> &[Existing] {
        &self.entities
    }

    /// The entity with this id, name, or whatever makes it one of its kind.
    pub fn find(&self, kind: Kind, name: &str) -> Option<&Existing> {
        self.index.get(&(kind, name.to_owned())).and_then(|place| self.entities.get(*place))
    }
}

/// Schemas as a server shows them.
#[derive(Debug, Default)]
pub struct Schemas {
    entities: HashMap<Kind, Map<String, Value>>,
    plugins: HashMap<String, Value>,
}

impl Schemas {
    /// Kinds of which decK fills defaults in.
    pub const FILLED: [Kind; 4] = [Kind::Service, Kind::Route, Kind::Upstream, Kind::Target];

    /// Takes a kind's schema, in Kong's or Konnect's form.
    pub fn add_entity(&mut self, kind: Kind, schema: &Value) {
        self.entities.insert(kind, fill::entity_defaults(schema));
    }

    /// Takes a plugin's schema.
    pub fn add_plugin(&mut self, name: &str, schema: Value) {
        self.plugins.insert(name.to_owned(), schema);
    }

    /// Defaults of a kind.
    pub fn entity(&self, kind: Kind) -> Option<&Map<String, Value>> {
        self.entities.get(&kind)
    }

    /// Schema of a plugin.
    pub fn plugin(&self, name: &str) -> Option<&Value> {
        self.plugins.get(name)
    }
}

/// What is done to an entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It is new.
    Create,
    /// It changes.
    Update,
    /// It goes.
    Delete,
}

/// One change.
#[derive(Debug, Clone)]
pub struct Event {
    /// What is done.
    pub action: Action,
    /// To which kind of entity.
    pub kind: Kind,
    /// Its id.
    pub id: String,
    /// Its name as decK prints it: `key-auth for route r`.
    pub name: String,
    /// Its fields: as they are sent, or for a delete as they were.
    pub fields: Map<String, Value>,
    /// As it was, in the form for differences; where it was.
    pub before: Option<Map<String, Value>>,
    /// As it will be, in the form for differences; where it will be.
    pub after: Option<Map<String, Value>>,
    /// Its place among the declared entities.
    pub place: Option<usize>,
}

/// decK's order of creating: each row after the one before. Deletes go through the rows from the last.
const ROWS: [&[Kind]; 4] = [
    &[Kind::Certificate, Kind::CaCertificate, Kind::Consumer],
    &[Kind::ConsumerGroup, Kind::Sni, Kind::Service, Kind::Upstream, Kind::KeyAuthCredential],
    &[Kind::Route, Kind::Target, Kind::ConsumerGroupConsumer],
    &[Kind::Plugin],
];

/// A kind's name in decK's output.
pub fn printed(kind: Kind) -> &'static str {
    match kind {
        Kind::Workspace => "workspace",
        Kind::Certificate => "certificate",
        Kind::CaCertificate => "ca-certificate",
        Kind::Sni => "sni",
        Kind::Service => "service",
        Kind::Route => "route",
        Kind::Consumer => "consumer",
        Kind::ConsumerGroup => "consumer-group",
        Kind::ConsumerGroupConsumer => "consumer-group-consumer",
        Kind::KeyAuthCredential => "key-auth",
        Kind::Upstream => "upstream",
        Kind::Target => "target",
        Kind::Plugin => "plugin",
    }
}

/// What an entity is known by within its kind, most telling first: an entity without id that has one of these
/// in common with an existing one *is* that one.
pub fn identities(kind: Kind, fields: &Map<String, Value>) -> Vec<String> {
    let text = |name: &str| fields.get(name).and_then(Value::as_str).map(str::to_owned);
    let reference = |name: &str| {
        fields.get(name).and_then(|to| to.get("id")).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    match kind {
        Kind::Consumer => {
            let custom = text("custom_id").map(|id| format!("custom_id:{id}"));
            text("username").into_iter().chain(custom).collect()
        }
        Kind::Plugin => {
            let name = text("name").unwrap_or_default();
            let scope = ["route", "service", "consumer", "consumer_group"].map(reference).join("|");
            vec![format!("{name}|{scope}")]
        }
        Kind::Target => {
            text("target").map(|target| format!("{target}|{}", reference("upstream"))).into_iter().collect()
        }
        Kind::ConsumerGroupConsumer => {
            membership_id(kind, fields).map(|id| id.to_string()).into_iter().collect()
        }
        Kind::Certificate => text("cert")
            .zip(text("key"))
            .map(|(cert, key)| format!("{}|{}", cert.trim(), key.trim()))
            .into_iter()
            .collect(),
        Kind::CaCertificate => text("cert").map(|cert| cert.trim().to_owned()).into_iter().collect(),
        _ => kind.endpoint_key().and_then(text).into_iter().collect(),
    }
}

/// Compares what is with what should be.
///
/// `keep`: nothing is deleted (`apply`). `aside`: entities that are only referred to, and stay as they are.
pub fn plan(
    current: &Known,
    desired: Vec<Desired>,
    aside: &Known,
    schemas: &Schemas,
    keep: bool,
) -> Vec<Event> {
    let names = Names::new(current, aside, &desired);
    let wanted: HashSet<(Kind, &str)> =
        desired.iter().map(|entity| (entity.kind, entity.id.as_str())).collect();
    let set_aside = |entity: &Existing| aside.find(entity.kind, &entity.id).is_some();
    let doomed: Vec<&Existing> = current
        .entities()
        .iter()
        .filter(|entity| !wanted.contains(&(entity.kind, entity.id.as_str())) && !set_aside(entity))
        .collect();
    let delete = |entity: &Existing| Event {
        action: Action::Delete,
        kind: entity.kind,
        id: entity.id.clone(),
        name: names.of(entity.kind, &entity.fields),
        before: Some(comparable(entity.kind, &entity.fields, schemas)),
        after: None,
        fields: entity.fields.clone(),
        place: None,
    };
    let mut events = Vec::new();
    let mut first = HashSet::new();
    if !keep {
        // Where a declared id takes a name from another entity, that one must go first.
        for entity in duplicates(&doomed, &desired) {
            first.insert((entity.kind, entity.id.as_str()));
            events.push(delete(entity));
        }
    }
    for kind in ROWS.iter().flat_map(|row| row.iter()) {
        for entity in desired.iter().filter(|entity| entity.kind == *kind) {
            events.extend(change(current, entity, schemas, &names));
        }
    }
    if !keep {
        for kind in ROWS.iter().rev().flat_map(|row| row.iter()) {
            let gone = doomed
                .iter()
                .filter(|entity| entity.kind == *kind && !first.contains(&(entity.kind, entity.id.as_str())));
            events.extend(gone.map(|entity| delete(entity)));
        }
    }
    events
}

fn change(current: &Known, entity: &Desired, schemas: &Schemas, names: &Names) -> Option<Event> {
    let after = comparable(entity.kind, &entity.fields, schemas);
    let existing = current.find(entity.kind, &entity.id).filter(|existing| existing.id == entity.id);
    let before = existing.map(|existing| comparable(entity.kind, &existing.fields, schemas));
    if before.as_ref() == Some(&after) {
        return None;
    }
    let mut fields = entity.fields.clone();
    if let Some(created) = existing.and_then(|existing| existing.fields.get("created_at")) {
        fields.insert("created_at".into(), created.clone());
    }
    Some(Event {
        action: if existing.is_some() { Action::Update } else { Action::Create },
        kind: entity.kind,
        id: entity.id.clone(),
        name: names.of(entity.kind, &entity.fields),
        before,
        after: Some(after),
        fields,
        place: Some(entity.place),
    })
}

/// Existing services, routes and consumers whose name a declared entity of another id has, with the routes of
/// such services before them.
fn duplicates<'a>(doomed: &[&'a Existing], desired: &[Desired]) -> Vec<&'a Existing> {
    let mut wanted: HashSet<(Kind, String)> = HashSet::new();
    for entity in desired {
        wanted.extend(identities(entity.kind, &entity.fields).into_iter().map(|name| (entity.kind, name)));
    }
    let of_kind = |kind: Kind| doomed.iter().copied().filter(move |entity| entity.kind == kind);
    let repeated = |entity: &&Existing| {
        identities(entity.kind, &entity.fields).into_iter().any(|name| wanted.contains(&(entity.kind, name)))
    };
    let services: Vec<&Existing> = of_kind(Kind::Service).filter(repeated).collect();
    let of_service = |route: &&Existing| {
        let service =
            route.fields.get("service").and_then(|service| service.get("id")).and_then(Value::as_str);
        services.iter().any(|other| Some(other.id.as_str()) == service)
    };
    let mut list: Vec<&Existing> =
        of_kind(Kind::Route).filter(|route| of_service(route) || repeated(route)).collect();
    list.extend(services.iter().copied());
    list.extend(of_kind(Kind::Consumer).filter(repeated));
    list
}

/// Names of entities by id, for those that refer to them.
struct Names(HashMap<(Kind, String), String>);

impl Names {
    fn new(current: &Known, aside: &Known, desired: &[Desired]) -> Self {
        let mut names = HashMap::new();
        let there = current.entities().iter().chain(aside.entities());
        let all = there
            .map(|entity| (entity.kind, &entity.id, &entity.fields))
            .chain(desired.iter().map(|entity| (entity.kind, &entity.id, &entity.fields)));
        for (kind, id, fields) in all {
            names.insert((kind, id.clone()), own_name(kind, fields));
        }
        Self(names)
    }

    fn of(&self, kind: Kind, fields: &Map<String, Value>) -> String {
        let reference = |field: &str, to: Kind| {
            let id = fields.get(field)?.get("id")?.as_str()?;
            Some(self.0.get(&(to, id.to_owned())).cloned().unwrap_or_else(|| id.to_owned()))
        };
        let own = own_name(kind, fields);
        match kind {
            Kind::Plugin => {
                let scopes = [
                    ("service", Kind::Service),
                    ("route", Kind::Route),
                    ("consumer", Kind::Consumer),
                    ("consumer-group", Kind::ConsumerGroup),
                ];
                let scopes: Vec<String> = scopes
                    .iter()
                    .filter_map(|(what, to)| {
                        Some(format!("{what} {}", reference(&what.replace('-', "_"), *to)?))
                    })
                    .collect();
                if scopes.is_empty() {
                    format!("{own} (global)")
                } else {
                    format!("{own} for {}", scopes.join(" and "))
                }
            }
            Kind::Target => {
                let upstream = fields.get("upstream").and_then(|to| to.get("id")).and_then(Value::as_str);
                format!("{own} for upstream {}", upstream.unwrap_or_default())
            }
            Kind::KeyAuthCredential => {
                format!("{own} for consumer {}", reference("consumer", Kind::Consumer).unwrap_or_default())
            }
            Kind::ConsumerGroupConsumer => reference("consumer", Kind::Consumer).unwrap_or_default(),
            _ => own,
        }
    }
}

/// An entity's name without what it belongs to. Of a key only the end is shown.
pub(crate) fn own_name(kind: Kind, fields: &Map<String, Value>) -> String {
    let text = |name: &str| fields.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let named = match kind {
        Kind::KeyAuthCredential => {
            let key = text("key").unwrap_or_default();
            let end = key.char_indices().rev().nth(4).map_or(0, |(at, _)| at);
            return key[end..].to_owned();
        }
        Kind::Plugin => text("name"),
        Kind::Consumer => text("username").or(text("custom_id")),
        _ => kind.endpoint_key().and_then(text),
    };
    named.or(text("id")).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
