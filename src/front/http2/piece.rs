//! Bytes of an answer inside h2, counted until they have gone out.

use bytes::{Buf, Bytes};
use futures_util::task::AtomicWaker;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

/// What h2 gets to send. It drops a piece when the last byte was written to the connection, or when the stream ended.
#[derive(Debug, Default)]
pub(in crate::front) struct Piece {
    bytes: Bytes,
    delivery: Option<Arc<Delivery>>,
}

/// How much of what h2 got of one stream has gone out.
#[derive(Debug, Default)]
pub(super) struct Delivery {
    handed: AtomicU64,
    gone: AtomicU64,
    waker: AtomicWaker,
}

impl Piece {
    /// A piece that nobody waits for.
    pub(super) fn uncounted(bytes: Bytes) -> Self {
        Self { bytes, delivery: None }
    }

    pub(super) fn new(bytes: Bytes, delivery: &Arc<Delivery>) -> Self {
        delivery.handed.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Self { bytes, delivery: Some(Arc::clone(delivery)) }
    }

    fn gone(&self, count: usize) {
        if let Some(delivery) = &self.delivery {
            let gone = delivery.gone.fetch_add(count as u64, Ordering::AcqRel) + count as u64;
            if gone == delivery.handed.load(Ordering::Relaxed) {
                delivery.waker.wake();
            }
        }
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        self.gone(count);
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        if !self.bytes.is_empty() {
            self.gone(self.bytes.len());
        }
    }
}

impl Delivery {
    /// Ready when nothing is left inside h2.
    pub(super) fn poll_done(&self, context: &Context<'_>) -> Poll<()> {
        let is_done = || self.gone.load(Ordering::Acquire) == self.handed.load(Ordering::Relaxed);
        if is_done() {
            return Poll::Ready(());
        }
        self.waker.register(context.waker());
        if is_done() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Changes whenever the client has granted or taken something.
    pub(super) fn progress(&self) -> u64 {
        self.handed.load(Ordering::Relaxed) + self.gone.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    #[test]
    fn a_piece_counts_until_it_is_written_or_dropped() {
        let context = Context::from_waker(Waker::noop());
        let delivery = Arc::new(Delivery::default());
        assert!(delivery.poll_done(&context).is_ready());
        let mut written = Piece::new(Bytes::from_static(b"written"), &delivery);
        let dropped = Piece::new(Bytes::from_static(b"dropped"), &delivery);
        assert!(delivery.poll_done(&context).is_pending());
        let before = delivery.progress();
        written.advance(3);
        assert_ne!(delivery.progress(), before);
        written.advance(4);
        drop(written);
        assert!(delivery.poll_done(&context).is_pending());
        drop(dropped);
        assert!(delivery.poll_done(&context).is_ready());
    }
}
