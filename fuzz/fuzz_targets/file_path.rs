//! Any path of a request: what it resolves to never leaves the directory.
#![no_main]

use libfuzzer_sys::fuzz_target;
use monoceros::front::files::path::{Resolution, resolve};

fuzz_target!(|path: &str| {
    if let Resolution::Covered { target, .. } = resolve(path, &["/static", "/"]) {
        let relative = target.relative();
        assert!(!relative.starts_with(b"/"));
        assert!(!relative.iter().any(|byte| matches!(byte, 0 | b'\\')));
        assert!(relative.split(|byte| *byte == b'/').all(|segment| segment != b"." && segment != b".."));
    }
});
