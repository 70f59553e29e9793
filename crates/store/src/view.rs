//! Reading.

use rusqlite::{Connection, OptionalExtension, Row, params};
use tollgate_model::{Kind, Map, Value};
use uuid::Uuid;

use crate::filter::{Page, TagFilter};
use crate::{Change, Revision, StoreError, Stored};

/// A consistent state of the configuration.
pub struct View<'a> {
    sql: &'a Connection,
}

impl<'a> View<'a> {
    pub(crate) fn new(sql: &'a Connection) -> Self {
        Self { sql }
    }

    /// The entity with this id.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn get(&self, kind: Kind, id: Uuid) -> Result<Option<Stored>, StoreError> {
        self.sql
            .prepare_cached("SELECT id, workspace, body FROM entities WHERE kind = ?1 AND id = ?2")?
            .query_row(params![kind.plural(), id.as_bytes()], raw)
            .optional()?
            .map(stored)
            .transpose()
    }

    /// The entity of a workspace that is named by its endpoint key (`name`, `username`, …).
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn get_by_name(&self, kind: Kind, workspace: Uuid, name: &str) -> Result<Option<Stored>, StoreError> {
        let Some(key) = kind.endpoint_key() else { return Ok(None) };
        self.get_unique(kind, workspace, key, name)
    }

    /// The entity of a workspace in which a unique field has this value.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn get_unique(
        &self,
        kind: Kind,
        workspace: Uuid,
        field: &str,
        value: &str,
    ) -> Result<Option<Stored>, StoreError> {
        let Some(fields) = kind.unique().iter().position(|fields| *fields == [field]) else {
            return Ok(None);
        };
        let workspace = scope(kind, workspace);
        let id: Option<Vec<u8>> = self
            .sql
            .prepare_cached(
                "SELECT id FROM uniques WHERE kind = ?1 AND workspace = ?2 AND fields = ?3 AND value = ?4",
            )?
            .query_row(
                params![kind.plural(), workspace.as_bytes(), fields as i64, Value::from(value).to_string()],
                |row| row.get(0),
            )
            .optional()?;
        match id {
            Some(id) => self.get(kind, uuid(&id)?),
            None => Ok(None),
        }
    }

    /// One page of the entities of a workspace, by id; `from` is where the last page said the next starts.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn list(
        &self,
        kind: Kind,
        workspace: Uuid,
        tags: Option<&TagFilter>,
        size: usize,
        from: Option<Uuid>,
    ) -> Result<Page, StoreError> {
        let workspace = scope(kind, workspace);
        let from = from.unwrap_or(Uuid::nil());
        let mut statement = self.sql.prepare_cached(
            "SELECT id, workspace, body FROM entities WHERE kind = ?1 AND workspace = ?2 AND id >= ?3 ORDER BY id",
        )?;
        let rows = statement.query_map(params![kind.plural(), workspace.as_bytes(), from.as_bytes()], raw)?;
        collect(rows, tags, size)
    }

    /// One page of the entities that refer to another by a field.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn list_referring(
        &self,
        kind: Kind,
        field: &str,
        to: Uuid,
        tags: Option<&TagFilter>,
        size: usize,
        from: Option<Uuid>,
    ) -> Result<Page, StoreError> {
        let from = from.unwrap_or(Uuid::nil());
        let mut statement = self.sql.prepare_cached(
            "SELECT e.id, e.workspace, e.body FROM refs r JOIN entities e ON e.kind = r.kind AND e.id = r.id
             WHERE r.target = ?1 AND r.kind = ?2 AND r.field = ?3 AND r.id >= ?4 ORDER BY r.id",
        )?;
        let rows = statement.query_map(params![to.as_bytes(), kind.plural(), field, from.as_bytes()], raw)?;
        collect(rows, tags, size)
    }

    /// Calls `each` for every entity of a kind, of all workspaces.
    ///
    /// # Errors
    /// What SQLite reports, or `each` returns.
    pub fn for_each<E: From<StoreError>>(
        &self,
        kind: Kind,
        mut each: impl FnMut(Stored) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut run = || -> Result<Result<(), E>, StoreError> {
            let mut statement = self
                .sql
                .prepare_cached("SELECT id, workspace, body FROM entities WHERE kind = ?1 ORDER BY id")?;
            for row in statement.query_map([kind.plural()], raw)? {
                if let Err(error) = each(stored(row?)?) {
                    return Ok(Err(error));
                }
            }
            Ok(Ok(()))
        };
        run().map_err(E::from)?
    }

    /// How many entities there are, of all kinds and workspaces, these themselves aside.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn count_all(&self) -> Result<u64, StoreError> {
        let count: i64 = self
            .sql
            .prepare_cached("SELECT count(*) FROM entities WHERE kind <> ?1")?
            .query_row([Kind::Workspace.plural()], |row| row.get(0))?;
        Ok(count as u64)
    }

    /// How many entities of a kind a workspace has.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn count(&self, kind: Kind, workspace: Uuid) -> Result<u64, StoreError> {
        let workspace = scope(kind, workspace);
        let count: i64 = self
            .sql
            .prepare_cached("SELECT count(*) FROM entities WHERE kind = ?1 AND workspace = ?2")?
            .query_row(params![kind.plural(), workspace.as_bytes()], |row| row.get(0))?;
        Ok(count as u64)
    }

    /// Every (tag, kind, id) of a workspace in order, or those of one tag.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn tags(&self, workspace: Uuid, tag: Option<&str>) -> Result<Vec<(String, Kind, Uuid)>, StoreError> {
        let mut statement = self.sql.prepare_cached(
            "SELECT t.tag, t.kind, t.id FROM tags t JOIN entities e ON e.kind = t.kind AND e.id = t.id
             WHERE (?1 IS NULL OR t.tag = ?1) AND e.workspace IN (?2, ?3) ORDER BY t.tag, t.kind, t.id",
        )?;
        let rows = statement
            .query_map(params![tag, workspace.as_bytes(), Uuid::nil().as_bytes()], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, Vec<u8>>(2)?))
            })?;
        let mut list = Vec::new();
        for row in rows {
            let (tag, kind, id) = row?;
            list.push((tag, kind_of(&kind)?, uuid(&id)?));
        }
        Ok(list)
    }

    /// Number of the latest revision.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn revision(&self) -> Result<u64, StoreError> {
        let number: i64 =
            self.sql.query_row("SELECT coalesce(max(number), 0) FROM revisions", [], |row| row.get(0))?;
        Ok(number as u64)
    }

    /// The revisions that are kept, latest first.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn history(&self) -> Result<Vec<Revision>, StoreError> {
        let mut statement = self.sql.prepare_cached(
            "SELECT number, time, author, message, changes FROM revisions ORDER BY number DESC",
        )?;
        let rows = statement.query_map([], |row| {
            Ok(Revision {
                number: row.get::<_, i64>(0)? as u64,
                time: row.get::<_, i64>(1)? as u64,
                author: row.get(2)?,
                message: row.get(3)?,
                changes: row.get::<_, i64>(4)? as usize,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// All changes since a revision, latest first.
    pub(crate) fn changes_after(&self, number: u64) -> Result<Vec<Change>, StoreError> {
        let known: bool = self.sql.query_row(
            "SELECT count(*) FROM revisions WHERE number = ?1",
            [number as i64],
            |row| row.get::<_, i64>(0),
        )? > 0;
        if !known {
            return Err(StoreError::NoRevision(number));
        }
        let mut statement = self.sql.prepare_cached(
            "SELECT kind, workspace, id, before, after FROM changes WHERE revision > ?1 ORDER BY revision DESC, place DESC",
        )?;
        let rows = statement.query_map([number as i64], |row| {
            Ok((
                row.get::<_, String>(0)?,
                row.get::<_, Vec<u8>>(1)?,
                row.get::<_, Vec<u8>>(2)?,
                row.get::<_, Option<String>>(3)?,
                row.get::<_, Option<String>>(4)?,
            ))
        })?;
        let mut list = Vec::new();
        for row in rows {
            let (kind, workspace, id, before, after) = row?;
            list.push(Change {
                kind: kind_of(&kind)?,
                workspace: uuid(&workspace)?,
                id: uuid(&id)?,
                before: before.map(|text| object(&text)).transpose()?,
                after: after.map(|text| object(&text)).transpose()?,
            });
        }
        Ok(list)
    }
}

/// Where uniqueness and lists apply: the workspace, or all of them for shared kinds.
pub(crate) fn scope(kind: Kind, workspace: Uuid) -> Uuid {
    if kind.workspaced() { workspace } else { Uuid::nil() }
}

type Raw = (Vec<u8>, Vec<u8>, String);

fn raw(row: &Row<'_>) -> rusqlite::Result<Raw> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
}

fn stored((id, workspace, body): Raw) -> Result<Stored, StoreError> {
    Ok(Stored { id: uuid(&id)?, workspace: uuid(&workspace)?, fields: object(&body)? })
}

fn collect(
    rows: impl Iterator<Item = rusqlite::Result<Raw>>,
    tags: Option<&TagFilter>,
    size: usize,
) -> Result<Page, StoreError> {
    let mut page = Page::default();
    for row in rows {
        let entity = stored(row?)?;
        if !tags.is_none_or(|filter| filter.shows(&tags_of(&entity.fields))) {
            continue;
        }
        if page.entities.len() == size {
            page.next = Some(entity.id);
            break;
        }
        page.entities.push(entity);
    }
    Ok(page)
}

pub(crate) fn tags_of(fields: &Map<String, Value>) -> Vec<&str> {
    fields
        .get("tags")
        .and_then(Value::as_array)
        .map(|tags| tags.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default()
}

pub(crate) fn uuid(bytes: &[u8]) -> Result<Uuid, StoreError> {
    Uuid::from_slice(bytes).map_err(|error| StoreError::Corrupt(error.to_string()))
}

fn kind_of(plural: &str) -> Result<Kind, StoreError> {
    Kind::from_plural(plural).ok_or_else(|| StoreError::Corrupt(format!("kind '{plural}'")))
}

fn object(text: &str) -> Result<Map<String, Value>, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Corrupt(error.to_string()))
}
