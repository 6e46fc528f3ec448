//! Drain: stop accepting, finish what runs, until a deadline.

use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// The end that starts the drain and waits for it.
#[derive(Debug)]
pub struct Drain {
    sender: watch::Sender<Option<Ending>>,
}

/// How the end is to be.
#[derive(Debug, Clone, Copy)]
struct Ending {
    deadline: Instant,
    /// Clients that have nothing under way may still begin something for so long.
    patience: Duration,
}

/// For a client that has nothing under way when another process takes the listeners over. What it sends right now must not
/// meet a closed connection: its next answer tells it to come back by a new one (nginx: `keepalive_min_timeout`).
const PATIENCE_OF_REPLACED: Duration = Duration::from_secs(5);

/// The end that every accept loop, connection and tunnel holds while it lives: the drain is over when all are dropped.
#[derive(Debug, Clone)]
pub struct Shutdown {
    receiver: watch::Receiver<Option<Ending>>,
}

impl Drain {
    pub fn new() -> (Self, Shutdown) {
        let (sender, receiver) = watch::channel(None);
        (Self { sender }, Shutdown { receiver })
    }

    /// Everybody stops taking new work now and breaks off `grace` later.
    pub fn begin(&self, grace: Duration) {
        self.start(grace, Duration::ZERO);
    }

    /// The same; but another process takes new connections, so clients need not notice anything.
    pub fn begin_replaced(&self, grace: Duration) {
        self.start(grace, PATIENCE_OF_REPLACED.min(grace));
    }

    fn start(&self, grace: Duration, patience: Duration) {
        self.sender.send_replace(Some(Ending { deadline: Instant::now() + grace, patience }));
    }

    /// Waits until every [`Shutdown`] is dropped.
    pub async fn finished(&self) {
        self.sender.closed().await;
    }
}

impl Shutdown {
    /// Waits for the drain to begin; the result is the deadline. A vanished [`Drain`] means: now.
    pub async fn begun(&mut self) -> Instant {
        match self.receiver.wait_for(Option::is_some).await {
            Ok(ending) => ending.map_or_else(Instant::now, |ending| ending.deadline),
            Err(_) => Instant::now(),
        }
    }

    /// For how long a client that has nothing under way may still begin something; counts from the beginning of the drain.
    pub fn patience(&self) -> Duration {
        self.receiver.borrow().map_or(Duration::ZERO, |ending| ending.patience)
    }

    /// Whether the drain has begun.
    pub fn is_begun(&self) -> bool {
        self.receiver.borrow().is_some() || self.receiver.has_changed().is_err()
    }
}
