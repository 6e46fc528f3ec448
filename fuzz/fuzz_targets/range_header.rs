//! Any `Range` header: what it selects lies inside the file and does not overlap.
#![no_main]

use libfuzzer_sys::fuzz_target;
use monoceros::front::files::range::{Selection, select};

fuzz_target!(|input: (u64, &[u8])| {
    let (length, value) = input;
    let parts = match select(value, length) {
        Selection::Whole | Selection::Unsatisfiable => return,
        Selection::Part(part) => vec![part],
        Selection::Parts(parts) => parts,
    };
    let mut total = 0_u64;
    for part in &parts {
        assert!(part.start < part.end && part.end <= length);
        total += part.end - part.start;
    }
    assert!(total <= length);
});
