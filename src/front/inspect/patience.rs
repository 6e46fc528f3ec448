//! How long a client may take. Each timer is set once and looks, when it goes off, whether something has happened
//! meanwhile: setting it anew for every request would cost more than the whole gate.

use crate::front::limits;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// The clocks of one connection.
#[derive(Debug)]
pub(super) struct Patience {
    header_timeout: Duration,
    idle_timeout: Duration,
    send_timeout: Duration,
    pub(super) last_activity: Instant,
    send_blocked: Option<Instant>,
    read_timer: Option<Pin<Box<Sleep>>>,
    send_timer: Option<Pin<Box<Sleep>>>,
}

/// What a connection waits for while nothing is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waiting {
    /// The rest of what the client began at this time.
    Rest(Instant),
    /// The client's next request.
    Idle,
    /// Our own answer: the client has all the time it takes us.
    Ourselves,
}

impl Patience {
    pub(super) fn new(limits: &limits::Settings) -> Self {
        Self {
            header_timeout: limits.header_timeout,
            idle_timeout: limits.keep_alive_timeout,
            send_timeout: limits.send_timeout,
            last_activity: Instant::now(),
            send_blocked: None,
            read_timer: None,
            send_timer: None,
        }
    }

    /// Ready when the client has had its time.
    pub(super) fn poll_waiting(&mut self, context: &mut Context<'_>, waiting: Waiting) -> Poll<()> {
        let deadline = match waiting {
            Waiting::Rest(begun) => Some(begun + self.header_timeout),
            Waiting::Idle => Some(self.last_activity + self.idle_timeout),
            // The timer goes on: idleness begins without a read, so nobody would come by to set it.
            Waiting::Ourselves => None,
        };
        let glance = self.idle_timeout;
        let timer = self.read_timer.get_or_insert_with(|| {
            Box::pin(tokio::time::sleep_until(deadline.unwrap_or_else(|| Instant::now() + glance)))
        });
        if let Some(deadline) = deadline
            && timer.deadline() > deadline
        {
            timer.as_mut().reset(deadline);
        }
        loop {
            ready!(timer.as_mut().poll(context));
            let now = Instant::now();
            match deadline {
                Some(deadline) if now >= deadline => {
                    self.read_timer = None;
                    return Poll::Ready(());
                }
                Some(deadline) => timer.as_mut().reset(deadline),
                None => timer.as_mut().reset(now + glance),
            }
        }
    }

    /// To be called when a write is blocked: ready with an error when the client has taken nothing for too long.
    pub(super) fn poll_blocked(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let deadline = *self.send_blocked.get_or_insert_with(Instant::now) + self.send_timeout;
        let timer = self.send_timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        loop {
            ready!(timer.as_mut().poll(context));
            if Instant::now() >= deadline {
                return Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "the client takes no bytes"));
            }
            timer.as_mut().reset(deadline);
        }
    }

    /// To be called when a write went through.
    pub(super) fn unblocked(&mut self) {
        self.send_blocked = None;
    }
}
