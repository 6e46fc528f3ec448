//! Listening sockets: bound once, all errors reported at once, shared by every front thread.

use super::inherited::{self, Inherited};
use super::{Address, Audience, Bind, BindAddress, Purpose};
use crate::sys::socket::adopt_descriptor;
use crate::sys::unix_socket::{self, Identity, SocketFile, UnixBindError};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use tokio::sync::watch;

/// Owner and group may connect to a Unix listener, nobody else: a proxy in front of us is put into our group.
const UNIX_SOCKET_MODE: u32 = 0o660;

/// Why an address cannot be listened on. Always the operator's to solve, so each one names the address and a way out.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("{address} is already in use\n  hint: `ss -ltnp 'sport = :{port}'` shows by whom; port 0 picks a free one", port = address.port())]
    InUse { address: SocketAddr },
    #[error(
        "no permission to listen on {address}\n  hint: ports below 1024 need root, CAP_NET_BIND_SERVICE, or a descriptor opened by systemd"
    )]
    Denied { address: SocketAddr },
    #[error(
        "{address} is not an address of this machine\n  hint: `ip address` lists them; 0.0.0.0 or [::] mean all of them"
    )]
    NotLocal { address: SocketAddr },
    #[error("a server already answers on {}", path.display())]
    SocketInUse { path: PathBuf },
    #[error("{} exists and is not a socket; it is left alone", path.display())]
    NotASocketFile { path: PathBuf },
    #[error("descriptor {number} is not a listening stream socket\n  hint: systemd passes them from number 3 on")]
    NotListening { number: i32 },
    #[error("descriptor {number} cannot be taken over: {source}")]
    Descriptor { number: i32, source: io::Error },
    #[error("descriptor {number} is named twice")]
    DescriptorTwice { number: i32 },
    #[error("cannot listen on {address}: {source}")]
    Other { address: String, source: io::Error },
}

/// All listening sockets. Dropping it removes the socket files it made.
#[derive(Debug)]
pub struct Listeners {
    listeners: Vec<Listener>,
}

/// One listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    /// What it really listens on: with port 0 the port the kernel chose.
    pub address: Address,
    pub purpose: Purpose,
    /// What was asked for, by which it is known again.
    asked: BindAddress,
    file: Option<SocketFile>,
    /// Goes with the listener, which ends all accept loops.
    closing: watch::Sender<()>,
}

/// Tells an accept loop that its listener is gone.
#[derive(Debug)]
pub(super) struct Closing(watch::Receiver<()>);

impl Closing {
    /// Waits for that. Cancel-safe.
    pub(super) async fn begun(&mut self) {
        // Nothing is ever sent.
        while self.0.changed().await.is_ok() {}
    }
}

/// What a successor has to know of a listening socket.
#[derive(Debug)]
pub struct Offer<'a> {
    pub socket: BorrowedFd<'a>,
    pub asked: &'a BindAddress,
    pub file: Option<Identity>,
}

impl Listeners {
    /// Binds every address or none; with errors, each failing bind is named.
    pub fn bind(binds: &[Bind], backlog: u32) -> Result<Self, Vec<BindError>> {
        Self::take_or_bind(binds, Audience::Clients, backlog, &mut Vec::new())
    }

    /// The same; where one of the inherited sockets fits, it is taken out of `sockets` and nothing is bound.
    pub fn take_or_bind(
        binds: &[Bind],
        audience: Audience,
        backlog: u32,
        sockets: &mut Vec<Inherited>,
    ) -> Result<Self, Vec<BindError>> {
        let mut listeners = Vec::with_capacity(binds.len());
        let mut errors = Vec::new();
        let mut descriptors = Vec::new();
        for bind in binds {
            if let Some(inherited) = inherited::take(sockets, &bind.address, audience) {
                listeners.push(Listener::inherited(bind, inherited, backlog));
                continue;
            }
            if let BindAddress::Descriptor(number) = bind.address {
                // Adopting the same number twice would close it twice.
                if descriptors.contains(&number) {
                    errors.push(BindError::DescriptorTwice { number });
                    continue;
                }
                descriptors.push(number);
            }
            match Listener::bind(bind, backlog) {
                Ok(listener) => listeners.push(listener),
                Err(error) => errors.push(error),
            }
        }
        let port = https_port(listeners.iter().map(|listener| (&listener.address, listener.purpose)));
        for listener in &mut listeners {
            listener.purpose = resolved(listener.purpose, port);
        }
        if errors.is_empty() { Ok(Self { listeners }) } else { Err(errors) }
    }

    /// What is really listened on, in the order of the settings.
    pub fn addresses(&self) -> impl Iterator<Item = (&Address, Purpose)> {
        self.listeners.iter().map(|listener| (&listener.address, listener.purpose))
    }

    /// What a successor has to know.
    pub fn offers(&self) -> impl Iterator<Item = Offer<'_>> {
        self.listeners.iter().map(|listener| Offer {
            socket: listener.socket.as_fd(),
            asked: &listener.asked,
            file: listener.file.as_ref().map(SocketFile::identity),
        })
    }

    /// Whether the socket files are ours, and go with us.
    pub fn set_files_ours(&self, are_ours: bool) {
        for file in self.listeners.iter().filter_map(|listener| listener.file.as_ref()) {
            file.set_ours(are_ours);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Listener> {
        self.listeners.iter()
    }
}

/// Listeners as they are to be: some are kept, some are bound already.
#[derive(Debug)]
pub struct Plan {
    slots: Vec<Slot>,
    backlog: u32,
}

#[derive(Debug)]
enum Slot {
    /// The one at this place among the present ones.
    Kept(usize),
    /// The same socket with another purpose.
    Changed(usize, Listener),
    Fresh(Listener),
}

impl Plan {
    /// Those from which nobody accepts yet.
    pub fn unopened(&self) -> impl Iterator<Item = &Listener> {
        self.slots.iter().filter_map(|slot| match slot {
            Slot::Kept(_) => None,
            Slot::Changed(_, listener) | Slot::Fresh(listener) => Some(listener),
        })
    }
}

impl Listeners {
    /// Binds what is new in `binds`. What is there stays as it is; with errors, nothing new is left.
    pub fn plan(&self, binds: &[Bind], backlog: u32) -> Result<Plan, Vec<BindError>> {
        let mut free: Vec<usize> = (0..self.listeners.len()).collect();
        let mut take = |bind: &Bind| {
            let fits = |&index: &usize| {
                let present: &Listener = &self.listeners[index];
                present.asked == bind.address && present.is_reachable()
            };
            let found = free.iter().position(fits)?;
            Some(free.remove(found))
        };
        let kept: Vec<Option<usize>> = binds.iter().map(&mut take).collect();
        let new: Vec<Bind> =
            binds.iter().zip(&kept).filter(|(_, kept)| kept.is_none()).map(|(bind, _)| bind.clone()).collect();
        let mut fresh = Self::bind(&new, backlog)?.listeners.into_iter();
        // The redirects are resolved among all of them.
        let mut purposes: Vec<(Address, Purpose)> = Vec::new();
        let mut slots = Vec::new();
        for (bind, kept) in binds.iter().zip(kept) {
            let slot = match kept {
                Some(index) => Slot::Kept(index),
                None => match fresh.next() {
                    Some(listener) => Slot::Fresh(listener),
                    None => continue,
                },
            };
            let address = match &slot {
                Slot::Kept(index) => &self.listeners[*index].address,
                Slot::Changed(_, listener) | Slot::Fresh(listener) => &listener.address,
            };
            purposes.push((address.clone(), bind.purpose));
            slots.push(slot);
        }
        let port = https_port(purposes.iter().map(|(address, purpose)| (address, *purpose)));
        let mut plan = Plan { slots: Vec::new(), backlog };
        for (slot, (_, purpose)) in slots.into_iter().zip(purposes) {
            plan.slots.push(self.with_purpose(slot, resolved(purpose, port)).map_err(|error| vec![error])?);
        }
        Ok(plan)
    }

    fn with_purpose(&self, slot: Slot, purpose: Purpose) -> Result<Slot, BindError> {
        match slot {
            Slot::Kept(index) if self.listeners[index].purpose != purpose => {
                let present = &self.listeners[index];
                let other = |source| BindError::Other { address: format!("{:?}", present.asked), source };
                let bound = (present.socket.try_clone().map_err(other)?, present.address.clone(), None);
                let bind = Bind { address: present.asked.clone(), purpose };
                Ok(Slot::Changed(index, Listener::new(bound, &bind)))
            }
            Slot::Kept(index) => Ok(Slot::Kept(index)),
            Slot::Changed(_, listener) | Slot::Fresh(listener) => Ok(Slot::Fresh(Listener { purpose, ..listener })),
        }
    }

    /// Carries a plan out. Those that are in it no more close when all front threads have taken what the kernel has queued.
    pub fn adopt(&mut self, plan: Plan) {
        let mut present: Vec<Option<Listener>> = std::mem::take(&mut self.listeners).into_iter().map(Some).collect();
        for slot in plan.slots {
            let listener = match slot {
                Slot::Fresh(listener) => Some(listener),
                Slot::Kept(index) => present[index].take(),
                Slot::Changed(index, mut listener) => {
                    listener.file = present[index].take().and_then(|mut old| old.file.take());
                    Some(listener)
                }
            };
            if let Some(listener) = listener {
                let _ = listener.socket.listen(i32::try_from(plan.backlog).unwrap_or(i32::MAX));
                self.listeners.push(listener);
            }
        }
    }
}

/// The port of the first HTTPS listener.
fn https_port<'a>(mut listeners: impl Iterator<Item = (&'a Address, Purpose)>) -> Option<u16> {
    listeners.find_map(|(address, purpose)| match (address, purpose) {
        (Address::Tcp(address), Purpose::Https) => Some(address.port()),
        _ => None,
    })
}

/// A redirect to "port 0" means the port that the kernel chose for the HTTPS listener.
fn resolved(purpose: Purpose, https: Option<u16>) -> Purpose {
    match (purpose, https) {
        (Purpose::RedirectToHttps { port: 0 }, Some(port)) => Purpose::RedirectToHttps { port },
        _ => purpose,
    }
}

impl Listener {
    fn bind(bind: &Bind, backlog: u32) -> Result<Self, BindError> {
        let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
        let (socket, address, file) = match &bind.address {
            BindAddress::Tcp(address) => bind_tcp(*address, backlog)?,
            BindAddress::Unix(path) => bind_unix(path, backlog)?,
            BindAddress::Descriptor(number) => adopt(*number)?,
        };
        Ok(Self::new((socket, address, file), bind))
    }

    fn inherited(bind: &Bind, inherited: Inherited, backlog: u32) -> Self {
        let Inherited { socket, address, file, .. } = inherited;
        // It listens; this only sets the length of its queue.
        let _ = socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX));
        Self::new((socket, address, file), bind)
    }

    fn new((socket, address, file): Bound, bind: &Bind) -> Self {
        let closing = watch::Sender::new(());
        Self { socket, address, purpose: bind.purpose, asked: bind.address.clone(), file, closing }
    }

    /// Whether its file still leads to it; one that somebody has removed or replaced leads elsewhere.
    fn is_reachable(&self) -> bool {
        self.file.as_ref().is_none_or(SocketFile::is_there)
    }

    /// A second handle on the same socket and the same queue of pending connections, to be closed when this listener is
    /// dropped.
    pub(super) fn duplicate(&self) -> io::Result<(OwnedFd, Closing)> {
        Ok((self.socket.try_clone()?.into(), Closing(self.closing.subscribe())))
    }
}

type Bound = (Socket, Address, Option<SocketFile>);

fn bind_tcp(address: SocketAddr, backlog: i32) -> Result<Bound, BindError> {
    let open = || -> io::Result<Bound> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            // `[::]` and `0.0.0.0` can then be given side by side, and an IPv4 client is never shown as `::ffff:…`.
            socket.set_only_v6(true)?;
        }
        socket.bind(&address.into())?;
        socket.listen(backlog)?;
        socket.set_nonblocking(true)?;
        let real = socket.local_addr()?.as_socket().unwrap_or(address);
        Ok((socket, Address::Tcp(real), None))
    };
    open().map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse { address },
        io::ErrorKind::PermissionDenied => BindError::Denied { address },
        io::ErrorKind::AddrNotAvailable => BindError::NotLocal { address },
        _ => BindError::Other { address: address.to_string(), source },
    })
}

fn bind_unix(path: &Path, backlog: i32) -> Result<Bound, BindError> {
    let (socket, file) = unix_socket::listen(path, UNIX_SOCKET_MODE, backlog).map_err(|error| match error {
        UnixBindError::InUse => BindError::SocketInUse { path: path.to_owned() },
        UnixBindError::NotASocketFile => BindError::NotASocketFile { path: path.to_owned() },
        UnixBindError::Io(source) => BindError::Other { address: path.display().to_string(), source },
    })?;
    Ok((socket, Address::Unix(Some(path.to_owned())), Some(file)))
}

fn adopt(number: i32) -> Result<Bound, BindError> {
    let failed = |source: io::Error| BindError::Descriptor { number, source };
    let descriptor = adopt_descriptor(number).map_err(failed)?;
    let (socket, address) = inherited::listening(descriptor).map_err(|source| match source.kind() {
        io::ErrorKind::InvalidInput => BindError::NotListening { number },
        _ => failed(source),
    })?;
    Ok((socket, address, None))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed preparation is a failed test")]
    use super::*;
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::UnixStream;

    fn tcp(address: &str) -> Bind {
        Bind { address: BindAddress::Tcp(address.parse().unwrap()), purpose: Purpose::Http }
    }

    fn unix(path: &Path) -> Bind {
        Bind { address: BindAddress::Unix(path.to_owned()), purpose: Purpose::Http }
    }

    #[test]
    fn port_zero_reports_the_real_port() {
        let listeners = Listeners::bind(&[tcp("127.0.0.1:0")], 16).unwrap();
        let (address, _) = listeners.addresses().next().unwrap();
        assert!(matches!(address, Address::Tcp(address) if address.port() != 0));
    }

    #[test]
    fn every_failing_bind_is_reported() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = taken.local_addr().unwrap();
        let errors =
            Listeners::bind(&[tcp(&taken.to_string()), tcp("127.0.0.1:0"), tcp("192.0.2.1:0")], 16).unwrap_err();
        assert!(matches!(errors[..], [BindError::InUse { .. }, BindError::NotLocal { .. }]));
    }

    #[test]
    fn unix_socket_files() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("front.sock");
        // A stale file: its listener is gone, the name stayed.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let listeners = Listeners::bind(&[unix(&path)], 16).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, UNIX_SOCKET_MODE);
        let second = Listeners::bind(&[unix(&path)], 16).unwrap_err();
        assert!(matches!(second[..], [BindError::SocketInUse { .. }]));
        drop(listeners);
        assert!(!path.exists());

        std::fs::write(&path, "precious").unwrap();
        let refused = Listeners::bind(&[unix(&path)], 16).unwrap_err();
        assert!(matches!(refused[..], [BindError::NotASocketFile { .. }]));
        assert!(path.exists());
    }

    #[test]
    fn a_successor_keeps_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("front.sock");
        let ours = Listeners::bind(&[unix(&path)], 16).unwrap();
        std::fs::remove_file(&path).unwrap();
        let _successor = std::os::unix::net::UnixListener::bind(&path).unwrap();
        drop(ours);
        assert!(path.exists());
    }

    #[test]
    fn descriptors() {
        use std::os::fd::IntoRawFd;
        let listening = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let expected = Address::Tcp(listening.local_addr().unwrap());
        let number = listening.into_raw_fd();
        let bind = Bind { address: BindAddress::Descriptor(number), purpose: Purpose::Http };
        let errors = Listeners::bind(&[Bind { address: BindAddress::Descriptor(999_999), purpose: Purpose::Http }], 1);
        assert!(matches!(errors.unwrap_err()[..], [BindError::Descriptor { number: 999_999, .. }]));
        let listeners = Listeners::bind(&[bind], 1).unwrap();
        assert_eq!(listeners.addresses().next().unwrap().0, &expected);

        let (one, _other) = UnixStream::pair().unwrap();
        let number = one.into_raw_fd();
        let bind = Bind { address: BindAddress::Descriptor(number), purpose: Purpose::Http };
        assert!(matches!(Listeners::bind(&[bind], 1).unwrap_err()[..], [BindError::NotListening { .. }]));
    }
}
