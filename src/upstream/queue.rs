//! The requests that wait for a worker.

use super::error::Cause;
use super::exchange::Exchange;
use super::fairness::Turns;
use super::request::Client;
use std::sync::Arc;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Queue {
    turns: Turns<Client, Arc<Exchange>>,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.turns.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// Lets a request wait. False when `size` requests wait already; `is_fair` makes room at the cost of the client that
    /// has the most of them.
    pub(super) fn admit(&mut self, exchange: &Arc<Exchange>, size: usize, is_fair: bool) -> bool {
        let client = if is_fair { exchange.request.client() } else { None };
        if self.turns.len() >= size {
            let Some(displaced) = self.turns.displace(client) else { return false };
            displaced.fail(Cause::QueueFull);
        }
        self.turns.push(client, Arc::clone(exchange));
        true
    }

    /// Puts requests back to the head, keeping their order. They may exceed the size: they were admitted.
    pub(super) fn put_first(&mut self, exchanges: Vec<Arc<Exchange>>) {
        for exchange in exchanges.into_iter().rev() {
            self.turns.push_first(exchange);
        }
    }

    /// Since when the next in turn waits, in nanoseconds of the monotonic clock.
    pub(super) fn waiting_since(&self) -> Option<u64> {
        Some(self.turns.first()?.queued_at())
    }

    /// The next in turn.
    pub(super) fn pop(&mut self) -> Option<Arc<Exchange>> {
        self.turns.pop()
    }

    /// Whether all that waits had its turn and is of this kind.
    pub(super) fn holds_only(&self, is_it: impl Fn(&Exchange) -> bool) -> bool {
        self.turns.hold_only_first(|exchange| is_it(exchange))
    }

    /// Its client has left.
    pub(super) fn remove(&mut self, exchange: &Arc<Exchange>) {
        self.turns.retain(|waiting| !Arc::ptr_eq(waiting, exchange));
    }

    /// Ends what waits for longer than `limit` nanoseconds; `since` tells from when that counts.
    pub(super) fn expire(&mut self, now: u64, limit: u64, since: impl Fn(u64) -> u64) {
        if self.is_empty() {
            return;
        }
        self.turns.retain(|exchange| {
            let is_expired = now.saturating_sub(since(exchange.queued_at())) > limit;
            if is_expired {
                exchange.fail(Cause::QueueTimeout);
            }
            !is_expired
        });
    }

    /// Ends everything that waits: there will be no worker for it.
    pub(super) fn fail_all(mut self, cause: Cause) {
        while let Some(exchange) = self.pop() {
            exchange.fail(cause);
        }
    }
}
