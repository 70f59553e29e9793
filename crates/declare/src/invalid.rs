//! Why a DB-less declaration is refused: for people, and as Kong answers it.

use serde_json::{Map, Value};

use crate::Problem;

/// Everything that is wrong with a declaration.
#[derive(Debug, Clone, Default)]
pub struct Invalid {
    /// With file and line.
    pub problems: Vec<Problem>,
    /// In the shape of the document, as in the member `fields` of Kong's answer.
    pub fields: Map<String, Value>,
}

impl Invalid {
    /// A document that cannot be read.
    pub(crate) fn unreadable(problem: Problem, why: &str) -> Self {
        let message = format!("failed parsing declarative configuration: {why}");
        Self { problems: vec![problem], fields: Map::from_iter([("error".to_owned(), message.into())]) }
    }

    /// Whether nothing is wrong.
    pub(crate) fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// Adds a problem whose place in the document is its path, with Kong's message.
    pub(crate) fn add(&mut self, problem: Problem, message: &str) {
        let steps = steps(&problem.path);
        put(&mut self.fields, &steps, message.into());
        self.problems.push(problem);
    }

    /// Puts something at a place in the document.
    pub(crate) fn put(&mut self, path: &[Step<'_>], error: Value) {
        put(&mut self.fields, path, error);
    }
}

/// A step into a document: a member of a mapping, or an entry of a list, from 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Step<'a> {
    Name(&'a str),
    Place(usize),
}

/// The steps of `services[1].routes`.
fn steps(path: &str) -> Vec<Step<'_>> {
    path.split(['.', '[', ']'])
        .filter(|step| !step.is_empty())
        .map(|step| step.parse().map_or(Step::Name(step), Step::Place))
        .collect()
}

fn put(fields: &mut Map<String, Value>, path: &[Step<'_>], error: Value) {
    let Some((Step::Name(name), rest)) = path.split_first() else { return };
    put_into(fields.entry(*name).or_insert(Value::Null), rest, error);
}

fn put_into(at: &mut Value, path: &[Step<'_>], error: Value) {
    let Some((step, rest)) = path.split_first() else {
        match (&mut *at, error) {
            // Errors of an entity and of what is nested in it stand side by side.
            (Value::Object(there), Value::Object(more)) => there.extend(more),
            (_, error) => *at = error,
        }
        return;
    };
    match step {
        Step::Name(name) => {
            if !at.is_object() {
                *at = Value::Object(Map::new());
            }
            if let Value::Object(fields) = at {
                put_into(fields.entry(*name).or_insert(Value::Null), rest, error);
            }
        }
        Step::Place(place) => {
            if !at.is_array() {
                *at = Value::Array(Vec::new());
            }
            let Value::Array(list) = at else { return };
            if list.len() < *place {
                list.resize(*place, Value::Null);
            }
            if let Some(slot) = place.checked_sub(1).and_then(|index| list.get_mut(index)) {
                put_into(slot, rest, error);
            }
        }
    }
}
