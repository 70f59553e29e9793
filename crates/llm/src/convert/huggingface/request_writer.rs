//! Texts to go on with, as Hugging Face's text generation takes them.

use serde_json::{Map, Value};

use crate::convert::chat::Chat;
use crate::convert::openai::completion::Completion;
use crate::request::{Call, Options, Rules};

/// How the model is to go on, by the names of the format.
pub(crate) type Parameters = Vec<(&'static str, Option<Value>)>;

/// A request.
pub(crate) fn body(inputs: String, parameters: Parameters) -> Map<String, Value> {
    let set = |(name, value): (&str, Option<Value>)| Some((name.to_owned(), value?));
    let parameters: Map<String, Value> = parameters.into_iter().filter_map(set).collect();
    [("inputs".to_owned(), inputs.into()), ("parameters".to_owned(), parameters.into())].into_iter().collect()
}

/// A text completion.
///
/// # Errors
/// A prompt that is not one text.
pub(crate) fn completion(call: &Call<'_>, rules: &Rules<'_>) -> Result<Value, String> {
    let asked = Completion::read(call)?.with_one_answer()?;
    let mut parameters = of_completion(&asked, rules.options);
    // A server's root puts the prompt before the answer unless it is told not to.
    parameters.push(("return_full_text", Some((asked.own("echo") == Some(true.into())).into())));
    let mut sent = body(asked.prompt()?.to_owned(), parameters);
    sent.insert("stream".to_owned(), call.stream.into());
    if let Some(auth) = rules.auth {
        sent.insert(auth.name.to_owned(), auth.value.into());
    }
    Ok(sent.into())
}

/// What a text completion says of how to go on.
pub(crate) fn of_completion(asked: &Completion, options: &Options) -> Parameters {
    vec![
        ("max_new_tokens", asked.option(&options.max_tokens, "max_tokens")),
        ("temperature", asked.option(&options.temperature, "temperature")),
        ("top_k", asked.option(&options.top_k, "top_k")),
        ("top_p", asked.option(&options.top_p, "top_p")),
        ("stop", asked.stop()),
        ("seed", asked.own("seed")),
        ("frequency_penalty", asked.own("frequency_penalty")),
        WITH_DETAILS,
    ]
}

/// What a chat says of how to go on.
pub(crate) fn of_chat(chat: &mut Chat) -> Parameters {
    let stop = std::mem::take(&mut chat.stop);
    let grammar =
        chat.schema.take().map(|schema| serde_json::json!({"type": "json", "value": schema.schema}));
    vec![
        ("max_new_tokens", chat.max_tokens.take()),
        ("temperature", chat.temperature.take()),
        ("top_k", chat.top_k.take()),
        ("top_p", chat.top_p.take()),
        ("stop", (!stop.is_empty()).then(|| stop.into())),
        ("seed", chat.seed.take()),
        ("frequency_penalty", chat.frequency_penalty.take()),
        ("grammar", grammar),
        WITH_DETAILS,
    ]
}

/// Why an answer ended, and its tokens, are told to who asks for them.
const WITH_DETAILS: (&str, Option<Value>) = ("details", Some(Value::Bool(true)));
