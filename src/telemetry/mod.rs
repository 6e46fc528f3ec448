//! Logs: what the program tells the operator.
//!
//! # Layout
//! - [`log`]: the program's own lines, and what the workers print
//! - [`access`]: one line per request, written off the request path
//! - [`clock`]: the time at the beginning of a line
//! - [`output`]: standard output and standard error, which nobody waits for

pub mod access;
pub mod clock;
pub mod log;
pub mod output;

pub use log::worker_output;
pub use output::OutputStream;

use std::path::PathBuf;

/// Settings of the logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `error`, `warn`, `info`, `debug`, `trace` (gunicorn: `loglevel`).
    pub level: Level,
    /// Where the access log goes; off by default (gunicorn: `accesslog`).
    pub access_log: AccessLog,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Level {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

/// Destination of the access log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum AccessLog {
    #[default]
    Off,
    /// `-` on the command line.
    StandardOutput,
    File(PathBuf),
}
