//! Any bytes as a request of Hugging Face's text generation, to every provider.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate_llm::{Format, Operation};

const CALLS: &[(Operation, &str)] =
    &[(Operation::Chat, "/generate"), (Operation::Chat, "/generate_stream"), (Operation::Chat, "/")];

fuzz_target!(|bytes: &[u8]| tollgate_fuzz::request(Format::HuggingFace, CALLS, bytes));
