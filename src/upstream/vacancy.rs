//! A pool without workers, where there may be none until a request calls one.

use super::error::Cause;
use super::on_demand::Rest;
use super::pool::{MemberEntry, MemberState, Pool, State};
use crate::roster::Report;
use std::time::Duration;

impl Pool {
    /// No worker could be started for those who wait.
    pub(super) fn refuse(&self, pause: Duration) {
        let mut state = self.lock();
        // A worker of a newer generation may have begun to serve meanwhile.
        if !state.members.iter().any(MemberEntry::is_serving) {
            state.on_demand.note_refusal(self.now(), pause);
            let waiting = std::mem::take(&mut state.queue);
            drop(state);
            waiting.fail_all(boot_failed(pause));
        }
    }

    /// Takes note of it when the last worker has just gone.
    pub(super) fn note_if_empty(&self, state: &mut State, was_empty: bool, now: u64) {
        if !was_empty && state.is_empty() {
            state.on_demand.note_empty(now);
        }
        self.call_if_empty(state, now);
    }

    /// Calls a worker if requests wait and there is none.
    pub(super) fn call_if_empty(&self, state: &State, now: u64) {
        if state.on_demand.calls(now) && !state.queue.is_empty() && state.is_empty() {
            self.report(Report::Called);
        }
    }

    /// Whether whoever comes is served, though perhaps by a worker that has to be started.
    pub fn is_open(&self) -> bool {
        let state = self.lock();
        state.members.iter().any(MemberEntry::is_serving) || state.on_demand.welcomes(self.now())
    }

    /// For how long there is no worker, where the next request starts one.
    pub fn rest(&self) -> Option<Rest> {
        let state = self.lock();
        state.on_demand.rest(self.now()).filter(|_| state.is_empty())
    }
}

impl State {
    /// Nobody is there who serves, warms up or boots.
    pub(super) fn is_empty(&self) -> bool {
        self.members.iter().all(|member| matches!(member.state, MemberState::Draining { .. }))
    }

    /// How long requests are refused, because no worker could be started.
    pub(super) fn refuses_for(&self, now: u64) -> Option<Duration> {
        let pause = self.on_demand.refuses_for(now)?;
        self.is_empty().then_some(pause)
    }
}

/// What those are told who wait for it, or come too early for the next try.
pub(super) fn boot_failed(pause: Duration) -> Cause {
    // A part of a second counts as one.
    Cause::BootFailed { seconds: pause.as_millis().div_ceil(1000) as u32 }
}
