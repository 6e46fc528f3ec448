//! The frame watch never panics, whatever a client sends.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::time::Duration;

fuzz_target!(|pieces: Vec<&[u8]>| {
    let mut watch = monoceros::front::gate::frames::Watch::default();
    for piece in pieces {
        watch.sent(piece);
        if watch.received(piece, Duration::ZERO).is_err() {
            break;
        }
    }
});
