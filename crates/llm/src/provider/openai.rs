//! OpenAI, and every server that speaks its API: the client's bytes pass, edited where the route decides.

mod stream;

use crate::Operation;
use crate::json::{Object, quote};
use crate::provider::{Provider, Sent, Stream, StreamWishes};
use crate::request::{Call, Rules};
use crate::usage::Seen;

use stream::Watched;

/// OpenAI's API.
pub struct OpenAi;

impl Provider for OpenAi {
    fn name(&self) -> &'static str {
        "openai"
    }

    fn host(&self) -> &'static str {
        "api.openai.com"
    }

    fn path(&self, operation: Operation) -> Option<&'static str> {
        Some(match operation {
            Operation::Chat => "/v1/chat/completions",
            Operation::Completions => "/v1/completions",
            Operation::Embeddings => "/v1/embeddings",
            Operation::Preserve => return None,
        })
    }

    fn request(&self, call: &Call<'_>, rules: &Rules<'_>) -> Sent {
        let object = &call.body;
        let mut edits = Edits::new();
        let model = call.model.as_deref().unwrap_or_default();
        // A model that stands there already keeps its bytes.
        let quoted = quote(model);
        if object.get("model") != Some(&quoted) {
            edits.set("model", &quoted);
        }
        let options = rules.options;
        if rules.operation == Operation::Embeddings {
            edits.set_some("dimensions", options.dimensions.as_deref());
        } else {
            match &options.max_tokens {
                Some(count) if takes_completion_tokens(model) => {
                    edits.set("max_completion_tokens", count);
                    edits.remove("max_tokens");
                }
                count => edits.set_some("max_tokens", count.as_deref()),
            }
            edits.set_some("temperature", options.temperature.as_deref());
            edits.set_some("top_p", options.top_p.as_deref());
            edits.remove("top_k");
            edits.set("stream", if call.stream { "true" } else { "false" });
        }
        let stream_options = (call.stream && rules.want_usage).then(|| usage_option(object)).flatten();
        edits.set_some("stream_options", stream_options.as_deref());
        let auth = rules.auth.filter(|auth| !(auth.keep_own && object.get(auth.name).is_some()));
        let secret = auth.map(|auth| quote(auth.value));
        if let (Some(auth), Some(secret)) = (auth, &secret) {
            edits.set(auth.name, secret);
        }
        Sent { body: object.edit(&edits.0), hide_usage: stream_options.is_some() }
    }

    fn answer(&self, body: &[u8], operation: Operation, seen: Option<&mut Seen>) -> Result<(), String> {
        let name = operation.name();
        let failed = |reason: &str| format!("transformation failed from type openai://{name}: {reason}");
        let Some(object) = Object::parse(body) else {
            return Err(failed(&format!("failed to decode {name} response")));
        };
        let needed = if operation == Operation::Embeddings { "data" } else { "choices" };
        if object.get(needed).is_none() {
            return Err(failed(&format!("'{needed}' not in {name} response")));
        }
        if let Some(seen) = seen {
            seen.take(&object);
        }
        Ok(())
    }

    fn stream(&self, wishes: StreamWishes) -> Box<dyn Stream> {
        Box::new(Watched::new(wishes))
    }
}

/// Members to set or to remove.
struct Edits<'a>(Vec<(&'a str, Option<&'a str>)>);

impl<'a> Edits<'a> {
    fn new() -> Self {
        Self(Vec::with_capacity(8))
    }

    fn set(&mut self, name: &'a str, value: &'a str) {
        self.0.push((name, Some(value)));
    }

    fn set_some(&mut self, name: &'a str, value: Option<&'a str>) {
        self.0.extend(value.map(|value| (name, Some(value))));
    }

    fn remove(&mut self, name: &'a str) {
        self.0.push((name, None));
    }
}

/// `stream_options` that ask for usage; `None` where the client's do already.
fn usage_option(object: &Object<'_>) -> Option<String> {
    let own = object.get("stream_options").and_then(|options| Object::parse(options.as_bytes()));
    let Some(options) = own else { return Some(r#"{"include_usage":true}"#.to_owned()) };
    if options.get("include_usage") == Some("true") {
        return None;
    }
    String::from_utf8(options.edit(&[("include_usage", Some("true"))])).ok()
}

/// OpenAI's reasoning models know `max_completion_tokens` only (Kong 3.13).
fn takes_completion_tokens(model: &str) -> bool {
    ["o1", "o3", "o4", "gpt-5"].iter().any(|start| model.starts_with(start))
}
