//! What the two ends of one connection tell each other: the byte stream in front of hyper or h2, the service behind
//! it.

use super::body::{Body, BodyError};
use super::gate::Refused;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker, ready};

/// Shared by both ends. One task drives both.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// HTTP/1: requests that went in to hyper.
    pub(super) opened: AtomicU64,
    /// HTTP/1: requests whose answer hyper has taken whole, or that are gone.
    finished: AtomicU64,
    /// Requests that reached the service.
    called: AtomicU64,
    /// The head that was refused; there is one at most, as nothing is read after it.
    pub(super) refused: OnceLock<Refused>,
    /// The number of the request whose upgrade is being decided, or zero.
    pub(super) undecided: AtomicU64,
    decision: AtomicU8,
    reader: Mutex<Option<Waker>>,
    /// The connection is to end after what it has taken in.
    closing: AtomicBool,
    /// An informational response waits to be written.
    has_hint: AtomicBool,
    hint: Mutex<Vec<u8>>,
    /// How often everything that hyper had was written; counted for HTTP/1 only.
    flushes: AtomicU64,
    flush_waiter: Mutex<Option<Waker>>,
    has_flush_waiter: AtomicBool,
    /// HTTP/2: a stream is open, with what h2 has still to send of it.
    has_streams: AtomicBool,
    /// HTTP/2: the client is to take bytes that were written already.
    is_blocked: AtomicBool,
}

/// How an upgrade request was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    Accepted,
    Declined,
}

const OPEN: u8 = 0;
const ACCEPTED: u8 = 1;
const DECLINED: u8 = 2;

impl Ledger {
    /// HTTP/1: no request is being answered.
    pub(super) fn is_idle(&self) -> bool {
        self.opened.load(Ordering::Relaxed) <= self.finished.load(Ordering::Acquire)
    }

    pub(super) fn set_streams(&self, open: bool) {
        self.has_streams.store(open, Ordering::Relaxed);
    }

    pub(super) fn has_streams(&self) -> bool {
        self.has_streams.load(Ordering::Relaxed)
    }

    pub(super) fn set_blocked(&self, blocked: bool) {
        self.is_blocked.store(blocked, Ordering::Relaxed);
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.is_blocked.load(Ordering::Relaxed)
    }

    /// The number of the request that reaches the service now, from 1.
    pub(super) fn call(&self) -> u64 {
        self.called.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    /// Gives an informational response to the stream, which writes it when nothing else is being written.
    pub(super) fn hint(&self, bytes: &[u8]) {
        self.hint.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        self.has_hint.store(true, Ordering::Release);
    }

    /// What [`Ledger::hint`] was given since the last call.
    pub(super) fn take_hint(&self) -> Vec<u8> {
        if !self.has_hint.swap(false, Ordering::Acquire) {
            return Vec::new();
        }
        std::mem::take(&mut *self.hint.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Everything that hyper had was written.
    pub(super) fn flushed(&self) {
        self.flushes.fetch_add(1, Ordering::Relaxed);
        if self.has_flush_waiter.load(Ordering::Relaxed) {
            self.has_flush_waiter.store(false, Ordering::Relaxed);
            let waiter = self.flush_waiter.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(waiter) = waiter {
                waiter.wake();
            }
        }
    }

    /// Ready when a flush has followed number `seen`.
    fn poll_flushed(&self, context: &Context<'_>, seen: u64) -> Poll<()> {
        if self.flushes.load(Ordering::Relaxed) > seen {
            return Poll::Ready(());
        }
        *self.flush_waiter.lock().unwrap_or_else(PoisonError::into_inner) = Some(context.waker().clone());
        self.has_flush_waiter.store(true, Ordering::Relaxed);
        Poll::Pending
    }

    /// Tells the reader how the request `number` was answered, if it waits for that one.
    pub(super) fn decide(&self, number: u64, decision: Decision) {
        if self.undecided.load(Ordering::Relaxed) != number {
            return;
        }
        let decision = if decision == Decision::Accepted { ACCEPTED } else { DECLINED };
        self.decision.store(decision, Ordering::Release);
        let reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// The decision, once; until then the reader is woken when it comes.
    pub(super) fn take_decision(&self, context: &Context<'_>) -> Option<Decision> {
        *self.reader.lock().unwrap_or_else(PoisonError::into_inner) = Some(context.waker().clone());
        match self.decision.swap(OPEN, Ordering::Acquire) {
            ACCEPTED => Some(Decision::Accepted),
            DECLINED => Some(Decision::Declined),
            _ => None,
        }
    }
}

/// One request, until its answer is handed over.
#[derive(Debug)]
pub(super) struct Exchange {
    ledger: Arc<Ledger>,
}

impl Exchange {
    pub(super) fn new(ledger: &Arc<Ledger>) -> Self {
        Self { ledger: Arc::clone(ledger) }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.ledger.finished.fetch_add(1, Ordering::Release);
    }
}

/// A response body that ends its exchange when hyper drops it.
///
/// When a body fails, hyper drops the connection with all that it has not written yet, the head perhaps, and a client
/// may send its request again to a server that never answered. So over HTTP/1 the failure waits for a flush.
#[derive(Debug)]
pub(super) struct Tracked {
    pub(super) body: Body,
    exchange: Exchange,
    flushes_first: bool,
    /// Why the body has failed, and the flushes up to then.
    failure: Option<(BodyError, u64)>,
}

impl Tracked {
    pub(super) fn new(body: Body, exchange: Exchange, http1: bool) -> Self {
        Self { body, exchange, flushes_first: http1, failure: None }
    }
}

impl HttpBody for Tracked {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if this.failure.is_none() {
            let polled = Pin::new(&mut this.body).poll_frame(context);
            match polled {
                Poll::Ready(Some(Err(error))) if this.flushes_first => {
                    this.failure = Some((error, this.exchange.ledger.flushes.load(Ordering::Relaxed)));
                    // With nothing left to write, hyper flushes only when it is polled anew.
                    context.waker().wake_by_ref();
                }
                polled => return polled,
            }
        }
        let Some((_, seen)) = this.failure else { return Poll::Ready(None) };
        ready!(this.exchange.ledger.poll_flushed(context, seen));
        Poll::Ready(this.failure.take().map(|(error, _)| Err(error)))
    }

    fn is_end_stream(&self) -> bool {
        self.failure.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
