//! The configuration file: no text may make the reader panic, and its positions stay inside the text.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| monoceros::config::file::exercise(text));
