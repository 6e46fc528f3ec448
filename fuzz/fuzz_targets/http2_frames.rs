//! Any bytes of an HTTP/2 client: no panic, whatever they are.
#![no_main]

use libfuzzer_sys::fuzz_target;
use monoceros::front::gate::frames::Watch;
use std::time::Duration;

fuzz_target!(|bytes: &[u8]| {
    let _ = Watch::default().received(bytes, Duration::ZERO);
});
