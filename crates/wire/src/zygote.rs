//! Messages between the supervisor and a zygote, the single-threaded Python process that forks workers.
//!
//! The control socket is `SOCK_SEQPACKET`: one JSON message per packet, descriptors beside it. Few messages, none on the
//! request path, so they are made for reading.

use crate::sys;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Longest control message, in bytes: a boot failure with a long traceback fits.
pub const MESSAGE_MAX: usize = 192 << 10;

/// Longest traceback passed on, in bytes; longer ones lose their middle.
pub const TRACEBACK_MAX: usize = 64 << 10;

/// The environment variable with the number of the zygote's control socket.
pub const CONTROL_DESCRIPTOR_VARIABLE: &str = "MONOCEROS_CONTROL_FD";

/// Which interface the application speaks, as asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum InterfaceChoice {
    #[default]
    Auto,
    Wsgi,
    Asgi,
}

/// The event loop of an ASGI worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum LoopChoice {
    /// uvloop when it can be imported, else asyncio.
    #[default]
    Auto,
    Asyncio,
    Uvloop,
}

/// Whether an ASGI application's lifespan runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum LifespanChoice {
    /// Try; an application that raises on the lifespan scope simply has none.
    #[default]
    Auto,
    On,
    Off,
}

/// Everything a worker has to know about the application, sent once to the zygote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerSettings {
    /// `module`, `module:attribute` or `module:factory()`.
    pub app: String,
    pub interface: InterfaceChoice,
    /// The attribute is a factory: call it without arguments to get the application.
    pub factory: bool,
    /// Put before `sys.path`, in this order. The working directory was set by the supervisor.
    pub python_path: Vec<String>,
    /// Concurrent WSGI requests per worker.
    pub threads: u32,
    /// Concurrent ASGI requests, WebSocket connections among them, per worker.
    pub concurrency: u32,
    /// Import the application in the zygote, before the first fork.
    pub preload: bool,
    pub event_loop: LoopChoice,
    pub lifespan: LifespanChoice,
    /// Prefix under which the application is mounted: `SCRIPT_NAME`, `root_path`. Empty or `/prefix`.
    pub root_path: String,
    /// `SERVER_SOFTWARE`.
    pub server_software: String,
    /// There is more than one worker process (`wsgi.multiprocess`).
    pub multiprocess: bool,
}

/// Supervisor → zygote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "do")]
pub enum Command {
    /// The first message.
    Configure { version: u32, settings: WorkerSettings },
    /// Fork a worker. Descriptors: link socket, page file, standard output, standard error, and a pipe for what it tells
    /// when it gets [`SIGNAL_STACKS`] or [`SIGNAL_DUMP`].
    Fork { worker: u32 },
    /// Send a signal to a worker that this zygote forked. Ignored when it is gone.
    Signal { worker: u32, signal: i32 },
    /// End all workers at once and exit. End of file on the control socket means the same.
    Exit,
}

/// Zygote → supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum Event {
    /// The first message: the extension is loaded in this interpreter.
    Started {
        version: u32,
        pid: u32,
        python: String,
        executable: String,
    },
    /// Ready to fork (with `preload`: the application is imported).
    Loaded,
    /// With `preload`: the application could not be imported. The zygote exits.
    BootFailed {
        failure: crate::message::BootFailure,
    },
    Forked {
        worker: u32,
        pid: u32,
    },
    /// `fork` failed.
    ForkFailed {
        worker: u32,
        message: String,
    },
    /// A worker has ended and was reaped.
    Exited {
        worker: u32,
        pid: u32,
        status: ExitStatus,
    },
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitStatus {
    Code(i32),
    Signal(i32),
}

/// Tells a worker to write its Python stacks into its pipe, as one line of JSON, and to ask the threads to return that are
/// marked in its page. A real-time signal (SIGRTMAX-14), so that it is no other's; obeyed when the interpreter gets to it.
pub const SIGNAL_STACKS: i32 = 50;

/// Tells a worker to write the stacks of its threads as `faulthandler` does (SIGRTMAX-13): without the interpreter's help,
/// so also when it hangs in native code.
pub const SIGNAL_DUMP: i32 = 51;

/// Exit code of a worker or zygote that could not load the application (gunicorn: `APP_LOAD_ERROR`).
pub const EXIT_APP_LOAD: i32 = 4;
/// Exit code of a worker whose link broke or spoke nonsense.
pub const EXIT_LINK: i32 = 5;

/// Sends one message with its descriptors.
pub fn send_message(
    socket: BorrowedFd<'_>,
    message: &impl Serialize,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    sys::send(socket, &bytes, descriptors).map(|_| ())
}

/// Receives one message with its descriptors; `None` at the end of the socket.
pub fn receive_message<M: DeserializeOwned>(socket: impl AsFd) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
    let Some((bytes, descriptors)) = sys::receive_packet(socket.as_fd(), MESSAGE_MAX)? else { return Ok(None) };
    Ok(Some((serde_json::from_slice(&bytes)?, descriptors)))
}
