//! The workers of one application and the single queue in front of them.
//!
//! A request is bound to a worker as late as possible: to one with a free slot, or, while the application is quick, to
//! one that gets it a moment ahead of time and from which it can be recalled. Everything else waits here, in order.

use super::Settings;
use super::balance::{self, Candidate, ServiceTime};
use super::budget::Budget;
pub use super::conversation::{Conversation, Sender};
use super::ejection::Standing;
use super::error::{Cause, Reached, UpstreamError};
use super::exchange::{Exchange, SpoolLimits};
use super::gauge::Gauge;
use super::link::{self, Link, Turn};
use super::obituary::{self, End, Inside};
use super::on_demand::OnDemand;
use super::queue::Queue;
use super::request::EncodedRequest;
use super::stall::Pulse;
use super::sweep::Rhythm;
use super::vacancy;
use crate::roster::{Notice, Report, UpstreamEnd, WarmUp, WorkerNumber};
use arc_swap::{ArcSwap, Guard};
use monoceros_wire::frame::{Kind, LINK, StreamId};
use monoceros_wire::message::Ready;
use monoceros_wire::sys::monotonic_now;
use std::cell::Cell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc};

thread_local! {
    /// Which front thread this is; workers whose link runs here are reached without waking another thread.
    static THREAD: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Names the calling front thread.
pub fn enter_thread(index: usize) {
    THREAD.set(index);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MemberState {
    Booting,
    /// Has loaded the application, and answers our own requests first.
    WarmingUp,
    Serving,
    /// Finishes what it holds; `told` once the drain frame was sent.
    Draining {
        told: bool,
    },
}

#[derive(Debug)]
pub(super) struct MemberEntry {
    pub(super) link: Arc<Link>,
    pub(super) state: MemberState,
    /// What it has to answer before it serves.
    warm_up: Option<WarmUp>,
    joined_at: u64,
    pub(super) standing: Standing,
    /// A health check that was not answered in time, and that the application was still at.
    pub(super) lost_check: Option<StreamId>,
    /// It is ejected, and others are there.
    pub(super) is_barred: bool,
    pub(super) slots: u32,
    pub(super) in_flight: u32,
    service: ServiceTime,
    /// When the worker last took up or finished a request, as far as is known.
    pub(super) progress_at: u64,
    /// Takes up nothing: gets nothing more until it does.
    pub(super) is_slow: bool,
    /// When that was last seen.
    pub(super) slow_since: u64,
    /// A request of it has passed its time-out and has not returned. A WSGI worker gets nothing more: it may be killed.
    pub(super) is_overdue: bool,
    /// For how long it had taken up nothing at the last look.
    pub(super) waited: Duration,
    pub(super) pulse: Pulse,
}

impl MemberEntry {
    fn new(link: Arc<Link>, warm_up: Option<WarmUp>, joined_at: u64) -> Self {
        Self {
            link,
            warm_up,
            joined_at,
            standing: Standing::default(),
            lost_check: None,
            is_barred: false,
            state: MemberState::Booting,
            slots: 0,
            in_flight: 0,
            service: ServiceTime::default(),
            progress_at: 0,
            is_slow: false,
            slow_since: 0,
            is_overdue: false,
            waited: Duration::ZERO,
            pulse: Pulse::default(),
        }
    }

    pub(super) fn is_serving(&self) -> bool {
        self.state == MemberState::Serving
    }

    /// It serves, and is not ejected.
    pub(super) fn may_get(&self) -> bool {
        self.state == MemberState::Serving && !self.is_barred
    }

    fn takes(&self) -> bool {
        !self.is_overdue || self.link.is_asgi()
    }

    fn candidate(&self, thread: usize) -> Candidate {
        let ahead =
            if self.link.is_asgi() { 0 } else { balance::ahead(self.service.estimate()).saturating_mul(self.slots) };
        let slots = if self.may_get() && !self.is_slow && self.takes() { self.slots } else { 0 };
        Candidate {
            slots,
            in_flight: self.in_flight,
            occupied: self.link.occupied(),
            ahead: if slots == 0 { 0 } else { ahead },
            is_near: self.link.thread() == thread,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) members: Vec<MemberEntry>,
    pub(super) queue: Queue,
    pub(super) is_closed: bool,
    /// How many tries more there may be.
    pub(super) budget: Budget,
    pub(super) rhythm: Rhythm,
    pub(super) on_demand: OnDemand,
    /// Whether the workers that served last run an event loop.
    was_asgi: bool,
    /// While the supervisor asks.
    pub(super) gauge: Option<Box<Gauge>>,
    /// When deadlines are looked at next.
    pub(super) deadlines_at: u64,
    joined: usize,
    ticker: Arc<Notify>,
}

/// What the pool holds at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    pub serving: usize,
    pub in_flight: u32,
    pub queued: usize,
}

/// One worker at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberView {
    pub worker: WorkerNumber,
    pub slots: u32,
    pub in_flight: u32,
    /// It fails its health checks.
    pub is_ejected: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Pool {
    /// Looked up anew for every decision: they can be replaced while requests are on their way.
    settings: ArcSwap<Settings>,
    state: Mutex<State>,
    reports: mpsc::UnboundedSender<Report>,
    pub(super) ticker: Arc<Notify>,
    pub(super) settings_changed: Notify,
    clock: Clock,
}

/// Tells the time in nanoseconds.
pub(super) type Clock = fn() -> u64;

impl Pool {
    /// Makes the pool of one application; [`start`] makes it work.
    pub fn new(settings: Settings, reports: mpsc::UnboundedSender<Report>) -> Arc<Self> {
        Self::with_clock(settings, reports, monotonic_now)
    }

    /// The same with a clock of its own: simulations let the time pass by themselves.
    pub(super) fn with_clock(settings: Settings, reports: mpsc::UnboundedSender<Report>, clock: Clock) -> Arc<Self> {
        let ticker = Arc::new(Notify::new());
        let state = State { ticker: Arc::clone(&ticker), ..State::default() };
        let settings = ArcSwap::from_pointee(settings);
        Arc::new(Self { settings, state: Mutex::new(state), reports, ticker, settings_changed: Notify::new(), clock })
    }

    pub(super) fn now(&self) -> u64 {
        (self.clock)()
    }

    /// Those that hold now. Not to be kept: for one decision only.
    pub fn settings(&self) -> Guard<Arc<Settings>> {
        self.settings.load()
    }

    /// From now on these hold, for requests that are on their way too.
    pub fn set_settings(&self, settings: Settings) {
        self.settings.store(Arc::new(settings));
        self.settings_changed.notify_one();
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn report(&self, report: Report) {
        // The supervisor is gone only when the program ends.
        let _ = self.reports.send(report);
    }

    /// Sends a request on its way and returns the conversation about it.
    pub fn send(self: &Arc<Self>, request: EncodedRequest) -> Result<Conversation, UpstreamError> {
        let now = self.now();
        let settings = self.settings();
        let limits = SpoolLimits { memory: settings.response_memory, file: settings.response_file_max };
        let limit = request.time_limit(&settings.timeouts);
        let exchange = Arc::new(Exchange::new(request, now, limits, limit));
        let mut state = self.lock();
        if state.is_closed {
            return Err(refusal(Cause::Unavailable));
        }
        state.budget.note_request(now);
        if let Some(gauge) = &mut state.gauge {
            gauge.note_arrival(now);
        }
        if state.is_next() && state.hand(&exchange, now) {
            // On its way.
        } else if let Some(pause) = state.refuses_for(now) {
            return Err(refusal(vacancy::boot_failed(pause)));
        } else if state.queue.admit(&exchange, settings.queue_size, settings.queue_fairness) {
            state.hasten(Rhythm::Slow);
            self.call_if_empty(&state, now);
        } else {
            return Err(refusal(Cause::QueueFull));
        }
        drop(state);
        Ok(Conversation::new(exchange, Arc::clone(self)))
    }

    /// Refuses new requests and fails those that wait; what the workers hold goes on.
    pub fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        let waiting = std::mem::take(&mut state.queue);
        drop(state);
        waiting.fail_all(Cause::Unavailable);
    }

    /// Whether the workers that serve now run an event loop, or those did that will come back when a request needs one.
    pub fn is_asgi(&self) -> bool {
        let state = self.lock();
        let is_resting = state.is_empty() && state.on_demand.is_on();
        (is_resting && state.was_asgi)
            || state.members.iter().any(|member| member.is_serving() && member.link.is_asgi())
    }

    pub fn load(&self) -> Load {
        let state = self.lock();
        Load {
            serving: state.members.iter().filter(|member| member.state == MemberState::Serving).count(),
            in_flight: state.members.iter().map(|member| member.in_flight).sum(),
            queued: state.queue.len(),
        }
    }

    /// Every worker that has a link.
    pub fn members(&self) -> Vec<MemberView> {
        let view = |member: &MemberEntry| MemberView {
            worker: member.link.worker(),
            slots: member.slots,
            in_flight: member.in_flight,
            is_ejected: member.standing.is_ejected(),
        };
        self.lock().members.iter().map(view).collect()
    }

    /// Follows the roster: opens the links of new workers on the front threads in turn.
    pub async fn follow(self: Arc<Self>, mut notices: mpsc::UnboundedReceiver<Notice>, threads: Vec<Handle>) {
        while let Some(notice) = notices.recv().await {
            match notice {
                Notice::Joined(member) => self.join(member, &threads),
                Notice::Drain(worker) => self.drain(worker),
                Notice::Measure(is_on) => self.lock().gauge = is_on.then(Box::default),
                Notice::OnDemand(is_on) => self.lock().on_demand.set(is_on),
                Notice::Waking => self.lock().on_demand.note_waking(),
                Notice::Refuse(pause) => self.refuse(pause),
                Notice::Gone(worker) => {
                    // Answers may still be in the socket: the link's task reads them before it ends.
                    if let Some(member) = self.lock().member(worker) {
                        member.link.set_process_gone();
                    }
                }
            }
        }
    }

    fn join(self: &Arc<Self>, member: crate::roster::Member, threads: &[Handle]) {
        let worker = member.worker;
        let warm_up = Some(member.warm_up.clone()).filter(|warm_up| !warm_up.targets.is_empty());
        let mut state = self.lock();
        let thread = state.joined % threads.len().max(1);
        state.joined += 1;
        let (link, socket) = match link::open(member, thread) {
            Ok(opened) => opened,
            Err(error) => return self.report(Report::LinkLost { worker, reason: error.to_string() }),
        };
        drop(state);
        self.admit(Arc::clone(&link), warm_up);
        if let Some(thread) = threads.get(thread) {
            thread.spawn(link::run(link, socket, Arc::clone(self)));
        }
    }

    /// From now on this worker is one of ours.
    pub(super) fn admit(&self, link: Arc<Link>, warm_up: Option<WarmUp>) {
        let member = MemberEntry::new(link, warm_up, self.now());
        self.lock().members.push(member);
    }

    /// Hands nothing more to a worker, and lets it go when it holds nothing.
    pub(super) fn drain(&self, worker: WorkerNumber) {
        let mut state = self.lock();
        let was_empty = state.is_empty();
        let Some(member) = state.member(worker) else { return };
        member.state = MemberState::Draining { told: false };
        let recalled = member.link.recall_all();
        member.in_flight = member.in_flight.saturating_sub(recalled.len() as u32);
        let now = self.now();
        for exchange in &recalled {
            exchange.queue_again(now);
        }
        state.review();
        state.queue.put_first(recalled);
        state.settle(now);
        self.note_if_empty(&mut state, was_empty, now);
        let is_serving = state.members.iter().any(MemberEntry::is_serving);
        if state.is_closed && !is_serving {
            let waiting = std::mem::take(&mut state.queue);
            drop(state);
            waiting.fail_all(Cause::Unavailable);
        }
    }

    /// A link brought news.
    pub(super) fn turn(self: &Arc<Self>, link: &Arc<Link>, turn: &Turn, now: u64) {
        let mut state = self.lock();
        let Some(member) = state.member(link.worker()) else { return };
        let mut serves = turn.ready;
        if let Some(ready) = turn.ready
            && let Some(warm_up) = member.warm_up.take()
        {
            serves = None;
            member.state = MemberState::WarmingUp;
            tokio::spawn(Arc::clone(self).warm_up(Arc::clone(link), ready, warm_up, member.joined_at));
        }
        // The next piece of an answer is no progress for those who wait behind it.
        if turn.finished > 0 || turn.has_moved {
            member.progress_at = now;
            member.is_slow = false;
        }
        member.in_flight = member.in_flight.saturating_sub(turn.finished);
        for sample in &turn.service_times {
            member.service.observe(*sample);
        }
        if let Some(ready) = serves {
            self.begin_to_serve(&mut state, link, ready, now);
        }
        if let Some(gauge) = &mut state.gauge {
            gauge.note_answers(&turn.service_times);
        }
        if turn.finished > 0 || turn.has_moved || turn.ready.is_some() {
            state.settle(now);
        }
        drop(state);
        if turn.leaves {
            self.drain(link.worker());
        }
    }

    /// From now on it gets requests.
    pub(super) fn begin_to_serve(&self, state: &mut State, link: &Arc<Link>, ready: Ready, now: u64) {
        let Some(member) = state.members.iter_mut().find(|member| Arc::ptr_eq(&member.link, link)) else { return };
        member.state = MemberState::Serving;
        member.slots = ready.slots;
        member.is_slow = false;
        let worker = member.link.worker();
        self.report(Report::Ready { worker, interface: ready.interface, slots: ready.slots });
        state.was_asgi = link.is_asgi();
        state.on_demand.note_serving(now);
        state.review();
    }

    /// A worker is gone: what it held is repeated elsewhere or answered, as [`failover`] decides.
    pub(super) fn lose(&self, link: &Arc<Link>) {
        let now = self.now();
        let mut state = self.lock();
        let was_empty = state.is_empty();
        state.members.retain(|member| !Arc::ptr_eq(&member.link, link));
        state.review();
        let mut again = Vec::new();
        let mut inside = Vec::new();
        for orphan in link.close() {
            let end = self.bury(&mut state, &orphan, now);
            if end == End::GivenToAnother {
                again.push(Arc::clone(&orphan.exchange));
            }
            if let Some(entered_at) = orphan.entered_at {
                let duration = Duration::from_nanos(now.saturating_sub(entered_at));
                inside.push(Inside { label: orphan.exchange.request.label(), duration, end });
            }
        }
        state.queue.put_first(again);
        state.settle(now);
        self.note_if_empty(&mut state, was_empty, now);
        drop(state);
        if let Some(line) = obituary::line(link.worker(), &inside) {
            tracing::warn!("{line}");
        }
    }

    /// The client of this exchange has left, or has all it wanted.
    pub(super) fn abandon(&self, exchange: &Arc<Exchange>) {
        let now = self.now();
        self.lock().abandon(exchange, now);
    }
}

impl State {
    /// Nobody waits for this exchange any more. Under the pool's lock no request changes its place.
    pub(super) fn abandon(&mut self, exchange: &Arc<Exchange>, now: u64) {
        match exchange.abandon() {
            None => self.queue.remove(exchange),
            Some(binding) => {
                if binding.link.cancel(&binding, now)
                    && let Some(member) = self.member(binding.link.worker())
                {
                    member.in_flight = member.in_flight.saturating_sub(1);
                    self.settle(now);
                }
            }
        }
    }

    fn member(&mut self, worker: WorkerNumber) -> Option<&mut MemberEntry> {
        self.members.iter_mut().find(|member| member.link.worker() == worker)
    }

    /// Hands a request to the best worker. False when it has to wait.
    fn hand(&mut self, exchange: &Arc<Exchange>, now: u64) -> bool {
        let thread = THREAD.get();
        let avoided = self.avoided(exchange);
        let candidate = |member: &MemberEntry| member.candidate(thread).unless(avoided == Some(member.link.worker()));
        while let Some(index) = balance::choose(self.members.iter().map(candidate)) {
            let member = &mut self.members[index];
            if member.link.hand(exchange, now) {
                member.in_flight += 1;
                self.hasten(Rhythm::Quick);
                return true;
            }
            // Its link is about to end, or its cells are full of what it has not come past.
            member.is_slow = true;
            member.slow_since = now;
        }
        false
    }

    /// Sees to it that the pool is looked at often enough.
    pub(super) fn hasten(&mut self, rhythm: Rhythm) {
        if self.rhythm < rhythm {
            self.rhythm = rhythm;
            self.ticker.notify_one();
        }
    }

    /// After a place became free: hands out what waits, and lets drained workers go.
    pub(super) fn settle(&mut self, now: u64) {
        let mut held_back = Vec::new();
        while let Some(exchange) = self.queue.pop() {
            let queued_at = exchange.queued_at();
            if !self.hand(&exchange, now) {
                let is_choosy = exchange.avoids.is_some();
                held_back.push(exchange);
                // What it does not want, the next one may.
                if !is_choosy {
                    break;
                }
            } else if let Some(gauge) = &mut self.gauge {
                gauge.note_wait(now.saturating_sub(self.on_demand.waits_since(queued_at)));
            }
        }
        self.queue.put_first(held_back);
        for member in &mut self.members {
            if member.state == (MemberState::Draining { told: false }) && member.in_flight == 0 {
                member.state = MemberState::Draining { told: true };
                member.link.send(LINK, Kind::Drain, 0, &[]);
            }
        }
    }
}

fn refusal(cause: Cause) -> UpstreamError {
    UpstreamError { cause, reached: Reached::Queued, worker: None }
}

/// The tasks of a pool, for the runtime that hosts them.
pub fn start(pool: &Arc<Pool>, end: UpstreamEnd, threads: Vec<Handle>) {
    tokio::spawn(Arc::clone(pool).follow(end.notices, threads));
    tokio::spawn(Arc::clone(pool).tick());
    tokio::spawn(Arc::clone(pool).watch_health());
}
