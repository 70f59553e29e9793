//! Vectors in a Postgres with the `pgvector` extension: one table for each length of vectors, made when it is first
//! needed.

mod connection;

use std::sync::atomic::{AtomicBool, Ordering};

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Row, error::SqlState};

use connection::{Connections, Failure};
pub use connection::{PgVectorSettings, PgVectorTls};

use crate::{Answer, Error, Hit, Index, Metric, Search, Shape, nearest_of};

/// Vectors of one shape in a Postgres.
pub struct PgVector {
    connections: Connections,
    shape: Shape,
    table: String,
    /// Whether the table is known to be there.
    is_made: AtomicBool,
}

/// Values for a statement.
type Values<'a> = &'a [(&'a (dyn ToSql + Sync), Type)];

impl PgVector {
    /// Vectors of this shape in a Postgres, of which nothing is asked yet.
    ///
    /// # Errors
    /// TLS settings that cannot be used.
    pub fn new(settings: PgVectorSettings, shape: Shape) -> Result<Self, String> {
        Ok(Self {
            connections: Connections::new(settings)?,
            shape,
            table: format!("tollgate_vectors_{}", shape.dimensions),
            is_made: AtomicBool::new(false),
        })
    }

    /// Makes the extension and the table, unless they are there.
    async fn make(&self) -> Result<(), Error> {
        let has_extension = "SELECT 1 FROM pg_extension WHERE extname = 'vector'";
        if self.connections.ask(has_extension, &[]).await.map_err(|error| self.describe(error))?.is_empty() {
            self.make_one("CREATE EXTENSION IF NOT EXISTS vector").await?;
        }
        let (table, dimensions) = (&self.table, self.shape.dimensions);
        let create = format!(
            "CREATE TABLE IF NOT EXISTS {table} (namespace text NOT NULL, id text NOT NULL, \
             vector vector({dimensions}) NOT NULL, PRIMARY KEY (namespace, id))"
        );
        self.make_one(&create).await?;
        self.is_made.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Makes something that another node may be making at the same time.
    async fn make_one(&self, statement: &str) -> Result<(), Error> {
        match self.connections.ask(statement, &[]).await {
            Err(Failure::Refused(error))
                if error.code().is_some_and(|code| {
                    [SqlState::UNIQUE_VIOLATION, SqlState::DUPLICATE_OBJECT, SqlState::DUPLICATE_TABLE]
                        .contains(code)
                }) =>
            {
                Ok(())
            }
            answer => answer.map(drop).map_err(|error| self.describe(error)),
        }
    }

    /// Asks about the table. Where it turns out to be gone, once more after it is made anew.
    async fn ask(&self, statement: &str, values: Values<'_>) -> Result<Vec<Row>, Error> {
        if !self.is_made.load(Ordering::Relaxed) {
            self.make().await?;
        }
        match self.connections.ask(statement, values).await {
            Err(Failure::Refused(error)) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => {
                self.make().await?;
                self.connections.ask(statement, values).await.map_err(|error| self.describe(error))
            }
            answer => answer.map_err(|error| self.describe(error)),
        }
    }

    fn describe(&self, failure: Failure) -> Error {
        match failure {
            Failure::Error(error) => error,
            Failure::Refused(error) => {
                let reason = error.as_db_error().map_or_else(
                    || connection::causes(&error),
                    |refusal| {
                        let mut reason = refusal.message().to_owned();
                        if refusal.code() == &SqlState::UNDEFINED_FILE
                            || refusal.code() == &SqlState::FEATURE_NOT_SUPPORTED
                        {
                            reason.push_str(" (is the pgvector extension installed there?)");
                        }
                        reason
                    },
                );
                Error::Postgres { server: self.connections.server().to_owned(), reason }
            }
        }
    }
}

/// A vector as pgvector reads it.
fn literal(vector: &[f32]) -> String {
    let numbers: Vec<String> = vector.iter().map(f32::to_string).collect();
    format!("[{}]", numbers.join(","))
}

impl Index for PgVector {
    fn name(&self) -> &'static str {
        "pgvector"
    }

    fn put<'a>(&'a self, namespace: &'a str, id: &'a str, vector: &'a [f32]) -> Answer<'a, ()> {
        Box::pin(async move {
            self.shape.check(vector)?;
            let statement = format!(
                "INSERT INTO {} (namespace, id, vector) VALUES ($1, $2, $3::text::vector) \
                 ON CONFLICT (namespace, id) DO UPDATE SET vector = excluded.vector",
                self.table
            );
            let values: Values<'_> =
                &[(&namespace, Type::TEXT), (&id, Type::TEXT), (&literal(vector), Type::TEXT)];
            self.ask(&statement, values).await.map(drop)
        })
    }

    fn has<'a>(&'a self, namespace: &'a str, id: &'a str) -> Answer<'a, bool> {
        Box::pin(async move {
            let statement = format!("SELECT 1 FROM {} WHERE namespace = $1 AND id = $2", self.table);
            let values: Values<'_> = &[(&namespace, Type::TEXT), (&id, Type::TEXT)];
            Ok(!self.ask(&statement, values).await?.is_empty())
        })
    }

    fn delete<'a>(&'a self, namespace: &'a str, id: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let statement = format!("DELETE FROM {} WHERE namespace = $1 AND id = $2", self.table);
            let values: Values<'_> = &[(&namespace, Type::TEXT), (&id, Type::TEXT)];
            self.ask(&statement, values).await.map(drop)
        })
    }

    fn nearest<'a>(&'a self, namespace: &'a str, search: Search<'a>) -> Answer<'a, Vec<Hit>> {
        Box::pin(async move {
            let Search { vector, among, most, within } = search;
            self.shape.check(vector)?;
            let operator = match self.shape.metric {
                Metric::Cosine => "<=>",
                Metric::Euclidean => "<->",
            };
            let statement = format!(
                "SELECT id, (vector {operator} $2::text::vector)::float8 AS distance FROM {} \
                 WHERE namespace = $1 AND ($4::text[] IS NULL OR id = ANY($4)) ORDER BY distance LIMIT $3",
                self.table
            );
            let most_here = i64::try_from(most).unwrap_or(i64::MAX);
            let values: Values<'_> = &[
                (&namespace, Type::TEXT),
                (&literal(vector), Type::TEXT),
                (&most_here, Type::INT8),
                (&among, Type::TEXT_ARRAY),
            ];
            let rows = self.ask(&statement, values).await?;
            let hit = |row: &Row| {
                let (id, distance) = (row.try_get("id")?, row.try_get::<_, f64>("distance")?);
                // Without a direction there is no angle: as far as a right one.
                Ok(Hit { id, distance: if distance.is_nan() { 1.0 } else { distance } })
            };
            let hits: Result<Vec<Hit>, _> = rows.iter().map(hit).collect();
            Ok(nearest_of(hits.map_err(|error| self.describe(Failure::Refused(error)))?, most, within))
        })
    }
}
