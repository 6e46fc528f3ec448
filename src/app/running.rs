//! The running server, seen from the main thread: from the first worker to the last.

use super::attendant::{Attendant, Leave};
use super::commands::Commands;
use super::handover::Inheritance;
use super::problem::StartProblem;
use super::reconfigure::Running;
use super::service_manager::ServiceManager;
use super::signals::Wishes;
use super::{Origin, RunningThread, Stage, control};
use crate::front::accept::{FrontThread, Placement};
use crate::front::admin::Admin;
use crate::front::cache::Cache;
use crate::front::drain::Drain;
use crate::front::health::Health;
use crate::front::inherited::Inherited;
use crate::front::listener::Listeners;
use crate::roster;
use crate::supervisor::{self, Demand, Milestone};
use crate::upstream::pool::{self, Pool};
use monoceros_wire::message::Interface;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

/// The running server, seen from the main thread.
pub(super) struct Front {
    pub(super) placement: Arc<Placement>,
    pub(super) drain: Drain,
    pub(super) stage: watch::Sender<Stage>,
    pub(super) pool: Arc<Pool>,
    pub(super) threads: Vec<RunningThread>,
    pub(super) health: Arc<Health>,
    pub(super) cache: Arc<Cache>,
}

impl Front {
    pub(super) async fn serve(
        self,
        doors: (Listeners, Listeners),
        admin: Vec<FrontThread>,
        running: &mut Running,
        (supervisor_end, upstream_end): (roster::SupervisorEnd, roster::UpstreamEnd),
        origin: Origin,
    ) -> Result<(), StartProblem> {
        let (demands, demanded) = mpsc::unbounded_channel();
        let (commands, wished) = mpsc::unbounded_channel();
        let wishes = Wishes::new(wished, running.settings.supervisor.sources.clone())
            .map_err(|source| StartProblem::System { what: "signals cannot be handled", source })?;
        let manager = ServiceManager::from_environment();
        let Inheritance { predecessor, sockets: mut unwanted } = origin.inheritance;
        let facts = Arc::clone(&running.facts);
        let commands = Commands {
            wishes: commands,
            pool: Arc::clone(&self.pool),
            placement: Arc::clone(&self.placement),
            begun: Instant::now(),
            facts: Arc::clone(&facts),
            health: Arc::clone(&self.health),
            cache: Arc::clone(&self.cache),
            stop_later: Mutex::default(),
        };
        let (replaced, told) = watch::channel(false);
        let opened = control::open(&running.settings.control, predecessor.is_there())?;
        let control = opened.map(|opened| tokio::spawn(opened.serve(self.stage.subscribe(), told, commands)));
        let threads: Vec<Handle> = self.threads.iter().map(|thread| thread.runtime.clone()).collect();
        pool::start(&self.pool, upstream_end, threads.clone());
        // On this thread: there is little to do there, and it must not wait for the others.
        let answer = Arc::new(Admin { health: Arc::clone(&self.health) });
        for thread in admin {
            tokio::spawn(thread.run(Arc::clone(&answer)));
        }
        let stage = self.stage.clone();
        let status = || format!("serving {}", facts.load().app);
        let cache = Arc::clone(&self.cache);
        let on_milestone = |milestone| match milestone {
            Milestone::Ready(interface) => {
                stage.send_replace(Stage::Accepting);
                let interface = if interface == Interface::Asgi { "ASGI" } else { "WSGI" };
                tracing::info!("ready: {} ({interface})", facts.load().app);
                // What waits in their queues is for the predecessor, which closes them last.
                unwanted.drain(..).for_each(Inherited::discard);
                predecessor.relieve();
                manager.ready(&status());
            }
            Milestone::ReloadBegun => manager.reloading(),
            Milestone::ReloadEnded => {
                cache.note_reload();
                manager.ready(&status());
            }
        };
        let (mut workers, python) = (running.settings.supervisor.clone(), running.python.0.clone());
        if predecessor.is_there() {
            // One that cannot load the application is of no use: its predecessor goes on serving.
            workers.sources = None;
        }
        let supervised = supervisor::run(workers, python, supervisor_end, demanded, on_milestone);
        tokio::pin!(supervised);
        let mut attendant = Attendant {
            wishes,
            demands,
            manager: &manager,
            program: origin.program,
            reread: origin.reread,
            stages: self.stage.subscribe(),
            is_heir: predecessor.is_there(),
            upgrade: None,
            reading: None,
            replaced,
            running,
            pending: None,
        };
        let outcome = tokio::select! {
            outcome = &mut supervised => outcome.map_err(StartProblem::from),
            () = self.stop(doors, &mut attendant) => Ok(()),
            () = manager.keep_alive(&threads) => Ok(()),
            () = predecessor.gone() => Err(StartProblem::PredecessorGone),
        };
        if let Some(control) = control {
            // Its socket file goes with it.
            control.abort();
            let _ = control.await;
        }
        self.end();
        outcome
    }

    /// Attends to wishes until one is to leave, and carries that out: the first time gracefully, the second time quickly,
    /// the third time at once.
    async fn stop(&self, (mut clients, mut operators): (Listeners, Listeners), attendant: &mut Attendant<'_>) {
        let leave = attendant.until_leave((&mut clients, &mut operators)).await;
        let is_replaced = leave == Leave::Replaced;
        // No new one is shown to anybody any more.
        attendant.running.certificates = None;
        if is_replaced {
            // They ask about the server that takes clients now.
            drop(operators);
        }
        // One that never served leaves the clients to the server that it was to replace.
        let is_premature = attendant.is_heir && *self.stage.borrow() == Stage::Waiting;
        let mut is_quick = leave == Leave::Quickly || is_premature;
        let settings = &attendant.running.settings;
        let (delay, grace) = (settings.front.drain_delay, settings.supervisor.graceful_timeout);
        if !is_replaced {
            attendant.manager.stopping();
            // The successor is ready, and a balancer that asks on an old connection must not hear anything else.
            self.health.leave();
        }
        if !is_quick && !is_replaced && !delay.is_zero() {
            tracing::info!("not ready any more; connections are taken for {delay:?} (--drain-delay)");
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                leave = attendant.until_leave_again() => is_quick = leave == Leave::Quickly,
            }
        }
        if !is_quick {
            is_quick = !self.drain(clients, attendant, grace, is_replaced).await;
            self.pool.close();
        }
        loop {
            // While the workers drain, a further wish ends them.
            let _ = attendant.demands.send(if is_quick { Demand::StopQuickly } else { Demand::StopGracefully });
            attendant.until_leave_again().await;
            is_quick = true;
        }
    }

    /// Lets the connections finish. False if they have not.
    async fn drain(
        &self,
        listeners: Listeners,
        attendant: &mut Attendant<'_>,
        grace: Duration,
        replaced: bool,
    ) -> bool {
        tracing::info!("stopping: {} may finish within {} s", connections(self.placement.open()), grace.as_secs());
        if replaced {
            self.drain.begin_replaced(grace);
        } else {
            self.drain.begin(grace);
        }
        // The kernel goes on taking connections for as long as one handle is open.
        drop(listeners);
        // A server that never was ready accepts now and drains at once.
        let never_ready =
            self.stage.send_if_modified(|stage| std::mem::replace(stage, Stage::Accepting) == Stage::Waiting);
        if never_ready {
            // Nobody will answer the clients that waited for it.
            self.pool.close();
        }
        tokio::select! {
            () = self.drain.finished() => true,
            () = tokio::time::sleep(grace) => {
                let open = connections(self.placement.open());
                tracing::warn!("cut off, not finished within --graceful-timeout: {open}");
                false
            }
            _ = attendant.until_leave_again() => {
                tracing::warn!("stopping now, cut off: {}", connections(self.placement.open()));
                false
            }
        }
    }

    /// Ends the front threads. Connections that are still open end with them.
    fn end(self) {
        self.drain.begin(Duration::ZERO);
        self.stage.send_replace(Stage::Ended);
        for thread in self.threads {
            if thread.thread.join().is_err() {
                tracing::error!("a front thread has panicked");
            }
        }
    }
}

fn connections(open: usize) -> String {
    if open == 1 { "1 connection".to_owned() } else { format!("{open} connections") }
}
