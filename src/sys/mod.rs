//! System calls that need `unsafe` or have no safe wrapper.

pub mod readiness;
#[expect(unsafe_code, reason = "a number given on the command line becomes an owned descriptor")]
pub mod socket;
pub mod spawn;
pub mod unix_socket;

use rustix::fs::{Mode, OFlags};
use std::io;
use std::os::fd::OwnedFd;

/// A file without a name in the directory for temporary files: it vanishes with its last descriptor.
pub fn unnamed_file() -> io::Result<OwnedFd> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    match rustix::fs::open(std::env::temp_dir(), flags, mode) {
        Ok(file) => Ok(file),
        // Some file systems (overlay on old kernels, NFS) cannot do it; memory can.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR | rustix::io::Errno::INVAL) => {
            Ok(rustix::fs::memfd_create("monoceros-body", rustix::fs::MemfdFlags::CLOEXEC)?)
        }
        Err(error) => Err(error.into()),
    }
}

/// Allows as many open files as the system does: every connection is one.
pub fn raise_descriptor_limit() -> io::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?)
}

/// Memory of a process that is in RAM, in bytes; `None` when it is gone.
pub fn resident_memory(pid: u32) -> Option<u64> {
    let pages = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?.split_whitespace().nth(1)?.parse::<u64>();
    Some(pages.ok()? * rustix::param::page_size() as u64)
}

/// How many processes the kernel has killed because memory ran out, since the machine started; zero where it does not
/// tell.
pub fn memory_kills() -> u64 {
    let text = std::fs::read_to_string("/proc/vmstat").unwrap_or_default();
    let count = text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok());
    count.unwrap_or(0)
}
