//! Any bytes as a request of Gemini's API, to every provider.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate_llm::{Format, Operation};

const CALLS: &[(Operation, &str)] = &[
    (Operation::Chat, "/v1beta/models/m-1:generateContent"),
    (Operation::Chat, "/v1beta/models/m-1:streamGenerateContent"),
    (Operation::Chat, "/v1beta/models/m-1:countTokens"),
    (Operation::Embeddings, "/v1beta/models/m-1:embedContent"),
];

fuzz_target!(|bytes: &[u8]| tollgate_fuzz::request(Format::Gemini, CALLS, bytes));
