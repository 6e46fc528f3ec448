//! One request and its answer, shared by the front thread that waits for it and the link that carries it.
//!
//! Lock order everywhere in this module's neighbourhood: pool, then link, then exchange. Nothing here takes a lock of the
//! other two while it holds its own.

use super::error::{Cause, Reached, UpstreamError};
use super::failover::{self, RequestTraits};
use super::link::Link;
use super::request::EncodedRequest;
use super::spool::Spool;
use crate::roster::WorkerNumber;
use bytes::Bytes;
use monoceros_wire::RESPONSE_WINDOW;
use monoceros_wire::frame::{FLAG_FILE, Frame, Kind, StreamId};
use monoceros_wire::message::{self, Abort, FileRange, Interface};
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// What the waiting side gets to see, in this order.
#[derive(Debug)]
pub enum Event {
    /// An informational response; the payload is a [`message::ResponseHead`].
    Hint(Bytes),
    /// The head; the payload is a [`message::ResponseHead`] with the first bytes of the body.
    Head {
        payload: Bytes,
        is_end: bool,
        /// The whole body is the file of the next event.
        has_file: bool,
    },
    /// The WebSocket was accepted; the payload is a [`message::ResponseHead`].
    Accepted(Bytes),
    Data {
        bytes: Bytes,
        is_end: bool,
    },
    File {
        file: OwnedFd,
        range: FileRange,
        is_end: bool,
    },
    /// The payload is a [`message::ResponseHead`]; nothing follows.
    Trailers(Bytes),
    /// A fragment of a WebSocket message.
    Message {
        bytes: Bytes,
        is_text: bool,
        is_last: bool,
    },
    Close {
        code: u16,
        reason: Bytes,
    },
    /// There is no answer, or no more of it; nothing follows.
    Failed(UpstreamError),
}

/// What has become of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Nothing yet.
    Open,
    /// Its answer is complete.
    Answered,
    /// Its client has left.
    Abandoned,
    Failed(Cause),
    /// Another exchange carries the request to another worker.
    MovedOn,
}

/// How an exchange goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub is_settled: bool,
    pub reached: Reached,
    /// When the last piece of the answer came, else zero.
    pub piece_at: u64,
    /// Something waits for the client.
    pub is_client_behind: bool,
}

/// What waits in an exchange.
#[derive(Debug)]
enum Pending {
    Event(Event),
    /// Body bytes that were put aside in the spool.
    Spooled {
        offset: u64,
        length: u64,
        is_end: bool,
    },
}

/// Where a request is.
#[derive(Debug, Clone)]
pub struct Binding {
    pub link: Arc<Link>,
    pub stream: StreamId,
    pub cell: u32,
}

/// Limits for answers whose client is slower than the application.
#[derive(Debug, Clone, Copy)]
pub struct SpoolLimits {
    pub memory: usize,
    pub file: u64,
}

#[derive(Debug)]
struct State {
    pending: VecDeque<Pending>,
    waker: Option<Waker>,
    sender_waker: Option<Waker>,
    binding: Option<Binding>,
    reached: Reached,
    entered_before: u32,
    handed_before: u32,
    /// What the client would have been told about the last try that came to nothing after the application was entered.
    earlier: Option<Cause>,
    /// See [`Fate::MovedOn`].
    moved_on: bool,
    /// A piece of a streamed body was passed on.
    body_started: bool,
    /// Nobody waits any more.
    abandoned: bool,
    /// The last event is in `pending` or was taken.
    over: bool,
    /// Why there was no answer, where that was not the worker's word.
    failed: Option<Cause>,
    /// Body bytes in `pending`, in memory.
    buffered: usize,
    spool: Option<Spool>,
    spooled: u64,
    /// Bytes taken by the waiting side that the worker was not yet told about; below zero when more was granted ahead.
    owed: i64,
    /// Bytes of body or messages that may be sent to the worker.
    credit: u32,
    /// When the last piece of an answer came, on the clock of `born`, else zero.
    piece_at: u64,
    last_worker: Option<u32>,
}

/// See the module.
#[derive(Debug)]
pub struct Exchange {
    pub request: EncodedRequest,
    /// When it came to the pool, in nanoseconds of the monotonic clock.
    pub born: u64,
    /// The worker that had it and is to have it again only when no other serves.
    pub avoids: Option<WorkerNumber>,
    /// Since when it waits for a worker, on the same clock: later than `born` when a worker died with it.
    queued_at: AtomicU64,
    /// When the application that answers was entered, on the same clock; zero while unknown.
    entered_at: AtomicU64,
    /// When the last piece of a streamed body was passed on, on the same clock; zero before the first.
    body_at: AtomicU64,
    limits: SpoolLimits,
    /// How long the application may take until its answer begins, in nanoseconds; zero is no limit.
    pub limit: u64,
    /// It was told that it takes too long.
    is_late: AtomicBool,
    state: Mutex<State>,
}

impl Exchange {
    pub fn new(request: EncodedRequest, born: u64, limits: SpoolLimits, limit: Duration) -> Self {
        let state = State {
            pending: VecDeque::new(),
            waker: None,
            sender_waker: None,
            binding: None,
            reached: Reached::Queued,
            entered_before: 0,
            handed_before: 0,
            earlier: None,
            moved_on: false,
            body_started: false,
            abandoned: false,
            over: false,
            failed: None,
            buffered: 0,
            spool: None,
            spooled: 0,
            owed: 0,
            credit: monoceros_wire::REQUEST_WINDOW,
            piece_at: 0,
            last_worker: None,
        };
        Self {
            request,
            born,
            avoids: None,
            queued_at: AtomicU64::new(born),
            entered_at: AtomicU64::new(0),
            body_at: AtomicU64::new(0),
            limits,
            limit: limit.as_nanos() as u64,
            is_late: AtomicBool::new(false),
            state: Mutex::new(state),
        }
    }

    /// The same request for another worker, after a try that came to nothing in the application. What the worker still
    /// sends for the old one goes nowhere.
    #[must_use]
    pub fn again(&self, cause: Cause, now: u64) -> Self {
        let mut again = Self::new(self.request.clone(), self.born, self.limits, Duration::from_nanos(self.limit));
        let mut old = self.lock();
        old.moved_on = true;
        again.avoids = old.last_worker;
        again.queued_at = AtomicU64::new(now);
        let state = again.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        (state.entered_before, state.handed_before) = (old.entered_before + 1, old.handed_before);
        (state.earlier, state.last_worker) = (Some(cause), old.last_worker);
        drop(old);
        again
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while this lock is held leaves at worst one request without an answer, never the others.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The request was handed to a worker.
    pub fn bind(&self, binding: Binding) {
        let mut state = self.lock();
        state.last_worker = Some(binding.link.worker());
        state.binding = Some(binding);
        state.reached = Reached::Handed;
        state.wake_sender();
    }

    /// Takes the request back if `recall` succeeds with the worker. Not one that is for this worker only, and not one of which a piece of the body was passed on:
    /// those pieces are on that link and nowhere else, so nothing is passed on while this decides.
    pub fn take_back(&self, recall: impl FnOnce() -> bool) -> bool {
        let mut state = self.lock();
        if state.body_started || self.request.is_probe() || !recall() {
            return false;
        }
        state.binding = None;
        state.reached = Reached::Queued;
        true
    }

    /// It waits for a worker again, from now on.
    pub fn queue_again(&self, now: u64) {
        self.queued_at.store(now, Ordering::Relaxed);
    }

    /// Since when it waits for a worker.
    pub fn queued_at(&self) -> u64 {
        self.queued_at.load(Ordering::Relaxed)
    }

    /// Its worker died and another one may have the request, unless a piece of its body was passed on meanwhile (false).
    pub fn unbind_after_death(&self, reached: Reached) -> bool {
        let mut state = self.lock();
        if state.body_started {
            return false;
        }
        state.binding = None;
        state.reached = Reached::Queued;
        if reached == Reached::Entered {
            state.entered_before += 1;
            state.earlier = Some(Cause::WorkerDied);
        } else {
            state.handed_before += 1;
        }
        true
    }

    /// Takes note of when the application was entered.
    pub fn note_entered(&self, at: u64) {
        self.entered_at.store(at, Ordering::Relaxed);
    }

    /// Takes note that it takes too long. True the first time.
    pub fn note_late(&self) -> bool {
        !self.is_late.swap(true, Ordering::Relaxed)
    }

    /// A piece of its streamed body was passed on.
    pub fn note_body(&self, at: u64) {
        self.body_at.store(at, Ordering::Relaxed);
    }

    /// When the last piece of its streamed body was passed on, else zero.
    pub fn body_at(&self) -> u64 {
        self.body_at.load(Ordering::Relaxed)
    }

    /// How long the request waited until the application that answered was entered.
    pub fn waited(&self) -> Option<Duration> {
        let entered_at = self.entered_at.load(Ordering::Relaxed);
        (entered_at > 0).then(|| Duration::from_nanos(entered_at.saturating_sub(self.born)))
    }

    /// Takes note of a frame for this request. Returns the bytes to grant to the worker at once.
    pub fn deliver(&self, frame: Frame, interface: Interface, now: u64) -> u32 {
        let mut state = self.lock();
        if matches!(frame.kind, Kind::Head | Kind::Data | Kind::File) {
            state.piece_at = now;
        }
        let is_end = frame.is_end();
        let Frame { kind, payload, descriptor, flags, .. } = frame;
        let body_bytes = body_bytes(kind, &payload);
        if state.abandoned || state.over {
            return body_bytes;
        }
        let mut grant = 0;
        let event = match kind {
            Kind::Hint => Event::Hint(payload),
            Kind::Head => {
                state.reached = Reached::Answering;
                grant = state.account(body_bytes, interface);
                Event::Head { payload, is_end, has_file: flags & FLAG_FILE != 0 }
            }
            Kind::Accept => {
                state.reached = Reached::Answering;
                Event::Accepted(payload)
            }
            Kind::Data => return self.deliver_data(state, payload, is_end, interface),
            Kind::File => match (descriptor, FileRange::decode(&payload)) {
                (Some(file), Ok(range)) => Event::File { file, range, is_end },
                _ => Event::Failed(state.error(Cause::Incomplete)),
            },
            Kind::Trailers => Event::Trailers(payload),
            Kind::Message => {
                state.buffered += payload.len();
                Event::Message {
                    bytes: payload,
                    is_text: flags & monoceros_wire::frame::FLAG_TEXT != 0,
                    is_last: is_end,
                }
            }
            Kind::Close => match message::decode_close(&payload) {
                Ok((code, reason)) => Event::Close { code, reason },
                Err(_) => Event::Close { code: 1011, reason: Bytes::new() },
            },
            Kind::Abort => {
                let cause = match Abort::decode(&payload) {
                    Ok(Abort::Raised) => Cause::Raised,
                    Ok(Abort::Unsupported) => Cause::Unsupported,
                    Ok(Abort::Incomplete) | Err(_) => Cause::Incomplete,
                };
                if state.reached == Reached::Handed {
                    state.reached = Reached::Entered;
                }
                Event::Failed(state.error(cause))
            }
            Kind::Consumed => {
                let amount = message::decode_amount(&payload).unwrap_or(0);
                state.credit = state.credit.saturating_add(amount).min(monoceros_wire::REQUEST_WINDOW);
                state.wake_sender();
                return 0;
            }
            // The application has returned, and its answer was not over: no more of it will come.
            Kind::Done => Event::Failed(state.error(Cause::Incomplete)),
            _ => return 0,
        };
        state.over = match &event {
            // A file that could not be taken: the worker does not know, and must be told when this exchange is dropped.
            Event::Failed(_) if kind == Kind::File => is_end,
            Event::Failed(_) | Event::Trailers(_) | Event::Close { .. } => true,
            Event::Head { is_end, .. } | Event::File { is_end, .. } => *is_end,
            _ => false,
        };
        if state.over {
            state.wake_sender();
        }
        state.push(Pending::Event(event));
        grant
    }

    fn deliver_data(&self, mut state: MutexGuard<'_, State>, bytes: Bytes, is_end: bool, interface: Interface) -> u32 {
        state.over = is_end;
        if is_end {
            state.wake_sender();
        }
        let length = bytes.len() as u32;
        let is_slow = interface == Interface::Wsgi && state.buffered + bytes.len() > self.limits.memory;
        if is_slow && state.spooled < self.limits.file && state.put_aside(&bytes, is_end) {
            return length;
        }
        let grant = if is_slow {
            state.buffered += bytes.len();
            0
        } else {
            state.account(length, interface)
        };
        state.push(Pending::Event(Event::Data { bytes, is_end }));
        grant
    }

    /// The next event; the second value is what to grant to the worker now.
    pub fn poll_next(&self, context: &mut Context<'_>) -> Poll<(Event, Option<(Binding, u32)>)> {
        let mut state = self.lock();
        let Some(pending) = state.pending.pop_front() else {
            state.waker = Some(context.waker().clone());
            return Poll::Pending;
        };
        let event = match pending {
            Pending::Event(event) => {
                let taken = match &event {
                    Event::Head { payload, .. } => body_bytes(Kind::Head, payload),
                    Event::Data { bytes, .. } | Event::Message { bytes, .. } => bytes.len() as u32,
                    _ => 0,
                };
                state.buffered = state.buffered.saturating_sub(taken as usize);
                state.owed += i64::from(taken);
                event
            }
            Pending::Spooled { offset, length, is_end } => state.unspool(offset, length, is_end),
        };
        let is_due = state.owed >= i64::from(RESPONSE_WINDOW / 4);
        let grant = if is_due { state.binding.clone() } else { None };
        let grant = grant.map(|binding| (binding, u32::try_from(std::mem::take(&mut state.owed)).unwrap_or(0)));
        Poll::Ready((event, grant))
    }

    /// Room to send body bytes or messages to the worker, and where to send them.
    pub fn poll_credit(&self, context: &mut Context<'_>, wanted: u32) -> Poll<Result<(Binding, u32), UpstreamError>> {
        let mut state = self.lock();
        if state.over || state.abandoned {
            return Poll::Ready(Err(state.error(Cause::Unavailable)));
        }
        match (&state.binding, state.credit) {
            (Some(binding), credit) if credit > 0 || wanted == 0 => {
                let binding = binding.clone();
                let amount = credit.min(wanted);
                state.credit -= amount;
                state.body_started = true;
                Poll::Ready(Ok((binding, amount)))
            }
            _ => {
                state.sender_waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Ends the exchange with an error for the waiting side.
    pub fn fail(&self, cause: Cause) {
        let mut state = self.lock();
        if !state.over && !state.abandoned {
            let told = failover::told(cause, state.earlier);
            if told != cause {
                state.reached = Reached::Entered;
            }
            let error = state.error(told);
            state.over = true;
            state.failed = Some(told);
            state.push(Pending::Event(Event::Failed(error)));
            state.wake_sender();
        }
    }

    /// What has become of it, for the log.
    pub fn fate(&self) -> Fate {
        let state = self.lock();
        match state.failed {
            _ if state.moved_on => Fate::MovedOn,
            Some(cause) => Fate::Failed(cause),
            None if state.over => Fate::Answered,
            None if state.abandoned => Fate::Abandoned,
            None => Fate::Open,
        }
    }

    /// Nobody waits any more. Returns where the request is.
    pub fn abandon(&self) -> Option<Binding> {
        let mut state = self.lock();
        state.abandoned = true;
        state.wake_sender();
        state.pending.clear();
        state.spool = None;
        state.binding.clone()
    }

    /// Where the request is, if a worker has it.
    pub fn binding(&self) -> Option<Binding> {
        self.lock().binding.clone()
    }

    /// How far it got, as the front knows it; the page may know more.
    pub fn reached(&self) -> Reached {
        self.lock().reached
    }

    /// What is to be known about it from time to time.
    pub fn progress(&self) -> Progress {
        let state = self.lock();
        Progress {
            is_settled: state.over || state.abandoned,
            reached: state.reached,
            piece_at: state.piece_at,
            is_client_behind: !state.pending.is_empty(),
        }
    }

    pub fn set_entered(&self) {
        let mut state = self.lock();
        if state.reached < Reached::Entered {
            state.reached = Reached::Entered;
        }
    }

    pub fn is_settled(&self) -> bool {
        let state = self.lock();
        state.over || state.abandoned
    }

    /// The worker that had it last.
    pub fn last_worker(&self) -> Option<u32> {
        self.lock().last_worker
    }

    /// What decides about a further try.
    pub fn traits(&self, now: u64) -> RequestTraits {
        let state = self.lock();
        RequestTraits {
            is_idempotent: self.request.is_idempotent(),
            is_replayable: !state.body_started && !self.request.is_probe(),
            entered_before: state.entered_before,
            handed_before: state.handed_before,
            age: Duration::from_nanos(now.saturating_sub(self.born)),
        }
    }

    /// How many tries of the request came to nothing after the application was entered.
    pub fn retries(&self) -> u32 {
        self.lock().entered_before
    }
}

impl State {
    /// There is room, or nothing more can be sent: whoever waits must look again.
    fn wake_sender(&mut self) {
        if let Some(waker) = self.sender_waker.take() {
            waker.wake();
        }
    }

    fn push(&mut self, pending: Pending) {
        self.pending.push_back(pending);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn error(&self, cause: Cause) -> UpstreamError {
        UpstreamError { cause, reached: self.reached, worker: self.last_worker }
    }

    /// Body bytes arrived that stay in memory. What a WSGI worker sends is granted at once: it must never wait for
    /// a client while there is room here.
    fn account(&mut self, length: u32, interface: Interface) -> u32 {
        self.buffered += length as usize;
        match interface {
            Interface::Wsgi => {
                // Granted now, so it must not be granted again when it is taken.
                self.owed -= i64::from(length);
                length
            }
            Interface::Asgi => 0,
        }
    }

    /// Puts bytes into the spool. False where the disk has no room: then the answer stays in memory and the worker
    /// waits, slower but right.
    fn put_aside(&mut self, bytes: &[u8], is_end: bool) -> bool {
        if self.spool.is_none() {
            self.spool = Spool::create().ok();
        }
        let Some(Ok(offset)) = self.spool.as_mut().map(|spool| spool.append(bytes)) else { return false };
        let added = bytes.len() as u64;
        self.spooled += added;
        if let Some(Pending::Spooled { offset: start, length, is_end: end }) = self.pending.back_mut()
            && *start + *length == offset
        {
            *length += added;
            *end = is_end;
        } else {
            self.push(Pending::Spooled { offset, length: added, is_end });
        }
        true
    }

    fn unspool(&mut self, offset: u64, length: u64, is_end: bool) -> Event {
        let Some(Ok(bytes)) = self.spool.as_ref().map(|spool| spool.read(offset, length)) else {
            // If the worker still sends, it is told to stop when this exchange is dropped.
            self.pending.clear();
            return Event::Failed(self.error(Cause::Incomplete));
        };
        let taken = bytes.len() as u64;
        if taken < length {
            let rest = Pending::Spooled { offset: offset + taken, length: length - taken, is_end };
            self.pending.push_front(rest);
            return Event::Data { bytes, is_end: false };
        }
        Event::Data { bytes, is_end }
    }
}

/// Body bytes that count against the window of the worker.
fn body_bytes(kind: Kind, payload: &Bytes) -> u32 {
    match kind {
        Kind::Data | Kind::Message => payload.len() as u32,
        Kind::Head => {
            let head = payload.first_chunk::<4>().map_or(0, |length| u32::from_le_bytes(*length) as usize + 4);
            payload.len().saturating_sub(head) as u32
        }
        _ => 0,
    }
}
