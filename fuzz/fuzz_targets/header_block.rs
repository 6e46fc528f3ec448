//! Any HPACK block: no panic, whatever it holds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use monoceros::front::gate::header_block;

fuzz_target!(|block: &[u8]| {
    let _ = header_block::check(block, header_block::most_entries());
    let _ = header_block::has_pseudo_field(block);
});
