//! The list of models that a route answers with itself: those that are configured, as OpenAI's clients ask for them
//! (`GET …/models`, `GET …/models/{id}`).

use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tollgate_gateway::{Exchange, answer};
use tollgate_http::{Body, Method, Response, StatusCode};
use tollgate_llm::template::Template;
use tollgate_llm::{Format, Operation};

use super::{Target, refuse};

/// The answer to a request for a list of models, or for one of them, where all targets have one; `None` for any other
/// request, and where a target takes whatever model the client names. Only what `may_be_asked` is told.
pub(in crate::ai) fn listed(
    exchange: &Exchange,
    format: Format,
    targets: &[Target],
    may_be_asked: impl Fn(&Target) -> bool,
) -> Option<Response> {
    let is_asked = format == Format::OpenAi
        && exchange.head.method == Method::GET
        && matches!(exchange.body, Body::Empty)
        && exchange.path.windows(SEGMENT.len()).any(|part| part == SEGMENT.as_bytes());
    if !is_asked {
        return None;
    }
    let path = std::str::from_utf8(&exchange.path).ok()?.trim_end_matches('/');
    let all = targets.iter().map(|target| Some((target, target.listed_name()?)));
    let mut models = Vec::<(&str, &str)>::new();
    for (target, name) in all.collect::<Option<Vec<_>>>()? {
        if may_be_asked(target) && !models.iter().any(|(other, _)| *other == name) {
            models.push((name, target.llm_provider()));
        }
    }
    if path.ends_with(SEGMENT) {
        let data: Vec<Value> = models.into_iter().map(model).collect();
        return Some(answer::json(StatusCode::OK, &json!({"object": "list", "data": data})));
    }
    let (_, asked) = path.split_once(&format!("{SEGMENT}/"))?;
    let asked = percent_decode_str(asked).decode_utf8().ok()?;
    match models.into_iter().find(|(name, _)| *name == asked) {
        Some(found) => Some(answer::json(StatusCode::OK, &model(found))),
        // Other operations have paths too.
        None if asked.contains('/') => None,
        None => {
            let message = format!("The model '{asked}' does not exist");
            Some(refuse(format, StatusCode::NOT_FOUND, &message))
        }
    }
}

/// What the path of such a request has, at its end or before a model's name.
const SEGMENT: &str = "/models";

/// A model as OpenAI describes it. When it was made is known to its provider alone.
fn model((name, provider): (&str, &str)) -> Value {
    json!({"id": name, "object": "model", "created": 0, "owned_by": provider})
}

impl Target {
    /// What clients call its model, where it is configured and has nothing of the request in its name.
    fn listed_name(&self) -> Option<&str> {
        // These have no model, or are not looked into.
        let is_without = matches!(
            self.shared.operation,
            Operation::Files | Operation::Batches | Operation::Assistants | Operation::Preserve
        );
        let name = self.model.as_ref().and_then(Template::fixed).filter(|_| !is_without)?;
        Some(self.alias.as_deref().unwrap_or(name))
    }
}
