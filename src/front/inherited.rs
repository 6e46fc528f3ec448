//! Listening sockets that another process opened: the server that this one replaces, or a service manager. Each waits
//! here for the bind that it fits.

use super::{Address, Audience, BindAddress};
use crate::sys::socket::adopt_descriptor;
use crate::sys::unix_socket::SocketFile;
use rustix::net::AddressFamily;
use socket2::Socket;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::path::Path;

/// One such socket.
#[derive(Debug)]
pub struct Inherited {
    pub(super) socket: Socket,
    /// What it really listens on.
    pub(super) address: Address,
    /// What was asked for when it was bound, and for whom; a service manager does not tell.
    pub(super) asked: Option<(BindAddress, Audience)>,
    /// Its name in the file system, which is not ours yet.
    pub(super) file: Option<SocketFile>,
    /// How the service manager calls it.
    name: Option<String>,
}

impl Inherited {
    /// Of a descriptor that listens; an error otherwise.
    pub fn new(
        descriptor: OwnedFd,
        asked: Option<(BindAddress, Audience)>,
        file: Option<SocketFile>,
    ) -> io::Result<Self> {
        let (socket, address) = listening(descriptor)?;
        Ok(Self { socket, address, asked, file, name: None })
    }

    /// Of a service manager, which knows it by its number and calls it `name`.
    pub fn activated(number: RawFd, name: String) -> io::Result<Self> {
        let asked = Some((BindAddress::Descriptor(number), Audience::Clients));
        let inherited = Self::new(adopt_descriptor(number)?, asked, None)?;
        Ok(Self { name: Some(name), ..inherited })
    }

    /// How the service manager calls it, if it is from one.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The number by which it has to be asked for, if it is known by one.
    pub fn number(&self) -> Option<RawFd> {
        match self.asked {
            Some((BindAddress::Descriptor(number), Audience::Clients)) => Some(number),
            _ => None,
        }
    }

    /// What it really listens on.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Nobody here wants it: its name goes, and our handle on it.
    pub fn discard(self) {
        if let Some(file) = &self.file {
            file.set_ours(true);
        }
    }

    /// Whether a file still leads to it; one that somebody has removed or replaced leads elsewhere.
    fn is_reachable(&self) -> bool {
        self.file.as_ref().is_none_or(SocketFile::is_there)
    }
}

/// Takes the socket out of `sockets` that was bound for this very address, or else one that listens there.
pub(super) fn take(sockets: &mut Vec<Inherited>, wanted: &BindAddress, audience: Audience) -> Option<Inherited> {
    let asked = |inherited: &Inherited| {
        inherited.asked.as_ref().is_some_and(|(asked, whom)| asked == wanted && *whom == audience)
    };
    let listens = |inherited: &Inherited| match (&inherited.address, wanted) {
        (Address::Tcp(real), BindAddress::Tcp(wanted)) => real == wanted,
        (Address::Unix(Some(real)), BindAddress::Unix(wanted)) => real == wanted,
        _ => false,
    };
    let found = sockets.iter().position(asked).or_else(|| sockets.iter().position(listens))?;
    sockets[found].is_reachable().then(|| sockets.remove(found))
}

/// A listening stream socket of TCP or Unix and its address.
pub(super) fn listening(descriptor: OwnedFd) -> io::Result<(Socket, Address)> {
    let refused = || io::Error::new(io::ErrorKind::InvalidInput, "it is not a listening stream socket");
    let listens = rustix::net::sockopt::socket_acceptconn(&descriptor).unwrap_or(false);
    let stream =
        rustix::net::sockopt::socket_type(&descriptor).is_ok_and(|kind| kind == rustix::net::SocketType::STREAM);
    if !(listens && stream) {
        return Err(refused());
    }
    let family = rustix::net::sockopt::socket_domain(&descriptor)?;
    let socket = Socket::from(descriptor);
    socket.set_nonblocking(true)?;
    let local = socket.local_addr()?;
    let address = match local.as_socket() {
        Some(address) => Address::Tcp(address),
        None if family == AddressFamily::UNIX => Address::Unix(local.as_pathname().map(Path::to_owned)),
        None => return Err(refused()),
    };
    Ok((socket, address))
}
