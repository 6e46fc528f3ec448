//! What one stream sends, within the credit the front has granted.

use bytes::BytesMut;
use monoceros_wire::frame::{FLAG_END, FLAG_FILE, Kind, StreamId};
use monoceros_wire::outbound::Outbound;
use monoceros_wire::{DATA_CHUNK_MAX, RESPONSE_WINDOW};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::collections::VecDeque;

/// Bytes of a body or a message that wait for credit. They stay in the application's object until then.
enum Part {
    Bytes { kind: Kind, bytes: Py<PyBytes>, sent: usize, flags: u8, end: bool },
    Trailers(BytesMut),
}

/// The sending half of a stream: how much credit is left and what waits for more.
pub(super) struct Flow {
    stream: StreamId,
    credit: usize,
    backlog: VecDeque<Part>,
}

impl Flow {
    pub(super) fn new(stream: StreamId) -> Self {
        Self { stream, credit: RESPONSE_WINDOW as usize, backlog: VecDeque::new() }
    }

    pub(super) fn stream(&self) -> StreamId {
        self.stream
    }

    /// Something waits for credit.
    pub(super) fn is_blocked(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// The head, with the first bytes of the body.
    pub(super) fn head(&mut self, out: &mut Outbound, head: &[u8], bytes: Option<&Bound<'_, PyBytes>>, end: bool) {
        self.start(out, Kind::Head, head, bytes, 0, end);
    }

    /// The head of a response whose body is a file, and nothing more if `is_whole`.
    pub(super) fn head_of_file(&mut self, out: &mut Outbound, head: &[u8], is_whole: bool) {
        out.push(self.stream, Kind::Head, if is_whole { FLAG_FILE } else { 0 }, head);
    }

    /// Bytes of the body, or a whole message. Nothing is sent for no bytes that end nothing.
    pub(super) fn bytes(&mut self, out: &mut Outbound, kind: Kind, bytes: &Bound<'_, PyBytes>, flags: u8, end: bool) {
        if self.is_blocked() {
            self.backlog.push_back(Part::Bytes { kind, bytes: bytes.clone().unbind(), sent: 0, flags, end });
        } else if end || !bytes.as_bytes().is_empty() {
            self.start(out, kind, &[], Some(bytes), flags, end);
        }
    }

    pub(super) fn trailers(&mut self, out: &mut Outbound, encoded: BytesMut) {
        if self.is_blocked() {
            self.backlog.push_back(Part::Trailers(encoded));
        } else {
            out.push(self.stream, Kind::Trailers, FLAG_END, &encoded);
        }
    }

    /// The front has granted `amount` more bytes: sends what waited for them.
    pub(super) fn grant(&mut self, py: Python<'_>, out: &mut Outbound, amount: u32) {
        self.credit = self.credit.saturating_add(amount as usize);
        while let Some(part) = self.backlog.pop_front() {
            match part {
                Part::Trailers(encoded) => out.push(self.stream, Kind::Trailers, FLAG_END, &encoded),
                Part::Bytes { kind, bytes, sent, flags, end } => {
                    let more = self.write(out, kind, &[], &bytes.as_bytes(py)[sent..], flags, end);
                    if let Some(more) = more {
                        self.backlog.push_front(Part::Bytes { kind, bytes, sent: sent + more, flags, end });
                        return;
                    }
                }
            }
        }
    }

    /// Forgets what waits: nobody wants it any more.
    pub(super) fn clear(&mut self) {
        self.backlog.clear();
    }

    fn start(
        &mut self,
        out: &mut Outbound,
        kind: Kind,
        prefix: &[u8],
        bytes: Option<&Bound<'_, PyBytes>>,
        flags: u8,
        end: bool,
    ) {
        let content = bytes.map_or(&[][..], |bytes| bytes.as_bytes());
        if let (Some(sent), Some(bytes)) = (self.write(out, kind, prefix, content, flags, end), bytes) {
            let kind = if kind == Kind::Head { Kind::Data } else { kind };
            self.backlog.push_back(Part::Bytes { kind, bytes: bytes.clone().unbind(), sent, flags, end });
        }
    }

    /// Sends as much as there is credit for. `None`: all of it; else the number of bytes sent.
    fn write(
        &mut self,
        out: &mut Outbound,
        mut kind: Kind,
        mut prefix: &[u8],
        bytes: &[u8],
        flags: u8,
        end: bool,
    ) -> Option<usize> {
        let mut sent = 0;
        loop {
            let left = bytes.len() - sent;
            let piece = left.min(DATA_CHUNK_MAX).min(self.credit);
            if piece == 0 && left > 0 && kind != Kind::Head {
                return Some(sent);
            }
            let last = piece == left;
            let end = if last && end { FLAG_END } else { 0 };
            out.push_parts(self.stream, kind, flags | end, &[prefix, &bytes[sent..sent + piece]]);
            self.credit -= piece;
            sent += piece;
            if last {
                return None;
            }
            prefix = &[];
            if kind == Kind::Head {
                kind = Kind::Data;
            }
        }
    }
}
