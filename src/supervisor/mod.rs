//! Keeps the workers alive.

pub mod python;

use monoceros_wire::zygote::WorkerSettings;
use std::path::PathBuf;
use std::time::Duration;

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
