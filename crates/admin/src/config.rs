//! `/config`: the whole configuration of a DB-less node at once.

use std::sync::Mutex;
use std::sync::PoisonError;

use tollgate_declare::Problem;
use tollgate_http::{Method, StatusCode};
use tollgate_model::{Kind, Map, Value, json};
use tollgate_store::{Author, DEFAULT_WORKSPACE};

use crate::answer::{Answer, Failure, Success, created, method_not_allowed, ok};
use crate::{Admin, Call, form};

/// Hash of the configuration loaded last through `/config`.
static LOADED: Mutex<Option<u64>> = Mutex::new(None);

/// Answers a call to `/config`.
pub(crate) fn answer(admin: &Admin, call: &Call) -> Option<Answer> {
    if call.segments()[..] != ["config"] {
        return None;
    }
    if !admin.facts.declarative {
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
        if !page.entities.is_empty() {
            config.insert(
                kind.plural().into(),
                page.entities.into_iter().map(|stored| Value::Object(stored.fields)).collect(),
            );
        }
    }
    ok(json!({"config": Value::Object(config).to_string()}))
}

fn load(admin: &Admin, call: &Call) -> Answer {
    let kind = call.content_type.as_deref().unwrap_or_default().to_ascii_lowercase();
    let text = if kind.starts_with("text/yaml") || kind.starts_with("application/yaml") {
        String::from_utf8_lossy(&call.body).into_owned()
    } else {
        let body = form::read(call, None)?;
        match body.get("config") {
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None if body.contains_key("_format_version") => Value::Object(body).to_string(),
            None => String::new(),
        }
    };
    if text.trim().is_empty() {
        return Err(Failure::message(StatusCode::BAD_REQUEST, "expected a declarative configuration"));
    }
    let hash = {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        hasher.finish()
    };
    if matches!(call.query("check_hash"), Some("1" | "true"))
        && *LOADED.lock().unwrap_or_else(PoisonError::into_inner) == Some(hash)
    {
        return Ok(Success { status: StatusCode::NOT_MODIFIED, body: None, headers: Vec::new() });
    }
    let entities = match admin.declarations.read(&text) {
        Ok(entities) => entities,
        Err(problems) => return Err(refuse(&problems, call)),
    };
    admin.store.commit(Author { name: "config", message: "POST /config" }, |transaction| {
        for kind in Kind::ALL.into_iter().rev().filter(|kind| *kind != Kind::Workspace) {
            transaction.clear(kind, DEFAULT_WORKSPACE)?;
        }
        entities
            .iter()
            .try_for_each(|entity| transaction.put(entity.kind, DEFAULT_WORKSPACE, entity.fields.clone()))
    })?;
    *LOADED.lock().unwrap_or_else(PoisonError::into_inner) = Some(hash);
    let mut shown: Map<String, Value> = Map::new();
    for entity in entities {
        let list = shown.entry(entity.kind.plural()).or_insert_with(|| json!({}));
        if let (Some(list), Some(id)) =
            (list.as_object_mut(), entity.fields.get("id").and_then(Value::as_str))
        {
            list.insert(id.to_owned(), Value::Object(entity.fields.clone()));
        }
    }
    created(Value::Object(shown))
}

/// Everything that is wrong, in the shape of the document.
fn refuse(problems: &[Problem], call: &Call) -> Failure {
    let mut fields = Value::Object(Map::new());
    for problem in problems {
        if problem.path.is_empty() {
            let message = format!("failed parsing declarative configuration: {}", problem.message);
            place(&mut fields, "error", &message);
        } else {
            place(&mut fields, &problem.path, &problem.message);
        }
    }
    let message = format!("declarative config is invalid: {}", lua(&fields));
    let mut failure = Failure::coded(
        StatusCode::BAD_REQUEST,
        14,
        "invalid declarative configuration",
        message,
        Some(fields),
    );
    let flatten = matches!(call.query("flatten_errors"), Some("1" | "true" | "on" | "yes"));
    if let (true, Some(Value::Object(body))) = (flatten, &mut failure.body) {
        let flattened: Vec<Value> = problems.iter().map(|problem| json!({"errors": [{"type": "field", "field": problem.path, "message": problem.message}]})).collect();
        body.insert("flattened_errors".into(), Value::Array(flattened));
    }
    failure
}

/// Puts a message at `services[1].routes[2].paths`.
fn place(into: &mut Value, path: &str, message: &str) {
    let mut at = into;
    for step in path.split(['.', '[', ']']).filter(|step| !step.is_empty()) {
        match step.parse::<usize>() {
            Ok(number @ 1..=100_000) => {
                if !at.is_array() {
                    *at = Value::Array(Vec::new());
                }
                let Value::Array(list) = at else { return };
                if list.len() < number {
                    list.resize(number, Value::Null);
                }
                let Some(slot) = list.get_mut(number - 1) else { return };
                at = slot;
            }
            _ => {
                if !at.is_object() {
                    *at = Value::Object(Map::new());
                }
                let Value::Object(fields) = at else { return };
                at = fields.entry(step).or_insert(Value::Null);
            }
        }
    }
    *at = message.into();
}

/// A value as Kong prints Lua tables in messages.
fn lua(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let mut names: Vec<_> = fields.iter().collect();
            names.sort_by_key(|(name, _)| name.as_str());
            let list: Vec<String> = names
                .into_iter()
                .map(|(name, value)| {
                    if name == "@entity" {
                        format!("[\"@entity\"]={}", lua(value))
                    } else {
                        format!("{name}={}", lua(value))
                    }
                })
                .collect();
            format!("{{{}}}", list.join(","))
        }
        Value::Array(list) => format!("{{{}}}", list.iter().map(lua).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}
