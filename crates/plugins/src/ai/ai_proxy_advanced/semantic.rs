//! The target whose description is nearest to the prompt (Kong 3.8: algorithm `semantic`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::Mutex;
use tollgate_gateway::{BuildError, Exchange, Scope};
use tollgate_http::StatusCode;
use tollgate_llm::Format;
use tollgate_llm::json::Object;
use tollgate_llm::prompt::said;
use tollgate_telemetry::Level;
use tollgate_vector::{Hit, Index, Search};
use uuid::Uuid;

use super::config::TargetRecord;
use crate::ai::target::Refusal;
use crate::ai::vectors::{Embedder, Embedding, Embeddings, VectorDb};

/// Description of the target for prompts that no other is for (Kong 3.11).
const CATCH_ALL: &str = "CATCHALL";

/// How long vectors of the descriptions are not asked for again after that has failed.
const PAUSE: Duration = Duration::from_secs(1);

/// What the descriptions mean, and how near prompts come to that. Targets of one description are a group.
pub(super) struct Semantic {
    /// What clients speak.
    format: Format,
    embedder: Embedder,
    index: Arc<dyn Index>,
    threshold: Option<f64>,
    /// Where the vectors of the descriptions are: all that are made by one model share it, so that a description that
    /// stays has its vector still when others change.
    namespace: String,
    /// What each group's targets are described with.
    descriptions: Vec<String>,
    /// Ids of the descriptions in the index.
    ids: Vec<String>,
    /// Whether the log tells of it.
    logs: bool,
    /// Whether the vectors of the descriptions are in the index.
    is_ready: AtomicBool,
    /// Who holds it makes them; until when that is not tried, as it has failed.
    making: Mutex<Option<Instant>>,
}

/// The descriptions of the targets, in the order of the first of each; and which one each target has.
fn descriptions(targets: &[TargetRecord]) -> (Vec<String>, Vec<usize>) {
    let mut descriptions: Vec<String> = Vec::new();
    let member = |target: &TargetRecord| {
        let description = target.description.as_deref().unwrap_or_default();
        descriptions.iter().position(|one| one == description).unwrap_or_else(|| {
            descriptions.push(description.to_owned());
            descriptions.len() - 1
        })
    };
    let members = targets.iter().map(member).collect();
    (descriptions, members)
}

/// A text's name in an index.
fn name_of(text: &str) -> String {
    Uuid::new_v5(&Uuid::nil(), text.as_bytes()).simple().to_string()
}

impl Semantic {
    /// Compiles what is configured; with it, the group that each target is in.
    ///
    /// # Errors
    /// A model or a database that cannot be asked.
    pub(super) fn new(
        format: Format,
        (embeddings, database): (Embeddings, &VectorDb),
        targets: &[TargetRecord],
        timeout: Duration,
        scope: &Scope,
    ) -> Result<(Self, Vec<usize>), BuildError> {
        let (descriptions, members) = descriptions(targets);
        let dimensions = database.shape().dimensions;
        let namespace = name_of(&format!("{:?} {dimensions}", embeddings.model));
        let semantic = Self {
            format,
            embedder: Embedder::new(embeddings, dimensions, timeout, scope)?,
            index: database.index()?,
            threshold: database.threshold,
            namespace,
            ids: descriptions.iter().map(|description| name_of(description)).collect(),
            descriptions,
            logs: targets
                .iter()
                .any(|target| target.logging.is_some_and(|logging| logging.log_statistics == Some(true))),
            is_ready: AtomicBool::new(false),
            making: Mutex::default(),
        };
        Ok((semantic, members))
    }

    /// Names under which it sends secrets.
    pub(super) fn secret_names(&self) -> Vec<String> {
        self.embedder.secret_names()
    }

    /// Those of these groups that a request with this body may go to, the best one first.
    ///
    /// # Errors
    /// What the client is told where there is none, or that cannot be known.
    pub(super) async fn rank(
        &self,
        exchange: &mut Exchange,
        body: Option<&[u8]>,
        groups: &[usize],
    ) -> Result<Vec<usize>, Refusal> {
        let hits = match body.and_then(|body| self.prompt(body)) {
            Some(prompt) if self.described().next().is_some() => self.hits(exchange, &prompt).await?,
            // What says nothing is near to nothing.
            _ => Vec::new(),
        };
        let is_near = |hit: &&Hit| self.threshold.is_none_or(|threshold| hit.distance <= threshold);
        let group = |hit: &Hit| self.ids.iter().position(|id| *id == hit.id);
        let mut ranking: Vec<usize> = hits.iter().filter(is_near).filter_map(group).collect();
        ranking.extend(self.descriptions.iter().position(|description| description == CATCH_ALL));
        ranking.retain(|group| groups.contains(group));
        if ranking.is_empty() {
            let message = match self.threshold {
                Some(threshold) => format!("no target can be found under threshold {threshold}"),
                None => "no target can be found: the request has no prompt".to_owned(),
            };
            exchange.write_error_log(Level::Warn, &message);
            return Err(Refusal { status: StatusCode::BAD_REQUEST, message });
        }
        Ok(ranking)
    }

    /// What the user said last.
    fn prompt(&self, body: &[u8]) -> Option<String> {
        let said = said(self.format, &Object::parse(body)?)?;
        let last = said.into_iter().rev().find(|said| said.role == "user" && !said.text.trim().is_empty());
        last.map(|said| said.text)
    }

    /// The descriptions that mean something, with their ids.
    fn described(&self) -> impl Iterator<Item = (&String, &String)> {
        self.descriptions.iter().zip(&self.ids).filter(|(description, _)| *description != CATCH_ALL)
    }

    /// All descriptions, the nearest to the prompt first.
    async fn hits(&self, exchange: &mut Exchange, prompt: &str) -> Result<Vec<Hit>, Refusal> {
        self.make_ready(exchange).await?;
        let embedded = self.embedder.embed(exchange, prompt).await;
        let embedding = embedded.map_err(|error| failed(exchange, NO_EMBEDDINGS, &error))?;
        let started = Instant::now();
        let mut hits = self.search(exchange, &embedding.vector).await?;
        if hits.len() < self.described().count() {
            // Somebody has emptied the database.
            self.is_ready.store(false, Ordering::Relaxed);
            self.make_ready(exchange).await?;
            hits = self.search(exchange, &embedding.vector).await?;
        }
        if self.logs {
            self.log(exchange, &embedding, started.elapsed());
        }
        Ok(hits)
    }

    /// The threshold is not the index's: so it is seen when a description is missing.
    async fn search(&self, exchange: &mut Exchange, vector: &[f32]) -> Result<Vec<Hit>, Refusal> {
        let search = Search { vector, among: Some(&self.ids), most: self.ids.len(), within: None };
        let found = self.index.nearest(&self.namespace, search).await;
        found.map_err(|error| failed(exchange, NO_INDEX, &error))
    }

    /// Sees to it that the vectors of the descriptions are in the index. Where they are not, the first request that
    /// comes has them made, and the others wait for it.
    async fn make_ready(&self, exchange: &mut Exchange) -> Result<(), Refusal> {
        if self.is_ready.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut pause = self.making.lock().await;
        if self.is_ready.load(Ordering::Acquire) {
            return Ok(());
        }
        if pause.is_some_and(|until| Instant::now() < until) {
            return Err(Refusal::failure(NO_DESCRIPTIONS));
        }
        for (description, id) in self.described() {
            let made = self.make(exchange, description, id).await;
            if made.is_err() {
                *pause = Some(Instant::now() + PAUSE);
                return made;
            }
        }
        self.is_ready.store(true, Ordering::Release);
        Ok(())
    }

    /// Makes the vector of a description, unless it is in the index.
    async fn make(&self, exchange: &mut Exchange, description: &str, id: &str) -> Result<(), Refusal> {
        let has = self.index.has(&self.namespace, id).await;
        if has.map_err(|error| failed(exchange, NO_DESCRIPTIONS, &error))? {
            return Ok(());
        }
        let made = self.embedder.embed(exchange, description).await;
        let vector = made.map_err(|error| failed(exchange, NO_DESCRIPTIONS, &error))?.vector;
        let put = self.index.put(&self.namespace, id, &vector).await;
        put.map_err(|error| failed(exchange, NO_DESCRIPTIONS, &error))
    }

    fn log(&self, exchange: &mut Exchange, embedding: &Embedding, took: Duration) {
        let Some(ai) = exchange.facts.ai.get_or_insert_with(|| json!({})).as_object_mut() else { return };
        let milliseconds = |time: Duration| Value::from(time.as_millis() as u64);
        ai.entry("proxy").or_insert_with(|| json!({}))["balancer"] = json!({
            "vector_db": self.index.name(),
            "fetch_latency": milliseconds(took),
            "embeddings_latency": milliseconds(embedding.took),
            "embeddings_provider": self.embedder.provider(),
            "embeddings_model": self.embedder.model(),
            "embeddings_tokens": embedding.tokens,
        });
    }
}

/// Logs why something failed; the client is told that it did.
fn failed(exchange: &Exchange, what: &str, error: &dyn std::fmt::Display) -> Refusal {
    exchange.write_error_log(Level::Error, &format_args!("{what}: {error}"));
    Refusal::failure(what)
}

const NO_DESCRIPTIONS: &str = "failed to generate embeddings for the targets' descriptions";
const NO_EMBEDDINGS: &str = "failed to generate embeddings for the prompt";
const NO_INDEX: &str = "failed to search the vector database";
