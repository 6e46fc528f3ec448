//! Descriptors that the runtime watches.
#![expect(unsafe_code, reason = "tokio cannot see that an OwnedFd always names the same open descriptor")]

use std::io;
use std::os::fd::OwnedFd;
use tokio::io::unix::AsyncFd;

/// Watches a non-blocking descriptor for readiness.
pub fn watch(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd returns the same descriptor every time, and keeps it open until AsyncFd drops it.
    Ok(unsafe { AsyncFd::register(descriptor) }?)
}
