//! Any bytes as AWS's binary event stream: the pieces in which they come make no difference, and clients get whole
//! events. Frames that follow the length bytes get their checksums right, so that more than the prelude is read.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let providers = tollgate_fuzz::providers();
    let Some(bedrock) = providers.iter().find(|provider| provider.name() == "bedrock") else { return };
    tollgate_fuzz::stream(&**bedrock, bytes);
    if let Some((lengths, stream)) = bytes.split_first_chunk::<4>() {
        let mended = tollgate_fuzz::frames(stream);
        tollgate_fuzz::stream(&**bedrock, &[lengths.as_slice(), &mended].concat());
    }
});
