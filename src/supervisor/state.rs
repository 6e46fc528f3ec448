//! Pure: the supervisor as a state machine. Same events at the same times in, same actions out.
//!
//! ```text
//!            fork            ready                 drain
//!  (wanted) ──────▶ Booting ───────▶ Serving ───────────────▶ Draining ───▶ gone
//!                      │                │  exit, kill                        ▲
//!                      └────────────────┴────────────────────────────────────┘
//! ```
//! A gone worker is replaced: at once if it had served, after a growing pause if it had not.

use crate::roster::WorkerNumber;
use monoceros_wire::message::{BootFailure, Interface};
use monoceros_wire::zygote::ExitStatus;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// First pause after a worker that never served; doubles with every further one.
const PAUSE_MIN: Duration = Duration::from_millis(250);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// For killed processes to be gone.
const KILL_GRACE: Duration = Duration::from_secs(5);

/// What the machine has to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    pub workers: u32,
    pub boot_timeout: Duration,
    pub graceful_timeout: Duration,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Start,
    /// The zygote can fork.
    ZygoteLoaded,
    /// The zygote is gone, and with it all its workers.
    ZygoteEnded {
        failure: Option<BootFailure>,
        status: String,
    },
    Forked {
        worker: WorkerNumber,
        pid: u32,
    },
    ForkFailed {
        worker: WorkerNumber,
        message: String,
    },
    Ready {
        worker: WorkerNumber,
        interface: Interface,
        slots: u32,
    },
    BootFailed {
        worker: WorkerNumber,
        failure: BootFailure,
    },
    LinkLost {
        worker: WorkerNumber,
        reason: String,
    },
    Exited {
        worker: WorkerNumber,
        status: ExitStatus,
    },
    /// One of its requests has passed its time-out.
    Overdue {
        worker: WorkerNumber,
    },
    /// It does not take up what is handed to it.
    Stuck {
        worker: WorkerNumber,
    },
    /// Finish what is going on, then end.
    StopGracefully,
    /// End now.
    StopQuickly,
    /// The time that [`Supervisor::wake_at`] asked for.
    Tick,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    StartZygote,
    Fork(WorkerNumber),
    /// Finish, then exit.
    Drain(WorkerNumber),
    Kill(WorkerNumber),
    /// The process is gone for certain.
    Forget(WorkerNumber),
    EndZygote,
    Say(Saying),
    Finish(Outcome),
}

/// What the operator is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Saying {
    /// The first worker can serve.
    Ready {
        interface: Interface,
    },
    WorkerReady {
        worker: WorkerNumber,
        pid: u32,
    },
    WorkerGone {
        worker: WorkerNumber,
        how: String,
        next: Option<Duration>,
    },
    WorkerBootFailed {
        failure: BootFailure,
        next: Duration,
    },
    BootTimeout {
        worker: WorkerNumber,
    },
    Overdue {
        worker: WorkerNumber,
    },
    Stuck {
        worker: WorkerNumber,
    },
    GraceOver {
        workers: u32,
    },
    ZygoteGone {
        status: String,
        next: Duration,
    },
    ForkFailed {
        message: String,
        next: Duration,
    },
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Stopped,
    /// No worker ever served, and the application (or the interpreter) is why.
    BootFailed(BootFailure),
    /// The zygote ended before it could do anything.
    ZygoteFailed {
        status: String,
    },
    BootTimeout,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WorkerState {
    Booting,
    Serving(Interface),
    Draining,
    /// Told to end at once, or its link is lost: only its exit is awaited.
    Ending,
}

#[derive(Debug, Clone)]
struct Worker {
    state: WorkerState,
    pid: u32,
    has_served: bool,
    boot_deadline: Instant,
    /// Said already why it goes.
    is_explained: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Zygote {
    Absent,
    Starting,
    Loaded,
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
    zygote: Zygote,
    workers: BTreeMap<WorkerNumber, Worker>,
    next_number: WorkerNumber,
    has_ever_served: bool,
    /// Failures in a row since a worker last became ready.
    failures: u32,
    /// Nothing is forked or started before this.
    pause_until: Option<Instant>,
    stop: Stop,
    is_finished: bool,
}

impl Supervisor {
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            zygote: Zygote::Absent,
            workers: BTreeMap::new(),
            next_number: 1,
            has_ever_served: false,
            failures: 0,
            pause_until: None,
            stop: Stop::No,
            is_finished: false,
        }
    }

    /// When [`Event::Tick`] is due.
    pub fn wake_at(&self) -> Option<Instant> {
        let booting = self.workers.values().filter(|worker| worker.state == WorkerState::Booting);
        // When stopping nothing is started, so no pause ends.
        let (pause, deadline) = match self.stop {
            Stop::No => (self.pause_until, None),
            Stop::Gracefully { deadline } | Stop::Now { deadline } => (None, Some(deadline)),
        };
        booting.map(|worker| worker.boot_deadline).chain(pause).chain(deadline).min()
    }

    /// Workers that can serve.
    pub fn serving(&self) -> usize {
        self.workers.values().filter(|worker| matches!(worker.state, WorkerState::Serving(_))).count()
    }

    /// Takes note of an event.
    pub fn step(&mut self, now: Instant, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.is_finished {
            return actions;
        }
        match event {
            Event::Start | Event::Tick => {}
            Event::ZygoteLoaded => self.zygote = Zygote::Loaded,
            Event::ZygoteEnded { failure, status } => self.zygote_ended(now, failure, status, &mut actions),
            Event::Forked { worker, pid } => {
                if let Some(entry) = self.workers.get_mut(&worker) {
                    entry.pid = pid;
                }
            }
            Event::ForkFailed { worker, message } => {
                self.workers.remove(&worker);
                actions.push(Action::Forget(worker));
                let next = self.pause(now);
                actions.push(Action::Say(Saying::ForkFailed { message, next }));
            }
            Event::Ready { worker, interface, .. } => self.ready(worker, interface, &mut actions),
            Event::BootFailed { worker, failure } => self.boot_failed(now, worker, failure, &mut actions),
            Event::LinkLost { worker, reason } => self.link_lost(worker, &reason, &mut actions),
            Event::Exited { worker, status } => self.exited(now, worker, status, &mut actions),
            Event::Overdue { worker } => self.overdue(worker, &mut actions),
            Event::Stuck { worker } => self.stuck(worker, &mut actions),
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
            // The end of the zygote is the end of its children, however it comes about.
            if self.workers.is_empty() || matches!(self.stop, Stop::Now { deadline } if now >= deadline) {
                actions.push(Action::EndZygote);
                self.finish(Outcome::Stopped, actions);
            }
            return;
        }
        self.kill_slow_boots(now, actions);
        if self.is_finished || self.pause_until.is_some_and(|until| now < until) {
            return;
        }
        self.pause_until = None;
        match self.zygote {
            Zygote::Absent => {
                self.zygote = Zygote::Starting;
                actions.push(Action::StartZygote);
            }
            Zygote::Starting => {}
            Zygote::Loaded => self.fork_missing(now, actions),
        }
    }

    fn fork_missing(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let alive = |worker: &&Worker| matches!(worker.state, WorkerState::Booting | WorkerState::Serving(_));
        let missing = (self.policy.workers as usize).saturating_sub(self.workers.values().filter(alive).count());
        for _ in 0..missing {
            let number = self.next_number;
            self.next_number += 1;
            self.workers.insert(
                number,
                Worker {
                    state: WorkerState::Booting,
                    pid: 0,
                    has_served: false,
                    boot_deadline: now + self.policy.boot_timeout,
                    is_explained: false,
                },
            );
            actions.push(Action::Fork(number));
        }
    }

    fn kill_slow_boots(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let mut is_any = false;
        for (number, worker) in &mut self.workers {
            if worker.state == WorkerState::Booting && now >= worker.boot_deadline {
                worker.state = WorkerState::Ending;
                worker.is_explained = true;
                is_any = true;
                actions.push(Action::Say(Saying::BootTimeout { worker: *number }));
                actions.push(Action::Kill(*number));
            }
        }
        if is_any {
            self.pause(now);
            if !self.has_ever_served {
                self.give_up(Outcome::BootTimeout, actions);
            }
        }
    }

    fn ready(&mut self, number: WorkerNumber, interface: Interface, actions: &mut Vec<Action>) {
        let Some(worker) = self.workers.get_mut(&number) else { return };
        if worker.state != WorkerState::Booting {
            return;
        }
        worker.state = WorkerState::Serving(interface);
        worker.has_served = true;
        self.failures = 0;
        actions.push(Action::Say(Saying::WorkerReady { worker: number, pid: worker.pid }));
        if !self.has_ever_served {
            self.has_ever_served = true;
            actions.push(Action::Say(Saying::Ready { interface }));
        }
    }

    fn boot_failed(&mut self, now: Instant, number: WorkerNumber, failure: BootFailure, actions: &mut Vec<Action>) {
        if let Some(worker) = self.workers.get_mut(&number) {
            worker.state = WorkerState::Ending;
            worker.is_explained = true;
        }
        if self.stop != Stop::No {
            return;
        }
        if self.has_ever_served {
            let next = self.pause(now);
            actions.push(Action::Say(Saying::WorkerBootFailed { failure, next }));
        } else {
            self.give_up(Outcome::BootFailed(failure), actions);
        }
    }

    fn link_lost(&mut self, number: WorkerNumber, reason: &str, actions: &mut Vec<Action>) {
        let Some(worker) = self.workers.get_mut(&number) else { return };
        if worker.state != WorkerState::Ending {
            if reason != LINK_ENDED {
                actions.push(Action::Say(Saying::WorkerGone { worker: number, how: reason.to_owned(), next: None }));
            }
            // Without its link it is of no use, alive or not.
            if worker.state != WorkerState::Draining {
                actions.push(Action::Kill(number));
            }
            worker.state = WorkerState::Ending;
        }
    }

    fn exited(&mut self, now: Instant, number: WorkerNumber, status: ExitStatus, actions: &mut Vec<Action>) {
        let Some(worker) = self.workers.remove(&number) else { return };
        actions.push(Action::Forget(number));
        if self.stop != Stop::No || (worker.state == WorkerState::Draining && status == ExitStatus::Code(0)) {
            return;
        }
        let next = if worker.has_served || worker.is_explained { None } else { Some(self.pause(now)) };
        if !worker.is_explained {
            actions.push(Action::Say(Saying::WorkerGone { worker: number, how: describe(status), next }));
        }
        if !self.has_ever_served && self.failures >= 3 {
            let failure = BootFailure {
                stage: "boot".to_owned(),
                message: format!("the workers end before they can serve ({})", describe(status)),
                hint: "their output above may say why".to_owned(),
                traceback: String::new(),
            };
            self.give_up(Outcome::BootFailed(failure), actions);
        }
    }

    fn overdue(&mut self, number: WorkerNumber, actions: &mut Vec<Action>) {
        let Some(worker) = self.workers.get_mut(&number) else { return };
        // An event loop goes on with its other requests; the one that is too slow was told that its client left.
        if worker.state == WorkerState::Serving(Interface::Wsgi) {
            worker.state = WorkerState::Ending;
            worker.is_explained = true;
            actions.push(Action::Say(Saying::Overdue { worker: number }));
            actions.push(Action::Kill(number));
        }
    }

    fn stuck(&mut self, number: WorkerNumber, actions: &mut Vec<Action>) {
        let Some(worker) = self.workers.get_mut(&number) else { return };
        if matches!(worker.state, WorkerState::Serving(_)) {
            worker.state = WorkerState::Ending;
            worker.is_explained = true;
            actions.push(Action::Say(Saying::Stuck { worker: number }));
            actions.push(Action::Kill(number));
        }
    }

    fn zygote_ended(&mut self, now: Instant, failure: Option<BootFailure>, status: String, actions: &mut Vec<Action>) {
        self.zygote = Zygote::Absent;
        actions.extend(std::mem::take(&mut self.workers).into_keys().map(Action::Forget));
        if self.stop != Stop::No {
            return;
        }
        if self.has_ever_served {
            let next = self.pause(now);
            if let Some(failure) = failure {
                actions.push(Action::Say(Saying::WorkerBootFailed { failure, next }));
            } else {
                actions.push(Action::Say(Saying::ZygoteGone { status, next }));
            }
        } else {
            let outcome = failure.map_or(Outcome::ZygoteFailed { status }, Outcome::BootFailed);
            self.give_up(outcome, actions);
        }
    }

    fn stop_gracefully(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.stop != Stop::No {
            // Asked twice: now.
            return self.stop_now(now, actions);
        }
        self.stop = Stop::Gracefully { deadline: now + self.policy.graceful_timeout };
        for (number, worker) in &mut self.workers {
            match worker.state {
                WorkerState::Serving(_) => {
                    worker.state = WorkerState::Draining;
                    actions.push(Action::Drain(*number));
                }
                WorkerState::Booting => {
                    worker.state = WorkerState::Ending;
                    actions.push(Action::Kill(*number));
                }
                WorkerState::Draining | WorkerState::Ending => {}
            }
        }
    }

    fn stop_now(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if !matches!(self.stop, Stop::Now { .. }) {
            self.stop = Stop::Now { deadline: now + KILL_GRACE };
        }
        for (number, worker) in &mut self.workers {
            worker.state = WorkerState::Ending;
            actions.push(Action::Kill(*number));
        }
    }

    fn give_up(&mut self, outcome: Outcome, actions: &mut Vec<Action>) {
        actions.extend(self.workers.keys().map(|number| Action::Kill(*number)));
        actions.push(Action::EndZygote);
        self.finish(outcome, actions);
    }

    fn finish(&mut self, outcome: Outcome, actions: &mut Vec<Action>) {
        self.is_finished = true;
        actions.push(Action::Finish(outcome));
    }

    /// One more failure: nothing is started for a while, longer each time.
    fn pause(&mut self, now: Instant) -> Duration {
        let pause = PAUSE_MIN.saturating_mul(1 << self.failures.min(10)).min(PAUSE_MAX);
        self.failures += 1;
        self.pause_until = Some(now + pause);
        pause
    }
}

/// What the upstream reports when a link simply ended: the exit status will say more.
pub const LINK_ENDED: &str = "its process has ended";

/// An exit status in words.
pub fn describe(status: ExitStatus) -> String {
    match status {
        ExitStatus::Code(0) => "exited by itself (code 0)".to_owned(),
        ExitStatus::Code(code) => format!("exited with code {code}"),
        ExitStatus::Signal(9) => "was killed (SIGKILL); by hand, or because memory ran out".to_owned(),
        ExitStatus::Signal(11) => "crashed (SIGSEGV)".to_owned(),
        ExitStatus::Signal(6) => "aborted (SIGABRT)".to_owned(),
        ExitStatus::Signal(15) => "was terminated (SIGTERM)".to_owned(),
        ExitStatus::Signal(signal) => format!("was ended by signal {signal}"),
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
