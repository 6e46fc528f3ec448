//! Starting a child that keeps chosen descriptors and dies with us; a successor does so only until it serves.
#![expect(unsafe_code, reason = "code between fork and exec cannot be proved safe by the compiler")]

use rustix::process::Signal;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;

/// Lets the child inherit `descriptors` (their numbers stay the same), puts it into a process group of its own, so that
/// Ctrl-C reaches only us, and has it killed when the calling thread ends, which must be one that lives as long as the
/// program.
pub fn prepare_child(command: &mut Command, descriptors: Vec<Arc<OwnedFd>>) {
    let parent = rustix::process::getpid();
    let before_exec = move || {
        keep(descriptors.iter().map(AsRawFd::as_raw_fd))?;
        die_with(parent)
    };
    command.process_group(0);
    // SAFETY: the closure only makes system calls that are async-signal-safe; it allocates nothing and takes no lock.
    unsafe { command.pre_exec(before_exec) };
}

/// Starts a child that inherits `descriptors` (their numbers stay the same) and dies with the calling thread until it
/// calls [`outlive_parent`].
pub fn spawn_successor(mut command: Command, descriptors: &[BorrowedFd<'_>]) -> io::Result<tokio::process::Child> {
    let parent = rustix::process::getpid();
    let numbers: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let before_exec = move || {
        keep(numbers.iter().copied())?;
        die_with(parent)
    };
    // SAFETY: as above; the descriptors are borrowed until the child has been started.
    unsafe { command.pre_exec(before_exec) };
    tokio::process::Command::from(command).spawn()
}

/// From now on the end of the parent is not ours.
pub fn outlive_parent() -> io::Result<()> {
    Ok(rustix::process::set_parent_process_death_signal(None)?)
}

/// Between fork and exec: these stay open.
fn keep(numbers: impl Iterator<Item = RawFd>) -> io::Result<()> {
    for number in numbers {
        // SAFETY: the callers keep it open.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::empty())?;
    }
    Ok(())
}

/// Between fork and exec: the end of the parent is ours.
fn die_with(parent: rustix::process::Pid) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // It may have died before the line above.
    if rustix::process::getppid() != Some(parent) {
        return Err(io::Error::from_raw_os_error(rustix::io::Errno::SRCH.raw_os_error()));
    }
    Ok(())
}
