//! Attends to what is wanted from the running server, until it is to leave.

use super::Stage;
use super::service_manager::ServiceManager;
use super::signals::{Wish, Wishes};
use super::upgrade::{self, Program, Refusal, Step, Upgrade, Watcher};
use crate::front::listener::Listeners;
use crate::supervisor::Demand;
use crate::telemetry::access::AccessLog;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Why the server leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    Gracefully,
    Quickly,
    /// Another process has its listening sockets.
    Replaced,
}

/// What it listens on: for clients, and for operators.
pub(super) type Doors<'a> = (&'a Listeners, &'a Listeners);

/// See the module.
pub(super) struct Attendant<'a> {
    pub(super) wishes: Wishes,
    pub(super) demands: mpsc::UnboundedSender<Demand>,
    pub(super) access: AccessLog,
    pub(super) manager: &'a ServiceManager,
    pub(super) program: Program,
    pub(super) boot_timeout: Duration,
    pub(super) stages: watch::Receiver<Stage>,
    pub(super) upgrade: Option<Upgrade>,
}

impl Attendant<'_> {
    /// Carries out wishes until one is to leave.
    pub(super) async fn until_leave(&mut self, doors: Doors<'_>) -> Leave {
        let mut serves = self.stages.clone();
        let mut has_served = false;
        loop {
            tokio::select! {
                biased;
                _ = serves.wait_for(|stage| *stage != Stage::Waiting), if !has_served => {
                    has_served = true;
                    // Until then they belonged to the server that this one replaces, if there is one.
                    doors.0.set_files_ours(true);
                    doors.1.set_files_ours(true);
                }
                outcome = finished(&mut self.upgrade) => {
                    if self.is_replaced(outcome, doors) {
                        return Leave::Replaced;
                    }
                }
                wish = self.wishes.next() => match self.carry_out(wish) {
                    None => {}
                    Some(Order::Upgrade(watcher)) => self.begin_upgrade(doors, has_served, watcher.as_ref()),
                    Some(Order::Leave(leave)) => {
                        if self.upgrade.take().is_some() {
                            tracing::warn!("upgrade: given up, the server stops");
                        }
                        return leave;
                    }
                },
            }
        }
    }

    /// Waits for another wish to leave, while it leaves already. The others can still be answered.
    pub(super) async fn until_leave_again(&mut self) -> Leave {
        loop {
            let wish = self.wishes.next().await;
            match self.carry_out(wish) {
                None => {}
                Some(Order::Upgrade(watcher)) => refuse("the server is stopping", watcher.as_ref()),
                Some(Order::Leave(leave)) => return leave,
            }
        }
    }

    /// What is left to do.
    fn carry_out(&mut self, wish: Wish) -> Option<Order> {
        match wish {
            Wish::Other(demand) => drop(self.demands.send(demand)),
            Wish::ReopenLogs => {
                self.access.reopen();
                tracing::info!("the access log is opened again");
            }
            Wish::Upgrade(watcher) => return Some(Order::Upgrade(watcher)),
            Wish::StopGracefully => return Some(Order::Leave(Leave::Gracefully)),
            Wish::StopQuickly => return Some(Order::Leave(Leave::Quickly)),
        }
        None
    }

    fn begin_upgrade(&mut self, doors: Doors<'_>, has_served: bool, watcher: Option<&Watcher>) {
        let obstacle = match &self.upgrade {
            Some(_) => Some("another one is under way"),
            None if !has_served => Some("the server has not started yet"),
            None => upgrade::obstacle(),
        };
        if let Some(obstacle) = obstacle {
            return refuse(obstacle, watcher);
        }
        match Upgrade::begin(&self.program, doors, self.boot_timeout, watcher.cloned()) {
            Ok(upgrade) => self.upgrade = Some(upgrade),
            Err(error) => refuse(&error.to_string(), watcher),
        }
    }

    fn is_replaced(&mut self, outcome: Result<u32, Refusal>, doors: Doors<'_>) -> bool {
        let Some(upgrade) = self.upgrade.take() else { return false };
        match outcome {
            Ok(pid) => {
                doors.0.set_files_ours(false);
                doors.1.set_files_ours(false);
                self.manager.replaced(pid);
                tracing::info!("upgrade: process {pid} serves; this one lets its clients finish and ends");
                upgrade.tell(Step::Done { pid });
                true
            }
            Err(reason) => {
                tracing::error!("upgrade: given up, nothing changes: {}", reason.summary);
                upgrade.tell(Step::Failed(reason));
                false
            }
        }
    }
}

/// A wish that depends on whether the server leaves already.
enum Order {
    Upgrade(Option<Watcher>),
    Leave(Leave),
}

fn refuse(reason: &str, watcher: Option<&Watcher>) {
    tracing::error!("upgrade: refused: {reason}");
    if let Some(watcher) = watcher {
        let _ = watcher.send(Step::Failed(reason.to_owned().into()));
    }
}

/// Never, where there is no upgrade.
async fn finished(upgrade: &mut Option<Upgrade>) -> Result<u32, Refusal> {
    match upgrade {
        Some(upgrade) => upgrade.finished().await,
        None => std::future::pending().await,
    }
}
