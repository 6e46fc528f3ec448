//! The byte stream under an HTTP/2 connection. h2 checks frames and streams well; what is added here are the error
//! codes it does not give, the count of frames that are sent for the sake of flooding, and the time-outs that it has
//! none for.

use super::linger::Linger;
use super::patience::{Patience, Waiting};
use crate::front::accept::Presence;
use crate::front::exchange::Ledger;
use crate::front::gate::frames::Watch;
use crate::front::gate::framing::Violation;
use crate::front::limits;
use crate::front::transport::Transport;
use bytes::{Buf as _, BytesMut};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

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
    /// Streams opened and messages ended, as the watch counted them last.
    opened: u64,
    ended: u64,
    /// When the frame or header block began whose rest is missing.
    inside_since: Option<Instant>,
    /// GOAWAY was asked for; a client that does not go then is cut off.
    leaving: bool,
    linger: Option<Linger>,
    /// The last bytes for the client; what h2 still writes after them is dropped.
    parting: Option<BytesMut>,
    /// Why the connection is ending.
    violation: Option<Violation>,
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
            opened: 0,
            ended: 0,
            inside_since: None,
            leaving: false,
            linger: None,
            parting: None,
            violation: None,
            _presence: presence,
        }
    }

    fn received(&mut self, bytes: &[u8], context: &mut Context<'_>) -> io::Result<()> {
        let now = Instant::now();
        if let Err(violation) = self.watch.received(bytes, now - self.begun) {
            return self.refuse(violation, context);
        }
        // While streams are open nothing is made of this; it is where idleness begins when the client ends the last one.
        if self.watch.opened() != self.opened || self.ledger.has_streams() {
            self.opened = self.watch.opened();
            self.patience.last_activity = now;
        }
        // A client that goes on has its time for every frame, also if no piece that is read ends where a frame ends.
        let begun = self.inside_since.filter(|_| self.watch.ended() == self.ended).unwrap_or(now);
        self.ended = self.watch.ended();
        self.inside_since = self.watch.is_inside_message().then_some(begun);
        Ok(())
    }

    /// GOAWAY, and nothing after it. Inside a frame of an answer it cannot be said any more.
    fn refuse(&mut self, violation: Violation, context: &mut Context<'_>) -> io::Result<()> {
        tracing::info!(%violation, "an HTTP/2 connection is refused");
        self.violation = Some(violation);
        let goaway = self.watch.goaway(violation.code());
        let parting = if self.watch.may_insert() { &goaway[..] } else { &[] };
        let said = self.part(parting.into(), context);
        // One attempt: a client that floods and does not read is only cut off.
        if matches!(violation, Violation::Flood(_)) || matches!(said, Poll::Ready(Err(_))) {
            return Err(io::Error::other(violation));
        }
        Ok(())
    }

    fn part(&mut self, bytes: BytesMut, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.parting = Some(bytes);
        self.poll_parting(context)
    }

    /// Ready when the last bytes have gone out, or when there are none.
    fn poll_parting(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(parting) = &mut self.parting else { return Poll::Ready(Ok(())) };
        while !parting.is_empty() {
            match Pin::new(&mut self.transport).poll_write(context, parting) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(count) => parting.advance(count?),
                Poll::Pending => return self.poll_blocked(context),
            }
        }
        self.poll_flushed(context)
    }

    fn poll_flushed(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.transport).poll_flush(context);
        if outcome.is_pending() {
            return self.poll_blocked(context);
        }
        self.unblocked();
        outcome
    }

    /// The transport takes nothing now: has the client had its time?
    fn poll_blocked<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        self.ledger.set_blocked(true);
        self.patience.poll_blocked(context).map(Err)
    }

    fn unblocked(&mut self) {
        self.ledger.set_blocked(false);
        self.patience.unblocked();
    }

    /// Ready when the client has had the time to read why.
    fn poll_refused(&mut self, violation: Violation, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_end(context))?;
        Poll::Ready(Err(io::Error::other(violation)))
    }

    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.linger.is_none() {
            ready!(self.poll_parting(context))?;
            match Pin::new(&mut self.transport).poll_shutdown(context) {
                Poll::Ready(outcome) => outcome?,
                Poll::Pending => return self.poll_blocked(context),
            }
        }
        self.linger.get_or_insert_with(Linger::new).poll(context, &mut self.transport).map(Ok)
    }

    /// Before h2 writes `length` bytes, the last piece of which is `last`: takes them over if they are the last bytes at
    /// all and get another error code.
    fn take_over(&mut self, last: &[u8], length: usize, context: &mut Context<'_>) -> Option<Poll<io::Result<usize>>> {
        if self.parting.is_some() {
            return Some(Poll::Ready(Ok(length)));
        }
        // Only control frames are written in one piece, and GOAWAY is one.
        if length != last.len() {
            return None;
        }
        let code = self.watch.better_code(last)?;
        let mut parting = BytesMut::from(last);
        if let Some(byte) = parting.last_mut() {
            *byte = code as u8;
        }
        Some(match self.part(parting, context) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(last.len())),
        })
    }

    /// Nothing to read: has the client had its time?
    fn poll_patience(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let waiting = match self.inside_since {
                Some(since) => Waiting::Rest(since),
                // An open stream has its own times: for its body, its answer, and what the client takes of it.
                None if self.ledger.has_streams() || self.ledger.is_blocked() => Waiting::Ourselves,
                None => Waiting::Idle,
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
            return self.poll_blocked(context);
        };
        self.unblocked();
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
        if let Some(violation) = this.violation {
            return this.poll_refused(violation, context);
        }
        if !this.read.is_empty() {
            let count = this.read.len().min(buffer.remaining());
            let bytes = this.read.split_to(count);
            this.received(&bytes, context)?;
            if let Some(violation) = this.violation {
                return this.poll_refused(violation, context);
            }
            buffer.put_slice(&bytes);
            return Poll::Ready(Ok(()));
        }
        let start = buffer.filled().len();
        match Pin::new(&mut this.transport).poll_read(context, buffer) {
            Poll::Ready(outcome) => outcome?,
            Poll::Pending => return this.poll_patience(context),
        }
        this.received(&buffer.filled()[start..], context)?;
        if let Some(violation) = this.violation {
            buffer.set_filled(start);
            return this.poll_refused(violation, context);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Http2Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(taken) = self.take_over(bytes, bytes.len(), context) {
            return taken;
        }
        let outcome = Pin::new(&mut self.transport).poll_write(context, bytes);
        self.sent(context, outcome, std::iter::once(bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let last = slices.iter().rfind(|slice| !slice.is_empty()).map_or(&[][..], |slice| slice);
        let length = slices.iter().map(|slice| slice.len()).sum();
        if let Some(taken) = self.take_over(last, length, context) {
            return taken;
        }
        let outcome = Pin::new(&mut self.transport).poll_write_vectored(context, slices);
        self.sent(context, outcome, slices.iter().map(|slice| &**slice))
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_parting(context))?;
        self.poll_flushed(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_end(context)
    }
}
