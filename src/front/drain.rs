//! Drain: stop accepting, finish what runs, until a deadline.

use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// The end that starts the drain and waits for it.
#[derive(Debug)]
pub struct Drain {
    sender: watch::Sender<Option<Instant>>,
}

/// The end that every accept loop, connection and tunnel holds while it lives: the drain is over when all are dropped.
#[derive(Debug, Clone)]
pub struct Shutdown {
    receiver: watch::Receiver<Option<Instant>>,
}

impl Drain {
    pub fn new() -> (Self, Shutdown) {
        let (sender, receiver) = watch::channel(None);
        (Self { sender }, Shutdown { receiver })
    }

    /// Everybody stops taking new work now and breaks off `grace` later.
    pub fn begin(&self, grace: Duration) {
        self.sender.send_replace(Some(Instant::now() + grace));
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
            Ok(deadline) => (*deadline).unwrap_or_else(Instant::now),
            Err(_) => Instant::now(),
        }
    }

    /// Whether the drain has begun.
    pub fn is_begun(&self) -> bool {
        self.receiver.borrow().is_some() || self.receiver.has_changed().is_err()
    }
}
