//! Any bytes as a request of OpenAI's Responses, to every provider.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate_llm::{Format, Operation};

const CALLS: &[(Operation, &str)] = &[(Operation::Responses, "/v1/responses")];

fuzz_target!(|bytes: &[u8]| tollgate_fuzz::request(Format::Responses, CALLS, bytes));
