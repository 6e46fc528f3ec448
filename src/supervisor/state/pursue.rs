//! From what is to what is wanted.

use super::capacity::{self, Census, Shortage, Start};
use super::events::{Action, GenerationNumber, Outcome, Retirement, Saying};
use super::failures::boot_failure;
use super::{HASTE, Stop, Supervisor, Worker, WorkerState, Zygote};
use crate::roster::WorkerNumber;
use std::time::Instant;

impl Supervisor {
    /// Moves from what is to what is wanted.
    pub(super) fn pursue(&mut self, now: Instant, actions: &mut Vec<Action>) {
        match self.stop {
            Stop::Gracefully { deadline } if now >= deadline => {
                actions.push(Action::Say(Saying::GraceOver { workers: self.workers.len() as u32 }));
                self.hasten(now, actions);
            }
            Stop::Hastily { deadline } if now >= deadline => self.stop_now(now, actions),
            _ => {}
        }
        if self.stop != Stop::No {
            // The end of a zygote is the end of its children, however it comes about.
            if self.workers.is_empty() || matches!(self.stop, Stop::Now { deadline } if now >= deadline) {
                self.end_zygotes(actions);
                self.finish(Outcome::Stopped, actions);
            }
            return;
        }
        self.kill_slow_boots(now, actions);
        self.end_slow_zygotes(now, actions);
        if self.is_finished {
            return;
        }
        self.kill_unreturned(now, actions);
        self.hurry_slow_drains(now, actions);
        self.retire_old(now, actions);
        self.start_zygotes(now, actions);
        // Whoever goes makes room.
        while self.let_go(now, actions) {}
        self.send_scout(now, actions);
        self.start_missing(now, actions);
        self.end_failed_wake(now, actions);
        self.tell_reload(actions);
        self.end_empty_generations(actions);
    }

    pub(super) fn start_zygotes(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let deadline = now + self.policy.boot_timeout;
        for number in [Some(self.target()), self.incoming()].into_iter().flatten() {
            let Some(generation) = self.generation(number) else { continue };
            if generation.zygote == Zygote::Absent && generation.backoff.until(now).is_none() {
                generation.zygote = Zygote::Starting { deadline };
                actions.push(Action::StartZygote(number));
            }
        }
    }

    /// One worker decides about a generation.
    pub(super) fn send_scout(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let Some(number) = self.incoming() else { return };
        let is_out = self.workers.values().any(|worker| worker.generation == number && worker.is_booting());
        if is_out || !self.can_fork(now, number) {
            return;
        }
        match self.census().replacement() {
            Start::Now => {}
            Start::Beyond => self.tell_shortage(Shortage::Beyond, actions),
            Start::LeaveFirst => return self.leave_first(now, |_| true, actions),
            Start::Later => return,
        }
        self.fork(now, number, 1, actions);
    }

    fn can_fork(&mut self, now: Instant, number: GenerationNumber) -> bool {
        // What the last one has to say about its end comes first: it may be the same for all.
        let is_unclear = |worker: &Worker| worker.generation == number && worker.state == WorkerState::Gone;
        let is_clear = !self.workers.values().any(is_unclear);
        self.generation(number).is_some_and(|generation| {
            is_clear && matches!(generation.zygote, Zygote::Loaded { .. }) && generation.backoff.until(now).is_none()
        })
    }

    pub(super) fn fork(&mut self, now: Instant, number: GenerationNumber, count: u32, actions: &mut Vec<Action>) {
        let deadline = now + self.policy.boot_timeout;
        for _ in 0..count {
            let worker = self.next_worker;
            self.next_worker += 1;
            let entry = Worker {
                generation: number,
                state: WorkerState::Booting { deadline },
                pid: 0,
                served_since: None,
                retire_at: None,
                is_retiring: false,
                return_by: None,
                is_explained: false,
            };
            self.workers.insert(worker, entry);
            actions.push(Action::Fork { worker, generation: number });
        }
    }

    /// Starts what is missing.
    pub(super) fn start_missing(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let target = self.target();
        if !self.can_fork(now, target) {
            return;
        }
        let census = self.census();
        let moves = capacity::moves(census);
        if census.fresh_booting + census.fresh_serving >= census.wanted {
            self.ledger.is_short = false;
        }
        match moves.shortage {
            None => {}
            Some(Shortage::LeaveFirst) => self.leave_first(now, |worker| Self::is_stale(worker, target), actions),
            Some(shortage) => self.tell_shortage(shortage, actions),
        }
        self.fork(now, target, moves.fork, actions);
    }

    /// Lets one of some workers go, for its replacement to have room: one that is to be replaced anyway, the largest.
    fn leave_first(&mut self, now: Instant, which: impl Fn(&Worker) -> bool, actions: &mut Vec<Action>) {
        let chosen = self.largest(|worker| worker.is_retiring && which(worker)).or_else(|| self.largest(which));
        let (Some(worker), Some(memory)) = (chosen, self.memory()) else { return };
        actions.push(Action::Say(Saying::LeavesFirst { worker, memory }));
        self.drain_one(now, worker, actions);
    }

    fn tell_shortage(&mut self, shortage: Shortage, actions: &mut Vec<Action>) {
        let Some(memory) = self.memory() else { return };
        match shortage {
            Shortage::LeaveFirst => {}
            Shortage::Beyond => actions.push(Action::Say(Saying::BeyondBudget { memory })),
            Shortage::Fewer => {
                if !std::mem::replace(&mut self.ledger.is_short, true) {
                    let there = self.serving() as u32;
                    let wanted = self.policy.workers;
                    actions.push(Action::Say(Saying::FewerThanWanted { there, wanted, memory }));
                }
            }
        }
    }

    /// As many of these workers, which nobody has asked for, as there is memory for.
    pub(super) fn within_budget(&mut self, workers: u32, actions: &mut Vec<Action>) -> u32 {
        let present = self.workers.values().filter(|worker| worker.is_serving() || worker.is_booting()).count() as u32;
        let from = self.policy.workers;
        let granted = workers.min(present.saturating_add(self.memory_room().unwrap_or(0)).max(from).max(1));
        let is_refused = granted < workers;
        if let Some(memory) = self.memory().filter(|_| is_refused && !self.ledger.has_refused) {
            actions.push(Action::Say(Saying::FewerThanWanted { there: granted, wanted: workers, memory }));
        }
        self.ledger.has_refused = is_refused;
        granted
    }

    fn is_fresh(worker: &Worker, target: GenerationNumber) -> bool {
        worker.generation == target && !worker.is_retiring
    }

    fn is_stale(worker: &Worker, target: GenerationNumber) -> bool {
        worker.generation < target || worker.is_retiring
    }

    fn census(&self) -> Census {
        let (target, incoming) = (self.target(), self.incoming());
        let is_leaving = |worker: &Worker| matches!(worker.state, WorkerState::Draining { .. } | WorkerState::Ending);
        let count = |test: &dyn Fn(&Worker) -> bool| self.workers.values().filter(|worker| test(worker)).count() as u32;
        Census {
            wanted: self.policy.workers,
            surge: self.policy.surge,
            fresh_booting: count(&|worker| Self::is_fresh(worker, target) && worker.is_booting()),
            fresh_serving: count(&|worker| Self::is_fresh(worker, target) && worker.is_serving()),
            stale_serving: count(&|worker| Self::is_stale(worker, target) && worker.is_serving()),
            scouts: count(&|worker| Some(worker.generation) == incoming && worker.is_booting()),
            leaving: count(&is_leaving),
            memory: self.memory_room(),
        }
    }

    /// Lets go whoever is not needed any more. Whether anybody went.
    fn let_go(&mut self, now: Instant, actions: &mut Vec<Action>) -> bool {
        let target = self.target();
        let moves = capacity::moves(self.census());
        let before = actions.len();
        self.drain(now, moves.drain_stale, |worker| Self::is_stale(worker, target), actions);
        self.drain(now, moves.shed_serving, |worker| Self::is_fresh(worker, target), actions);
        let booting = |worker: &Worker| worker.is_booting() && Self::is_fresh(worker, target);
        let shed = self.workers.iter().rev().filter(|(_, worker)| booting(worker)).take(moves.shed_booting as usize);
        // What boots for a generation that is not wanted any more is of no use either.
        let outdated = self.workers.iter().filter(|(_, worker)| worker.generation < target && worker.is_booting());
        for number in shed.chain(outdated).map(|(number, _)| *number).collect::<Vec<_>>() {
            self.kill(number, actions);
        }
        actions.len() > before
    }

    /// Lets the oldest `count` of some workers finish and go.
    pub(super) fn drain(
        &mut self,
        now: Instant,
        count: u32,
        which: impl Fn(&Worker) -> bool,
        actions: &mut Vec<Action>,
    ) {
        let serving = self.workers.iter().filter(|(_, worker)| worker.is_serving() && which(worker));
        for number in serving.map(|(number, _)| *number).take(count as usize).collect::<Vec<_>>() {
            self.drain_one(now, number, actions);
        }
    }

    fn drain_one(&mut self, now: Instant, number: WorkerNumber, actions: &mut Vec<Action>) {
        let deadline = now + self.policy.drain_timeout;
        if let Some(worker) = self.workers.get_mut(&number) {
            worker.state = WorkerState::Draining { deadline, is_late: false };
            actions.push(Action::Drain(number));
        }
    }

    pub(super) fn kill(&mut self, number: WorkerNumber, actions: &mut Vec<Action>) {
        if let Some(worker) = self.workers.get_mut(&number) {
            worker.end();
            actions.push(Action::Kill(number));
        }
    }

    pub(super) fn tell_reload(&mut self, actions: &mut Vec<Action>) {
        let Some(generation) = self.reloading.filter(|generation| *generation == self.target()) else { return };
        let serving = self.workers.values().filter(|worker| worker.is_serving());
        let (fresh, old): (Vec<_>, Vec<_>) = serving.partition(|worker| worker.generation == generation);
        let is_complete = fresh.len() >= self.policy.workers as usize || self.is_short();
        if old.is_empty() && is_complete {
            self.reloading = None;
            actions.push(Action::Say(Saying::ReloadDone { generation }));
        }
    }

    /// As many workers serve as there is memory for, which are fewer than wanted.
    fn is_short(&self) -> bool {
        capacity::moves(self.census()).shortage == Some(Shortage::Fewer)
    }

    pub(super) fn end_empty_generations(&mut self, actions: &mut Vec<Action>) {
        let (target, incoming) = (self.target(), self.incoming());
        for generation in &mut self.generations {
            let is_used = generation.number == target
                || Some(generation.number) == incoming
                || self.workers.values().any(|worker| worker.generation == generation.number);
            if !is_used && matches!(generation.zygote, Zygote::Starting { .. } | Zygote::Loaded { .. }) {
                generation.zygote = Zygote::Ending;
                actions.push(Action::EndZygote(generation.number));
            }
        }
        self.generations.retain(|generation| {
            generation.number == target || Some(generation.number) == incoming || generation.zygote != Zygote::Absent
        });
    }

    pub(super) fn kill_slow_boots(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let is_late = |worker: &Worker| matches!(worker.state, WorkerState::Booting { deadline } if now >= deadline);
        let late = self.workers.iter().filter(|(_, worker)| is_late(worker));
        let late: Vec<_> = late.map(|(number, worker)| (*number, worker.generation)).collect();
        for (worker, generation) in late {
            actions.push(Action::Say(Saying::BootTimeout { worker }));
            self.kill(worker, actions);
            self.fail(now, generation);
            if !self.has_ever_served {
                return self.give_up(Outcome::BootTimeout, actions);
            }
            let seconds = self.policy.boot_timeout.as_secs();
            let message = format!("the new worker was not ready within {seconds} s");
            self.abandon_if_incoming(generation, boot_failure(message), actions);
        }
    }

    /// With `--preload` the zygote imports the application, which may hang.
    pub(super) fn end_slow_zygotes(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.is_finished {
            return;
        }
        let is_late = |zygote: Zygote| matches!(zygote, Zygote::Starting { deadline } if now >= deadline);
        let late = self.generations.iter_mut().filter(|generation| is_late(generation.zygote));
        let late: Vec<GenerationNumber> = late
            .map(|generation| {
                generation.zygote = Zygote::Ending;
                actions.push(Action::EndZygote(generation.number));
                generation.number
            })
            .collect();
        for number in late {
            if !self.has_ever_served {
                return self.give_up(Outcome::BootTimeout, actions);
            }
            let next = self.fail(now, number);
            let message = format!("the application was not imported within {} s", self.policy.boot_timeout.as_secs());
            if !self.abandon_if_incoming(number, boot_failure(message), actions) {
                actions.push(Action::Say(Saying::ZygoteLate { next }));
            }
        }
    }

    pub(super) fn hurry_slow_drains(&mut self, now: Instant, actions: &mut Vec<Action>) {
        for (number, worker) in &mut self.workers {
            match worker.state {
                WorkerState::Draining { deadline, is_late: false } if now >= deadline => {
                    worker.state = WorkerState::Draining { deadline: now + HASTE, is_late: true };
                    worker.is_explained = true;
                    actions.push(Action::Say(Saying::DrainOver { worker: *number }));
                    actions.push(Action::Hasten(*number));
                }
                WorkerState::Draining { deadline, is_late: true } if now >= deadline => {
                    worker.end();
                    actions.push(Action::Kill(*number));
                }
                _ => {}
            }
        }
    }

    pub(super) fn retire_old(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let is_due = |worker: &Worker| worker.is_serving() && worker.retire_at.is_some_and(|at| now >= at);
        let due: Vec<_> = self.workers.iter().filter(|(_, worker)| is_due(worker)).map(|(number, _)| *number).collect();
        for worker in due {
            self.retire(worker, Retirement::Lifetime, actions);
        }
    }
}
