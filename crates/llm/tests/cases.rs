//! Golden cases, a table per provider in `cases/`: what the client asks, what is sent, what the provider
//! answers, what the client gets, what is known of it then. Every streamed case is also cut at every byte.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::Value;
use tollgate_llm::json::Object;
use tollgate_llm::provider::{self, Sent, StreamWishes};
use tollgate_llm::request::{self, Options, Rules, Streaming};
use tollgate_llm::usage::Seen;
use tollgate_llm::{Operation, Provider};

const PLAIN: &[(&str, &str)] = &[("openai", include_str!("../cases/openai_plain.json"))];
const STREAMED: &[(&str, &str)] = &[("openai", include_str!("../cases/openai_streamed.json"))];

fn each_case(tables: &[(&str, &str)], run: impl Fn(&'static dyn Provider, &Value)) {
    for (name, table) in tables {
        for case in serde_json::from_str::<Vec<Value>>(table).unwrap() {
            run(provider::named(name).unwrap(), &case);
        }
    }
}

fn send(provider: &dyn Provider, case: &Value) -> Sent {
    let option = |name: &str| case["options"][name].as_str().map(str::to_owned);
    let options = Options {
        max_tokens: option("max_tokens"),
        temperature: option("temperature"),
        top_p: option("top_p"),
        dimensions: option("dimensions"),
    };
    let rules = Rules {
        operation: Operation::named(case["operation"].as_str().unwrap()).unwrap(),
        model: case["model"].as_str(),
        streaming: Streaming::Allow,
        options: &options,
        want_usage: true,
        auth: None,
    };
    let body = case["request"].as_str().unwrap();
    let call = request::check(Object::parse(body.as_bytes()), &rules).unwrap();
    let sent = provider.request(&call, &rules);
    if let Some(expected) = case["sent"].as_str() {
        assert_eq!(String::from_utf8_lossy(&sent.body), expected, "{}", case["title"]);
    }
    sent
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

#[test]
fn plain_answers() {
    each_case(PLAIN, |provider, case| {
        let sent = send(provider, case);
        let Some(answer) = case["answer"].as_str() else { return };
        let operation = Operation::named(case["operation"].as_str().unwrap()).unwrap();
        let mut seen = Seen::default();
        match (provider.answer(answer.as_bytes(), operation, Some(&mut seen)), case["failure"].as_str()) {
            (Ok(()), None) => check_seen(case, &seen, &sent.body, false),
            (Err(failure), Some(expected)) => assert_eq!(failure, expected, "{}", case["title"]),
            (other, expected) => panic!("{}: {expected:?} became {other:?}", case["title"]),
        }
    });
}

#[test]
fn streamed_answers_cut_at_every_byte() {
    each_case(STREAMED, |provider, case| {
        let sent = send(provider, case);
        let stream = case["stream"].as_str().unwrap().as_bytes();
        let wishes = StreamWishes { hide_usage: sent.hide_usage, keep_text: true };
        let run = |pieces: &[&[u8]]| {
            let mut events = provider.stream(wishes);
            let mut client = Vec::new();
            for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
                client.extend_from_slice(&events.chunk(Bytes::copy_from_slice(piece)));
            }
            client.extend_from_slice(&events.end());
            let client = String::from_utf8(client).unwrap();
            assert_eq!(client, case["client"].as_str().unwrap(), "{}: {}", case["title"], pieces.len());
            check_seen(case, &events.take_seen(), &sent.body, true);
        };
        for cut in 0..=stream.len() {
            let (one, two) = stream.split_at(cut);
            run(&[one, two]);
        }
        run(&stream.chunks(1).collect::<Vec<_>>());
        run(&stream.chunks(7).collect::<Vec<_>>());
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

proptest! {
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
        let rules = Rules { operation: Operation::Chat, model: Some("m"), streaming: Streaming::Always, options: &options, want_usage: true, auth: None };
        prop_assume!(members.iter().filter(|(name, _)| name == "messages").count() == 1);
        let call = request::check(Object::parse(body.as_bytes()), &rules).unwrap();
        let sent = provider::named("openai").unwrap().request(&call, &rules);
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
