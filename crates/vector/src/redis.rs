//! Vectors in a Redis that can search: one with RediSearch, Redis 8, or a Valkey with its search module.
//!
//! Each vector is a hash of its own, with its namespace and its id as tags; one index for each shape covers them all.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{BufMut, BytesMut};
use tollgate_redis::{Redis, Value, cmd};

use crate::{Answer, Error, Hit, Index, Metric, Search, Shape, nearest_of};

/// Vectors of one shape in a Redis.
pub struct RedisIndex {
    redis: Redis,
    shape: Shape,
    /// Name of the index, and how the keys of its hashes begin.
    name: String,
    /// Whether the index is known to be there.
    is_made: AtomicBool,
}

impl RedisIndex {
    /// Vectors of this shape in a Redis, of which nothing is asked yet.
    pub fn new(redis: Redis, shape: Shape) -> Self {
        let name = format!("tollgate:vector:{}:{}", shape.metric.name(), shape.dimensions);
        Self { redis, shape, name, is_made: AtomicBool::new(false) }
    }

    fn key(&self, namespace: &str, id: &str) -> String {
        format!("{}:{namespace}:{id}", self.name)
    }

    /// Makes the index, unless it is there.
    async fn make(&self) -> Result<(), Error> {
        let metric = match self.shape.metric {
            Metric::Cosine => "COSINE",
            Metric::Euclidean => "L2",
        };
        let mut create = cmd("FT.CREATE");
        create.arg(&self.name).arg(&["ON", "HASH", "PREFIX", "1"]).arg(format!("{}:", self.name));
        create.arg(&["SCHEMA", "namespace", "TAG", "id", "TAG"]);
        create.arg(&["vector", "VECTOR", "FLAT", "6", "TYPE", "FLOAT32"]);
        create.arg(&["DIM", &self.shape.dimensions.to_string(), "DISTANCE_METRIC", metric]);
        match self.redis.send::<Value>(&create).await {
            Ok(_) => {}
            // Another node, or this one before it was restarted.
            Err(error) if error.to_string().contains("already exists") => {}
            Err(error) => return Err(self.explain(error)),
        }
        self.is_made.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn explain(&self, error: tollgate_redis::Error) -> Error {
        let text = error.to_string().to_ascii_lowercase();
        if text.contains("unknown command") {
            return Error::NoSearch { server: self.redis.settings().to_string(), reason: error.to_string() };
        }
        error.into()
    }

    async fn ask(&self, namespace: &str, asked: Search<'_>) -> Result<Vec<Hit>, Error> {
        let Search { vector, among, most, .. } = asked;
        let ids = among.map(|ids| ids.iter().map(|id| tag(id)).collect::<Vec<_>>().join("|"));
        let ids = ids.map(|ids| format!(" @id:{{{ids}}}")).unwrap_or_default();
        let query =
            format!("(@namespace:{{{}}}{ids})=>[KNN {most} @vector $vector AS distance]", tag(namespace));
        let mut search = cmd("FT.SEARCH");
        search.arg(&self.name).arg(query).arg(&["PARAMS", "2", "vector"]).arg(&*numbers(vector));
        search.arg(&["RETURN", "2", "id", "distance", "LIMIT", "0"]).arg(most).arg(&["DIALECT", "2"]);
        let answer: Value = self.redis.send(&search).await.map_err(|error| self.explain(error))?;
        let hits = read(&answer, self.shape.metric);
        hits.ok_or_else(|| Error::NotUnderstood { server: self.redis.settings().to_string() })
    }
}

/// A vector as Redis takes it: numbers of four bytes, the least significant byte first.
fn numbers(vector: &[f32]) -> BytesMut {
    let mut bytes = BytesMut::with_capacity(vector.len() * 4);
    vector.iter().for_each(|number| bytes.put_f32_le(*number));
    bytes
}

/// A text as it may stand in a query for tags.
fn tag(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        if !letter.is_alphanumeric() && letter != '_' {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}

/// What a search found: after their number, the key and the fields of each, names and values by turns.
fn read(answer: &Value, metric: Metric) -> Option<Vec<Hit>> {
    let Value::Array(parts) = answer else { return None };
    let (_, documents) = parts.split_first()?;
    let hit = |document: &[Value]| {
        let [_, Value::Array(fields)] = document else { return None };
        let field = |name: &str| {
            let pair = fields.chunks_exact(2).find(|pair| text(pair.first()).as_deref() == Some(name))?;
            text(pair.get(1))
        };
        let distance: f64 = field("distance")?.parse().ok()?;
        let distance = match metric {
            // Without a direction there is no angle: as far as a right one.
            Metric::Cosine if distance.is_nan() => 1.0,
            // Less than nothing where numbers are rounded.
            Metric::Cosine => distance.max(0.0),
            // RediSearch leaves the root out.
            Metric::Euclidean => distance.max(0.0).sqrt(),
        };
        Some(Hit { id: field("id")?, distance })
    };
    documents.chunks(2).map(hit).collect()
}

fn text(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::BulkString(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        Value::SimpleString(text) => Some(text.clone()),
        Value::Int(number) => Some(number.to_string()),
        Value::Double(number) => Some(number.to_string()),
        _ => None,
    }
}

impl Index for RedisIndex {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn put<'a>(&'a self, namespace: &'a str, id: &'a str, vector: &'a [f32]) -> Answer<'a, ()> {
        Box::pin(async move {
            self.shape.check(vector)?;
            if !self.is_made.load(Ordering::Relaxed) {
                self.make().await?;
            }
            let mut set = cmd("HSET");
            set.arg(self.key(namespace, id)).arg("namespace").arg(namespace).arg("id").arg(id);
            set.arg("vector").arg(&*numbers(vector));
            let _: Value = self.redis.send(&set).await?;
            Ok(())
        })
    }

    fn has<'a>(&'a self, namespace: &'a str, id: &'a str) -> Answer<'a, bool> {
        Box::pin(async move {
            let mut exists = cmd("EXISTS");
            exists.arg(self.key(namespace, id));
            Ok(self.redis.send(&exists).await?)
        })
    }

    fn delete<'a>(&'a self, namespace: &'a str, id: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let mut delete = cmd("DEL");
            delete.arg(self.key(namespace, id));
            let _: Value = self.redis.send(&delete).await?;
            Ok(())
        })
    }

    fn nearest<'a>(&'a self, namespace: &'a str, search: Search<'a>) -> Answer<'a, Vec<Hit>> {
        Box::pin(async move {
            self.shape.check(search.vector)?;
            // A query for no id is none.
            if search.among.is_some_and(<[String]>::is_empty) {
                return Ok(Vec::new());
            }
            if !self.is_made.load(Ordering::Relaxed) {
                self.make().await?;
            }
            let hits = match self.ask(namespace, search).await {
                // The index is gone with what was in it: somebody has emptied the database.
                Err(Error::Redis(tollgate_redis::Error::Failed { reason, .. })) if is_missing(&reason) => {
                    self.make().await?;
                    self.ask(namespace, search).await?
                }
                answer => answer?,
            };
            Ok(nearest_of(hits, search.most, search.within))
        })
    }
}

/// Whether a server says that there is no such index: "no such index" and "Unknown index name" of RediSearch's
/// versions, "Index with name 'x' not found" of Valkey's.
fn is_missing(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    message.contains("no such index") || message.contains("unknown index") || message.contains("not found")
}
