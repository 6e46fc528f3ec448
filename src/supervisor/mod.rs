//! Keeps the workers alive: takes an event, asks [`state`], performs the actions.

pub mod extension;
mod output;
pub mod python;
pub mod state;
mod zygote;

use crate::roster::{Member, Notice, Report, SupervisorEnd, WorkerNumber};
use crate::telemetry::OutputStream;
use monoceros_wire::message::{BootFailure, Interface};
use monoceros_wire::page::Page;
use monoceros_wire::zygote::{Command as Order, Event as News, WorkerSettings};
use state::{Action, Event, Outcome, Policy, Saying, Supervisor};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use zygote::Zygote;

/// Settings of the worker processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// What every worker has to know about the application.
    pub app: WorkerSettings,
    /// Worker processes (gunicorn: `workers`).
    pub workers: u32,
    /// Interpreter asked for (`--python`); otherwise it is searched for.
    pub python: Option<PathBuf>,
    /// Directory to serve from (gunicorn: `chdir`).
    pub chdir: PathBuf,
    /// Variables set for the workers (gunicorn: `raw_env`).
    pub environment: Vec<(String, String)>,
    /// From fork to "ready".
    pub boot_timeout: Duration,
    /// For requests in progress when stopping (gunicorn: `graceful_timeout`).
    pub graceful_timeout: Duration,
}

/// Why the workers never served.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The application could not be loaded.
    #[error("{}", .0.message)]
    Boot(BootFailure),
    #[error("the Python process {status} before it could load the application")]
    Zygote { status: String },
    #[error("no worker was ready within {} s", .0.as_secs())]
    BootTimeout(Duration),
}

/// Asks the supervisor to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopRequest {
    /// Let requests finish.
    Gracefully,
    Quickly,
}

/// Runs the workers until they are asked to stop, or never served. Must run on the main thread. `on_ready` is called
/// once, when the first worker can serve.
pub async fn run(
    settings: Settings,
    python: PathBuf,
    end: SupervisorEnd,
    mut stops: mpsc::UnboundedReceiver<StopRequest>,
    on_ready: impl FnOnce(Interface),
) -> Result<(), Failure> {
    let policy = Policy {
        workers: settings.workers,
        boot_timeout: settings.boot_timeout,
        graceful_timeout: settings.graceful_timeout,
    };
    let SupervisorEnd { notices, mut reports } = end;
    let mut shell = Shell { settings, python, notices, zygote: None, boot_failure: None, on_ready: Some(on_ready) };
    let mut machine = Supervisor::new(policy);
    let mut events = VecDeque::from([Event::Start]);
    loop {
        while let Some(event) = events.pop_front() {
            for action in machine.step(Instant::now(), event) {
                match action {
                    Action::Finish(outcome) => return shell.finish(outcome).await,
                    action => events.extend(shell.perform(action)),
                }
            }
        }
        let wake_at = machine.wake_at();
        let alarm = async {
            match wake_at {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(report) = reports.recv() => events.push_back(event_of(report)),
            news = shell.news() => events.extend(news),
            Some(stop) = stops.recv() => events.push_back(match stop {
                StopRequest::Gracefully => Event::StopGracefully,
                StopRequest::Quickly => Event::StopQuickly,
            }),
            () = alarm => events.push_back(Event::Tick),
        }
    }
}

fn event_of(report: Report) -> Event {
    match report {
        Report::Ready { worker, interface, slots } => Event::Ready { worker, interface, slots },
        Report::BootFailed { worker, failure } => Event::BootFailed { worker, failure },
        Report::LinkLost { worker, reason } => Event::LinkLost { worker, reason },
        Report::Overdue { worker } => Event::Overdue { worker },
        Report::Stuck { worker } => Event::Stuck { worker },
        Report::Leaking { .. } => Event::Tick,
    }
}

/// Performs what the machine decides.
struct Shell<R> {
    settings: Settings,
    python: PathBuf,
    notices: mpsc::UnboundedSender<Notice>,
    zygote: Option<Zygote>,
    /// What the zygote said before it ended.
    boot_failure: Option<BootFailure>,
    on_ready: Option<R>,
}

impl<R: FnOnce(Interface)> Shell<R> {
    fn perform(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::StartZygote => return self.start_zygote(),
            Action::Fork(worker) => return self.fork(worker),
            Action::Drain(worker) => self.notify(Notice::Drain(worker)),
            Action::Forget(worker) => self.notify(Notice::Gone(worker)),
            Action::Kill(worker) => self.order(&Order::Signal { worker, signal: KILL }, &[]),
            Action::EndZygote => self.order(&Order::Exit, &[]),
            Action::Say(Saying::Ready { interface }) => {
                if let Some(on_ready) = self.on_ready.take() {
                    on_ready(interface);
                }
            }
            Action::Say(saying) => say(saying),
            // Taken by the loop.
            Action::Finish(_) => {}
        }
        None
    }

    fn notify(&self, notice: Notice) {
        // The upstream is gone only when the program ends.
        let _ = self.notices.send(notice);
    }

    fn order(&self, order: &Order, descriptors: &[BorrowedFd<'_>]) {
        if let Some(zygote) = &self.zygote
            && let Err(error) = zygote.send(order, descriptors)
        {
            // Its end is noticed by the one who waits for it.
            tracing::debug!("the zygote does not take orders: {error}");
        }
    }

    fn start_zygote(&mut self) -> Option<Event> {
        self.boot_failure = None;
        match Zygote::start(&self.python, &self.settings) {
            Ok((zygote, output)) => {
                if let Some(stdout) = output.stdout {
                    tokio::spawn(output::follow(None, OutputStream::Stdout, stdout));
                }
                if let Some(stderr) = output.stderr {
                    tokio::spawn(output::follow(None, OutputStream::Stderr, stderr));
                }
                self.zygote = Some(zygote);
                None
            }
            Err(error) => {
                let status = format!("could not be started ({}: {error})", self.python.display());
                Some(Event::ZygoteEnded { failure: None, status })
            }
        }
    }

    fn fork(&mut self, worker: WorkerNumber) -> Option<Event> {
        match self.try_fork(worker) {
            Ok(()) => None,
            Err(error) => Some(Event::ForkFailed { worker, message: error.to_string() }),
        }
    }

    fn try_fork(&mut self, worker: WorkerNumber) -> io::Result<()> {
        let Some(zygote) = &self.zygote else { return Err(io::Error::other("the zygote is gone")) };
        let (ours, theirs) = monoceros_wire::sys::stream_pair()?;
        let (page, page_file) = Page::create(self.settings.cells())?;
        let stdout = output::pipe_for(worker, OutputStream::Stdout)?;
        let stderr = output::pipe_for(worker, OutputStream::Stderr)?;
        let descriptors = [theirs.as_fd(), page_file.as_fd(), stdout.as_fd(), stderr.as_fd()];
        zygote.send(&Order::Fork { worker }, &descriptors)?;
        self.notify(Notice::Joined(Member { worker, socket: ours, page }));
        Ok(())
    }

    /// The next news of the zygote. Cancel-safe.
    async fn news(&mut self) -> Option<Event> {
        let Some(zygote) = &mut self.zygote else { return std::future::pending().await };
        if let Ok(Some(news)) = zygote.next().await {
            return self.event_of_news(news);
        }
        let status = match zygote.wait().await {
            Ok(status) => zygote::describe(status),
            Err(error) => format!("ended ({error})"),
        };
        self.zygote = None;
        Some(Event::ZygoteEnded { failure: self.boot_failure.take(), status })
    }

    fn event_of_news(&mut self, news: News) -> Option<Event> {
        match news {
            News::Started { pid, python, .. } => {
                tracing::debug!("zygote {pid} runs Python {python}");
                None
            }
            News::Loaded => Some(Event::ZygoteLoaded),
            News::BootFailed { failure } => {
                // Its exit follows, and with it the event.
                self.boot_failure = Some(failure);
                None
            }
            News::Forked { worker, pid } => Some(Event::Forked { worker, pid }),
            News::ForkFailed { worker, message } => Some(Event::ForkFailed { worker, message }),
            News::Exited { worker, status, .. } => Some(Event::Exited { worker, status }),
        }
    }

    async fn finish(mut self, outcome: Outcome) -> Result<(), Failure> {
        if let Some(zygote) = &mut self.zygote {
            // It was told to end and kills its children; if it hangs, dropping it kills it, and the children with it.
            let _ = tokio::time::timeout(EXIT_GRACE, zygote.wait()).await;
        }
        match outcome {
            Outcome::Stopped => Ok(()),
            Outcome::BootFailed(failure) => Err(Failure::Boot(failure)),
            Outcome::ZygoteFailed { status } => Err(Failure::Zygote { status }),
            Outcome::BootTimeout => Err(Failure::BootTimeout(self.settings.boot_timeout)),
        }
    }
}

impl Settings {
    /// Cells of a worker's page: what it may run at once, and what may be handed out ahead of time. Whether the
    /// application is WSGI or ASGI may not be known yet, so there are enough for both.
    fn cells(&self) -> usize {
        const SPARE: usize = 16;
        let wsgi = self.app.threads as usize * (1 + AHEAD_PER_THREAD);
        wsgi.max(self.app.concurrency as usize) + SPARE
    }
}

/// Cells beyond the one in use, per WSGI thread.
const AHEAD_PER_THREAD: usize = 16;

/// For a zygote that was told to exit.
const EXIT_GRACE: Duration = Duration::from_secs(5);

const KILL: i32 = 9;

fn say(saying: Saying) {
    match saying {
        Saying::Ready { .. } => {}
        Saying::WorkerReady { worker, pid } => tracing::info!("worker {worker} ready (pid {pid})"),
        Saying::WorkerGone { worker, how, next: None } => tracing::warn!("worker {worker} {how}; it is replaced"),
        Saying::WorkerGone { worker, how, next: Some(pause) } => {
            tracing::error!("worker {worker} {how} before it could serve; next try in {pause:?}");
        }
        Saying::WorkerBootFailed { failure, next } => {
            tracing::error!("a new worker could not load the application: {}; next try in {next:?}", failure.message);
            for line in failure.traceback.lines() {
                tracing::error!("  {line}");
            }
        }
        Saying::BootTimeout { worker } => tracing::error!("worker {worker} was not ready in time and is killed"),
        Saying::Overdue { worker } => {
            tracing::error!("worker {worker} did not answer in time (--timeout) and is killed and replaced");
        }
        Saying::Stuck { worker } => {
            tracing::error!("worker {worker} does not take up requests; it is killed and what it held goes to others");
        }
        Saying::GraceOver { workers } => {
            tracing::warn!("{workers} workers did not finish in time (--graceful-timeout) and are killed");
        }
        Saying::ZygoteGone { status, next } => tracing::error!("the zygote {status}; a new one starts in {next:?}"),
        Saying::ForkFailed { message, next } => {
            tracing::error!("no worker could be forked: {message}; next try in {next:?}");
        }
    }
}
