//! What can go wrong between the front and the workers.

/// How far a request got. Together with the method's idempotence it decides whether another worker may have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reached {
    /// Waiting in the queue.
    Queued,
    /// Handed to a worker, the application was not called.
    Handed,
    /// The application was called.
    Entered,
    /// The head of the answer was received.
    Answering,
}

/// Why there is no (complete) answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The worker process ended.
    WorkerDied,
    /// The application raised.
    Raised,
    /// The application returned without a complete answer.
    Incomplete,
    /// The worker cannot serve this kind of request (WebSocket on WSGI).
    Unsupported,
    /// As many requests wait as may.
    QueueFull,
    /// Waited too long for a worker.
    QueueTimeout,
    /// The server is shutting down, or no worker can be had.
    Unavailable,
    /// The worker that it waited for could not be started; the next try is after so many seconds.
    BootFailed { seconds: u32 },
    /// The application took too long.
    Timeout,
    /// The application answered with this status, but its answer was a sign to ask another worker (`--retry-on`).
    Unwanted(u16),
    /// The request does not fit the wire (a header field over 64 KiB).
    TooLarge,
}

/// What went wrong between the front and the workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{cause:?} after the request was {reached:?}")]
pub struct UpstreamError {
    pub cause: Cause,
    pub reached: Reached,
    /// Number of the worker, when one was involved.
    pub worker: Option<u32>,
}
