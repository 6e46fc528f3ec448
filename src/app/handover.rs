//! What a server hands over to the process that takes its place, and what the two tell each other.
//!
//! The successor inherits the listening sockets, and a channel; the variable [`HANDOVER_VARIABLE`] says which descriptor is
//! which. On the channel it says once, as JSON, that it serves, or why it cannot. The end of the channel before that means
//! that the other side has given up.

use super::activation;
use crate::front::inherited::Inherited;
use crate::front::listener::Listeners;
use crate::front::{Audience, BindAddress};
use crate::sys::socket::{HANDOVER_VARIABLE, adopt_descriptor};
use crate::sys::spawn;
use crate::sys::unix_socket::{Identity, SocketFile};
use serde::{Deserialize, Serialize};
use std::io::{self, Write as _};
use std::net::Shutdown;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};

/// The value of the variable.
#[derive(Debug, Serialize, Deserialize)]
struct Offer {
    /// The process that hands over. Whoever has another parent has only inherited the variable.
    parent: u32,
    channel: RawFd,
    sockets: Vec<OfferedSocket>,
}

#[derive(Debug, Serialize, Deserialize)]
struct OfferedSocket {
    descriptor: RawFd,
    audience: Audience,
    asked: BindAddress,
    file: Option<Identity>,
}

/// What a successor says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Word {
    /// It serves; whoever was there before it may go.
    Serves,
    /// Why it cannot, as it says it in its log.
    Failed(String),
}

/// The server that this process is to replace; for a process that was started in any other way there is none.
#[derive(Debug, Clone, Default)]
pub struct Predecessor {
    channel: Option<Arc<Mutex<Option<UnixStream>>>>,
}

/// What this process was started with by another one.
#[derive(Debug, Default)]
pub struct Inheritance {
    pub predecessor: Predecessor,
    pub(super) sockets: Vec<Inherited>,
}

impl Inheritance {
    /// As the environment says. Call it once, before anything else opens descriptors.
    pub fn receive() -> io::Result<Self> {
        let Some(text) = std::env::var(HANDOVER_VARIABLE).ok().filter(|text| !text.is_empty()) else {
            return Ok(Self { predecessor: Predecessor::default(), sockets: activation::receive()? });
        };
        let offer: Offer = serde_json::from_str(&text)?;
        if offer.parent != std::os::unix::process::parent_id() {
            return Ok(Self::default());
        }
        let channel = UnixStream::from(adopt_descriptor(offer.channel)?);
        let socket = |offered: OfferedSocket| {
            let file = match (&offered.asked, offered.file) {
                (BindAddress::Unix(path), Some(identity)) => Some(SocketFile::of_another(path.clone(), identity)),
                _ => None,
            };
            Inherited::new(adopt_descriptor(offered.descriptor)?, Some((offered.asked, offered.audience)), file)
        };
        let sockets = offer.sockets.into_iter().map(socket).collect::<io::Result<_>>()?;
        Ok(Self { predecessor: Predecessor { channel: Some(Arc::new(Mutex::new(Some(channel)))) }, sockets })
    }
}

impl Inheritance {
    /// The addresses to listen on when nobody names any.
    pub fn binds(&self) -> Vec<String> {
        activation::binds(&self.sockets)
    }
}

impl Predecessor {
    pub(super) fn is_there(&self) -> bool {
        self.channel.is_some()
    }

    /// Tells it that this process serves: from now on they live and die apart.
    pub(super) fn relieve(&self) {
        if self.channel.is_some()
            && let Err(error) = spawn::outlive_parent()
        {
            tracing::warn!("this process ends with the one that it replaces: {error}");
        }
        self.say(&Word::Serves);
    }

    /// Tells it why this process cannot serve.
    pub fn disappoint(&self, reason: &str) {
        self.say(&Word::Failed(reason.to_owned()));
    }

    fn say(&self, word: &Word) {
        let channel =
            self.channel.as_ref().and_then(|channel| channel.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Some(mut channel) = channel
            && let Ok(text) = serde_json::to_vec(word)
        {
            // Nobody listens any more when it has ended.
            let _ = channel.write_all(&text);
            // For it to see the end; somebody here may still hold a copy.
            let _ = channel.shutdown(Shutdown::Write);
        }
    }

    /// Waits until the predecessor has ended, or given up, before it was relieved.
    pub(super) async fn gone(&self) {
        let watched = self.channel.as_ref().and_then(|channel| {
            let channel = channel.lock().unwrap_or_else(PoisonError::into_inner);
            channel.as_ref().and_then(|channel| channel.try_clone().ok())
        });
        let Some(watched) = watched else { return std::future::pending().await };
        let _ = watched.set_nonblocking(true);
        if let Ok(watched) = tokio::net::UnixStream::from_std(watched) {
            // It says nothing: what can be read is the end.
            let _ = watched.readable().await;
        }
        let is_relieved = || {
            let channel = self.channel.as_ref();
            channel.is_some_and(|channel| channel.lock().unwrap_or_else(PoisonError::into_inner).is_none())
        };
        if is_relieved() {
            // It went because this process serves.
            std::future::pending::<()>().await;
        }
    }
}

/// The variable's value for a successor of this process, and the descriptors that it has to inherit.
pub(super) fn offer<'a>(
    channel: &'a UnixStream,
    clients: &'a Listeners,
    operators: &'a Listeners,
) -> io::Result<(String, Vec<BorrowedFd<'a>>)> {
    let both = [(clients, Audience::Clients), (operators, Audience::Operators)];
    let all = both.into_iter().flat_map(|(listeners, audience)| listeners.offers().map(move |offer| (offer, audience)));
    let (mut descriptors, mut sockets) = (vec![channel.as_fd()], Vec::new());
    for (offer, audience) in all {
        descriptors.push(offer.socket);
        let descriptor = offer.socket.as_raw_fd();
        sockets.push(OfferedSocket { descriptor, audience, asked: offer.asked.clone(), file: offer.file });
    }
    let offer = Offer { parent: std::process::id(), channel: channel.as_raw_fd(), sockets };
    Ok((serde_json::to_string(&offer)?, descriptors))
}
