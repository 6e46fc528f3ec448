//! The words of the machine: what happens to it, what it wants done, what it tells.

use super::memory::{Memory, MemoryUse};
use crate::roster::WorkerNumber;
use crate::supervisor::autoscale::Reason;
use crate::supervisor::bounds::Bounds;
use monoceros_wire::message::{BootFailure, Interface};
use monoceros_wire::zygote::ExitStatus;
use std::time::Duration;

/// All workers of one load of the application; counted from 1, never used twice.
pub type GenerationNumber = u32;

/// What the machine has to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    pub workers: u32,
    /// Workers that may exist beyond that while some are replaced, without those that were told to go.
    pub surge: u32,
    /// Bytes that all workers and zygotes together should not exceed. Zero: no limit.
    pub memory_budget: u64,
    /// From fork to "ready".
    pub boot_timeout: Duration,
    /// For requests in progress when the server stops.
    pub graceful_timeout: Duration,
    /// For requests in progress, and `WebSocket`s, in a worker that is replaced.
    pub drain_timeout: Duration,
    /// A worker is replaced when it has served this long, and a random time up to `lifetime_jitter` more. Zero: never.
    pub max_lifetime: Duration,
    pub lifetime_jitter: Duration,
    /// When the first load of the application fails, wait for a reload instead of ending.
    pub waits_for_change: bool,
    /// Of the jitter.
    pub seed: u64,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Start,
    /// The zygote can fork.
    ZygoteLoaded {
        generation: GenerationNumber,
    },
    /// The zygote is gone, and with it all its workers.
    ZygoteEnded {
        generation: GenerationNumber,
        failure: Option<BootFailure>,
        status: String,
    },
    Forked {
        worker: WorkerNumber,
        pid: u32,
    },
    ForkFailed {
        worker: WorkerNumber,
        message: String,
    },
    Ready {
        worker: WorkerNumber,
        interface: Interface,
        slots: u32,
    },
    BootFailed {
        worker: WorkerNumber,
        failure: BootFailure,
    },
    /// It has loaded the application and is not fit to serve; its process is still there.
    Unfit {
        worker: WorkerNumber,
        failure: BootFailure,
    },
    LinkLost {
        worker: WorkerNumber,
        reason: String,
    },
    /// `requests` is how many it has answered.
    Exited {
        worker: WorkerNumber,
        status: ExitStatus,
        requests: u64,
        out_of_memory: bool,
    },
    /// One of its requests has passed its time-out.
    Overdue {
        worker: WorkerNumber,
    },
    /// Its late requests have returned.
    Returned {
        worker: WorkerNumber,
    },
    /// It does not take up what is handed to it.
    Stuck {
        worker: WorkerNumber,
    },
    /// It has served its time: replace it without a gap.
    Retire {
        worker: WorkerNumber,
        reason: Retirement,
    },
    /// What the workers use now.
    Memory(Memory),
    /// Load the application anew, and replace all workers when that works.
    Reload,
    /// From now on this holds; the number of workers stays, or as close to it as these bounds allow if they are given.
    Adopt {
        policy: Policy,
        workers: Option<Bounds>,
    },
    /// From now on so many workers; `reason` where nobody has asked for it.
    Scale {
        workers: u32,
        reason: Option<Reason>,
    },
    /// Whether there may be no worker until [`Event::Called`].
    OnDemand(bool),
    /// A request waits, and there is no worker.
    Called,
    /// Finish what is going on, then end; the second time: quickly.
    StopGracefully,
    /// Break off what is going on and end; the second time: at once.
    StopQuickly,
    /// The time that [`super::Supervisor::wake_at`] asked for.
    Tick,
}

/// Why a healthy worker is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retirement {
    /// `--max-requests`
    Requests(u64),
    /// `--max-rss`, in bytes.
    Memory(u64),
    /// `--max-lifetime`
    Lifetime,
    /// Requests that nobody waits for any more, and that do not end, hold too many of its slots.
    Leaking,
    /// It fails its health checks.
    Sick,
    /// `monoceros restart-worker`
    Asked,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    StartZygote(GenerationNumber),
    Fork {
        worker: WorkerNumber,
        generation: GenerationNumber,
    },
    /// A worker is started for the requests that wait: let them wait for its boot.
    Wake,
    /// None could be started: refuse the requests that wait, and those of the next time.
    Refuse {
        pause: Duration,
    },
    /// Finish, then exit.
    Drain(WorkerNumber),
    /// Break off what is going on, then exit in order: a worker that drains, at the end of its time.
    Hasten(WorkerNumber),
    Kill(WorkerNumber),
    /// The process is gone for certain.
    Forget(WorkerNumber),
    /// And with it everything it forked.
    EndZygote(GenerationNumber),
    Say(Saying),
    Finish(Outcome),
}

/// What the operator is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Saying {
    /// The first worker can serve.
    Ready {
        interface: Interface,
    },
    WorkerReady {
        worker: WorkerNumber,
        pid: u32,
    },
    WorkerGone {
        worker: WorkerNumber,
        how: String,
        next: Option<Duration>,
    },
    WorkerBootFailed {
        failure: BootFailure,
        next: Duration,
    },
    BootTimeout {
        worker: WorkerNumber,
    },
    /// Its late threads were asked to return and have some time for it.
    Overdue {
        worker: WorkerNumber,
    },
    /// They have done so.
    Returned {
        worker: WorkerNumber,
    },
    /// They have not.
    Unreturned {
        worker: WorkerNumber,
    },
    Stuck {
        worker: WorkerNumber,
    },
    Retired {
        worker: WorkerNumber,
        reason: Retirement,
    },
    /// A worker that is replaced did not finish within the drain time-out.
    DrainOver {
        worker: WorkerNumber,
    },
    GraceOver {
        workers: u32,
    },
    /// The application was not imported in time.
    ZygoteLate {
        next: Duration,
    },
    ZygoteGone {
        status: String,
        next: Duration,
    },
    ForkFailed {
        message: String,
        next: Duration,
    },
    Scaled {
        from: u32,
        to: u32,
        reason: Option<Reason>,
    },
    /// None could be started for the requests that wait, which are refused; one that comes after this time tries again.
    NobodyCame {
        pause: Duration,
    },
    /// There is no memory for its replacement beside it.
    LeavesFirst {
        worker: WorkerNumber,
        memory: MemoryUse,
    },
    /// There is no memory for a worker that starts nevertheless, because only one serves, or none.
    BeyondBudget {
        memory: MemoryUse,
    },
    /// There is no memory for all workers that are wanted.
    FewerThanWanted {
        there: u32,
        wanted: u32,
        memory: MemoryUse,
    },
    /// The workers use more than they should.
    BudgetExceeded {
        memory: MemoryUse,
    },
    /// The first worker of a generation serves.
    Proven {
        generation: GenerationNumber,
    },
    /// Nothing serves; the next reload may help.
    FirstLoadFailed {
        generation: GenerationNumber,
        failure: BootFailure,
    },
    ReloadBegun {
        generation: GenerationNumber,
    },
    /// Every worker that serves is of this generation.
    ReloadDone {
        generation: GenerationNumber,
    },
    /// The generation before goes on serving.
    ReloadFailed {
        generation: GenerationNumber,
        failure: BootFailure,
    },
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Stopped,
    /// No worker ever served, and the application (or the interpreter) is why.
    BootFailed(BootFailure),
    /// The zygote ended before it could do anything.
    ZygoteFailed {
        status: String,
    },
    BootTimeout,
}

/// What the upstream reports when a link simply ended: the exit status will say more.
pub const LINK_ENDED: &str = "its process has ended";

/// An exit status in words.
pub fn describe(status: ExitStatus, out_of_memory: bool) -> String {
    match status {
        ExitStatus::Signal(9) if out_of_memory => "was killed by the kernel: memory ran out".to_owned(),
        ExitStatus::Code(0) => "exited by itself (code 0)".to_owned(),
        ExitStatus::Code(code) => format!("exited with code {code}"),
        ExitStatus::Signal(9) => "was killed (SIGKILL)".to_owned(),
        ExitStatus::Signal(11) => "crashed (SIGSEGV)".to_owned(),
        ExitStatus::Signal(6) => "aborted (SIGABRT)".to_owned(),
        ExitStatus::Signal(15) => "was terminated (SIGTERM)".to_owned(),
        ExitStatus::Signal(signal) => format!("was ended by signal {signal}"),
    }
}
