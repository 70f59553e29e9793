//! How vectors are made of texts, and where they are searched: what plugins that look for meaning are configured
//! with (Kong 3.11: `config.embeddings` and `config.vectordb`).

use tollgate_model::entity::rules;
use tollgate_model::{Config, Secret};

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
pub struct VectorDb {
    /// What keeps the vectors.
    #[config(required)]
    pub strategy: VectorStrategy,
    /// Length of the vectors.
    #[config(required)]
    pub dimensions: i64,
    /// How the distance of two vectors is measured.
    #[config(required)]
    pub distance_metric: DistanceMetric,
    /// Largest distance that counts as a hit.
    #[config(optional)]
    pub threshold: Option<f64>,
    /// The Redis that keeps them.
    #[config(optional)]
    pub redis: Option<RedisEnterpriseConfig>,
    /// The Postgres that keeps them.
    #[config(optional)]
    pub pgvector: Option<PgVector>,
}

/// What keeps vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Config)]
pub enum VectorStrategy {
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
    /// Whether a server that speaks no TLS is done without.
    #[config(optional, default = false)]
    pub ssl_required: Option<bool>,
    /// Whether the server's certificate is checked.
    #[config(optional, default = false)]
    pub ssl_verify: Option<bool>,
    /// Version of TLS.
    #[config(optional, default = "tlsv1_2", one_of("tlsv1_2", "tlsv1_3", "any"))]
    pub ssl_version: Option<String>,
    /// Path of the client's certificate.
    #[config(optional)]
    pub ssl_cert: Option<String>,
    /// Path of its key.
    #[config(optional)]
    pub ssl_cert_key: Option<String>,
}
