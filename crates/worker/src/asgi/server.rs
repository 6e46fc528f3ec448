//! The ASGI side of the link: reads frames, keeps the table of running streams, and writes what they send, once per turn
//! of the event loop.

use super::awaitable::Completed;
use super::event_loop::EventLoop;
use super::failure::report;
use super::identity::{Ending, Place};
use super::pace::Pace;
use super::scope::ScopeFactory;
use super::stream::{Stream, lock};
use monoceros_wire::codec::DecodeError;
use monoceros_wire::frame::{Frame, Kind, LINK, StreamId};
use monoceros_wire::inbound::Inbound;
use monoceros_wire::message::{BootFailure, Interface, Ready};
use monoceros_wire::outbound::Outbound;
use monoceros_wire::page::Page;
use monoceros_wire::sys::{monotonic_now, set_nonblocking};
use monoceros_wire::zygote::{EXIT_LINK, WorkerSettings};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;
use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Reads per turn of the loop: a busy link must not keep tasks and timers waiting.
const READS_PER_TURN: usize = 4;
/// A read of less than this has most likely emptied the socket.
const SHORT_READ: usize = 16 << 10;

/// The front said something it must not say: nothing that follows can be trusted.
#[derive(Debug)]
pub(super) enum LinkFault {
    Decode(DecodeError),
    Unexpected(Kind),
}

impl From<DecodeError> for LinkFault {
    fn from(error: DecodeError) -> Self {
        Self::Decode(error)
    }
}

pub(super) struct Running {
    pub(super) stream: Stream,
    /// Keeps the task alive: the loop itself does not.
    pub(super) task: Option<Py<PyAny>>,
}

/// A request that was handed over and not yet entered, with the frames that have followed it.
pub(super) struct Queued {
    pub(super) request: Frame,
    pub(super) cell: u32,
    pub(super) followers: Vec<Frame>,
}

pub(super) struct Table {
    pub(super) streams: HashMap<StreamId, Running>,
    pub(super) queue: VecDeque<Queued>,
    /// Applications that were called and have not returned.
    pub(super) running: usize,
    pub(super) draining: bool,
    /// The worker is about to end: what comes now is not for it.
    pub(super) is_closed: bool,
    /// When it was told to end at once.
    pub(super) hurried_at: Option<Instant>,
    /// Frames are being handled: what was queued is started at the end of that.
    dispatching: bool,
    exit: Option<i32>,
}

#[derive(Default)]
struct Output {
    outbound: Outbound,
    /// A flush will come without being asked for.
    flush_ahead: bool,
    /// The socket is full: the loop tells when it is writable.
    waiting: bool,
    pace: Pace,
}

struct Callbacks {
    flush: Py<PyAny>,
    writable: Py<PyAny>,
    start_queued: Py<PyAny>,
    tell_main: Py<PyAny>,
    /// The context in which the worker was started: a request must not inherit the variables of another.
    context: Py<PyAny>,
}

/// Everything that serves one link.
#[pyclass(frozen, weakref, module = "monoceros_worker")]
pub(super) struct Server {
    pub(super) app: Py<PyAny>,
    pub(super) event_loop: Arc<EventLoop>,
    pub(super) scopes: ScopeFactory,
    socket: OwnedFd,
    pub(super) page: Arc<Page>,
    pub(super) thread: u64,
    pub(super) slots: usize,
    completed: Py<PyAny>,
    callbacks: PyOnceLock<Callbacks>,
    inbound: Mutex<Inbound>,
    output: Mutex<Output>,
    pub(super) table: Mutex<Table>,
}

impl Server {
    /// Serves `app` on `socket`; the loop watches it from now on.
    pub(super) fn open(
        app: &Bound<'_, PyAny>,
        event_loop: Arc<EventLoop>,
        socket: OwnedFd,
        page: Page,
        settings: &WorkerSettings,
        state: Py<PyDict>,
    ) -> PyResult<Py<Self>> {
        let py = app.py();
        set_nonblocking(&socket, true)?;
        let descriptor = socket.as_raw_fd();
        let slots = (settings.concurrency as usize).clamp(1, page.cells());
        let this = Self {
            app: app.clone().unbind(),
            event_loop,
            scopes: ScopeFactory::new(py, &settings.root_path, state)?,
            socket,
            page: Arc::new(page),
            thread: crate::sys::thread_ident(py)?,
            slots,
            completed: Py::new(py, Completed)?.into_any(),
            callbacks: PyOnceLock::new(),
            inbound: Mutex::default(),
            output: Mutex::default(),
            table: Mutex::new(Table {
                streams: HashMap::new(),
                queue: VecDeque::new(),
                running: 0,
                draining: false,
                is_closed: false,
                hurried_at: None,
                dispatching: false,
                exit: None,
            }),
        };
        let this = Bound::new(py, this)?;
        let callbacks = Callbacks {
            flush: this.getattr("flush")?.unbind(),
            writable: this.getattr("writable")?.unbind(),
            start_queued: this.getattr("start_queued")?.unbind(),
            tell_main: this.getattr("look_again")?.unbind(),
            context: py.import("contextvars")?.call_method0("copy_context")?.unbind(),
        };
        let _ = this.get().callbacks.set(py, callbacks);
        let event_loop = this.get().event_loop.bind(py);
        event_loop.call_method1("add_reader", (descriptor, this.getattr("readable")?))?;
        crate::stacks::begin(&this.get().page, Some(this.clone().into_any().unbind()));
        Ok(this.unbind())
    }

    pub(super) fn event_loop(&self) -> &EventLoop {
        &self.event_loop
    }

    /// The awaitable that is complete already.
    pub(super) fn completed(&self, py: Python<'_>) -> Py<PyAny> {
        self.completed.clone_ref(py)
    }

    /// Appends frames; [`Self::flush_soon`] must follow where no Python state is locked any more.
    pub(super) fn with_output<R>(&self, append: impl FnOnce(&mut Outbound) -> R) -> R {
        append(&mut lock(&self.output).outbound)
    }

    /// Makes sure that what was appended leaves at the next turn of the loop.
    pub(super) fn flush_soon(&self, py: Python<'_>) {
        {
            let mut output = lock(&self.output);
            if output.flush_ahead || output.waiting || output.outbound.is_empty() {
                return;
            }
            output.flush_ahead = true;
        }
        self.schedule(py, |callbacks| &callbacks.flush);
    }

    fn schedule(&self, py: Python<'_>, callback: impl FnOnce(&Callbacks) -> &Py<PyAny>) {
        let Some(callbacks) = self.callbacks.get(py) else { return };
        let scheduled = self.event_loop.call_soon(callback(callbacks).bind(py), callbacks.context.bind(py));
        if let Err(error) = scheduled {
            error.write_unraisable(py, None);
        }
    }

    /// The worker can serve now.
    pub(super) fn announce(&self, py: Python<'_>) {
        let ready = Ready { interface: Interface::Asgi, slots: self.slots as u32 };
        self.with_output(|out| out.push(LINK, Kind::Ready, 0, &ready.encode()));
        self.flush_soon(py);
    }

    pub(super) fn announce_failure(&self, failure: &BootFailure) {
        self.with_output(|out| out.push(LINK, Kind::BootFailed, 0, &failure.encode()));
    }

    /// Writes what is left, waiting as long as it takes: the loop does not run any more.
    pub(super) fn flush_all(&self) -> io::Result<()> {
        set_nonblocking(&self.socket, false)?;
        let mut output = lock(&self.output);
        loop {
            match output.outbound.send(self.socket.as_fd()) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The exit code, once there is a reason to stop at once.
    pub(super) fn exit(&self) -> Option<i32> {
        lock(&self.table).exit
    }

    /// Lets the main task look at the clock after this time.
    pub(super) fn look_again_after(&self, py: Python<'_>, delay: Duration) -> PyResult<()> {
        let Some(callbacks) = self.callbacks.get(py) else { return Ok(()) };
        self.event_loop.call_later(delay, callbacks.tell_main.bind(py))
    }

    /// The link is broken or speaks nonsense: there is nobody left to serve.
    fn abandon(&self, py: Python<'_>, reason: Option<&str>) {
        if let Some(reason) = reason {
            report(py, &format!("monoceros: the link to the front failed: {reason}"), None);
        }
        lock(&self.table).exit = Some(EXIT_LINK);
        let descriptor = self.socket.as_raw_fd();
        let removed = self.event_loop.bind(py).call_method1("remove_reader", (descriptor,));
        if let Err(error) = removed {
            error.write_unraisable(py, None);
        }
        self.tell_main(py);
    }

    /// The front has taken a request back: nothing is said about it.
    pub(super) fn recalled(&self, py: Python<'_>, place: Place) {
        let removed = {
            let mut table = lock(&self.table);
            table.running -= 1;
            table.streams.remove(&place.stream)
        };
        drop(removed);
        self.released(py);
    }

    /// The answer is complete: the front learns how long it took, whatever the application does afterwards.
    pub(super) fn answered(&self, place: Place) {
        if let Some(facts) = self.page.read(place.cell)
            && facts.stream == place.stream
            && facts.entered_at > 0
            && facts.service == 0
        {
            self.page.record_service(place.cell, monotonic_now().saturating_sub(facts.entered_at).max(1));
        }
    }

    /// The application's callable has ended: frees its slot and, unless a part still waits, closes the stream.
    pub(super) fn ended(&self, py: Python<'_>, place: Place, ending: Ending) {
        self.page.finish(place.cell, place.stream);
        lock(&self.table).running -= 1;
        match ending {
            Ending::Done => self.close(place, Kind::Done, &[]),
            Ending::Abort(abort) => self.close(place, Kind::Abort, &[abort as u8]),
            Ending::Lingering => {}
        }
        self.flush_soon(py);
        self.released(py);
    }

    /// The rest of a response that outlived its application has left, or nobody wants it any more.
    pub(super) fn end_lingering(&self, py: Python<'_>, place: Place) {
        self.close(place, Kind::Done, &[]);
        self.flush_soon(py);
        self.released(py);
    }

    /// Sends the last frame of a stream and forgets it.
    fn close(&self, place: Place, kind: Kind, payload: &[u8]) {
        self.with_output(|out| out.push(place.stream, kind, 0, payload));
        let removed = lock(&self.table).streams.remove(&place.stream);
        drop(removed);
    }

    /// A slot or a stream has become free: starts what waits for it, or ends a drained worker.
    pub(super) fn released(&self, py: Python<'_>) {
        if self.is_drained() {
            self.tell_main(py);
            return;
        }
        let start = {
            let table = lock(&self.table);
            !table.dispatching && !table.queue.is_empty() && table.running < self.slots
        };
        if start {
            self.schedule(py, |callbacks| &callbacks.start_queued);
        }
    }

    /// Reads once and handles every whole frame. False when the socket is empty, for now or for good.
    fn receive(slf: &Bound<'_, Self>) -> Result<bool, LinkFault> {
        let py = slf.py();
        let this = slf.get();
        let read = lock(&this.inbound).receive(this.socket.as_fd());
        let read = match read {
            Ok(0) => {
                this.abandon(py, None);
                return Ok(false);
            }
            Ok(read) => read,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return Ok(false),
            Err(error) => {
                this.abandon(py, Some(&error.to_string()));
                return Ok(false);
            }
        };
        loop {
            let frame = lock(&this.inbound).next_frame()?;
            let Some(frame) = frame else { break };
            Self::handle(slf, frame)?;
        }
        Ok(read >= SHORT_READ)
    }

    fn fail(&self, py: Python<'_>, fault: &LinkFault) {
        let reason = match fault {
            LinkFault::Decode(error) => error.to_string(),
            LinkFault::Unexpected(kind) => format!("unexpected frame {kind:?}"),
        };
        self.abandon(py, Some(&reason));
    }

    fn watch_writable(&self, py: Python<'_>, watch: bool) {
        let descriptor = self.socket.as_raw_fd();
        let event_loop = self.event_loop.bind(py);
        let Some(callbacks) = self.callbacks.get(py) else { return };
        let done = if watch {
            event_loop.call_method1(intern!(py, "add_writer"), (descriptor, &callbacks.writable))
        } else {
            event_loop.call_method1(intern!(py, "remove_writer"), (descriptor,))
        };
        if let Err(error) = done {
            error.write_unraisable(py, None);
        }
    }

    /// Lets finished answers go before an application is entered that may keep them waiting.
    pub(super) fn flush_before_entering(&self, py: Python<'_>, now: u64) {
        let due = {
            let mut output = lock(&self.output);
            output.pace.enter(now) && !output.waiting && !output.outbound.is_empty()
        };
        if due {
            self.flush_now(py);
        }
    }

    fn flush_now(&self, py: Python<'_>) {
        if !self.write(py) {
            lock(&self.output).waiting = true;
            self.watch_writable(py, true);
        }
    }

    /// Writes until everything is out or the socket is full. True when everything is out.
    fn write(&self, py: Python<'_>) -> bool {
        let failed = {
            let mut output = lock(&self.output);
            loop {
                match output.outbound.send(self.socket.as_fd()) {
                    Ok(true) => return true,
                    Ok(false) => {}
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                    Err(error) => break error,
                }
            }
        };
        self.abandon(py, Some(&failed.to_string()));
        true
    }
}

#[pymethods]
impl Server {
    /// The socket has something to read.
    fn readable(slf: &Bound<'_, Self>) {
        let py = slf.py();
        let this = slf.get();
        this.page.note_turn();
        lock(&this.table).dispatching = true;
        // What is sent meanwhile leaves below, with one call.
        {
            let mut output = lock(&this.output);
            output.flush_ahead = true;
            output.pace.begin_turn();
        }
        let entered = lock(&this.table).running;
        let outcome = (0..READS_PER_TURN)
            .try_fold(true, |more, _| if more && this.exit().is_none() { Self::receive(slf) } else { Ok(false) })
            .and_then(|_| Self::start_waiting(slf));
        lock(&this.table).dispatching = false;
        if let Err(fault) = outcome {
            this.fail(py, &fault);
        }
        if !this.event_loop.is_eager() && lock(&this.table).running > entered {
            // The new tasks run in the next turn; the flush comes behind them and takes their answers along.
            this.schedule(py, |callbacks| &callbacks.flush);
        } else {
            this.flush(py);
        }
    }

    /// The socket takes more.
    fn writable(slf: &Bound<'_, Self>) {
        let this = slf.get();
        if this.write(slf.py()) {
            lock(&this.output).waiting = false;
            this.watch_writable(slf.py(), false);
        }
    }

    fn flush(&self, py: Python<'_>) {
        let due = {
            let mut output = lock(&self.output);
            output.flush_ahead = false;
            output.pace.begin_turn();
            !output.waiting && !output.outbound.is_empty()
        };
        if due {
            self.flush_now(py);
        }
    }

    fn start_queued(slf: &Bound<'_, Self>) {
        let this = slf.get();
        lock(&this.output).pace.begin_turn();
        if this.exit().is_none()
            && let Err(fault) = Self::start_waiting(slf)
        {
            this.fail(slf.py(), &fault);
        }
    }

    /// The time has come for which the main task waits.
    fn look_again(&self, py: Python<'_>) {
        self.tell_main(py);
    }

    /// The tasks of requests with the numbers of their streams, for a look at their stacks.
    fn tasks(&self, py: Python<'_>) -> Vec<(StreamId, Py<PyAny>)> {
        let table = lock(&self.table);
        let task = |(stream, running): (&StreamId, &Running)| Some((*stream, running.task.as_ref()?.clone_ref(py)));
        table.streams.iter().filter_map(task).collect()
    }

    /// SIGTERM: finish what runs.
    fn terminate(&self, py: Python<'_>) {
        self.begin_drain_by_signal(py);
    }

    /// SIGQUIT: end at once.
    fn quit(&self, py: Python<'_>) -> PyResult<()> {
        self.end_now(py)
    }

    /// SIGINT: the terminal sends it to everybody in front of it; what it means is the front's to decide.
    #[expect(clippy::unused_self, reason = "a callback among the others")]
    fn ignore(&self) {}
}
