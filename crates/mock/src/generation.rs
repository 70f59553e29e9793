//! Hugging Face's text generation, as Text Generation Inference serves it, as far as the mock knows it.

use bytes::Bytes;
use serde_json::{Value, json};
use tollgate_http::{RequestHead, Response, StatusCode};

use crate::reply::Reply;
use crate::{Wishes, plain, streamed};

/// Whether a path is one of a server's: its two operations, its root, and a model of Hugging Face's own.
pub(crate) fn is_it(path: &str) -> bool {
    let of_others = path.ends_with("/api/generate") || path.ends_with("/v1/generate");
    let of_model = path.contains("/hf-inference/models/") && !path.contains("/pipeline/");
    let operates = path.ends_with("/generate") || path.ends_with("/generate_stream");
    path.is_empty() || of_model || operates && !of_others
}

pub(crate) fn answer(head: &RequestHead, path: &str, body: &[u8], wishes: &Wishes) -> Response {
    let Ok(Value::Object(request)) = serde_json::from_slice(body) else {
        return error_of(StatusCode::UNPROCESSABLE_ENTITY, "Failed to parse the request body as JSON");
    };
    let mut request = Value::Object(request);
    let Some(inputs) = request["inputs"].as_str().filter(|inputs| !inputs.is_empty()).map(str::to_owned)
    else {
        return error_of(
            StatusCode::UNPROCESSABLE_ENTITY,
            "Input validation error: `inputs` cannot be empty",
        );
    };
    let parameters = request["parameters"].take();
    request["prompt"] = question(&inputs).into();
    request["max_tokens"] = parameters["max_new_tokens"].clone();
    let reply = Reply::new(head, &request, body, true, wishes);
    let reason = if reply.finish_reason() == "length" { "length" } else { "eos_token" };
    let (at_root, streams) = match path.trim_end_matches('/').rsplit_once('/') {
        Some((_, "generate")) => (false, false),
        Some((_, "generate_stream")) => (false, true),
        _ => (true, request["stream"] == true),
    };
    // The root puts the prompt before the answer, unless it is told not to.
    let with_prompt = parameters["return_full_text"].as_bool().unwrap_or(at_root);
    let text = [if with_prompt { &inputs } else { "" }, &reply.words.concat()].concat();
    let count = reply.words.len();
    let details = |more: (&str, Value)| match wishes.usage && parameters["details"] == true {
        true => {
            let mut details = json!({"finish_reason": reason, "generated_tokens": count, "seed": null});
            details[more.0] = more.1;
            details
        }
        false => Value::Null,
    };
    if !streams {
        let mut whole = json!({"generated_text": text});
        let told = details(("prefill", json!([])));
        if !told.is_null() {
            whole["details"] = told;
        }
        return plain(StatusCode::OK, &if at_root { json!([whole]) } else { whole });
    }
    let mut events: Vec<Value> = (1..)
        .zip(&reply.words)
        .map(|(index, word)| json!({"index": index, "token": token(word, false), "generated_text": null, "details": null}))
        .collect();
    let told = details(("input_length", reply.prompt_tokens.into()));
    events.push(
        json!({"index": count + 1, "token": token("</s>", true), "generated_text": text, "details": told}),
    );
    let events = events.iter().map(|event| Bytes::from(format!("data:{event}\n\n"))).collect();
    streamed("text/event-stream", events, wishes)
}

fn token(text: &str, special: bool) -> Value {
    json!({"id": if special { 2 } else { 1000 }, "text": text, "logprob": -0.5, "special": special})
}

/// What is asked last in a prompt that is written as Llama 2 reads it; any other is the question itself.
fn question(inputs: &str) -> &str {
    match inputs.rsplit_once("[INST]") {
        Some((_, rest)) => rest.split("[/INST]").next().unwrap_or_default().trim(),
        None => inputs,
    }
}

/// An error of this status.
pub(crate) fn error_of(status: StatusCode, message: &str) -> Response {
    let kind = match status.as_u16() {
        429 => "overloaded",
        400..=499 => "validation",
        _ => "generation",
    };
    plain(status, &json!({"error": message, "error_type": kind}))
}
