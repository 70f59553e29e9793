//! Any bytes as a request of OpenAI's chats, completions, embeddings and images, to every provider.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate_llm::{Format, Operation};

const CALLS: &[(Operation, &str)] = &[
    (Operation::Chat, "/v1/chat/completions"),
    (Operation::Completions, "/v1/completions"),
    (Operation::Embeddings, "/v1/embeddings"),
    (Operation::Images, "/v1/images/generations"),
    (Operation::ImageEdits, "/v1/images/edits"),
];

fuzz_target!(|bytes: &[u8]| tollgate_fuzz::request(Format::OpenAi, CALLS, bytes));
