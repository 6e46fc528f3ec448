//! Keeps the workers alive: takes an event, asks [`state`], performs the actions.

pub mod autoscale;
pub mod bounds;
pub mod extension;
mod orphans;
mod output;
pub mod python;
mod say;
mod scaler;
mod shell;
pub mod sources;
mod stack_report;
mod stacks;
pub mod state;
mod weighing;
mod zygote;

pub use bounds::Bounds;
pub use stack_report::{Frame, StackReport, Task, Thread};
pub use zygote::SERVICE_MANAGER_VARIABLES;

use crate::roster::{Report, SupervisorEnd, WorkerNumber};
use autoscale::Pace;
use monoceros_wire::message::{BootFailure, Interface};
use monoceros_wire::zygote::WorkerSettings;
use scaler::Scaler;
use shell::Shell;
use stacks::Question;
use state::{Action, Event, GenerationNumber, MemoryUse, Policy, Retirement, Supervisor};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use weighing::Weighing;

/// Settings of the worker processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// What every worker has to know about the application.
    pub app: WorkerSettings,
    /// Worker processes (gunicorn: `workers`); in a range their number follows the load.
    pub workers: Bounds,
    /// So long one worker fewer must have been enough before one goes.
    pub scale_down_after: Duration,
    /// In a range that begins at zero: so long nothing must have been used before the last one goes.
    pub idle_timeout: Duration,
    /// Interpreter asked for (`--python`); otherwise it is searched for.
    pub python: Option<PathBuf>,
    /// Directory to serve from (gunicorn: `chdir`).
    pub chdir: PathBuf,
    /// Variables set for the workers (gunicorn: `raw_env`).
    pub environment: Vec<(String, String)>,
    /// From fork to "ready".
    pub boot_timeout: Duration,
    /// What a new worker has to answer before it serves: paths, which may have a query.
    pub warm_up: Vec<String>,
    /// For requests in progress when stopping (gunicorn: `graceful_timeout`).
    pub graceful_timeout: Duration,
    pub recycling: Recycling,
    /// Workers that may exist beyond the wanted ones while some are replaced.
    pub surge: u32,
    /// Bytes that all workers and zygotes together should not exceed. Zero: no limit.
    pub memory_budget: u64,
    /// Files whose change is a reason to reload. Where there are any, a first load that fails does not end the server.
    pub sources: Option<sources::Settings>,
}

/// When healthy workers are replaced. Zero is never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recycling {
    /// For requests in progress in a worker that is replaced.
    pub drain_timeout: Duration,
    /// Answers of one worker (gunicorn: `max_requests`).
    pub max_requests: u64,
    /// Most that is added to it at random (gunicorn: `max_requests_jitter`).
    pub max_requests_jitter: u64,
    /// Resident memory of one worker in bytes.
    pub max_rss: u64,
    pub max_lifetime: Duration,
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

/// What the supervisor is asked for while it runs.
#[derive(Debug)]
pub enum Demand {
    /// Let requests finish; the second time: quickly.
    StopGracefully,
    /// Break off what is going on; the second time: at once.
    StopQuickly,
    /// Load the application anew and replace the workers. Whoever asked may watch.
    Reload(Option<mpsc::UnboundedSender<Progress>>),
    /// The same with other settings, which hold from the moment in which a worker serves with them.
    Reconfigure(Box<Candidate>, Option<mpsc::UnboundedSender<Progress>>),
    /// One more worker (gunicorn: `TTIN`).
    OneMore,
    /// One worker less (gunicorn: `TTOU`).
    OneLess,
    /// From now on so many workers, or as many within a range as the load needs.
    Scale(Bounds),
    /// All workers finish and go, until somebody asks for some.
    SendAway,
    /// Replace this worker, a new one first.
    Restart(WorkerNumber),
    /// Tell who is there.
    Look(oneshot::Sender<Snapshot>),
    /// Tell where the workers are, or this one.
    Stacks(Option<WorkerNumber>, oneshot::Sender<Vec<Testimony>>),
}

/// Settings that are to be tried.
#[derive(Debug)]
pub struct Candidate {
    pub settings: Settings,
    pub python: PathBuf,
    /// Told when a worker serves with them; dropped when they are given up.
    pub proven: oneshot::Sender<()>,
}

/// How a reload goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    Step(String),
    /// Every worker that serves is of this generation.
    Done {
        generation: GenerationNumber,
    },
    /// Nothing has changed.
    Failed(BootFailure),
}

/// Who is there at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub generation: GenerationNumber,
    pub wanted: u32,
    pub bounds: Bounds,
    /// Where there is a budget.
    pub memory: Option<MemoryUse>,
    pub workers: Vec<WorkerView>,
}

/// One worker at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerView {
    pub worker: WorkerNumber,
    pub pid: Option<u32>,
    pub generation: GenerationNumber,
    pub state: &'static str,
    /// Since it was forked.
    pub age: Duration,
    pub answered: u64,
}

/// Where one worker is.
#[derive(Debug)]
pub struct Testimony {
    pub view: WorkerView,
    /// `None` where it cannot be asked: it has just begun, or is about to end.
    pub report: Option<StackReport>,
}

/// What the whole server has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Milestone {
    /// The first worker can serve; once.
    Ready(Interface),
    ReloadBegun,
    /// Done, or given up.
    ReloadEnded,
}

/// Runs the workers until they are asked to stop, or never served. Must run on the main thread.
pub async fn run(
    settings: Settings,
    python: PathBuf,
    end: SupervisorEnd,
    mut demands: mpsc::UnboundedReceiver<Demand>,
    on_milestone: impl FnMut(Milestone),
) -> Result<(), Failure> {
    let policy = settings.policy();
    let SupervisorEnd { notices, mut reports } = end;
    let mut scaler = Scaler::new(&settings, notices.clone());
    let (mut shell, mut news) = Shell::new(settings, python, notices, on_milestone);
    let mut machine = Supervisor::new(policy);
    let mut events = VecDeque::from([Event::Start]);
    // Without the signal, orphans stay zombies: no reason not to serve.
    let mut child_ended = orphans::are_ours().then(|| signal(SignalKind::child()).ok()).flatten();
    let mut vitals = tokio::time::interval(VITALS_INTERVAL);
    let mut pulse = tokio::time::interval(scaler::PULSE);
    let mut weighing = Weighing::new();
    loop {
        while let Some(event) = events.pop_front() {
            scaler.note(&event, &shell.settings);
            if matches!(event, Event::Ready { .. }) {
                weighing.begin_anew();
            }
            for event in scaler.change().into_iter().chain([event]) {
                for action in machine.step(Instant::now(), event) {
                    match action {
                        Action::Finish(outcome) => return shell.finish(outcome, &mut news).await,
                        action => events.extend(shell.perform(action)),
                    }
                }
            }
        }
        let vitals = shell.settings.recycling.needs_vitals().then(|| vitals.tick());
        let pulse = scaler.is_active().then(|| pulse.tick());
        let weighed = (shell.settings.memory_budget > 0).then(|| weighing.next(|| shell.processes()));
        let alarm = machine.wake_at(Instant::now()).map(|at| tokio::time::sleep_until(at.into()));
        let idleness = scaler.wake_at().map(|at| tokio::time::sleep_until(at.into()));
        tokio::select! {
            Some(report) = reports.recv() => match report {
                Report::Late { worker, requests } => shell.ask(worker, Question::Late(requests)),
                Report::Stalled { worker, duration, requests, turns } => {
                    shell.ask(worker, Question::Stalled { duration, requests, turns });
                }
                Report::Resumed { worker, duration } => shell.ask(worker, Question::Resumed { duration }),
                Report::Measured(seen) => events.extend(scaler.measured(seen, machine.wanted())),
                report => events.extend(event_of(report)),
            },
            Some((generation, news)) = news.recv() => events.extend(shell.event_of(generation, news)),
            Some(demand) = demands.recv() => {
                events.extend(scaler.obey(&demand, machine.wanted(), &shell.settings));
                events.push_back(match demand {
                Demand::StopGracefully => Event::StopGracefully,
                Demand::StopQuickly => Event::StopQuickly,
                Demand::Reload(watcher) => {
                    shell.watch_reload(None, watcher);
                    Event::Reload
                }
                Demand::Reconfigure(candidate, watcher) => {
                    shell.watch_reload(Some(candidate), watcher);
                    Event::Reload
                }
                Demand::Restart(worker) => Event::Retire { worker, reason: Retirement::Asked },
                Demand::Look(reply) => {
                    // Whoever asked may have gone.
                    let _ = reply.send(shell.snapshot(&machine, scaler.bounds()));
                    continue;
                }
                Demand::Stacks(worker, reply) => {
                    shell.tell_stacks(&machine, worker, reply);
                    continue;
                }
                // The scaler has obeyed.
                Demand::Scale(_) | Demand::SendAway | Demand::OneMore | Demand::OneLess => continue,
            });
            }
            () = or_never(alarm) => events.push_back(Event::Tick),
            () = or_never(idleness) => events.extend(scaler.look_at_idleness(machine.wanted())),
            _ = or_never(vitals) => events.extend(shell.look_at_vitals()),
            memory = or_never(weighed) => events.push_back(Event::Memory(memory)),
            _ = or_never(pulse) => events.extend(scaler.look(&shell.serving(&machine), machine.wanted())),
            _ = or_never(child_ended.as_mut().map(Signal::recv)) => orphans::reap(&shell.zygote_ids()),
        }
    }
}

/// What the upstream reports, as the machine understands it; `None` is no business of the machine.
pub(crate) fn event_of(report: Report) -> Option<Event> {
    Some(match report {
        Report::Ready { worker, interface, slots } => Event::Ready { worker, interface, slots },
        Report::BootFailed { worker, failure } => Event::BootFailed { worker, failure },
        Report::Unfit { worker, failure } => Event::Unfit { worker, failure },
        Report::LinkLost { worker, reason } => Event::LinkLost { worker, reason },
        Report::Overdue { worker } => Event::Overdue { worker },
        Report::Stuck { worker } => Event::Stuck { worker },
        Report::Sick { worker } => Event::Retire { worker, reason: Retirement::Sick },
        Report::Leaking { worker, .. } => Event::Retire { worker, reason: Retirement::Leaking },
        Report::Returned { worker } => Event::Returned { worker },
        Report::Called => Event::Called,
        Report::Late { .. } | Report::Stalled { .. } | Report::Resumed { .. } | Report::Measured(_) => return None,
    })
}

/// How often to look at how much workers have answered, and how much memory they use: short enough that
/// `--max-requests` is hardly exceeded; a look costs a few loads.
const VITALS_INTERVAL: Duration = Duration::from_millis(100);

/// Waits for what there is; for ever, where there is nothing to wait for.
async fn or_never<F: Future>(event: Option<F>) -> F::Output {
    match event {
        Some(event) => event.await,
        None => std::future::pending().await,
    }
}

impl Recycling {
    fn needs_vitals(&self) -> bool {
        self.max_requests > 0 || self.max_rss > 0
    }
}

impl Settings {
    fn pace(&self) -> Pace {
        Pace { down_after: self.scale_down_after, idle_timeout: self.idle_timeout }
    }

    fn policy(&self) -> Policy {
        Policy {
            workers: self.workers.at_the_start(),
            surge: self.surge,
            memory_budget: self.memory_budget,
            boot_timeout: self.boot_timeout,
            graceful_timeout: self.graceful_timeout,
            drain_timeout: self.recycling.drain_timeout,
            max_lifetime: self.recycling.max_lifetime,
            lifetime_jitter: self.recycling.max_lifetime / 10,
            waits_for_change: self.sources.is_some(),
            seed: u64::from(std::process::id()),
        }
    }
}
