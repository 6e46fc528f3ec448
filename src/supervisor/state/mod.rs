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
mod failures;
mod memory;
mod pause;
mod pursue;
mod stop;
mod wake;

pub use events::{Action, Event, GenerationNumber, LINK_ENDED, Outcome, Policy, Retirement, Saying, describe};
pub use memory::{Memory, MemoryUse};

use super::autoscale::Reason;
use super::bounds::Bounds;
use crate::roster::WorkerNumber;
use failures::{End, boot_failure};
use memory::Ledger;
use monoceros_wire::message::Interface;
use pause::Backoff;
pub(crate) use pause::Jitter;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// For killed processes to be gone.
const KILL_GRACE: Duration = Duration::from_secs(5);
/// For late threads that were asked to return.
pub(super) const RETURN_GRACE: Duration = Duration::from_secs(2);
/// For workers that were told to break off: the lifespan's shutdown, exit hooks.
const HASTE: Duration = Duration::from_secs(3);
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
        /// It was told to break off.
        is_late: bool,
    },
    /// Told to end at once, or its link is lost: only its exit is awaited.
    Ending,
    /// It has ended because the application could not be loaded, and its own words about that are still on their way.
    Gone,
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
    /// Late threads of it were asked to return by then.
    return_by: Option<Instant>,
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
    Starting { deadline: Instant },
    Loaded { since: Instant },
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
    /// Everybody was told to break off; who has not ended by the deadline is killed.
    Hastily {
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
    /// There may be no worker until somebody calls.
    on_demand: bool,
    /// Somebody has called, and nobody serves yet.
    is_waking: bool,
    /// A reload whose end was not told yet.
    reloading: Option<GenerationNumber>,
    jitter: Jitter,
    ledger: Ledger,
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
            on_demand: false,
            is_waking: false,
            reloading: None,
            jitter: Jitter(policy.seed),
            ledger: Ledger::default(),
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
                    WorkerState::Booting { deadline } | WorkerState::Draining { deadline, .. } => Some(deadline),
                    WorkerState::Serving(_) => {
                        let retire_at = worker.retire_at.filter(|_| !worker.is_retiring);
                        retire_at.into_iter().chain(worker.return_by).min()
                    }
                    WorkerState::Ending | WorkerState::Gone => None,
                });
                let of_zygotes = self.generations.iter().filter_map(|generation| match generation.zygote {
                    Zygote::Starting { deadline } => Some(deadline),
                    _ => generation.backoff.until(now),
                });
                of_workers.chain(of_zygotes).min()
            }
            Stop::Gracefully { deadline } | Stop::Hastily { deadline } | Stop::Now { deadline } => Some(deadline),
        }
    }

    /// Workers that can serve.
    pub fn serving(&self) -> usize {
        self.workers.values().filter(|worker| worker.is_serving()).count()
    }

    /// Every worker, with its generation and what it is doing.
    pub fn workers(&self) -> impl Iterator<Item = (WorkerNumber, GenerationNumber, &'static str)> {
        self.workers.iter().map(|(number, worker)| {
            let state = match worker.state {
                WorkerState::Booting { .. } => "booting",
                WorkerState::Serving(_) if worker.is_retiring => "retiring",
                WorkerState::Serving(_) => "serving",
                WorkerState::Draining { .. } => "draining",
                WorkerState::Ending | WorkerState::Gone => "ending",
            };
            (*number, worker.generation, state)
        })
    }

    /// Workers asked for.
    pub fn wanted(&self) -> u32 {
        self.policy.workers
    }

    /// The generation that all workers should be of.
    pub fn target(&self) -> GenerationNumber {
        let usable = || self.generations.iter().filter(|generation| !generation.is_abandoned);
        let proven = usable().rfind(|generation| generation.is_proven);
        proven.or_else(|| usable().next()).map_or(0, |found| found.number)
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
                if let Some(entry) =
                    self.generation(generation).filter(|entry| matches!(entry.zygote, Zygote::Starting { .. }))
                {
                    entry.zygote = Zygote::Loaded { since: now };
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
            Event::Unfit { worker, failure } => self.unfit(now, worker, failure, &mut actions),
            Event::LinkLost { worker, reason } => self.link_lost(now, worker, &reason, &mut actions),
            Event::Exited { worker, status, requests, out_of_memory } => {
                self.exited(now, worker, End { status, requests, out_of_memory }, &mut actions);
            }
            Event::Overdue { worker } => self.overdue(now, worker, &mut actions),
            Event::Returned { worker } => self.returned(worker, &mut actions),
            Event::Stuck { worker } => self.stuck(worker, &mut actions),
            Event::Retire { worker, reason } => self.retire(worker, reason, &mut actions),
            Event::Memory(memory) => {
                let exceeded = self.note_memory(memory);
                actions.extend(exceeded.map(|memory| Action::Say(Saying::BudgetExceeded { memory })));
            }
            Event::Reload => self.reload(&mut actions),
            Event::Adopt { policy, workers } => self.adopt(policy, workers, &mut actions),
            Event::Scale { workers, reason } => self.scale(workers, reason, &mut actions),
            Event::OnDemand(is_on) => self.on_demand = is_on,
            Event::Called => self.called(now, &mut actions),
            Event::StopGracefully => self.stop_gracefully(now, &mut actions),
            Event::StopQuickly => self.stop_quickly(now, &mut actions),
        }
        if !self.is_finished {
            self.pursue(now, &mut actions);
        }
        actions
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
        self.is_waking = false;
        if self.on_demand {
            // It was to prove new code while nobody asked for anything: it stays until it is idle.
            self.policy.workers = self.policy.workers.max(1);
        }
        if let Some(entry) = self.generation(generation)
            && !std::mem::replace(&mut entry.is_proven, true)
        {
            actions.push(Action::Say(Saying::Proven { generation }));
        }
        if !self.has_ever_served {
            self.has_ever_served = true;
            actions.push(Action::Say(Saying::Ready { interface }));
        }
    }

    fn reload(&mut self, actions: &mut Vec<Action>) {
        let refusal = match (self.stop, self.has_ever_served) {
            (Stop::No, true) => None,
            (Stop::No, false) if self.policy.waits_for_change => None,
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
        if !self.has_ever_served {
            self.abandon_all(actions);
        }
        let generation = self.add_generation();
        self.reloading = Some(generation);
        actions.push(Action::Say(Saying::ReloadBegun { generation }));
    }

    fn adopt(&mut self, policy: Policy, workers: Option<Bounds>, actions: &mut Vec<Action>) {
        self.policy = Policy { workers: self.policy.workers, ..policy };
        if let Some(workers) = workers {
            self.scale(workers.clamp(self.policy.workers), None, actions);
        }
    }

    fn scale(&mut self, workers: u32, reason: Option<Reason>, actions: &mut Vec<Action>) {
        let workers = if reason.is_some() { self.within_budget(workers, actions) } else { workers };
        let from = std::mem::replace(&mut self.policy.workers, workers);
        self.is_waking &= workers > 0;
        if from != workers {
            actions.push(Action::Say(Saying::Scaled { from, to: workers, reason }));
        }
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
