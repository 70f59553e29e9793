//! A client's request in OpenAI's format: read, and checked against what the route allows (Kong 3.11's checks,
//! in its order).

use std::borrow::Cow;

use serde_json::{Map, Value};

use crate::convert::{audio, embeddings, images};
use crate::json::Object;
use crate::{Format, Operation};

/// When answers are streamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Streaming {
    /// When the client asks.
    Allow,
    /// Never; a client that asks is refused.
    Deny,
    /// Always.
    Always,
}

/// What a route asks of the model, over the client's head: the configuration wins.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `max_tokens`, as JSON text
    pub max_tokens: Option<String>,
    /// `temperature`, as JSON text
    pub temperature: Option<String>,
    /// `top_p`, as JSON text
    pub top_p: Option<String>,
    /// `top_k`, as JSON text
    pub top_k: Option<String>,
    /// `dimensions` of embeddings, as JSON text
    pub dimensions: Option<String>,
}

/// What the route allows and wants.
#[derive(Debug)]
pub struct Rules<'a> {
    /// The client's format.
    pub format: Format,
    /// The route's operation.
    pub operation: Operation,
    /// The client's path, as received: some formats name the model there.
    pub path: &'a str,
    /// The client's query, as received; empty where there is none.
    pub query: &'a str,
    /// What the route's path has captured; a `model` among them names the model to those formats.
    pub captures: &'a [(Box<str>, Box<str>)],
    /// The configured model, templates filled in.
    pub model: Option<&'a str>,
    /// Streaming policy.
    pub streaming: Streaming,
    /// Options that are set.
    pub options: &'a Options,
    /// Whether the tokens of a streamed answer are to be known.
    pub want_usage: bool,
    /// A name and a value to add to the body for authentication.
    pub auth: Option<BodyAuth<'a>>,
    /// What the client says of features to come (`anthropic-beta`), names with commas between them.
    pub betas: Option<&'a str>,
}

/// A secret that goes into the body.
#[derive(Clone, Copy)]
pub struct BodyAuth<'a> {
    /// Name of the member.
    pub name: &'a str,
    /// Its value.
    pub value: &'a str,
    /// Whether a member of this name that the client sent stays.
    pub keep_own: bool,
}

impl std::fmt::Debug for BodyAuth<'_> {
    /// Without the value.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BodyAuth").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A request that the route allows.
#[derive(Debug, Default)]
pub struct Call<'a> {
    /// The client's body.
    pub body: Object<'a>,
    /// The model to ask; `None` where nobody names one (only with [`Operation::Preserve`]).
    pub model: Option<Cow<'a, str>>,
    /// Whether the answer is to be streamed.
    pub stream: bool,
    /// What else of the request the answer is made of, such as members that it repeats.
    pub kept: Map<String, Value>,
    /// What is asked where it is no operation of ours: only the provider whose format it is can be asked so. Empty
    /// otherwise.
    pub action: Cow<'a, str>,
}

impl Call<'_> {
    /// Whether it is about something that the provider keeps, such as a file or a batch: the action is the path of it,
    /// from a slash on, and the body passes as it is.
    pub fn is_of_kept(&self) -> bool {
        self.action.starts_with('/')
    }

    /// Refuses what is no operation of ours, where the provider is not the one whose format it is.
    ///
    /// # Errors
    /// What the client is told.
    pub(crate) fn refuse_action(&self) -> Result<(), String> {
        match &*self.action {
            "" => Ok(()),
            action => Err(format!("'{action}' can be asked of the provider of this format only")),
        }
    }
}

/// A call about something that the provider keeps, at a client's `path` from the slash of its `kind` on; what follows
/// may be an id, and what is to be done.
///
/// # Errors
/// The path would lead elsewhere.
pub(crate) fn of_kept<'a>(
    path: &'a str,
    body: Object<'a>,
    rules: &Rules<'a>,
) -> Result<Call<'a>, Cow<'static, str>> {
    let path = path.trim_end_matches('/');
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte);
    let is_segment = |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(is_plain);
    if !path.split('/').skip(1).all(is_segment) {
        return Err(format!("'{path}' is no path").into());
    }
    // What can be of any length passes while it comes.
    let stream = path.ends_with("/results") || path.ends_with(":download");
    Ok(Call { body, model: rules.model.map(Cow::Borrowed), stream, action: path.into(), ..Call::default() })
}

/// What stands in a path from `/name` on, where that is a whole segment.
pub(crate) fn from_segment<'a>(path: &'a str, name: &str) -> Option<&'a str> {
    let found = path.match_indices(name).filter(|(at, _)| path[..*at].ends_with('/'));
    let mut ends = found.map(|(at, _)| (at, &path[at + name.len()..]));
    let (at, _) = ends.find(|(_, rest)| rest.is_empty() || rest.starts_with('/'))?;
    Some(&path[at - 1..])
}

/// Checks a body in the client's format; `None` stands for one that could not be read.
///
/// # Errors
/// Kong's message; the status is 400.
pub fn check<'a>(body: Option<Object<'a>>, rules: &Rules<'a>) -> Result<Call<'a>, Cow<'static, str>> {
    rules.format.client().check(body, rules)
}

/// Checks a body in OpenAI's format.
///
/// # Errors
/// As [`check`].
pub(crate) fn check_openai<'a>(
    body: Option<Object<'a>>,
    rules: &Rules<'a>,
) -> Result<Call<'a>, Cow<'static, str>> {
    let body = body.unwrap_or_default();
    let found = Found::look(&body, rules.operation);
    if !found.is_enough_for(rules.operation) {
        return Err(match rules.operation {
            Operation::Embeddings => "request body doesn't contain valid input".into(),
            _ => "request body doesn't contain valid prompts".into(),
        });
    }
    let model = match model(&body, rules)? {
        None if rules.operation != Operation::Preserve => {
            return Err("model parameter not found in request, nor in gateway configuration".into());
        }
        model => model,
    };
    found.must_fit(rules.operation)?;
    let can_stream = rules.operation != Operation::Embeddings && !rules.operation.is_of_images();
    let stream = can_stream && streams(&body, rules)?;
    let kept = match rules.operation {
        Operation::Embeddings => embeddings::kept(&body),
        Operation::Chat => audio::kept(&body),
        operation if operation.is_of_images() => images::kept(&body),
        _ => Map::new(),
    };
    Ok(Call { stream, body, model, kept, ..Call::default() })
}

/// The model to ask, by a body that names it as OpenAI's clients do; `None` where nobody names one.
///
/// # Errors
/// The client names another one than is configured.
pub(crate) fn model<'a>(
    body: &Object<'a>,
    rules: &Rules<'a>,
) -> Result<Option<Cow<'a, str>>, Cow<'static, str>> {
    fitting_model(rules, body.get_str("model").filter(|model| !model.is_empty()))
}

/// The model to ask, of the one that the client names.
///
/// # Errors
/// Another one is configured.
pub(crate) fn fitting_model<'a>(
    rules: &Rules<'a>,
    own: Option<Cow<'a, str>>,
) -> Result<Option<Cow<'a, str>>, Cow<'static, str>> {
    match (rules.model, own) {
        (Some(model), Some(own)) if own != model => {
            Err(format!("cannot use own model - must be: {model}").into())
        }
        (Some(model), _) => Ok(Some(Cow::Borrowed(model))),
        (None, own) => Ok(own),
    }
}

/// Whether the answer is to be streamed, by a body that says so as OpenAI's clients do.
///
/// # Errors
/// The client asks for what is not allowed.
pub(crate) fn streams(body: &Object<'_>, rules: &Rules<'_>) -> Result<bool, Cow<'static, str>> {
    let asked = body.is_truthy("stream");
    if asked && rules.streaming == Streaming::Deny {
        return Err("response streaming is not enabled for this LLM".into());
    }
    Ok(asked || rules.streaming == Streaming::Always)
}

/// What a body holds that tells its operation.
struct Found {
    messages: bool,
    prompt: bool,
    input: bool,
}

impl Found {
    fn look(body: &Object<'_>, operation: Operation) -> Self {
        let starts = |name: &str, open: char| body.get(name).is_some_and(|value| value.starts_with(open));
        let filled = |name: &str| body.get(name).is_some_and(|value| !is_empty_list(value));
        Self {
            messages: starts("messages", '[') && filled("messages"),
            // Lists of prompts came with Kong 3.15; a chat that holds one stays a chat.
            prompt: starts("prompt", '"')
                || operation == Operation::Completions && starts("prompt", '[') && filled("prompt"),
            input: (starts("input", '"') && body.get("input") != Some("\"\""))
                || (starts("input", '[') && filled("input")),
        }
    }

    fn is_enough_for(&self, operation: Operation) -> bool {
        match operation {
            Operation::Embeddings => self.input,
            Operation::Chat | Operation::Completions => self.messages || self.prompt,
            operation if operation.is_of_images() => self.prompt,
            _ => true,
        }
    }

    fn must_fit(&self, operation: Operation) -> Result<(), Cow<'static, str>> {
        let has = match (self.messages, self.prompt) {
            _ if matches!(operation, Operation::Preserve | Operation::Embeddings) => return Ok(()),
            _ if operation.is_of_images() => return Ok(()),
            (true, true) => return Err("request matches multiple LLM request formats".into()),
            (true, false) => Operation::Chat,
            (false, true) => Operation::Completions,
            (false, false) => return Err("request format not recognised".into()),
        };
        if has == operation {
            return Ok(());
        }
        let (has, wants) = (has.name(), operation.name());
        Err(format!("[{has}] message format is not compatible with [{wants}] route type").into())
    }
}

fn is_empty_list(value: &str) -> bool {
    value.strip_prefix('[').is_some_and(|rest| rest.trim_ascii_start().starts_with(']'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The order matters: each body is wrong in all the later ways too.
    #[test]
    fn messages_come_in_kongs_order() {
        let options = Options::default();
        let rules = |model| Rules {
            format: Format::OpenAi,
            operation: Operation::Completions,
            path: "/",
            query: "",
            captures: &[],
            model,
            streaming: Streaming::Deny,
            options: &options,
            want_usage: false,
            auth: None,
            betas: None,
        };
        for (model, body, message) in [
            (
                Some("m"),
                r#"{"messages":[],"model":"x","stream":true}"#,
                "request body doesn't contain valid prompts",
            ),
            (
                Some("m"),
                r#"{"messages":[1],"prompt":"p","model":"x","stream":true}"#,
                "cannot use own model - must be: m",
            ),
            (
                None,
                r#"{"messages":[1],"prompt":"p","stream":true}"#,
                "model parameter not found in request, nor in gateway configuration",
            ),
            (
                Some("m"),
                r#"{"messages":[1],"prompt":"p","stream":true}"#,
                "request matches multiple LLM request formats",
            ),
            (
                Some("m"),
                r#"{"messages":[1],"stream":true}"#,
                "[llm/v1/chat] message format is not compatible with [llm/v1/completions] route type",
            ),
            (Some("m"), r#"{"prompt":"p","stream":true}"#, "response streaming is not enabled for this LLM"),
        ] {
            let refused = check(Object::parse(body.as_bytes()), &rules(model)).unwrap_err();
            assert_eq!(refused, message, "{body}");
        }
        assert!(check(Object::parse(br#"{"prompt":["a"]}"#), &rules(Some("m"))).is_ok());
    }
}
