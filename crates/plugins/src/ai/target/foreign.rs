//! What clients of a format send along, and what only the provider can make use of whose format it is.

use serde_json::json;
use tollgate_gateway::{Exchange, query};
use tollgate_http::{Response, StatusCode};
use tollgate_llm::json::Object;
use tollgate_llm::{Format, Operation, estimate};

use super::account::FIELDS;
use super::{Target, refuse};

/// Keys of clients of Anthropic.
const KEYS: [&str; 2] = ["authorization", "x-api-key"];

/// Keys of clients of Gemini; in the query it is [`GEMINI_ARGUMENT`].
const GEMINI_KEYS: [&str; 2] = ["authorization", "x-goog-api-key"];
const GEMINI_ARGUMENT: &[u8] = b"key";

/// Key of clients of Cohere, and of Hugging Face.
const BEARER_KEYS: [&str; 1] = ["authorization"];

/// What Anthropic's clients tell Anthropic.
const ANTHROPIC: [&str; 3] =
    ["anthropic-version", "anthropic-beta", "anthropic-dangerous-direct-browser-access"];

/// Takes away the client's keys where the gateway has a key of its own, or the provider is another than the client
/// believes; and what only that one would understand. Clients of OpenAI's format keep what they send (Kong 3.11).
pub(super) fn remove(target: &Target, exchange: &mut Exchange) {
    let format = target.shared.format;
    let (keys, own) = match format {
        Format::Anthropic => (&KEYS[..], "anthropic"),
        Format::Bedrock => (&FIELDS[..], "bedrock"),
        Format::Gemini => (&GEMINI_KEYS[..], "gemini"),
        Format::Cohere => (&BEARER_KEYS[..], "cohere"),
        Format::HuggingFace => (&BEARER_KEYS[..], "huggingface"),
        Format::OpenAi | Format::Responses => return,
    };
    let is_own = target.shared.provider.name() == own;
    let headers = &mut exchange.head.headers;
    if !is_own || target.proves_itself() {
        let kept = target.auth.header_name.as_deref().filter(|_| target.keeps_own_auth());
        for name in keys.iter().filter(|name| !kept.is_some_and(|kept| kept.eq_ignore_ascii_case(name))) {
            headers.remove(name);
        }
        let keeps_argument = target.keeps_own_auth()
            && target.auth.param_name.as_deref().is_some_and(|name| name.as_bytes() == GEMINI_ARGUMENT);
        if format == Format::Gemini && !keeps_argument {
            without_argument(exchange, GEMINI_ARGUMENT);
        }
    }
    if format == Format::Anthropic && !is_own {
        for name in ANTHROPIC {
            exchange.head.headers.remove(name);
        }
        // Anthropic's clients add `beta=true` to the query.
        without_argument(exchange, b"beta");
    }
}

/// Names of header fields that may be taken away from clients of a format.
pub(super) fn names(format: Format) -> impl Iterator<Item = &'static str> {
    let (keys, others) = match format {
        Format::Anthropic => (&KEYS[..], &ANTHROPIC[..]),
        Format::Bedrock => (&FIELDS[..], &[][..]),
        Format::Gemini => (&GEMINI_KEYS[..], &[][..]),
        Format::Cohere | Format::HuggingFace => (&BEARER_KEYS[..], &[][..]),
        Format::OpenAi | Format::Responses => (&[][..], &[][..]),
    };
    keys.iter().chain(others).copied()
}

/// Takes an argument out of the query; one without it keeps its bytes.
fn without_argument(exchange: &mut Exchange, name: &[u8]) {
    let Some(arguments) = exchange.query.take() else { return };
    let rest: Vec<query::Pair<'_>> = query::pairs(&arguments).filter(|(other, _)| **other != *name).collect();
    exchange.query = match rest.len() {
        0 => None,
        left if left == query::pairs(&arguments).count() => Some(arguments),
        _ => Some(query::write(rest).into()),
    };
}

impl Target {
    /// Whether the gateway has a key for the provider.
    fn proves_itself(&self) -> bool {
        self.auth.header_name.is_some() || self.auth.param_name.is_some() || self.account.is_some()
    }

    /// The answer to Anthropic's `count_tokens` where the provider cannot give it: an estimate. `None` for any other
    /// request.
    pub(in crate::ai) fn counted(&self, exchange: &Exchange, body: Option<&[u8]>) -> Option<Response> {
        let format = self.shared.format;
        let path = exchange.received_target.split(|byte| *byte == b'?').next().unwrap_or_default();
        let is_wanted = format == Format::Anthropic
            && self.shared.operation == Operation::Chat
            && self.shared.provider.name() != "anthropic"
            && path.trim_ascii_end().ends_with(b"/count_tokens");
        if !is_wanted {
            return None;
        }
        let body = body.unwrap_or_default();
        if Object::parse(body).is_none_or(|object| object.get("messages").is_none()) {
            let message = "request body doesn't contain valid prompts";
            return Some(refuse(format, StatusCode::BAD_REQUEST, message));
        }
        let count = json!({"input_tokens": estimate::message_tokens(body)});
        Some(tollgate_gateway::answer::json(StatusCode::OK, &count))
    }
}
