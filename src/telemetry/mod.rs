//! Logs: what the program tells the operator.

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

/// Which output of a worker a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputStream {
    Stdout,
    Stderr,
}

/// Passes a line on that a worker (or, without number, the zygote) has printed.
pub fn worker_output(worker: Option<u32>, stream: OutputStream, line: &str) {
    let _ = (worker, stream, line);
}
