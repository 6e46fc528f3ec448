//! A normal path stays as it is, and holds no dot segment.
#![no_main]

use libfuzzer_sys::fuzz_target;
use monoceros::front::gate::path::normalise;

fuzz_target!(|path: &str| {
    if let Ok(normal) = normalise(path) {
        assert!(normal.starts_with('/') && !normal.starts_with("//"));
        assert!(normal.split('/').all(|segment| segment != "." && segment != ".."));
        assert_eq!(normalise(&normal).as_deref(), Ok(&*normal));
    }
});
