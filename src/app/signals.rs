//! The signals that the program obeys (docs/signals.md), named as gunicorn's users know them.

use crate::supervisor::Demand;
use crate::telemetry::access::AccessLog;
use std::io;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

const TTIN: i32 = 21;
const TTOU: i32 = 22;

/// What somebody outside wants from the running server.
#[derive(Debug)]
pub(super) enum Wish {
    StopGracefully,
    StopQuickly,
    /// Open the access log again under its name.
    ReopenLogs,
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
    access: AccessLog,
    commands: mpsc::UnboundedReceiver<Wish>,
}

impl Wishes {
    pub(super) fn new(commands: mpsc::UnboundedReceiver<Wish>, access: AccessLog) -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hangup: signal(SignalKind::hangup())?,
            one_more: signal(SignalKind::from_raw(TTIN))?,
            one_less: signal(SignalKind::from_raw(TTOU))?,
            reopen: signal(SignalKind::user_defined1())?,
            access,
            commands,
        })
    }

    pub(super) async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.terminate.recv() => Wish::StopGracefully,
            _ = self.interrupt.recv() => Wish::StopGracefully,
            _ = self.quit.recv() => Wish::StopQuickly,
            _ = self.hangup.recv() => Wish::Other(Demand::Reload(None)),
            _ = self.one_more.recv() => Wish::Other(Demand::OneMore),
            _ = self.one_less.recv() => Wish::Other(Demand::OneLess),
            _ = self.reopen.recv() => Wish::ReopenLogs,
            Some(wish) = self.commands.recv() => wish,
        }
    }

    /// The next one that stops. The others go to `demands`, where they can still be answered.
    pub(super) async fn stop(&mut self, demands: &mpsc::UnboundedSender<Demand>) -> Wish {
        loop {
            match self.next().await {
                Wish::Other(demand) => drop(demands.send(demand)),
                Wish::ReopenLogs => {
                    self.access.reopen();
                    tracing::info!("the access log is opened again");
                }
                stop => return stop,
            }
        }
    }
}
