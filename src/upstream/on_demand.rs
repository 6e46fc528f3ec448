//! Pure: what a pool does while it has no worker, where there may be none until a request calls one.
//!
//! Times are nanoseconds of the monotonic clock. "Empty" is a pool in which nobody serves, warms up or boots.

use std::time::Duration;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct OnDemand {
    is_on: bool,
    has_served: bool,
    /// A worker is started for those who wait.
    is_waking: bool,
    /// When the last one that was started for somebody began to serve.
    awake_since: u64,
    empty_since: u64,
    /// None could be started; until then none is tried.
    refused_until: u64,
}

/// A pool without workers at one moment, which starts one when it is asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rest {
    /// For how long.
    pub duration: Duration,
    /// None could be started, and it is not tried before this time has passed.
    pub refuses_for: Option<Duration>,
}

impl OnDemand {
    pub(super) fn set(&mut self, is_on: bool) {
        *self = Self { is_on, has_served: self.has_served, empty_since: self.empty_since, ..Self::default() };
    }

    pub(super) fn is_on(&self) -> bool {
        self.is_on
    }

    pub(super) fn note_waking(&mut self) {
        self.is_waking = self.is_on;
        self.refused_until = 0;
    }

    pub(super) fn note_refusal(&mut self, now: u64, pause: Duration) {
        self.is_waking = false;
        self.refused_until = now + pause.as_nanos() as u64;
    }

    /// A worker begins to serve.
    pub(super) fn note_serving(&mut self, now: u64) {
        self.has_served = true;
        self.refused_until = 0;
        if std::mem::take(&mut self.is_waking) {
            self.awake_since = now;
        }
    }

    /// The last worker is lost or goes.
    pub(super) fn note_empty(&mut self, now: u64) {
        self.empty_since = now;
    }

    /// Whether a worker is to be called for those who wait in an empty pool.
    pub(super) fn calls(&self, now: u64) -> bool {
        self.is_on && now >= self.refused_until
    }

    /// How long who comes to a pool in which nobody serves is refused.
    pub(super) fn refuses_for(&self, now: u64) -> Option<Duration> {
        let left = self.refused_until.saturating_sub(now);
        (self.is_on && left > 0).then_some(Duration::from_nanos(left))
    }

    /// Whether those who wait in a pool in which nobody serves do so at the cost of their own time.
    pub(super) fn counts(&self) -> bool {
        !self.is_waking
    }

    /// Since when somebody waits for a place: a boot is waited for by those that it is for, and is nobody's fault.
    pub(super) fn waits_since(&self, queued_at: u64) -> u64 {
        queued_at.max(self.awake_since)
    }

    /// Whether whoever comes to a pool in which nobody serves waits for a worker that is started for that.
    pub(super) fn welcomes(&self, now: u64) -> bool {
        self.is_on && self.has_served && self.refuses_for(now).is_none()
    }

    /// What can be told about an empty pool. Nothing where it is empty for another reason.
    pub(super) fn rest(&self, now: u64) -> Option<Rest> {
        let duration = Duration::from_nanos(now.saturating_sub(self.empty_since));
        (self.is_on && self.has_served).then(|| Rest { duration, refuses_for: self.refuses_for(now) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn on() -> OnDemand {
        let mut on_demand = OnDemand::default();
        on_demand.set(true);
        on_demand
    }

    #[test]
    fn nobody_is_called_where_nobody_may_be() {
        let mut off = OnDemand::default();
        off.note_serving(SECOND);
        off.note_waking();
        off.note_refusal(SECOND, Duration::from_secs(9));
        assert!(!off.calls(99 * SECOND) && off.counts());
        assert_eq!((off.refuses_for(2 * SECOND), off.rest(2 * SECOND)), (None, None));
    }

    #[test]
    fn a_boot_is_not_the_time_of_those_who_wait_for_it() {
        let mut pool = on();
        assert!(pool.calls(SECOND) && pool.counts());
        assert_eq!(pool.rest(SECOND), None, "it has not started yet");
        pool.note_waking();
        assert!(!pool.counts());
        pool.note_serving(5 * SECOND);
        assert!(pool.counts());
        assert_eq!(pool.waits_since(SECOND), 5 * SECOND);
        assert_eq!(pool.waits_since(7 * SECOND), 7 * SECOND);
        // Another one that begins to serve without a call changes nothing: it may come again and again.
        pool.note_serving(30 * SECOND);
        assert_eq!(pool.waits_since(7 * SECOND), 7 * SECOND);
        pool.note_empty(40 * SECOND);
        assert_eq!(pool.rest(41 * SECOND), Some(Rest { duration: Duration::from_secs(1), refuses_for: None }));
    }

    #[test]
    fn after_a_failed_boot_nobody_is_called_for_a_while() {
        let mut pool = on();
        pool.note_serving(1);
        pool.note_waking();
        pool.note_refusal(SECOND, Duration::from_secs(2));
        assert!(!pool.calls(2 * SECOND) && pool.counts());
        assert_eq!(pool.refuses_for(2 * SECOND), Some(Duration::from_secs(1)));
        assert!(pool.calls(3 * SECOND));
        assert_eq!(
            (pool.refuses_for(3 * SECOND), pool.welcomes(2 * SECOND), pool.welcomes(3 * SECOND)),
            (None, false, true)
        );
        // All were sent away: that is over.
        pool.note_refusal(SECOND, Duration::from_secs(2));
        pool.set(false);
        assert_eq!((pool.refuses_for(2 * SECOND), pool.calls(9 * SECOND)), (None, false));
    }
}
