//! Builds the components, joins them, and defines the order in which they start and stop.
//!
//! Start: interpreter, files, certificates, listeners → front threads → pool → supervisor → first worker ready → accept.
//! Stop: stop accepting → connections finish → workers drain → end.

mod commands;
mod service_manager;
mod signals;

use crate::config::Settings;
use crate::control::server::Control;
use crate::control::{self, place};
use crate::front::accept::{self, FrontThread, Placement};
use crate::front::drain::Drain;
use crate::front::files::{FileSetupError, Files};
use crate::front::listener::{BindError, Listeners};
use crate::front::pipeline::Pipeline;
use crate::front::tls::{self, TlsError};
use crate::front::{Address, Purpose};
use crate::roster;
use crate::supervisor::python::{self, Interpreter, PythonError};
use crate::supervisor::{self, Demand, Milestone};
use crate::telemetry::AccessLog as AccessLogSettings;
use crate::telemetry::access::AccessLog;
use crate::telemetry::log;
use crate::upstream::pool::{self, Pool};
use commands::Commands;
use monoceros_wire::message::Interface;
use service_manager::ServiceManager;
use signals::{Wish, Wishes};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{mpsc, watch};

/// One thing that keeps the server from starting.
#[derive(Debug, thiserror::Error)]
pub enum StartProblem {
    #[error(transparent)]
    Python(#[from] PythonError),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("no development certificate: {0}")]
    DevelopmentCertificate(#[from] tls::DevelopmentCertificateError),
    #[error(transparent)]
    Files(#[from] FileSetupError),
    #[error("the access log cannot be opened: {0}")]
    AccessLog(#[source] io::Error),
    #[error("the control socket cannot be made at {}: {source}", path.display())]
    Control { path: PathBuf, source: io::Error },
    #[error("no temporary file can be made in {}: {source}", directory.display())]
    TemporaryFiles { directory: PathBuf, source: io::Error },
    #[error("{what}: {source}")]
    System { what: &'static str, source: io::Error },
    #[error(transparent)]
    Workers(#[from] supervisor::Failure),
}

/// Why the server could not start, or stopped serving: everything that was found wrong at once.
#[derive(Debug)]
pub struct StartError {
    pub problems: Vec<StartProblem>,
}

impl StartError {
    /// Whether the application is at fault: it could not be loaded.
    pub fn is_application_failure(&self) -> bool {
        matches!(self.problems.as_slice(), [StartProblem::Workers(_)])
    }
}

impl<P: Into<StartProblem>> From<P> for StartError {
    fn from(problem: P) -> Self {
        Self { problems: vec![problem.into()] }
    }
}

impl StartProblem {
    /// What the operator can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Python(error) => Some(error.hint().to_owned()),
            Self::TemporaryFiles { .. } => {
                Some("TMPDIR names the directory for large bodies: it has to exist and to be writable".to_owned())
            }
            Self::Workers(supervisor::Failure::Boot(failure)) => {
                Some(failure.hint.clone()).filter(|hint| !hint.is_empty())
            }
            Self::Workers(supervisor::Failure::BootTimeout(_)) => {
                Some("raise --boot-timeout, or find out what the application waits for while it is imported".to_owned())
            }
            _ => None,
        }
    }

    /// The application's traceback, where it is the application's fault.
    pub fn traceback(&self) -> Option<&str> {
        match self {
            Self::Workers(supervisor::Failure::Boot(failure)) => {
                Some(failure.traceback.as_str()).filter(|text| !text.is_empty())
            }
            _ => None,
        }
    }
}

/// What was opened and checked before anything runs.
struct Ground {
    interpreter: Interpreter,
    files: Files,
    tls: Option<Arc<rustls::ServerConfig>>,
    listeners: Listeners,
    access: AccessLog,
}

/// Serves until asked to stop. Must be called on the main thread.
pub fn run(mut settings: Settings) -> Result<(), StartError> {
    log::start(&settings.telemetry);
    let ground = prepare(&mut settings)?;
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
    let pipeline = Arc::new(Pipeline {
        files: ground.files,
        pool: Arc::clone(&pool),
        limits: settings.front.limits.clone(),
        websocket: Arc::default(),
        access: ground.access.clone(),
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
    announce(&ground.listeners, &settings, &ground.interpreter);
    let front = Front { placement, drain, stage, pool, threads };
    let python = ground.interpreter.path;
    let outcome = runtime.block_on(front.serve(ground.listeners, settings, python, supervisor_end, upstream_end));
    end_runtime(runtime);
    ground.access.close();
    Ok(outcome?)
}

/// Checks everything that a start would, without listening: interpreter, certificates, directories, and whether a
/// worker can load the application (gunicorn: `--check-config`). Must be called on the main thread.
pub fn check(mut settings: Settings) -> Result<(), StartError> {
    settings.front.binds.clear();
    settings.telemetry.access_log = AccessLogSettings::Off;
    settings.supervisor.workers = 1;
    let ground = prepare(&mut settings)?;
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
fn prepare(settings: &mut Settings) -> Result<Ground, StartError> {
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
    let listeners = collect(Listeners::bind(&settings.front.binds, settings.front.backlog), &mut problems);
    for warning in tls.iter().flat_map(|tls| &tls.warnings) {
        tracing::warn!("{warning}");
    }
    match (interpreter, files, access, listeners) {
        (Some(interpreter), Some(files), Some(access), Some(listeners)) if problems.is_empty() => {
            Ok(Ground { interpreter, files, tls: tls.map(|tls| tls.config), listeners, access })
        }
        _ => Err(StartError { problems }),
    }
}

fn collect<T, P: Into<StartProblem>>(result: Result<T, Vec<P>>, problems: &mut Vec<StartProblem>) -> Option<T> {
    result.map_err(|errors| problems.extend(errors.into_iter().map(Into::into))).ok()
}

/// Says what listens where, and who will answer.
fn announce(listeners: &Listeners, settings: &Settings, interpreter: &Interpreter) {
    for (address, purpose) in listeners.addresses() {
        tracing::info!("listening on {}", listening(address, purpose));
    }
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

/// Opens the control socket. Where no place was named, a server without one is better than none.
fn control_socket(settings: &control::Settings) -> Result<Option<Control>, StartProblem> {
    match settings {
        control::Settings::Off => Ok(None),
        control::Settings::At(path) => {
            let refused = |source| StartProblem::Control { path: path.clone(), source };
            Control::bind(path.clone()).map(Some).map_err(refused)
        }
        control::Settings::Automatic => {
            let opened = place::prepare(&place::directories())
                .and_then(|directory| Control::bind(place::socket_in(&directory, std::process::id())));
            let opened = opened.inspect_err(|error| tracing::warn!("there is no control socket: {error}"));
            Ok(opened.ok())
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

/// The running server, seen from the main thread.
struct Front {
    placement: Arc<Placement>,
    drain: Drain,
    stage: watch::Sender<Stage>,
    pool: Arc<Pool>,
    threads: Vec<RunningThread>,
}

impl Front {
    async fn serve(
        self,
        listeners: Listeners,
        settings: Settings,
        python: PathBuf,
        supervisor_end: roster::SupervisorEnd,
        upstream_end: roster::UpstreamEnd,
    ) -> Result<(), StartProblem> {
        let (demands, demanded) = mpsc::unbounded_channel();
        let (commands, wished) = mpsc::unbounded_channel();
        let mut wishes =
            Wishes::new(wished).map_err(|source| StartProblem::System { what: "signals cannot be handled", source })?;
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
        let grace = settings.supervisor.graceful_timeout;
        let supervised = supervisor::run(settings.supervisor, python, supervisor_end, demanded, on_milestone);
        tokio::pin!(supervised);
        let stopping = async {
            self.stop(listeners, &mut wishes, grace, &demands, &manager).await;
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

    /// Passes wishes on until one is to stop, and carries that out: the first time gracefully, the second time quickly,
    /// the third time at once.
    async fn stop(
        &self,
        listeners: Listeners,
        wishes: &mut Wishes,
        grace: Duration,
        demands: &mpsc::UnboundedSender<Demand>,
        manager: &ServiceManager,
    ) {
        let mut is_quick = matches!(wishes.stop(demands).await, Wish::StopQuickly);
        manager.stopping();
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

fn connections(open: usize) -> String {
    if open == 1 { "1 connection".to_owned() } else { format!("{open} connections") }
}
