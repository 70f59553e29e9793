//! Any bytes as a provider's answer, whole and streamed, in every client's format. The first byte names the provider.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((chosen, bytes)) = bytes.split_first() else { return };
    let providers = tollgate_fuzz::providers();
    let provider = &*providers[usize::from(*chosen) % providers.len()];
    tollgate_fuzz::stream(provider, bytes);
    if let Some((_, body)) = bytes.split_first_chunk::<4>() {
        tollgate_fuzz::answer(provider, body);
    }
});
