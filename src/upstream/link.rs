//! The link to one worker: what is handed over and taken back, and the task that moves the frames.

use super::cells::{Cells, Orphan};
use super::exchange::{Binding, Exchange};
use super::pool::Pool;
use super::watch::{Allowance, Look, Verdict};
use crate::roster::{Member, Report, WorkerNumber};
use futures_util::task::AtomicWaker;
use monoceros_wire::frame::{Frame, Kind, LINK, StreamId};
use monoceros_wire::inbound::Inbound;
use monoceros_wire::message::{BootFailure, Hello, Interface, Ready};
use monoceros_wire::outbound::Outbound;
use monoceros_wire::page::{Cell, Page};
use monoceros_wire::sys::monotonic_now;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::unix::AsyncFd;

/// Reads of one wake-up, so that one busy worker cannot keep a front thread from its other connections.
const READS_PER_TURN: usize = 4;

#[derive(Debug)]
struct Shared {
    outbound: Outbound,
    cells: Cells,
    interface: Interface,
    is_closed: bool,
    /// It was said that a file of this worker could not be received.
    has_lost_file: bool,
}

/// One worker's link, shared by all front threads.
#[derive(Debug)]
pub struct Link {
    worker: WorkerNumber,
    /// The front thread that runs the link's task.
    thread: usize,
    shared: Mutex<Shared>,
    task: AtomicWaker,
    /// Cells in use though their request is over, for readers without the lock.
    lingering: AtomicUsize,
    /// [`Interface`] once known, for readers without the lock.
    interface: AtomicU8,
    /// The process is reaped: what is in the socket is all that will ever come, even if a descendant holds it open.
    is_process_gone: AtomicBool,
}

/// What one turn of reading brought for the pool.
#[derive(Debug, Default)]
pub struct Turn {
    /// Requests that the worker no longer holds.
    pub finished: u32,
    /// The worker has taken up something.
    pub has_moved: bool,
    pub service_times: Vec<Duration>,
    pub ready: Option<Ready>,
    /// The worker was told to end and wants nothing more.
    pub leaves: bool,
}

impl Link {
    pub fn new(page: Arc<Page>, worker: WorkerNumber, thread: usize) -> Self {
        let shared = Shared {
            outbound: Outbound::default(),
            cells: Cells::new(page),
            interface: Interface::Wsgi,
            is_closed: false,
            has_lost_file: false,
        };
        Self {
            worker,
            thread,
            shared: Mutex::new(shared),
            task: AtomicWaker::new(),
            lingering: AtomicUsize::new(0),
            interface: AtomicU8::new(0),
            is_process_gone: AtomicBool::new(false),
        }
    }

    /// The worker's process has ended; the link ends when its socket is read to the end.
    pub fn set_process_gone(&self) {
        self.is_process_gone.store(true, Ordering::Release);
        self.task.wake();
    }

    pub fn worker(&self) -> WorkerNumber {
        self.worker
    }

    pub fn thread(&self) -> usize {
        self.thread
    }

    pub fn is_asgi(&self) -> bool {
        self.interface.load(Ordering::Relaxed) == Interface::Asgi as u8
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a request over. False when the link is closed or has no free cell; nothing happened then.
    pub fn hand(self: &Arc<Self>, exchange: &Arc<Exchange>, now: u64) -> bool {
        let mut shared = self.lock();
        if shared.is_closed {
            return false;
        }
        let Some((stream, cell)) = shared.cells.hand(exchange, now) else { return false };
        exchange.request.push_to(&mut shared.outbound, stream, cell);
        exchange.bind(Binding { link: Arc::clone(self), stream, cell });
        drop(shared);
        self.task.wake();
        true
    }

    /// Sends a frame of a stream, if the worker still has it.
    pub fn send(&self, stream: StreamId, kind: Kind, flags: u8, payload: &[u8]) {
        let mut shared = self.lock();
        let is_current = stream == LINK || shared.cells.exchange_of(stream).is_some();
        if is_current && !shared.is_closed {
            shared.outbound.push(stream, kind, flags, payload);
            drop(shared);
            self.task.wake();
        }
    }

    /// Nobody waits for this answer any more: takes the request back (true), or tells the worker.
    pub fn cancel(&self, binding: &Binding, now: u64) -> bool {
        let mut shared = self.lock();
        if shared.cells.recall(binding.stream) {
            self.note_lingering(&shared);
            return true;
        }
        if !shared.is_closed && shared.cells.cancel(binding.stream, now) {
            shared.outbound.push(binding.stream, Kind::Cancel, 0, &[]);
            drop(shared);
            self.task.wake();
        }
        false
    }

    /// Takes back every request that was not entered and can go elsewhere, oldest first.
    pub fn recall_all(&self) -> Vec<Arc<Exchange>> {
        let mut shared = self.lock();
        let recalled = shared.cells.recall_all();
        self.note_lingering(&shared);
        recalled
    }

    /// Whether something of a client is in the worker.
    pub(super) fn holds_clients(&self) -> bool {
        self.lock().cells.holds_clients()
    }

    /// Whether an application is at this stream now.
    pub(super) fn is_inside(&self, stream: StreamId) -> bool {
        self.lock().cells.is_inside(stream)
    }

    /// Looks at everything the worker holds.
    pub fn look(&self) -> Look {
        let mut shared = self.lock();
        let look = shared.cells.look();
        self.note_lingering(&shared);
        look
    }

    /// Threads that are still in the application after the last byte of their answer.
    pub fn occupied(&self) -> u32 {
        if !self.has_lingering() {
            return 0;
        }
        let mut shared = self.lock();
        let occupied = shared.cells.occupied();
        self.note_lingering(&shared);
        occupied
    }

    /// Whether something of requests that are over is left in the worker.
    pub fn has_lingering(&self) -> bool {
        self.lingering.load(Ordering::Relaxed) > 0
    }

    fn note_lingering(&self, shared: &Shared) {
        self.lingering.store(shared.cells.lingering(), Ordering::Relaxed);
    }

    /// The requests that take too long.
    pub fn judge(&self, now: u64, pause: u64) -> Vec<(Arc<Exchange>, Verdict)> {
        self.lock().cells.judge(self.is_asgi(), now, pause)
    }

    /// Of a request that takes too long: since when it runs, and in which thread. That thread is to be asked to return.
    pub fn ask(&self, binding: &Binding) -> Option<Cell> {
        self.lock().cells.ask(binding.stream)
    }

    /// How long the worker may take for what it has not begun to answer.
    pub fn allowance(&self) -> Option<Allowance> {
        self.lock().cells.allowance()
    }

    /// How many times the event loop of the worker has looked at this link.
    pub fn turns(&self) -> u64 {
        self.lock().cells.turns()
    }

    /// The requests whose application was called and has not returned, and what the page says about them.
    pub fn entered(&self) -> Vec<(Arc<Exchange>, Cell)> {
        self.lock().cells.entered()
    }

    /// What waits to be written, as the task of the link would take it.
    #[cfg(test)]
    pub(super) fn take_outbound(&self) -> Vec<u8> {
        std::mem::take(&mut self.lock().outbound).bytes().to_vec()
    }

    #[cfg(test)]
    pub(super) fn has_outbound(&self) -> bool {
        !self.lock().outbound.is_empty()
    }

    /// Ends the link and returns what the worker held, oldest first. The second call returns nothing.
    pub fn close(&self) -> Vec<Orphan> {
        let mut shared = self.lock();
        shared.is_closed = true;
        let orphans = shared.cells.close();
        drop(shared);
        self.task.wake();
        orphans
    }

    /// Takes note of frames. What a worker of ours cannot have meant ends the link.
    pub(super) fn absorb(&self, frames: &mut Vec<Frame>, turn: &mut Turn, now: u64) -> Result<(), LinkFault> {
        let mut deliveries: Vec<(Arc<Exchange>, Frame)> = Vec::with_capacity(frames.len());
        let mut shared = self.lock();
        let mut fault = None;
        for frame in frames.drain(..) {
            if frame.stream == LINK {
                // What came before the fault is still delivered: no other request may be stranded by it.
                fault = self.absorb_greeting(&mut shared, &frame, turn).err();
                if fault.is_some() {
                    break;
                }
                continue;
            }
            turn.has_moved |= shared.cells.note_frame(frame.stream);
            // A frame of a stream that ended here (its client left, it was recalled) is simply late.
            let Some(exchange) = shared.cells.exchange_of(frame.stream) else { continue };
            self.complain_about_lost_file(&mut shared, &frame);
            if is_last(&frame, shared.interface) {
                turn.note_service(&shared.cells, &exchange, frame.stream, true);
                turn.finished += 1;
                let may_go_on = shared.interface == Interface::Wsgi && frame.kind != Kind::Abort;
                shared.cells.end(frame.stream, may_go_on, now);
            } else if matches!(frame.kind, Kind::Head | Kind::Accept) {
                turn.note_service(&shared.cells, &exchange, frame.stream, false);
            }
            deliveries.push((exchange, frame));
        }
        let interface = shared.interface;
        self.note_lingering(&shared);
        drop(shared);
        for (exchange, frame) in deliveries {
            let stream = frame.stream;
            let grant = exchange.deliver(frame, interface, now);
            if grant > 0 {
                self.send(stream, Kind::Window, 0, &grant.to_le_bytes());
            }
        }
        fault.map_or(Ok(()), Err)
    }

    /// Said once: when there are no descriptors left, there are none for the next file either.
    fn complain_about_lost_file(&self, shared: &mut Shared, frame: &Frame) {
        if frame.kind == Kind::File && frame.descriptor.is_none() && !shared.has_lost_file {
            shared.has_lost_file = true;
            tracing::warn!(
                "a file that worker {} answers with could not be taken: too many open files; raise the limit (ulimit -n)",
                self.worker
            );
        }
    }

    fn absorb_greeting(&self, shared: &mut Shared, frame: &Frame, turn: &mut Turn) -> Result<(), LinkFault> {
        match frame.kind {
            Kind::Hello => {
                let hello = Hello::decode(&frame.payload)?;
                if hello.version != monoceros_wire::VERSION {
                    return Err(LinkFault::Version(hello.version));
                }
            }
            Kind::Ready => {
                let ready = Ready::decode(&frame.payload)?;
                shared.interface = ready.interface;
                self.interface.store(ready.interface as u8, Ordering::Relaxed);
                turn.ready = Some(ready);
            }
            Kind::Drain => turn.leaves = true,
            Kind::BootFailed => return Err(LinkFault::BootFailed(BootFailure::decode(&frame.payload)?)),
            other => return Err(LinkFault::Unexpected(other)),
        }
        Ok(())
    }
}

impl Turn {
    fn note_service(&mut self, cells: &Cells, exchange: &Exchange, stream: StreamId, is_last: bool) {
        let Some(facts) = cells.read(stream) else { return };
        exchange.note_entered(facts.entered_at);
        if is_last && facts.service > 0 {
            self.service_times.push(Duration::from_nanos(facts.service));
        }
    }
}

/// Whether this is the worker's last frame of the stream. An ASGI application may go on after its answer; `Done` tells
/// when it has returned.
fn is_last(frame: &Frame, interface: Interface) -> bool {
    match (frame.kind, interface) {
        (Kind::Abort | Kind::Done, _) => true,
        (Kind::Head | Kind::Data | Kind::File | Kind::Trailers, Interface::Wsgi) => frame.is_end(),
        _ => false,
    }
}

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkFault {
    #[error("its process has ended")]
    End,
    #[error("its link failed: {0}")]
    Io(#[from] io::Error),
    #[error("it sent what cannot be understood: {0}")]
    Decode(#[from] monoceros_wire::codec::DecodeError),
    #[error("it sent a frame of kind {0:?} where none is allowed")]
    Unexpected(Kind),
    #[error("its extension speaks version {0} of the wire, this program speaks {version}", version = monoceros_wire::VERSION)]
    Version(u32),
    #[error("the application could not be loaded")]
    BootFailed(BootFailure),
}

/// Runs the link of a new member until it ends; the pool learns everything that happens.
pub async fn run(link: Arc<Link>, socket: OwnedFd, pool: Arc<Pool>) {
    let fault = match crate::sys::readiness::watch(socket) {
        Ok(socket) => {
            let mut task = LinkTask { link: &link, socket, inbound: Inbound::default(), outbound: Outbound::default() };
            poll_fn(|context| task.poll(context, &pool)).await
        }
        Err(error) => LinkFault::Io(error),
    };
    pool.lose(&link);
    let worker = link.worker;
    pool.report(match fault {
        LinkFault::BootFailed(failure) => Report::BootFailed { worker, failure },
        other => Report::LinkLost { worker, reason: other.to_string() },
    });
}

struct LinkTask<'a> {
    link: &'a Arc<Link>,
    socket: AsyncFd<OwnedFd>,
    inbound: Inbound,
    /// Being written; the shared one collects meanwhile.
    outbound: Outbound,
}

impl LinkTask<'_> {
    fn poll(&mut self, context: &mut Context<'_>, pool: &Arc<Pool>) -> Poll<LinkFault> {
        self.link.task.register(context.waker());
        if let Err(fault) = self.read(context, pool) {
            return Poll::Ready(fault);
        }
        // Reading first: answers free places, the requests that take them leave with this write.
        match self.write(context) {
            Ok(()) => Poll::Pending,
            Err(error) => Poll::Ready(LinkFault::Io(error)),
        }
    }

    fn read(&mut self, context: &mut Context<'_>, pool: &Arc<Pool>) -> Result<(), LinkFault> {
        let mut frames = Vec::new();
        for turn_number in 0..=READS_PER_TURN {
            // Read before the look at the socket: what the process sent is there by then.
            let is_process_gone = self.link.is_process_gone.load(Ordering::Acquire);
            let Poll::Ready(guard) = self.socket.poll_read_ready(context) else {
                return if is_process_gone { self.read_the_rest(pool) } else { Ok(()) };
            };
            if turn_number == READS_PER_TURN {
                context.waker().wake_by_ref();
                return Ok(());
            }
            let mut guard = guard?;
            match self.inbound.receive(self.socket.get_ref().as_fd()) {
                Ok(0) => return Err(LinkFault::End),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    guard.clear_ready();
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Err(LinkFault::End),
                Err(error) => return Err(LinkFault::Io(error)),
            }
            self.take_frames(&mut frames, pool)?;
        }
        Ok(())
    }

    /// Takes note of every whole frame. When one is bad, those before it count nevertheless.
    fn take_frames(&mut self, frames: &mut Vec<Frame>, pool: &Arc<Pool>) -> Result<(), LinkFault> {
        let fault = loop {
            match self.inbound.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        let mut turn = Turn::default();
        let now = monotonic_now();
        let absorbed = self.link.absorb(frames, &mut turn, now);
        pool.turn(self.link, &turn, now);
        absorbed?;
        fault.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Readiness may lag behind the socket; after the process is gone only a read tells the truth.
    fn read_the_rest(&mut self, pool: &Arc<Pool>) -> Result<(), LinkFault> {
        let mut frames = Vec::new();
        while matches!(self.inbound.receive(self.socket.get_ref().as_fd()), Ok(1..)) {
            self.take_frames(&mut frames, pool)?;
        }
        Err(LinkFault::End)
    }

    fn write(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        loop {
            if self.outbound.is_empty() {
                let mut shared = self.link.lock();
                if shared.outbound.is_empty() {
                    return Ok(());
                }
                std::mem::swap(&mut shared.outbound, &mut self.outbound);
            }
            let Poll::Ready(guard) = self.socket.poll_write_ready(context) else { return Ok(()) };
            let mut guard = guard?;
            match self.outbound.send(self.socket.get_ref().as_fd()) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => guard.clear_ready(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The read side tells what happened, after the answers that are still in the socket.
                Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {
                    self.outbound = Outbound::default();
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Our end of a new member's link, ready for a task on `thread`.
pub fn open(member: Member, thread: usize) -> io::Result<(Arc<Link>, OwnedFd)> {
    monoceros_wire::sys::set_nonblocking(&member.socket, true)?;
    Ok((Arc::new(Link::new(member.page, member.worker, thread)), member.socket))
}
