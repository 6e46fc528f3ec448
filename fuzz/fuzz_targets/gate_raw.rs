//! The scanner of HTTP/1 bytes never panics, and its verdict does not depend on how the bytes are cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use monoceros::front::gate::raw::{Limits, Scanner, Verdict};

const LIMITS: Limits = Limits { target_bytes: 64, header_bytes: 512, header_fields: 8 };

fn scan(bytes: &[u8], cut: usize) -> (Verdict, usize, u64) {
    let mut scanner = Scanner::new(LIMITS);
    let (mut passed, mut end, mut verdict) = (0, 0, Verdict::More);
    while end < bytes.len() && verdict == Verdict::More {
        end = (end + cut).min(bytes.len());
        let scan = scanner.scan(&bytes[passed..end]);
        passed += scan.passed;
        verdict = scan.verdict;
    }
    (verdict, passed, scanner.heads())
}

fuzz_target!(|input: (u8, &[u8])| {
    let (cut, bytes) = input;
    assert_eq!(scan(bytes, usize::from(cut) + 1), scan(bytes, bytes.len().max(1)));
});
