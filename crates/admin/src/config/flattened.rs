//! `flatten_errors`: what is wrong with a declaration, entity by entity (Kong 3.11).
//!
//! Errors are taken out of the tree that has the shape of the document; what cannot be told of an entity stays
//! in it.

use tollgate_model::{Kind, Map, Value, json};
use uuid::Uuid;

/// A list in the making.
struct Flattened(Vec<Value>);

/// Flattens errors. `errors` keeps what belongs to no entity.
pub(super) fn flatten(mut document: Value, errors: &mut Map<String, Value>) -> Vec<Value> {
    let mut flattened = Flattened(Vec::new());
    let mut names: Vec<String> = errors.keys().cloned().collect();
    // Kong goes through tables from behind.
    names.sort_by(|a, b| b.cmp(a));
    for name in names {
        let Some(section @ (Value::Array(_) | Value::Object(_))) = errors.get_mut(&name) else { continue };
        let Some(Value::Array(entities)) = document.get_mut(&name) else { continue };
        let taken = section.take();
        let left = flattened.section(&name, entities, taken);
        match left {
            Some(left) => *section = left,
            None => drop(errors.remove(&name)),
        }
    }
    flattened.0
}

impl Flattened {
    /// The errors of a list of entities; what could not be placed is given back.
    fn section(&mut self, plural: &str, entities: &mut [Value], errors: Value) -> Option<Value> {
        match errors {
            Value::Array(list) => {
                for (index, error) in list.into_iter().enumerate().rev().filter(|(_, error)| !error.is_null())
                {
                    if let Some(Value::Object(entity)) = entities.get_mut(index) {
                        self.entity(plural, std::mem::take(entity), error);
                    }
                }
                None
            }
            // Errors by name have no place in the list.
            other => Some(other),
        }
    }

    fn entity(&mut self, plural: &str, mut entity: Map<String, Value>, errors: Value) {
        let mut errors = match errors {
            Value::Object(errors) => errors,
            message @ Value::String(_) => Map::from_iter([("@entity".to_owned(), message)]),
            Value::Array(list) => Map::from_iter(
                list.into_iter().enumerate().map(|(index, error)| ((index + 1).to_string(), error)),
            ),
            _ => return,
        };
        let key = valid_id(&entity).map(|id| json!({"id": id}));
        let kind = Kind::from_plural(plural);
        for own in kind.into_iter().flat_map(Kind::foreign_keys) {
            // An entity written out in the place of a reference.
            let Some(Value::Object(nested)) = entity.get_mut(own.field) else { continue };
            let nested = std::mem::take(nested);
            let reference = valid_id(&nested).map(|id| json!({"id": id}));
            match reference {
                Some(reference) => drop(entity.insert(own.field.into(), reference)),
                None => drop(entity.remove(own.field)),
            }
            if let Some(wrong) = errors.remove(own.field) {
                self.entity(own.to.plural(), nested, wrong);
            }
        }
        for child in Kind::ALL {
            for link in child.foreign_keys().iter().filter(|link| Some(link.to) == kind) {
                if let Some(Value::Array(_)) = entity.get(child.plural()) {
                    let list = entity.remove(child.plural()).unwrap_or_default();
                    let wrong = errors.remove(child.plural()).unwrap_or_default();
                    self.children(child.plural(), link.field, key.as_ref(), list, wrong);
                }
            }
        }
        if !errors.is_empty() {
            self.push(plural, entity, errors);
        }
    }

    fn children(&mut self, plural: &str, link: &str, parent: Option<&Value>, list: Value, errors: Value) {
        let (Value::Array(list), Value::Array(errors)) = (list, errors) else { return };
        for (child, error) in list.into_iter().zip(errors) {
            let Value::Object(mut child) = child else { continue };
            if let (None, Some(parent)) = (child.get(link), parent) {
                child.insert(link.to_owned(), parent.clone());
            }
            self.entity(plural, child, error);
        }
    }

    fn push(&mut self, plural: &str, entity: Map<String, Value>, errors: Map<String, Value>) {
        let mut list = Vec::new();
        categorize(&errors, "", &mut list);
        if list.is_empty() {
            return;
        }
        let mut shown = Map::new();
        if let Some(name) = entity.get("name").and_then(Value::as_str).filter(|name| !name.is_empty()) {
            shown.insert("entity_name".into(), name.into());
        }
        if let Some(id) = valid_id(&entity) {
            shown.insert("entity_id".into(), id.into());
        }
        if let Some(Value::Array(tags)) = entity.get("tags")
            && tags.iter().all(Value::is_string)
        {
            shown.insert("entity_tags".into(), tags.clone().into());
        }
        shown.insert("entity_type".into(), plural.strip_suffix('s').unwrap_or(plural).into());
        shown.insert("entity".into(), Value::Object(entity));
        shown.insert("errors".into(), list.into());
        self.0.push(Value::Object(shown));
    }
}

fn valid_id(entity: &Map<String, Value>) -> Option<String> {
    let id = entity.get("id")?.as_str()?;
    (id.len() == 36 && Uuid::parse_str(id).is_ok()).then(|| id.to_owned())
}

/// Every message with the path of its field, from behind as Kong has them.
fn categorize(errors: &Map<String, Value>, above: &str, list: &mut Vec<Value>) {
    let mut names: Vec<&String> = errors.keys().collect();
    names.sort_by(|a, b| b.cmp(a));
    for name in names {
        let Some(error) = errors.get(name) else { continue };
        let path = if above.is_empty() { name.clone() } else { format!("{above}.{name}") };
        match error {
            _ if name == "@entity" => entity_messages(error, list),
            Value::Object(inner) => categorize(inner, &path, list),
            Value::Array(inner) => {
                for (index, error) in inner.iter().enumerate().rev().filter(|(_, error)| !error.is_null()) {
                    let numbered = Map::from_iter([((index + 1).to_string(), error.clone())]);
                    categorize(&numbered, &path, list);
                }
            }
            Value::String(message) => {
                list.push(json!({"type": "field", "field": path, "message": message}));
            }
            _ => {}
        }
    }
}

fn entity_messages(error: &Value, list: &mut Vec<Value>) {
    match error {
        Value::Array(messages) => messages.iter().for_each(|message| entity_messages(message, list)),
        message => list.push(json!({"type": "entity", "message": message})),
    }
}
