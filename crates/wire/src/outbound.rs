//! The sending side of a link: frames collect in one buffer and leave in as few system calls as possible.

use crate::codec::FieldTooLong;
use crate::frame::{FLAG_DESCRIPTOR, HEADER_LENGTH, Header, Kind, StreamId};
use crate::sys;
use bytes::{Buf, BytesMut};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Frames waiting to be written.
#[derive(Debug, Default)]
pub struct Outbound {
    buffer: BytesMut,
    /// Descriptors with the absolute position of the first byte of their frame.
    descriptors: VecDeque<(u64, Arc<OwnedFd>)>,
    /// Absolute position of the first byte in `buffer`.
    sent: u64,
}

impl Outbound {
    /// Bytes not yet written.
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Appends a frame with a ready payload.
    pub fn push(&mut self, stream: StreamId, kind: Kind, flags: u8, payload: &[u8]) {
        self.push_parts(stream, kind, flags, &[payload]);
    }

    /// Appends a frame whose payload is the concatenation of `parts`.
    pub fn push_parts(&mut self, stream: StreamId, kind: Kind, flags: u8, parts: &[&[u8]]) {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        debug_assert!(length <= crate::FRAME_PAYLOAD_MAX, "callers cut payloads at DATA_CHUNK_MAX");
        self.buffer.reserve(HEADER_LENGTH + length);
        self.buffer.extend_from_slice(&Header { length: length as u32, stream, kind, flags }.encode());
        for part in parts {
            self.buffer.extend_from_slice(part);
        }
    }

    /// Appends a frame with a file descriptor beside it.
    pub fn push_descriptor(
        &mut self,
        stream: StreamId,
        kind: Kind,
        flags: u8,
        parts: &[&[u8]],
        descriptor: Arc<OwnedFd>,
    ) {
        self.descriptors.push_back((self.sent + self.buffer.len() as u64, descriptor));
        self.push_parts(stream, kind, flags | FLAG_DESCRIPTOR, parts);
    }

    /// Appends a frame whose payload `write` encodes in place. When it fails nothing is appended.
    pub fn push_with(
        &mut self,
        stream: StreamId,
        kind: Kind,
        flags: u8,
        write: impl FnOnce(&mut BytesMut) -> Result<(), FieldTooLong>,
    ) -> Result<(), FieldTooLong> {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(&[0; HEADER_LENGTH]);
        let written = write(&mut self.buffer);
        let length = self.buffer.len() - start - HEADER_LENGTH;
        let checked = written.and(if length > crate::FRAME_PAYLOAD_MAX { Err(FieldTooLong(length)) } else { Ok(()) });
        if checked.is_err() {
            self.buffer.truncate(start);
            return checked;
        }
        let header = Header { length: length as u32, stream, kind, flags }.encode();
        self.buffer[start..start + HEADER_LENGTH].copy_from_slice(&header);
        Ok(())
    }

    /// Writes once. Returns whether everything is out; `WouldBlock` and `EINTR` are passed on.
    pub fn send(&mut self, socket: BorrowedFd<'_>) -> io::Result<bool> {
        self.send_by(socket, sys::send)
    }

    /// Like [`Self::send`], but fails with `WouldBlock` instead of blocking on a blocking socket.
    pub fn send_now(&mut self, socket: BorrowedFd<'_>) -> io::Result<bool> {
        self.send_by(socket, sys::send_now)
    }

    fn send_by(
        &mut self,
        socket: BorrowedFd<'_>,
        send: fn(BorrowedFd<'_>, &[u8], &[BorrowedFd<'_>]) -> io::Result<usize>,
    ) -> io::Result<bool> {
        if self.buffer.is_empty() {
            return Ok(true);
        }
        // A descriptor leaves with the first byte of its frame and alone in its message. So the receiver knows which one
        // it was that it could not take.
        let is_first = self.descriptors.front().is_some_and(|(position, _)| *position == self.sent);
        let end = match self.descriptors.get(usize::from(is_first)) {
            Some((position, _)) => (position - self.sent) as usize,
            None => self.buffer.len(),
        };
        let written = match self.descriptors.front() {
            Some((_, descriptor)) if is_first => send(socket, &self.buffer[..end], &[descriptor.as_fd()])?,
            _ => send(socket, &self.buffer[..end], &[])?,
        };
        if is_first {
            self.descriptors.pop_front();
        }
        self.buffer.advance(written);
        self.sent += written as u64;
        Ok(self.buffer.is_empty())
    }

    /// The unsent bytes (tests and other transports).
    pub fn bytes(&self) -> &[u8] {
        &self.buffer
    }
}
