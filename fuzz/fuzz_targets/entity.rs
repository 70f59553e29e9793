//! Any JSON as any entity: filled or refused, never a panic; what was filled stays as it is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate_model::{Kind, Map, Mode, Value};

fuzz_target!(|bytes: &[u8]| {
    let Ok(Value::Object(input)) = serde_json::from_slice::<Value>(bytes) else { return };
    for kind in Kind::ALL {
        let check = |input: Map<String, Value>| kind.schema().check(input, Mode::Update);
        match check(input.clone()) {
            Ok(filled) => assert_eq!(check(filled.clone()).ok(), Some(filled)),
            Err(errors) => assert!(!errors.summary().is_empty()),
        }
    }
});
