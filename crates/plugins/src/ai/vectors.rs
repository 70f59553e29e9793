//! How vectors are made of texts, and where they are searched: what plugins that look for meaning are configured
//! with (Kong 3.11: `config.embeddings` and `config.vectordb`).

mod embedder;
mod index;

use tollgate_model::entity::rules;
use tollgate_model::schema::EntityCheck;
use tollgate_model::{Config, FieldErrors, Map, Secret, Value};

pub(super) use embedder::{Embedder, Embedding};

use super::target::config::{Auth, Bedrock, Gemini, Huggingface};
use crate::redis::RedisEnterpriseConfig;

/// Model that makes vectors of texts.
#[derive(Debug, Clone, Config)]
pub struct Embeddings {
    /// How the gateway proves itself to the provider.
    #[config(optional)]
    pub auth: Option<Auth>,
    /// The model.
    #[config(required)]
    pub model: EmbeddingsModel,
}

/// A model that makes vectors.
#[derive(Debug, Clone, Config)]
pub struct EmbeddingsModel {
    /// Who runs the model.
    #[config(required, one_of("openai", "azure", "mistral", "huggingface", "gemini", "bedrock", "ollama"))]
    pub provider: String,
    /// The provider's name for the model.
    #[config(required)]
    pub name: String,
    /// Where the model is found.
    #[config(optional)]
    pub options: Option<EmbeddingsOptions>,
}

/// Where a model that makes vectors is found.
#[derive(Debug, Clone, Config)]
pub struct EmbeddingsOptions {
    /// Whole address to send requests to, in place of the provider's.
    #[config(optional)]
    pub upstream_url: Option<String>,
    /// Options of Azure.
    #[config(optional)]
    pub azure: Option<EmbeddingsAzure>,
    /// Options of Bedrock.
    #[config(optional)]
    pub bedrock: Option<Bedrock>,
    /// Options of Gemini and Vertex.
    #[config(optional)]
    pub gemini: Option<Gemini>,
    /// Options of Hugging Face.
    #[config(optional)]
    pub huggingface: Option<Huggingface>,
}

/// Options of Azure.
#[derive(Debug, Clone, Config)]
pub struct EmbeddingsAzure {
    /// Resource name.
    #[config(optional)]
    pub instance: Option<String>,
    /// API version.
    #[config(optional, default = "2023-05-15")]
    pub api_version: Option<String>,
    /// Deployment.
    #[config(optional)]
    pub deployment_id: Option<String>,
}

/// Where vectors are searched.
#[derive(Debug, Clone, Config)]
#[config(checks = [EntityCheck::Custom("whole", whole)])]
pub struct VectorDb {
    /// What keeps the vectors: `embedded`, which is the node itself (and its store, where it has one), a `redis` that
    /// can search, or a Postgres with `pgvector`.
    #[config(required, default = "embedded")]
    pub strategy: VectorStrategy,
    /// Length of the vectors; models that can are asked for it.
    #[config(required)]
    pub dimensions: i64,
    /// How the distance of two vectors is measured.
    #[config(required)]
    pub distance_metric: DistanceMetric,
    /// Largest distance that counts as a hit: with `cosine` 0 is the same direction and 1 a right angle. Without one,
    /// the nearest is a hit however far it is.
    #[config(optional)]
    pub threshold: Option<f64>,
    /// The Redis that keeps them: one with RediSearch, Redis 8, or a Valkey with its search module.
    #[config(optional)]
    pub redis: Option<RedisEnterpriseConfig>,
    /// The Postgres that keeps them.
    #[config(optional)]
    pub pgvector: Option<PgVector>,
}

/// What keeps vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Config)]
pub enum VectorStrategy {
    /// The node.
    #[config(rename = "embedded")]
    Embedded,
    /// A Redis with its search module.
    #[config(rename = "redis")]
    Redis,
    /// A Postgres with the pgvector extension.
    #[config(rename = "pgvector")]
    PgVector,
}

/// How the distance of two vectors is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Config)]
pub enum DistanceMetric {
    /// By the angle between them.
    #[config(rename = "cosine")]
    Cosine,
    /// By the line between them.
    #[config(rename = "euclidean")]
    Euclidean,
}

/// A Postgres with the pgvector extension.
#[derive(Debug, Clone, Config)]
pub struct PgVector {
    /// Name or address of the server.
    #[config(optional, default = "127.0.0.1", check = rules::host)]
    pub host: Option<String>,
    /// Its port.
    #[config(optional, default = 5432, between(0, 65535))]
    pub port: Option<u16>,
    /// Milliseconds to wait for it.
    #[config(optional, default = 5000)]
    pub timeout: Option<f64>,
    /// User to log in as.
    #[config(optional, default = "postgres", referenceable)]
    pub user: Option<String>,
    /// Password to log in with.
    #[config(optional, referenceable, encrypted)]
    pub password: Option<Secret>,
    /// Name of the database.
    #[config(optional, default = "kong-pgvector")]
    pub database: Option<String>,
    /// Whether to speak TLS.
    #[config(optional, default = false)]
    pub ssl: Option<bool>,
    /// Whether a server that speaks no TLS is refused.
    #[config(optional, default = false)]
    pub ssl_required: Option<bool>,
    /// Whether the server's certificate is checked.
    #[config(optional, default = false)]
    pub ssl_verify: Option<bool>,
    /// Taken for Kong's sake: TLS 1.2 and 1.3 are offered, whichever it names.
    #[config(optional, default = "tlsv1_2", one_of("tlsv1_2", "tlsv1_3", "any"))]
    pub ssl_version: Option<String>,
    /// Path of the client's certificate.
    #[config(optional)]
    pub ssl_cert: Option<String>,
    /// Path of its key.
    #[config(optional)]
    pub ssl_cert_key: Option<String>,
}

/// A strategy needs to be told where its database is.
fn whole(fields: &Map<String, Value>) -> Result<(), FieldErrors> {
    let mut errors = FieldErrors::new();
    let strategy = fields.get("strategy").and_then(Value::as_str).unwrap_or_default();
    let is_elsewhere =
        [VectorStrategy::Redis, VectorStrategy::PgVector].iter().any(|one| one.name() == strategy);
    if is_elsewhere && fields.get(strategy).is_none_or(Value::is_null) {
        errors.add_at(strategy, format!("required with the strategy '{strategy}'"));
    }
    if fields.get("dimensions").and_then(Value::as_i64).is_some_and(|dimensions| dimensions < 1) {
        errors.add_at("dimensions", "must be 1 or more");
    }
    errors.into_result()
}
