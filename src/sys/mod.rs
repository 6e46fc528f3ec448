//! System calls that need `unsafe` or have no safe wrapper.

pub mod readiness;
#[expect(unsafe_code, reason = "a number given on the command line becomes an owned descriptor")]
pub mod socket;
pub mod spawn;
pub mod unix_socket;

use rustix::fs::{Mode, OFlags};
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

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

/// The same, where each page that others have too counts as a part only: the sizes of several processes add up. The kernel
/// looks at every page for it. `None` when the process is gone, or not ours to look at.
pub fn proportional_memory(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let kilobytes =
        text.lines().find_map(|line| line.strip_prefix("Pss:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    Some(kilobytes? << 10)
}

/// Processor time that a process has wanted since it began: what its threads used, and what they waited for while others
/// had the processors. Where the kernel does not count that, what they used. `None` when the process is gone.
pub fn cpu_time(pid: u32) -> Option<Duration> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
    // "used waited turns", in nanoseconds (Documentation/scheduler/sched-stats.rst).
    let wanted =
        |text: String| text.split_whitespace().take(2).filter_map(|time| time.parse::<u64>().ok()).sum::<u64>();
    let times =
        threads.filter_map(|thread| Some(wanted(std::fs::read_to_string(thread.path().join("schedstat")).ok()?)));
    match times.sum::<u64>() {
        0 => used_time(pid),
        nanoseconds => Some(Duration::from_nanos(nanoseconds)),
    }
}

fn used_time(pid: u32) -> Option<Duration> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses and may hold anything; utime and stime are the 14th and 15th field (proc(5)).
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second().max(1)))
}

/// How many processes the kernel has killed because memory ran out, since the machine started; zero where it does not
/// tell.
pub fn memory_kills() -> u64 {
    let text = std::fs::read_to_string("/proc/vmstat").unwrap_or_default();
    let count = text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok());
    count.unwrap_or(0)
}
