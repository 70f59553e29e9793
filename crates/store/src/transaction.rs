//! Changing.

use rusqlite::{Connection, params};
use tollgate_model::kind::ForeignKey;
use tollgate_model::{Kind, Map, Value};
use uuid::Uuid;

use crate::view::{View, scope, tags_of, unique_scope, uuid};
use crate::{Change, DEFAULT_WORKSPACE, StoreError};

/// Changes on the way to the next revision. Reads see them; nobody else does before the commit.
pub struct Transaction<'a> {
    sql: &'a Connection,
    changes: Vec<Change>,
}

impl<'a> Transaction<'a> {
    pub(crate) fn new(sql: &'a Connection) -> Self {
        Self { sql, changes: Vec::new() }
    }

    /// The state with the changes so far.
    pub fn view(&self) -> View<'a> {
        View::new(self.sql)
    }

    pub(crate) fn into_changes(self) -> Vec<Change> {
        self.changes
    }

    /// Adds an entity, or replaces the one of the same id.
    ///
    /// # Errors
    /// Values that are taken, references that lead nowhere.
    pub fn put(&mut self, kind: Kind, workspace: Uuid, fields: Map<String, Value>) -> Result<(), StoreError> {
        let workspace = scope(kind, workspace);
        let id = id_of(&fields)?;
        self.forget_expired(kind, workspace, &fields)?;
        let before = self.view().get_even_expired(kind, id)?;
        if before.as_ref().is_some_and(|before| before.workspace != workspace) {
            return Err(StoreError::PrimaryKey { kind, id });
        }
        let before = before.map(|before| before.fields);
        if before.as_ref() == Some(&fields) {
            return Ok(());
        }
        if let Some(before) = &before {
            self.unindex(kind, workspace, id, before)?;
        }
        self.index(kind, workspace, id, &fields)?;
        let body = serde_json::to_string(&fields).map_err(|error| StoreError::Corrupt(error.to_string()))?;
        self.sql
            .prepare_cached(
                "INSERT OR REPLACE INTO entities (kind, id, workspace, body) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![kind.plural(), id.as_bytes(), workspace.as_bytes(), body])?;
        self.changes.push(Change { kind, workspace, id, before, after: Some(fields) });
        Ok(())
    }

    /// Adds an entity whose id must be new.
    ///
    /// # Errors
    /// As [`Transaction::put`], and an id that is taken.
    pub fn insert(
        &mut self,
        kind: Kind,
        workspace: Uuid,
        fields: Map<String, Value>,
    ) -> Result<(), StoreError> {
        let id = id_of(&fields)?;
        if self.view().get(kind, id)?.is_some() {
            return Err(StoreError::PrimaryKey { kind, id });
        }
        self.put(kind, workspace, fields)
    }

    /// Removes an entity and what goes with it; tells whether it was there.
    ///
    /// # Errors
    /// Others that refer to it and do not go with it.
    pub fn delete(&mut self, kind: Kind, id: Uuid) -> Result<bool, StoreError> {
        let Some(entity) = self.view().get_even_expired(kind, id)? else { return Ok(false) };
        for other in Kind::ALL {
            for key in other.foreign_keys().iter().filter(|key| key.to == kind) {
                for referring in self.referring(other, key, id)? {
                    if !key.cascade {
                        return Err(StoreError::Referenced { kind, by: other });
                    }
                    self.delete(other, referring)?;
                }
            }
        }
        if kind == Kind::CaCertificate {
            self.must_be_unused(id)?;
        }
        if kind == Kind::Workspace {
            if id == DEFAULT_WORKSPACE {
                return Err(StoreError::Refused("the default workspace cannot be deleted".into()));
            }
            for other in Kind::ALL.into_iter().filter(|other| other.workspaced()) {
                if self.view().count(other, id)? > 0 {
                    return Err(StoreError::Referenced { kind, by: other });
                }
            }
        }
        self.unindex(kind, entity.workspace, id, &entity.fields)?;
        self.sql
            .prepare_cached("DELETE FROM entities WHERE kind = ?1 AND id = ?2")?
            .execute(params![kind.plural(), id.as_bytes()])?;
        self.changes.push(Change {
            kind,
            workspace: entity.workspace,
            id,
            before: Some(entity.fields),
            after: None,
        });
        Ok(true)
    }

    /// Removes what has expired and still holds a value that an entity is to have.
    fn forget_expired(
        &mut self,
        kind: Kind,
        workspace: Uuid,
        fields: &Map<String, Value>,
    ) -> Result<(), StoreError> {
        if !kind.schema().fields.iter().any(|field| field.name == "ttl") {
            return Ok(());
        }
        for (number, group) in kind.unique().iter().enumerate() {
            let Some(value) = unique_value(group, fields) else { continue };
            let Some(holder) = self.view().holder(kind, workspace, number, &value)? else { continue };
            let there = self.view().get_even_expired(kind, holder)?;
            if there.is_some_and(|there| there.has_expired()) {
                self.delete(kind, holder)?;
            }
        }
        Ok(())
    }

    /// Removes every entity of a kind in a workspace, without looking at who refers to them: for replacing a
    /// whole configuration.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn clear(&mut self, kind: Kind, workspace: Uuid) -> Result<(), StoreError> {
        let all = self.view().list(kind, workspace, None, usize::MAX, None)?;
        for entity in all.entities {
            self.unindex(kind, entity.workspace, entity.id, &entity.fields)?;
            self.sql
                .prepare_cached("DELETE FROM entities WHERE kind = ?1 AND id = ?2")?
                .execute(params![kind.plural(), entity.id.as_bytes()])?;
            self.changes.push(Change {
                kind,
                workspace: entity.workspace,
                id: entity.id,
                before: Some(entity.fields),
                after: None,
            });
        }
        Ok(())
    }

    /// Undoes changes, latest first.
    pub(crate) fn restore(&mut self, undo: Vec<Change>) -> Result<(), StoreError> {
        for change in undo {
            match change.before {
                Some(fields) => self.put(change.kind, change.workspace, fields)?,
                None => {
                    self.delete(change.kind, change.id)?;
                }
            }
        }
        Ok(())
    }

    /// A certificate authority is not deleted while services or plugins list it in `ca_certificates` (Kong 3.11;
    /// no foreign key, so that they may also list one that is not there).
    fn must_be_unused(&self, authority: Uuid) -> Result<(), StoreError> {
        let text = authority.to_string();
        let lists = |holder: Option<&Value>| {
            let list = holder.and_then(|holder| holder.get("ca_certificates")).and_then(Value::as_array);
            list.is_some_and(|list| list.iter().any(|id| id.as_str() == Some(&text)))
        };
        for by in [Kind::Service, Kind::Plugin] {
            self.view().for_each(by, |stored| {
                let used = match by {
                    Kind::Plugin => lists(stored.fields.get("config")),
                    _ => lists(Some(&Value::Object(stored.fields))),
                };
                if used { Err(StoreError::StillUsed { authority, by, id: stored.id }) } else { Ok(()) }
            })?;
        }
        Ok(())
    }

    fn referring(&self, kind: Kind, key: &ForeignKey, to: Uuid) -> Result<Vec<Uuid>, StoreError> {
        let mut statement = self.sql.prepare_cached(
            "SELECT id FROM refs WHERE target = ?1 AND target_kind = ?2 AND kind = ?3 AND field = ?4",
        )?;
        let values = params![to.as_bytes(), key.to.plural(), kind.plural(), key.field];
        let rows = statement.query_map(values, |row| row.get::<_, Vec<u8>>(0))?;
        rows.map(|row| uuid(&row?)).collect()
    }

    fn index(
        &self,
        kind: Kind,
        workspace: Uuid,
        id: Uuid,
        fields: &Map<String, Value>,
    ) -> Result<(), StoreError> {
        let unique_within = unique_scope(kind, workspace);
        for (number, group) in kind.unique().iter().enumerate() {
            let Some(value) = unique_value(group, fields) else { continue };
            let added = self
                .sql
                .prepare_cached("INSERT OR IGNORE INTO uniques VALUES (?1, ?2, ?3, ?4, ?5)")?
                .execute(params![
                    kind.plural(),
                    unique_within.as_bytes(),
                    number as i64,
                    value,
                    id.as_bytes()
                ])?;
            if added == 0 {
                let fields = group
                    .iter()
                    .filter_map(|name| Some(((*name).to_owned(), fields.get(*name)?.clone())))
                    .collect();
                return Err(StoreError::Unique { kind, fields });
            }
        }
        for key in kind.foreign_keys() {
            let Some(target) = reference(fields, key.field) else { continue };
            // What others refer to does not expire: that it is there is all there is to know.
            let there = self.view().workspace_of(key.to, target)?;
            if there.is_none_or(|there| key.to.workspaced() && there != workspace) {
                return Err(StoreError::Reference { field: key.field, to: key.to, id: target });
            }
            self.sql.prepare_cached("INSERT INTO refs VALUES (?1, ?2, ?3, ?4, ?5)")?.execute(params![
                target.as_bytes(),
                key.to.plural(),
                kind.plural(),
                id.as_bytes(),
                key.field
            ])?;
        }
        for tag in tags_of(fields) {
            self.sql.prepare_cached("INSERT OR IGNORE INTO tags VALUES (?1, ?2, ?3)")?.execute(params![
                tag,
                kind.plural(),
                id.as_bytes()
            ])?;
        }
        Ok(())
    }

    fn unindex(
        &self,
        kind: Kind,
        workspace: Uuid,
        id: Uuid,
        fields: &Map<String, Value>,
    ) -> Result<(), StoreError> {
        let unique_within = unique_scope(kind, workspace);
        for (number, group) in kind.unique().iter().enumerate() {
            let Some(value) = unique_value(group, fields) else { continue };
            self.sql
                .prepare_cached("DELETE FROM uniques WHERE kind = ?1 AND workspace = ?2 AND fields = ?3 AND value = ?4 AND id = ?5")?
                .execute(params![kind.plural(), unique_within.as_bytes(), number as i64, value, id.as_bytes()])?;
        }
        for key in kind.foreign_keys() {
            let Some(target) = reference(fields, key.field) else { continue };
            self.sql
                .prepare_cached("DELETE FROM refs WHERE target = ?1 AND target_kind = ?2 AND kind = ?3 AND id = ?4 AND field = ?5")?
                .execute(params![target.as_bytes(), key.to.plural(), kind.plural(), id.as_bytes(), key.field])?;
        }
        for tag in tags_of(fields) {
            self.sql
                .prepare_cached("DELETE FROM tags WHERE tag = ?1 AND kind = ?2 AND id = ?3")?
                .execute(params![tag, kind.plural(), id.as_bytes()])?;
        }
        Ok(())
    }
}

/// What must not occur twice: the values of a group of fields. A single field that is null is free.
fn unique_value(group: &[&str], fields: &Map<String, Value>) -> Option<String> {
    let value = |name: &str| fields.get(name).cloned().unwrap_or_default();
    match group {
        [name] => Some(value(name)).filter(|value| !value.is_null()).map(|value| value.to_string()),
        names => Some(Value::Array(names.iter().map(|name| value(name)).collect()).to_string()),
    }
}

fn id_of(fields: &Map<String, Value>) -> Result<Uuid, StoreError> {
    let id = fields.get("id").and_then(Value::as_str).and_then(|id| Uuid::parse_str(id).ok());
    id.ok_or_else(|| StoreError::Corrupt("an entity without id".into()))
}

fn reference(fields: &Map<String, Value>, field: &str) -> Option<Uuid> {
    fields.get(field)?.get("id")?.as_str().and_then(|id| Uuid::parse_str(id).ok())
}
