//! What systemd is told, and any other service manager that speaks its protocol (`sd_notify(3)`): when the server can
//! serve, when it reloads and stops, and that it is alive.

use crate::supervisor::SERVICE_MANAGER_VARIABLES;
use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;
use tokio::runtime::Handle;

/// The way to the service manager; without one every word is lost.
#[derive(Debug, Default)]
pub(super) struct ServiceManager {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// It wants to hear of us at least this often.
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// As the environment says.
    pub(super) fn from_environment() -> Self {
        let [address, interval, pid] = SERVICE_MANAGER_VARIABLES.map(std::env::var_os);
        let Some(address) = address.filter(|address| !address.is_empty()) else { return Self::default() };
        let socket = connect(&address).inspect_err(|error| {
            tracing::warn!("the service manager cannot be reached at {}: {error}", address.display());
        });
        let is_for_us = pid.is_none_or(|pid| pid == std::process::id().to_string().as_str());
        let interval = interval.and_then(|interval| interval.to_str()?.parse().ok());
        Self { socket: socket.ok(), watchdog: interval.filter(|_| is_for_us).map(Duration::from_micros) }
    }

    pub(super) fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nMAINPID={}\nSTATUS={status}", std::process::id()));
    }

    /// From now on another process is the one that it looks after.
    pub(super) fn replaced(&self, by: u32) {
        self.tell(&format!("MAINPID={by}"));
    }

    pub(super) fn reloading(&self) {
        let now = monoceros_wire::sys::monotonic_now() / 1000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={now}\nSTATUS=reloading"));
    }

    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=stopping");
    }

    /// Says regularly that the main thread and all `threads` work, as long as they do.
    pub(super) async fn keep_alive(&self, threads: &[Handle]) {
        let Some(interval) = self.watchdog.filter(|_| self.socket.is_some()) else {
            return std::future::pending().await;
        };
        let mut ticks = tokio::time::interval(interval / 2);
        loop {
            ticks.tick().await;
            for thread in threads {
                // A thread that hangs never gets to it, and the service manager hears nothing more.
                let _ = thread.spawn(std::future::ready(())).await;
            }
            self.tell("WATCHDOG=1");
        }
    }

    fn tell(&self, words: &str) {
        if let Some((socket, address)) = &self.socket
            && let Err(error) = socket.send_to_addr(words.as_bytes(), address)
        {
            tracing::debug!("the service manager was not told {words:?}: {error}");
        }
    }
}

fn connect(address: &OsString) -> io::Result<(UnixDatagram, SocketAddr)> {
    let target = match address.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(address)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok((socket, target))
}
