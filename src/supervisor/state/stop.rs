//! The end: gracefully, hastily, at once.

use super::events::{Action, Outcome};
use super::{HASTE, KILL_GRACE, Stop, Supervisor, WorkerState, Zygote};
use std::time::Instant;

impl Supervisor {
    pub(super) fn stop_gracefully(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.stop != Stop::No {
            return self.stop_quickly(now, actions);
        }
        let deadline = now + self.policy.graceful_timeout;
        self.stop = Stop::Gracefully { deadline };
        self.drain_all(deadline, actions);
    }

    pub(super) fn stop_quickly(&mut self, now: Instant, actions: &mut Vec<Action>) {
        match self.stop {
            Stop::No | Stop::Gracefully { .. } => self.hasten(now, actions),
            Stop::Hastily { .. } | Stop::Now { .. } => self.stop_now(now, actions),
        }
    }

    pub(super) fn hasten(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let deadline = now + HASTE;
        self.stop = Stop::Hastily { deadline };
        self.drain_all(deadline, actions);
        let draining = self.workers.iter().filter(|(_, worker)| matches!(worker.state, WorkerState::Draining { .. }));
        actions.extend(draining.map(|(number, _)| Action::Hasten(*number)));
    }

    pub(super) fn stop_now(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if !matches!(self.stop, Stop::Now { .. }) {
            self.stop = Stop::Now { deadline: now + KILL_GRACE };
        }
        for (number, worker) in &mut self.workers {
            worker.end();
            actions.push(Action::Kill(*number));
        }
    }

    fn drain_all(&mut self, deadline: Instant, actions: &mut Vec<Action>) {
        self.workers.retain(|_, worker| worker.state != WorkerState::Gone);
        for (number, worker) in &mut self.workers {
            if worker.is_serving() {
                worker.state = WorkerState::Draining { deadline, is_late: false };
                actions.push(Action::Drain(*number));
            } else if worker.is_booting() {
                worker.end();
                actions.push(Action::Kill(*number));
            }
        }
    }

    pub(super) fn end_zygotes(&self, actions: &mut Vec<Action>) {
        let present = self.generations.iter().filter(|generation| generation.zygote != Zygote::Absent);
        actions.extend(present.map(|generation| Action::EndZygote(generation.number)));
    }

    pub(super) fn finish(&mut self, outcome: Outcome, actions: &mut Vec<Action>) {
        self.is_finished = true;
        actions.push(Action::Finish(outcome));
    }
}
