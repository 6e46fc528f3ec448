//! When a finished answer may wait for the ones after it.
//!
//! Answers of one turn of the loop leave with one write. That is free while applications answer in microseconds; behind
//! one that blocks the loop for longer, an answer that was finished before it would wait for nothing. So as soon as
//! one was slow, everything finished leaves before the next application is entered, until they are fast again.

/// Nanoseconds between two entries in one turn, above which waiting for the next costs more than a write.
const SLOW: u64 = 200_000;
/// How fast a slow one is forgotten: by this part per entry.
const DECAY: u64 = 16;

/// What is known of the recent entries.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// The last entry of this turn, in nanoseconds of the monotonic clock; zero before the first.
    entered: u64,
    /// The slowest recent application, fading.
    slowest: u64,
}

impl Pace {
    /// A turn of the loop begins.
    pub(super) fn begin_turn(&mut self) {
        self.entered = 0;
    }

    /// An application is about to be entered. True when what is finished should leave first.
    pub(super) fn enter(&mut self, now: u64) -> bool {
        self.slowest -= self.slowest / DECAY;
        if self.entered > 0 {
            self.slowest = self.slowest.max(now.saturating_sub(self.entered));
        }
        self.entered = now;
        self.slowest > SLOW
    }
}
