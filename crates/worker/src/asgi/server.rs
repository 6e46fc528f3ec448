//! The ASGI side of the link: reads frames, starts the application, keeps the table of running streams, and writes what
//! they send, once per turn of the event loop.

use super::awaitable::Completed;
use super::call::Call;
use super::event_loop::EventLoop;
use super::failure::{report, stems_from_disconnect};
use super::http::HttpExchange;
use super::request_body::RequestBody;
use super::scope::ScopeFactory;
use super::stream::{Outcome, Stream, lock};
use super::websocket::WebSocketExchange;
use monoceros_wire::codec::DecodeError;
use monoceros_wire::frame::{Frame, Kind, LINK, StreamId};
use monoceros_wire::inbound::Inbound;
use monoceros_wire::message::{Abort, BootFailure, Interface, Protocol, Ready, Request};
use monoceros_wire::outbound::Outbound;
use monoceros_wire::page::{Page, Phase};
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

/// Which stream an exchange is, and whose.
pub(super) struct Identity {
    pub(super) server: Py<Server>,
    pub(super) stream: StreamId,
    cell: u32,
    /// Method and path, for the log.
    label: Box<str>,
}

/// The last frame of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Done,
    Abort(Abort),
    /// The application has returned, but a part of its response still waits for credit. `Done` comes after it.
    Lingering,
}

impl Identity {
    /// Tells the log about an application that failed.
    pub(super) fn report(&self, py: Python<'_>, outcome: &Outcome, ending: Ending, disconnected: bool) {
        let label = &self.label;
        match (outcome, ending) {
            (Outcome::Raised(error), _) if disconnected && stems_from_disconnect(py, error) => {}
            (Outcome::Raised(error), Ending::Abort(_)) => {
                report(py, &format!("monoceros: the application raised an exception: {label}"), Some(error));
            }
            (Outcome::Raised(error), _) => {
                let line = format!("monoceros: the application raised an exception after its response: {label}");
                report(py, &line, Some(error));
            }
            (Outcome::Returned, Ending::Abort(_)) => {
                let line = format!("monoceros: the application returned without a complete response: {label}");
                report(py, &line, None);
            }
            (Outcome::Cancelled, Ending::Abort(_)) => {
                let line = format!("monoceros: the application's task was cancelled before its response: {label}");
                report(py, &line, None);
            }
            (Outcome::Returned | Outcome::Cancelled, _) => {}
        }
    }
}

struct Running {
    stream: Stream,
    /// Keeps the task alive: the loop itself does not.
    task: Option<Py<PyAny>>,
}

/// A request that was handed over and not yet entered, with the frames that have followed it.
struct Queued {
    request: Frame,
    cell: u32,
    followers: Vec<Frame>,
}

struct Table {
    streams: HashMap<StreamId, Running>,
    queue: VecDeque<Queued>,
    /// Applications that were called and have not returned.
    running: usize,
    draining: bool,
    /// Frames are being handled: what was queued is started at the end of that.
    dispatching: bool,
    exit: Option<i32>,
}

struct Output {
    outbound: Outbound,
    /// A flush will come without being asked for.
    flush_ahead: bool,
    /// The socket is full: the loop tells when it is writable.
    waiting: bool,
}

struct Callbacks {
    flush: Py<PyAny>,
    start_queued: Py<PyAny>,
    /// The context in which the worker was started: a request must not inherit the variables of another.
    context: Py<PyAny>,
}

/// Everything that serves one link.
#[pyclass(frozen, weakref, module = "monoceros_worker")]
pub(super) struct Server {
    app: Py<PyAny>,
    event_loop: Arc<EventLoop>,
    scopes: ScopeFactory,
    socket: OwnedFd,
    page: Page,
    thread: u64,
    slots: usize,
    completed: Py<PyAny>,
    callbacks: PyOnceLock<Callbacks>,
    inbound: Mutex<Inbound>,
    output: Mutex<Output>,
    table: Mutex<Table>,
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
            page,
            thread: rustix::thread::gettid().as_raw_nonzero().get() as u64,
            slots,
            completed: Py::new(py, Completed)?.into_any(),
            callbacks: PyOnceLock::new(),
            inbound: Mutex::default(),
            output: Mutex::new(Output { outbound: Outbound::default(), flush_ahead: false, waiting: false }),
            table: Mutex::new(Table {
                streams: HashMap::new(),
                queue: VecDeque::new(),
                running: 0,
                draining: false,
                dispatching: false,
                exit: None,
            }),
        };
        let this = Bound::new(py, this)?;
        let callbacks = Callbacks {
            flush: this.getattr("flush")?.unbind(),
            start_queued: this.getattr("start_queued")?.unbind(),
            context: py.import("contextvars")?.call_method0("copy_context")?.unbind(),
        };
        let _ = this.get().callbacks.set(py, callbacks);
        let event_loop = this.get().event_loop.bind(py);
        event_loop.call_method1("add_reader", (descriptor, this.getattr("readable")?))?;
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

    pub(super) fn is_draining(&self) -> bool {
        lock(&self.table).draining
    }

    /// The exit code, once there is a reason to stop at once.
    pub(super) fn exit(&self) -> Option<i32> {
        lock(&self.table).exit
    }

    /// Draining, and nothing is left to do.
    pub(super) fn is_drained(&self) -> bool {
        let table = lock(&self.table);
        table.draining && table.streams.is_empty() && table.queue.is_empty()
    }

    fn stop_loop(&self, py: Python<'_>) {
        if let Err(error) = self.event_loop.stop(py) {
            error.write_unraisable(py, None);
        }
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
        self.stop_loop(py);
    }

    /// The application's callable has ended: frees its slot and, unless a part still waits, closes the stream.
    pub(super) fn ended(&self, py: Python<'_>, identity: &Identity, ending: Ending) {
        self.page.finish(identity.cell, identity.stream);
        lock(&self.table).running -= 1;
        match ending {
            Ending::Done => self.close(identity, Kind::Done, &[]),
            Ending::Abort(abort) => self.close(identity, Kind::Abort, &[abort as u8]),
            Ending::Lingering => {}
        }
        self.flush_soon(py);
        self.released(py);
    }

    /// Sends the last frame of a stream and forgets it.
    pub(super) fn close(&self, identity: &Identity, kind: Kind, payload: &[u8]) {
        self.with_output(|out| out.push(identity.stream, kind, 0, payload));
        let removed = lock(&self.table).streams.remove(&identity.stream);
        drop(removed);
    }

    /// A slot or a stream has become free: starts what waits for it, or ends a drained worker.
    pub(super) fn released(&self, py: Python<'_>) {
        if self.is_drained() {
            self.stop_loop(py);
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

    fn handle(slf: &Bound<'_, Self>, frame: Frame) -> Result<(), LinkFault> {
        let py = slf.py();
        let this = slf.get();
        match frame.kind {
            Kind::Request => Self::accept(slf, frame),
            Kind::Drain => {
                this.begin_drain(py);
                Ok(())
            }
            Kind::Body | Kind::Cancel | Kind::Window | Kind::Message | Kind::Close => this.deliver(py, frame),
            other => Err(LinkFault::Unexpected(other)),
        }
    }

    /// Starts a request, or queues it where all slots are taken.
    fn accept(slf: &Bound<'_, Self>, frame: Frame) -> Result<(), LinkFault> {
        let this = slf.get();
        let full = {
            let table = lock(&this.table);
            table.running >= this.slots || !table.queue.is_empty()
        };
        if full {
            let cell = Request::decode(&frame.payload)?.cell;
            lock(&this.table).queue.push_back(Queued { request: frame, cell, followers: Vec::new() });
            return Ok(());
        }
        Self::start(slf, frame, Vec::new())
    }

    /// Passes a frame on to its stream. One that is over, recalled or unknown is not an error: frames cross.
    fn deliver(&self, py: Python<'_>, frame: Frame) -> Result<(), LinkFault> {
        let stream = {
            let mut table = lock(&self.table);
            match table.streams.get(&frame.stream) {
                Some(running) => running.stream.clone_ref(py),
                None => {
                    let position = table.queue.iter().position(|queued| queued.request.stream == frame.stream);
                    let Some(position) = position else { return Ok(()) };
                    if frame.kind != Kind::Cancel {
                        table.queue[position].followers.push(frame);
                        return Ok(());
                    }
                    let queued = table.queue.remove(position);
                    drop(table);
                    if let Some(queued) = queued {
                        self.cancel_queued(py, &queued);
                    }
                    return Ok(());
                }
            }
        };
        match stream {
            Stream::Http(exchange) => exchange.get().deliver(py, frame),
            Stream::WebSocket(exchange) => exchange.get().deliver(py, frame),
            Stream::Lifespan(_) => Ok(()),
        }
    }

    /// Nobody waits for a request that was not entered: it never will be. A recalled one is the front's already.
    fn cancel_queued(&self, py: Python<'_>, queued: &Queued) {
        let stream = queued.request.stream;
        let handed =
            self.page.read(queued.cell).is_some_and(|cell| cell.stream == stream && cell.phase == Phase::Handed);
        if handed {
            self.with_output(|out| out.push(stream, Kind::Done, 0, &[]));
            self.flush_soon(py);
        }
        self.released(py);
    }

    /// Enters a request: from here on the application is responsible for it. A recalled one is dropped silently.
    fn start(slf: &Bound<'_, Self>, mut frame: Frame, followers: Vec<Frame>) -> Result<(), LinkFault> {
        let py = slf.py();
        let this = slf.get();
        let file = frame.descriptor.take();
        let request = Request::decode(&frame.payload)?;
        let facts = &request.facts;
        let body = RequestBody::new(facts.body, request.body.clone(), file);
        let body = body.ok_or(DecodeError::MissingDescriptor("request"))?;
        if !this.page.enter(request.cell, frame.stream, monotonic_now(), this.thread) {
            return Ok(());
        }
        let label = format!("{} {}", String::from_utf8_lossy(facts.method), String::from_utf8_lossy(facts.path));
        let identity =
            Identity { server: slf.clone().unbind(), stream: frame.stream, cell: request.cell, label: label.into() };
        lock(&this.table).running += 1;
        if let Err((identity, error)) = Self::call(slf, &request, identity, body, followers)? {
            let outcome = Outcome::Raised(error);
            let ending = Ending::Abort(Abort::Raised);
            identity.report(py, &outcome, ending, false);
            this.ended(py, &identity, ending);
        }
        Ok(())
    }

    /// Makes the exchange, calls the application, and delivers what has arrived meanwhile. The inner error means that
    /// not even an exchange could be made.
    fn call(
        slf: &Bound<'_, Self>,
        request: &Request<'_>,
        identity: Identity,
        body: RequestBody,
        followers: Vec<Frame>,
    ) -> Result<Result<(), (Identity, PyErr)>, LinkFault> {
        let py = slf.py();
        let this = slf.get();
        let id = identity.stream;
        let spare =
            Identity { server: identity.server.clone_ref(py), stream: id, cell: identity.cell, label: Box::default() };
        let made = match request.facts.protocol {
            Protocol::Http => Bound::new(py, HttpExchange::new(identity, body, request.facts.method == b"HEAD"))
                .map(|exchange| (Stream::Http(exchange.clone().unbind()), exchange.into_any())),
            Protocol::WebSocket => Bound::new(py, WebSocketExchange::new(identity))
                .map(|exchange| (Stream::WebSocket(exchange.clone().unbind()), exchange.into_any())),
        };
        let (stream, exchange) = match made {
            Ok(made) => made,
            Err(error) => return Ok(Err((spare, error))),
        };
        let running = Running { stream: stream.clone_ref(py), task: None };
        lock(&this.table).streams.insert(id, running);
        for frame in followers {
            this.deliver(py, frame)?;
        }
        if let Err(error) = this.spawn(request, id, &stream, &exchange) {
            stream.returned(py, &Outcome::Raised(error));
        }
        Ok(Ok(()))
    }

    fn spawn(&self, request: &Request<'_>, id: StreamId, stream: &Stream, exchange: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = exchange.py();
        let scope = self.scopes.build(py, request)?;
        let receive = exchange.getattr(intern!(py, "receive"))?;
        let send = exchange.getattr(intern!(py, "send"))?;
        let call = Call::new(self.app.bind(py), stream.clone_ref(py), (scope.into_any(), receive, send))?;
        let task = self.event_loop.create_task(Bound::new(py, call)?.as_any(), &format!("monoceros-request-{id}"))?;
        if let Some(running) = lock(&self.table).streams.get_mut(&id) {
            running.task = Some(task.unbind());
        }
        Ok(())
    }

    fn begin_drain(&self, py: Python<'_>) {
        let websockets: Vec<Py<WebSocketExchange>> = {
            let mut table = lock(&self.table);
            table.draining = true;
            let streams = table.streams.values();
            streams
                .filter_map(|running| match &running.stream {
                    Stream::WebSocket(exchange) => Some(exchange.clone_ref(py)),
                    _ => None,
                })
                .collect()
        };
        for websocket in websockets {
            websocket.get().drain(py);
        }
        if self.is_drained() {
            self.stop_loop(py);
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

    fn start_waiting(slf: &Bound<'_, Self>) -> Result<(), LinkFault> {
        let this = slf.get();
        loop {
            let next = {
                let mut table = lock(&this.table);
                if table.running < this.slots { table.queue.pop_front() } else { None }
            };
            let Some(queued) = next else { break };
            Self::start(slf, queued.request, queued.followers)?;
        }
        // Recalled requests leave the queue without ever having run.
        if this.is_drained() {
            this.stop_loop(slf.py());
        }
        Ok(())
    }

    fn fail(&self, py: Python<'_>, fault: &LinkFault) {
        let reason = match fault {
            LinkFault::Decode(error) => error.to_string(),
            LinkFault::Unexpected(kind) => format!("unexpected frame {kind:?}"),
        };
        self.abandon(py, Some(&reason));
    }

    fn watch_writable(&self, slf: &Bound<'_, Self>, watch: bool) {
        let py = slf.py();
        let descriptor = self.socket.as_raw_fd();
        let event_loop = self.event_loop.bind(py);
        let done = if watch {
            slf.getattr(intern!(py, "writable"))
                .and_then(|callback| event_loop.call_method1(intern!(py, "add_writer"), (descriptor, callback)))
        } else {
            event_loop.call_method1(intern!(py, "remove_writer"), (descriptor,))
        };
        if let Err(error) = done {
            error.write_unraisable(py, None);
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
        lock(&this.table).dispatching = true;
        // What is sent meanwhile leaves below, with one call.
        lock(&this.output).flush_ahead = true;
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
            Self::flush(slf);
        }
    }

    /// The socket takes more.
    fn writable(slf: &Bound<'_, Self>) {
        let this = slf.get();
        if this.write(slf.py()) {
            lock(&this.output).waiting = false;
            this.watch_writable(slf, false);
        }
    }

    fn flush(slf: &Bound<'_, Self>) {
        let this = slf.get();
        {
            let mut output = lock(&this.output);
            output.flush_ahead = false;
            if output.waiting || output.outbound.is_empty() {
                return;
            }
        }
        if !this.write(slf.py()) {
            lock(&this.output).waiting = true;
            this.watch_writable(slf, true);
        }
    }

    fn start_queued(slf: &Bound<'_, Self>) {
        let this = slf.get();
        if this.exit().is_none()
            && let Err(fault) = Self::start_waiting(slf)
        {
            this.fail(slf.py(), &fault);
        }
    }

    /// SIGTERM: as if the front had asked to drain.
    fn terminate(&self, py: Python<'_>) {
        self.begin_drain(py);
    }
}
