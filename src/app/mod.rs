//! Builds the components, joins them, and defines the order in which they start and stop.
//!
//! Start: interpreter, files, certificates, listeners → front threads → pool → supervisor → first worker ready → accept.
//! Stop: stop accepting → connections finish → workers drain → end.

mod attendant;
mod commands;
mod control;
mod handover;
mod problem;
mod running;
mod service_manager;
mod signals;
mod upgrade;

pub use handover::{Inheritance, Predecessor};
pub use problem::{StartError, StartProblem};
pub use upgrade::Program;

use crate::config::Settings;
use crate::front::accept::{self, FrontThread};
use crate::front::drain::Drain;
use crate::front::files::Files;
use crate::front::health::Health;
use crate::front::inherited::Inherited;
use crate::front::listener::Listeners;
use crate::front::pipeline::Pipeline;
use crate::front::{Address, Audience, Bind, Purpose, tls};
use crate::roster;
use crate::supervisor::python::{self, Interpreter};
use crate::supervisor::{self, Demand};
use crate::telemetry::AccessLog as AccessLogSettings;
use crate::telemetry::access::AccessLog;
use crate::telemetry::log;
use crate::upstream::pool::{self, Pool};
use running::{Front, Origin};
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{mpsc, watch};

/// What was opened and checked before anything runs.
struct Ground {
    interpreter: Interpreter,
    files: Files,
    tls: Option<Arc<rustls::ServerConfig>>,
    listeners: Listeners,
    /// Of operators.
    admin: Listeners,
    access: AccessLog,
}

/// Serves until asked to stop. Must be called on the main thread.
pub fn run(mut settings: Settings, program: Program, mut inheritance: Inheritance) -> Result<(), StartError> {
    log::start(&settings.telemetry);
    let ground = prepare(&mut settings, &mut inheritance.sockets)?;
    let system = |what: &'static str| move |source: io::Error| StartProblem::System { what, source };
    if let Err(error) = crate::sys::raise_descriptor_limit() {
        tracing::debug!("the limit of open files stays as it is: {error}");
    }
    let (supervisor_end, upstream_end) = roster::pair();
    let pool = Pool::new(settings.upstream.clone(), upstream_end.reports.clone());
    let (drain, shutdown) = Drain::new();
    let limits = &settings.front.limits;
    let (threads, placement) =
        accept::front_threads(&ground.listeners, settings.front.threads, limits, ground.tls.as_ref(), &shutdown)
            .map_err(system("a listening socket cannot be shared"))?;
    drop(shutdown);
    announce(&ground, &settings);
    let health = Arc::new(Health::new(Arc::clone(&pool)));
    let pipeline = Arc::new(Pipeline {
        files: ground.files,
        pool: Arc::clone(&pool),
        limits: settings.front.limits.clone(),
        websocket: Arc::default(),
        access: ground.access.clone(),
        health: Arc::clone(&health),
        health_path: settings.front.health_path.clone(),
    });
    let (stage, stages) = watch::channel(Stage::Waiting);
    let threads: Vec<RunningThread> = threads
        .into_iter()
        .enumerate()
        .map(|(index, thread)| start_thread(index, thread, Arc::clone(&pipeline), stages.clone()))
        .collect::<io::Result<_>>()
        .map_err(system("a front thread cannot be started"))?;
    let runtime =
        Builder::new_current_thread().enable_all().build().map_err(system("the main runtime cannot be started"))?;
    let front = Front { placement, drain, stage, pool, threads, health, access: ground.access.clone() };
    let python = ground.interpreter.path;
    let origin = Origin { program, inheritance };
    let doors = (ground.listeners, ground.admin);
    let outcome = runtime.block_on(front.serve(doors, settings, python, (supervisor_end, upstream_end), origin));
    end_runtime(runtime);
    ground.access.close();
    Ok(outcome?)
}

/// Checks everything that a start would, without listening: interpreter, certificates, directories, and whether a
/// worker can load the application (gunicorn: `--check-config`). Must be called on the main thread.
pub fn check(mut settings: Settings) -> Result<(), StartError> {
    settings.front.binds.clear();
    settings.front.admin_binds.clear();
    settings.telemetry.access_log = AccessLogSettings::Off;
    settings.supervisor.workers = 1;
    let ground = prepare(&mut settings, &mut Vec::new())?;
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
        let python = ground.interpreter.path;
        supervisor::run(settings.supervisor, python, supervisor_end, stop_requests, on_milestone).await
    });
    end_runtime(runtime);
    Ok(outcome?)
}

/// Opens everything that can be wrong, and reports all that is.
fn prepare(settings: &mut Settings, inherited: &mut Vec<Inherited>) -> Result<Ground, StartError> {
    let mut problems = Vec::new();
    let interpreter = collect(
        python::find(settings.supervisor.python.as_deref(), &settings.supervisor.chdir).map_err(|error| vec![error]),
        &mut problems,
    );
    if let Some(directory) = &settings.development_certificate {
        let files = tls::development_certificate(directory).map_err(|error| vec![error]);
        if let (Some(files), Some(tls)) = (collect(files, &mut problems), &mut settings.front.tls) {
            tls.certificates.push(files);
        }
    }
    let tls = match &settings.front.tls {
        // Nothing to load: its absence was reported above.
        Some(tls) if tls.certificates.is_empty() && !problems.is_empty() => None,
        Some(tls) => collect(tls::load(tls, SystemTime::now()), &mut problems),
        None => None,
    };
    let files = collect(Files::open(&settings.front.files), &mut problems);
    let temporary = crate::sys::unnamed_file()
        .map_err(|source| vec![StartProblem::TemporaryFiles { directory: std::env::temp_dir(), source }]);
    collect(temporary, &mut problems);
    let access = collect(
        AccessLog::open(&settings.telemetry).map_err(|error| vec![StartProblem::AccessLog(error)]),
        &mut problems,
    );
    let mut bind =
        |binds: &[Bind], audience| Listeners::take_or_bind(binds, audience, settings.front.backlog, inherited);
    let listeners = collect(bind(&settings.front.binds, Audience::Clients), &mut problems);
    let admin = collect(bind(&settings.front.admin_binds, Audience::Operators), &mut problems);
    for warning in tls.iter().flat_map(|tls| &tls.warnings) {
        tracing::warn!("{warning}");
    }
    match (interpreter, files, access, listeners, admin) {
        (Some(interpreter), Some(files), Some(access), Some(listeners), Some(admin)) if problems.is_empty() => {
            Ok(Ground { interpreter, files, tls: tls.map(|tls| tls.config), listeners, admin, access })
        }
        _ => Err(StartError { problems }),
    }
}

fn collect<T, P: Into<StartProblem>>(result: Result<T, Vec<P>>, problems: &mut Vec<StartProblem>) -> Option<T> {
    result.map_err(|errors| problems.extend(errors.into_iter().map(Into::into))).ok()
}

/// Says what listens where, and who will answer.
fn announce(ground: &Ground, settings: &Settings) {
    for (address, purpose) in ground.listeners.addresses() {
        tracing::info!("listening on {}", listening(address, purpose));
    }
    for (address, purpose) in ground.admin.addresses() {
        tracing::info!("for operators: {}/-/status", listening(address, purpose));
    }
    let interpreter = &ground.interpreter;
    let workers = settings.supervisor.workers;
    let plural = if workers == 1 { "" } else { "s" };
    tracing::info!("starting {workers} worker{plural} with {interpreter}");
}

fn listening(address: &Address, purpose: Purpose) -> String {
    let redirects = if matches!(purpose, Purpose::RedirectToHttps { .. }) { " (redirects to https)" } else { "" };
    let scheme = if purpose == Purpose::Https { "https" } else { "http" };
    match address {
        Address::Tcp(socket) => format!("{scheme}://{socket}{redirects}"),
        Address::Unix(path) => {
            let path = path.as_deref().map_or_else(String::new, |path| path.display().to_string());
            format!("unix:{path}{redirects}")
        }
    }
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
    pipeline: Arc<Pipeline>,
    stages: watch::Receiver<Stage>,
) -> io::Result<RunningThread> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let thread = std::thread::Builder::new().name(format!("front-{index}")).spawn(move || {
        pool::enter_thread(index);
        runtime.block_on(live(front, pipeline, stages));
        end_runtime(runtime);
    })?;
    Ok(RunningThread { runtime: handle, thread })
}

/// The life of a front thread.
async fn live(front: FrontThread, pipeline: Arc<Pipeline>, mut stages: watch::Receiver<Stage>) {
    // A vanished sender means that the program ends.
    if stages.wait_for(|stage| *stage != Stage::Waiting).await.is_ok_and(|stage| *stage == Stage::Accepting)
        && let Err(error) = front.run(pipeline).await
    {
        tracing::error!("a front thread cannot serve: {error}");
    }
    let _ = stages.wait_for(|stage| *stage == Stage::Ended).await;
}

/// A blocking read of a file that hangs must not keep the program.
fn end_runtime(runtime: Runtime) {
    runtime.shutdown_timeout(Duration::from_millis(100));
}
