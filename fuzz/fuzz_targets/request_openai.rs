//! Any bytes as a request of OpenAI's chats, completions, embeddings, to every provider.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate_llm::{Format, Operation};

const CALLS: &[(Operation, &str)] = &[
    (Operation::Chat, "/v1/chat/completions"),
    (Operation::Completions, "/v1/completions"),
    (Operation::Embeddings, "/v1/embeddings"),
];

fuzz_target!(|bytes: &[u8]| tollgate_fuzz::request(Format::OpenAi, CALLS, bytes));
