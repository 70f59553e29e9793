//! OpenAI's API: requests checked and edited, answers checked.

use std::borrow::Cow;

use crate::Operation;
use crate::json::{Object, quote};

/// Where OpenAI's API is.
pub const HOST: &str = "api.openai.com";

/// Path of an operation; `None` where the client's own path is kept.
pub fn path(operation: Operation) -> Option<&'static str> {
    Some(match operation {
        Operation::Chat => "/v1/chat/completions",
        Operation::Completions => "/v1/completions",
        Operation::Embeddings => "/v1/embeddings",
        Operation::Preserve => return None,
    })
}

/// What a route asks of the model, over the client's head (Kong 3.11: the configuration wins).
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `max_tokens`
    pub max_tokens: Option<i64>,
    /// `temperature`, as JSON text
    pub temperature: Option<String>,
    /// `top_p`, as JSON text
    pub top_p: Option<String>,
    /// `dimensions` of embeddings
    pub dimensions: Option<i64>,
}

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

/// What decides about a request besides its body.
#[derive(Debug)]
pub struct Asked<'a> {
    /// The route's operation.
    pub operation: Operation,
    /// The configured model, templates filled in.
    pub model: Option<&'a str>,
    /// Configured options.
    pub options: &'a Options,
    /// Streaming policy.
    pub streaming: Streaming,
    /// Whether the provider is asked to count the tokens of a streamed answer.
    pub want_usage: bool,
    /// A name and value to add to the body for authentication; `true` keeps the client's.
    pub auth: Option<(&'a str, &'a str, bool)>,
}

/// A request ready for the provider.
#[derive(Debug, PartialEq, Eq)]
pub struct Prepared {
    /// The body to send.
    pub body: Vec<u8>,
    /// The model asked for.
    pub model: String,
    /// Whether the answer will be streamed.
    pub stream: bool,
    /// Whether the event with the usage is to be hidden from the client, who did not ask for it.
    pub hide_usage: bool,
}

/// Checks a client's body and edits what the route decides (Kong 3.11's checks, in its order).
///
/// # Errors
/// Kong's message; the status is 400.
pub fn prepare(body: Option<&[u8]>, asked: &Asked<'_>) -> Result<Prepared, Cow<'static, str>> {
    let object = body.and_then(Object::parse);
    let Some(object) = object else { return Err(no_prompts(asked.operation)) };
    let format = recognize(&object, asked.operation)?;
    let own = object.get_str("model").filter(|model| !model.is_empty());
    let model = match (asked.model, own) {
        (Some(model), Some(own)) if own != model => {
            return Err(format!("cannot use own model - must be: {model}").into());
        }
        (Some(model), _) => model.to_owned(),
        (None, Some(own)) => own.into_owned(),
        (None, None) => {
            return Err("model parameter not found in request, nor in gateway configuration".into());
        }
    };
    if let Some(format) = format
        && format != asked.operation
    {
        let (has, wants) = (format.name(), asked.operation.name());
        return Err(format!("[{has}] message format is not compatible with [{wants}] route type").into());
    }
    let client_streams = object.is_truthy("stream");
    if client_streams && asked.streaming == Streaming::Deny {
        return Err("response streaming is not enabled for this LLM".into());
    }
    let stream = client_streams || asked.streaming == Streaming::Always;
    Ok(edit(&object, asked, model, stream))
}

fn edit(object: &Object<'_>, asked: &Asked<'_>, model: String, stream: bool) -> Prepared {
    let quoted = quote(&model);
    let mut edits: Vec<(&str, Option<&str>)> = vec![("model", Some(&quoted))];
    let max_tokens = asked.options.max_tokens.map(|count| count.to_string());
    let dimensions = asked.options.dimensions.map(|count| count.to_string());
    let auth = asked
        .auth
        .filter(|(name, _, keep)| !(*keep && object.get(name).is_some()))
        .map(|(name, value, _)| (name, quote(value)));
    let mut hide_usage = false;
    if asked.operation == Operation::Embeddings {
        if let Some(count) = &dimensions {
            edits.push(("dimensions", Some(count)));
        }
    } else {
        let limit = if takes_completion_tokens(&model) { "max_completion_tokens" } else { "max_tokens" };
        if let Some(count) = &max_tokens {
            edits.push((limit, Some(count)));
        }
        if let Some(temperature) = &asked.options.temperature {
            edits.push(("temperature", Some(temperature)));
        }
        if let Some(top_p) = &asked.options.top_p {
            edits.push(("top_p", Some(top_p)));
        }
        if object.get("top_k").is_some() {
            edits.push(("top_k", None));
        }
        edits.push(("stream", Some(if stream { "true" } else { "false" })));
    }
    let stream_options = (stream && asked.want_usage).then(|| usage_option(object)).flatten();
    if let Some(options) = &stream_options {
        edits.push(("stream_options", Some(options)));
        hide_usage = true;
    }
    if let Some((name, value)) = &auth {
        edits.push((name, Some(value)));
    }
    Prepared { body: object.edit(&edits), model, stream, hide_usage }
}

/// `stream_options` that ask for usage; `None` where the client's do already.
fn usage_option(object: &Object<'_>) -> Option<String> {
    let Some(options) = object.get("stream_options").and_then(|options| Object::parse(options.as_bytes()))
    else {
        return Some(r#"{"include_usage":true}"#.to_owned());
    };
    if options.is_truthy("include_usage") {
        return None;
    }
    String::from_utf8(options.edit(&[("include_usage", Some("true"))])).ok()
}

/// OpenAI's reasoning models know `max_completion_tokens` only.
fn takes_completion_tokens(model: &str) -> bool {
    ["o1", "o3", "o4", "gpt-5"].iter().any(|start| model.starts_with(start))
}

fn no_prompts(operation: Operation) -> Cow<'static, str> {
    match operation {
        Operation::Embeddings => "request body doesn't contain valid input".into(),
        _ => "request body doesn't contain valid prompts".into(),
    }
}

/// The operation a body is for.
fn recognize(object: &Object<'_>, operation: Operation) -> Result<Option<Operation>, Cow<'static, str>> {
    let non_empty = |name: &str, open: char| {
        object
            .get(name)
            .is_some_and(|value| value.starts_with(open) && value[1..value.len() - 1].trim() != "")
    };
    if operation == Operation::Embeddings {
        let input =
            object.get("input").is_some_and(|value| value != "null" && value != "\"\"" && value != "[]");
        return if input { Ok(None) } else { Err(no_prompts(operation)) };
    }
    let messages = non_empty("messages", '[');
    let prompt = object.get("prompt").is_some_and(|value| value.starts_with('"') || value.starts_with('['));
    match (messages, prompt) {
        (true, true) => Err("request matches multiple LLM request formats".into()),
        (true, false) => Ok(Some(Operation::Chat)),
        (false, true) => Ok(Some(Operation::Completions)),
        (false, false) => Err(no_prompts(operation)),
    }
}

/// Checks a whole answer with status 200.
///
/// # Errors
/// Kong's message; the status is 500.
pub fn check_answer<'a>(body: &'a [u8], operation: Operation) -> Result<Object<'a>, String> {
    let failed =
        |reason: String| format!("transformation failed from type openai://{}: {reason}", operation.name());
    let name = operation.name();
    let object = Object::parse(body).ok_or_else(|| failed(format!("failed to decode {name} response")))?;
    let member = if operation == Operation::Embeddings { "data" } else { "choices" };
    if object.get(member).is_none() {
        return Err(failed(format!("'{member}' not in {name} response")));
    }
    Ok(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked<'a>(options: &'a Options) -> Asked<'a> {
        Asked {
            operation: Operation::Chat,
            model: Some("gpt-4.1"),
            options,
            streaming: Streaming::Allow,
            want_usage: false,
            auth: None,
        }
    }

    #[test]
    fn bodies_are_edited_where_the_route_decides() {
        let options =
            Options { max_tokens: Some(512), temperature: Some("1.0".into()), ..Options::default() };
        let sent = |body: &str| {
            let prepared = prepare(Some(body.as_bytes()), &asked(&options));
            prepared.map(|prepared| String::from_utf8(prepared.body).unwrap())
        };
        assert_eq!(
            sent(r#"{"messages":[{"role":"user"}],"temperature":0.2,"top_k":3,"zzz":1.0}"#).unwrap(),
            r#"{"messages":[{"role":"user"}],"temperature":1.0,"zzz":1.0,"model":"gpt-4.1","max_tokens":512,"stream":false}"#
        );
        for (body, message) in [
            ("[1]", "request body doesn't contain valid prompts"),
            (r#"{"messages":[]}"#, "request body doesn't contain valid prompts"),
            (r#"{"messages":"hi"}"#, "request body doesn't contain valid prompts"),
            (r#"{"messages":[1],"prompt":"x"}"#, "request matches multiple LLM request formats"),
            (
                r#"{"prompt":"x"}"#,
                "[llm/v1/completions] message format is not compatible with [llm/v1/chat] route type",
            ),
            (r#"{"messages":[1],"model":"other"}"#, "cannot use own model - must be: gpt-4.1"),
        ] {
            assert_eq!(sent(body), Err(message.into()), "{body}");
        }
    }

    #[test]
    fn usage_is_asked_for_and_hidden_again() {
        let options = Options::default();
        let asked = Asked { want_usage: true, ..asked(&options) };
        let prepared =
            prepare(Some(br#"{"messages":[1],"stream":true,"stream_options":{"x":1}}"#), &asked).unwrap();
        assert!(prepared.hide_usage);
        let body = String::from_utf8(prepared.body).unwrap();
        assert!(body.contains(r#""stream_options":{"x":1,"include_usage":true}"#), "{body}");
        let own = prepare(
            Some(br#"{"messages":[1],"stream":true,"stream_options":{"include_usage":true}}"#),
            &asked,
        )
        .unwrap();
        assert!(!own.hide_usage);
    }

    #[test]
    fn answers_are_checked() {
        assert!(check_answer(br#"{"choices":[]}"#, Operation::Chat).is_ok());
        let message = |body: &[u8]| check_answer(body, Operation::Chat).unwrap_err();
        assert_eq!(
            message(b"x"),
            "transformation failed from type openai://llm/v1/chat: failed to decode llm/v1/chat response"
        );
        assert_eq!(
            message(b"{}"),
            "transformation failed from type openai://llm/v1/chat: 'choices' not in llm/v1/chat response"
        );
    }
}
