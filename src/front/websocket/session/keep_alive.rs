//! Pings: is the client still there? Decisions only; the session owns the timer.

use crate::front::websocket::Settings;
use std::time::Duration;
use tokio::time::Instant;

/// When a silent client is asked whether it is still there. Time is an argument.
#[derive(Debug)]
pub(super) struct KeepAlive {
    interval: Option<Duration>,
    timeout: Duration,
    last_heard: Instant,
    /// Set while a ping is unanswered. Anything the client sends answers it.
    answer_deadline: Option<Instant>,
}

/// What [`KeepAlive`] thinks of the client.
pub(super) enum Alive {
    Yes,
    Ask,
    No,
}

/// Far enough to be never.
const NEVER: Duration = Duration::from_hours(24 * 365);

impl KeepAlive {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            interval: settings.ping_interval,
            timeout: settings.ping_timeout,
            last_heard: Instant::now(),
            answer_deadline: None,
        }
    }

    pub(super) fn heard(&mut self, now: Instant) {
        self.last_heard = now;
        self.answer_deadline = None;
    }

    pub(super) fn next_deadline(&self) -> Instant {
        self.answer_deadline.unwrap_or(self.last_heard + self.interval.unwrap_or(NEVER))
    }

    /// `reading` is false while the worker's pace keeps the answer from being read: the client is not to blame then.
    pub(super) fn time_passed(&mut self, now: Instant, reading: bool) -> Alive {
        if now < self.next_deadline() {
            return Alive::Yes;
        }
        if self.answer_deadline.is_none() {
            self.answer_deadline = Some(now + self.timeout);
            Alive::Ask
        } else if reading {
            Alive::No
        } else {
            // Asked once more, because sending is how the end of a connection shows that is not read.
            self.answer_deadline = Some(now + self.timeout);
            Alive::Ask
        }
    }
}
