//! Any bytes as server-sent events: nothing is lost or doubled, and the pieces in which they come make no difference.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tollgate_llm::sse::Splitter;

fuzz_target!(|bytes: &[u8]| {
    let Some((lengths, stream)) = bytes.split_first_chunk::<4>() else { return };
    let run = |lengths: &[usize]| {
        let (mut passing, mut watching) = (Splitter::default(), Splitter::default());
        let (mut passed, mut watched) = (Vec::new(), Vec::new());
        let mut rest = stream;
        for length in lengths.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at(rest.len().min(*length));
            let piece = Bytes::copy_from_slice(piece);
            watching.watch(&piece, |event| watched.push(event.to_vec()));
            passing.pass(piece, |event| passed.push(event.to_vec()));
            rest = after;
        }
        assert_eq!(passed, watched);
        assert_eq!([passed.concat(), passing.end().to_vec()].concat(), stream);
        passed
    };
    assert_eq!(run(&[stream.len()]), run(&lengths.map(|length| usize::from(length) + 1)));
    for provider in tollgate_fuzz::providers().iter().filter(|provider| provider.name() != "bedrock") {
        tollgate_fuzz::stream(&**provider, bytes);
    }
});
