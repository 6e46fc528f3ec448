//! What the front holds of a request that is on its way: the events of its answer, and a sender for what follows it.

use super::error::UpstreamError;
use super::exchange::{Event, Exchange};
use super::pool::Pool;
use crate::roster::WorkerNumber;
use monoceros_wire::frame::{Kind, StreamId};
use monoceros_wire::sys::monotonic_now;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// One request's way through the pool, seen by the front. Dropping it tells everybody that nobody waits any more.
#[derive(Debug)]
pub struct Conversation {
    exchange: Arc<Exchange>,
    pool: Arc<Pool>,
}

impl Conversation {
    pub(super) fn new(exchange: Arc<Exchange>, pool: Arc<Pool>) -> Self {
        Self { exchange, pool }
    }

    /// The next event.
    pub fn poll_next(&self, context: &mut Context<'_>) -> Poll<Event> {
        self.exchange.poll_next(context).map(|(event, grant)| {
            if let Some((binding, amount)) = grant {
                binding.link.send(binding.stream, Kind::Window, 0, &amount.to_le_bytes());
            }
            event
        })
    }

    /// The next event.
    pub async fn next(&self) -> Event {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// Gives the request to another worker if this first event of its answer is a sign to do so (`--retry-on`). True: the
    /// event is void, another one will come.
    pub fn goes_elsewhere(&mut self, event: &Event) -> bool {
        let again = self.pool.reconsider(&self.exchange, event);
        let goes = again.is_some();
        if let Some(again) = again {
            self.exchange = again;
        }
        goes
    }

    /// How often it was given to another worker after the application was entered.
    pub fn retries(&self) -> u32 {
        self.exchange.retries()
    }

    /// A handle that sends streamed body or messages, for another task.
    pub fn sender(&self) -> Sender {
        Sender { exchange: Arc::clone(&self.exchange) }
    }

    /// The stream of the request, if an application is at it now.
    pub(super) fn inside(&self) -> Option<StreamId> {
        let binding = self.exchange.binding()?;
        binding.link.is_inside(binding.stream).then_some(binding.stream)
    }

    /// The worker that answers, or answered last.
    pub fn worker(&self) -> Option<WorkerNumber> {
        self.exchange.last_worker()
    }

    /// How long the request waited for the application, once the answer has begun.
    pub fn waited(&self) -> Option<Duration> {
        self.exchange.waited()
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        if !self.exchange.is_settled() {
            self.pool.abandon(&self.exchange);
        }
    }
}

/// Sends what follows a request: the pieces of a streamed body, or WebSocket messages.
#[derive(Debug, Clone)]
pub struct Sender {
    exchange: Arc<Exchange>,
}

impl Sender {
    /// Sends bytes as frames of `kind`, waiting for the worker to take them. `end` goes with the last frame, `flags`
    /// with every one.
    pub async fn send(&self, kind: Kind, flags: u8, end: u8, mut bytes: bytes::Bytes) -> Result<(), UpstreamError> {
        loop {
            let wanted = bytes.len().min(monoceros_wire::DATA_CHUNK_MAX) as u32;
            let (binding, amount) = poll_fn(|context| self.exchange.poll_credit(context, wanted)).await?;
            let piece = bytes.split_to(amount as usize);
            let last = if bytes.is_empty() { end } else { 0 };
            binding.link.send(binding.stream, kind, flags | last, &piece);
            self.exchange.note_body(monotonic_now());
            if bytes.is_empty() {
                return Ok(());
            }
        }
    }

    /// Sends one short frame as soon as the request is with a worker, outside the flow control.
    pub async fn send_now(&self, kind: Kind, payload: Vec<u8>) -> Result<(), UpstreamError> {
        let (binding, _) = poll_fn(|context| self.exchange.poll_credit(context, 0)).await?;
        binding.link.send(binding.stream, kind, 0, &payload);
        Ok(())
    }
}
