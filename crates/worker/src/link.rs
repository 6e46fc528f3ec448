//! The worker's end of a link, shared by the threads of a WSGI worker as leader and followers.
//!
//! There is no reader thread. A thread with nothing to do becomes the *leader*: it blocks in one read with the GIL
//! released, sorts what arrived into the shared state, and is then free to take a request itself; the others wait until
//! there is a request for them or nobody reads. A thread that waits for credit plays by the same rules, so the link is
//! always read while anybody depends on it. With one thread nothing here ever waits for another.

use crate::{forks, signals};
use monoceros_wire::codec::DecodeError;
use monoceros_wire::frame::{Frame, Kind, LINK, StreamId};
use monoceros_wire::inbound::Inbound;
use monoceros_wire::message::decode_amount;
use monoceros_wire::outbound::Outbound;
use monoceros_wire::page::Page;
use pyo3::prelude::*;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::thread::futex;
use std::collections::VecDeque;
use std::io;
use std::mem;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A signal that arrives between the check for signals and the read or wait cannot interrupt it. Both end by themselves
/// after this time, so such a signal is late, not lost.
const READ_TIMEOUT: Duration = Duration::from_secs(2);
const WAIT_TIMEOUT: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };

/// A thread's next step.
pub(crate) enum Next {
    /// A [`Kind::Request`] frame; call [`Link::finish`] when done with it.
    Request(Frame),
    /// There is nothing more to take, ever.
    Stop,
}

/// Why a response cannot go on. Nothing more is sent on its stream.
#[derive(Debug)]
pub(crate) enum Halt {
    /// Nobody waits for the answer, or nobody is there to take it.
    Cancelled,
    /// A Python signal handler raised while the thread waited.
    Raised(PyErr),
}

impl From<PyErr> for Halt {
    fn from(error: PyErr) -> Self {
        Self::Raised(error)
    }
}

/// Why the link cannot be used any more.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The front closed it, or is gone.
    Closed,
    /// The front sent nonsense.
    Protocol(DecodeError),
}

/// The link and everything its threads share.
pub(crate) struct Link {
    socket: OwnedFd,
    pub(crate) page: Arc<Page>,
    state: Mutex<State>,
    outbound: Mutex<Outbound>,
    /// Threads without a request.
    idle: Doorbell,
    /// Threads whose response is out of credit.
    starved: Doorbell,
    /// The main thread, waiting for the others to finish.
    done: Doorbell,
}

#[derive(Default)]
struct State {
    inbound: Inbound,
    /// Some thread is the leader and holds `inbound`.
    is_led: bool,
    /// Requests that arrived and were not yet taken.
    queue: VecDeque<Frame>,
    /// One entry per request that a thread has taken: at most as many as there are threads.
    running: Vec<Running>,
    /// Nothing more will be handed over.
    is_draining: bool,
    /// Take nothing more, not even what is queued.
    is_stopping: bool,
    fault: Option<Fault>,
}

struct Running {
    stream: StreamId,
    /// Credit that arrived and was not yet picked up.
    granted: u32,
    is_cancelled: bool,
}

/// What a leader waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    Request,
    Credit,
    /// Room to write; what can be read meanwhile is read, so that two full directions cannot wait for each other.
    Room,
}

impl Link {
    pub(crate) fn new(socket: OwnedFd, page: Arc<Page>) -> io::Result<Self> {
        monoceros_wire::sys::set_nonblocking(&socket, false)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(READ_TIMEOUT))?;
        let (state, outbound) = (Mutex::default(), Mutex::default());
        let (idle, starved, done) = (Doorbell::default(), Doorbell::default(), Doorbell::default());
        Ok(Self { socket, page, state, outbound, idle, starved, done })
    }

    /// Takes the next request, or learns that there will be none. Blocks with the GIL released; an exception is that of
    /// a Python signal handler.
    pub(crate) fn next(&self, py: Python<'_>) -> PyResult<Next> {
        loop {
            let mut state = self.lock();
            state.is_stopping |= state.fault.is_some();
            if signals::is_terminated() && !state.is_stopping {
                state.is_stopping = true;
                drop(state);
                self.say_that_we_leave(py)?;
                continue;
            }
            if !state.is_stopping
                && let Some(frame) = state.queue.pop_front()
            {
                state.running.push(Running { stream: frame.stream, granted: 0, is_cancelled: false });
                self.leave(state);
                return Ok(Next::Request(frame));
            }
            if state.is_stopping || state.is_draining {
                self.leave(state);
                return Ok(Next::Stop);
            }
            if state.is_led {
                self.wait(py, &self.idle, state)?;
            } else {
                self.lead(py, state, Until::Request)?;
            }
        }
    }

    /// The front does not know of a signal: told, it takes back what was not entered and hands nothing more over.
    fn say_that_we_leave(&self, py: Python<'_>) -> PyResult<()> {
        self.idle.ring_all();
        self.queue(|outbound| outbound.push(LINK, Kind::Drain, 0, &[]));
        match self.flush(py) {
            Ok(()) | Err(Halt::Cancelled) => Ok(()),
            Err(Halt::Raised(error)) => Err(error),
        }
    }

    /// The thread is done with this request.
    pub(crate) fn finish(&self, stream: StreamId) {
        let mut state = self.lock();
        state.running.retain(|running| running.stream != stream);
        if state.running.is_empty() {
            self.done.ring_all();
        }
    }

    /// Take nothing more, on any thread.
    pub(crate) fn stop(&self) {
        self.lock().is_stopping = true;
        self.idle.ring_all();
    }

    /// The front sent something that makes no sense: nothing that follows can be trusted.
    pub(crate) fn fail(&self, error: DecodeError) {
        self.lock().fault.get_or_insert(Fault::Protocol(error));
        self.idle.ring_all();
        self.starved.ring_all();
    }

    /// Waits until no thread has a request any more, unless there is no time for it, and says whether the link broke.
    pub(crate) fn wait_until_idle(&self, py: Python<'_>) -> PyResult<Option<Fault>> {
        loop {
            let mut state = self.lock();
            if state.running.is_empty() || signals::is_quitting() {
                return Ok(state.fault.take());
            }
            self.wait(py, &self.done, state)?;
        }
    }

    /// Whether nobody waits for the answer of this running request.
    pub(crate) fn is_cancelled(&self, cell: u32, stream: StreamId) -> bool {
        if self.page.is_cancelled(cell, stream) {
            return true;
        }
        let state = self.lock();
        state.fault.is_some() || state.running.iter().any(|running| running.stream == stream && running.is_cancelled)
    }

    /// Waits, with the GIL released, until the front grants more bytes on a running stream.
    pub(crate) fn wait_for_credit(&self, py: Python<'_>, cell: u32, stream: StreamId) -> Result<u32, Halt> {
        loop {
            let mut state = self.lock();
            let broken = state.fault.is_some();
            let running = state.running.iter_mut().find(|running| running.stream == stream);
            let granted = match running {
                Some(running) if !running.is_cancelled && !broken => Some(mem::take(&mut running.granted)),
                _ => None,
            };
            match granted {
                Some(0) if !self.page.is_cancelled(cell, stream) => {}
                granted => {
                    self.leave(state);
                    return granted.filter(|granted| *granted > 0).ok_or(Halt::Cancelled);
                }
            }
            if state.is_led {
                self.wait(py, &self.starved, state)?;
            } else {
                self.lead(py, state, Until::Credit)?;
            }
        }
    }

    /// Queues frames. They leave with the next [`Link::flush`].
    pub(crate) fn queue<R>(&self, push: impl FnOnce(&mut Outbound) -> R) -> R {
        push(&mut self.outbound.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Writes what is queued. Only when the socket is full does it wait, with the GIL released.
    pub(crate) fn flush(&self, py: Python<'_>) -> Result<(), Halt> {
        if forks::is_child() {
            return Err(Halt::Cancelled);
        }
        loop {
            match self.queue(|outbound| outbound.send_now(self.socket.as_fd())) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait_for_room(py)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => self.run_handlers(py)?,
                Err(_) => {
                    let mut state = self.lock();
                    state.fault.get_or_insert(Fault::Closed);
                    drop(state);
                    return Err(Halt::Cancelled);
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads once and sorts what arrived.
    fn lead(&self, py: Python<'_>, mut state: MutexGuard<'_, State>, until: Until) -> PyResult<()> {
        state.is_led = true;
        let mut inbound = mem::take(&mut state.inbound);
        drop(state);
        let received = py.detach(|| match until {
            Until::Request | Until::Credit => inbound.receive(self.socket.as_fd()).map(Some),
            Until::Room => {
                let ready = self.poll(PollFlags::IN | PollFlags::OUT)?;
                if ready.contains(PollFlags::IN) { inbound.receive(self.socket.as_fd()).map(Some) } else { Ok(None) }
            }
        });
        let mut state = self.lock();
        state.is_led = false;
        let mut is_interrupted = false;
        match received {
            Ok(Some(0)) => state.fault = Some(Fault::Closed),
            Ok(Some(_)) => state.sort(&mut inbound),
            Ok(None) => {}
            Err(error) if is_retry(&error) => is_interrupted = true,
            Err(_) => state.fault = Some(Fault::Closed),
        }
        state.inbound = inbound;
        self.call_others(state, until);
        if is_interrupted { self.run_handlers(py) } else { Ok(()) }
    }

    /// After a read: wakes those whom it concerns. The leader of [`Until::Request`] looks for itself first, and calls a
    /// successor when it leaves.
    fn call_others(&self, state: MutexGuard<'_, State>, until: Until) {
        if state.is_draining || state.fault.is_some() {
            self.idle.ring_all();
        } else if until != Until::Request {
            self.idle.ring(state.queue.len() as u32);
        }
        self.starved.ring_all();
        if until == Until::Room {
            self.leave(state);
        }
    }

    /// Waits until the doorbell rings or a signal arrives.
    fn wait(&self, py: Python<'_>, doorbell: &Doorbell, state: MutexGuard<'_, State>) -> PyResult<()> {
        let ticket = doorbell.enlist();
        drop(state);
        let is_interrupted = py.detach(|| doorbell.wait(ticket));
        if is_interrupted { self.run_handlers(py) } else { Ok(()) }
    }

    fn wait_for_room(&self, py: Python<'_>) -> PyResult<()> {
        let state = self.lock();
        if !state.is_led {
            return self.lead(py, state, Until::Room);
        }
        drop(state);
        match py.detach(|| self.poll(PollFlags::OUT)) {
            Err(error) if is_retry(&error) => self.run_handlers(py),
            // A broken socket shows itself in the write that follows.
            _ => Ok(()),
        }
    }

    fn poll(&self, events: PollFlags) -> io::Result<PollFlags> {
        let mut descriptors = [PollFd::new(&self.socket, events)];
        rustix::event::poll(&mut descriptors, None)?;
        Ok(descriptors[0].revents())
    }

    /// Runs Python's signal handlers; when one raises, this thread goes and the link is left to the others.
    fn run_handlers(&self, py: Python<'_>) -> PyResult<()> {
        py.check_signals().inspect_err(|_| self.leave(self.lock()))
    }

    /// A thread goes off to work: somebody else must read from now on, if anybody waits for something.
    fn leave(&self, state: MutexGuard<'_, State>) {
        if !state.is_led && !self.idle.ring(1) {
            self.starved.ring(1);
        }
        drop(state);
    }
}

impl State {
    fn sort(&mut self, inbound: &mut Inbound) {
        loop {
            match inbound.next_frame() {
                Ok(Some(frame)) => {
                    if let Err(error) = self.accept(frame) {
                        self.fault = Some(Fault::Protocol(error));
                        return;
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    self.fault = Some(Fault::Protocol(error));
                    return;
                }
            }
        }
    }

    fn accept(&mut self, frame: Frame) -> Result<(), DecodeError> {
        let running = self.running.iter_mut().find(|running| running.stream == frame.stream);
        match (frame.kind, running) {
            (Kind::Request, None) => self.queue.push_back(frame),
            (Kind::Request, Some(_)) => return Err(DecodeError::Invalid("request on a running stream")),
            (Kind::Window, Some(running)) => {
                running.granted = running.granted.saturating_add(decode_amount(&frame.payload)?);
            }
            (Kind::Cancel, Some(running)) => running.is_cancelled = true,
            (Kind::Cancel, None) => self.queue.retain(|queued| queued.stream != frame.stream),
            (Kind::Drain, _) => self.is_draining = true,
            // Late frames of a stream that has ended, or that was refused (WebSocket, streamed body).
            (Kind::Window | Kind::Body | Kind::Message | Kind::Close, _) => {}
            _ => return Err(DecodeError::UnknownKind(frame.kind as u8)),
        }
        Ok(())
    }
}

fn is_retry(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock)
}

/// A condition variable whose wait ends when a signal arrives, so that the main thread can run Python's handlers.
/// Enlisting and ringing happen under the lock of the state.
#[derive(Default)]
struct Doorbell {
    rings: AtomicU32,
    waiting: AtomicU32,
}

impl Doorbell {
    /// Announces a wait; what rings from now on ends it.
    fn enlist(&self) -> u32 {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.rings.load(Ordering::Acquire)
    }

    /// Waits until it has rung since the ticket was given. True when a signal, or the time, ended the wait.
    fn wait(&self, ticket: u32) -> bool {
        let result = futex::wait(&self.rings, futex::Flags::PRIVATE, ticket, Some(&WAIT_TIMEOUT));
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        matches!(result, Err(Errno::INTR | Errno::TIMEDOUT))
    }

    /// Wakes that many waiting threads. False when nobody waits: then it costs one load.
    fn ring(&self, threads: u32) -> bool {
        if threads == 0 || self.waiting.load(Ordering::Relaxed) == 0 {
            return false;
        }
        self.rings.fetch_add(1, Ordering::Release);
        let _ = futex::wake(&self.rings, futex::Flags::PRIVATE, threads);
        true
    }

    fn ring_all(&self) {
        self.ring(i32::MAX as u32);
    }
}
