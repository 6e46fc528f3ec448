//! The running server, seen from the main thread: from the first worker to the last.

use super::commands::Commands;
use super::problem::StartProblem;
use super::service_manager::ServiceManager;
use super::signals::{Wish, Wishes};
use super::{RunningThread, Stage, listening};
use crate::config::Settings;
use crate::control::server::Control;
use crate::control::{self, place};
use crate::front::accept::{self, Placement};
use crate::front::admin::Admin;
use crate::front::drain::{Drain, Shutdown};
use crate::front::health::Health;
use crate::front::listener::Listeners;
use crate::roster;
use crate::supervisor::{self, Demand, Milestone};
use crate::telemetry::access::AccessLog;
use crate::upstream::pool::{self, Pool};
use monoceros_wire::message::Interface;
use std::path::PathBuf;
use std::sync::Arc;
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
    pub(super) access: AccessLog,
}

impl Front {
    pub(super) async fn serve(
        self,
        listeners: Listeners,
        admin: Listeners,
        settings: Settings,
        python: PathBuf,
        supervisor_end: roster::SupervisorEnd,
        upstream_end: roster::UpstreamEnd,
    ) -> Result<(), StartProblem> {
        let (demands, demanded) = mpsc::unbounded_channel();
        let (commands, wished) = mpsc::unbounded_channel();
        let mut wishes = Wishes::new(wished, self.access.clone())
            .map_err(|source| StartProblem::System { what: "signals cannot be handled", source })?;
        let commands = Commands {
            wishes: commands,
            pool: Arc::clone(&self.pool),
            placement: Arc::clone(&self.placement),
            begun: Instant::now(),
            app: settings.supervisor.app.app.clone(),
            directory: settings.supervisor.chdir.display().to_string(),
            listening: listeners.addresses().map(|(address, purpose)| listening(address, purpose)).collect(),
        };
        let control = control_socket(&settings.control)?.map(|control| tokio::spawn(control.serve(Arc::new(commands))));
        let threads: Vec<Handle> = self.threads.iter().map(|thread| thread.runtime.clone()).collect();
        pool::start(&self.pool, upstream_end, threads.clone());
        // From the beginning to the end: whether the server can serve is asked when it cannot.
        let (_admin_drain, admin_shutdown) = Drain::new();
        self.serve_operators(&admin, &settings, &admin_shutdown)?;
        let stage = self.stage.clone();
        let app = settings.supervisor.app.app.clone();
        let manager = ServiceManager::from_environment();
        let on_milestone = |milestone| match milestone {
            Milestone::Ready(interface) => {
                stage.send_replace(Stage::Accepting);
                let interface = if interface == Interface::Asgi { "ASGI" } else { "WSGI" };
                tracing::info!("ready: {app} ({interface})");
                manager.ready(&format!("serving {app}"));
            }
            Milestone::ReloadBegun => manager.reloading(),
            Milestone::ReloadEnded => manager.ready(&format!("serving {app}")),
        };
        let (grace, delay) = (settings.supervisor.graceful_timeout, settings.front.drain_delay);
        let supervised = supervisor::run(settings.supervisor, python, supervisor_end, demanded, on_milestone);
        tokio::pin!(supervised);
        let stopping = async {
            self.stop(listeners, &mut wishes, (delay, grace), &demands, &manager).await;
        };
        let outcome = tokio::select! {
            outcome = &mut supervised => outcome,
            () = stopping => Ok(()),
            () = manager.keep_alive(&threads) => Ok(()),
        };
        if let Some(control) = control {
            // Its socket file goes with it.
            control.abort();
            let _ = control.await;
        }
        self.end();
        Ok(outcome?)
    }

    /// Serves the admin listeners on this thread: there is little to do there, and it must not wait for the others.
    fn serve_operators(
        &self,
        listeners: &Listeners,
        settings: &Settings,
        shutdown: &Shutdown,
    ) -> Result<(), StartProblem> {
        if listeners.addresses().next().is_none() {
            return Ok(());
        }
        let (threads, _) = accept::front_threads(listeners, 1, &settings.front.limits, None, shutdown)
            .map_err(|source| StartProblem::System { what: "a listening socket cannot be shared", source })?;
        let admin = Arc::new(Admin { health: Arc::clone(&self.health) });
        for thread in threads {
            tokio::spawn(thread.run(Arc::clone(&admin)));
        }
        Ok(())
    }

    /// Passes wishes on until one is to stop, and carries that out: the first time gracefully, the second time quickly,
    /// the third time at once.
    async fn stop(
        &self,
        listeners: Listeners,
        wishes: &mut Wishes,
        (delay, grace): (Duration, Duration),
        demands: &mpsc::UnboundedSender<Demand>,
        manager: &ServiceManager,
    ) {
        let mut is_quick = matches!(wishes.stop(demands).await, Wish::StopQuickly);
        manager.stopping();
        self.health.leave();
        if !is_quick && !delay.is_zero() {
            tracing::info!("not ready any more; connections are taken for {delay:?} (--drain-delay)");
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                wish = wishes.stop(demands) => is_quick = matches!(wish, Wish::StopQuickly),
            }
        }
        if !is_quick {
            tracing::info!("stopping: {} may finish within {} s", connections(self.placement.open()), grace.as_secs());
            self.drain.begin(grace);
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
                () = self.drain.finished() => {}
                () = tokio::time::sleep(grace) => {
                    let open = connections(self.placement.open());
                    tracing::warn!("cut off, not finished within --graceful-timeout: {open}");
                    is_quick = true;
                }
                _ = wishes.stop(demands) => {
                    tracing::warn!("stopping now, cut off: {}", connections(self.placement.open()));
                    is_quick = true;
                }
            }
            self.pool.close();
        }
        loop {
            // While the workers drain, a further wish ends them.
            let _ = demands.send(if is_quick { Demand::StopQuickly } else { Demand::StopGracefully });
            wishes.stop(demands).await;
            is_quick = true;
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

/// Opens the control socket. Where no place was named, a server without one is better than none.
fn control_socket(settings: &control::Settings) -> Result<Option<Control>, StartProblem> {
    match settings {
        control::Settings::Off => Ok(None),
        control::Settings::At(path) => {
            let refused = |source| StartProblem::Control { path: path.clone(), source };
            Control::bind(path).map(Some).map_err(refused)
        }
        control::Settings::Automatic => {
            let opened = place::prepare(&place::directories())
                .and_then(|directory| Control::bind(&place::socket_in(&directory, std::process::id())));
            let opened = opened.inspect_err(|error| tracing::warn!("there is no control socket: {error}"));
            Ok(opened.ok())
        }
    }
}

fn connections(open: usize) -> String {
    if open == 1 { "1 connection".to_owned() } else { format!("{open} connections") }
}
