//! The receiving side of a link: bytes in, frames out.

use crate::codec::DecodeError;
use crate::frame::{FLAG_DESCRIPTOR, Frame, HEADER_LENGTH, Header};
use crate::{READ_CHUNK, sys};
use bytes::{Buf, BytesMut};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

/// Collects what arrives on a link and cuts it into frames. Payloads share the receive buffer's memory.
#[derive(Debug, Default)]
pub struct Inbound {
    buffer: BytesMut,
    /// Descriptors that arrived and were not yet claimed by a frame. They arrive with, or before, the first byte of the
    /// frame they belong to, and in the order of those frames. `None` stands for one that could not be received.
    descriptors: VecDeque<Option<OwnedFd>>,
}

impl Inbound {
    /// Reads once. `Ok(0)` is the end of the link; `WouldBlock` is passed on for non-blocking sockets. `EINTR` is
    /// passed on too, so that a Python worker can run its signal handlers.
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.buffer.reserve(READ_CHUNK.min(16 << 10));
        if self.buffer.capacity() - self.buffer.len() < (16 << 10) {
            self.buffer.reserve(READ_CHUNK);
        }
        sys::receive(socket, &mut self.buffer, &mut self.descriptors)
    }

    /// Appends bytes as if they had been received (tests, fuzzing, other transports).
    pub fn feed(&mut self, bytes: &[u8], descriptors: impl IntoIterator<Item = OwnedFd>) {
        self.buffer.extend_from_slice(bytes);
        self.descriptors.extend(descriptors.into_iter().map(Some));
    }

    /// The next whole frame, or `None` until more bytes arrive. A frame that is flagged to have a descriptor and has none
    /// came when this process could open no more files.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, DecodeError> {
        let Some(header) = self.buffer.first_chunk::<HEADER_LENGTH>() else { return Ok(None) };
        let header = Header::decode(*header)?;
        let total = HEADER_LENGTH + header.length as usize;
        if self.buffer.len() < total {
            // The rest of a large frame is coming: make room for it once, not by doubling.
            self.buffer.reserve(total - self.buffer.len());
            return Ok(None);
        }
        let descriptor = if header.flags & FLAG_DESCRIPTOR == 0 {
            None
        } else {
            self.descriptors.pop_front().ok_or(DecodeError::MissingDescriptor("with descriptor"))?
        };
        self.buffer.advance(HEADER_LENGTH);
        let payload = self.buffer.split_to(header.length as usize).freeze();
        Ok(Some(Frame { stream: header.stream, kind: header.kind, flags: header.flags, payload, descriptor }))
    }

    /// Whether a part of a frame is waiting for its rest.
    pub fn is_partial(&self) -> bool {
        !self.buffer.is_empty()
    }
}
