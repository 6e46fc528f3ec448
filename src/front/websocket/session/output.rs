//! Frames on their way to the client: batched into few writes, large payloads without a copy.

use bytes::{Buf, Bytes, BytesMut};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// With more than this many bytes unsent, the worker is not asked for more.
const OUTPUT_HIGH: usize = 64 << 10;

/// Payloads from this size on are written from where they are instead of being copied behind their head.
const COPY_MAX: usize = 8 << 10;

/// Most pieces given to one write.
const PIECES_MAX: usize = 16;

/// Frames on their way to the client.
#[derive(Debug, Default)]
pub(super) struct Output {
    /// Sent before `small`.
    pieces: VecDeque<Bytes>,
    pieces_length: usize,
    /// Heads and short payloads, back to back.
    pub(super) small: BytesMut,
    /// Whether something was written since the last flush: a TLS stream keeps records back.
    unflushed: bool,
}

impl Output {
    /// Whether there is room for more.
    pub(super) fn is_low(&self) -> bool {
        self.pieces_length + self.small.len() < OUTPUT_HIGH
    }

    /// Whether there is something to write or to flush.
    pub(super) fn is_pending(&self) -> bool {
        self.unflushed || self.pieces_length + self.small.len() > 0
    }

    /// Appends the payload of the frame whose head is at the end of `small`.
    pub(super) fn push_payload(&mut self, payload: Bytes) {
        if payload.len() <= COPY_MAX {
            self.small.extend_from_slice(&payload);
        } else {
            self.pieces_length += self.small.len() + payload.len();
            self.pieces.push_back(self.small.split().freeze());
            self.pieces.push_back(payload);
        }
    }

    /// One write, or the flush after the last. May be dropped and called again.
    pub(super) async fn write_some(&mut self, writer: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        if self.pieces.is_empty() && self.small.is_empty() {
            writer.flush().await?;
            self.unflushed = false;
            return Ok(());
        }
        let mut slices = [IoSlice::new(&[]); PIECES_MAX];
        let all = self.pieces.iter().map(|piece| &piece[..]).chain(std::iter::once(&self.small[..]));
        let mut count = 0;
        for (slice, piece) in slices.iter_mut().zip(all) {
            *slice = IoSlice::new(piece);
            count += 1;
        }
        let written = writer.write_vectored(&slices[..count]).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.unflushed = true;
        self.remove(written);
        Ok(())
    }

    fn remove(&mut self, written: usize) {
        let mut written = written;
        while let Some(piece) = self.pieces.front_mut() {
            if piece.len() > written {
                piece.advance(written);
                self.pieces_length -= written;
                return;
            }
            written -= piece.len();
            self.pieces_length -= piece.len();
            self.pieces.pop_front();
        }
        self.small.advance(written);
    }
}
