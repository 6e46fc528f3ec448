//! Workers and zygotes that fail, and what follows from it.

use super::events::{Action, GenerationNumber, LINK_ENDED, Outcome, Saying, describe};
use super::{ATTEMPTS, INFANCY, RETURN_GRACE, Stop, Supervisor, Worker, WorkerState, Zygote};
use crate::roster::WorkerNumber;
use monoceros_wire::message::{BootFailure, Interface};
use monoceros_wire::zygote::{EXIT_APP_LOAD, ExitStatus};
use std::time::{Duration, Instant};

const SIGKILL: i32 = 9;

/// How a worker has ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct End {
    pub(super) status: ExitStatus,
    pub(super) requests: u64,
    pub(super) out_of_memory: bool,
}

impl Supervisor {
    pub(super) fn boot_failed(
        &mut self,
        now: Instant,
        number: WorkerNumber,
        failure: BootFailure,
        actions: &mut Vec<Action>,
    ) {
        let Some(worker) = self.workers.get_mut(&number) else { return };
        let generation = worker.generation;
        if worker.state == WorkerState::Gone {
            self.workers.remove(&number);
        } else {
            worker.end();
        }
        if self.stop != Stop::No {
            return;
        }
        if self.is_abandoned(generation) {
            return;
        }
        if !self.has_ever_served {
            return self.give_up(Outcome::BootFailed(failure), actions);
        }
        let next = self.fail(now, generation);
        if !self.abandon_if_incoming(generation, failure.clone(), actions) {
            actions.push(Action::Say(Saying::WorkerBootFailed { failure, next }));
        }
    }

    pub(super) fn unfit(
        &mut self,
        now: Instant,
        number: WorkerNumber,
        failure: BootFailure,
        actions: &mut Vec<Action>,
    ) {
        // It may have been given up meanwhile.
        if self.workers.get(&number).is_some_and(Worker::is_booting) {
            self.kill(number, actions);
            self.boot_failed(now, number, failure, actions);
        }
    }

    pub(super) fn fork_failed(
        &mut self,
        now: Instant,
        number: WorkerNumber,
        message: String,
        actions: &mut Vec<Action>,
    ) {
        let Some(worker) = self.workers.remove(&number) else { return };
        actions.push(Action::Forget(number));
        let next = self.fail(now, worker.generation);
        actions.push(Action::Say(Saying::ForkFailed { message, next }));
    }

    pub(super) fn link_lost(&mut self, now: Instant, number: WorkerNumber, reason: &str, actions: &mut Vec<Action>) {
        let Some(worker) = self.workers.get_mut(&number) else { return };
        if worker.state == WorkerState::Gone {
            // It could not say why after all.
            worker.state = WorkerState::Ending;
            let end = End { status: ExitStatus::Code(EXIT_APP_LOAD), requests: 0, out_of_memory: false };
            return self.exited(now, number, end, actions);
        }
        if matches!(worker.state, WorkerState::Draining { .. }) && reason == LINK_ENDED {
            // It has finished and goes, as it was told to.
            return;
        }
        if worker.state != WorkerState::Ending {
            if reason != LINK_ENDED {
                worker.is_explained = true;
                actions.push(Action::Say(Saying::WorkerGone { worker: number, how: reason.to_owned(), next: None }));
            }
            // Without its link it is of no use, alive or not.
            if !matches!(worker.state, WorkerState::Draining { .. }) {
                actions.push(Action::Kill(number));
            }
            worker.state = WorkerState::Ending;
        }
    }

    pub(super) fn exited(&mut self, now: Instant, number: WorkerNumber, end: End, actions: &mut Vec<Action>) {
        let End { status, requests, out_of_memory } = end;
        let how = describe(status, out_of_memory);
        let Some(mut worker) = self.workers.remove(&number) else { return };
        actions.push(Action::Forget(number));
        if worker.is_booting() && status == ExitStatus::Code(EXIT_APP_LOAD) && self.stop == Stop::No {
            worker.state = WorkerState::Gone;
            self.workers.insert(number, worker);
            return;
        }
        let has_drained = matches!(worker.state, WorkerState::Draining { .. }) && status == ExitStatus::Code(0);
        if self.stop != Stop::No || has_drained || worker.is_explained {
            return;
        }
        // Who is killed from outside has shown nothing about the code.
        let is_proven = self.generation(worker.generation).is_some_and(|generation| generation.is_proven);
        let is_blameless = is_proven && status == ExitStatus::Signal(SIGKILL) && !out_of_memory;
        let is_infant = worker.served_since.is_none_or(|since| requests == 0 && now.duration_since(since) < INFANCY);
        let is_failure = is_infant && !is_blameless;
        let next = is_failure.then(|| self.fail(now, worker.generation));
        actions.push(Action::Say(Saying::WorkerGone { worker: number, how: how.clone(), next }));
        let failures = self.generation(worker.generation).map_or(0, |generation| generation.backoff.failures());
        if worker.served_since.is_none() && failures >= ATTEMPTS {
            let failure = boot_failure(format!("the workers end before they can serve (the last one {how})"));
            if !self.has_ever_served {
                return self.give_up(Outcome::BootFailed(failure), actions);
            }
            self.abandon_if_incoming(worker.generation, failure, actions);
        }
    }

    pub(super) fn overdue(&mut self, now: Instant, number: WorkerNumber, actions: &mut Vec<Action>) {
        let Some(worker) = self.workers.get_mut(&number) else { return };
        // An event loop goes on with its other requests; the one that is too slow was told that its client left.
        let is_wsgi = worker.state == WorkerState::Serving(Interface::Wsgi);
        if is_wsgi && worker.return_by.is_none() {
            worker.return_by = Some(now + RETURN_GRACE);
            actions.push(Action::Say(Saying::Overdue { worker: number }));
        }
    }

    pub(super) fn returned(&mut self, number: WorkerNumber, actions: &mut Vec<Action>) {
        let Some(worker) = self.workers.get_mut(&number).filter(|worker| worker.is_serving()) else { return };
        if worker.return_by.take().is_some() {
            actions.push(Action::Say(Saying::Returned { worker: number }));
        }
    }

    /// Who was asked and has not returned in time is not waited for any longer.
    pub(super) fn kill_unreturned(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let is_over = |worker: &Worker| worker.is_serving() && worker.return_by.is_some_and(|by| now >= by);
        let over: Vec<_> = self.workers.iter().filter(|(_, worker)| is_over(worker)).map(|(n, _)| *n).collect();
        for worker in over {
            actions.push(Action::Say(Saying::Unreturned { worker }));
            self.kill(worker, actions);
        }
    }

    pub(super) fn stuck(&mut self, number: WorkerNumber, actions: &mut Vec<Action>) {
        if self.workers.get(&number).is_some_and(Worker::is_serving) {
            actions.push(Action::Say(Saying::Stuck { worker: number }));
            self.kill(number, actions);
        }
    }

    pub(super) fn zygote_ended(
        &mut self,
        now: Instant,
        number: GenerationNumber,
        failure: Option<BootFailure>,
        status: String,
        actions: &mut Vec<Action>,
    ) {
        let (target, incoming) = (self.target(), self.incoming());
        let Some(generation) = self.generation(number) else { return };
        let was_told = generation.zygote == Zygote::Ending;
        let is_infant = !matches!(generation.zygote, Zygote::Loaded { since } if now.duration_since(since) >= INFANCY);
        generation.zygote = Zygote::Absent;
        let lost: Vec<_> = self.workers.iter().filter(|(_, w)| w.generation == number).map(|(n, _)| *n).collect();
        for worker in lost {
            self.workers.remove(&worker);
            actions.push(Action::Forget(worker));
        }
        if self.stop != Stop::No || was_told || self.is_abandoned(number) {
            return;
        }
        if !self.has_ever_served {
            return self.give_up(failure.map_or(Outcome::ZygoteFailed { status }, Outcome::BootFailed), actions);
        }
        if Some(number) == incoming {
            let failure = failure.unwrap_or_else(|| boot_failure(format!("the Python process {status}")));
            self.abandon_if_incoming(number, failure, actions);
        } else if number == target {
            // One that has done its work for a while was ended from outside, and a new one is not likely to fail.
            let next = if is_infant { self.fail(now, number) } else { Duration::ZERO };
            actions.push(Action::Say(match failure {
                Some(failure) => Saying::WorkerBootFailed { failure, next },
                None => Saying::ZygoteGone { status, next },
            }));
        }
    }

    pub(super) fn abandon_if_incoming(
        &mut self,
        number: GenerationNumber,
        failure: BootFailure,
        actions: &mut Vec<Action>,
    ) -> bool {
        if self.incoming() != Some(number) {
            return false;
        }
        if let Some(generation) = self.generation(number) {
            generation.is_abandoned = true;
        }
        let own = self.workers.iter().filter(|(_, worker)| worker.generation == number).map(|(number, _)| *number);
        for worker in own.collect::<Vec<_>>() {
            self.kill(worker, actions);
        }
        self.reloading = None;
        actions.push(Action::Say(Saying::ReloadFailed { generation: number, failure }));
        true
    }

    fn is_abandoned(&mut self, number: GenerationNumber) -> bool {
        self.generation(number).is_none_or(|generation| generation.is_abandoned)
    }

    /// Nothing that has begun goes on.
    pub(super) fn abandon_all(&mut self, actions: &mut Vec<Action>) {
        for generation in &mut self.generations {
            generation.is_abandoned = true;
        }
        for worker in self.workers.keys().copied().collect::<Vec<_>>() {
            self.kill(worker, actions);
        }
    }

    /// No worker has ever served, and none will.
    pub(super) fn give_up(&mut self, outcome: Outcome, actions: &mut Vec<Action>) {
        if self.policy.waits_for_change {
            let generation = self.target();
            let failure = match outcome {
                Outcome::BootFailed(failure) => failure,
                Outcome::ZygoteFailed { status } => boot_failure(format!("the Python process {status}")),
                Outcome::BootTimeout | Outcome::Stopped => {
                    let seconds = self.policy.boot_timeout.as_secs();
                    boot_failure(format!("no worker was ready within {seconds} s"))
                }
            };
            self.abandon_all(actions);
            self.reloading = None;
            return actions.push(Action::Say(Saying::FirstLoadFailed { generation, failure }));
        }
        actions.extend(self.workers.keys().map(|number| Action::Kill(*number)));
        self.end_zygotes(actions);
        self.finish(outcome, actions);
    }

    /// One more failure of a generation: it starts nothing for a while, longer each time.
    pub(super) fn fail(&mut self, now: Instant, number: GenerationNumber) -> Duration {
        let jitter = self.jitter.next();
        self.generation(number).map_or(Duration::ZERO, |generation| generation.backoff.fail(now, jitter))
    }
}

/// A failure to boot that the worker itself could not report.
pub(super) fn boot_failure(message: String) -> BootFailure {
    BootFailure { stage: "boot".to_owned(), message, hint: String::new(), traceback: String::new() }
}
