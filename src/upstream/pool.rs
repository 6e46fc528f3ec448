//! The workers of one application and the single queue in front of them.
//!
//! A request is bound to a worker as late as possible: to one with a free slot, or, while the application is quick, to
//! one that gets it a moment ahead of time and from which it can be recalled. Everything else waits here, in order.

use super::Settings;
use super::balance::{self, Candidate, RECALL_AFTER, ServiceTime};
use super::error::{Cause, Reached, UpstreamError};
use super::exchange::{Event, Exchange, SpoolLimits};
use super::failover::{self, Decision};
use super::link::{self, Link, Turn};
use super::request::EncodedRequest;
use crate::roster::{Notice, Report, UpstreamEnd, WorkerNumber};
use monoceros_wire::frame::{Kind, LINK};
use monoceros_wire::sys::monotonic_now;
use std::cell::Cell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
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

/// How often deadlines are looked at while requests are on their way.
const DEADLINE_TICK: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MemberState {
    Booting,
    Serving,
    /// Finishes what it holds; `told` once the drain frame was sent.
    Draining {
        told: bool,
    },
}

#[derive(Debug)]
struct MemberEntry {
    link: Arc<Link>,
    state: MemberState,
    slots: u32,
    in_flight: u32,
    service: ServiceTime,
    /// When the worker last answered, or was handed something while idle.
    progress_at: u64,
    /// Made no progress for a while: gets nothing ahead of time until it does.
    is_slow: bool,
}

impl MemberEntry {
    fn candidate(&self, thread: usize) -> Candidate {
        let ahead = if self.is_slow || self.link.is_asgi() {
            0
        } else {
            balance::ahead(self.service.estimate()).saturating_mul(self.slots)
        };
        let slots = if self.state == MemberState::Serving { self.slots } else { 0 };
        Candidate {
            slots,
            in_flight: self.in_flight,
            ahead: if slots == 0 { 0 } else { ahead },
            is_near: self.link.thread() == thread,
        }
    }

    /// Something is, or may be at any moment, handed out ahead of time.
    fn may_hold_ahead(&self) -> bool {
        self.in_flight > 0 && (self.holds_ahead() || self.candidate(usize::MAX).ahead > 0)
    }

    fn holds_ahead(&self) -> bool {
        self.in_flight > self.slots
    }
}

#[derive(Debug, Default)]
struct State {
    members: Vec<MemberEntry>,
    queue: VecDeque<Arc<Exchange>>,
    is_closed: bool,
    is_ticking: bool,
    joined: usize,
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
}

/// See the module.
#[derive(Debug)]
pub struct Pool {
    settings: Settings,
    state: Mutex<State>,
    reports: mpsc::UnboundedSender<Report>,
    ticker: Notify,
}

impl Pool {
    /// Makes the pool of one application. [`Pool::follow`] and [`Pool::tick`] must run for it to work.
    pub fn new(settings: Settings, reports: mpsc::UnboundedSender<Report>) -> Arc<Self> {
        Arc::new(Self { settings, state: Mutex::default(), reports, ticker: Notify::new() })
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn report(&self, report: Report) {
        // The supervisor is gone only when the program ends.
        let _ = self.reports.send(report);
    }

    /// Sends a request on its way and returns the conversation about it.
    pub fn send(self: &Arc<Self>, request: EncodedRequest) -> Result<Conversation, UpstreamError> {
        let now = monotonic_now();
        let limits = SpoolLimits { memory: self.settings.response_memory, file: self.settings.response_file_max };
        let exchange = Arc::new(Exchange::new(request, now, limits));
        let mut state = self.lock();
        if state.is_closed {
            return Err(refusal(Cause::Unavailable));
        }
        if state.queue.is_empty() && state.hand(&exchange, now) {
            // On its way.
        } else if state.queue.len() < self.settings.queue_size {
            state.queue.push_back(Arc::clone(&exchange));
        } else {
            return Err(refusal(Cause::QueueFull));
        }
        if !state.is_ticking {
            state.is_ticking = true;
            self.ticker.notify_one();
        }
        drop(state);
        Ok(Conversation { exchange, pool: Arc::clone(self) })
    }

    /// Refuses new requests and fails those that wait; what the workers hold goes on.
    pub fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        let waiting = std::mem::take(&mut state.queue);
        drop(state);
        for exchange in waiting {
            exchange.fail(Cause::Unavailable);
        }
    }

    /// Whether the workers that serve now run an event loop.
    pub fn is_asgi(&self) -> bool {
        self.lock().members.iter().any(|member| member.state == MemberState::Serving && member.link.is_asgi())
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
        };
        self.lock().members.iter().map(view).collect()
    }

    /// Follows the roster: opens the links of new workers on the front threads in turn.
    pub async fn follow(self: Arc<Self>, mut notices: mpsc::UnboundedReceiver<Notice>, threads: Vec<Handle>) {
        while let Some(notice) = notices.recv().await {
            match notice {
                Notice::Joined(member) => self.join(member, &threads),
                Notice::Drain(worker) => self.drain(worker),
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
        let mut state = self.lock();
        let thread = state.joined % threads.len().max(1);
        state.joined += 1;
        let (link, socket) = match link::open(member, thread) {
            Ok(opened) => opened,
            Err(error) => return self.report(Report::LinkLost { worker, reason: error.to_string() }),
        };
        state.members.push(MemberEntry {
            link: Arc::clone(&link),
            state: MemberState::Booting,
            slots: 0,
            in_flight: 0,
            service: ServiceTime::default(),
            progress_at: 0,
            is_slow: false,
        });
        drop(state);
        if let Some(thread) = threads.get(thread) {
            thread.spawn(link::run(link, socket, Arc::clone(self)));
        }
    }

    fn drain(&self, worker: WorkerNumber) {
        let mut state = self.lock();
        let Some(member) = state.member(worker) else { return };
        member.state = MemberState::Draining { told: false };
        let recalled = member.link.recall_all();
        member.in_flight = member.in_flight.saturating_sub(recalled.len() as u32);
        for exchange in &recalled {
            exchange.unbind();
        }
        state.requeue(recalled);
        state.settle(monotonic_now());
        let is_serving = state.members.iter().any(|member| member.state == MemberState::Serving);
        if state.is_closed && !is_serving {
            let waiting = std::mem::take(&mut state.queue);
            drop(state);
            for exchange in waiting {
                exchange.fail(Cause::Unavailable);
            }
        }
    }

    /// A link brought news.
    pub(super) fn turn(&self, link: &Arc<Link>, turn: &Turn) {
        let now = monotonic_now();
        let mut state = self.lock();
        let Some(member) = state.member(link.worker()) else { return };
        if let Some(ready) = turn.ready {
            member.state = MemberState::Serving;
            member.slots = ready.slots;
            let report = Report::Ready { worker: link.worker(), interface: ready.interface, slots: ready.slots };
            self.report(report);
        }
        if turn.frames > 0 {
            member.progress_at = now;
            member.is_slow = false;
        }
        member.in_flight = member.in_flight.saturating_sub(turn.finished);
        for sample in &turn.service_times {
            member.service.observe(*sample);
        }
        if turn.finished > 0 || turn.ready.is_some() {
            state.settle(now);
        }
        drop(state);
        if turn.leaves {
            self.drain(link.worker());
        }
    }

    /// A worker is gone: what it held is repeated elsewhere or answered, as [`failover`] decides.
    pub(super) fn lose(&self, link: &Arc<Link>) {
        let mut state = self.lock();
        state.members.retain(|member| !Arc::ptr_eq(&member.link, link));
        let mut again = Vec::new();
        let mut failed = Vec::new();
        for orphan in link.close() {
            let exchange = orphan.exchange;
            if exchange.is_settled() {
                continue;
            }
            let known = exchange.reached();
            let reached = match (known, orphan.was_entered) {
                (Reached::Answering, _) => Reached::Answering,
                (_, true) => Reached::Entered,
                (_, false) => Reached::Handed,
            };
            match failover::decide(Cause::WorkerDied, reached, exchange.traits(), self.settings.retries) {
                Decision::Retry if !state.is_closed && exchange.unbind_after_death(reached) => again.push(exchange),
                _ => failed.push((exchange, reached)),
            }
        }
        state.requeue(again);
        state.settle(monotonic_now());
        drop(state);
        for (exchange, reached) in failed {
            if reached == Reached::Entered {
                exchange.set_entered();
            }
            exchange.fail(Cause::WorkerDied);
        }
    }

    /// The client of this exchange has left, or has all it wanted.
    fn abandon(&self, exchange: &Arc<Exchange>) {
        // Under the pool's lock no request changes its place.
        let mut state = self.lock();
        match exchange.abandon() {
            None => state.queue.retain(|waiting| !Arc::ptr_eq(waiting, exchange)),
            Some(binding) => {
                if binding.link.cancel(&binding)
                    && let Some(member) = state.member(binding.link.worker())
                {
                    member.in_flight = member.in_flight.saturating_sub(1);
                    state.settle(monotonic_now());
                }
            }
        }
    }

    /// Looks after deadlines and recalls, for ever.
    pub async fn tick(self: Arc<Self>) {
        loop {
            let Some(pause) = self.sweep(monotonic_now()) else {
                self.ticker.notified().await;
                continue;
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// One look at everything. Returns when to look again; `None` when nothing is on its way.
    fn sweep(&self, now: u64) -> Option<Duration> {
        let mut state = self.lock();
        let queue_limit = self.settings.queue_timeout.as_nanos() as u64;
        let mut expired = Vec::new();
        state.queue.retain(|exchange| {
            let is_expired = queue_limit > 0 && now.saturating_sub(exchange.born) > queue_limit;
            if is_expired {
                expired.push(Arc::clone(exchange));
            }
            !is_expired
        });
        let recalled = state.recall_from_slow(now);
        if !recalled.is_empty() {
            state.requeue(recalled);
            state.settle(now);
        }
        self.end_overdue(&state, now);
        let may_hold_ahead = state.members.iter().any(MemberEntry::may_hold_ahead);
        let is_busy = !state.queue.is_empty() || state.members.iter().any(|member| member.in_flight > 0);
        state.is_ticking = is_busy;
        drop(state);
        for exchange in expired {
            exchange.fail(Cause::QueueTimeout);
        }
        is_busy.then_some(if may_hold_ahead { RECALL_AFTER } else { DEADLINE_TICK })
    }

    /// Tells the clients of requests that take too long, and the supervisor about their workers. Under the pool's lock,
    /// so that no request has moved on meanwhile.
    fn end_overdue(&self, state: &State, now: u64) {
        let limit = self.settings.request_timeout.as_nanos() as u64;
        if limit == 0 {
            return;
        }
        for member in state.members.iter().filter(|member| member.in_flight > 0) {
            let worker = member.link.worker();
            for exchange in member.link.overdue(now, limit) {
                if !exchange.is_settled() {
                    exchange.set_entered();
                    exchange.fail(Cause::Timeout);
                    if let Some(binding) = exchange.binding() {
                        binding.link.cancel(&binding);
                    }
                }
                self.report(Report::Overdue { worker });
            }
            if member.link.is_stuck(now, limit) {
                self.report(Report::Stuck { worker });
            }
        }
    }
}

impl State {
    fn member(&mut self, worker: WorkerNumber) -> Option<&mut MemberEntry> {
        self.members.iter_mut().find(|member| member.link.worker() == worker)
    }

    /// Hands a request to the best worker. False when it has to wait.
    fn hand(&mut self, exchange: &Arc<Exchange>, now: u64) -> bool {
        let thread = THREAD.get();
        let Some(index) = balance::choose(self.members.iter().map(|member| member.candidate(thread))) else {
            return false;
        };
        let member = &mut self.members[index];
        if !member.link.hand(exchange, now) {
            return false;
        }
        if member.in_flight == 0 {
            member.progress_at = now;
        }
        member.in_flight += 1;
        true
    }

    /// Puts requests back to the head of the queue, keeping their order. They may exceed its size: they were admitted.
    fn requeue(&mut self, exchanges: Vec<Arc<Exchange>>) {
        for exchange in exchanges.into_iter().rev() {
            self.queue.push_front(exchange);
        }
    }

    /// After a place became free: hands out what waits, and lets drained workers go.
    fn settle(&mut self, now: u64) {
        while let Some(exchange) = self.queue.pop_front() {
            if !self.hand(&exchange, now) {
                self.queue.push_front(exchange);
                break;
            }
        }
        for member in &mut self.members {
            if member.state == (MemberState::Draining { told: false }) && member.in_flight == 0 {
                member.state = MemberState::Draining { told: true };
                member.link.send(LINK, Kind::Drain, 0, &[]);
            }
        }
    }

    /// Takes back what sits behind a slow request.
    fn recall_from_slow(&mut self, now: u64) -> Vec<Arc<Exchange>> {
        let limit = RECALL_AFTER.as_nanos() as u64;
        let mut recalled = Vec::new();
        for member in &mut self.members {
            if !member.holds_ahead() || now.saturating_sub(member.progress_at) <= limit {
                continue;
            }
            member.is_slow = true;
            let taken = member.link.recall_all();
            member.in_flight = member.in_flight.saturating_sub(taken.len() as u32);
            for exchange in &taken {
                exchange.unbind();
            }
            recalled.extend(taken);
        }
        recalled.sort_by_key(|exchange| exchange.born);
        recalled
    }
}

fn refusal(cause: Cause) -> UpstreamError {
    UpstreamError { cause, reached: Reached::Queued, worker: None }
}

/// One request's way through the pool, seen by the front. Dropping it tells everybody that nobody waits any more.
#[derive(Debug)]
pub struct Conversation {
    exchange: Arc<Exchange>,
    pool: Arc<Pool>,
}

impl Conversation {
    /// The next event.
    pub fn poll_next(&self, context: &mut Context<'_>) -> Poll<Event> {
        self.exchange.poll_next(context).map(|(event, grant)| {
            if let Some((binding, amount)) = grant {
                binding.link.send(binding.stream, Kind::Window, 0, &amount.to_le_bytes());
            }
            event
        })
    }

    /// The next event.
    pub async fn next(&self) -> Event {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// A handle that sends streamed body or messages, for another task.
    pub fn sender(&self) -> Sender {
        Sender { exchange: Arc::clone(&self.exchange) }
    }

    /// The worker that answers, or answered last.
    pub fn worker(&self) -> Option<WorkerNumber> {
        self.exchange.last_worker()
    }

    /// How long the request waited for the application, once the answer has begun.
    pub fn waited(&self) -> Option<Duration> {
        self.exchange.waited()
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        if !self.exchange.is_settled() {
            self.pool.abandon(&self.exchange);
        }
    }
}

/// Sends what follows a request: the pieces of a streamed body, or WebSocket messages.
#[derive(Debug, Clone)]
pub struct Sender {
    exchange: Arc<Exchange>,
}

impl Sender {
    /// Sends bytes as frames of `kind`, waiting for the worker to take them. `end` goes with the last frame, `flags`
    /// with every one.
    pub async fn send(&self, kind: Kind, flags: u8, end: u8, mut bytes: bytes::Bytes) -> Result<(), UpstreamError> {
        loop {
            let wanted = bytes.len().min(monoceros_wire::DATA_CHUNK_MAX) as u32;
            let (binding, amount) = poll_fn(|context| self.exchange.poll_credit(context, wanted)).await?;
            let piece = bytes.split_to(amount as usize);
            let last = if bytes.is_empty() { end } else { 0 };
            binding.link.send(binding.stream, kind, flags | last, &piece);
            if bytes.is_empty() {
                return Ok(());
            }
        }
    }

    /// Sends one short frame as soon as the request is with a worker, outside the flow control.
    pub async fn send_now(&self, kind: Kind, payload: Vec<u8>) -> Result<(), UpstreamError> {
        let (binding, _) = poll_fn(|context| self.exchange.poll_credit(context, 0)).await?;
        binding.link.send(binding.stream, kind, 0, &payload);
        Ok(())
    }
}

/// The two tasks of a pool, for the runtime that hosts them.
pub fn start(pool: &Arc<Pool>, end: UpstreamEnd, threads: Vec<Handle>) {
    tokio::spawn(Arc::clone(pool).follow(end.notices, threads));
    tokio::spawn(Arc::clone(pool).tick());
}
