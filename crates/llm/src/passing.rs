//! Operations that pass between OpenAI's clients and those who serve them: only the model is checked and set.

use std::borrow::Cow;

use memchr::memmem;

use crate::Operation;
use crate::json::{Object, quote};
use crate::request::{BodyAuth, Rules, model, streams};

/// What a request is to be sent with.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Passing {
    /// The body, where it is another one.
    pub body: Option<Vec<u8>>,
    /// The model asked, where one is named.
    pub model: Option<String>,
    /// Whether the answer is to be streamed.
    pub stream: bool,
}

/// A request with a body in JSON. Things that are stored (files, batches) have no model.
///
/// # Errors
/// Kong's message; the status is 400.
pub fn json<'a>(body: Option<Object<'a>>, rules: &Rules<'a>) -> Result<Passing, Cow<'static, str>> {
    let Some(body) = body else { return Err("request body doesn't contain valid JSON".into()) };
    let (model, stream) = (model(&body, rules)?, streams(&body, rules)?);
    let model = model.filter(|_| has_model(rules.operation));
    let quoted = model.as_deref().map(quote);
    let mut edits = Vec::new();
    if let Some(quoted) = &quoted
        && body.get("model") != Some(quoted)
    {
        edits.push(("model", Some(&**quoted)));
    }
    if stream && !body.is_truthy("stream") && can_stream(rules.operation) {
        edits.push(("stream", Some("true")));
    }
    let auth = rules.auth.filter(|auth| !(auth.keep_own && body.get(auth.name).is_some()));
    let secret = auth.map(|auth: BodyAuth<'_>| quote(auth.value));
    if let (Some(auth), Some(secret)) = (auth, &secret) {
        edits.push((auth.name, Some(secret)));
    }
    let edited = (!edits.is_empty()).then(|| body.edit(&edits));
    Ok(Passing {
        body: edited,
        model: model.map(Cow::into_owned),
        stream: stream && can_stream(rules.operation),
    })
}

/// A request with a multipart body: of its parts only `model` is looked at, and added where it is missing.
///
/// # Errors
/// The client names another model than is configured, or none is named; the status is 400.
pub fn multipart(body: &[u8], boundary: &str, rules: &Rules<'_>) -> Result<Passing, Cow<'static, str>> {
    if !has_model(rules.operation) {
        return Ok(Passing::default());
    }
    let delimiter = format!("--{boundary}");
    let own = part(body, delimiter.as_bytes(), "model").filter(|model| !model.is_empty());
    match (rules.model, own) {
        (Some(model), Some(own)) if *own != *model => {
            Err(format!("cannot use own model - must be: {model}").into())
        }
        (Some(model), None) => {
            let part =
                format!("{delimiter}\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n{model}\r\n");
            let body = [part.as_bytes(), body].concat();
            Ok(Passing { body: Some(body), model: Some(model.to_owned()), stream: false })
        }
        (_, Some(own)) => Ok(Passing { body: None, model: Some(own.into_owned()), stream: false }),
        (None, None) => Err("model parameter not found in request, nor in gateway configuration".into()),
    }
}

/// The content of the part of this name (RFC 7578 §4.2).
fn part<'a>(body: &'a [u8], delimiter: &[u8], name: &str) -> Option<Cow<'a, str>> {
    let named = format!("name=\"{name}\"");
    let mut starts = memmem::find_iter(body, delimiter).peekable();
    while let Some(start) = starts.next() {
        let end = starts.peek().copied().unwrap_or(body.len());
        let part = body.get(start + delimiter.len()..end)?;
        let Some(blank) = memmem::find(part, b"\r\n\r\n") else { continue };
        let (head, content) = part.split_at(blank);
        if String::from_utf8_lossy(head).split(';').any(|parameter| parameter.trim() == named) {
            let content = content.get(4..)?;
            let content = content.strip_suffix(b"\r\n").unwrap_or(content);
            return Some(String::from_utf8_lossy(content));
        }
    }
    None
}

/// Whether its requests name a model.
fn has_model(operation: Operation) -> bool {
    !matches!(operation, Operation::Files | Operation::Batches)
}

/// Whether its answers can be streamed at the wish of a configuration.
fn can_stream(operation: Operation) -> bool {
    operation == Operation::Responses
}

/// What stands behind the operation in a client's path, such as `/file-1/content`: things that are stored have paths
/// of their own below the operation's.
pub fn rest_of_path(operation: Operation, path: &str) -> &str {
    let segment = match operation {
        Operation::Responses => "/responses",
        Operation::Assistants => "/assistants",
        Operation::Files => "/files",
        Operation::Batches => "/batches",
        _ => return "",
    };
    path.match_indices(segment)
        .map(|(at, _)| &path[at + segment.len()..])
        .find(|rest| rest.is_empty() || rest.starts_with('/'))
        .unwrap_or_default()
        .trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Format;
    use crate::request::{Options, Streaming};

    fn check<T>(operation: Operation, model: Option<&str>, run: impl FnOnce(&Rules<'_>) -> T) -> T {
        let options = Options::default();
        run(&Rules {
            format: Format::OpenAi,
            operation,
            path: "/",
            query: "",
            captures: &[],
            model,
            streaming: Streaming::Allow,
            options: &options,
            want_usage: false,
            auth: None,
            betas: None,
        })
    }

    #[test]
    fn bodies_in_json() {
        for (operation, model, body, expected) in [
            (Operation::Speech, Some("m"), r#"{"input":"a"}"#, Ok(Some(r#"{"input":"a","model":"m"}"#))),
            (Operation::Speech, Some("m"), r#"{ "model": "m" }"#, Ok(None)),
            (Operation::Speech, Some("m"), r#"{"model":"x"}"#, Err("cannot use own model - must be: m")),
            (Operation::Batches, Some("m"), r#"{"endpoint":"/v1/chat/completions"}"#, Ok(None)),
            (Operation::Responses, None, r#"{"model":"x","stream":true}"#, Ok(None)),
            (Operation::Responses, None, "{", Err("request body doesn't contain valid JSON")),
        ] {
            let passing = check(operation, model, |rules| json(Object::parse(body.as_bytes()), rules));
            let actual = passing
                .as_ref()
                .map(|passing| passing.body.as_deref().map(|body| std::str::from_utf8(body).unwrap()));
            assert_eq!(actual.map_err(|error| &**error), expected, "{body}");
        }
    }

    #[test]
    fn bodies_of_parts() {
        let with = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"model\"\r\n\r\nx\r\n--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n--b--\r\n";
        let without = "--b\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\nx\r\n--b--\r\n";
        let run = |model, body: &str| {
            check(Operation::Transcriptions, model, |rules| multipart(body.as_bytes(), "b", rules))
        };
        assert_eq!(run(Some("m"), with).unwrap().body, None);
        assert_eq!(run(None, with).unwrap().model.as_deref(), Some("m"));
        assert_eq!(run(Some("n"), with).unwrap_err(), "cannot use own model - must be: n");
        assert!(run(None, without).is_err());
        let added = run(Some("m"), without).unwrap().body.unwrap();
        assert_eq!(part(&added, b"--b", "model").unwrap(), "m");
        assert!(added.ends_with(without.as_bytes()));
    }

    #[test]
    fn paths_below_an_operation() {
        for (operation, path, rest) in [
            (Operation::Files, "/openai/files", ""),
            (Operation::Files, "/openai/v1/files/file-1/content", "/file-1/content"),
            (Operation::Files, "/my-files/files/f", "/f"),
            (Operation::Responses, "/responses/resp_1/cancel", "/resp_1/cancel"),
            (Operation::Responses, "/other", ""),
            (Operation::Speech, "/audio/speech/x", ""),
        ] {
            assert_eq!(rest_of_path(operation, path), rest, "{path}");
        }
    }
}
