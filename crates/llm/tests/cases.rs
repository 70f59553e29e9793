//! Golden cases, a table per provider in `cases/`: what the client asks, what is sent, what the provider
//! answers, what the client gets, what is known of it then. Every streamed case is also cut at every byte; what it
//! makes where the client is to have a whole answer is `collected`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use bytes::Bytes;
use common::{aws_bytes, aws_events, provider};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use tollgate_llm::json::Object;
use tollgate_llm::provider::{self as providers, Asked, Sent, Settings, Shape, StreamWishes};
use tollgate_llm::request::{self, Call, Options, Rules, Streaming};
use tollgate_llm::usage::Seen;
use tollgate_llm::{Format, Operation, Provider};

const PLAIN: &[(&str, &str)] = &[
    ("openai", include_str!("../cases/openai_plain.json")),
    ("anthropic", include_str!("../cases/anthropic_plain.json")),
    ("bedrock", include_str!("../cases/bedrock_plain.json")),
    ("ollama", include_str!("../cases/ollama_plain.json")),
    ("responses", include_str!("../cases/responses_plain.json")),
    ("anthropic", include_str!("../cases/anthropic-client_plain.json")),
    ("bedrock", include_str!("../cases/bedrock-client_plain.json")),
    ("bedrock", include_str!("../cases/bedrock_embeddings.json")),
    ("huggingface", include_str!("../cases/huggingface_embeddings.json")),
    ("gemini", include_str!("../cases/gemini_plain.json")),
    ("gemini", include_str!("../cases/gemini-client_plain.json")),
    ("cohere", include_str!("../cases/cohere_plain.json")),
    ("cohere", include_str!("../cases/cohere-client_plain.json")),
    ("huggingface", include_str!("../cases/huggingface_plain.json")),
    ("huggingface", include_str!("../cases/huggingface-client_plain.json")),
    ("llama2", include_str!("../cases/llama2_plain.json")),
    ("", include_str!("../cases/images.json")),
];
const STREAMED: &[(&str, &str)] = &[
    ("openai", include_str!("../cases/openai_streamed.json")),
    ("anthropic", include_str!("../cases/anthropic_streamed.json")),
    ("bedrock", include_str!("../cases/bedrock_streamed.json")),
    ("ollama", include_str!("../cases/ollama_streamed.json")),
    ("responses", include_str!("../cases/responses_streamed.json")),
    ("anthropic", include_str!("../cases/anthropic-client_streamed.json")),
    ("bedrock", include_str!("../cases/bedrock-client_streamed.json")),
    ("gemini", include_str!("../cases/gemini_streamed.json")),
    ("gemini", include_str!("../cases/gemini-client_streamed.json")),
    ("cohere", include_str!("../cases/cohere_streamed.json")),
    ("cohere", include_str!("../cases/cohere-client_streamed.json")),
    ("huggingface", include_str!("../cases/huggingface_streamed.json")),
    ("huggingface", include_str!("../cases/huggingface-client_streamed.json")),
    ("llama2", include_str!("../cases/llama2_streamed.json")),
];

fn each_case(tables: &[(&str, &str)], run: impl Fn(&dyn Provider, &Value)) {
    for (name, table) in tables {
        for case in serde_json::from_str::<Vec<Value>>(table).unwrap() {
            // A table of a client's format has cases of several providers.
            run(&*provider(case["provider"].as_str().unwrap_or(name), &case), &case);
        }
    }
}

/// What the client speaks.
fn format(case: &Value) -> Format {
    common::format(case["format"].as_str().unwrap_or("openai"))
}

fn operation(case: &Value) -> Operation {
    Operation::named(case["operation"].as_str().unwrap_or("llm/v1/chat")).unwrap()
}

fn asked<'a>(case: &'a Value, action: &'a str, kept: &'a Map<String, Value>) -> Asked<'a> {
    Asked {
        format: format(case),
        operation: operation(case),
        model: case["model"].as_str().unwrap_or_default(),
        id: "7PbQ",
        created: 1_741_569_952,
        kept,
        action,
    }
}

/// A text of the table: as it stands, or written of the JSON that stands there.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Compares bytes where the table holds a text, and values where it holds JSON.
#[track_caller]
fn check(actual: &[u8], expected: &Value, title: &Value) {
    match expected.as_str() {
        Some(expected) => assert_eq!(String::from_utf8_lossy(actual), expected, "{title}"),
        None => assert_eq!(&serde_json::from_slice::<Value>(actual).unwrap(), expected, "{title}"),
    }
}

/// What is sent; `None` where the case is that it cannot be.
fn send(provider: &dyn Provider, case: &Value) -> Option<(Sent, String, Map<String, Value>)> {
    let option = |name: &str| case["options"][name].as_str().map(str::to_owned);
    let options = Options {
        max_tokens: option("max_tokens"),
        temperature: option("temperature"),
        top_p: option("top_p"),
        top_k: option("top_k"),
        dimensions: option("dimensions"),
    };
    let captures = case["captures"].as_object().into_iter().flatten();
    let captures: Vec<(Box<str>, Box<str>)> =
        captures.map(|(name, value)| (name.as_str().into(), value.as_str().unwrap().into())).collect();
    let rules = Rules {
        format: format(case),
        operation: operation(case),
        path: case["path"].as_str().unwrap_or("/"),
        query: case["query"].as_str().unwrap_or_default(),
        captures: &captures,
        model: case["model"].as_str(),
        streaming: Streaming::Allow,
        options: &options,
        want_usage: true,
        auth: None,
        betas: case["betas"].as_str(),
    };
    let body = text(&case["request"]);
    let call = match request::check(Object::parse(body.as_bytes()), &rules) {
        Ok(call) => call,
        Err(message) => {
            assert_eq!(Some(&*message), case["unfit"].as_str(), "{}", case["title"]);
            return None;
        }
    };
    assert!(case["unfit"].is_null(), "{}", case["title"]);
    if let Some(path) = case["call_path"].as_str() {
        assert!(provider.has_call_paths(rules.format, rules.operation));
        assert_eq!(provider.call_path(&call, rules.format, rules.operation), path, "{}", case["title"]);
    }
    match (provider.request(&call, &rules), case["refused"].as_str()) {
        (Ok(sent), None) => {
            if !case["sent"].is_null() {
                check(&sent.body, &case["sent"], &case["title"]);
            }
            Some((sent, call.action.into_owned(), call.kept))
        }
        (Err(refused), Some(expected)) => {
            assert_eq!(refused, expected, "{}", case["title"]);
            None
        }
        (other, expected) => panic!("{}: {expected:?} became {other:?}", case["title"]),
    }
}

fn check_seen(case: &Value, seen: &Seen, sent: &[u8], stream: bool) {
    let Some(expected) = case["seen"].as_object() else { return };
    let usage = seen.tokens(sent, stream);
    for (name, value) in expected {
        let actual: Value = match name.as_str() {
            "model" => seen.model.clone().into(),
            "prompt_tokens" => usage.prompt_tokens.into(),
            "completion_tokens" => usage.completion_tokens.into(),
            "total_tokens" => usage.total_tokens.into(),
            "prompt_tokens_details" => usage.prompt_tokens_details.clone().into(),
            "completion_tokens_details" => usage.completion_tokens_details.clone().into(),
            "text" => seen.text.kept.clone().into(),
            "finish_reason" => seen.finish_reason.clone().into(),
            other => panic!("{other}"),
        };
        assert_eq!(&actual, value, "{}: {name}", case["title"]);
    }
}

/// Where providers are, and what they want besides: `null` in the table where they want nothing.
#[test]
fn addresses_and_manners() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("../cases/providers.json")).unwrap();
    for case in &cases {
        let provider = provider(case["provider"].as_str().unwrap(), case);
        let query = provider.query().map(|(name, value)| format!("{name}={value}"));
        let headers: Vec<String> =
            provider.headers().iter().map(|(name, value)| format!("{name}: {value}")).collect();
        let path = |name| provider.path(Operation::named(name).unwrap());
        let actual = json!({
            "host": provider.host(),
            "chat": path("llm/v1/chat"),
            "completions": path("llm/v1/completions"),
            "embeddings": path("llm/v1/embeddings"),
            "query": query,
            "headers": headers,
        });
        assert_eq!(actual, case["expect"], "{}", case["provider"]);
        if !case["request"].is_null() {
            send(&*provider, case);
        }
        for case in case["calls"].as_array().into_iter().flatten() {
            let body = json!({"messages": [{"role": "user", "content": "a"}]}).to_string();
            let call = Call {
                body: Object::parse(body.as_bytes()).unwrap(),
                model: case[0].as_str().map(Into::into),
                stream: case[1].as_bool().unwrap(),
                ..Call::default()
            };
            let operation = Operation::named(case[3].as_str().unwrap_or("llm/v1/chat")).unwrap();
            assert!(provider.has_call_paths(Format::OpenAi, operation));
            assert_eq!(provider.call_path(&call, Format::OpenAi, operation), case[2].as_str().unwrap());
        }
    }
}

#[test]
fn plain_answers() {
    each_case(PLAIN, |provider, case| {
        let Some((sent, action, kept)) = send(provider, case) else { return };
        if case["answer"].is_null() {
            return;
        }
        let answer = text(&case["answer"]);
        let mut seen = Seen::default();
        match (
            provider.answer(answer.as_bytes(), &asked(case, &action, &kept), Some(&mut seen)),
            case["failure"].as_str(),
        ) {
            (Ok(translated), None) => {
                match translated {
                    Some(translated) => check(&translated, &case["client"], &case["title"]),
                    None => assert!(case["client"].is_null(), "{}: passed as it is", case["title"]),
                }
                check_seen(case, &seen, &sent.body, false);
            }
            (Err(failure), Some(expected)) => assert_eq!(failure, expected, "{}", case["title"]),
            (other, expected) => panic!("{}: {expected:?} became {other:?}", case["title"]),
        }
    });
}

/// Answers of another status; `null` in the table where they can only be passed on as they are.
#[test]
fn error_answers() {
    for case in &serde_json::from_str::<Vec<Value>>(include_str!("../cases/errors.json")).unwrap() {
        let provider = provider(case["provider"].as_str().unwrap(), case);
        let status = case["status"].as_u64().unwrap() as u16;
        match provider.error(status, text(&case["answer"]).as_bytes(), format(case)) {
            Some(error) => check(&error, &case["client"], &case["title"]),
            None => assert!(case["client"].is_null(), "{}", case["title"]),
        }
        let header = format(case).error_header(status).map(|(name, value)| format!("{name}: {value}"));
        assert_eq!(header.as_deref(), case["header"].as_str(), "{}", case["title"]);
    }
}

/// Errors of the gateway's own, as clients of each format read them.
#[test]
fn refusals() {
    for (format, status, expected) in [
        ("openai", 400, json!({"error": {"message": "no"}})),
        (
            "anthropic",
            400,
            json!({"type": "error", "error": {"type": "invalid_request_error", "message": "no"}}),
        ),
        ("anthropic", 500, json!({"type": "error", "error": {"type": "api_error", "message": "no"}})),
        ("bedrock", 400, json!({"message": "no"})),
        ("huggingface", 400, json!({"error": "no", "error_type": "validation"})),
        ("huggingface", 500, json!({"error": "no", "error_type": "generation"})),
    ] {
        assert_eq!(Format::named(format).unwrap().refusal(status, "no"), expected);
    }
}

/// The bytes of a stream: a text, or a list of AWS events.
fn stream_bytes(case: &Value) -> Vec<u8> {
    match case["stream"].as_array() {
        Some(events) => aws_bytes(events),
        None => case["stream"].as_str().unwrap().as_bytes().to_vec(),
    }
}

/// The bytes that the client is to get: those that came where the case says so, else events of its format.
fn check_stream(client: &[u8], came: &[u8], case: &Value, how: &str) {
    let title = &case["title"];
    if case["client"] == "as it came" {
        return assert!(client == came, "{title}: {how}");
    }
    match format(case) {
        Format::Bedrock => assert_eq!(Value::from(aws_events(client)), case["client"], "{title}: {how}"),
        _ => check_events(std::str::from_utf8(client).unwrap(), case, how),
    }
}

/// The events that the client is to get: a text, or a list of what their data lines hold.
fn check_events(client: &str, case: &Value, how: &str) {
    let title = &case["title"];
    let Some(expected) = case["client"].as_array() else {
        return assert_eq!(client, case["client"].as_str().unwrap(), "{title}: {how}");
    };
    let mut events = client.split_inclusive("\n\n").map(|event| {
        let (name, data) = match event.strip_prefix("event: ").and_then(|event| event.split_once('\n')) {
            Some((name, data)) => (Some(name), data),
            None => (None, event),
        };
        let data = data.strip_prefix("data: ").and_then(|event| event.strip_suffix("\n\n")).unwrap();
        let event: Value = serde_json::from_str(data).unwrap_or_else(|_| data.into());
        if let Some(name) = name {
            assert_eq!(event["type"], name, "{title}: {how}");
        }
        event
    });
    for (at, expected) in expected.iter().enumerate() {
        let actual: Value = events.next().unwrap_or_default();
        assert_eq!(&actual, expected, "{title}: {how}: event {at}");
    }
    assert_eq!(events.next(), None, "{title}: {how}");
}

#[test]
fn streamed_answers_cut_at_every_byte() {
    each_case(STREAMED, |provider, case| {
        let Some((sent, action, kept)) = send(provider, case) else { return };
        let stream = &stream_bytes(case)[..];
        let wishes = StreamWishes { hide_usage: sent.hide_usage, keep_text: true, ..StreamWishes::default() };
        let follow = |wishes: StreamWishes, pieces: &[&[u8]]| {
            let mut events = provider.stream(&asked(case, &action, &kept), wishes);
            let mut client = Vec::new();
            for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
                client.extend_from_slice(&events.chunk(Bytes::copy_from_slice(piece)));
            }
            client.extend_from_slice(&events.end());
            (client, events.take_seen())
        };
        let run = |how: &str, pieces: &[&[u8]]| {
            let (client, seen) = follow(wishes, pieces);
            check_stream(&client, stream, case, how);
            check_seen(case, &seen, &sent.body, true);
            if !case["collected"].is_null() {
                let (whole, _) = follow(StreamWishes { shape: Shape::Whole, ..wishes }, pieces);
                check(&whole, &case["collected"], &case["title"]);
            }
        };
        for cut in 0..=stream.len() {
            let (one, two) = stream.split_at(cut);
            run(&format!("cut at {cut}"), &[one, two]);
        }
        run("byte by byte", &stream.chunks(1).collect::<Vec<_>>());
        run("seven bytes at a time", &stream.chunks(7).collect::<Vec<_>>());
    });
}

fn json_text() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("1.00".to_owned()),
        Just("-0".to_owned()),
        Just("1E5".to_owned()),
        Just(r#""\u0041\/""#.to_owned()),
        Just("true".to_owned()),
        ".{0,8}".prop_map(|text| Value::from(text).to_string()),
    ];
    leaf.prop_recursive(3, 16, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(|items| format!("[ {} ]", items.join(" ,"))),
            prop::collection::vec(inner, 0..3).prop_map(|items| {
                let members: Vec<_> =
                    items.iter().enumerate().map(|(i, item)| format!("\"m{i}\" :{item}")).collect();
                format!("{{{}}}", members.join(", "))
            }),
        ]
    })
}

/// A body of members that stand where they stand, and the members.
fn body() -> impl Strategy<Value = (String, Vec<(String, String)>)> {
    (prop::collection::vec(("[a-z_]{1,6}", json_text()), 0..8), "[ \n\t]{0,3}").prop_map(
        |(mut members, space)| {
            members.retain(|(name, _)| !["model", "stream", "messages", "inputs"].contains(&name.as_str()));
            members.push(("messages".into(), r#"[ {"role" : "user", "content": "\u0041"} ]"#.into()));
            members.push(("inputs".into(), r#""\u0041""#.into()));
            let text: Vec<String> =
                members.iter().map(|(name, value)| format!("\"{name}\"{space}:{space}{value}")).collect();
            (format!("{space}{{{space}{}{space}}}{space}", text.join(&format!("{space},"))), members)
        },
    )
}

proptest! {
    /// Where client and provider speak the same format, what the gateway does not decide passes byte for byte,
    /// known or not.
    #[test]
    fn a_format_of_the_providers_own_passes((body, members) in body(), to in 0_usize..3, configured in any::<bool>()) {
        let (format, name, path) = [
            (Format::Bedrock, "bedrock", "/model/m/converse"),
            (Format::Anthropic, "anthropic", "/v1/messages"),
            (Format::HuggingFace, "huggingface", "/generate_stream"),
        ][to];
        let options = Options { max_tokens: configured.then(|| "5".into()), ..Options::default() };
        let rules = Rules { format, operation: Operation::Chat, path, query: "", captures: &[], model: Some("m"), streaming: Streaming::Allow, options: &options, want_usage: true, auth: None, betas: Some("x") };
        let call = request::check(Object::parse(body.as_bytes()), &rules).unwrap();
        let provider = providers::configured(name, &Settings::default()).unwrap();
        let sent = provider.request(&call, &rules).unwrap().body;
        if format == Format::Bedrock && !configured {
            prop_assert_eq!(&sent, body.as_bytes());
        }
        let sent = Object::parse(&sent).unwrap();
        let decided = match (format, configured) {
            (Format::Bedrock, true) => vec![("inferenceConfig", r#"{"maxTokens":5}"#)],
            (Format::Bedrock, false) => vec![],
            (Format::Anthropic, true) => vec![("model", "\"m\""), ("max_tokens", "5")],
            (Format::Anthropic, false) => vec![("model", "\"m\"")],
            // The router has one path for what streams and what does not.
            (_, _) => vec![("stream", "true")],
        };
        let expected: Vec<(&str, &str)> =
            members.iter().map(|(name, value)| (name.as_str(), value.as_str())).chain(decided).collect();
        prop_assert_eq!(sent.members().collect::<Vec<_>>(), expected);
    }

    /// What the gateway does not decide reaches the provider byte for byte, in its order, known or not.
    #[test]
    fn all_but_the_edited_members_keep_their_bytes(
        members in prop::collection::vec(("[a-z_]{1,6}", json_text()), 0..8),
        at in 0_usize..9,
        space in "[ \n\t]{0,3}",
    ) {
        let edited = ["model", "max_tokens", "temperature", "top_p", "top_k", "stream", "stream_options"];
        let mut members: Vec<(String, String)> = members.into_iter().filter(|(name, _)| name != "prompt" && name != "model" && name != "stream").collect();
        members.insert(at.min(members.len()), ("messages".into(), r#"[ {"role" : "user"} ]"#.into()));
        let body: Vec<String> = members.iter().map(|(name, value)| format!("\"{name}\"{space}:{space}{value}")).collect();
        let body = format!("{space}{{{space}{}{space}}}{space}", body.join(&format!("{space},")));
        let options = Options { max_tokens: Some("5".into()), ..Options::default() };
        let rules = Rules { format: Format::OpenAi, operation: Operation::Chat, path: "/", query: "", captures: &[], model: Some("m"), streaming: Streaming::Always, options: &options, want_usage: true, auth: None, betas: None };
        prop_assume!(members.iter().filter(|(name, _)| name == "messages").count() == 1);
        let call = request::check(Object::parse(body.as_bytes()), &rules).unwrap();
        let sent = providers::configured("openai", &Settings::default()).unwrap().request(&call, &rules).unwrap();
        let parsed = Object::parse(&sent.body).unwrap();
        let kept = |object: &Object<'_>| object.members().filter(|(name, _)| !edited.contains(name)).map(|(name, value)| (name.to_owned(), value.to_owned())).collect::<Vec<_>>();
        prop_assert_eq!(kept(&parsed), kept(&call.body));
        let ends = ["}", &space].concat();
        prop_assert!(sent.body.starts_with(space.as_bytes()));
        prop_assert!(sent.body.ends_with(ends.as_bytes()));
        prop_assert_eq!(parsed.get("model"), Some("\"m\""));
        prop_assert_eq!(parsed.get("max_tokens"), Some("5"));
        prop_assert_eq!(parsed.get("top_k"), None);
    }
}
