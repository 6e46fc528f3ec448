//! Builds the components, joins them, and defines the order in which they start and stop.
//!
//! Start: interpreter, files, certificates, listeners → front threads → pool → supervisor → first worker ready → accept.
//! Stop: stop accepting → connections finish → workers drain → end.

mod activation;
mod attendant;
mod commands;
mod control;
mod ground;
mod handover;
mod problem;
mod reconfigure;
mod running;
mod service_manager;
mod signals;
#[cfg(test)]
mod simulation;
mod stacks;
mod upgrade;

pub use handover::{Inheritance, Predecessor};
pub use problem::{StartError, StartProblem};
pub use reconfigure::Reread;
pub use upgrade::Program;

use crate::config::{Resolved, Settings};
use crate::front::accept::{self, FrontThread};
use crate::front::cache::Cache;
use crate::front::drain::Drain;
use crate::front::error_pages::ErrorPages;
use crate::front::files::Files;
use crate::front::health::Health;
use crate::front::pipeline::Pipeline;
use crate::front::site::Site;
use crate::front::tls::Watch;
use crate::roster;
use crate::supervisor::{self, Demand};
use crate::telemetry::AccessLog as AccessLogSettings;
use crate::telemetry::access::AccessLog;
use crate::telemetry::log;
use crate::upstream::pool::{self, Pool};
use arc_swap::ArcSwap;
use reconfigure::{Facts, Running};
use running::Front;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{mpsc, watch};

/// How this process came to be, and how it is started anew and read its configuration again.
pub struct Origin {
    pub program: Program,
    pub inheritance: Inheritance,
    pub reread: Reread,
}

/// Serves until asked to stop. Must be called on the main thread.
pub fn run(resolved: Resolved, mut origin: Origin) -> Result<(), StartError> {
    let Resolved { mut settings, combined, .. } = resolved;
    log::start(&settings.telemetry);
    ground::announce_activation(&origin.inheritance.sockets);
    let (ground, (clients, operators)) = ground::prepare(&mut settings, &mut origin.inheritance.sockets)?;
    ground::warn_of_unused(&origin.inheritance.sockets);
    let system = |what: &'static str| move |source: io::Error| StartProblem::System { what, source };
    if let Err(error) = crate::sys::raise_descriptor_limit() {
        tracing::debug!("the limit of open files stays as it is: {error}");
    }
    let (supervisor_end, upstream_end) = roster::pair();
    let pool = Pool::new(settings.upstream.clone(), upstream_end.reports.clone());
    let (drain, shutdown) = Drain::new();
    // From the beginning to the end: whether the server can serve is asked when it cannot.
    let (_operators_drain, operators_shutdown) = Drain::new();
    let limits = &settings.front.limits;
    let shared = "a listening socket cannot be shared";
    let (threads, placement) =
        accept::front_threads(&clients, settings.front.threads, limits, ground.tls.as_ref(), &shutdown)
            .map_err(system(shared))?;
    let (admin, admin_placement) =
        accept::front_threads(&operators, 1, limits, None, &operators_shutdown).map_err(system(shared))?;
    drop(shutdown);
    ground::announce(&ground, (&clients, &operators), &settings);
    let health = Arc::new(Health::new(Arc::clone(&pool)));
    let access = ground.access.clone();
    let cache = Arc::new(Cache::new(settings.front.cache.clone()));
    let ours = (Arc::clone(&pool), Arc::clone(&health));
    let site = pipeline(&settings, (ground.files, ground.error_pages), ours.0, ground.access, ours.1, &cache);
    let site = Arc::new(Site::new(site));
    let (stage, stages) = watch::channel(Stage::Waiting);
    let threads: Vec<RunningThread> = threads
        .into_iter()
        .enumerate()
        .map(|(index, thread)| start_thread(index, thread, Arc::clone(&site), stages.clone()))
        .collect::<io::Result<_>>()
        .map_err(system("a front thread cannot be started"))?;
    let runtime =
        Builder::new_current_thread().enable_all().build().map_err(system("the main runtime cannot be started"))?;
    let facts = Arc::new(ArcSwap::from_pointee(Facts::new(&settings, &clients)));
    let front = Front {
        placement: Arc::clone(&placement),
        drain,
        stage,
        pool: Arc::clone(&pool),
        threads,
        health: Arc::clone(&health),
        cache: Arc::clone(&cache),
    };
    let placements = (placement, admin_placement);
    let certificates = ground.tls.as_deref().map(Watch::begin);
    let (python, tls) = (ground.python, ground.tls);
    let mut running =
        Running { settings, combined, python, access, tls, certificates, site, pool, health, cache, placements, facts };
    let ends = (supervisor_end, upstream_end);
    let outcome = runtime.block_on(front.serve((clients, operators), admin, &mut running, ends, origin));
    end_runtime(runtime);
    running.access.close();
    Ok(outcome?)
}

/// The request path of a configuration.
fn pipeline(
    settings: &Settings,
    (files, error_pages): (Files, ErrorPages),
    pool: Arc<Pool>,
    access: AccessLog,
    health: Arc<Health>,
    cache: &Arc<Cache>,
) -> Pipeline {
    Pipeline {
        files,
        pool,
        cache: cache.is_on().then(|| Arc::clone(cache)),
        limits: settings.front.limits.clone(),
        websocket: Arc::default(),
        access,
        health,
        health_path: settings.front.health_path.clone(),
        error_pages,
        maintenance_bypass: settings.front.maintenance_bypass.clone(),
    }
}

/// Checks everything that a start would, without listening: interpreter, certificates, directories, and whether a
/// worker can load the application (gunicorn: `--check-config`). Must be called on the main thread.
pub fn check(mut settings: Settings) -> Result<(), StartError> {
    settings.front.binds.clear();
    settings.front.admin_binds.clear();
    settings.telemetry.access_log = AccessLogSettings::Off;
    settings.supervisor.workers = supervisor::Bounds::exactly(1);
    settings.supervisor.sources = None;
    let (ground, _) = ground::prepare(&mut settings, &mut Vec::new())?;
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| StartProblem::System { what: "the main runtime cannot be started", source })?;
    let outcome = runtime.block_on(async {
        let (supervisor_end, upstream_end) = roster::pair();
        let (stops, stop_requests) = mpsc::unbounded_channel();
        let pool = Pool::new(settings.upstream, upstream_end.reports.clone());
        pool::start(&pool, upstream_end, vec![Handle::current()]);
        let on_milestone = move |_| {
            // The other end is the supervisor that calls this.
            let _ = stops.send(Demand::StopGracefully);
        };
        let (python, _) = ground.python;
        supervisor::run(settings.supervisor, python, supervisor_end, stop_requests, on_milestone).await
    });
    end_runtime(runtime);
    Ok(outcome?)
}

/// What the front threads are told, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// Links run, nothing is accepted.
    Waiting,
    /// Accept; the drain ends this stage.
    Accepting,
    /// The links are not needed any more.
    Ended,
}

struct RunningThread {
    runtime: Handle,
    thread: JoinHandle<()>,
}

fn start_thread(
    index: usize,
    front: FrontThread,
    site: Arc<Site>,
    stages: watch::Receiver<Stage>,
) -> io::Result<RunningThread> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let thread = std::thread::Builder::new().name(format!("front-{index}")).spawn(move || {
        pool::enter_thread(index);
        runtime.block_on(live(front, site, stages));
        end_runtime(runtime);
    })?;
    Ok(RunningThread { runtime: handle, thread })
}

/// The life of a front thread.
async fn live(front: FrontThread, site: Arc<Site>, mut stages: watch::Receiver<Stage>) {
    // A vanished sender means that the program ends.
    if stages.wait_for(|stage| *stage != Stage::Waiting).await.is_ok_and(|stage| *stage == Stage::Accepting)
        && let Err(error) = front.run(site).await
    {
        tracing::error!("a front thread cannot serve: {error}");
    }
    let _ = stages.wait_for(|stage| *stage == Stage::Ended).await;
}

/// A blocking read of a file that hangs must not keep the program.
fn end_runtime(runtime: Runtime) {
    runtime.shutdown_timeout(Duration::from_millis(100));
}
