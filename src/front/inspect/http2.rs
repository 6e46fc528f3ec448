//! The byte stream under an HTTP/2 connection. h2 checks frames and streams well; what is added here is the count of
//! frames that are sent for the sake of flooding, and the time-outs that hyper has none for.

use super::linger::Linger;
use super::patience::{Patience, Waiting};
use crate::front::accept::Presence;
use crate::front::exchange::Ledger;
use crate::front::gate::frames::{Flood, Watch};
use crate::front::limits;
use crate::front::transport::Transport;
use bytes::BytesMut;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// RFC 9113 §7: the client is generating excessive load.
const ENHANCE_YOUR_CALM: u8 = 0xB;
const GOAWAY: u8 = 0x7;

/// The stream.
#[derive(Debug)]
pub(in crate::front) struct Http2Stream {
    transport: Transport,
    watch: Watch,
    ledger: Arc<Ledger>,
    patience: Patience,
    /// What was read to tell the protocol.
    read: BytesMut,
    begun: Instant,
    /// When the frame or header block began whose rest is missing.
    inside_since: Option<Instant>,
    /// GOAWAY was asked for; a client that does not go then is cut off.
    leaving: bool,
    linger: Option<Linger>,
    _presence: Presence,
}

impl Http2Stream {
    /// Over a connection from which `read` was read already.
    pub(in crate::front) fn new(
        transport: Transport,
        read: BytesMut,
        limits: &limits::Settings,
        ledger: Arc<Ledger>,
        presence: Presence,
    ) -> Self {
        Self {
            transport,
            watch: Watch::default(),
            ledger,
            patience: Patience::new(limits),
            read,
            begun: Instant::now(),
            inside_since: None,
            leaving: false,
            linger: None,
            _presence: presence,
        }
    }

    fn received(&mut self, bytes: &[u8], context: &mut Context<'_>) -> io::Result<()> {
        let now = Instant::now();
        if let Err(flood) = self.watch.received(bytes, now - self.begun) {
            tracing::info!(%flood, "an HTTP/2 client floods");
            return Err(self.calm(flood, context));
        }
        if self.watch.opened() != self.ledger.opened.swap(self.watch.opened(), Ordering::Relaxed) {
            self.patience.last_activity = now;
        }
        self.inside_since = self.watch.is_inside_message().then(|| self.inside_since.unwrap_or(now));
        Ok(())
    }

    /// Sends GOAWAY if it can go out now. One attempt: a client that floods and does not read is only cut off.
    fn calm(&mut self, flood: Flood, context: &mut Context<'_>) -> io::Error {
        if self.watch.may_insert() {
            let mut frame = [0, 0, 8, GOAWAY, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ENHANCE_YOUR_CALM];
            frame[9..13].copy_from_slice(&self.watch.last_stream().to_be_bytes());
            let _ = Pin::new(&mut self.transport).poll_write(context, &frame);
            let _ = Pin::new(&mut self.transport).poll_flush(context);
        }
        io::Error::other(flood)
    }

    /// Nothing to read: has the client had its time?
    fn poll_patience(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let waiting = match self.inside_since {
                Some(since) => Waiting::Rest(since),
                None if self.leaving || self.ledger.is_idle() => Waiting::Idle,
                None if self.ledger.waits_for_client() => Waiting::Taking,
                None => Waiting::Ourselves,
            };
            ready!(self.patience.poll_waiting(context, waiting));
            if waiting != Waiting::Idle || self.leaving {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            // First a GOAWAY and the time to read it, since a request may be on its way.
            self.ledger.close();
            self.leaving = true;
            self.patience.last_activity = Instant::now();
        }
    }

    fn sent<'bytes>(
        &mut self,
        context: &mut Context<'_>,
        outcome: Poll<io::Result<usize>>,
        slices: impl Iterator<Item = &'bytes [u8]>,
    ) -> Poll<io::Result<usize>> {
        let Poll::Ready(outcome) = outcome else {
            return self.patience.poll_blocked(context).map(Err);
        };
        self.patience.unblocked();
        let mut count = outcome?;
        let before = self.watch.progress();
        let sent = count;
        for slice in slices {
            let taken = count.min(slice.len());
            self.watch.sent(&slice[..taken]);
            count -= taken;
            if count == 0 {
                break;
            }
        }
        // Only answers count: acknowledging the client's pings must not keep a stalled connection alive.
        if self.watch.progress() != before {
            self.patience.last_activity = Instant::now();
        }
        Poll::Ready(Ok(sent))
    }
}

impl AsyncRead for Http2Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.read.is_empty() {
            let count = this.read.len().min(buffer.remaining());
            let bytes = this.read.split_to(count);
            this.received(&bytes, context)?;
            buffer.put_slice(&bytes);
            return Poll::Ready(Ok(()));
        }
        let start = buffer.filled().len();
        match Pin::new(&mut this.transport).poll_read(context, buffer) {
            Poll::Ready(outcome) => outcome?,
            Poll::Pending => return this.poll_patience(context),
        }
        this.received(&buffer.filled()[start..], context)?;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Http2Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.transport).poll_write(context, bytes);
        self.sent(context, outcome, std::iter::once(bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.transport).poll_write_vectored(context, slices);
        self.sent(context, outcome, slices.iter().map(|slice| &**slice))
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.transport).poll_flush(context);
        if outcome.is_pending() { self.patience.poll_blocked(context).map(Err) } else { outcome }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.linger.is_none() {
            ready!(Pin::new(&mut this.transport).poll_shutdown(context))?;
        }
        this.linger.get_or_insert_with(Linger::new).poll(context, &mut this.transport).map(Ok)
    }
}
