//! Any `Cache-Control` or `CDN-Cache-Control`: it is read without a panic, and no time is beyond what is told apart.
#![no_main]

use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use monoceros::front::cache::directives::{Directives, TARGETED};

fuzz_target!(|input: (&[u8], bool)| {
    let (value, is_targeted) = input;
    let Ok(value) = HeaderValue::from_bytes(value) else { return };
    let name = if is_targeted { TARGETED } else { http::header::CACHE_CONTROL };
    let headers = HeaderMap::from_iter([(name, value)]);
    let (directives, _) = Directives::of_answer(&headers);
    for seconds in [directives.max_age, directives.shared_max_age, directives.stale_if_error].into_iter().flatten() {
        assert!(seconds <= 1 << 31);
    }
});
