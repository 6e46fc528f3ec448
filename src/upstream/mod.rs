//! From the decision "the application answers" to a worker's answer.

pub mod balance;
pub mod budget;
mod cells;
pub mod checks;
pub mod conversation;
pub mod ejection;
pub mod error;
pub mod exchange;
pub mod failover;
pub mod fairness;
mod gauge;
pub mod link;
mod obituary;
pub mod on_demand;
pub mod pool;
mod probe;
mod queue;
#[cfg(test)]
pub(crate) mod rehearsal;
pub mod request;
mod retry;
pub mod running;
pub mod signs;
mod spool;
pub mod stall;
mod sweep;
pub mod timeouts;
mod vacancy;
mod warm_up;
pub mod watch;

use std::time::Duration;

/// Settings of the way to the workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Requests that may wait for a worker; one more is answered 503.
    pub queue_size: usize,
    /// Longest wait in the queue → 503.
    pub queue_timeout: Duration,
    /// Clients take turns in the queue, instead of first come, first served.
    pub queue_fairness: bool,
    /// An event loop that has not turned for so long, with requests in flight, is told of. Zero is never.
    pub stall_timeout: Duration,
    /// How long the application may take.
    pub timeouts: timeouts::Timeouts,
    /// When another worker is asked.
    pub failover: failover::Policy,
    /// Workers are asked now and then whether they are well.
    pub check: Option<checks::Check>,
    /// Response bytes kept in memory for a slow client before a temporary file takes over.
    pub response_memory: usize,
    /// Longest response that is taken off a WSGI worker for a slow client (nginx: `proxy_max_temp_file_size`).
    pub response_file_max: u64,
    /// Request bodies above this many bytes wait in a temporary file (nginx: `client_body_buffer_size`).
    pub body_memory: usize,
    /// Path prefixes whose request bodies are streamed to an ASGI application instead of being read first.
    pub stream_request: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            queue_size: 1024,
            queue_timeout: Duration::from_secs(10),
            queue_fairness: true,
            stall_timeout: Duration::from_secs(1),
            timeouts: timeouts::Timeouts::default(),
            failover: failover::Policy::default(),
            check: None,
            response_memory: 1 << 20,
            response_file_max: 1 << 30,
            body_memory: 64 << 10,
            stream_request: Vec::new(),
        }
    }
}
