//! monoceros: one program in place of the nginx + gunicorn pair.
//!
//! # Layout
//! - [`app`]: the one place where components are built and joined; start order and stop order are its text
//! - [`cli`]: command line, subcommands, how errors look on a terminal
//! - [`config`]: flags, environment, file and defaults become the `Settings` of each component
//! - [`control`]: commands for a running server
//! - [`front`]: from the client's socket to the decision who answers
//! - [`upstream`]: from that decision to a worker's answer: queue, balance, exchange, fail-over
//! - [`supervisor`]: keeps the workers alive
//! - [`roster`]: who serves now; the supervisor publishes, the upstream reads
//! - [`telemetry`]: what the operator is told: log and access log
//! - [`trust`]: makes this machine accept the authority for development certificates
//! - [`sys`]: the system calls that need `unsafe` or have no safe wrapper

pub mod app;
pub mod cli;
pub mod config;
pub mod control;
pub mod front;
pub mod roster;
pub mod supervisor;
pub mod sys;
pub mod telemetry;
pub mod trust;
pub mod upstream;
