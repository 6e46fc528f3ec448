//! The link to one worker: which requests it holds, and the task that moves their frames.

use super::error::Reached;
use super::exchange::{Binding, Exchange};
use super::pool::Pool;
use crate::roster::{Member, Report, WorkerNumber};
use futures_util::task::AtomicWaker;
use monoceros_wire::frame::{Frame, Kind, LINK, StreamId};
use monoceros_wire::inbound::Inbound;
use monoceros_wire::message::{BootFailure, Hello, Interface, Ready};
use monoceros_wire::outbound::Outbound;
use monoceros_wire::page::{Cell, Page, Phase};
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::unix::AsyncFd;

/// The cell is in the low bits of a stream id, so that a frame finds its request without a search.
const CELL_BITS: u32 = 12;
const CELL_MASK: u32 = (1 << CELL_BITS) - 1;
const _: () = assert!(monoceros_wire::CELLS_MAX == 1 << CELL_BITS, "a stream id has room for every cell");

/// Reads of one wake-up, so that one busy worker cannot keep a front thread from its other connections.
const READS_PER_TURN: usize = 4;

#[derive(Debug, Default)]
struct CellEntry {
    /// Counts the uses of this cell; the high bits of the stream id.
    uses: u32,
    exchange: Option<Arc<Exchange>>,
    /// When the request was handed over, in nanoseconds of the monotonic clock.
    handed_at: u64,
}

#[derive(Debug)]
struct Shared {
    outbound: Outbound,
    cells: Vec<CellEntry>,
    free: Vec<u32>,
    interface: Interface,
    is_closed: bool,
}

/// One worker's link, shared by all front threads.
#[derive(Debug)]
pub struct Link {
    worker: WorkerNumber,
    /// The front thread that runs the link's task.
    thread: usize,
    page: Arc<Page>,
    shared: Mutex<Shared>,
    task: AtomicWaker,
    /// [`Interface`] once known, for readers without the lock.
    interface: AtomicU8,
    /// The process is reaped: what is in the socket is all that will ever come, even if a descendant holds it open.
    is_process_gone: AtomicBool,
}

/// A request that a lost worker held.
#[derive(Debug)]
pub struct Orphan {
    pub exchange: Arc<Exchange>,
    /// The application was called, or may have been.
    pub was_entered: bool,
}

/// What one turn of reading brought for the pool.
#[derive(Debug, Default)]
pub struct Turn {
    /// Requests that the worker no longer holds.
    pub finished: u32,
    pub frames: u32,
    pub service_times: Vec<Duration>,
    pub ready: Option<Ready>,
    /// The worker was told to end and wants nothing more.
    pub leaves: bool,
}

impl Link {
    pub fn new(member_page: Arc<Page>, worker: WorkerNumber, thread: usize) -> Self {
        let cells = member_page.cells();
        let shared = Shared {
            outbound: Outbound::default(),
            cells: (0..cells).map(|_| CellEntry::default()).collect(),
            free: (0..cells as u32).rev().collect(),
            interface: Interface::Wsgi,
            is_closed: false,
        };
        Self {
            worker,
            thread,
            page: member_page,
            shared: Mutex::new(shared),
            task: AtomicWaker::new(),
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
        let Some(cell) = shared.free.pop() else { return false };
        let entry = &mut shared.cells[cell as usize];
        // The top bits wrap around after a million uses of one cell; zero is never used, it would make stream 0.
        entry.uses = (entry.uses + 1) & (u32::MAX >> CELL_BITS);
        entry.uses += u32::from(entry.uses == 0);
        let stream = entry.uses << CELL_BITS | cell;
        entry.exchange = Some(Arc::clone(exchange));
        entry.handed_at = now;
        self.page.hand(cell, stream);
        exchange.request.push_to(&mut shared.outbound, stream, cell);
        exchange.bind(Binding { link: Arc::clone(self), stream, cell });
        drop(shared);
        self.task.wake();
        true
    }

    /// Sends a frame of a stream, if the worker still has it.
    pub fn send(&self, stream: StreamId, kind: Kind, flags: u8, payload: &[u8]) {
        let mut shared = self.lock();
        let is_current = stream == LINK || shared.exchange_of(stream).is_some();
        if is_current && !shared.is_closed {
            shared.outbound.push(stream, kind, flags, payload);
            drop(shared);
            self.task.wake();
        }
    }

    /// Takes a request back. True when the worker has not entered it and never will; its place is free again.
    pub fn recall(&self, binding: &Binding) -> bool {
        let mut shared = self.lock();
        if shared.exchange_of(binding.stream).is_none() || !self.page.recall(binding.cell, binding.stream) {
            return false;
        }
        shared.release(&self.page, binding.cell);
        true
    }

    /// Nobody waits for this answer any more: takes the request back (true), or tells the worker.
    pub fn cancel(&self, binding: &Binding) -> bool {
        if self.recall(binding) {
            return true;
        }
        self.page.cancel(binding.cell, binding.stream);
        self.send(binding.stream, Kind::Cancel, 0, &[]);
        false
    }

    /// Takes back every request that was not entered, oldest first.
    pub fn recall_all(&self) -> Vec<Arc<Exchange>> {
        let mut shared = self.lock();
        let mut recalled: Vec<(u64, u64, Arc<Exchange>)> = Vec::new();
        for cell in 0..shared.cells.len() as u32 {
            let Some((stream, exchange)) = shared.stream_of(cell) else { continue };
            // The pieces of a body that were passed on are on this link and nowhere else.
            if !exchange.has_body_started() && self.page.recall(cell, stream) {
                recalled.push((shared.cells[cell as usize].handed_at, exchange.born, exchange));
                shared.release(&self.page, cell);
            }
        }
        recalled.sort_by_key(|(handed_at, born, _)| (*handed_at, *born));
        recalled.into_iter().map(|(_, _, exchange)| exchange).collect()
    }

    /// Entered requests whose answer has not begun `limit` nanoseconds after they were entered. A WSGI thread that hangs
    /// is stuck whether or not its client still waits; an event loop only loses the one request.
    pub fn overdue(&self, now: u64, limit: u64) -> Vec<Arc<Exchange>> {
        self.held(|cell, exchange| {
            let is_due = match cell.phase {
                Phase::Entered => !exchange.is_settled(),
                Phase::Cancelled => !self.is_asgi(),
                _ => false,
            };
            is_due && now.saturating_sub(cell.entered_at) > limit && exchange.reached() < Reached::Answering
        })
    }

    /// Whether a request has waited in the worker for more than `limit` nanoseconds without being entered: the worker
    /// does not even read.
    pub fn is_stuck(&self, now: u64, limit: u64) -> bool {
        let shared = self.lock();
        (0..).zip(&shared.cells).any(|(cell, entry)| {
            entry.exchange.is_some()
                && now.saturating_sub(entry.handed_at) > limit
                && self.page.read(cell).is_some_and(|cell| cell.phase == Phase::Handed)
        })
    }

    fn held(&self, is_wanted: impl Fn(&Cell, &Exchange) -> bool) -> Vec<Arc<Exchange>> {
        let shared = self.lock();
        (0..shared.cells.len() as u32)
            .filter_map(|index| Some((self.page.read(index)?, shared.stream_of(index)?.1)))
            .filter(|(cell, exchange)| is_wanted(cell, exchange))
            .map(|(_, exchange)| exchange)
            .collect()
    }

    /// Ends the link and returns what the worker held, oldest first. The second call returns nothing.
    pub fn close(&self) -> Vec<Orphan> {
        let mut shared = self.lock();
        shared.is_closed = true;
        let mut orphans: Vec<(u64, Orphan)> = Vec::new();
        for cell in 0..shared.cells.len() as u32 {
            let Some((stream, exchange)) = shared.stream_of(cell) else { continue };
            // The swap decides, not the death: even a worker that still runs can no longer enter what was recalled.
            let was_entered = !self.page.recall(cell, stream);
            orphans.push((shared.cells[cell as usize].handed_at, Orphan { exchange, was_entered }));
            shared.release(&self.page, cell);
        }
        drop(shared);
        self.task.wake();
        orphans.sort_by_key(|(handed_at, _)| *handed_at);
        orphans.into_iter().map(|(_, orphan)| orphan).collect()
    }

    /// Takes note of frames. What a worker of ours cannot have meant ends the link.
    fn absorb(&self, frames: &mut Vec<Frame>, turn: &mut Turn) -> Result<(), LinkFault> {
        let mut deliveries: Vec<(Arc<Exchange>, Frame)> = Vec::with_capacity(frames.len());
        let mut shared = self.lock();
        let mut fault = None;
        for frame in frames.drain(..) {
            turn.frames += 1;
            if frame.stream == LINK {
                // What came before the fault is still delivered: no other request may be stranded by it.
                fault = self.absorb_greeting(&mut shared, &frame, turn).err();
                if fault.is_some() {
                    break;
                }
                continue;
            }
            // A frame of a stream that ended here (its client left, it was recalled) is simply late.
            let Some(exchange) = shared.exchange_of(frame.stream) else { continue };
            let cell = frame.stream & CELL_MASK;
            let is_last = is_last(&frame, shared.interface);
            if (is_last || matches!(frame.kind, Kind::Head | Kind::Accept))
                && let Some(facts) = self.page.read(cell)
            {
                exchange.note_entered(facts.entered_at);
                if is_last && facts.service > 0 {
                    turn.service_times.push(Duration::from_nanos(facts.service));
                }
            }
            if is_last {
                turn.finished += 1;
                shared.release(&self.page, cell);
            }
            deliveries.push((exchange, frame));
        }
        let interface = shared.interface;
        drop(shared);
        for (exchange, frame) in deliveries {
            let stream = frame.stream;
            let grant = exchange.deliver(frame, interface);
            if grant > 0 {
                self.send(stream, Kind::Window, 0, &grant.to_le_bytes());
            }
        }
        fault.map_or(Ok(()), Err)
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

impl Shared {
    fn exchange_of(&self, stream: StreamId) -> Option<Arc<Exchange>> {
        let entry = self.cells.get((stream & CELL_MASK) as usize)?;
        if entry.uses == stream >> CELL_BITS { entry.exchange.clone() } else { None }
    }

    fn stream_of(&self, cell: u32) -> Option<(StreamId, Arc<Exchange>)> {
        let entry = &self.cells[cell as usize];
        entry.exchange.clone().map(|exchange| (entry.uses << CELL_BITS | cell, exchange))
    }

    fn release(&mut self, page: &Page, cell: u32) {
        self.cells[cell as usize].exchange = None;
        page.free(cell);
        self.free.push(cell);
    }
}

/// Whether the worker is done with the stream. An ASGI application may go on after its answer; `Done` tells when it
/// has returned.
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
            while let Some(frame) = self.inbound.next_frame()? {
                frames.push(frame);
            }
            let mut turn = Turn::default();
            let absorbed = self.link.absorb(&mut frames, &mut turn);
            pool.turn(self.link, &turn);
            absorbed?;
        }
        Ok(())
    }

    /// Readiness may lag behind the socket; after the process is gone only a read tells the truth.
    fn read_the_rest(&mut self, pool: &Arc<Pool>) -> Result<(), LinkFault> {
        let mut frames = Vec::new();
        while matches!(self.inbound.receive(self.socket.get_ref().as_fd()), Ok(1..)) {
            while let Some(frame) = self.inbound.next_frame()? {
                frames.push(frame);
            }
        }
        let mut turn = Turn::default();
        let absorbed = self.link.absorb(&mut frames, &mut turn);
        pool.turn(self.link, &turn);
        absorbed.and(Err(LinkFault::End))
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
