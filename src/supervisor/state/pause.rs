//! Pure: how long to wait before the next attempt after workers that failed.

use std::time::{Duration, Instant};

/// First pause; doubles with every further failure.
const PAUSE_MIN: Duration = Duration::from_millis(250);
/// Longest pause, before the jitter.
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// A failure this long after the one before is the first of a new row.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// Failures in a row, and the pause that follows from them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Backoff {
    failures: u32,
    last: Option<Instant>,
    until: Option<Instant>,
}

impl Backoff {
    pub(super) const fn new() -> Self {
        Self { failures: 0, last: None, until: None }
    }

    /// One more failure. Returns the pause, lengthened by up to a quarter: `jitter` is a random number.
    pub(super) fn fail(&mut self, now: Instant, jitter: u64) -> Duration {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) > FORGOTTEN_AFTER) {
            self.failures = 0;
        }
        let pause = PAUSE_MIN.saturating_mul(1 << self.failures.min(10)).min(PAUSE_MAX);
        let pause = pause + pause / 4 * u32::from(jitter as u8) / 256;
        self.failures += 1;
        self.last = Some(now);
        self.until = Some(now + pause);
        pause
    }

    /// Failures in a row.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// When the next attempt may begin; `None` when it may now.
    pub(super) fn until(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| now < *until)
    }
}

/// Random numbers for jitter, the same ones for the same seed (`SplitMix64`).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Jitter(pub(crate) u64);

impl Jitter {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.0;
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        number ^ (number >> 31)
    }

    /// From zero to one less than `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    /// From zero to `most`.
    pub(crate) fn up_to(&mut self, most: Duration) -> Duration {
        most.mul_f64((self.next() >> 11) as f64 / (1_u64 << 53) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_are_bounded_and_forgotten() {
        let now = Instant::now();
        let mut backoff = Backoff::new();
        let pauses: Vec<u128> = (0..8).map(|_| backoff.fail(now, 0).as_millis()).collect();
        assert_eq!(pauses, [250, 500, 1000, 2000, 4000, 8000, 15_000, 15_000]);
        let later = now + FORGOTTEN_AFTER + Duration::from_secs(1);
        assert_eq!(backoff.until(now), Some(now + PAUSE_MAX));
        assert_eq!(backoff.until(later), None);
        assert_eq!(backoff.fail(later, 0), PAUSE_MIN);
    }

    #[test]
    fn jitter_lengthens_by_a_quarter_at_most() {
        let mut jitter = Jitter(7);
        for _ in 0..1000 {
            let pause = Backoff::new().fail(Instant::now(), jitter.next());
            assert!(pause >= PAUSE_MIN && pause < PAUSE_MIN * 5 / 4, "{pause:?}");
            assert!(jitter.up_to(PAUSE_MAX) <= PAUSE_MAX);
        }
    }
}
