//! Pure: whether the event loop of a worker turns.
//!
//! A loop that has nothing to do does not turn either. So one that was not seen to turn for a moment is sent a ping,
//! which it reads as soon as it can; how long it takes for that is how long it is blocked.

use super::watch::Allowance;
use std::time::Duration;

/// Time for the log to find out where the loop is, before its worker is killed. A late WSGI thread has as much to return.
const GRACE: Duration = Duration::from_secs(2);
/// Between two pings; a quarter of the shorter limit if that lies between them.
const PERIOD_MIN: Duration = Duration::from_millis(50);
const PERIOD_MAX: Duration = Duration::from_secs(1);

/// How long a loop may be blocked; zero is for ever.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Until the operator is told.
    pub stall: Duration,
    /// Until it is given up, and [`GRACE`] more: what its requests are allowed.
    pub allowance: Allowance,
}

impl Limits {
    fn period(self) -> Option<Duration> {
        let limit = Duration::from_nanos(self.allowance.limit);
        let shortest = [self.stall, limit].into_iter().filter(|limit| !limit.is_zero()).min()?;
        Some((shortest / 4).clamp(PERIOD_MIN, PERIOD_MAX))
    }
}

/// What follows from one look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    Nothing,
    /// Send it something to read.
    Ping,
    /// It is blocked; once per stall.
    Stalled {
        duration: Duration,
    },
    /// It goes on, and was said to be blocked.
    Resumed {
        duration: Duration,
    },
    /// It is not waited for any longer; said again as long as it lasts.
    Stuck,
}

/// What is known of one loop. Times are nanoseconds of the monotonic clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pulse {
    turns: u64,
    /// When it was last seen to turn, or first looked at; zero while nobody looks.
    seen_at: u64,
    /// When the ping was sent that it has not read.
    pinged_at: Option<u64>,
    is_told: bool,
}

impl Pulse {
    /// Nothing of a request is in the worker: whether its loop turns is of no interest.
    pub fn rest(&mut self) {
        *self = Self::default();
    }

    /// It was said to be blocked and has not turned since.
    pub fn is_stalled(&self) -> bool {
        self.is_told
    }

    /// One look at a worker that holds requests. `turns` grows with every turn.
    pub fn feel(&mut self, turns: u64, now: u64, limits: Limits) -> Sign {
        let since = |then: u64| Duration::from_nanos(now.saturating_sub(then));
        if turns != self.turns || self.seen_at == 0 {
            let before = std::mem::replace(self, Self { turns, seen_at: now, pinged_at: None, is_told: false });
            return match before.pinged_at {
                Some(pinged_at) if before.is_told => Sign::Resumed { duration: since(pinged_at) },
                _ => Sign::Nothing,
            };
        }
        let Some(pinged_at) = self.pinged_at else {
            if limits.period().is_none_or(|period| since(self.seen_at) < period) {
                return Sign::Nothing;
            }
            self.pinged_at = Some(now);
            return Sign::Ping;
        };
        let duration = since(pinged_at);
        if !self.is_told && !limits.stall.is_zero() && duration >= limits.stall {
            self.is_told = true;
            Sign::Stalled { duration }
        } else if limits.allowance.is_used_up(pinged_at, now, GRACE) {
            Sign::Stuck
        } else {
            Sign::Nothing
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn allow(timeout: Duration) -> Allowance {
        Allowance { limit: timeout.as_nanos() as u64, extended_to: 0 }
    }

    /// Looks every 50 ms at a loop that turns by itself or when it is pinged, but is blocked from the first time to the
    /// second, in milliseconds. What was seen, and when.
    fn watch(stall: Duration, timeout: Duration, blocked: std::ops::Range<u64>, busy: bool) -> Vec<(u64, Sign)> {
        let (mut pulse, mut turns, mut is_pinged, mut seen) = (Pulse::default(), 0, false, Vec::new());
        let allowance = allow(timeout);
        for at in (0..20_000).step_by(50) {
            if !blocked.contains(&at) && (busy || std::mem::take(&mut is_pinged)) {
                turns += 1;
            }
            match pulse.feel(turns, (at + 1) * 1_000_000, Limits { stall, allowance }) {
                Sign::Nothing => {}
                Sign::Ping => is_pinged = true,
                sign if seen.last().is_some_and(|(_, last)| *last == sign) => {}
                sign => seen.push((at, sign)),
            }
        }
        seen
    }

    #[test]
    fn every_way_to_be_blocked() {
        use Sign::{Resumed, Stalled, Stuck};
        let told = |at, milliseconds| (at, Stalled { duration: Duration::from_millis(milliseconds) });
        let over = |at, milliseconds| (at, Resumed { duration: Duration::from_millis(milliseconds) });
        let (off, second, minute) = (Duration::ZERO, seconds(1), seconds(60));
        let rows = [
            ("idle", second, minute, 0..0, false, vec![]),
            ("busy", second, minute, 0..0, true, vec![]),
            ("blocked for a moment", second, minute, 5000..5900, true, vec![]),
            ("blocked", second, minute, 5000..8000, true, vec![told(6200, 1000), over(8000, 2800)]),
            ("blocked while idle", second, minute, 5000..8000, false, vec![told(6050, 1000), over(8000, 2950)]),
            ("blocked, nobody wants to know", off, minute, 5000..8000, true, vec![]),
            ("for ever", second, seconds(4), 5000..99_999, true, vec![told(6200, 1000), (11_200, Stuck)]),
            ("for ever, nobody wants to know", off, seconds(4), 5000..99_999, true, vec![(11_950, Stuck)]),
            ("for ever, without a time-out", second, off, 5000..99_999, true, vec![told(6200, 1000)]),
            ("nothing is watched", off, off, 5000..99_999, true, vec![]),
        ];
        for (what, stall, timeout, blocked, busy, expected) in rows {
            assert_eq!(watch(stall, timeout, blocked, busy), expected, "{what}");
        }
    }

    #[test]
    fn whoever_asked_for_time_gets_it() {
        let second = 1_000_000_000;
        let allowance = Allowance { limit: 5 * second, extended_to: 30 * second };
        let limits = Limits { stall: Duration::ZERO, allowance };
        let mut pulse = Pulse::default();
        let signs = [1, 3, 12, 31, 33].map(|at| pulse.feel(7, at * second, limits));
        assert_eq!(signs, [Sign::Nothing, Sign::Ping, Sign::Nothing, Sign::Nothing, Sign::Stuck]);
    }

    #[test]
    fn a_worker_that_held_nothing_is_looked_at_anew() {
        let limits = Limits { stall: seconds(1), allowance: allow(seconds(60)) };
        let mut pulse = Pulse::default();
        assert_eq!(pulse.feel(7, 1, limits), Sign::Nothing);
        pulse.rest();
        assert_eq!(pulse.feel(7, 9_000_000_000, limits), Sign::Nothing, "long ago is not blocked");
        assert!(!pulse.is_stalled());
    }
}
