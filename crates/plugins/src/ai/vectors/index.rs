//! The index that is configured.

use std::sync::Arc;
use std::time::Duration;

use tollgate_gateway::BuildError;
use tollgate_model::Secret;
use tollgate_vector::{
    Embedded, Index, Metric, PgVector as Postgres, PgVectorSettings, PgVectorTls, RedisIndex, Shape, Shelf,
};

use super::{DistanceMetric, PgVector, VectorDb, VectorStrategy};

impl VectorDb {
    /// What the vectors are.
    pub(in crate::ai) fn shape(&self) -> Shape {
        let metric = match self.distance_metric {
            DistanceMetric::Cosine => Metric::Cosine,
            DistanceMetric::Euclidean => Metric::Euclidean,
        };
        Shape { dimensions: usize::try_from(self.dimensions).unwrap_or_default(), metric }
    }

    /// The index, of which nothing is asked yet.
    ///
    /// # Errors
    /// What cannot be used.
    pub(in crate::ai) fn index(&self) -> Result<Arc<dyn Index>, BuildError> {
        let shape = self.shape();
        Ok(match (self.strategy, &self.redis, &self.pgvector) {
            (VectorStrategy::Redis, Some(redis), _) => {
                let client = redis.client().map_err(|error| {
                    let field = error.field.replacen("config.", "config.vectordb.", 1);
                    BuildError { field, ..error }
                })?;
                Arc::new(RedisIndex::new(client, shape))
            }
            (VectorStrategy::PgVector, _, Some(pgvector)) => {
                let made = Postgres::new(pgvector.settings()?, shape);
                Arc::new(made.map_err(|message| refused("ssl", &message))?)
            }
            // The schema lets no other be without its record.
            _ => Arc::new(Embedded::new(Shelf::of_node(), shape)),
        })
    }
}

impl PgVector {
    fn settings(&self) -> Result<PgVectorSettings, BuildError> {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let tls = match self.ssl {
            Some(true) => Some(PgVectorTls {
                required: self.ssl_required == Some(true),
                verify: self.ssl_verify == Some(true),
                certificate: self.certificate()?,
            }),
            _ => None,
        };
        Ok(PgVectorSettings {
            host: text(&self.host),
            port: self.port.unwrap_or_default(),
            user: text(&self.user),
            password: self.password.clone(),
            database: text(&self.database),
            timeout: milliseconds(self.timeout),
            tls,
        })
    }

    fn certificate(&self) -> Result<Option<(String, Secret)>, BuildError> {
        let read = |field: &str, path: &String| {
            std::fs::read_to_string(path).map_err(|error| refused(field, &format!("{path}: {error}")))
        };
        match (&self.ssl_cert, &self.ssl_cert_key) {
            (Some(certificate), Some(key)) => {
                let key = Secret::new(read("ssl_cert_key", key)?);
                Ok(Some((read("ssl_cert", certificate)?, key)))
            }
            (None, None) => Ok(None),
            (Some(_), None) => Err(refused("ssl_cert_key", "required with 'ssl_cert'")),
            (None, Some(_)) => Err(refused("ssl_cert", "required with 'ssl_cert_key'")),
        }
    }
}

/// A timeout; 0 stands for the default, as nothing may wait for ever.
fn milliseconds(timeout: Option<f64>) -> Duration {
    let milliseconds = timeout.filter(|timeout| *timeout > 0.0).unwrap_or(5000.0);
    Duration::try_from_secs_f64(milliseconds / 1000.0).unwrap_or(Duration::from_secs(5))
}

fn refused(field: &str, message: &str) -> BuildError {
    BuildError { field: format!("config.vectordb.pgvector.{field}"), message: message.to_owned() }
}
