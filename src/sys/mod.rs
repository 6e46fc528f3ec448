//! System calls that need `unsafe` or have no safe wrapper.

#[expect(unsafe_code, reason = "a number given on the command line becomes an owned descriptor")]
pub mod socket;
