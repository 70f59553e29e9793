//! Reading.

use rusqlite::{Connection, OptionalExtension, Row, params};
use tollgate_model::{Kind, Map, Value};
use uuid::Uuid;

use crate::filter::{Page, TagFilter, Tagged};
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
        Ok(self.get_even_expired(kind, id)?.filter(|stored| !stored.has_expired()))
    }

    pub(crate) fn get_even_expired(&self, kind: Kind, id: Uuid) -> Result<Option<Stored>, StoreError> {
        self.sql
            .prepare_cached("SELECT id, workspace, body FROM entities WHERE kind = ?1 AND id = ?2")?
            .query_row(params![kind.plural(), id.as_bytes()], raw)
            .optional()?
            .map(stored)
            .transpose()
    }

    /// The workspace of the entity with this id.
    pub(crate) fn workspace_of(&self, kind: Kind, id: Uuid) -> Result<Option<Uuid>, StoreError> {
        let workspace: Option<Vec<u8>> = self
            .sql
            .prepare_cached("SELECT workspace FROM entities WHERE kind = ?1 AND id = ?2")?
            .query_row(params![kind.plural(), id.as_bytes()], |row| row.get(0))
            .optional()?;
        workspace.map(|workspace| uuid(&workspace)).transpose()
    }

    /// The entity of a workspace that is named by its endpoint key (`name`, `username`, …).
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn get_by_name(&self, kind: Kind, workspace: Uuid, name: &str) -> Result<Option<Stored>, StoreError> {
        let Some(key) = kind.endpoint_key() else { return Ok(None) };
        self.get_unique(kind, workspace, key, name)
    }

    /// The entity of a workspace in which a unique field has this value; for what is unique across workspaces
    /// (a certificate's server name), of any.
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
        match self.holder(kind, workspace, fields, &Value::from(value).to_string())? {
            Some(id) => self.get(kind, id),
            None => Ok(None),
        }
    }

    /// The entity that has the value of a group of unique fields.
    pub(crate) fn holder(
        &self,
        kind: Kind,
        workspace: Uuid,
        fields: usize,
        value: &str,
    ) -> Result<Option<Uuid>, StoreError> {
        let workspace = unique_scope(kind, workspace);
        let id: Option<Vec<u8>> = self
            .sql
            .prepare_cached(
                "SELECT id FROM uniques WHERE kind = ?1 AND workspace = ?2 AND fields = ?3 AND value = ?4",
            )?
            .query_row(params![kind.plural(), workspace.as_bytes(), fields as i64, value], |row| row.get(0))
            .optional()?;
        id.map(|id| uuid(&id)).transpose()
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
        let (workspace, from) = (scope(kind, workspace), from.unwrap_or(Uuid::nil()));
        let Some(filter) = tags else {
            let mut statement = self.sql.prepare_cached(LIST)?;
            let rows =
                statement.query_map(params![kind.plural(), workspace.as_bytes(), from.as_bytes()], raw)?;
            return collect(rows, None, size);
        };
        // The index finds those with the first tag, or with any; the filter sees to the others.
        let wanted = match filter {
            TagFilter::All(tags) => tags.get(..1).unwrap_or_default(),
            TagFilter::Any(tags) => tags,
        };
        let mut arms = wanted.iter();
        let mut statement = self.sql.prepare_cached(TAGGED)?;
        let ids = statement.query_map(
            params![
                kind.plural(),
                from.as_bytes(),
                arms.next(),
                arms.next(),
                arms.next(),
                arms.next(),
                arms.next()
            ],
            |row| row.get::<_, Vec<u8>>(0),
        )?;
        let mut page = Page::default();
        for id in ids {
            let Some(entity) = self.get(kind, uuid(&id?)?)? else { continue };
            if entity.workspace == workspace
                && filter.shows(&tags_of(&entity.fields))
                && page.is_full_with(entity, size)
            {
                break;
            }
        }
        Ok(page)
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
        let Some(key) = kind.foreign_keys().iter().find(|key| key.field == field) else {
            return Ok(Page::default());
        };
        let from = from.unwrap_or(Uuid::nil());
        let mut statement = self.sql.prepare_cached(LIST_REFERRING)?;
        let values = params![to.as_bytes(), key.to.plural(), kind.plural(), from.as_bytes(), field];
        collect(statement.query_map(values, raw)?, tags, size)
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
            let mut statement = self.sql.prepare_cached(ALL_OF_KIND)?;
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

    /// Tags of a workspace's entities by tag, kind and id, or those of one tag: at most `size`, starting with
    /// `from`.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn tags(
        &self,
        workspace: Uuid,
        tag: Option<&str>,
        size: usize,
        from: Option<&Tagged>,
    ) -> Result<Vec<Tagged>, StoreError> {
        let (first_kind, first_id) = from.map_or(("", Uuid::nil()), |from| (from.kind.plural(), from.id));
        let mut statement = self.sql.prepare_cached(if tag.is_some() { TAGS_OF_ONE } else { TAGS })?;
        let first_tag = from.map_or(tag.unwrap_or_default(), |from| &from.tag);
        let nil = Uuid::nil();
        let values = params![
            first_tag,
            first_kind,
            first_id.as_bytes(),
            workspace.as_bytes(),
            nil.as_bytes(),
            i64::try_from(size).unwrap_or(i64::MAX)
        ];
        let rows = statement.query_map(values, |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, Vec<u8>>(2)?))
        })?;
        let mut list = Vec::new();
        for row in rows {
            let (tag, kind, id) = row?;
            list.push(Tagged { tag, kind: kind_of(&kind)?, id: uuid(&id)? });
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

    /// The revisions that are kept, latest first: at most `size`, starting with number `from` or the latest.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn history(&self, size: usize, from: Option<u64>) -> Result<Vec<Revision>, StoreError> {
        let mut statement = self.sql.prepare_cached(
            "SELECT number, time, author, message, changes FROM revisions WHERE number <= ?1
             ORDER BY number DESC LIMIT ?2",
        )?;
        let from = from.and_then(|from| i64::try_from(from).ok()).unwrap_or(i64::MAX);
        let rows = statement.query_map(params![from, i64::try_from(size).unwrap_or(i64::MAX)], |row| {
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

    /// What changed between two revisions, each entity once: how it was at `from` and how it is at `to`. An
    /// earlier `to` shows what going back would change.
    ///
    /// # Errors
    /// A revision that is not kept.
    pub fn difference(&self, from: u64, to: u64) -> Result<Vec<Change>, StoreError> {
        let (first, last) = (from.min(to), from.max(to));
        self.must_be_kept(first)?;
        self.must_be_kept(last)?;
        let mut net: Vec<Change> = Vec::new();
        let mut places: std::collections::HashMap<(Kind, Uuid), usize> = std::collections::HashMap::new();
        for change in self.changes("revision, place", first, last)? {
            match places.entry((change.kind, change.id)) {
                std::collections::hash_map::Entry::Occupied(place) => {
                    if let Some(there) = net.get_mut(*place.get()) {
                        there.after = change.after;
                    }
                }
                std::collections::hash_map::Entry::Vacant(place) => {
                    place.insert(net.len());
                    net.push(change);
                }
            }
        }
        if from > to {
            net.iter_mut().for_each(|change| std::mem::swap(&mut change.before, &mut change.after));
        }
        net.retain(|change| change.before != change.after);
        Ok(net)
    }

    /// All changes since a revision, latest first.
    pub(crate) fn changes_after(&self, number: u64) -> Result<Vec<Change>, StoreError> {
        self.must_be_kept(number)?;
        self.changes("revision DESC, place DESC", number, u64::MAX)
    }

    /// How SQLite goes about the reading that grows with the configuration.
    #[cfg(test)]
    pub(crate) fn plans(&self) -> Result<Vec<(&'static str, Vec<String>)>, StoreError> {
        let all = [
            ("list", LIST),
            ("tagged", TAGGED),
            ("referring", LIST_REFERRING),
            ("all of a kind", ALL_OF_KIND),
            ("tags", TAGS),
            ("one tag", TAGS_OF_ONE),
        ];
        let plan = |sql: &str| -> Result<Vec<String>, StoreError> {
            let mut statement = self.sql.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
            let count = statement.parameter_count();
            let nothing = std::iter::repeat_n(rusqlite::types::Null, count);
            let rows = statement.query_map(rusqlite::params_from_iter(nothing), |row| row.get(3))?;
            Ok(rows.collect::<Result<_, _>>()?)
        };
        all.into_iter().map(|(name, sql)| Ok((name, plan(sql)?))).collect()
    }

    fn must_be_kept(&self, number: u64) -> Result<(), StoreError> {
        let number_in_sql = i64::try_from(number).unwrap_or(i64::MAX);
        let found =
            self.sql.prepare_cached("SELECT 1 FROM revisions WHERE number = ?1")?.exists([number_in_sql])?;
        if found { Ok(()) } else { Err(StoreError::NoRevision(number)) }
    }

    /// The changes after a revision up to another.
    fn changes(&self, order: &'static str, after: u64, until: u64) -> Result<Vec<Change>, StoreError> {
        let mut statement = self.sql.prepare_cached(&format!(
            "SELECT kind, workspace, id, before, after FROM changes WHERE revision > ?1 AND revision <= ?2
             ORDER BY {order}"
        ))?;
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let rows = statement.query_map([number(after), number(until)], |row| {
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

/// Reading that grows with the configuration. Each goes along an index and sorts nothing, so that a page costs
/// what it shows (a test looks at the plans).
const LIST: &str = "SELECT id, workspace, body FROM entities
    WHERE kind = ?1 AND workspace = ?2 AND id >= ?3 ORDER BY id";
const TAGGED: &str = "SELECT id FROM tags WHERE kind = ?1 AND id >= ?2 AND tag = ?3
    UNION SELECT id FROM tags WHERE kind = ?1 AND id >= ?2 AND tag = ?4
    UNION SELECT id FROM tags WHERE kind = ?1 AND id >= ?2 AND tag = ?5
    UNION SELECT id FROM tags WHERE kind = ?1 AND id >= ?2 AND tag = ?6
    UNION SELECT id FROM tags WHERE kind = ?1 AND id >= ?2 AND tag = ?7
    ORDER BY id";
const LIST_REFERRING: &str = "SELECT e.id, e.workspace, e.body
    FROM refs r CROSS JOIN entities e ON e.kind = r.kind AND e.id = r.id
    WHERE r.target = ?1 AND r.target_kind = ?2 AND r.kind = ?3 AND r.id >= ?4 AND r.field = ?5 ORDER BY r.id";
const ALL_OF_KIND: &str = "SELECT id, workspace, body FROM entities WHERE kind = ?1 ORDER BY id";
const TAGS: &str = "SELECT t.tag, t.kind, t.id
    FROM tags t CROSS JOIN entities e ON e.kind = t.kind AND e.id = t.id
    WHERE (t.tag, t.kind, t.id) >= (?1, ?2, ?3) AND e.workspace IN (?4, ?5)
    ORDER BY t.tag, t.kind, t.id LIMIT ?6";
const TAGS_OF_ONE: &str = "SELECT t.tag, t.kind, t.id
    FROM tags t CROSS JOIN entities e ON e.kind = t.kind AND e.id = t.id
    WHERE t.tag = ?1 AND (t.kind, t.id) >= (?2, ?3) AND e.workspace IN (?4, ?5)
    ORDER BY t.kind, t.id LIMIT ?6";

/// Where uniqueness applies (Kong 3.11: a server name is unique across workspaces).
pub(crate) fn unique_scope(kind: Kind, workspace: Uuid) -> Uuid {
    if kind == Kind::Sni { Uuid::nil() } else { scope(kind, workspace) }
}

/// Where lists apply: the workspace, or all of them for shared kinds.
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
        if entity.has_expired() || !tags.is_none_or(|filter| filter.shows(&tags_of(&entity.fields))) {
            continue;
        }
        if page.is_full_with(entity, size) {
            break;
        }
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
