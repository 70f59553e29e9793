//! `/config`: the whole configuration of a DB-less node at once.

mod flattened;

use std::sync::{Mutex, PoisonError};

use md5::{Digest, Md5};
use tollgate_declare::{Entity, Invalid, Node};
use tollgate_http::Method;
use tollgate_http::StatusCode;
use tollgate_model::{Kind, Map, Value, json, lua};
use tollgate_store::{Author, DEFAULT_WORKSPACE};

use crate::answer::{Answer, Failure, Success, created, method_not_allowed, ok};
use crate::{Admin, Call, form};

/// Hash of the declarative configuration that is served: the MD5 of its text, or zeros before the first.
#[derive(Debug)]
pub struct ConfigurationHash(Mutex<String>);

impl Default for ConfigurationHash {
    fn default() -> Self {
        Self(Mutex::new("0".repeat(32)))
    }
}

impl ConfigurationHash {
    /// The hash, in hex.
    pub fn get(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says which text is served.
    pub fn set(&self, text: &str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = hash(text);
    }
}

fn hash(text: &str) -> String {
    Md5::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Answers a call to `/config`.
pub(crate) fn answer(admin: &Admin, call: &Call) -> Option<Answer> {
    if call.segments()[..] != ["config"] {
        return None;
    }
    let known = matches!(call.method, Method::GET | Method::POST);
    if known && !admin.facts.declarative {
        let message = "this endpoint is only available when Kong is configured to not use a database";
        return Some(Err(Failure::message(StatusCode::BAD_REQUEST, message)));
    }
    Some(match call.method {
        Method::GET => show(admin),
        Method::POST => load(admin, call),
        _ => Err(method_not_allowed()),
    })
}

fn show(admin: &Admin) -> Answer {
    let mut config = Map::from_iter([
        ("_format_version".to_owned(), json!("3.0")),
        ("_transform".to_owned(), json!(false)),
    ]);
    for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Workspace) {
        let page = admin.store.read(|view| view.list(kind, DEFAULT_WORKSPACE, None, usize::MAX, None))?;
        let entities: Vec<Value> = page
            .entities
            .into_iter()
            .map(|stored| Value::Object(with_plain_references(kind, stored.fields)))
            .collect();
        if !entities.is_empty() {
            config.insert(kind.plural().into(), entities.into());
        }
    }
    ok(json!({"config": yaml(&config)}))
}

/// References as ids alone, as a declaration has them.
fn with_plain_references(kind: Kind, mut fields: Map<String, Value>) -> Map<String, Value> {
    for key in kind.foreign_keys() {
        if let Some(id) = fields.get(key.field).and_then(|reference| reference.get("id")).cloned() {
            fields.insert(key.field.into(), id);
        }
    }
    fields
}

/// YAML with a line for each field of an entity, its value in JSON (which is YAML) and null as `~`.
fn yaml(config: &Map<String, Value>) -> String {
    let value = |value: &Value| if value.is_null() { "~".to_owned() } else { value.to_string() };
    let mut out = String::new();
    for (name, member) in config {
        let Value::Array(entities) = member else {
            out.push_str(&format!("{name}: {}\n", value(member)));
            continue;
        };
        out.push_str(&format!("{name}:\n"));
        for fields in entities.iter().filter_map(Value::as_object) {
            for (place, (name, member)) in fields.iter().enumerate() {
                let start = if place == 0 { "-" } else { " " };
                out.push_str(&format!("{start} {name}: {}\n", value(member)));
            }
        }
    }
    out
}

/// What a call hands over.
struct Given {
    document: Node,
    /// Of a configuration that came as a text.
    hash: Option<String>,
    check_hash: bool,
    flatten: bool,
}

fn load(admin: &Admin, call: &Call) -> Answer {
    let given = read(call)?;
    if given.check_hash && given.hash.as_ref() == Some(&admin.declarations.hash().get()) {
        return Ok(Success { status: StatusCode::NOT_MODIFIED, body: None, headers: Vec::new() });
    }
    let document = given.flatten.then(|| given.document.clone().into_value());
    let entities = admin.declarations.read(given.document).map_err(|invalid| refuse(invalid, document))?;
    replace(admin, &entities)?;
    let shown = shown(entities);
    match given.hash {
        Some(hash) => admin.declarations.hash().set_hash(hash),
        None => admin.declarations.hash().set(&shown.to_string()),
    }
    created(shown)
}

impl ConfigurationHash {
    fn set_hash(&self, hash: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = hash;
    }
}

/// Takes a configuration out of a body: the body itself, or its member `config`.
fn read(call: &Call) -> Result<Given, Failure> {
    let kind = call.content_type.as_deref().unwrap_or_default().to_ascii_lowercase();
    let is_yaml = kind.starts_with("text/yaml") || kind.starts_with("application/yaml");
    let mut body = if is_yaml { Map::new() } else { form::read(call, None)? };
    let mut option = |name: &str| {
        let in_body = body.remove(name);
        call.query(name).map(Value::from).or(in_body).unwrap_or_default()
    };
    let flatten = match option("flatten_errors") {
        Value::String(text) => ["true", "1", "on", "yes"].contains(&text.to_ascii_lowercase().as_str()),
        other => other == json!(true) || other == json!(1),
    };
    let check_hash = match option("check_hash") {
        Value::String(text) => text == "1",
        other => other == json!(1),
    };
    if body.contains_key("_format_version") {
        let document = Node::from(Value::Object(body));
        return Ok(Given { document, hash: None, check_hash, flatten });
    }
    let text = match body.remove("config") {
        Some(Value::String(text)) => text,
        Some(Value::Object(config)) => {
            let document = Node::from(Value::Object(config));
            return Ok(Given { document, hash: None, check_hash, flatten });
        }
        Some(other) => other.to_string(),
        None => String::from_utf8_lossy(&call.body).into_owned(),
    };
    if text.is_empty() {
        return Err(Failure::message(StatusCode::BAD_REQUEST, "expected a declarative configuration"));
    }
    let document = Node::parse("", &text).map_err(|problem| refuse(Invalid::malformed(problem), None))?;
    Ok(Given { document, hash: Some(hash(&text)), check_hash, flatten })
}

/// Puts a configuration in the place of the one that is served, in one transaction.
fn replace(admin: &Admin, entities: &[Entity]) -> Result<(), Failure> {
    admin.store.commit(Author { name: "config", message: "POST /config" }, |transaction| {
        for kind in Kind::ALL.into_iter().rev().filter(|kind| *kind != Kind::Workspace) {
            transaction.clear(kind, DEFAULT_WORKSPACE)?;
        }
        entities
            .iter()
            .try_for_each(|entity| transaction.put(entity.kind, DEFAULT_WORKSPACE, entity.fields.clone()))
    })?;
    Ok(())
}

/// The configuration that is served now: by kind and id.
fn shown(entities: Vec<Entity>) -> Value {
    let mut shown: Map<String, Value> = Map::new();
    for entity in entities {
        let id = entity.fields.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
        let list = shown.entry(entity.kind.plural()).or_insert_with(|| json!({}));
        if let Some(list) = list.as_object_mut() {
            list.insert(id, Value::Object(entity.fields));
        }
    }
    Value::Object(shown)
}

/// Everything that is wrong, in the shape of the document; and one by one, where that is asked for.
fn refuse(invalid: Invalid, document: Option<Value>) -> Failure {
    let mut fields = invalid.fields;
    let flattened = document.map(|document| flattened::flatten(document, &mut fields));
    // Kong's message has what is left in `fields`.
    let fields = Value::Object(fields);
    let message = format!("declarative config is invalid: {}", lua::compact(&fields));
    let mut failure = Failure::coded(
        StatusCode::BAD_REQUEST,
        14,
        "invalid declarative configuration",
        message,
        Some(fields),
    );
    if let (Some(flattened), Some(Value::Object(body))) = (flattened, &mut failure.body) {
        body.insert("flattened_errors".into(), Value::Array(flattened));
    }
    failure
}
