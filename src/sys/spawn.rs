//! Starting a child that keeps chosen descriptors and dies with us.
#![expect(unsafe_code, reason = "code between fork and exec cannot be proved safe by the compiler")]

use rustix::process::Signal;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;

/// Lets the child inherit `descriptors` (their numbers stay the same), puts it into a process group of its own, so that
/// Ctrl-C reaches only us, and has it killed when the calling thread ends, which must be one that lives as long as the
/// program.
pub fn prepare_child(command: &mut Command, descriptors: Vec<Arc<OwnedFd>>) {
    let parent = rustix::process::getpid();
    let before_exec = move || -> io::Result<()> {
        for descriptor in &descriptors {
            // SAFETY: the Arc keeps the descriptor open.
            let descriptor = unsafe { BorrowedFd::borrow_raw(descriptor.as_raw_fd()) };
            rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::empty())?;
        }
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // We may have died before the line above.
        if rustix::process::getppid() != Some(parent) {
            return Err(io::Error::from_raw_os_error(rustix::io::Errno::SRCH.raw_os_error()));
        }
        Ok(())
    };
    command.process_group(0);
    // SAFETY: the closure only makes system calls that are async-signal-safe; it allocates nothing and takes no lock.
    unsafe { command.pre_exec(before_exec) };
}
