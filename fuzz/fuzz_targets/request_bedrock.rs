//! Any bytes as a request of Bedrock's Converse, and of what its models take as it is, to every provider.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate_llm::{Format, Operation};

const CALLS: &[(Operation, &str)] = &[
    (Operation::Chat, "/model/m/converse"),
    (Operation::Chat, "/model/m/converse-stream"),
    (Operation::Chat, "/model/m/invoke"),
    (Operation::Chat, "/model/m/invoke-with-response-stream"),
];

fuzz_target!(|bytes: &[u8]| tollgate_fuzz::request(Format::Bedrock, CALLS, bytes));
