//! Descriptors: a connection is taken only while enough are left for the files that the open ones may need.
//!
//! A request on an open connection may take more: an upload or an answer in a temporary file, a file to send. Without one
//! left for it that request fails, so new clients wait in the kernel's queue instead.

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::Duration;

/// How long until the next look, when there was no room.
pub(super) const PAUSE: Duration = Duration::from_millis(50);

/// The descriptor number from which on there is no room for more connections. The system gives out the lowest number
/// that is free: one that is this high tells that all below it are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ceiling(Option<RawFd>);

impl Ceiling {
    /// By the limit of this process (`RLIMIT_NOFILE`).
    pub(super) fn of_process() -> Self {
        Self::below(rustix::process::getrlimit(rustix::process::Resource::Nofile).current)
    }

    fn below(limit: Option<u64>) -> Self {
        Self(limit.and_then(|limit| RawFd::try_from(limit.saturating_sub(reserve(limit))).ok()))
    }

    pub(super) fn is_reached_by(self, descriptor: RawFd) -> bool {
        self.0.is_some_and(|ceiling| descriptor >= ceiling)
    }

    /// Whether there is room again.
    pub(super) fn has_room(self, any: &impl AsFd) -> bool {
        match rustix::io::fcntl_dupfd_cloexec(any, 0) {
            Ok(lowest) => !self.is_reached_by(lowest.as_raw_fd()),
            Err(_) => false,
        }
    }
}

/// Descriptors that connections do not get.
fn reserve(limit: u64) -> u64 {
    (64 + limit / 16).min(limit / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_a_part_of_the_descriptors() {
        for (limit, ceiling) in [(64, 48), (256, 192), (1024, 896), (65_536, 61_376)] {
            assert_eq!(Ceiling::below(Some(limit)), Ceiling(Some(ceiling)), "{limit}");
        }
        let ceiling = Ceiling::below(Some(1024));
        assert!(!ceiling.is_reached_by(895));
        assert!(ceiling.is_reached_by(896));
        assert!(!Ceiling::below(None).is_reached_by(RawFd::MAX), "no limit");
    }

    #[test]
    fn the_lowest_free_number_is_looked_at() {
        let file = std::fs::File::open("/dev/null").expect("a file");
        assert!(Ceiling(Some(RawFd::MAX)).has_room(&file));
        assert!(!Ceiling(Some(0)).has_room(&file));
    }
}
