//! Where the configuration lives: entities, transactions over them, revisions with history.
//!
//! One implementation over SQLite: in a file (durable: a committed answer survives `kill -9` and power loss)
//! or in memory (DB-less mode and tests). Entities are JSON objects that `tollgate-model` has checked and
//! filled; this crate keeps them unique, their references whole, and every change in a revision.

mod error;
/// How values stand in messages.
pub mod error_text {
    pub use crate::error::lua_fields;
}
mod filter;
mod migrate;
mod transaction;
mod view;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use tollgate_model::{Kind, Map, Value};
use uuid::Uuid;

pub use error::StoreError;
pub use filter::{MOST_TAGS, Page, TagFilter, TagFilterError, Tagged};
pub use transaction::Transaction;
pub use view::View;

/// Id of the workspace `default` (Kong 3.11).
pub const DEFAULT_WORKSPACE: Uuid = Uuid::from_u128(0x0dc6_f45b_8f8d_40d2_a504_4735_44ee_190b);
/// Id of the workspace `serverless-default`, the control plane that Konnect's guides use.
pub const SERVERLESS_WORKSPACE: Uuid = Uuid::from_u128(0x5e12_7e55_0000_4000_8000_0000_0000_0001);

/// An entity and the workspace it belongs to.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// Its workspace; nil for kinds that all workspaces share.
    pub workspace: Uuid,
    /// Its id.
    pub id: Uuid,
    /// Its fields.
    pub fields: Map<String, Value>,
}

impl Stored {
    /// Whether its time to live is over (Kong 3.11: `ttl`, in seconds; such an entity is no longer there).
    fn has_expired(&self) -> bool {
        let number = |name: &str| self.fields.get(name).and_then(Value::as_u64);
        match (number("ttl"), number("created_at")) {
            (Some(ttl @ 1..), Some(created)) => created.saturating_add(ttl) <= seconds(),
            _ => false,
        }
    }
}

/// What a transaction did to an entity.
#[derive(Debug, Clone)]
pub struct Change {
    /// Its kind.
    pub kind: Kind,
    /// Its workspace.
    pub workspace: Uuid,
    /// Its id.
    pub id: Uuid,
    /// Its fields before; `None` where it is new.
    pub before: Option<Map<String, Value>>,
    /// Its fields after; `None` where it is gone.
    pub after: Option<Map<String, Value>>,
}

/// A committed state of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// Its number; the first is 1.
    pub number: u64,
    /// When it was committed, in seconds since 1970.
    pub time: u64,
    /// Who made it.
    pub author: String,
    /// What it was made for.
    pub message: String,
    /// Number of entities changed.
    pub changes: usize,
}

/// Who changes the configuration, and why; kept in the history.
#[derive(Debug, Clone, Copy)]
pub struct Author<'a> {
    /// Who.
    pub name: &'a str,
    /// What for.
    pub message: &'a str,
}

/// Follows the configuration, such as the data plane does.
pub trait Observer: Send + Sync {
    /// Looks at a revision that is about to be committed and refuses it, or returns what makes it effective;
    /// that is run once the revision is durable, before the committer is answered.
    ///
    /// # Errors
    /// Why the revision must not be; the transaction is then rolled back.
    fn prepare(
        &self,
        revision: u64,
        view: &View<'_>,
        changes: &[Change],
    ) -> Result<Box<dyn FnOnce() + Send>, String>;
}

/// The configuration store.
///
/// Changes are made one after another over one connection. A store in a file is read over connections of its
/// own, so that nobody who reads waits for somebody who writes.
pub struct Store {
    writer: Mutex<Connection>,
    readers: Option<Readers>,
    observer: OnceLock<Arc<dyn Observer>>,
}

/// Connections that only read, kept for the next who does.
struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

/// Idle read connections that are kept.
const IDLE_READERS: usize = 4;

/// How long a connection waits for another that holds the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Statements a connection keeps prepared.
const PREPARED_STATEMENTS: usize = 64;

impl Readers {
    fn take(&self) -> Result<Connection, StoreError> {
        if let Some(connection) = lock(&self.idle).pop() {
            return Ok(connection);
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.set_prepared_statement_cache_capacity(PREPARED_STATEMENTS);
        Ok(connection)
    }

    fn give_back(&self, connection: Connection) {
        let mut idle = lock(&self.idle);
        if idle.len() < IDLE_READERS {
            idle.push(connection);
        }
    }
}

/// Revisions whose changes are kept, so that they can be looked at and brought back.
const KEPT_REVISIONS: u64 = 1000;

impl Store {
    /// An empty store that lives as long as the process, without history.
    ///
    /// What does not fit into its cache goes to a nameless file in the system's temporary folder, so that a
    /// million consumers need not be held in memory twice: here and by the data plane.
    ///
    /// # Errors
    /// What SQLite reports.
    pub fn memory() -> Result<Self, StoreError> {
        let connection = Connection::open("")?;
        connection.pragma_update(None, "journal_mode", "MEMORY")?;
        connection.pragma_update(None, "synchronous", "OFF")?;
        // Negative: in KiB.
        connection.pragma_update(None, "cache_size", -64 * 1024)?;
        Self::prepare(connection, None)
    }

    /// Opens a store in a file, making it where there is none. Only its owner may read the file.
    ///
    /// # Errors
    /// What SQLite reports, or a file of a later version.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        use std::os::unix::fs::OpenOptionsExt;
        std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        Self::prepare(connection, Some(path))
    }

    fn prepare(mut writer: Connection, path: Option<&Path>) -> Result<Self, StoreError> {
        writer.set_prepared_statement_cache_capacity(PREPARED_STATEMENTS);
        migrate::migrate(&mut writer)?;
        let readers = path.map(|path| Readers { path: path.to_owned(), idle: Mutex::default() });
        let store = Self { writer: Mutex::new(writer), readers, observer: OnceLock::new() };
        if store.read(|view| view.count(Kind::Workspace, Uuid::nil()))? == 0 {
            store.add_workspaces()?;
        }
        Ok(store)
    }

    /// The workspaces of a fresh store.
    fn add_workspaces(&self) -> Result<(), StoreError> {
        self.commit(Author { name: "tollgate", message: "fresh store" }, |transaction| {
            for (id, name) in [(DEFAULT_WORKSPACE, "default"), (SERVERLESS_WORKSPACE, "serverless-default")] {
                let now = seconds();
                let fields = tollgate_model::json!({
                    "id": id.to_string(), "name": name, "comment": null, "created_at": now, "updated_at": now,
                    "meta": {}, "config": {}
                });
                if let Value::Object(fields) = fields {
                    transaction.put(Kind::Workspace, Uuid::nil(), fields)?;
                }
            }
            Ok(())
        })?;
        Ok(())
    }

    /// Sets who follows the configuration. Only the first one counts.
    pub fn observe(&self, observer: Arc<dyn Observer>) {
        let _ = self.observer.set(observer);
    }

    /// Reads a consistent state: the latest committed one, whole, whatever is committed meanwhile.
    ///
    /// # Errors
    /// What `read` returns.
    pub fn read<T>(&self, read: impl FnOnce(&View<'_>) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let Some(readers) = &self.readers else { return self.hold(read) };
        let mut connection = readers.take()?;
        let transaction = connection.transaction()?;
        let result = read(&View::new(&transaction))?;
        transaction.finish()?;
        readers.give_back(connection);
        Ok(result)
    }

    /// Reads the latest state, and lets nobody commit before that is done.
    ///
    /// # Errors
    /// What `read` returns.
    pub fn hold<T>(&self, read: impl FnOnce(&View<'_>) -> Result<T, StoreError>) -> Result<T, StoreError> {
        read(&View::new(&lock(&self.writer)))
    }

    /// Makes the next revision of what `change` does, or nothing at all: an error rolls everything back. Where
    /// nothing changes there is no new revision.
    ///
    /// # Errors
    /// What `change` returns, or the observer's refusal.
    pub fn commit<T>(
        &self,
        author: Author<'_>,
        change: impl FnOnce(&mut Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<(T, Option<u64>), StoreError> {
        let mut connection = lock(&self.writer);
        let outcome = self.commit_on(&mut connection, author, change);
        if outcome.as_ref().is_err_and(StoreError::is_disk_full) {
            // What was written ahead and rolled back would keep the disk full. Where even this fails, the next
            // commit says so.
            let _ = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        }
        outcome
    }

    fn commit_on<T>(
        &self,
        connection: &mut Connection,
        author: Author<'_>,
        change: impl FnOnce(&mut Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<(T, Option<u64>), StoreError> {
        let sql = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let mut transaction = Transaction::new(&sql);
        let result = change(&mut transaction)?;
        let changes = transaction.into_changes();
        if changes.is_empty() {
            return Ok((result, None));
        }
        let number = migrate::add_revision(&sql, author, &changes, self.readers.is_some(), KEPT_REVISIONS)?;
        let publish = match self.observer.get() {
            Some(observer) => {
                Some(observer.prepare(number, &View::new(&sql), &changes).map_err(StoreError::Refused)?)
            }
            None => None,
        };
        sql.commit()?;
        if let Some(publish) = publish {
            publish();
        }
        Ok((result, Some(number)))
    }

    /// Brings back the state of an earlier revision, as a new one.
    ///
    /// # Errors
    /// When the revision, or one after it, is no longer kept.
    pub fn rollback(&self, number: u64, author: Author<'_>) -> Result<Option<u64>, StoreError> {
        let (_, revision) = self.commit(author, |transaction| {
            let undo = transaction.view().changes_after(number)?;
            transaction.restore(undo)
        })?;
        Ok(revision)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while the lock was held has rolled its transaction back.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn seconds() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;
