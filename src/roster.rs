//! Who serves now: the meeting point of the supervisor, which owns the processes, and the upstream, which owns the
//! links to them. Neither knows the other; both know these messages.

use monoceros_wire::message::{BootFailure, Interface};
use monoceros_wire::page::Page;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Number of a worker, never used twice in the life of the program.
pub type WorkerNumber = u32;

/// A worker that was forked: its link exists, it may still be importing the application.
#[derive(Debug)]
pub struct Member {
    pub worker: WorkerNumber,
    /// Our end of the socketpair.
    pub socket: OwnedFd,
    /// The supervisor keeps a hand on it: it tells how much the worker has answered.
    pub page: Arc<Page>,
    pub warm_up: WarmUp,
}

/// What a new worker has to answer, with 2xx or 3xx, before it counts as ready.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WarmUp {
    /// Paths, which may have a query.
    pub targets: Vec<String>,
    /// From its fork.
    pub timeout: Duration,
}

/// Supervisor → upstream.
#[derive(Debug)]
pub enum Notice {
    Joined(Member),
    /// Hand nothing more to this worker; tell it to finish and exit when it holds nothing.
    Drain(WorkerNumber),
    /// The process is gone (its link may say so earlier or later).
    Gone(WorkerNumber),
    /// Whether to report measurements.
    Measure(bool),
    /// Whether there may be no worker until a request calls one ([`Report::Called`]).
    OnDemand(bool),
    /// A worker is started for the requests that wait: the time of its boot is not theirs.
    Waking,
    /// None could be started. Those that wait are refused, and those that come in the next time too.
    Refuse(Duration),
}

/// What the pool has seen since its last report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Measurement {
    /// Since the last report, at most a quarter of a second or so: when the pool begins to work, time without work is
    /// not reported.
    pub span: Duration,
    /// Requests that came.
    pub arrived: u32,
    /// Answers of whose requests it is known how long the application took, and how long that was together.
    pub answered: u32,
    pub service: Duration,
    /// Slots of serving workers that are in use now.
    pub busy: u32,
    /// Requests that wait now.
    pub queued: u32,
    /// The longest wait for a slot: of those that wait, and of those that got one.
    pub waited: Duration,
    /// Something of a client came, waits or runs, or a WebSocket is open. Known only where there may be no worker.
    pub is_used: bool,
}

/// Upstream → supervisor.
#[derive(Debug)]
pub enum Report {
    Ready {
        worker: WorkerNumber,
        interface: Interface,
        slots: u32,
    },
    BootFailed {
        worker: WorkerNumber,
        failure: BootFailure,
    },
    /// It has loaded the application, but did not answer a warm-up request as it should.
    Unfit {
        worker: WorkerNumber,
        failure: BootFailure,
    },
    /// The link broke, or the worker spoke nonsense; `reason` says which.
    LinkLost {
        worker: WorkerNumber,
        reason: String,
    },
    /// Requests that have just passed their time-out. Each is told once; those of a WSGI worker are to be asked to return.
    Late {
        worker: WorkerNumber,
        requests: Vec<LateRequest>,
    },
    /// What was [`Report::Overdue`] is so no longer: its threads have returned.
    Returned {
        worker: WorkerNumber,
    },
    /// A request of this worker has passed its time-out and its client was told; or a WSGI thread is still in an
    /// application that nobody has waited for since then. Said again as long as it lasts.
    Overdue {
        worker: WorkerNumber,
    },
    /// It has a free slot and has taken up nothing of what was handed to it for a whole time-out; or its event loop has
    /// not turned for so long. Said again as long as it lasts.
    Stuck {
        worker: WorkerNumber,
    },
    /// The event loop of this worker has not turned for `duration`, with so many requests in flight. Once per stall.
    Stalled {
        worker: WorkerNumber,
        duration: Duration,
        requests: u32,
        /// [`Page::turns`] meanwhile: another number later means that the stall is over.
        turns: u64,
    },
    /// What was [`Report::Stalled`] goes on, after so long.
    Resumed {
        worker: WorkerNumber,
        duration: Duration,
    },
    /// At least half of the slots of this ASGI worker are held by applications that were told that nobody waits for
    /// them, a whole time-out ago. Its event loop runs; the other requests are well. Said again as long as it lasts.
    Leaking {
        worker: WorkerNumber,
        lost: u32,
        slots: u32,
    },
    /// It fails its health checks for long, while others are well. Said once.
    Sick {
        worker: WorkerNumber,
    },
    /// What was asked for with [`Notice::Measure`]: four times a second while there is something to tell.
    Measured(Measurement),
    /// Requests wait and there is no worker ([`Notice::OnDemand`]). Said again as long as it lasts.
    Called,
}

/// A request that has passed its time-out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LateRequest {
    /// Method and path.
    pub label: String,
    /// What the client sent as `X-Request-ID`, made safe for the log.
    pub id: Option<String>,
    /// Since the application was entered.
    pub duration: Duration,
    pub stream: u32,
    /// The thread that runs it, as `threading.get_ident()` names it.
    pub thread: u64,
    pub is_asgi: bool,
    pub end: LateEnd,
}

/// What became of the client of a late request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LateEnd {
    /// It got 504.
    Answered,
    /// The answer had begun, and nothing more of it came.
    CutOff,
    /// It did not wait.
    HadLeft,
}

/// The supervisor's end.
#[derive(Debug)]
pub struct SupervisorEnd {
    pub notices: mpsc::UnboundedSender<Notice>,
    pub reports: mpsc::UnboundedReceiver<Report>,
}

/// The upstream's end.
#[derive(Debug)]
pub struct UpstreamEnd {
    pub notices: mpsc::UnboundedReceiver<Notice>,
    pub reports: mpsc::UnboundedSender<Report>,
}

/// Makes the two ends. Unbounded, because both sides send only a handful of messages per worker's life.
pub fn pair() -> (SupervisorEnd, UpstreamEnd) {
    let (notice_sender, notice_receiver) = mpsc::unbounded_channel();
    let (report_sender, report_receiver) = mpsc::unbounded_channel();
    (
        SupervisorEnd { notices: notice_sender, reports: report_receiver },
        UpstreamEnd { notices: notice_receiver, reports: report_sender },
    )
}
