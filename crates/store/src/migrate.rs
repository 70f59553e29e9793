//! The tables, and how older files are brought up to date.

use rusqlite::{Connection, params};

use crate::{Author, Change, StoreError, seconds};

/// One step for each version of the tables; a file is brought through those it lacks.
const STEPS: [&str; 3] = [
    "
    CREATE TABLE entities (
        kind TEXT NOT NULL, id BLOB NOT NULL, workspace BLOB NOT NULL, body TEXT NOT NULL,
        PRIMARY KEY (kind, id)
    ) WITHOUT ROWID;
    CREATE INDEX entities_by_workspace ON entities (kind, workspace, id);
    CREATE TABLE uniques (
        kind TEXT NOT NULL, workspace BLOB NOT NULL, fields INTEGER NOT NULL, value TEXT NOT NULL, id BLOB NOT NULL,
        PRIMARY KEY (kind, workspace, fields, value)
    ) WITHOUT ROWID;
    CREATE TABLE refs (
        target BLOB NOT NULL, target_kind TEXT NOT NULL, kind TEXT NOT NULL, id BLOB NOT NULL, field TEXT NOT NULL,
        PRIMARY KEY (target, target_kind, kind, id, field)
    ) WITHOUT ROWID;
    CREATE TABLE tags (
        tag TEXT NOT NULL, kind TEXT NOT NULL, id BLOB NOT NULL,
        PRIMARY KEY (tag, kind, id)
    ) WITHOUT ROWID;
    CREATE TABLE revisions (
        number INTEGER PRIMARY KEY, time INTEGER NOT NULL, author TEXT NOT NULL, message TEXT NOT NULL,
        changes INTEGER NOT NULL
    );
    CREATE TABLE changes (
        revision INTEGER NOT NULL, place INTEGER NOT NULL, kind TEXT NOT NULL, workspace BLOB NOT NULL,
        id BLOB NOT NULL, before TEXT, after TEXT,
        PRIMARY KEY (revision, place)
    ) WITHOUT ROWID;
",
    // Server names became unique across workspaces.
    "UPDATE uniques SET workspace = zeroblob(16) WHERE kind = 'snis';",
    // Plugins became unique by their consumer group too: the last of the second group of fields.
    "UPDATE uniques SET value = substr(value, 1, length(value) - 1) || ',null]' WHERE kind = 'plugins' AND fields = 1;",
];

/// Brings the tables up to date, all or nothing.
pub(crate) fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let found: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let known = STEPS.len() as i64;
    if found > known {
        return Err(StoreError::Later { found, known });
    }
    for step in STEPS.iter().skip(found as usize) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", known)?;
    Ok(transaction.commit()?)
}

/// Writes down a revision, and its changes where history is kept; forgets what is too old.
pub(crate) fn add_revision(
    sql: &Connection,
    author: Author<'_>,
    changes: &[Change],
    keep: bool,
    kept: u64,
) -> Result<u64, StoreError> {
    let number: i64 = sql
        .prepare_cached("SELECT coalesce(max(number), 0) + 1 FROM revisions")?
        .query_row([], |row| row.get(0))?;
    sql.prepare_cached("INSERT INTO revisions VALUES (?1, ?2, ?3, ?4, ?5)")?.execute(params![
        number,
        seconds() as i64,
        author.name,
        author.message,
        changes.len() as i64
    ])?;
    let oldest = number - if keep { kept as i64 } else { 1 };
    if keep {
        let mut insert = sql.prepare_cached("INSERT INTO changes VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?;
        for (place, change) in changes.iter().enumerate() {
            let text = |fields: &Option<_>| {
                fields.as_ref().map(serde_json::to_string).transpose().unwrap_or_default()
            };
            insert.execute(params![
                number,
                place as i64,
                change.kind.plural(),
                change.workspace.as_bytes(),
                change.id.as_bytes(),
                text(&change.before),
                text(&change.after)
            ])?;
        }
        sql.prepare_cached("DELETE FROM changes WHERE revision <= ?1")?.execute([oldest])?;
    }
    sql.prepare_cached("DELETE FROM revisions WHERE number <= ?1")?.execute([oldest])?;
    Ok(number as u64)
}
