//! Processes that lost their parent and became ours, because we are process 1 of a container: their ends have to be
//! taken note of, or they stay in the table of processes for ever.

use rustix::process::{Pid, WaitId, WaitIdOptions};
use std::fs;

/// Whether this is the process that inherits orphans.
pub(super) fn are_ours() -> bool {
    std::process::id() == 1
}

/// Takes note of the ends of all children but `own`, which somebody waits for.
pub(super) fn reap(own: &[u32]) {
    for child in children().into_iter().filter(|child| !own.contains(child)) {
        if let Some(pid) = i32::try_from(child).ok().and_then(Pid::from_raw) {
            // Nothing to tell: it runs, or is gone.
            let _ = rustix::process::waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
        }
    }
}

fn children() -> Vec<u32> {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn only_the_ends_of_others_are_taken_note_of() {
        let spawn = || Command::new("true").stdin(Stdio::null()).spawn();
        let (Ok(mut own), Ok(other)) = (spawn(), spawn()) else { panic!("`true` is missing") };
        let is_there = |pid: u32| fs::exists(format!("/proc/{pid}")).unwrap_or_default();
        assert!(children().contains(&own.id()));
        while is_there(other.id()) {
            reap(&[own.id()]);
            std::thread::yield_now();
        }
        assert!(own.wait().is_ok_and(|status| status.success()), "its end was left to us");
    }
}
