//! Any bytes as a request of Anthropic's Messages, to every provider.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate_llm::{Format, Operation};

const CALLS: &[(Operation, &str)] =
    &[(Operation::Chat, "/v1/messages"), (Operation::Chat, "/v1/messages/count_tokens")];

fuzz_target!(|bytes: &[u8]| tollgate_fuzz::request(Format::Anthropic, CALLS, bytes));
