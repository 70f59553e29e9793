//! The declarative configuration of a node without a store.

use tollgate_admin::ConfigurationHash;
use tollgate_declare::{Entity, Invalid, Node as Document};
use tollgate_model::Kind;
use tollgate_plugins::Registry;
use tollgate_store::{Author, DEFAULT_WORKSPACE, Store};

use super::{StartError, SystemClock};
use crate::conf::{Database, Node};

/// A declaration that has been read and checked.
pub(super) struct Declared {
    file: String,
    text: String,
    entities: Vec<Entity>,
}

impl Declared {
    /// Reads what the configuration names; `None` where a store has the entities.
    pub(super) fn read(node: &Node, registry: &Registry) -> Result<Option<Self>, StartError> {
        if node.database != Database::Off {
            return Ok(None);
        }
        let (file, text) = match (&node.declarative_config_string, &node.declarative_config) {
            (Some(text), _) => ("declarative_config_string".to_owned(), text.clone()),
            (None, Some(path)) => {
                let text = std::fs::read_to_string(path).map_err(|error| {
                    StartError(format!("declarative_config: {}: {error}", path.display()))
                })?;
                (path.display().to_string(), text)
            }
            (None, None) => return Ok(None),
        };
        let entities = read_declaration(&file, &text, registry).map_err(|invalid| {
            let list: Vec<String> = invalid.problems.iter().map(|problem| format!("  {problem}")).collect();
            StartError(format!("error parsing declarative config file {file}:\n{}", list.join("\n")))
        })?;
        Ok(Some(Self { file, text, entities }))
    }

    /// A store of its own, to try it out.
    pub(super) fn scratch(&self) -> Result<Store, StartError> {
        let store = Store::memory()?;
        put(&store, &self.file, self.entities.iter().cloned())?;
        Ok(store)
    }

    /// Makes it what a store holds.
    pub(super) fn load(self, store: &Store, hash: &ConfigurationHash) -> Result<(), StartError> {
        put(store, &self.file, self.entities.into_iter())?;
        hash.set(&self.text);
        Ok(())
    }
}

/// Makes these the entities of a store.
fn put(store: &Store, file: &str, mut entities: impl Iterator<Item = Entity>) -> Result<(), StartError> {
    store.commit(Author { name: "declarative_config", message: file }, |transaction| {
        for kind in Kind::ALL.into_iter().rev().filter(|kind| *kind != Kind::Workspace) {
            transaction.clear(kind, DEFAULT_WORKSPACE)?;
        }
        entities.try_for_each(|entity| transaction.put(entity.kind, DEFAULT_WORKSPACE, entity.fields))
    })?;
    Ok(())
}

/// Reads and checks a DB-less declaration; its entities in an order in which each comes after those it refers
/// to.
///
/// # Errors
/// Everything that is wrong with it.
pub fn read_declaration(file: &str, text: &str, registry: &Registry) -> Result<Vec<Entity>, Invalid> {
    // `${{ env … }}` counts here too, so that one file serves decK and DB-less mode.
    let text = tollgate_declare::environment::substitute(file, text, &|name| std::env::var(name).ok())
        .map_err(Invalid::malformed)?;
    let document = Document::parse(file, &text).map_err(Invalid::malformed)?;
    Invalid::read(file, document, registry, &SystemClock).map(in_order)
}

/// Entities in an order in which each comes after those it refers to.
pub(super) fn in_order(mut entities: Vec<Entity>) -> Vec<Entity> {
    entities.sort_by_key(|entity| Kind::ALL.iter().position(|kind| *kind == entity.kind));
    entities
}
