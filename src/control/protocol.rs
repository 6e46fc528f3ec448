//! What is said on a control socket: one command, then replies until a last one. Each is a JSON object on a line of its
//! own, so that `socat` and ten lines of Python can speak it too.

use serde::{Deserialize, Serialize};

/// Longest command, in bytes.
pub const COMMAND_MAX: u64 = 4096;

/// What the server is told to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Command {
    Status,
    /// Tell where the workers are, or this one.
    Stacks {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        worker: Option<u32>,
    },
    /// Load the application anew and replace the workers.
    Reload,
    /// From now on so many workers.
    Scale {
        workers: Number,
    },
    /// Replace one worker, a new one first.
    RestartWorker {
        worker: u32,
    },
    /// Start the program's file anew and hand the listening sockets over to it.
    Upgrade,
    /// Be not ready, so that balancers send nothing more; everything is served nevertheless.
    Drain {
        on: bool,
        /// Stop gracefully after so many seconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stop_after: Option<f64>,
    },
    /// Everybody but those who are let in gets 503, from now on or no more.
    Maintenance {
        mode: Mode,
        /// In seconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after: Option<u64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
        /// Rules as in `--maintenance-bypass`, besides those of the configuration.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        bypass: Vec<String>,
    },
    /// Remove answers from the cache: one of these. Without any, tell what is in it.
    Cache {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        url: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prefix: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tag: Option<String>,
        #[serde(default)]
        all: bool,
    },
    Stop {
        /// Break off what is going on.
        #[serde(default)]
        quickly: bool,
    },
}

/// Of workers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Number {
    Fixed(u32),
    /// As in `--workers`: `2..8`.
    Range(String),
}

/// Of maintenance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    On,
    Off,
    /// Only tell.
    Status,
}

/// What the server answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Reply {
    /// It goes on; more follows.
    Progress { text: String },
    /// The answer to [`Command::Status`].
    Status(Box<Status>),
    /// The answer to [`Command::Cache`] that removes nothing.
    Cache(Cache),
    /// The answer to [`Command::Stacks`].
    Stacks { workers: Vec<WorkerStacks> },
    /// Done.
    Done { text: String },
    /// Not done. `detail` has lines of its own: a traceback.
    Failed {
        text: String,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        detail: String,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        hint: String,
    },
}

impl Reply {
    /// Nothing follows.
    pub fn is_last(&self) -> bool {
        !matches!(self, Self::Progress { .. })
    }
}

/// The whole server at one moment. Times are in seconds, memory in bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub pid: u32,
    pub app: String,
    pub directory: String,
    pub listening: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<Certificate>,
    pub uptime: f64,
    pub connections: usize,
    /// The load of the application that all workers should be of.
    pub generation: u32,
    pub workers_wanted: u32,
    /// Where that number follows the load: `2..8`, `0..8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers_range: Option<String>,
    /// There is no worker, for so long, and the next request starts one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<f64>,
    /// None could be started then: it is not tried again for so long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refuses_for: Option<f64>,
    /// Where there is a budget for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// Only some are let in.
    #[serde(default)]
    pub maintenance: bool,
    /// Requests that wait for a worker.
    pub queue: usize,
    /// What is in the cache, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<Cache>,
    pub workers: Vec<Worker>,
}

/// The cache of answers. Sizes are in bytes; what is counted is counted since the start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cache {
    pub size: usize,
    pub used: usize,
    pub answers: usize,
    /// Requests that were answered from it.
    pub hits: u64,
    /// Requests for which the application was asked.
    pub misses: u64,
    pub stored: u64,
    /// URLs that had to make room.
    pub evicted: u64,
}

/// A certificate that clients are shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// For whom it is.
    pub names: String,
    pub file: String,
    /// Its end, as RFC 3339 writes it.
    pub not_after: String,
}

/// Memory of all workers and zygotes together: each page that several of them have counts once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    pub budget: u64,
    /// For workers that boot at least what they will probably need.
    pub used: u64,
    /// What one more will probably need; zero while that is not known.
    pub one_more: u64,
}

/// One worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Worker {
    pub worker: u32,
    pub pid: Option<u32>,
    pub generation: u32,
    /// `booting`, `serving`, `ejected`, `retiring`, `draining` or `ending`.
    pub state: String,
    /// Since it was forked.
    pub age: f64,
    /// How many requests the application has answered.
    pub answered: u64,
    pub slots: u32,
    /// Requests that it holds.
    pub in_flight: u32,
    /// Resident memory, what it shares with the other workers included.
    pub rss: Option<u64>,
}

/// Where one worker is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerStacks {
    pub worker: u32,
    pub pid: Option<u32>,
    /// As in [`Worker`].
    pub state: String,
    /// Why there is less than there should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    pub threads: Vec<Stack>,
    /// Of asyncio, one for each request.
    pub tasks: Vec<Stack>,
}

/// Of one thread or one task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stack {
    pub name: String,
    /// What it serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RunningRequest>,
    /// The outermost first; none where no code of Python runs.
    pub frames: Vec<Frame>,
}

/// A request in the application.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunningRequest {
    pub method: String,
    pub path: String,
    /// Its `X-Request-ID`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Since the application was called, in seconds.
    pub since: f64,
}

/// A line of a stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    pub file: String,
    pub line: u32,
    pub function: String,
    /// Empty if it is not known.
    pub source: String,
}
