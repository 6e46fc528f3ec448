//! Pure: the supervisor as a state machine. Same events at the same times in, same actions out.
//!
//! ```text
//!            fork            ready                 drain
//!  (wanted) ──────▶ Booting ───────▶ Serving ───────────────▶ Draining ───▶ gone
//!                      │                │  exit, kill             │  time    ▲
//!                      └────────────────┴────────────────────────┴──────────┘
//! ```
//! Workers belong to *generations*, one for each load of the application. A generation is *proven* when one of its workers
//! has served; the newest proven one is the *target*, the one that all workers should be of. A reload makes a new
//! generation with a single worker, the scout; when it serves, the generation is proven and [`capacity`] replaces the
//! workers of the old one, one for one. When it fails, the new generation is given up and nothing else has happened.

mod capacity;
mod events;
mod pause;

pub use events::{Action, Event, GenerationNumber, LINK_ENDED, Outcome, Policy, Retirement, Saying, describe};

use crate::roster::WorkerNumber;
use capacity::Census;
use monoceros_wire::message::{BootFailure, Interface};
use monoceros_wire::zygote::ExitStatus;
use pause::{Backoff, Jitter};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// For killed processes to be gone.
const KILL_GRACE: Duration = Duration::from_secs(5);
/// A worker that ends within this time of its start to serve, without having answered anything, counts as a failure.
const INFANCY: Duration = Duration::from_secs(5);
/// So many workers in a row that end before they serve, and the generation is given up.
const ATTEMPTS: u32 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WorkerState {
    Booting {
        deadline: Instant,
    },
    Serving(Interface),
    Draining {
        deadline: Instant,
    },
    /// Told to end at once, or its link is lost: only its exit is awaited.
    Ending,
}

#[derive(Debug, Clone)]
struct Worker {
    generation: GenerationNumber,
    state: WorkerState,
    pid: u32,
    served_since: Option<Instant>,
    /// When its lifetime is over.
    retire_at: Option<Instant>,
    /// To be replaced.
    is_retiring: bool,
    /// Said already why it goes.
    is_explained: bool,
}

impl Worker {
    fn is_serving(&self) -> bool {
        matches!(self.state, WorkerState::Serving(_))
    }

    fn is_booting(&self) -> bool {
        matches!(self.state, WorkerState::Booting { .. })
    }

    fn end(&mut self) {
        self.state = WorkerState::Ending;
        self.is_explained = true;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Zygote {
    Absent,
    Starting,
    Loaded,
    Ending,
}

#[derive(Debug, Clone)]
struct Generation {
    number: GenerationNumber,
    zygote: Zygote,
    is_proven: bool,
    is_abandoned: bool,
    backoff: Backoff,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    No,
    Gracefully {
        deadline: Instant,
    },
    /// Everybody was killed; after the deadline nobody is waited for any more.
    Now {
        deadline: Instant,
    },
}

/// See the module.
#[derive(Debug)]
pub struct Supervisor {
    policy: Policy,
    /// Oldest first.
    generations: Vec<Generation>,
    workers: BTreeMap<WorkerNumber, Worker>,
    next_worker: WorkerNumber,
    next_generation: GenerationNumber,
    has_ever_served: bool,
    /// A reload whose end was not told yet.
    reloading: Option<GenerationNumber>,
    jitter: Jitter,
    stop: Stop,
    is_finished: bool,
}

impl Supervisor {
    pub fn new(policy: Policy) -> Self {
        let mut machine = Self {
            policy,
            generations: Vec::new(),
            workers: BTreeMap::new(),
            next_worker: 1,
            next_generation: 1,
            has_ever_served: false,
            reloading: None,
            jitter: Jitter(policy.seed),
            stop: Stop::No,
            is_finished: false,
        };
        machine.add_generation();
        machine
    }

    fn add_generation(&mut self) -> GenerationNumber {
        let number = self.next_generation;
        self.next_generation += 1;
        self.generations.push(Generation {
            number,
            zygote: Zygote::Absent,
            is_proven: false,
            is_abandoned: false,
            backoff: Backoff::new(),
        });
        number
    }

    /// When [`Event::Tick`] is due.
    pub fn wake_at(&self, now: Instant) -> Option<Instant> {
        match self.stop {
            Stop::No => {
                let of_workers = self.workers.values().filter_map(|worker| match worker.state {
                    WorkerState::Booting { deadline } | WorkerState::Draining { deadline } => Some(deadline),
                    WorkerState::Serving(_) => worker.retire_at.filter(|_| !worker.is_retiring),
                    WorkerState::Ending => None,
                });
                let pauses = self.generations.iter().filter_map(|generation| generation.backoff.until(now));
                of_workers.chain(pauses).min()
            }
            Stop::Gracefully { deadline } | Stop::Now { deadline } => Some(deadline),
        }
    }

    /// Workers that can serve.
    pub fn serving(&self) -> usize {
        self.workers.values().filter(|worker| worker.is_serving()).count()
    }

    /// Workers asked for.
    pub fn wanted(&self) -> u32 {
        self.policy.workers
    }

    /// The generation that all workers should be of.
    pub fn target(&self) -> GenerationNumber {
        let usable = || self.generations.iter().rev().filter(|generation| !generation.is_abandoned);
        usable().find(|generation| generation.is_proven).or_else(|| usable().last()).map_or(0, |found| found.number)
    }

    /// The generation that is being tried.
    fn incoming(&self) -> Option<GenerationNumber> {
        let target = self.target();
        let newest = self.generations.iter().rev().find(|generation| !generation.is_abandoned)?;
        (newest.number > target).then_some(newest.number)
    }

    fn generation(&mut self, number: GenerationNumber) -> Option<&mut Generation> {
        self.generations.iter_mut().find(|generation| generation.number == number)
    }

    /// Takes note of an event.
    pub fn step(&mut self, now: Instant, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.is_finished {
            return actions;
        }
        match event {
            Event::Start | Event::Tick => {}
            Event::ZygoteLoaded { generation } => {
                if let Some(entry) = self.generation(generation).filter(|entry| entry.zygote == Zygote::Starting) {
                    entry.zygote = Zygote::Loaded;
                }
            }
            Event::ZygoteEnded { generation, failure, status } => {
                self.zygote_ended(now, generation, failure, status, &mut actions);
            }
            Event::Forked { worker, pid } => {
                if let Some(entry) = self.workers.get_mut(&worker) {
                    entry.pid = pid;
                }
            }
            Event::ForkFailed { worker, message } => self.fork_failed(now, worker, message, &mut actions),
            Event::Ready { worker, interface, .. } => self.ready(now, worker, interface, &mut actions),
            Event::BootFailed { worker, failure } => self.boot_failed(now, worker, failure, &mut actions),
            Event::LinkLost { worker, reason } => self.link_lost(worker, &reason, &mut actions),
            Event::Exited { worker, status, requests, out_of_memory } => {
                self.exited(now, worker, &describe(status, out_of_memory), status, requests, &mut actions);
            }
            Event::Overdue { worker } => self.overdue(worker, &mut actions),
            Event::Stuck { worker } => self.stuck(worker, &mut actions),
            Event::Retire { worker, reason } => self.retire(worker, reason, &mut actions),
            Event::Reload => self.reload(&mut actions),
            Event::Scale { workers } => self.scale(workers, &mut actions),
            Event::StopGracefully => self.stop_gracefully(now, &mut actions),
            Event::StopQuickly => self.stop_now(now, &mut actions),
        }
        if !self.is_finished {
            self.pursue(now, &mut actions);
        }
        actions
    }

    /// Moves from what is to what is wanted.
    fn pursue(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if let Stop::Gracefully { deadline } = self.stop
            && now >= deadline
        {
            actions.push(Action::Say(Saying::GraceOver { workers: self.workers.len() as u32 }));
            self.stop_now(now, actions);
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
        if self.is_finished {
            return;
        }
        self.kill_slow_drains(now, actions);
        self.retire_old(now, actions);
        self.start_zygotes(now, actions);
        self.send_scout(now, actions);
        self.replace(now, actions);
        self.tell_reload(actions);
        self.end_empty_generations(actions);
    }

    fn start_zygotes(&mut self, now: Instant, actions: &mut Vec<Action>) {
        for number in [Some(self.target()), self.incoming()].into_iter().flatten() {
            let Some(generation) = self.generation(number) else { continue };
            if generation.zygote == Zygote::Absent && generation.backoff.until(now).is_none() {
                generation.zygote = Zygote::Starting;
                actions.push(Action::StartZygote(number));
            }
        }
    }

    /// One worker decides about a generation.
    fn send_scout(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let Some(number) = self.incoming() else { return };
        let is_out = self.workers.values().any(|worker| worker.generation == number && worker.is_booting());
        if !is_out {
            self.fork(now, number, 1, actions);
        }
    }

    fn fork(&mut self, now: Instant, number: GenerationNumber, count: u32, actions: &mut Vec<Action>) {
        let deadline = now + self.policy.boot_timeout;
        let is_able = self.generation(number).is_some_and(|generation| {
            generation.zygote == Zygote::Loaded && generation.backoff.until(now).is_none()
        });
        for _ in 0..if is_able { count } else { 0 } {
            let worker = self.next_worker;
            self.next_worker += 1;
            let entry = Worker {
                generation: number,
                state: WorkerState::Booting { deadline },
                pid: 0,
                served_since: None,
                retire_at: None,
                is_retiring: false,
                is_explained: false,
            };
            self.workers.insert(worker, entry);
            actions.push(Action::Fork { worker, generation: number });
        }
    }

    /// Starts what is missing, lets go what is too much.
    fn replace(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let target = self.target();
        let count = |test: &dyn Fn(&Worker) -> bool| self.workers.values().filter(|worker| test(worker)).count() as u32;
        let is_fresh = |worker: &Worker| worker.generation == target && !worker.is_retiring;
        let is_stale = |worker: &Worker| worker.generation < target || worker.is_retiring;
        let moves = capacity::moves(Census {
            wanted: self.policy.workers,
            surge: self.policy.surge,
            fresh_booting: count(&|worker| is_fresh(worker) && worker.is_booting()),
            fresh_serving: count(&|worker| is_fresh(worker) && worker.is_serving()),
            stale_serving: count(&|worker| is_stale(worker) && worker.is_serving()),
        });
        self.drain(now, moves.drain_stale, is_stale, actions);
        self.drain(now, moves.shed_serving, is_fresh, actions);
        let booting = self.workers.iter_mut().rev().filter(|(_, worker)| is_fresh(worker) && worker.is_booting());
        // What boots for a generation that is not wanted any more is of no use either.
        let shed: Vec<_> = booting.take(moves.shed_booting as usize).map(|(number, _)| *number).collect();
        let outdated = self.workers.iter().filter(|(_, worker)| worker.generation < target && worker.is_booting());
        let outdated: Vec<_> = outdated.map(|(number, _)| *number).collect();
        for number in shed.into_iter().chain(outdated) {
            self.kill(number, actions);
        }
        self.fork(now, target, moves.fork, actions);
    }

    /// Lets the oldest `count` of some workers finish and go.
    fn drain(&mut self, now: Instant, count: u32, which: impl Fn(&Worker) -> bool, actions: &mut Vec<Action>) {
        let deadline = now + self.policy.drain_timeout;
        let serving = self.workers.iter_mut().filter(|(_, worker)| worker.is_serving() && which(worker));
        for (number, worker) in serving.take(count as usize) {
            worker.state = WorkerState::Draining { deadline };
            actions.push(Action::Drain(*number));
        }
    }

    fn kill(&mut self, number: WorkerNumber, actions: &mut Vec<Action>) {
        if let Some(worker) = self.workers.get_mut(&number) {
            worker.end();
            actions.push(Action::Kill(number));
        }
    }

    fn tell_reload(&mut self, actions: &mut Vec<Action>) {
        let Some(generation) = self.reloading.filter(|generation| *generation == self.target()) else { return };
        let serving = self.workers.values().filter(|worker| worker.is_serving());
        let (fresh, old): (Vec<_>, Vec<_>) = serving.partition(|worker| worker.generation == generation);
        if old.is_empty() && fresh.len() >= self.policy.workers as usize {
            self.reloading = None;
            actions.push(Action::Say(Saying::ReloadDone { generation }));
        }
    }

    fn end_empty_generations(&mut self, actions: &mut Vec<Action>) {
        let (target, incoming) = (self.target(), self.incoming());
        for generation in &mut self.generations {
            let is_used = generation.number == target
                || Some(generation.number) == incoming
                || self.workers.values().any(|worker| worker.generation == generation.number);
            if !is_used && matches!(generation.zygote, Zygote::Starting | Zygote::Loaded) {
                generation.zygote = Zygote::Ending;
                actions.push(Action::EndZygote(generation.number));
            }
        }
        self.generations.retain(|generation| {
            generation.number == target || Some(generation.number) == incoming || generation.zygote != Zygote::Absent
        });
    }

    fn kill_slow_boots(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let is_late = |worker: &Worker| matches!(worker.state, WorkerState::Booting { deadline } if now >= deadline);
        let late: Vec<_> = self.workers.iter().filter(|(_, worker)| is_late(worker)).map(|(n, w)| (*n, w.generation));
        let late: Vec<(WorkerNumber, GenerationNumber)> = late.collect();
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

    fn kill_slow_drains(&mut self, now: Instant, actions: &mut Vec<Action>) {
        for (number, worker) in &mut self.workers {
            if matches!(worker.state, WorkerState::Draining { deadline } if now >= deadline) {
                worker.end();
                actions.push(Action::Say(Saying::DrainOver { worker: *number }));
                actions.push(Action::Kill(*number));
            }
        }
    }

    fn retire_old(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let is_due = |worker: &Worker| worker.is_serving() && worker.retire_at.is_some_and(|at| now >= at);
        let due: Vec<_> = self.workers.iter().filter(|(_, worker)| is_due(worker)).map(|(number, _)| *number).collect();
        for worker in due {
            self.retire(worker, Retirement::Lifetime, actions);
        }
    }

    fn retire(&mut self, number: WorkerNumber, reason: Retirement, actions: &mut Vec<Action>) {
        let Some(worker) = self.workers.get_mut(&number).filter(|worker| worker.is_serving()) else { return };
        if !worker.is_retiring && self.stop == Stop::No {
            worker.is_retiring = true;
            actions.push(Action::Say(Saying::Retired { worker: number, reason }));
        }
    }

    fn ready(&mut self, now: Instant, number: WorkerNumber, interface: Interface, actions: &mut Vec<Action>) {
        let lifetime = self.policy.max_lifetime;
        let retire_at = (!lifetime.is_zero()).then(|| now + lifetime + self.jitter.up_to(self.policy.lifetime_jitter));
        let Some(worker) = self.workers.get_mut(&number).filter(|worker| worker.is_booting()) else { return };
        worker.state = WorkerState::Serving(interface);
        worker.served_since = Some(now);
        worker.retire_at = retire_at;
        actions.push(Action::Say(Saying::WorkerReady { worker: number, pid: worker.pid }));
        let generation = worker.generation;
        if let Some(generation) = self.generation(generation) {
            generation.is_proven = true;
        }
        if !self.has_ever_served {
            self.has_ever_served = true;
            actions.push(Action::Say(Saying::Ready { interface }));
        }
    }

    fn boot_failed(&mut self, now: Instant, number: WorkerNumber, failure: BootFailure, actions: &mut Vec<Action>) {
        let Some(worker) = self.workers.get_mut(&number) else { return };
        worker.end();
        let generation = worker.generation;
        if self.stop != Stop::No {
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

    fn fork_failed(&mut self, now: Instant, number: WorkerNumber, message: String, actions: &mut Vec<Action>) {
        let Some(worker) = self.workers.remove(&number) else { return };
        actions.push(Action::Forget(number));
        let next = self.fail(now, worker.generation);
        actions.push(Action::Say(Saying::ForkFailed { message, next }));
    }

    fn link_lost(&mut self, number: WorkerNumber, reason: &str, actions: &mut Vec<Action>) {
        let Some(worker) = self.workers.get_mut(&number) else { return };
        if worker.state != WorkerState::Ending {
            if reason != LINK_ENDED {
                actions.push(Action::Say(Saying::WorkerGone { worker: number, how: reason.to_owned(), next: None }));
            }
            // Without its link it is of no use, alive or not.
            if !matches!(worker.state, WorkerState::Draining { .. }) {
                actions.push(Action::Kill(number));
            }
            worker.state = WorkerState::Ending;
        }
    }

    fn exited(
        &mut self,
        now: Instant,
        number: WorkerNumber,
        how: &str,
        status: ExitStatus,
        requests: u64,
        actions: &mut Vec<Action>,
    ) {
        let Some(worker) = self.workers.remove(&number) else { return };
        actions.push(Action::Forget(number));
        let has_drained = matches!(worker.state, WorkerState::Draining { .. }) && status == ExitStatus::Code(0);
        if self.stop != Stop::No || has_drained || worker.is_explained {
            return;
        }
        let is_failure = worker.served_since.is_none_or(|since| requests == 0 && now.duration_since(since) < INFANCY);
        let next = is_failure.then(|| self.fail(now, worker.generation));
        actions.push(Action::Say(Saying::WorkerGone { worker: number, how: how.to_owned(), next }));
        let failures = self.generation(worker.generation).map_or(0, |generation| generation.backoff.failures());
        if worker.served_since.is_none() && failures >= ATTEMPTS {
            let failure = boot_failure(format!("the workers end before they can serve (the last one {how})"));
            if !self.has_ever_served {
                return self.give_up(Outcome::BootFailed(failure), actions);
            }
            self.abandon_if_incoming(worker.generation, failure, actions);
        }
    }

    fn overdue(&mut self, number: WorkerNumber, actions: &mut Vec<Action>) {
        let Some(worker) = self.workers.get(&number) else { return };
        // An event loop goes on with its other requests; the one that is too slow was told that its client left.
        let is_wsgi = worker.state == WorkerState::Serving(Interface::Wsgi);
        if is_wsgi {
            actions.push(Action::Say(Saying::Overdue { worker: number }));
            self.kill(number, actions);
        }
    }

    fn stuck(&mut self, number: WorkerNumber, actions: &mut Vec<Action>) {
        if self.workers.get(&number).is_some_and(Worker::is_serving) {
            actions.push(Action::Say(Saying::Stuck { worker: number }));
            self.kill(number, actions);
        }
    }

    fn zygote_ended(
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
        generation.zygote = Zygote::Absent;
        let lost: Vec<_> = self.workers.iter().filter(|(_, w)| w.generation == number).map(|(n, _)| *n).collect();
        for worker in lost {
            self.workers.remove(&worker);
            actions.push(Action::Forget(worker));
        }
        if self.stop != Stop::No || was_told {
            return;
        }
        if !self.has_ever_served {
            return self.give_up(failure.map_or(Outcome::ZygoteFailed { status }, Outcome::BootFailed), actions);
        }
        if Some(number) == incoming {
            let failure = failure.unwrap_or_else(|| boot_failure(format!("the Python process {status}")));
            self.abandon_if_incoming(number, failure, actions);
        } else if number == target {
            let next = self.fail(now, number);
            actions.push(Action::Say(match failure {
                Some(failure) => Saying::WorkerBootFailed { failure, next },
                None => Saying::ZygoteGone { status, next },
            }));
        }
    }

    fn reload(&mut self, actions: &mut Vec<Action>) {
        let refusal = match (self.stop, self.has_ever_served) {
            (Stop::No, true) => None,
            (Stop::No, false) => Some("the server has not started yet"),
            _ => Some("the server is stopping"),
        };
        if let Some(refusal) = refusal {
            let (generation, failure) = (self.next_generation, boot_failure(refusal.to_owned()));
            return actions.push(Action::Say(Saying::ReloadFailed { generation, failure }));
        }
        let superseded = || boot_failure("another reload came after it".to_owned());
        if let Some(incoming) = self.incoming() {
            self.abandon_if_incoming(incoming, superseded(), actions);
        } else if let Some(generation) = self.reloading.take() {
            actions.push(Action::Say(Saying::ReloadFailed { generation, failure: superseded() }));
        }
        let generation = self.add_generation();
        self.reloading = Some(generation);
        actions.push(Action::Say(Saying::ReloadBegun { generation }));
    }

    fn abandon_if_incoming(
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

    fn scale(&mut self, workers: u32, actions: &mut Vec<Action>) {
        let from = std::mem::replace(&mut self.policy.workers, workers);
        if from != workers {
            actions.push(Action::Say(Saying::Scaled { from, to: workers }));
        }
    }

    fn stop_gracefully(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.stop != Stop::No {
            // Asked twice: now.
            return self.stop_now(now, actions);
        }
        let deadline = now + self.policy.graceful_timeout;
        self.stop = Stop::Gracefully { deadline };
        for (number, worker) in &mut self.workers {
            match worker.state {
                WorkerState::Serving(_) => {
                    worker.state = WorkerState::Draining { deadline };
                    actions.push(Action::Drain(*number));
                }
                WorkerState::Booting { .. } => {
                    worker.end();
                    actions.push(Action::Kill(*number));
                }
                WorkerState::Draining { .. } | WorkerState::Ending => {}
            }
        }
    }

    fn stop_now(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if !matches!(self.stop, Stop::Now { .. }) {
            self.stop = Stop::Now { deadline: now + KILL_GRACE };
        }
        for (number, worker) in &mut self.workers {
            worker.end();
            actions.push(Action::Kill(*number));
        }
    }

    fn give_up(&mut self, outcome: Outcome, actions: &mut Vec<Action>) {
        actions.extend(self.workers.keys().map(|number| Action::Kill(*number)));
        self.end_zygotes(actions);
        self.finish(outcome, actions);
    }

    fn end_zygotes(&self, actions: &mut Vec<Action>) {
        let present = self.generations.iter().filter(|generation| generation.zygote != Zygote::Absent);
        actions.extend(present.map(|generation| Action::EndZygote(generation.number)));
    }

    fn finish(&mut self, outcome: Outcome, actions: &mut Vec<Action>) {
        self.is_finished = true;
        actions.push(Action::Finish(outcome));
    }

    /// One more failure of a generation: it starts nothing for a while, longer each time.
    fn fail(&mut self, now: Instant, number: GenerationNumber) -> Duration {
        let jitter = self.jitter.next();
        self.generation(number).map_or(Duration::ZERO, |generation| generation.backoff.fail(now, jitter))
    }
}

/// A failure to boot that the worker itself could not report.
fn boot_failure(message: String) -> BootFailure {
    BootFailure { stage: "boot".to_owned(), message, hint: String::new(), traceback: String::new() }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
