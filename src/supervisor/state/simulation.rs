//! The machine in a world of seeded misfortune: workers that crash, hang, boot slowly or not at all, zygotes that die,
//! reloads of good and of broken code, scaling, recycling, in every fourth world no worker until a request calls one. Time is virtual. `SEED=n` runs one seed and shows all of its history if it fails.

use super::*;
use monoceros_wire::zygote::ExitStatus;
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

/// What the world does by itself at some moment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    ZygoteLoads(GenerationNumber),
    ZygoteDies(GenerationNumber),
    WorkerReady(WorkerNumber),
    WorkerFailsToBoot(WorkerNumber),
    WorkerDies {
        worker: WorkerNumber,
        signal: i32,
    },
    WorkerHangs(WorkerNumber),
    WorkerReturns(WorkerNumber),
    WorkerDrained(WorkerNumber),
    Reload,
    Scale(u32),
    /// A request, in a world where there may be no worker; it waits until one serves.
    Arrives,
    /// The pool calls, as long as somebody waits and nobody is there.
    Calls,
    Idle,
    Retire,
    /// Somebody looks at what the workers use.
    Weigh,
    StopGracefully,
}

struct Process {
    generation: GenerationNumber,
    has_served: bool,
    is_drained: bool,
    /// What it uses, in bytes.
    size: u64,
}

struct World {
    machine: Supervisor,
    now: Instant,
    begun: Instant,
    random: Jitter,
    agenda: BinaryHeap<Reverse<(Instant, u64, Happening)>>,
    planned: u64,
    zygotes: BTreeSet<GenerationNumber>,
    workers: BTreeMap<WorkerNumber, Process>,
    /// Generations whose code cannot be loaded.
    broken: BTreeSet<GenerationNumber>,
    /// Workers that finished and went, as they were told to.
    has_gone_well: BTreeSet<WorkerNumber>,
    reloads_begun: BTreeSet<GenerationNumber>,
    reloads_ended: BTreeSet<GenerationNumber>,
    outcome: Option<Outcome>,
    /// There may be no worker until somebody calls, and somebody waits.
    on_demand: bool,
    is_waiting: bool,
    /// Misfortune is over: everything works from here on.
    is_calm: bool,
    history: Vec<String>,
}

const MILLISECOND: Duration = Duration::from_millis(1);
/// Of most workers, roughly.
const SIZE: u64 = 1 << 20;

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Jitter(seed);
        let policy = Policy {
            workers: 1 + (random.next() % 6) as u32,
            surge: 1 + (random.next() % 3) as u32,
            // Enough for none, or for about so many.
            memory_budget: if random.next().is_multiple_of(2) { 0 } else { 1 + random.below(10) * SIZE },
            boot_timeout: Duration::from_secs(3),
            graceful_timeout: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(4),
            max_lifetime: if random.next().is_multiple_of(2) { Duration::ZERO } else { Duration::from_secs(10) },
            lifetime_jitter: Duration::from_secs(2),
            waits_for_change: false,
            seed,
        };
        let now = Instant::now();
        Self {
            machine: Supervisor::new(policy),
            now,
            begun: now,
            random,
            agenda: BinaryHeap::new(),
            planned: 0,
            zygotes: BTreeSet::new(),
            workers: BTreeMap::new(),
            broken: BTreeSet::new(),
            has_gone_well: BTreeSet::new(),
            reloads_begun: BTreeSet::new(),
            reloads_ended: BTreeSet::new(),
            outcome: None,
            on_demand: seed % 4 == 3,
            is_waiting: false,
            is_calm: false,
            history: Vec::new(),
        }
    }

    fn chance(&mut self, percent: u64) -> bool {
        !self.is_calm && self.random.next() % 100 < percent
    }

    fn plan(&mut self, after: Duration, happening: Happening) {
        self.planned += 1;
        self.agenda.push(Reverse((self.now + after, self.planned, happening)));
    }

    fn plan_within(&mut self, least: u32, most: u32, happening: Happening) {
        let after = MILLISECOND * least + self.random.up_to(MILLISECOND * (most - least));
        self.plan(after, happening);
    }

    fn note(&mut self, text: &str) {
        let at = self.now.duration_since(self.begun).as_millis();
        self.history.push(format!("{at:>7} ms  {text}"));
    }

    /// One event for the machine, and what follows from it.
    fn tell(&mut self, event: Event) {
        if !matches!(event, Event::Memory(_)) {
            self.note(&format!("{event:?}"));
        }
        let serving_before = self.machine.serving();
        let may_fall = !matches!(event, Event::Reload | Event::Tick | Event::Ready { .. } | Event::Retire { .. });
        let actions = self.machine.step(self.now, event);
        // Who hangs and was asked in vain serves nobody.
        let may_fall = may_fall || actions.iter().any(|act| matches!(act, Action::Say(Saying::Unreturned { .. })));
        let is_stopping = self.machine.stop != Stop::No;
        let is_said = |test: &dyn Fn(&Saying) -> bool| {
            actions.iter().filter(|action| matches!(action, Action::Say(saying) if test(saying))).count()
        };
        let gone_first = is_said(&|saying| matches!(saying, Saying::LeavesFirst { .. }));
        let is_beyond = is_said(&|saying| matches!(saying, Saying::BeyondBudget { .. })) > 0;
        let forks = actions.iter().filter(|action| matches!(action, Action::Fork { .. })).count();
        self.check_memory(forks as u64, is_beyond);
        for action in actions {
            self.note(&format!("        {action:?}"));
            self.perform(action);
        }
        // Nobody is let go for the sake of a replacement before the replacement serves, unless memory forbids it; then it
        // is one, and not the last.
        let least = serving_before.min(self.machine.wanted() as usize);
        let serving = self.machine.serving();
        let is_allowed = may_fall || is_stopping || serving >= least || (gone_first == 1 && serving + 1 >= least);
        assert!(is_allowed, "{serving} serve, not {least}");
        assert!(gone_first == 0 || (serving > 0 && self.machine.policy.memory_budget > 0), "the last one goes first");
        self.check();
        if self.is_waiting && !is_stopping {
            assert!(self.machine.wanted() > 0 || self.outcome.is_some(), "somebody waits and nobody is wanted");
        }
    }

    /// Workers start within the budget, or because nobody else serves.
    fn check_memory(&self, forks: u64, is_beyond: bool) {
        let Some(memory) = self.machine.memory().filter(|_| forks > 0) else { return };
        // Those that were just started are in it already.
        if memory.used > memory.budget && memory.one_more > 0 {
            let alive = self.machine.workers.values().filter(|worker| worker.is_serving()).count();
            assert!(
                is_beyond && forks == 1 && alive <= 1,
                "{forks} started beyond the budget beside {alive}: {memory:?}"
            );
        }
    }

    /// As many serve as are wanted. With a budget at least one, and the others come, or there is no memory for them.
    fn check_capacity(&self, after: &str) {
        let (serving, wanted) = (self.machine.serving(), self.machine.wanted() as usize);
        let is_enough = match self.machine.memory() {
            None => serving >= wanted,
            Some(MemoryUse { budget, used, one_more }) => {
                serving > 0 && (self.machine.workers.len() >= wanted || used + one_more > budget)
            }
        };
        assert!(is_enough, "{serving} serve, not {wanted}, after {after}: {:?}", self.machine.memory());
    }

    fn weigh(&mut self) {
        let sizes = self.workers.iter().map(|(worker, process)| (*worker, process.size));
        let measured = Memory { zygotes: self.zygotes.len() as u64 * SIZE / 8, workers: sizes.collect() };
        self.tell(Event::Memory(measured));
    }

    fn check(&self) {
        let known: BTreeSet<_> = self.machine.workers.keys().copied().collect();
        if self.outcome.is_none() {
            for worker in self.workers.keys() {
                assert!(known.contains(worker), "worker {worker} runs and nobody knows");
            }
            if self.machine.stop == Stop::No {
                let mut serving = self.machine.workers.values().filter(|worker| worker.is_serving());
                let is_over = |worker: &Worker| worker.return_by.is_some_and(|by| by <= self.now);
                assert!(!serving.any(is_over), "one that did not return serves on");
                let alive = self.machine.workers.values().filter(|worker| worker.is_serving() || worker.is_booting());
                let most = self.machine.policy.workers + self.machine.policy.surge;
                assert!(alive.count() <= most as usize, "more workers than the surge allows");
            }
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::StartZygote(generation) => {
                assert!(self.zygotes.insert(generation), "a second zygote of generation {generation}");
                self.plan_within(20, 200, Happening::ZygoteLoads(generation));
                if self.chance(10) {
                    self.plan_within(10, 20_000, Happening::ZygoteDies(generation));
                }
            }
            Action::Fork { worker, generation } => {
                assert!(self.zygotes.contains(&generation), "fork without a zygote");
                let size = SIZE / 2 + self.random.below(SIZE);
                self.workers.insert(worker, Process { generation, has_served: false, is_drained: false, size });
                let is_broken = self.broken.contains(&generation) || self.chance(3);
                let is_slow = self.chance(5);
                let boots =
                    if is_broken { Happening::WorkerFailsToBoot(worker) } else { Happening::WorkerReady(worker) };
                self.plan_within(20, if is_slow { 6_000 } else { 500 }, boots);
                if self.chance(40) {
                    self.plan_within(1, 15_000, Happening::WorkerDies { worker, signal: 9 });
                }
                if self.chance(15) {
                    self.plan_within(500, 15_000, Happening::WorkerHangs(worker));
                }
            }
            Action::Wake => assert!(self.is_waiting, "a worker for nobody"),
            Action::Refuse { pause } => {
                assert_eq!(self.machine.serving(), 0, "refused though somebody serves");
                assert!(!pause.is_zero() && pause < Duration::from_secs(20), "{pause:?}");
                self.is_waiting = false;
            }
            Action::Drain(worker) => {
                if let Some(process) = self.workers.get_mut(&worker) {
                    assert!(!process.is_drained, "drained twice");
                    process.is_drained = true;
                }
                // Some hold a WebSocket that never ends.
                if !self.chance(20) {
                    self.plan_within(1, 3_000, Happening::WorkerDrained(worker));
                }
            }
            Action::Hasten(worker) => {
                if !self.chance(20) {
                    self.plan_within(1, 1_000, Happening::WorkerDrained(worker));
                }
            }
            Action::Kill(worker) => self.plan_within(1, 50, Happening::WorkerDies { worker, signal: 9 }),
            Action::Forget(worker) => {
                assert!(!self.workers.contains_key(&worker), "worker {worker} is forgotten and runs");
            }
            Action::EndZygote(generation) => self.plan_within(1, 50, Happening::ZygoteDies(generation)),
            Action::Say(Saying::ReloadBegun { generation }) => {
                assert!(self.reloads_begun.insert(generation));
                if self.chance(40) {
                    self.broken.insert(generation);
                }
            }
            Action::Say(Saying::ReloadDone { generation }) => {
                assert!(self.reloads_ended.insert(generation), "told twice about reload {generation}");
                assert!(!self.broken.contains(&generation), "broken code is in service");
            }
            Action::Say(Saying::ReloadFailed { generation, .. }) => {
                assert!(self.reloads_ended.insert(generation), "told twice about reload {generation}");
            }
            Action::Say(Saying::WorkerGone { worker, how, .. }) => {
                assert!(!self.has_gone_well.contains(&worker), "worker {worker} did as told, but {how}");
            }
            Action::Say(_) => {}
            Action::Finish(outcome) => self.outcome = Some(outcome),
        }
    }

    fn happen(&mut self, happening: &Happening) {
        match *happening {
            Happening::ZygoteLoads(generation) if self.zygotes.contains(&generation) => {
                self.tell(Event::ZygoteLoaded { generation });
            }
            Happening::ZygoteDies(generation) if self.zygotes.remove(&generation) => {
                self.workers.retain(|_, process| process.generation != generation);
                self.tell(Event::ZygoteEnded { generation, failure: None, status: "was killed".to_owned() });
            }
            Happening::WorkerReady(worker) => {
                if let Some(process) = self.workers.get_mut(&worker) {
                    process.has_served = true;
                    self.is_waiting = false;
                    self.tell(Event::Ready { worker, interface: Interface::Wsgi, slots: 1 });
                    self.weigh();
                }
            }
            Happening::WorkerFailsToBoot(worker) if self.workers.contains_key(&worker) => {
                self.tell(Event::BootFailed { worker, failure: boot_failure("ImportError".to_owned()) });
                self.plan(MILLISECOND, Happening::WorkerDies { worker, signal: 0 });
            }
            Happening::WorkerDies { worker, signal } => {
                let Some(process) = self.workers.remove(&worker) else { return };
                let status = if signal == 0 { ExitStatus::Code(4) } else { ExitStatus::Signal(signal) };
                if self.random.next().is_multiple_of(2) {
                    self.tell(Event::LinkLost { worker, reason: LINK_ENDED.to_owned() });
                }
                let requests = if process.has_served { self.random.next() % 3 } else { 0 };
                self.tell(Event::Exited { worker, status, requests, out_of_memory: false });
            }
            Happening::WorkerHangs(worker) if self.workers.contains_key(&worker) => {
                let is_overdue = self.random.next().is_multiple_of(2);
                self.tell(if is_overdue { Event::Overdue { worker } } else { Event::Stuck { worker } });
                if is_overdue && self.random.next().is_multiple_of(2) {
                    self.plan_within(1, 3_000, Happening::WorkerReturns(worker));
                }
            }
            Happening::WorkerReturns(worker) if self.workers.contains_key(&worker) => {
                self.tell(Event::Returned { worker });
                let known = self.machine.workers.get(&worker);
                assert!(
                    known.is_none_or(|known| !known.is_serving() || known.return_by.is_none()),
                    "kills who returned"
                );
            }
            Happening::WorkerDrained(worker) if self.workers.remove(&worker).is_some() => {
                if self.random.next().is_multiple_of(2) {
                    self.tell(Event::LinkLost { worker, reason: LINK_ENDED.to_owned() });
                }
                self.has_gone_well.insert(worker);
                self.tell(Event::Exited { worker, status: ExitStatus::Code(0), requests: 9, out_of_memory: false });
            }
            Happening::Reload => self.tell(Event::Reload),
            Happening::Scale(workers) => self.tell(Event::Scale { workers, reason: None }),
            Happening::Arrives | Happening::Calls => {
                let is_news = *happening == Happening::Arrives && !self.is_waiting;
                self.is_waiting |= is_news && self.machine.serving() == 0;
                if self.is_waiting {
                    self.tell(Event::Called);
                    self.plan(MILLISECOND * 50, Happening::Calls);
                }
            }
            Happening::Idle => {
                let reason = Some(Reason::Unused(MILLISECOND));
                if !self.is_waiting {
                    self.tell(Event::Scale { workers: 0, reason });
                }
            }
            Happening::Retire => {
                let workers: Vec<_> = self.workers.keys().copied().collect();
                if let Some(worker) = workers.get(self.random.next() as usize % workers.len().max(1)) {
                    self.tell(Event::Retire { worker: *worker, reason: Retirement::Asked });
                }
            }
            Happening::Weigh => {
                for process in self.workers.values_mut() {
                    process.size += self.random.below(SIZE / 50);
                }
                self.weigh();
                self.plan(Duration::from_secs(2), Happening::Weigh);
            }
            Happening::StopGracefully => self.tell(Event::StopGracefully),
            // It is gone already.
            _ => {}
        }
    }

    /// Lets time pass until `until`, or until the machine has finished.
    fn run(&mut self, until: Instant) {
        let mut steps = 0;
        while self.outcome.is_none() {
            steps += 1;
            assert!(steps < 200_000, "it never comes to rest");
            let alarm = self.machine.wake_at(self.now);
            let next = self.agenda.peek().map(|Reverse((at, ..))| *at);
            let Some(at) = alarm.into_iter().chain(next).min().filter(|at| *at <= until) else {
                self.now = until;
                return;
            };
            assert!(at >= self.now, "an alarm in the past");
            self.now = at;
            if next == Some(at) {
                if let Some(Reverse((.., happening))) = self.agenda.pop() {
                    self.happen(&happening);
                }
            } else {
                self.tell(Event::Tick);
                assert!(self.machine.wake_at(self.now).is_none_or(|next| next > at), "an alarm that does not end");
            }
        }
    }
}

fn simulate(world: &mut World) {
    // The first start is not disturbed: if it fails, the program ends, which other tests look at.
    world.is_calm = true;
    if world.on_demand {
        world.tell(Event::OnDemand(true));
    }
    world.tell(Event::Start);
    if world.machine.policy.memory_budget > 0 {
        world.plan(Duration::ZERO, Happening::Weigh);
    }
    world.run(world.now + Duration::from_secs(2));
    world.is_calm = false;
    world.check_capacity("the first start");
    for _ in 0..world.random.next() % 12 {
        world.plan_within(0, 30_000, Happening::Reload);
    }
    for _ in 0..world.random.next() % 4 {
        let workers = 1 + (world.random.next() % 6) as u32;
        world.plan_within(0, 30_000, Happening::Scale(workers));
    }
    for _ in 0..world.random.next() % 6 {
        world.plan_within(0, 30_000, Happening::Retire);
    }
    for _ in 0..if world.on_demand { 6 + world.random.next() % 6 } else { 0 } {
        world.plan_within(0, 30_000, Happening::Arrives);
        world.plan_within(0, 30_000, Happening::Idle);
    }
    let first: Vec<_> = world.workers.keys().copied().collect();
    for worker in first {
        if world.chance(50) {
            world.plan_within(1, 15_000, Happening::WorkerDies { worker, signal: 11 });
        }
    }
    world.run(world.now + Duration::from_secs(30));
    // Whatever happened, it recovers by itself.
    world.is_calm = true;
    world
        .agenda
        .retain(|Reverse((_, _, happening))| !matches!(happening, Happening::WorkerHangs(_) | Happening::Reload));
    world.run(world.now + Duration::from_secs(60));
    if world.on_demand {
        assert!(!world.is_waiting, "somebody still waits");
        world.happen(&Happening::Arrives);
        world.run(world.now + Duration::from_secs(30));
        assert!(!world.is_waiting && world.machine.serving() > 0, "nobody came");
    }
    // What never finishes is killed at its time; until then it may be there.
    world.check_capacity("a calm minute");
    let serving: Vec<_> = world.machine.workers.values().filter(|worker| worker.is_serving()).collect();
    let fresh = serving.iter().filter(|worker| worker.generation == world.machine.target()).count();
    assert_eq!(fresh, serving.len(), "workers of an old generation serve");
    assert_eq!(world.reloads_begun.difference(&world.reloads_ended).count(), 0, "a reload without an end");
    assert!(!world.broken.contains(&world.machine.target()), "broken code is in service");
    assert_eq!(world.zygotes, BTreeSet::from([world.machine.target()]), "zygotes without workers are ended");
    world.plan(Duration::ZERO, Happening::StopGracefully);
    world.run(world.now + Duration::from_secs(30));
    assert_eq!(world.outcome, Some(Outcome::Stopped));
    // Zygotes that were told to end take their workers with them.
    while let Some(Reverse((_, _, happening))) = world.agenda.pop() {
        if let Happening::ZygoteDies(generation) = happening {
            world.zygotes.remove(&generation);
            world.workers.retain(|_, process| process.generation != generation);
        }
    }
    assert!(world.zygotes.is_empty() && world.workers.is_empty(), "left behind");
}

#[test]
fn whatever_happens_it_serves_again() {
    let chosen = std::env::var("SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    let seeds = chosen.map_or(0..3_000, |seed| seed..seed + 1);
    for seed in seeds {
        let mut world = World::new(seed);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| simulate(&mut world)));
        let shown = if chosen.is_some() { usize::MAX } else { 60 };
        let history = &world.history[world.history.len().saturating_sub(shown)..];
        assert!(outcome.is_ok(), "seed {seed} fails; SEED={seed} shows all of it:\n{}", history.join("\n"));
    }
}
