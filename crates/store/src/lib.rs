//! Transactions over entities, revisions, change feed; in memory and SQLite.
