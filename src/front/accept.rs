//! The one accept loop, and the placement of connections on front threads.
//!
//! All front threads wait on the same listening sockets. Whoever is quick accepts, which would leave a few keep-alive
//! connections all on one thread; so the accepting thread hands a connection to a thread that has clearly fewer.

use super::connection::{self, Terms};
use super::descriptors::{self, Ceiling};
use super::drain::Shutdown;
use super::listener::{Closing, Listener, Listeners};
use super::tls::{Described, Tls};
use super::transport::{DetachedSocket, Socket};
use super::{Address, Answer, Purpose};
use arc_swap::ArcSwap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::mpsc;

/// What one front thread needs; made by [`front_threads`], run inside that thread's current-thread runtime.
#[derive(Debug)]
pub struct FrontThread {
    index: usize,
    doors: Vec<Door>,
    inbox: mpsc::UnboundedReceiver<Delivery>,
    placement: Arc<Placement>,
    shutdown: Shutdown,
}

/// One thread's handle on a listening socket.
#[derive(Debug)]
struct Door {
    socket: OwnedFd,
    origin: Origin,
    closing: Closing,
}

/// Which listener a connection came in by.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    pub(super) listener: Arc<Address>,
    pub(super) purpose: Purpose,
}

/// All front threads: how many connections each has open, and what holds for new ones.
#[derive(Debug)]
pub struct Placement {
    desks: Vec<Desk>,
    terms: ArcSwap<Terms>,
    /// When it was last said that there is no room for more.
    told_full: Mutex<Option<Instant>>,
}

#[derive(Debug)]
struct Desk {
    open: AtomicUsize,
    inbox: mpsc::UnboundedSender<Delivery>,
}

/// What a front thread is given.
#[derive(Debug)]
enum Delivery {
    Connection(Handover),
    Door(Door),
}

/// An accepted connection on its way to another thread.
#[derive(Debug)]
struct Handover {
    socket: DetachedSocket,
    peer: Address,
    origin: Origin,
    seat: Seat,
}

/// A connection's place on a thread, counted while this lives.
#[derive(Debug)]
pub(super) struct Seat {
    placement: Arc<Placement>,
    thread: usize,
}

/// Prepares `threads` front threads over the same listeners. The result is one entry per thread; [`Placement`] tells
/// how many connections are open.
pub fn front_threads(
    listeners: &Listeners,
    threads: usize,
    limits: &super::limits::Settings,
    tls: Option<&Arc<Tls>>,
    shutdown: &Shutdown,
) -> io::Result<(Vec<FrontThread>, Arc<Placement>)> {
    let (desks, inboxes): (Vec<_>, Vec<_>) = (0..threads.max(1))
        .map(|_| {
            let (inbox, receiver) = mpsc::unbounded_channel();
            (Desk { open: AtomicUsize::new(0), inbox }, receiver)
        })
        .unzip();
    let terms = ArcSwap::from_pointee(Terms { limits: limits.clone(), tls: tls.cloned() });
    let placement = Arc::new(Placement { desks, terms, told_full: Mutex::default() });
    let rows = doors(listeners.iter(), inboxes.len())?;
    let front = inboxes.into_iter().zip(rows).enumerate().map(|(index, (inbox, doors))| {
        let (placement, shutdown) = (Arc::clone(&placement), shutdown.clone());
        FrontThread { index, doors, inbox, placement, shutdown }
    });
    Ok((front.collect(), placement))
}

/// A row of doors for each of `threads`, to the same listeners.
fn doors<'a>(listeners: impl Iterator<Item = &'a Listener>, threads: usize) -> io::Result<Vec<Vec<Door>>> {
    let mut rows: Vec<Vec<Door>> = (0..threads).map(|_| Vec::new()).collect();
    for listener in listeners {
        let origin = Origin { listener: Arc::new(listener.address.clone()), purpose: listener.purpose };
        for row in &mut rows {
            let (socket, closing) = listener.duplicate()?;
            row.push(Door { socket, origin: origin.clone(), closing });
        }
    }
    Ok(rows)
}

impl Placement {
    /// Open connections of all front threads.
    pub fn open(&self) -> usize {
        self.desks.iter().map(|desk| desk.open.load(Ordering::Relaxed)).sum()
    }

    /// The certificates that new connections are shown.
    pub fn certificates(&self) -> Vec<Described> {
        self.terms.load().tls.as_ref().map(|tls| tls.certificates()).unwrap_or_default()
    }

    /// From now on these hold for new connections.
    pub fn set_terms(&self, limits: &super::limits::Settings, tls: Option<&Arc<Tls>>) {
        self.terms.store(Arc::new(Terms { limits: limits.clone(), tls: tls.cloned() }));
    }

    /// Lets all front threads accept from further listeners, until those are dropped. All or nothing.
    pub fn accept_from<'a>(&self, listeners: impl Iterator<Item = &'a Listener>) -> io::Result<()> {
        for (desk, row) in self.desks.iter().zip(doors(listeners, self.desks.len())?) {
            for door in row {
                // A thread that drains wants no more.
                let _ = desk.inbox.send(Delivery::Door(door));
            }
        }
        Ok(())
    }

    /// Open connections of each front thread.
    pub fn open_per_thread(&self) -> Vec<usize> {
        self.desks.iter().map(|desk| desk.open.load(Ordering::Relaxed)).collect()
    }

    /// Says that there is no room for more; not again and again while connections come and go.
    fn tell_full(&self) {
        const PAUSE: Duration = Duration::from_secs(60);
        let mut told = self.told_full.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|at| at.elapsed() > PAUSE) {
            *told = Some(Instant::now());
            let open = self.open();
            tracing::warn!("no more connections are accepted for now: {open} are open; raise the limit (ulimit -n)");
        }
    }

    fn take_seat(self: &Arc<Self>, own: usize) -> Seat {
        let open = |index: usize| self.desks[index].open.load(Ordering::Relaxed);
        let least = (0..self.desks.len()).min_by_key(|&index| open(index)).unwrap_or(own);
        let thread = if clearly_fewer(open(least), open(own)) { least } else { own };
        self.desks[thread].open.fetch_add(1, Ordering::Relaxed);
        Seat { placement: Arc::clone(self), thread }
    }
}

/// Whether a connection accepted by a thread with `own` open ones should go to a thread with `theirs`.
/// Exact while connections are few, since then each one weighs; later an eighth is not worth the hand-over.
fn clearly_fewer(theirs: usize, own: usize) -> bool {
    own > theirs + theirs / 8
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.placement.desks[self.thread].open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl FrontThread {
    /// Accepts and serves until the drain begins, then waits for the connections of this thread until its deadline.
    /// What still runs at the deadline ends with the runtime.
    pub async fn run<A: Answer>(self, answer: Arc<A>) -> io::Result<()> {
        let Self { index, doors, mut inbox, placement, mut shutdown } = self;
        // The channel closes when the last connection has dropped its end.
        let (alive, mut gone) = mpsc::channel::<std::convert::Infallible>(1);
        let desk = Arc::new(Local { index, placement, answer, shutdown: shutdown.clone(), alive });
        for door in doors {
            open(door, &desk)?;
        }
        let deadline = loop {
            tokio::select! {
                biased;
                Some(delivery) = inbox.recv() => deliver(delivery, &desk),
                deadline = shutdown.begun() => break deadline,
            }
        };
        inbox.close();
        while let Some(delivery) = inbox.recv().await {
            deliver(delivery, &desk);
        }
        drop((desk, shutdown));
        let _ = tokio::time::timeout_at(deadline, gone.recv()).await;
        Ok(())
    }
}

fn deliver<A: Answer>(delivery: Delivery, desk: &Arc<Local<A>>) {
    match delivery {
        Delivery::Connection(handover) => desk.receive(handover),
        Delivery::Door(door) => {
            if let Err(error) = open(door, desk) {
                tracing::error!("a front thread cannot accept from a new listener: {error}");
            }
        }
    }
}

fn open<A: Answer>(door: Door, desk: &Arc<Local<A>>) -> io::Result<()> {
    let listener = AsyncListener::new(door.socket)?;
    tokio::spawn(accept_loop(listener, door.origin, door.closing, Arc::clone(desk)));
    Ok(())
}

/// What the tasks of one thread share.
struct Local<A> {
    index: usize,
    placement: Arc<Placement>,
    answer: Arc<A>,
    shutdown: Shutdown,
    alive: mpsc::Sender<std::convert::Infallible>,
}

/// Held by a connection, and by the tunnel it may become.
#[derive(Debug)]
pub(super) struct Presence {
    _seat: Seat,
    _alive: mpsc::Sender<std::convert::Infallible>,
    _shutdown: Shutdown,
}

impl<A: Answer> Local<A> {
    fn accepted(&self, socket: Socket, peer: Address, origin: &Origin) {
        let seat = self.placement.take_seat(self.index);
        if seat.thread == self.index {
            return self.serve(socket, peer, origin.clone(), seat);
        }
        let target = seat.thread;
        match socket.detach() {
            Ok(socket) => {
                let handover = Handover { socket, peer, origin: origin.clone(), seat };
                // A thread that drains has closed its inbox; then it is ours after all.
                let delivery = Delivery::Connection(handover);
                if let Err(mpsc::error::SendError(Delivery::Connection(handover))) =
                    self.placement.desks[target].inbox.send(delivery)
                {
                    self.receive(handover);
                }
            }
            Err(error) => tracing::debug!(%error, "a connection was lost between threads"),
        }
    }

    fn receive(&self, handover: Handover) {
        match handover.socket.attach() {
            Ok(socket) => self.serve(socket, handover.peer, handover.origin, handover.seat),
            Err(error) => tracing::warn!(%error, "a connection was lost between threads"),
        }
    }

    fn serve(&self, socket: Socket, peer: Address, origin: Origin, seat: Seat) {
        let presence = Presence { _seat: seat, _alive: self.alive.clone(), _shutdown: self.shutdown.clone() };
        let accepted = connection::Accepted { socket, peer, origin, presence };
        let (terms, answer) = (self.placement.terms.load_full(), Arc::clone(&self.answer));
        tokio::spawn(connection::serve(accepted, terms, answer, self.shutdown.clone()));
    }
}

async fn accept_loop<A: Answer>(listener: AsyncListener, origin: Origin, mut closing: Closing, local: Arc<Local<A>>) {
    let mut shutdown = local.shutdown.clone();
    let mut back_off = BackOff::default();
    let ceiling = Ceiling::of_process();
    loop {
        let outcome = tokio::select! {
            biased;
            _ = shutdown.begun() => break,
            () = closing.begun() => break,
            outcome = listener.accept() => outcome,
        };
        match outcome {
            Ok((socket, peer)) => {
                back_off = BackOff::default();
                let is_full = ceiling.is_reached_by(socket.number());
                local.accepted(socket, peer, &origin);
                if is_full {
                    local.placement.tell_full();
                    wait_for_room(&listener, ceiling, &mut shutdown).await;
                }
            }
            Err(error) => match back_off.after(&error) {
                None => {}
                Some(wait) => {
                    tracing::warn!(%error, listener = ?origin.listener, ?wait, "cannot accept connections for now");
                    tokio::time::sleep(wait).await;
                }
            },
        }
    }
    // Clients that the kernel already queued believe to be connected: the last handle's close would reset them.
    if let Err(error) = listener.accept_rest(|socket, peer| local.accepted(socket, peer, &origin))
        && error.kind() != io::ErrorKind::WouldBlock
    {
        tracing::debug!(%error, "waiting connections could not be accepted");
    }
}

/// Leaves new clients in the kernel's queue until open connections have ended, or the drain begins.
async fn wait_for_room(listener: &AsyncListener, ceiling: Ceiling, shutdown: &mut Shutdown) {
    while !ceiling.has_room(listener) {
        if tokio::time::timeout(descriptors::PAUSE, shutdown.begun()).await.is_ok() {
            break;
        }
    }
}

/// How long to wait after an error of `accept`, which would otherwise return at once, again and again.
#[derive(Debug, Default, Clone, Copy)]
struct BackOff {
    failures: u32,
}

impl BackOff {
    const FIRST: Duration = Duration::from_millis(10);
    const MOST: Duration = Duration::from_secs(1);

    /// `None` where the error was about one connection and the next may be fine (`accept(2)`: treat them like EAGAIN).
    fn after(&mut self, error: &io::Error) -> Option<Duration> {
        use io::ErrorKind::{
            ConnectionAborted, ConnectionReset, Interrupted, NetworkUnreachable, PermissionDenied, TimedOut,
        };
        if matches!(
            error.kind(),
            ConnectionAborted | ConnectionReset | Interrupted | NetworkUnreachable | PermissionDenied | TimedOut
        ) {
            return None;
        }
        let wait = Self::FIRST.saturating_mul(1 << self.failures.min(10)).min(Self::MOST);
        self.failures += 1;
        Some(wait)
    }
}

enum AsyncListener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl AsFd for AsyncListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener) => listener.as_fd(),
        }
    }
}

impl AsyncListener {
    fn new(socket: OwnedFd) -> io::Result<Self> {
        let family = rustix::net::sockopt::socket_domain(&socket)?;
        Ok(if family == rustix::net::AddressFamily::UNIX {
            Self::Unix(UnixListener::from_std(socket.into())?)
        } else {
            Self::Tcp(TcpListener::from_std(socket.into())?)
        })
    }

    async fn accept(&self) -> io::Result<(Socket, Address)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok(tcp(stream, peer))
            }
            Self::Unix(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok((Socket::Unix(stream), Address::Unix(peer.as_pathname().map(Into::into))))
            }
        }
    }

    /// Accepts what the kernel has queued, until an error; at the end that is [`io::ErrorKind::WouldBlock`]. Asks the
    /// kernel and not the runtime, which may not have heard of the newest connections yet.
    fn accept_rest(self, mut accepted: impl FnMut(Socket, Address)) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => {
                let listener = listener.into_std()?;
                loop {
                    let (stream, peer) = listener.accept()?;
                    stream.set_nonblocking(true)?;
                    let (socket, peer) = tcp(TcpStream::from_std(stream)?, peer);
                    accepted(socket, peer);
                }
            }
            Self::Unix(listener) => {
                let listener = listener.into_std()?;
                loop {
                    let (stream, peer) = listener.accept()?;
                    stream.set_nonblocking(true)?;
                    let peer = Address::Unix(peer.as_pathname().map(Into::into));
                    accepted(Socket::Unix(UnixStream::from_std(stream)?), peer);
                }
            }
        }
    }
}

fn tcp(stream: TcpStream, peer: SocketAddr) -> (Socket, Address) {
    // Answers are written whole: waiting for more to send would only delay the last packet.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY");
    }
    (Socket::Tcp(stream), Address::Tcp(peer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_connections_are_spread_exactly_and_many_roughly() {
        for (theirs, own, expected) in
            [(0, 0, false), (0, 1, true), (1, 1, false), (5, 6, true), (80, 85, false), (80, 91, true)]
        {
            assert_eq!(clearly_fewer(theirs, own), expected, "{theirs} against {own}");
        }
    }

    #[test]
    fn only_errors_of_the_process_make_accept_wait() {
        let mut back_off = BackOff::default();
        assert_eq!(back_off.after(&io::ErrorKind::ConnectionAborted.into()), None);
        let no_descriptor = io::Error::from_raw_os_error(rustix::io::Errno::MFILE.raw_os_error());
        assert_eq!(back_off.after(&no_descriptor), Some(Duration::from_millis(10)));
        assert_eq!(back_off.after(&no_descriptor), Some(Duration::from_millis(20)));
        for _ in 0..100 {
            back_off.after(&no_descriptor);
        }
        assert_eq!(back_off.after(&no_descriptor), Some(Duration::from_secs(1)));
    }
}
