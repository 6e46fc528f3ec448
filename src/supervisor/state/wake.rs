//! No worker until a request calls one: `--workers 0..N`.

use super::events::{Action, Saying};
use super::{Reason, Stop, Supervisor, Zygote};
use std::time::Instant;

impl Supervisor {
    /// A request waits, and there is no worker. Said again as long as it lasts.
    pub(super) fn called(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if !self.on_demand || self.policy.workers > 0 || self.stop != Stop::No || !self.has_ever_served {
            return;
        }
        if let Some(until) = self.pause_until(now) {
            return actions.push(Action::Refuse { pause: until - now });
        }
        self.scale(1, Some(Reason::Called), actions);
        self.is_waking = true;
        actions.push(Action::Wake);
    }

    /// Those who wait for a boot that has failed are told so at once, and nobody is started until the next one calls.
    pub(super) fn end_failed_wake(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let is_hope = self.workers.values().any(|worker| worker.is_serving() || worker.is_booting())
            || self.generations.iter().any(|generation| matches!(generation.zygote, Zygote::Starting { .. }));
        if let Some(until) = self.pause_until(now).filter(|_| self.is_waking && !is_hope) {
            let pause = until - now;
            (self.is_waking, self.policy.workers) = (false, 0);
            actions.push(Action::Say(Saying::NobodyCame { pause }));
            actions.push(Action::Refuse { pause });
        }
    }

    /// When the generation that should serve may start something again, if it may not now.
    fn pause_until(&mut self, now: Instant) -> Option<Instant> {
        let target = self.target();
        self.generation(target)?.backoff.until(now)
    }
}
