//! The matrix: every format that clients speak, to every format that providers speak, plain and streamed, with texts,
//! tools and errors. `cases/matrix/clients` holds what clients ask and `providers` what providers answer, each once;
//! `expected` holds for each pair what is sent and what the client gets. Streamed answers are also split at every
//! byte, and come one byte at a time.
//!
//! Apart from what stands in `expected`, what the client has said has to stand where the provider's API wants it
//! (`gets` in the provider's file), and each answer is read as its format is documented (`matrix/heard.rs`), and has
//! to say what the provider has said (`says`).
//!
//! Where a provider cannot be asked so (`refuses`: tools in a prompt), the cell is the refusal that the client gets. A
//! client whose format is a prompt asks for no tools; of answers that call some it gets the text.
//!
//! With `WRITE_EXPECTED` in the environment the files in `expected` are written anew: read them against the
//! provider's documentation before they are kept.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod common;
#[path = "matrix/heard.rs"]
mod heard;

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use common::{aws_bytes, aws_events, provider};
use heard::Heard;
use serde_json::{Map, Value, json};
use tollgate_llm::json::Object;
use tollgate_llm::provider::{Asked, Sent, Shape, StreamWishes};
use tollgate_llm::request::{self, Options, Rules, Streaming};
use tollgate_llm::{Format, Operation, Provider};

const CLIENTS: [&str; 7] = ["openai", "responses", "anthropic", "bedrock", "gemini", "cohere", "huggingface"];
const PROVIDERS: [&str; 8] =
    ["openai", "anthropic", "bedrock", "gemini", "cohere", "ollama", "huggingface", "llama2"];
/// A format whose requests are nothing but a prompt: it has no place for instructions, tools and their results, nor
/// for calls of tools in answers.
const PROMPTS: &str = "huggingface";
/// What clients ask for.
const REQUESTS: [&str; 3] = ["text", "tools", "results"];
/// What providers answer, and to which request.
const ANSWERS: [(&str, &str); 4] = [("text", "text"), ("cut", "text"), ("tools", "tools"), ("error", "text")];
/// What stands in `expected` where bytes pass.
const PASSED: &str = "as it came";
/// What stands in `expected` where nothing is sent.
const REFUSED: &str = "nothing: it is refused";

fn place(folder: &str, name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("cases/matrix").join(folder).join(format!("{name}.json"))
}

fn read(folder: &str, name: &str) -> Value {
    let path = place(folder, name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A client's format and a provider's.
struct Pair {
    client: &'static str,
    wire: &'static str,
    format: Format,
    provider: Arc<dyn Provider>,
    model: String,
    asks: Value,
    answers: Value,
}

/// A request on its way.
struct Request {
    /// As the client wrote it.
    body: String,
    sent: Sent,
    path: String,
    kept: Map<String, Value>,
}

impl Pair {
    fn of(client: &'static str, wire: &'static str) -> Self {
        // Who speaks Hugging Face's own format to it is not answered as chats are.
        let own = if client == wire && client == PROMPTS { "huggingface-generation" } else { wire };
        let (asks, answers) = (read("clients", client), read("providers", own));
        let provider = provider(answers["provider"].as_str().unwrap(), &answers);
        let model = answers["model"].as_str().unwrap().to_owned();
        Self { client, wire, format: common::format(client), provider, model, asks, answers }
    }

    fn name(&self) -> String {
        format!("{}-{}", self.client, self.wire)
    }

    fn passes(&self) -> bool {
        self.client == self.wire
    }

    /// Why the provider cannot be asked so; nothing where it can.
    fn refusal(&self, name: &str) -> Option<&str> {
        self.answers["refuses"][name].as_str().filter(|_| self.client != PROMPTS)
    }

    /// What is sent for a request of the client's that can be sent.
    fn request(&self, name: &str, streamed: bool) -> Request {
        self.ask(name, streamed).unwrap_or_else(|reason| panic!("{}: {name}: {reason}", self.name()))
    }

    /// What is sent for a request of the client's, or why it cannot be.
    fn ask(&self, name: &str, streamed: bool) -> Result<Request, String> {
        let mut body = self.asks[name].clone();
        if let (true, Some(members)) = (streamed, self.asks["streams_by"].as_object()) {
            body.as_object_mut().unwrap().extend(members.clone());
        }
        let body = body.to_string().replace("{model}", &self.model);
        let of_streams = |plain: &str, streamed_one: &str| {
            let text = self.asks[streamed_one].as_str().filter(|_| streamed);
            let text = text.or(self.asks[plain].as_str()).unwrap_or_default();
            text.replace("{model}", &self.model)
        };
        let (path, query) = (of_streams("path", "streamed_path"), of_streams("query", "streamed_query"));
        let options = Options::default();
        let rules = Rules {
            format: self.format,
            operation: Operation::Chat,
            path: &path,
            query: &query,
            captures: &[],
            model: Some(&self.model),
            streaming: Streaming::Allow,
            options: &options,
            want_usage: true,
            auth: None,
            betas: None,
        };
        let call = request::check(Object::parse(body.as_bytes()), &rules).unwrap();
        assert_eq!(call.stream, streamed, "{}", self.name());
        let sent = self.provider.request(&call, &rules)?;
        let path = match self.provider.has_call_paths(self.format, Operation::Chat) {
            true => self.provider.call_path(&call, self.format, Operation::Chat),
            false => self.provider.path(Operation::Chat).unwrap().into_owned(),
        };
        let kept = call.kept;
        Ok(Request { body, sent, path, kept })
    }

    fn asked<'a>(&'a self, request: &'a Request) -> Asked<'a> {
        Asked {
            format: self.format,
            operation: Operation::Chat,
            model: &self.model,
            id: "7PbQ",
            created: 1_741_569_952,
            kept: &request.kept,
            action: "",
        }
    }

    /// What the client gets for a whole answer; `None` where that passes as it is.
    fn answer(&self, answer: &str, request: &Request) -> Option<Value> {
        let given = self.answers[answer]["plain"].to_string();
        let written = match self.answers["error"]["says"]["status"].as_u64() {
            Some(status) if answer == "error" => {
                self.provider.error(status as u16, given.as_bytes(), self.format)
            }
            _ => self.provider.answer(given.as_bytes(), &self.asked(request), None).unwrap(),
        };
        written.map(|written| serde_json::from_slice(&written).unwrap())
    }

    /// The bytes of a streamed answer, as the provider frames events.
    fn stream(&self, answer: &str) -> Vec<u8> {
        let events = self.answers[answer]["streamed"].as_array().unwrap();
        let data = |event: &Value| event.as_str().map_or_else(|| event.to_string(), str::to_owned);
        let framed: fn(&Value, &str) -> String = match self.wire {
            "bedrock" => return aws_bytes(events),
            "llama2" => |_, data| format!("data:{data}\n\n"),
            "huggingface" if self.passes() => |_, data| format!("data:{data}\n\n"),
            "openai" | "huggingface" => |_, data| format!("data: {data}\n\n"),
            "gemini" => |_, data| format!("data: {data}\r\n\r\n"),
            "ollama" => |_, data| format!("{data}\n"),
            _ => |event, data| format!("event: {}\ndata: {data}\n\n", event["type"].as_str().unwrap()),
        };
        events.iter().map(|event| framed(event, &data(event))).collect::<String>().into_bytes()
    }

    /// What the client gets of a streamed answer that comes in these pieces.
    fn streamed<'a>(&self, request: &Request, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
        self.shaped(Shape::Events, request, pieces)
    }

    fn shaped<'a>(
        &self,
        shape: Shape,
        request: &Request,
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) -> Vec<u8> {
        let wishes = StreamWishes { hide_usage: request.sent.hide_usage, keep_text: true, shape };
        let mut stream = self.provider.stream(&self.asked(request), wishes);
        let mut client = Vec::new();
        for piece in pieces {
            client.extend_from_slice(&stream.chunk(Bytes::copy_from_slice(piece)));
        }
        client.extend_from_slice(&stream.end());
        client
    }

    /// The client's events of bytes.
    fn events(&self, bytes: &[u8]) -> Vec<Value> {
        if self.client == "bedrock" {
            return aws_events(bytes);
        }
        let text = std::str::from_utf8(bytes).unwrap();
        let end = if self.client == "gemini" { "\r\n\r\n" } else { "\n\n" };
        assert!(text.ends_with(end), "{}: {text}", self.name());
        let events = text.strip_suffix(end).unwrap().split(end).map(|event| {
            let (name, data) = match event.strip_prefix("event: ").and_then(|event| event.split_once('\n')) {
                Some((name, data)) => (Some(name), data),
                None => (None, event),
            };
            let data = data.strip_prefix("data:").unwrap_or_else(|| panic!("{}: {event}", self.name()));
            let data = match data.strip_prefix(' ') {
                Some(data) => data,
                // Hugging Face's servers write no space.
                None => Some(data).filter(|_| self.client == PROMPTS && self.passes()).unwrap(),
            };
            let event: Value = serde_json::from_str(data).unwrap_or_else(|_| data.into());
            let named = matches!(self.client, "anthropic" | "cohere" | "responses");
            assert_eq!(name, event["type"].as_str().filter(|_| named), "{}", self.name());
            event
        });
        events.collect()
    }

    /// All that is sent and all that the client gets, as it stands in `expected`.
    fn all(&self) -> Value {
        let mut all = Map::new();
        for name in REQUESTS {
            if self.refusal(name).is_some() {
                let refused = json!({"sent": REFUSED, "sent_for_stream_differs": REFUSED});
                all.insert(name.to_owned(), refused);
                continue;
            }
            let (plain, streamed) = (self.request(name, false), self.request(name, true));
            let body = |request: &Request| serde_json::from_slice::<Value>(&request.sent.body).unwrap();
            let (sent, sent_streamed) = (body(&plain), body(&streamed));
            let other: Map<String, Value> = sent_streamed.as_object().unwrap().clone();
            let other = other.into_iter().filter(|(name, value)| sent.get(name) != Some(value)).collect();
            let part = json!({"sent": sent, "sent_for_stream_differs": Value::Object(other)});
            all.insert(name.to_owned(), part);
        }
        for (answer, request) in ANSWERS {
            if let Some(reason) = self.refusal(request) {
                let refusal = self.format.refusal(400, reason);
                let part = all.entry(answer).or_insert_with(|| json!({}));
                (part["client"], part["client_streamed"]) = (refusal.clone(), refusal);
                continue;
            }
            let (plain, streamed) = (self.request(request, false), self.request(request, true));
            let whole = self.answer(answer, &plain).unwrap_or_else(|| PASSED.into());
            let stream = self.stream(answer);
            let client = self.streamed(&streamed, [&stream[..]]);
            let events = if client == stream { PASSED.into() } else { self.events(&client).into() };
            let part = all.entry(answer).or_insert_with(|| json!({}));
            part["client"] = whole;
            part["client_streamed"] = events;
        }
        if let Some((name, value)) = self.format.error_header(self.status()) {
            all["error"]["header"] = format!("{name}: {value}").into();
        }
        Value::Object(all)
    }

    /// The status of the provider's error.
    fn status(&self) -> u16 {
        self.answers["error"]["says"]["status"].as_u64().unwrap() as u16
    }

    /// What is expected is what happens.
    fn check_expected(&self) {
        let (name, all) = (self.name(), self.all());
        if std::env::var_os("WRITE_EXPECTED").is_some() {
            std::fs::write(place("expected", &name), laid_out(&all, 0) + "\n").unwrap();
        }
        let expected = read("expected", &name);
        for (part, actual) in all.as_object().unwrap() {
            for (what, actual) in actual.as_object().unwrap() {
                assert_eq!(actual, &expected[part][what], "{name}: {part}: {what}");
            }
        }
        assert_eq!(all.as_object().unwrap().len(), expected.as_object().unwrap().len(), "{name}");
    }

    /// All that the client has said is sent, and where the provider speaks its format, as it stands.
    fn check_sent(&self) {
        for name in REQUESTS {
            for streamed in [false, true] {
                if let Some(reason) = self.refusal(name) {
                    assert_eq!(self.ask(name, streamed).err().as_deref(), Some(reason), "{}", self.name());
                    let refusal = self.format.refusal(400, reason);
                    assert_eq!(heard::failure(self.client, &refusal).0, reason, "{}", self.name());
                    continue;
                }
                let request = self.request(name, streamed);
                let sent = std::str::from_utf8(&request.sent.body).unwrap();
                for said in SAID.iter().filter(|said| request.body.contains(**said)) {
                    assert!(sent.contains(said), "{}: {name}: {said} is not in {sent}", self.name());
                }
                let place = self.answers[if streamed { "streamed_path" } else { "path" }].as_str().unwrap();
                let passes_query = self.passes() && place.starts_with(&request.path);
                assert!(request.path == place || passes_query, "{}: {}", self.name(), request.path);
                if !self.passes() {
                    self.check_places(name, &request);
                } else {
                    let sent = Object::parse(&request.sent.body).unwrap();
                    for (member, value) in Object::parse(request.body.as_bytes()).unwrap().members() {
                        assert_eq!(sent.get(member), Some(value), "{}: {name}: {member}", self.name());
                    }
                }
            }
        }
    }

    /// What the client has said stands where the provider's API wants it.
    fn check_places(&self, name: &str, request: &Request) {
        let sent: Value = serde_json::from_slice(&request.sent.body).unwrap();
        if self.client == PROMPTS {
            return self.check_prompt(name, &sent);
        }
        for (place, wanted) in self.answers["gets"][name].as_object().unwrap() {
            // Responses have no texts to stop at.
            if self.client == "responses" && *wanted == json!(["END"]) {
                continue;
            }
            let given = at(&sent, place);
            assert!(is_same(given, wanted), "{}: {name}: {given} is not {wanted} at {place}", self.name());
        }
    }

    /// A prompt stands where the provider's API wants what the user says, and nothing beside it; what is said of how
    /// to go on stands where it wants that of any client.
    fn check_prompt(&self, name: &str, sent: &Value) {
        let inputs = self.asks[name]["inputs"].to_string();
        let inputs = inputs.trim_matches('"');
        for (place, wanted) in self.answers["gets_of_prompt"].as_object().unwrap() {
            let wanted: Value =
                serde_json::from_str(&wanted.to_string().replace("{inputs}", inputs)).unwrap();
            let given = at(sent, place);
            assert_eq!(given, &wanted, "{}: {name}: {place}", self.name());
        }
        if name == "text" {
            let options = self.answers["gets"][name].as_object().unwrap().iter();
            let options =
                options.filter(|(_, wanted)| [json!(256), json!(0.5), json!(["END"])].contains(wanted));
            assert_eq!(options.clone().count(), 3, "{}", self.name());
            options.for_each(|(place, wanted)| assert_eq!(at(sent, place), wanted, "{}", self.name()));
        }
    }

    /// What the client hears is what the provider has said.
    fn check_heard(&self) {
        let answers = ANSWERS.into_iter().filter(|(answer, _)| *answer != "error");
        for (answer, request) in answers.filter(|(_, request)| self.refusal(request).is_none()) {
            let plain = self.answer(answer, &self.request(request, false));
            let plain = plain.unwrap_or_else(|| self.answers[answer]["plain"].clone());
            self.check_says(answer, &heard::whole(self.client, &plain), "plain");
            let events =
                self.events(&self.streamed(&self.request(request, true), [&self.stream(answer)[..]]));
            let disorder = heard::disorder(self.client, &events, false);
            assert_eq!(disorder, None, "{}: {answer}", self.name());
            self.check_says(answer, &heard::streamed(self.client, &events), "streamed");
            // A client that has not asked for a stream gets the same in one piece.
            if !self.passes() {
                let request = self.request(request, false);
                let whole = self.shaped(Shape::Whole, &request, [&self.stream(answer)[..]]);
                let whole = serde_json::from_slice(&whole).unwrap();
                self.check_says(answer, &heard::whole(self.client, &whole), "collected");
            }
        }
    }

    fn check_says(&self, answer: &str, heard: &Heard, how: &str) {
        let (says, of) = (&self.answers[answer]["says"], format!("{}: {answer}: {how}", self.name()));
        assert_eq!(heard.text, says["text"], "{of}");
        // Some tell the tokens of the prompt in streams alone.
        let tokens = [&says["plain_tokens"], &says["tokens"]];
        let mut tokens = tokens
            .into_iter()
            .find(|told| how == "plain" && told.is_array())
            .unwrap_or(&says["tokens"])
            .clone();
        if self.client == PROMPTS && how != "streamed" {
            tokens[0] = 0.into();
        }
        assert_eq!(json!([heard.tokens.0, heard.tokens.1]), tokens, "{of}");
        assert_eq!(heard.finish, finish(self.client, says["finish"].as_str().unwrap()), "{of}");
        let calls =
            says["calls"].as_array().filter(|_| self.client != PROMPTS).map_or(&[][..], |calls| calls);
        assert_eq!(heard.calls.len(), calls.len(), "{of}");
        for (at, (call, says)) in heard.calls.iter().zip(calls).enumerate() {
            assert_eq!(json!([call.name, call.arguments]), json!([says[1], says[2]]), "{of}");
            match says[0].as_str() {
                Some(id) => assert_eq!(call.id, id, "{of}"),
                // Where the provider has none, one is made, unless bytes pass.
                None if self.passes() => {}
                None => {
                    assert!(!call.id.is_empty(), "{of}");
                    assert!(heard.calls.iter().take(at).all(|other| other.id != call.id), "{of}");
                }
            }
        }
    }

    /// Errors reach the client with what they say, called what its format calls them.
    fn check_errors(&self) {
        let says = &self.answers["error"]["says"];
        let plain = self.answer("error", &self.request("text", false));
        let plain = plain.unwrap_or_else(|| self.answers["error"]["plain"].clone());
        let (message, called) = heard::failure(self.client, &plain);
        assert_eq!(message, says["plain"], "{}", self.name());
        if let Some(called) = called {
            assert_eq!(called, error_name(self.client, self.status()), "{}: plain", self.name());
        }
        let events = self.events(&self.streamed(&self.request("text", true), [&self.stream("error")[..]]));
        assert_eq!(heard::disorder(self.client, &events, true), None, "{}", self.name());
        let (message, called) = heard::failure(self.client, events.last().unwrap());
        assert_eq!(message, says["streamed"], "{}", self.name());
        if let Some(called) = called {
            let status = says["streamed_status"].as_u64().unwrap() as u16;
            assert_eq!(called, error_name(self.client, status), "{}: streamed", self.name());
        }
    }

    /// However the bytes of a stream are split, the client gets the same.
    fn check_splits(&self) {
        for (answer, request) in ANSWERS.into_iter().filter(|(_, request)| self.refusal(request).is_none()) {
            let (request, stream) = (self.request(request, true), self.stream(answer));
            let whole = self.streamed(&request, [&stream[..]]);
            for at in 0..=stream.len() {
                let (one, two) = stream.split_at(at);
                let split = self.streamed(&request, [one, two]);
                assert!(split == whole, "{}: {answer}: split at {at}", self.name());
            }
            let bytes = self.streamed(&request, stream.chunks(1));
            assert!(bytes == whole, "{}: {answer}: one byte at a time", self.name());
        }
    }
}

/// What stands at a place: as a JSON pointer, but for `-1`, which is the last item of a list.
fn at<'a>(value: &'a Value, place: &str) -> &'a Value {
    place.split('/').skip(1).fold(value, |value, step| match (value, step.parse::<isize>()) {
        (Value::Array(items), Ok(index)) if index < 0 => &value[items.len().wrapping_add_signed(index)],
        (Value::Array(_), Ok(index)) => &value[index as usize],
        _ => &value[step],
    })
}

/// Whether values are the same, be they JSON or the text of it, in whatever spacing.
fn is_same(one: &Value, other: &Value) -> bool {
    let read = |value: &Value| value.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
    one == other || read(one).is_some_and(|one| read(other) == Some(one))
}

/// What clients say that no provider may miss, whatever the format. Types of a schema are left out: Gemini writes
/// them in capitals.
const SAID: [&str; 12] = [
    "You are terse.",
    r#"What is 1 + 1? Answer in \"quotes\"."#,
    "What is the weather in Paris and in Tokyo?",
    "get_weather",
    "Get the current weather in a city",
    "Name of the city",
    "fahrenheit",
    "celsius",
    "degrees",
    "256",
    "0.5",
    "END",
];

/// The word of a client's format for why an answer ended.
fn finish(client: &str, finish: &str) -> &'static str {
    match (client, finish) {
        ("openai", "stop") => "stop",
        ("openai", "calls") => "tool_calls",
        ("openai", "cut") => "length",
        ("responses", "cut") => "incomplete",
        ("responses", _) => "completed",
        ("anthropic" | "bedrock", "cut") => "max_tokens",
        ("anthropic" | "bedrock", "stop") => "end_turn",
        ("anthropic" | "bedrock", "calls") => "tool_use",
        ("gemini" | "cohere", "cut") => "MAX_TOKENS",
        ("gemini", _) => "STOP",
        ("cohere", "stop") => "COMPLETE",
        ("cohere", "calls") => "TOOL_CALL",
        ("huggingface", "cut") => "length",
        ("huggingface", _) => "eos_token",
        other => panic!("{other:?}"),
    }
}

/// What a client's format calls an error of this status.
fn error_name(client: &str, status: u16) -> &'static str {
    match (client, status) {
        ("anthropic", 429) => "rate_limit_error",
        ("anthropic", 503 | 529) => "overloaded_error",
        ("anthropic", _) => "api_error",
        ("bedrock", 424) => "!modelStreamErrorException",
        ("bedrock", 503 | 529) => "!serviceUnavailableException",
        ("bedrock", 500) => "!internalServerException",
        ("gemini", 429) => "RESOURCE_EXHAUSTED",
        ("gemini", 503 | 529) => "UNAVAILABLE",
        ("gemini", _) => "INTERNAL",
        ("responses", 429) => "rate_limit_exceeded",
        ("responses", _) => "server_error",
        ("cohere", _) => "ERROR",
        ("huggingface", 429 | 503 | 529) => "overloaded",
        ("huggingface", _) => "generation",
        other => panic!("{other:?}"),
    }
}

/// JSON with a line for each member down to the third level, and for each event of a stream.
fn laid_out(value: &Value, level: usize) -> String {
    let indent = "  ".repeat(level + 1);
    let lines = |lines: Vec<String>, open: char, close: char| {
        format!("{open}\n{}\n{}{close}", lines.join(",\n"), "  ".repeat(level))
    };
    match value {
        Value::Object(members) if level < 2 && !members.is_empty() => {
            let member = |(name, value): (&String, &Value)| {
                format!("{indent}{}: {}", json!(name), laid_out(value, level + 1))
            };
            lines(members.iter().map(member).collect(), '{', '}')
        }
        Value::Array(items) if !items.is_empty() => {
            lines(items.iter().map(|item| format!("{indent}{item}")).collect(), '[', ']')
        }
        value => value.to_string(),
    }
}

fn check(client: &'static str) {
    for wire in PROVIDERS {
        let pair = Pair::of(client, wire);
        pair.check_expected();
        pair.check_sent();
        pair.check_heard();
        pair.check_errors();
        pair.check_splits();
    }
}

#[test]
fn openai() {
    check("openai");
}

#[test]
fn responses() {
    check("responses");
}

#[test]
fn anthropic() {
    check("anthropic");
}

#[test]
fn bedrock() {
    check("bedrock");
}

#[test]
fn gemini() {
    check("gemini");
}

#[test]
fn cohere() {
    check("cohere");
}

#[test]
fn huggingface() {
    check("huggingface");
}

/// Every cell stands in the files.
#[test]
fn no_cell_is_missing() {
    let requests =
        REQUESTS.iter().flat_map(|name| ["sent", "sent_for_stream_differs"].map(|what| (*name, what)));
    let answers =
        ANSWERS.iter().flat_map(|(name, _)| ["client", "client_streamed"].map(|what| (*name, what)));
    let cells: Vec<(&str, &str)> = requests.chain(answers).collect();
    let mut missing = Vec::new();
    for client in CLIENTS {
        for wire in PROVIDERS {
            let name = format!("{client}-{wire}");
            let text = std::fs::read_to_string(place("expected", &name)).unwrap_or_default();
            let expected: Value = serde_json::from_str(&text).unwrap_or_default();
            let gone = cells.iter().filter(|(part, what)| expected[part][what].is_null());
            missing.extend(gone.map(|(part, what)| format!("{name}: {part}: {what}")));
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}
