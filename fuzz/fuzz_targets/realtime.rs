//! Any bytes as the frames of a WebSocket: the pieces in which they come make no difference to what is read of them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate_llm::realtime::Conversation;

fuzz_target!(|bytes: &[u8]| {
    let Some((lengths, frames)) = bytes.split_first_chunk::<4>() else { return };
    let read = |lengths: &[usize]| {
        let mut conversation = Conversation::default();
        tollgate_fuzz::pieces(frames, lengths).for_each(|piece| conversation.read(piece));
        (conversation.answers(), conversation.take_seen())
    };
    assert_eq!(read(&[frames.len()]), read(&lengths.map(|length| usize::from(length) + 1)), "in pieces");
});
