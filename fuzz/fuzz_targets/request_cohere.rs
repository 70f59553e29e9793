//! Any bytes as a request of Cohere's API, to every provider.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate_llm::{Format, Operation};

const CALLS: &[(Operation, &str)] = &[
    (Operation::Chat, "/v2/chat"),
    (Operation::Chat, "/v1/chat"),
    (Operation::Embeddings, "/v2/embed"),
    (Operation::Chat, "/v2/rerank"),
];

fuzz_target!(|bytes: &[u8]| tollgate_fuzz::request(Format::Cohere, CALLS, bytes));
