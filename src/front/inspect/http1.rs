//! The byte stream under an HTTP/1 connection: the gate's scanner reads everything before hyper does.
//!
//! A refused head is replaced by a harmless request, so that hyper answers it in its turn, after the pipelined requests
//! before it; the service knows by its number that the answer is a refusal. A body whose framing breaks becomes a read
//! error, which ends the body and still lets the service answer.

use super::linger::Linger;
use super::patience::{Patience, Waiting};
use crate::front::accept::Presence;
use crate::front::exchange::{Decision, Ledger};
use crate::front::gate::raw::{Scan, Scanner, Verdict};
use crate::front::gate::{Refusal, Refused};
use crate::front::limits;
use crate::front::rescue::Asker;
use crate::front::transport::Transport;
use bytes::{Buf, Bytes, BytesMut};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// What stands in for a refused head. HEAD, so that hyper sends no body either.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";
const STAND_IN_HEAD: &[u8] = b"HEAD / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";

/// While a head is incomplete, so much is read at a time.
const READ_SIZE: usize = 4096;
/// While an upgrade is undecided, so many bytes may already come for the tunnel.
const WAITING_BYTES: usize = 16 << 10;

/// The stream.
#[derive(Debug)]
pub(in crate::front) struct Http1Stream {
    transport: Transport,
    scanner: Scanner,
    ledger: Arc<Ledger>,
    /// Read, but not passed on yet.
    held: BytesMut,
    /// So many of the held bytes may be passed on.
    cleared: usize,
    stage: Stage,
    end_seen: bool,
    /// Written, but perhaps not yet with the kernel: a TLS session keeps bytes back, hyper what a write did not take.
    unflushed: bool,
    patience: Patience,
    /// When the head began that is still incomplete.
    head_begun: Option<Instant>,
    linger: Option<Linger>,
    /// The rest of an informational response that is being written.
    hint: Bytes,
    _presence: Presence,
}

/// Where reading stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    /// The stand-in of a refused head is what hyper gets last.
    Refused,
    /// The body broke; the error was told.
    Broken,
    Tunnel,
}

impl Http1Stream {
    /// Over a connection from which `read` was read already, the first of it at the time `begun`.
    pub(in crate::front) fn new(
        transport: Transport,
        (read, begun): (BytesMut, Instant),
        limits: &limits::Settings,
        ledger: Arc<Ledger>,
        presence: Presence,
    ) -> Self {
        let mut stream = Self {
            transport,
            scanner: Scanner::new(limits.into()),
            ledger,
            held: read,
            cleared: 0,
            stage: Stage::Open,
            end_seen: false,
            unflushed: false,
            patience: Patience::new(limits),
            head_begun: None,
            linger: None,
            hint: Bytes::new(),
            _presence: presence,
        };
        if !stream.held.is_empty() {
            stream.patience.last_activity = begun;
            stream.scan_held();
        }
        stream
    }

    /// Scans what is held and is not cleared yet.
    fn scan_held(&mut self) {
        let scan = self.scanner.scan(&self.held[self.cleared..]);
        self.cleared += scan.passed;
        let at = self.cleared;
        self.settle(scan, at);
    }

    /// Acts on a verdict; `at` is where in the held bytes the rest stands.
    fn settle(&mut self, scan: Scan, at: usize) {
        self.ledger.opened.store(self.scanner.heads(), Ordering::Relaxed);
        match scan.verdict {
            Verdict::More => {
                let incomplete = self.scanner.is_in_head() && at < self.held.len();
                // What was passed ended a message: the head behind it is a new one.
                let begun = self.head_begun.filter(|_| scan.passed == 0);
                self.head_begun = incomplete.then(|| begun.unwrap_or(self.patience.last_activity));
            }
            Verdict::Wait => {
                self.head_begun = None;
                self.ledger.undecided.store(self.scanner.heads(), Ordering::Relaxed);
            }
            Verdict::Refused(refusal) => self.refuse(refusal),
            // The rest is of no use to anybody; the error is told when all before it was taken.
            Verdict::Broken(_) => self.held.truncate(at),
        }
    }

    /// Puts the stand-in where the refused head was.
    fn refuse(&mut self, refusal: Refusal) {
        let asker = Asker::of_bytes(&self.held[self.cleared..]);
        let number = self.scanner.heads() + 1;
        self.ledger.opened.store(number, Ordering::Relaxed);
        let _ = self.ledger.refused.set(Refused { number, refusal, asker });
        self.held.truncate(self.cleared);
        self.held.extend_from_slice(if asker.head { STAND_IN_HEAD } else { STAND_IN });
        self.cleared = self.held.len();
        self.stage = Stage::Refused;
        self.head_begun = None;
    }

    /// Reads once, straight into hyper's buffer where nothing is held. `None`: look again at what is held now.
    fn poll_transport(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<Option<()>>> {
        if !self.held.is_empty() {
            ready!(self.poll_hold_more(context))?;
            if self.end_seen {
                return Poll::Ready(Ok(Some(())));
            }
            self.scan_held();
            return Poll::Ready(Ok(None));
        }
        let start = buffer.filled().len();
        ready!(Pin::new(&mut self.transport).poll_read(context, buffer))?;
        let fresh = &buffer.filled()[start..];
        self.end_seen = fresh.is_empty();
        if self.end_seen {
            return Poll::Ready(Ok(Some(())));
        }
        self.patience.last_activity = Instant::now();
        let scan = self.scanner.scan(fresh);
        let passed = scan.passed;
        self.held.extend_from_slice(&fresh[passed..]);
        self.settle(scan, 0);
        buffer.set_filled(start + passed);
        Poll::Ready(Ok((passed > 0).then_some(())))
    }

    fn poll_hold_more(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut bytes = [0; READ_SIZE];
        let mut buffer = ReadBuf::new(&mut bytes);
        ready!(Pin::new(&mut self.transport).poll_read(context, &mut buffer))?;
        self.end_seen = buffer.filled().is_empty();
        self.held.extend_from_slice(buffer.filled());
        self.patience.last_activity = Instant::now();
        Poll::Ready(Ok(()))
    }

    /// What to do while an upgrade is undecided: read on a little, to notice a client that leaves.
    fn poll_undecided(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<()>>> {
        match self.ledger.take_decision(context) {
            Some(Decision::Accepted) => {
                self.scanner.accept_upgrade();
                self.stage = Stage::Tunnel;
                self.cleared = self.held.len();
            }
            Some(Decision::Declined) => {
                self.ledger.undecided.store(0, Ordering::Relaxed);
                self.scanner.decline_upgrade();
                // What waited for our answer begins now.
                self.patience.last_activity = Instant::now();
                self.scan_held();
            }
            None if self.held.len() >= WAITING_BYTES => return Poll::Pending,
            None => {
                ready!(self.poll_hold_more(context))?;
                if self.end_seen {
                    return Poll::Ready(Ok(Some(())));
                }
            }
        }
        Poll::Ready(Ok(None))
    }

    fn waiting(&self) -> Waiting {
        match self.head_begun {
            Some(begun) => Waiting::Rest(begun),
            // An answer that hyper has whole may still be on its way: then writing has a clock of its own.
            None if self.ledger.is_idle() && self.scanner.is_between_messages() && !self.unflushed => Waiting::Idle,
            // Time-outs of a body are its reader's: it alone knows whether it wants more.
            None => Waiting::Ourselves,
        }
    }

    fn sent<T>(&mut self, context: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if self.stage == Stage::Tunnel {
            return outcome;
        }
        self.unflushed = true;
        if outcome.is_pending() {
            return self.patience.poll_blocked(context).map(Err);
        }
        self.patience.unblocked();
        self.patience.last_activity = Instant::now();
        outcome
    }

    /// Whether the client may still be sending something that nobody will read.
    fn has_unread(&self) -> bool {
        !self.end_seen
            && (self.stage == Stage::Refused || self.stage == Stage::Broken || !self.scanner.is_between_messages())
    }
}

impl AsyncRead for Http1Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if this.cleared > 0 {
                let count = this.cleared.min(buffer.remaining());
                buffer.put_slice(&this.held[..count]);
                this.held.advance(count);
                this.cleared -= count;
                return Poll::Ready(Ok(()));
            }
            let step = match this.stage {
                Stage::Tunnel => return Pin::new(&mut this.transport).poll_read(context, buffer),
                // No more is read; the connection ends when the answer is written.
                Stage::Refused | Stage::Broken => return Poll::Pending,
                Stage::Open if this.end_seen => return Poll::Ready(Ok(())),
                Stage::Open => match this.scanner.scan(&[]).verdict {
                    Verdict::Broken(refusal) => {
                        this.stage = Stage::Broken;
                        return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, refusal)));
                    }
                    Verdict::Wait => this.poll_undecided(context),
                    _ => this.poll_transport(context, buffer),
                },
            };
            match step {
                Poll::Ready(Ok(Some(()))) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(None)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    let waiting = this.waiting();
                    ready!(this.patience.poll_waiting(context, waiting));
                    if waiting == Waiting::Idle {
                        this.end_seen = true;
                        return Poll::Ready(Ok(()));
                    }
                    this.scanner.refuse(Refusal::HeaderTimeout);
                    this.refuse(Refusal::HeaderTimeout);
                }
            }
        }
    }
}

impl Http1Stream {
    /// Writes an informational response to its end.
    fn poll_hint(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.hint.is_empty() {
            let outcome = Pin::new(&mut self.transport).poll_write(context, &self.hint);
            let written = ready!(self.sent(context, outcome))?;
            self.hint.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    /// Before other bytes: what was begun is ended, what was not is too late.
    fn poll_begun_hint(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.ledger.take_hint();
        self.poll_hint(context)
    }
}

impl AsyncWrite for Http1Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_begun_hint(context))?;
        let outcome = Pin::new(&mut self.transport).poll_write(context, bytes);
        self.sent(context, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_begun_hint(context))?;
        let outcome = Pin::new(&mut self.transport).poll_write_vectored(context, slices);
        self.sent(context, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes when it has written all it had: the one moment between two messages.
        if self.hint.is_empty() {
            self.hint = self.ledger.take_hint().into();
        }
        ready!(self.poll_hint(context))?;
        match Pin::new(&mut self.transport).poll_flush(context) {
            Poll::Pending if self.stage != Stage::Tunnel => {
                self.unflushed = true;
                self.patience.poll_blocked(context).map(Err)
            }
            outcome => {
                self.unflushed = false;
                self.patience.unblocked();
                self.ledger.flushed();
                outcome
            }
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        // A tunnel may end before anything was read from it.
        if this.stage == Stage::Open && this.ledger.take_decision(context) == Some(Decision::Accepted) {
            this.stage = Stage::Tunnel;
        }
        if this.linger.is_none() {
            match Pin::new(&mut this.transport).poll_shutdown(context) {
                Poll::Pending => return this.patience.poll_blocked(context).map(Err),
                Poll::Ready(outcome) => outcome?,
            }
            if this.stage == Stage::Tunnel || !this.has_unread() {
                return Poll::Ready(Ok(()));
            }
        }
        this.linger.get_or_insert_with(Linger::new).poll(context, &mut this.transport).map(Ok)
    }
}
