//! What the targets over the LLM layer share: the providers, requests as the gateway makes them, answers in pieces.

use std::sync::Arc;

use aws_smithy_eventstream::frame::write_message_to;
use aws_smithy_types::event_stream::{Header, HeaderValue, Message};
use bytes::Bytes;
use serde_json::{Map, Value};
use tollgate_llm::json::Object;
use tollgate_llm::provider::{self, Asked, Provider, Settings, Shape, StreamWishes};
use tollgate_llm::request::{self, Options, Rules, Streaming};
use tollgate_llm::usage::Seen;
use tollgate_llm::{Format, Operation};

/// What clients speak.
pub const FORMATS: [Format; 7] = [
    Format::OpenAi,
    Format::Responses,
    Format::Anthropic,
    Format::Bedrock,
    Format::Gemini,
    Format::Cohere,
    Format::HuggingFace,
];

/// A provider for each format on the wire, of pictures too.
pub fn providers() -> [Arc<dyn Provider>; 9] {
    let settings = Settings {
        aws_region: Some("eu-west-1".into()),
        anthropic_version: Some("2023-06-01".into()),
        llama2_format: Some("raw".into()),
        ..Settings::default()
    };
    ["openai", "anthropic", "bedrock", "gemini", "cohere", "ollama", "huggingface", "llama2", "dashscope"]
        .map(|name| provider::configured(name, &settings).unwrap_or_else(|| panic!("{name} is not served")))
}

/// A request to each provider: refused with a reason, or sent; JSON stays JSON. The first byte chooses among `calls`
/// and what is configured.
pub fn request(format: Format, calls: &[(Operation, &str)], bytes: &[u8]) {
    let Some((chosen, body)) = bytes.split_first() else { return };
    let (operation, path) = calls[usize::from(chosen & 7) % calls.len()];
    let options = match chosen & 8 {
        0 => Options::default(),
        _ => Options {
            max_tokens: Some("5".into()),
            temperature: Some("0.5".into()),
            dimensions: Some("256".into()),
            ..Options::default()
        },
    };
    let rules = Rules {
        format,
        operation,
        path,
        query: if chosen & 16 == 0 { "" } else { "alt=sse&key=secret" },
        captures: &[],
        model: (chosen & 32 == 0).then_some("m-1"),
        streaming: if chosen & 64 == 0 { Streaming::Allow } else { Streaming::Always },
        options: &options,
        want_usage: chosen & 128 == 0,
        auth: None,
        betas: None,
    };
    let is_json = serde_json::from_slice::<Value>(body).is_ok();
    match request::check(Object::parse(body), &rules) {
        Err(message) => assert!(!message.is_empty()),
        Ok(call) => {
            for provider in providers() {
                match provider.request(&call, &rules) {
                    Err(message) => assert!(!message.is_empty()),
                    Ok(sent) => assert!(
                        !is_json || serde_json::from_slice::<Value>(&sent.body).is_ok(),
                        "{} is sent {}",
                        provider.name(),
                        String::from_utf8_lossy(&sent.body)
                    ),
                }
            }
        }
    }
}

fn asked<'a>(format: Format, action: &'a str, kept: &'a Map<String, Value>) -> Asked<'a> {
    let operation = if format == Format::Responses { Operation::Responses } else { Operation::Chat };
    Asked { format, operation, model: "m-1", id: "7PbQ", created: 1_741_569_952, kept, action }
}

/// An answer of `provider` in every client's format: refused with a reason, or JSON.
pub fn answer(provider: &dyn Provider, body: &[u8]) {
    let kept = Map::new();
    let is_json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).is_ok();
    let check = |asked: Asked<'_>| match provider.answer(body, &asked, Some(&mut Seen::default())) {
        Err(message) => assert!(!message.is_empty()),
        Ok(translated) => assert!(translated.is_none_or(|bytes| is_json(&bytes))),
    };
    check(Asked { operation: Operation::Images, ..asked(Format::OpenAi, "", &kept) });
    for format in FORMATS {
        check(asked(format, "", &kept));
        for status in [400, 429, 500] {
            assert!(provider.error(status, body, format).is_none_or(|bytes| is_json(&bytes)));
        }
    }
}

/// A streamed answer of `provider` in every client's format: the same bytes in whatever pieces they come, and where
/// they are translated, nothing but whole events; collected for a client that has not asked for a stream, one piece of
/// JSON. The first four bytes say how long the pieces are, in turn.
pub fn stream(provider: &dyn Provider, bytes: &[u8]) {
    let Some((lengths, stream)) = bytes.split_first_chunk::<4>() else { return };
    let kept = Map::new();
    for format in FORMATS {
        let asked = asked(format, "", &kept);
        let run = |shape: Shape, lengths: &[usize]| {
            let wishes = StreamWishes { hide_usage: true, keep_text: true, shape };
            let mut events = provider.stream(&asked, wishes);
            let mut client = Vec::new();
            for piece in pieces(stream, lengths) {
                client.extend_from_slice(&events.chunk(Bytes::copy_from_slice(piece)));
            }
            client.extend_from_slice(&events.end());
            (client, events.take_seen().text.kept)
        };
        let (one, pieces) = ([stream.len()], lengths.map(|length| usize::from(length) + 1));
        let collected = run(Shape::Whole, &one);
        assert_eq!(collected, run(Shape::Whole, &pieces), "collected in pieces");
        assert!(
            serde_json::from_slice::<Value>(&collected.0).is_ok(),
            "{} to {format:?}: {}",
            provider.name(),
            String::from_utf8_lossy(&collected.0)
        );
        let whole = run(Shape::Events, &one);
        assert_eq!(whole, run(Shape::Events, &pieces), "in pieces");
        if provider.translates(format, asked.operation) && format != Format::Bedrock {
            let client = std::str::from_utf8(&whole.0).unwrap_or_else(|error| panic!("{format:?}: {error}"));
            assert!(client.is_empty() || client.ends_with('\n') || client.ends_with(']'), "{client:?}");
            for data in client.lines().filter_map(|line| line.strip_prefix("data: ")) {
                assert!(
                    data == "[DONE]" || serde_json::from_str::<Value>(data).is_ok(),
                    "{} to {format:?}: {data}",
                    provider.name()
                );
            }
        }
    }
}

/// The pieces of a stream that are so long, in turn; none of the lengths is 0, but where nothing comes.
pub fn pieces<'a>(mut stream: &'a [u8], lengths: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    lengths.iter().cycle().map_while(move |length| {
        let (piece, after) = stream.split_at(stream.len().min(*length));
        stream = after;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Makes event-stream frames of arbitrary bytes: a byte for the type, a byte for the length of the payload, the
/// payload; again, until the bytes end. Checksums are right.
pub fn frames(mut bytes: &[u8]) -> Vec<u8> {
    const TYPES: [&str; 8] = [
        "messageStart",
        "contentBlockStart",
        "contentBlockDelta",
        "contentBlockStop",
        "messageStop",
        "metadata",
        "chunk",
        "!throttlingException",
    ];
    let mut out = Vec::new();
    while let [kind, length, rest @ ..] = bytes {
        let (payload, after) = rest.split_at(rest.len().min(usize::from(*length)));
        let name = TYPES[usize::from(*kind) % TYPES.len()];
        let (message_type, header_name, name) = match name.strip_prefix('!') {
            Some(name) => ("exception", ":exception-type", name),
            None => ("event", ":event-type", name),
        };
        let header =
            |name: &'static str, value: &'static str| Header::new(name, HeaderValue::String(value.into()));
        let headers = vec![header(header_name, name), header(":message-type", message_type)];
        let message = Message::new_from_parts(headers, payload.to_vec());
        write_message_to(&message, &mut out).unwrap_or_else(|error| panic!("a short frame: {error}"));
        bytes = after;
    }
    out
}
