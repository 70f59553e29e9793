//! Any text with `${{ env … }}`: replaced or refused, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate_declare::environment::substitute;

fuzz_target!(|text: &str| {
    let variable = |name: &str| name.ends_with('A').then(|| "line 1\nline 2".to_owned());
    let _ = substitute("f", text, &variable);
});
