//! The signals that the program obeys (docs/signals.md), named as gunicorn's users know them.

use super::upgrade;
use crate::supervisor::sources::{self, Change};
use crate::supervisor::{Demand, Progress};
use std::io::{self, IsTerminal as _};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

const TTIN: i32 = 21;
const TTOU: i32 = 22;

/// What somebody outside wants from the running server.
#[derive(Debug)]
pub(super) enum Wish {
    StopGracefully,
    StopQuickly,
    /// The time of `drain --for` is over: stop gracefully, unless that is under way already.
    StopInTime,
    /// Read the configuration again, and load the application anew. Whoever asked may watch.
    Reload(Option<mpsc::UnboundedSender<Progress>>),
    /// The same, for these files are not what they were (`--reload`).
    FollowChange(Change),
    /// Open the access log again under its name.
    ReopenLogs,
    /// All workers finish and go; the front stays.
    LetWorkersGo,
    /// Replace the program. Whoever asked may watch.
    Upgrade(Option<upgrade::Watcher>),
    Other(Demand),
}

/// Wishes by signal and by command.
pub(super) struct Wishes {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hangup: Signal,
    one_more: Signal,
    one_less: Signal,
    reopen: Signal,
    upgrade: Signal,
    /// Not on a terminal, which sends it when its window changes.
    empty: Option<Signal>,
    commands: mpsc::UnboundedReceiver<Wish>,
    changes: Option<mpsc::UnboundedReceiver<Change>>,
}

impl Wishes {
    /// Changes of the sources count from now on.
    pub(super) fn new(commands: mpsc::UnboundedReceiver<Wish>, sources: Option<sources::Settings>) -> io::Result<Self> {
        let on_terminal = io::stdin().is_terminal() || io::stdout().is_terminal();
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hangup: signal(SignalKind::hangup())?,
            one_more: signal(SignalKind::from_raw(TTIN))?,
            one_less: signal(SignalKind::from_raw(TTOU))?,
            reopen: signal(SignalKind::user_defined1())?,
            upgrade: signal(SignalKind::user_defined2())?,
            empty: if on_terminal { None } else { Some(signal(SignalKind::window_change())?) },
            commands,
            changes: sources.map(sources::watch),
        })
    }

    /// The next one. Cancel-safe.
    pub(super) async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.terminate.recv() => Wish::StopGracefully,
            _ = self.interrupt.recv() => Wish::StopGracefully,
            _ = self.quit.recv() => Wish::StopQuickly,
            _ = self.hangup.recv() => Wish::Reload(None),
            _ = self.one_more.recv() => Wish::Other(Demand::OneMore),
            _ = self.one_less.recv() => Wish::Other(Demand::OneLess),
            _ = self.reopen.recv() => Wish::ReopenLogs,
            _ = self.upgrade.recv() => Wish::Upgrade(None),
            Some(()) = received(self.empty.as_mut()) => Wish::LetWorkersGo,
            Some(wish) = self.commands.recv() => wish,
            Some(change) = changed(self.changes.as_mut()) => Wish::FollowChange(change),
        }
    }
}

/// Never, where nobody listens for it.
async fn received(signal: Option<&mut Signal>) -> Option<()> {
    match signal {
        Some(signal) => signal.recv().await,
        None => std::future::pending().await,
    }
}

/// Never, where no sources are watched.
async fn changed(changes: Option<&mut mpsc::UnboundedReceiver<Change>>) -> Option<Change> {
    match changes {
        Some(changes) => changes.recv().await,
        None => std::future::pending().await,
    }
}
