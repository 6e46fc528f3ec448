//! System calls that need `unsafe` or have no safe wrapper.
