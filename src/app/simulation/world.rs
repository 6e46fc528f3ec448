//! The world of the simulation: what is where, what happens next, and what the supervisor wants done.

use super::client::{Asked, Number};
use super::worker::{Held, Process};
use crate::roster::{Report, WorkerNumber};
use crate::supervisor::autoscale::Reason;
use crate::supervisor::event_of;
use crate::supervisor::state::{
    Action, Event, GenerationNumber, Jitter, LINK_ENDED, Outcome as End, Policy, Saying, Supervisor,
};
use crate::upstream;
use crate::upstream::failover::Policy as FailoverPolicy;
use crate::upstream::rehearsal::Rehearsal;
use crate::upstream::timeouts::Timeouts;
use monoceros_wire::message::{BootFailure, Interface};
use monoceros_wire::page::Page;
use monoceros_wire::zygote::ExitStatus;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(super) const MICROSECOND: Duration = Duration::from_micros(1);
pub(super) const MILLISECOND: Duration = Duration::from_millis(1);
pub(super) const RETRIES: u32 = 1;
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_millis(300);
pub(super) const PAUSE_TIMEOUT: Duration = Duration::from_millis(600);

/// What happens in the world.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Happening {
    Arrives {
        is_post: bool,
    },
    Leaves(Number),
    ZygoteLoads(GenerationNumber),
    ZygoteDies(GenerationNumber),
    Boots(WorkerNumber),
    FailsToBoot(WorkerNumber),
    /// The worker reads, and enters what it can.
    Turns(WorkerNumber),
    /// Its frames reach the front.
    Delivers(WorkerNumber),
    /// The application has something to say.
    Goes {
        worker: WorkerNumber,
        held: Held,
        how: Way,
        since: u64,
    },
    Hangs(WorkerNumber),
    Dies {
        worker: WorkerNumber,
        signal: i32,
    },
    /// The front sees the end of the link.
    LinkEnds(WorkerNumber),
    /// The zygote tells of the exit.
    Reaped {
        worker: WorkerNumber,
        signal: i32,
        requests: u64,
    },
    Sweep,
    Reload,
    Scale(u32),
    /// All workers go, where there may be none until a request calls one.
    Idle,
    StopGracefully,
}

/// How an application goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    Answers,
    BeginsToAnswer,
    EndsItsAnswer,
    Raises,
    KillsTheWorker,
}

pub(super) struct World {
    pub(super) machine: Supervisor,
    pub(super) pool: Rehearsal,
    pub(super) now: Instant,
    pub(super) begun: Instant,
    pub(super) random: Jitter,
    pub(super) agenda: BinaryHeap<Reverse<(Instant, u64, Happening)>>,
    pub(super) planned: u64,
    pub(super) sweep_at: Option<Instant>,
    pub(super) events: VecDeque<Event>,
    pub(super) interface: Interface,
    pub(super) zygotes: BTreeSet<GenerationNumber>,
    pub(super) workers: BTreeMap<WorkerNumber, Process>,
    /// Workers with a turn, or a delivery, on the agenda.
    pub(super) turning: BTreeSet<WorkerNumber>,
    pub(super) delivering: BTreeSet<WorkerNumber>,
    /// Dead workers whose last frames are on the way.
    pub(super) last_words: BTreeMap<WorkerNumber, Process>,
    pub(super) ever_died: BTreeSet<WorkerNumber>,
    pub(super) broken: BTreeSet<GenerationNumber>,
    pub(super) asked: Vec<Asked>,
    pub(super) open: BTreeSet<Number>,
    pub(super) outcome: Option<End>,
    /// There may be no worker until a request calls one.
    pub(super) on_demand: bool,
    pub(super) is_calm: bool,
    pub(super) history: Option<Vec<String>>,
}

impl World {
    pub(super) fn new(seed: u64, is_told: bool) -> Self {
        let mut random = Jitter(seed);
        let policy = Policy {
            workers: 1 + random.below(4) as u32,
            surge: 1,
            memory_budget: 0,
            boot_timeout: Duration::from_secs(1),
            graceful_timeout: Duration::from_secs(2),
            drain_timeout: Duration::from_millis(500),
            max_lifetime: Duration::ZERO,
            waits_for_change: false,
            lifetime_jitter: Duration::ZERO,
            seed,
        };
        let settings = upstream::Settings {
            queue_size: 40,
            queue_timeout: Duration::from_millis(800),
            timeouts: Timeouts { answer: REQUEST_TIMEOUT, pause: Some(PAUSE_TIMEOUT), routes: Vec::new() },
            // The budget has tables of its own.
            failover: FailoverPolicy { retries: RETRIES, budget: 100, ..FailoverPolicy::default() },
            ..upstream::Settings::default()
        };
        let now = Instant::now();
        let interface = if random.below(2) == 0 { Interface::Wsgi } else { Interface::Asgi };
        Rehearsal::set_time(1);
        Self {
            machine: Supervisor::new(policy),
            pool: Rehearsal::new(settings),
            now,
            begun: now,
            random,
            agenda: BinaryHeap::new(),
            planned: 0,
            sweep_at: None,
            events: VecDeque::new(),
            interface,
            zygotes: BTreeSet::new(),
            workers: BTreeMap::new(),
            turning: BTreeSet::new(),
            delivering: BTreeSet::new(),
            last_words: BTreeMap::new(),
            ever_died: BTreeSet::new(),
            broken: BTreeSet::new(),
            asked: Vec::new(),
            open: BTreeSet::new(),
            outcome: None,
            on_demand: seed % 4 == 3,
            is_calm: true,
            history: is_told.then(Vec::new),
        }
    }

    pub(super) fn nanoseconds(&self) -> u64 {
        self.now.duration_since(self.begun).as_nanos() as u64 + 1
    }

    pub(super) fn chance(&mut self, per_thousand: u64) -> bool {
        !self.is_calm && self.random.below(1000) < per_thousand
    }

    pub(super) fn plan(&mut self, after: Duration, happening: Happening) {
        self.planned += 1;
        self.agenda.push(Reverse((self.now + after, self.planned, happening)));
    }

    pub(super) fn plan_within(&mut self, least: Duration, most: Duration, happening: Happening) {
        let after = least + self.random.up_to(most.saturating_sub(least));
        self.plan(after, happening);
    }

    pub(super) fn note(&mut self, text: impl FnOnce() -> String) {
        let at = self.now.duration_since(self.begun).as_micros();
        if let Some(history) = &mut self.history {
            history.push(format!("{:>7}.{:03} ms  {}", at / 1000, at % 1000, text()));
        }
    }

    pub(super) fn tell(&mut self, event: Event) {
        self.events.push_back(event);
        while let Some(event) = self.events.pop_front() {
            self.note(|| format!("{event:?}"));
            for action in self.machine.step(self.now, event) {
                self.note(|| format!("        {action:?}"));
                self.perform(action);
            }
        }
    }

    pub(super) fn perform(&mut self, action: Action) {
        match action {
            Action::StartZygote(generation) => {
                assert!(self.zygotes.insert(generation), "a second zygote of generation {generation}");
                self.plan_within(MILLISECOND, 100 * MILLISECOND, Happening::ZygoteLoads(generation));
                if self.chance(60) {
                    self.plan_within(MILLISECOND, 3000 * MILLISECOND, Happening::ZygoteDies(generation));
                }
            }
            Action::Fork { worker, generation } => self.fork(worker, generation),
            Action::Wake => self.pool.wake(),
            Action::Refuse { pause } => self.pool.refuse(pause),
            Action::Drain(worker) => self.pool.drain(worker),
            Action::Hasten(worker) => {
                if !self.chance(200) {
                    self.plan_within(MILLISECOND, 500 * MILLISECOND, Happening::Dies { worker, signal: 0 });
                }
            }
            Action::Kill(worker) => {
                self.plan_within(10 * MICROSECOND, 5 * MILLISECOND, Happening::Dies { worker, signal: 9 });
            }
            Action::EndZygote(generation) => {
                self.plan_within(MILLISECOND, 20 * MILLISECOND, Happening::ZygoteDies(generation));
            }
            Action::Say(Saying::ReloadBegun { generation }) => {
                if self.random.below(100) < 40 {
                    self.broken.insert(generation);
                }
            }
            Action::Finish(outcome) => self.outcome = Some(outcome),
            Action::Forget(_) | Action::Say(_) => {}
        }
    }

    pub(super) fn fork(&mut self, worker: WorkerNumber, generation: GenerationNumber) {
        assert!(self.zygotes.contains(&generation), "fork without a zygote");
        let slots = match self.interface {
            Interface::Wsgi => 1 + self.random.below(3) as u32,
            Interface::Asgi => 8,
        };
        let page = Arc::new(Page::create(64).expect("memory").0);
        self.pool.join(worker, Arc::clone(&page));
        self.workers.insert(worker, Process::new(generation, self.interface, slots, page));
        self.events.push_back(Event::Forked { worker, pid: worker });
        let is_broken = self.broken.contains(&generation) || self.chance(20);
        let boots = if is_broken { Happening::FailsToBoot(worker) } else { Happening::Boots(worker) };
        let most = if self.chance(50) { 2000 } else { 150 };
        self.plan_within(5 * MILLISECOND, most * MILLISECOND, boots);
        if self.chance(300) {
            self.plan_within(MILLISECOND, 3000 * MILLISECOND, Happening::Dies { worker, signal: 9 });
        }
        if self.chance(100) {
            self.plan_within(200 * MILLISECOND, 3000 * MILLISECOND, Happening::Hangs(worker));
        }
    }

    pub(super) fn happen(&mut self, happening: &Happening) {
        match *happening {
            Happening::Arrives { is_post } => self.ask(is_post),
            Happening::Leaves(number) => {
                if self.open.remove(&number) {
                    self.note(|| format!("{number:?} leaves"));
                    self.asked[number.0].leave();
                }
            }
            Happening::ZygoteLoads(generation) if self.zygotes.contains(&generation) => {
                self.tell(Event::ZygoteLoaded { generation });
            }
            Happening::ZygoteDies(generation) => self.zygote_dies(generation),
            Happening::Boots(worker) => {
                if let Some(process) = self.workers.get_mut(&worker) {
                    process.greet();
                    self.plan_delivery(worker);
                }
            }
            Happening::FailsToBoot(worker) => {
                if self.workers.contains_key(&worker) {
                    let failure = BootFailure {
                        stage: "import".to_owned(),
                        message: "ImportError".to_owned(),
                        hint: String::new(),
                        traceback: String::new(),
                    };
                    self.tell(Event::BootFailed { worker, failure });
                    self.die(worker, 0);
                }
            }
            Happening::Turns(worker) => self.turn(worker),
            Happening::Delivers(worker) => self.deliver(worker),
            Happening::Goes { worker, held, how, since } => self.go(worker, held, how, since),
            Happening::Hangs(worker) => {
                if let Some(process) = self.workers.get_mut(&worker) {
                    process.is_hung = true;
                    self.note(|| format!("worker {worker} hangs"));
                }
            }
            Happening::Dies { worker, signal } => self.die(worker, signal),
            Happening::LinkEnds(worker) => {
                self.deliver(worker);
                self.last_words.remove(&worker);
                self.pool.lose(worker, LINK_ENDED);
            }
            Happening::Reaped { worker, signal, requests } => {
                let status = if signal == 0 { ExitStatus::Code(0) } else { ExitStatus::Signal(signal) };
                self.tell(Event::Exited { worker, status, requests, out_of_memory: false });
            }
            Happening::Sweep => self.sweep(),
            Happening::Reload => self.tell(Event::Reload),
            Happening::Scale(workers) => self.tell(Event::Scale { workers, reason: None }),
            Happening::Idle => {
                self.tell(Event::Scale { workers: 0, reason: Some(Reason::Unused(MILLISECOND)) });
            }
            Happening::StopGracefully => {
                self.pool.pool.close();
                self.tell(Event::StopGracefully);
            }
            Happening::ZygoteLoads(_) => {}
        }
        self.settle();
    }

    /// Everything that follows at once.
    pub(super) fn settle(&mut self) {
        loop {
            self.look_at_answers();
            let reports: Vec<Report> = self.pool.reports();
            if reports.is_empty() {
                break;
            }
            for report in reports {
                if let Some(event) = event_of(report) {
                    self.tell(event);
                }
            }
        }
        for worker in self.workers.keys().copied().collect::<Vec<_>>() {
            if self.pool.has_news_for(worker) && !self.workers[&worker].is_hung {
                self.plan_turn(worker);
            }
        }
        if self.pool.wants_a_sweep() {
            self.sweep_at = Some(self.sweep_at.map_or(self.now, |at| at.min(self.now)));
        }
    }

    pub(super) fn sweep(&mut self) {
        self.sweep_at = self.pool.sweep().map(|after| self.now + after);
    }

    pub(super) fn run(&mut self, until: Instant) {
        let mut steps = 0;
        while self.outcome.is_none() {
            steps += 1;
            assert!(steps < 500_000, "it never comes to rest");
            let alarm = self.machine.wake_at(self.now);
            let next = self.agenda.peek().map(|Reverse((at, ..))| *at);
            let Some(at) = [alarm, next, self.sweep_at].into_iter().flatten().min().filter(|at| *at <= until) else {
                self.now = until;
                break;
            };
            self.now = at.max(self.now);
            Rehearsal::set_time(self.nanoseconds());
            if self.sweep_at == Some(at) {
                self.happen(&Happening::Sweep);
            } else if next == Some(at) {
                if let Some(Reverse((.., happening))) = self.agenda.pop() {
                    self.happen(&happening);
                }
            } else {
                self.tell(Event::Tick);
                self.settle();
            }
        }
        Rehearsal::set_time(self.nanoseconds());
    }

    pub(super) fn run_for(&mut self, time: Duration) {
        self.run(self.now + time);
    }
}
