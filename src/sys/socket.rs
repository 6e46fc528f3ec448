//! Listening sockets that the parent process opened for us.

use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// The variable with which a server tells its successor what it hands over. For that one process alone.
pub const HANDOVER_VARIABLE: &str = "MONOCEROS_HANDOVER";

/// How a service manager says which listening sockets it has opened, and for whom (`sd_listen_fds(3)`).
pub const ACTIVATION_VARIABLES: [&str; 3] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];

/// Takes over an inherited file descriptor.
///
/// The caller names each number once; a second call with the same number would own it twice.
pub fn adopt_descriptor(number: RawFd) -> io::Result<OwnedFd> {
    if number < 3 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "descriptors 0, 1 and 2 are standard input and output",
        ));
    }
    // SAFETY: the borrow ends with this block; `fcntl` on a number that is not open only returns EBADF.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    let flags = rustix::io::fcntl_getfd(borrowed)?;
    // Workers are spawned later and must not inherit the listener.
    rustix::io::fcntl_setfd(borrowed, flags | rustix::io::FdFlags::CLOEXEC)?;
    // SAFETY: the number is open (checked above) and, by this function's contract, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
