//! Attends to what is wanted from the running server, until it is to leave.

use super::Stage;
use super::reconfigure::{self, Next, Read, Reread, Running};
use super::service_manager::ServiceManager;
use super::signals::{Wish, Wishes};
use super::upgrade::{self, Program, Refusal, Step, Upgrade, Watcher};
use crate::front::listener::Listeners;
use crate::supervisor::sources::Change;
use crate::supervisor::{Candidate, Demand, Progress};
use monoceros_wire::message::BootFailure;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

/// Why the server leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    Gracefully,
    Quickly,
    /// Another process has its listening sockets.
    Replaced,
}

/// What it listens on: for clients, and for operators.
pub(super) type Doors<'a> = (&'a mut Listeners, &'a mut Listeners);

/// See the module.
pub(super) struct Attendant<'a> {
    pub(super) wishes: Wishes,
    pub(super) demands: mpsc::UnboundedSender<Demand>,
    pub(super) manager: &'a ServiceManager,
    pub(super) program: Program,
    pub(super) reread: Reread,
    pub(super) stages: watch::Receiver<Stage>,
    /// Whether another server still has what this one listens on, until this one serves.
    pub(super) is_heir: bool,
    pub(super) upgrade: Option<Upgrade>,
    /// A configuration that is being read.
    pub(super) reading: Option<Reading>,
    /// Told when another process has taken the place of this one.
    pub(super) replaced: watch::Sender<bool>,
    pub(super) running: &'a mut Running,
    /// A configuration that is being tried, and the news of a worker that serves with it.
    pub(super) pending: Option<(Next, oneshot::Receiver<()>)>,
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
                is_proven = proven(&mut self.pending) => {
                    if let Some((next, _)) = self.pending.take().filter(|_| is_proven) {
                        self.running.adopt(next, (&mut *doors.0, &mut *doors.1));
                    }
                }
                outcome = finished(&mut self.upgrade) => {
                    if self.is_replaced(outcome, &doors) {
                        return Leave::Replaced;
                    }
                }
                read = finished_reading(&mut self.reading) => {
                    let watcher = self.reading.take().and_then(|reading| reading.watcher);
                    self.try_out(read, &doors, watcher);
                }
                wish = self.wishes.next() => match self.carry_out(wish) {
                    None => {}
                    Some(Order::Upgrade(watcher)) => self.begin_upgrade(&doors, has_served, watcher.as_ref()),
                    Some(Order::Reload(watcher)) => self.reload(has_served, watcher),
                    Some(Order::FollowChange(change)) => {
                        tracing::info!("reloading: {change}");
                        self.reload(has_served, None);
                    }
                    Some(Order::Leave(leave)) => {
                        if let Some(upgrade) = self.upgrade.take() {
                            tracing::warn!("upgrade: given up, the server stops");
                            upgrade.give_up().await;
                        }
                        return leave;
                    }
                    Some(Order::LeaveInTime) => return Leave::Gracefully,
                },
            }
        }
    }

    /// Waits for another wish to leave, while it leaves already. The others can still be answered.
    pub(super) async fn until_leave_again(&mut self) -> Leave {
        loop {
            let wish = self.wishes.next().await;
            match self.carry_out(wish) {
                None | Some(Order::FollowChange(_)) => {}
                Some(Order::Upgrade(watcher)) => refuse("the server is stopping", watcher.as_ref()),
                Some(Order::Reload(watcher)) => {
                    refuse_reload(&reconfigure::Refusal::new("the server is stopping"), watcher.as_ref());
                }
                Some(Order::Leave(leave)) => return leave,
                Some(Order::LeaveInTime) => {}
            }
        }
    }

    /// What is left to do.
    fn carry_out(&mut self, wish: Wish) -> Option<Order> {
        match wish {
            Wish::Other(demand) => drop(self.demands.send(demand)),
            Wish::ReopenLogs => {
                self.running.access.reopen();
                tracing::info!("the access log is opened again");
            }
            Wish::LetWorkersGo => {
                tracing::info!("all workers finish and go; HUP, TTIN or `monoceros scale N` brings them back");
                let _ = self.demands.send(Demand::SendAway);
            }
            Wish::Reload(watcher) => return Some(Order::Reload(watcher)),
            Wish::FollowChange(change) => return Some(Order::FollowChange(change)),
            Wish::Upgrade(watcher) => return Some(Order::Upgrade(watcher)),
            Wish::StopInTime => return Some(Order::LeaveInTime),
            Wish::StopGracefully => return Some(Order::Leave(Leave::Gracefully)),
            Wish::StopQuickly => return Some(Order::Leave(Leave::Quickly)),
        }
        None
    }

    fn begin_upgrade(&mut self, doors: &Doors<'_>, has_served: bool, watcher: Option<&Watcher>) {
        let boot_timeout = self.running.settings.supervisor.boot_timeout;
        let obstacle = match &self.upgrade {
            Some(_) => Some("another one is under way"),
            None if self.pending.is_some() || self.reading.is_some() => Some("a reload is under way"),
            None if !has_served => Some("the server has not started yet"),
            None => upgrade::obstacle(),
        };
        if let Some(obstacle) = obstacle {
            return refuse(obstacle, watcher);
        }
        match Upgrade::begin(&self.program, (&*doors.0, &*doors.1), boot_timeout, watcher.cloned()) {
            Ok(upgrade) => self.upgrade = Some(upgrade),
            Err(error) => refuse(&error.to_string(), watcher),
        }
    }

    /// Reads the configuration again.
    fn reload(&mut self, has_served: bool, watcher: Option<mpsc::UnboundedSender<Progress>>) {
        if !has_served {
            // It says why not.
            return drop(self.demands.send(Demand::Reload(watcher)));
        }
        if self.upgrade.is_some() {
            // The new process reads the configuration itself, and has the addresses as they are.
            return refuse_reload(&reconfigure::Refusal::new("an upgrade is under way"), watcher.as_ref());
        }
        let task = self.running.read(&self.reread);
        if let Some(before) = self.reading.replace(Reading { task, watcher }) {
            refuse_reload(&reconfigure::Refusal::new("another reload came after it"), before.watcher.as_ref());
        }
    }

    /// Has a worker try what was read.
    fn try_out(
        &mut self,
        read: Result<Read, reconfigure::Refusal>,
        doors: &Doors<'_>,
        watcher: Option<mpsc::UnboundedSender<Progress>>,
    ) {
        let doors = (&*doors.0, &*doors.1);
        let planned = read.and_then(|read| {
            if let Some((tried, _)) = &mut self.pending {
                // Its addresses may be wanted again.
                tried.release();
            }
            self.running.plan(read, doors)
        });
        match planned {
            Ok(next) => {
                for line in next.lines() {
                    if let Some(watcher) = &watcher {
                        let _ = watcher.send(Progress::Step(line));
                    }
                }
                let (proven, news) = oneshot::channel();
                let (settings, python) = (next.settings.supervisor.clone(), next.ground.python.0.clone());
                self.pending = Some((next, news));
                let _ =
                    self.demands.send(Demand::Reconfigure(Box::new(Candidate { settings, python, proven }), watcher));
            }
            Err(refusal) => {
                if let Some((tried, _)) = &mut self.pending {
                    tried.plan_again(doors);
                }
                refuse_reload(&refusal, watcher.as_ref());
            }
        }
    }

    fn is_replaced(&mut self, outcome: Result<u32, Refusal>, doors: &Doors<'_>) -> bool {
        let Some(upgrade) = self.upgrade.take() else { return false };
        match outcome {
            Ok(pid) => {
                doors.0.set_files_ours(false);
                doors.1.set_files_ours(false);
                self.replaced.send_replace(true);
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

/// On another thread: a disk may be slow, and whoever wants the server to end does not wait for it.
pub(super) struct Reading {
    task: JoinHandle<Result<Read, reconfigure::Refusal>>,
    watcher: Option<mpsc::UnboundedSender<Progress>>,
}

/// A wish that depends on whether the server leaves already.
enum Order {
    Reload(Option<mpsc::UnboundedSender<Progress>>),
    FollowChange(Change),
    Upgrade(Option<Watcher>),
    Leave(Leave),
    /// Only if it does not leave already: nobody is impatient.
    LeaveInTime,
}

fn refuse_reload(refusal: &reconfigure::Refusal, watcher: Option<&mpsc::UnboundedSender<Progress>>) {
    tracing::error!("reload: nothing changes: {}", refusal.summary);
    for line in refusal.mistakes.lines() {
        tracing::error!("  {line}");
    }
    if let Some(watcher) = watcher {
        let (message, traceback) = (refusal.summary.to_owned(), refusal.mistakes.clone());
        let failure = BootFailure { stage: "configuration".to_owned(), message, traceback, hint: String::new() };
        let _ = watcher.send(Progress::Failed(failure));
    }
}

fn refuse(reason: &str, watcher: Option<&Watcher>) {
    tracing::error!("upgrade: refused: {reason}");
    if let Some(watcher) = watcher {
        let _ = watcher.send(Step::Failed(reason.to_owned().into()));
    }
}

/// Whether the pending configuration holds from now on, or was given up.
async fn proven(pending: &mut Option<(Next, oneshot::Receiver<()>)>) -> bool {
    match pending {
        Some((_, news)) => news.await.is_ok(),
        None => std::future::pending().await,
    }
}

/// Never, where nothing is being read.
async fn finished_reading(reading: &mut Option<Reading>) -> Result<Read, reconfigure::Refusal> {
    match reading {
        Some(reading) => {
            (&mut reading.task).await.unwrap_or_else(|error| Err(reconfigure::Refusal::unread(error.to_string())))
        }
        None => std::future::pending().await,
    }
}

/// Never, where there is no upgrade.
async fn finished(upgrade: &mut Option<Upgrade>) -> Result<u32, Refusal> {
    match upgrade {
        Some(upgrade) => upgrade.finished().await,
        None => std::future::pending().await,
    }
}
