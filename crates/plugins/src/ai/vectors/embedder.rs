//! Making vectors of texts.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tollgate_gateway::{BuildError, Exchange, Scope};

use super::{Embeddings, EmbeddingsModel};
use crate::ai::ask::{AskError, Llm, Manner};
use crate::ai::target::config::{Model, Options, RouteType, TargetConfig};

/// A model that makes vectors.
pub(in crate::ai) struct Embedder {
    llm: Llm,
    provider: String,
    model: String,
}

/// The vector of a text.
pub(in crate::ai) struct Embedding {
    pub vector: Vec<f32>,
    /// Tokens of the text, as the provider counts them.
    pub tokens: u64,
    /// How long it took.
    pub took: Duration,
}

/// Why there is no vector.
#[derive(Debug, thiserror::Error)]
pub(in crate::ai) enum EmbedError {
    #[error("{provider}'s {model}: {error}")]
    Unanswered { provider: String, model: String, error: AskError },
    #[error("{provider}'s {model} answers without a vector")]
    NoVector { provider: String, model: String },
}

impl Embedder {
    /// Compiles what is configured at `config.embeddings`, for vectors of this length. Each part of a call may take so
    /// long.
    ///
    /// # Errors
    /// A model that cannot be asked.
    pub(in crate::ai) fn new(
        config: Embeddings,
        dimensions: usize,
        timeout: Duration,
        scope: &Scope,
    ) -> Result<Self, BuildError> {
        let Embeddings { auth, model } = config;
        let options = options(&model, dimensions);
        if model.provider == "ollama" && options.upstream_url.is_none() {
            return Err(BuildError {
                field: "config.embeddings.model.options.upstream_url".to_owned(),
                message: "required with the provider 'ollama': nothing else says where it is".to_owned(),
            });
        }
        let (provider, name) = (model.provider.clone(), model.name.clone());
        let target = TargetConfig {
            route_type: RouteType::Embeddings,
            auth,
            model: Model {
                provider: model.provider,
                name: Some(model.name),
                model_alias: None,
                options: Some(options),
            },
            logging: None,
            counts: false,
        };
        let manner = Manner { timeout, verify: true, proxies: [None, None] };
        let llm = Llm::new(target, "config.embeddings", scope, manner)?;
        Ok(Self { llm, provider, model: name })
    }

    /// Who makes the vectors, by Kong's name.
    pub(in crate::ai) fn provider(&self) -> &str {
        &self.provider
    }

    /// The provider's name for the model.
    pub(in crate::ai) fn model(&self) -> &str {
        &self.model
    }

    /// Names under which it sends secrets.
    pub(in crate::ai) fn secret_names(&self) -> Vec<String> {
        self.llm.secret_names()
    }

    /// The vector of a text, asked for on behalf of `exchange`.
    ///
    /// # Errors
    /// Why there is none.
    pub(in crate::ai) fn embed<'a>(
        &'a self,
        exchange: &Exchange,
        text: &str,
    ) -> impl Future<Output = Result<Embedding, EmbedError>> + Send + use<'a> {
        let started = Instant::now();
        let asked = self.llm.ask(exchange, &json!({"input": text}));
        async move {
            let names = || (self.provider.clone(), self.model.clone());
            let reply = asked.await.map_err(|error| {
                let (provider, model) = names();
                EmbedError::Unanswered { provider, model, error }
            })?;
            let (vector, tokens) = read(&reply.body).ok_or_else(|| {
                let (provider, model) = names();
                EmbedError::NoVector { provider, model }
            })?;
            Ok(Embedding { vector, tokens, took: started.elapsed() })
        }
    }
}

/// The vector in an answer of OpenAI's format, and the tokens of the text.
fn read(answer: &[u8]) -> Option<(Vec<f32>, u64)> {
    let answer: Value = serde_json::from_slice(answer).ok()?;
    let numbers = answer.pointer("/data/0/embedding")?.as_array()?;
    let vector = numbers.iter().map(|number| number.as_f64().map(|number| number as f32));
    let vector = vector.collect::<Option<Vec<f32>>>().filter(|vector| !vector.is_empty())?;
    let tokens = answer.pointer("/usage/prompt_tokens").and_then(Value::as_u64).unwrap_or_default();
    Some((vector, tokens))
}

/// The options of a target that makes vectors of this length.
fn options(model: &EmbeddingsModel, dimensions: usize) -> Options {
    let own = model.options.clone();
    let azure = own.as_ref().and_then(|own| own.azure.clone());
    let dimensions = takes_length(model).then(|| i64::try_from(dimensions).ok()).flatten();
    Options {
        azure_instance: azure.as_ref().and_then(|azure| azure.instance.clone()),
        azure_api_version: azure.as_ref().and_then(|azure| azure.api_version.clone()),
        azure_deployment_id: azure.as_ref().and_then(|azure| azure.deployment_id.clone()),
        // Mistral's own.
        mistral_format: (model.provider == "mistral").then(|| "openai".to_owned()),
        upstream_url: own.as_ref().and_then(|own| own.upstream_url.clone()),
        bedrock: own.as_ref().and_then(|own| own.bedrock.clone()),
        gemini: own.as_ref().and_then(|own| own.gemini.clone()),
        huggingface: own.as_ref().and_then(|own| own.huggingface.clone()),
        embeddings_dimensions: dimensions,
        ..Options::default()
    }
}

/// Whether a model can be asked for vectors of a length. Those that cannot answer with an error, or as they always do.
fn takes_length(model: &EmbeddingsModel) -> bool {
    match model.provider.as_str() {
        "openai" | "azure" => !model.name.contains("ada-002"),
        "gemini" | "bedrock" | "ollama" => true,
        _ => false,
    }
}
