//! What can go wrong.

use tollgate_model::{Kind, Map, Value};
use uuid::Uuid;

/// Why a read or a transaction failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Values that must be unique are taken.
    #[error("UNIQUE violation detected on '{{{}}}'", lua_fields(.fields))]
    Unique {
        /// Kind of the entity.
        kind: Kind,
        /// The fields and their values.
        fields: Map<String, Value>,
    },
    /// An id is taken.
    #[error("primary key violation on key '{{id=\"{id}\"}}'")]
    PrimaryKey {
        /// Kind of the entity.
        kind: Kind,
        /// The id.
        id: Uuid,
    },
    /// A reference leads nowhere.
    #[error("the foreign key '{{id=\"{id}\"}}' does not reference an existing '{}' entity.", .to.plural())]
    Reference {
        /// Field that refers.
        field: &'static str,
        /// Kind referred to.
        to: Kind,
        /// Id referred to.
        id: Uuid,
    },
    /// An entity cannot go while others refer to it.
    #[error("an existing '{}' entity references this '{}' entity", .by.plural(), .kind.plural())]
    Referenced {
        /// Kind of the entity.
        kind: Kind,
        /// Kind of those that refer to it.
        by: Kind,
    },
    /// A certificate authority cannot go while others trust it.
    #[error("ca certificate {authority} is still referenced by {} (id = {id})", .by.plural())]
    StillUsed {
        /// Id of the authority.
        authority: Uuid,
        /// Kind of the entity that lists it.
        by: Kind,
        /// Id of that entity.
        id: Uuid,
    },
    /// The entity is not there.
    #[error("could not find the entity with primary key '{{id=\"{id}\"}}'")]
    NotFound {
        /// Kind of the entity.
        kind: Kind,
        /// The id.
        id: Uuid,
    },
    /// The data plane refuses the configuration.
    #[error("{0}")]
    Refused(String),
    /// An entity fails its schema.
    #[error("{0}")]
    Invalid(#[from] tollgate_model::FieldErrors),
    /// A revision that is not kept.
    #[error("revision {0} is not kept: only the latest {kept} can be brought back", kept = crate::KEPT_REVISIONS)]
    NoRevision(u64),
    /// The file is of a later version of Tollgate.
    #[error(
        "the store was written by a later version (schema {found}, this one knows {known}); please update Tollgate"
    )]
    Later {
        /// Version found.
        found: i64,
        /// Version known.
        known: i64,
    },
    /// What is stored cannot be read.
    #[error("the store holds what cannot be read: {0}")]
    Corrupt(String),
    /// SQLite failed.
    #[error("the store failed: {0}")]
    Sql(#[from] rusqlite::Error),
    /// The file cannot be used.
    #[error("the store cannot be opened: {0}")]
    Io(#[from] std::io::Error),
}

impl StoreError {
    /// Whether there was no room on the disk.
    pub(crate) fn is_disk_full(&self) -> bool {
        matches!(self, Self::Sql(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull))
    }
}

/// Fields as Kong prints them in messages: sorted, `name="value"`, nested `{id="…"}`.
pub fn lua_fields(fields: &Map<String, Value>) -> String {
    let mut names: Vec<&String> = fields.keys().collect();
    names.sort();
    names.into_iter().map(|name| format!("{name}={}", lua(&fields[name]))).collect::<Vec<_>>().join(",")
}

fn lua(value: &Value) -> String {
    match value {
        Value::String(text) => format!("\"{text}\""),
        Value::Object(fields) => format!("{{{}}}", lua_fields(fields)),
        other => other.to_string(),
    }
}
