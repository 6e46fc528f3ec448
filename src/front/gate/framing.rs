//! Frames of HTTP/2, found in a stream of bytes, and what is wrong with one by itself or after those before it
//! (RFC 9113 §4 to §6). What needs more than that is left to h2.

use super::frames::Flood;
use super::header_block;

pub(super) const HEADER_LENGTH: usize = 9;
/// The client's connection preface (RFC 9113 §3.4) stands before its first frame.
pub(super) const PREFACE_LENGTH: usize = 24;
/// We leave SETTINGS_MAX_FRAME_SIZE at its default.
const MAX_FRAME_SIZE: usize = 16_384;

pub(super) const DATA: u8 = 0x0;
pub(super) const HEADERS: u8 = 0x1;
pub(super) const PRIORITY: u8 = 0x2;
pub(super) const RST_STREAM: u8 = 0x3;
pub(super) const SETTINGS: u8 = 0x4;
pub(super) const PING: u8 = 0x6;
pub(super) const GOAWAY: u8 = 0x7;
pub(super) const WINDOW_UPDATE: u8 = 0x8;
pub(super) const CONTINUATION: u8 = 0x9;
pub(super) const END_STREAM: u8 = 0x1;
const ACK: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const WITH_PRIORITY: u8 = 0x20;

const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_WINDOW: u32 = 0x7FFF_FFFF;
/// Streams remembered that the client has not ended. Above it the oldest are left to h2.
const UNENDED: usize = 512;

/// Error codes of HTTP/2 (RFC 9113 §7), as far as we give them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ErrorCode {
    ProtocolError = 0x1,
    FlowControlError = 0x3,
    StreamClosed = 0x5,
    FrameSizeError = 0x6,
    CompressionError = 0x9,
    EnhanceYourCalm = 0xB,
}

/// Why a connection is ended. Always the client's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error("the first frame is not SETTINGS")]
    FirstFrame,
    #[error("a frame of type {kind} has {length} bytes")]
    FrameSize { kind: u8, length: usize },
    #[error("INITIAL_WINDOW_SIZE is above 2^31-1")]
    InitialWindow,
    #[error("a frame came on stream {0} after its end")]
    StreamClosed(u32),
    #[error("trailers hold a pseudo-header field")]
    PseudoTrailer,
    #[error("too many {0}")]
    Flood(#[from] Flood),
}

impl Violation {
    /// For GOAWAY.
    pub fn code(self) -> ErrorCode {
        match self {
            Self::FirstFrame | Self::PseudoTrailer => ErrorCode::ProtocolError,
            Self::FrameSize { .. } => ErrorCode::FrameSizeError,
            Self::InitialWindow => ErrorCode::FlowControlError,
            Self::StreamClosed(_) => ErrorCode::StreamClosed,
            Self::Flood(_) => ErrorCode::EnhanceYourCalm,
        }
    }
}

/// Finds the frame headers in a stream of bytes, however it is cut.
#[derive(Debug, Clone, Default)]
pub(super) struct Headers {
    header: [u8; HEADER_LENGTH],
    have: usize,
    /// Bytes to pass over before the next header.
    skip: usize,
}

/// One frame header.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Frame {
    pub(super) length: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl Headers {
    pub(super) fn after_preface() -> Self {
        Self { skip: PREFACE_LENGTH, ..Self::default() }
    }

    /// The rest of the payload of the frame that was found last, as far as it is there.
    pub(super) fn payload<'bytes>(&mut self, bytes: &mut &'bytes [u8]) -> &'bytes [u8] {
        let (payload, rest) = bytes.split_at(self.skip.min(bytes.len()));
        *bytes = rest;
        self.skip -= payload.len();
        payload
    }

    /// The next frame header; the payload before it is passed over.
    pub(super) fn next(&mut self, bytes: &mut &[u8]) -> Option<Frame> {
        self.payload(bytes);
        let taken = (HEADER_LENGTH - self.have).min(bytes.len());
        self.header[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
        *bytes = &bytes[taken..];
        self.have += taken;
        if self.have < HEADER_LENGTH {
            return None;
        }
        let [a, b, c, kind, flags, stream @ ..] = self.header;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        self.have = 0;
        self.skip = length;
        Some(Frame { length, kind, flags, stream: u32::from_be_bytes(stream) & 0x7FFF_FFFF })
    }

    pub(super) fn is_payload_complete(&self) -> bool {
        self.skip == 0
    }

    pub(super) fn is_at_boundary(&self) -> bool {
        self.have == 0 && self.skip == 0
    }
}

impl Frame {
    /// Whether the payload is looked at.
    pub(super) fn is_kept(self) -> bool {
        matches!(self.kind, HEADERS | CONTINUATION | SETTINGS)
    }

    /// RFC 9113 §4.2 and the length that §6 gives each type.
    pub(super) fn check_length(self) -> Result<(), Violation> {
        let padding = usize::from(self.flags & PADDED != 0);
        let priority = if self.flags & WITH_PRIORITY != 0 { 5 } else { 0 };
        let fits = match self.kind {
            DATA => self.length >= padding,
            HEADERS => self.length >= padding + priority,
            PRIORITY => self.length == 5,
            RST_STREAM | WINDOW_UPDATE => self.length == 4,
            SETTINGS if self.flags & ACK != 0 => self.length == 0,
            SETTINGS => self.length.is_multiple_of(6),
            PING => self.length == 8,
            GOAWAY => self.length >= 8,
            _ => true,
        };
        if fits && self.length <= MAX_FRAME_SIZE {
            return Ok(());
        }
        Err(Violation::FrameSize { kind: self.kind, length: self.length })
    }

    /// The part of a header block in the payload of HEADERS or CONTINUATION; padding and priority are taken off.
    fn fragment(self, payload: &[u8]) -> &[u8] {
        let (mut start, mut end) = (0, payload.len());
        if self.kind == HEADERS {
            if self.flags & PADDED != 0 {
                start += 1;
                end = end.saturating_sub(payload.first().copied().unwrap_or_default().into());
            }
            if self.flags & WITH_PRIORITY != 0 {
                start += 5;
            }
        }
        payload.get(start..end).unwrap_or_default()
    }
}

/// RFC 9113 §6.5.2. The other settings with wrong values are PROTOCOL_ERROR, as h2 says already.
pub(super) fn check_settings(payload: &[u8]) -> Result<(), Violation> {
    let too_large = |entry: &[u8; 6]| {
        let [a, b, value @ ..] = *entry;
        u16::from_be_bytes([a, b]) == INITIAL_WINDOW_SIZE && u32::from_be_bytes(value) > MAX_WINDOW
    };
    if payload.as_chunks().0.iter().any(too_large) { Err(Violation::InitialWindow) } else { Ok(()) }
}

/// Which streams the client may still send a body on. A request without a body leaves nothing here.
#[derive(Debug, Clone, Default)]
pub(super) struct Streams {
    /// The highest stream of the client.
    last: u32,
    /// In ascending order.
    unended: Vec<u32>,
    /// Streams up to this one were forgotten: the client never ended them, and there were too many.
    forgotten: u32,
}

impl Streams {
    pub(super) fn last(&self) -> u32 {
        self.last
    }

    /// Takes HEADERS or DATA: whether it opens a stream.
    pub(super) fn take(&mut self, frame: Frame) -> Result<bool, Violation> {
        let ends = frame.flags & END_STREAM != 0;
        if frame.stream > self.last {
            // DATA on an idle stream is for h2 to refuse.
            if frame.kind == HEADERS {
                self.open(frame.stream, ends);
            }
            return Ok(frame.kind == HEADERS);
        }
        match self.unended.binary_search(&frame.stream) {
            Ok(position) if ends => drop(self.unended.remove(position)),
            Err(_) if frame.stream > self.forgotten => return Err(Violation::StreamClosed(frame.stream)),
            Ok(_) | Err(_) => {}
        }
        Ok(false)
    }

    fn open(&mut self, stream: u32, ends: bool) {
        self.last = stream;
        if ends {
            return;
        }
        if self.unended.len() == UNENDED {
            self.forgotten = self.unended.remove(0);
        }
        self.unended.push(stream);
    }
}

/// The header blocks that h2 has got but may not have decoded yet.
#[derive(Debug, Clone, Default)]
pub(super) struct Blocks {
    bytes: Vec<u8>,
    /// Where each complete block ends.
    ends: Vec<usize>,
    /// Whether the first of them is the first of the connection: the dynamic table was empty then.
    are_first: Option<bool>,
}

impl Blocks {
    /// h2 reads again: it has decoded all that was complete.
    pub(super) fn decoded(&mut self) {
        let Some(&end) = self.ends.last() else { return };
        self.bytes.drain(..end);
        self.ends.clear();
        self.are_first = Some(false);
    }

    /// Adds a fragment; the block it completes.
    pub(super) fn add(&mut self, frame: Frame, payload: &[u8]) -> Option<&[u8]> {
        self.bytes.extend_from_slice(frame.fragment(payload));
        if frame.flags & END_HEADERS == 0 {
            return None;
        }
        let start = self.ends.last().copied().unwrap_or_default();
        self.ends.push(self.bytes.len());
        self.bytes.get(start..)
    }

    /// Whether one of them cannot be decoded.
    pub(super) fn are_undecodable(&self) -> bool {
        let mut start = 0;
        self.ends.iter().enumerate().any(|(number, &end)| {
            let block = self.bytes.get(start..end).unwrap_or_default();
            start = end;
            let is_first = number == 0 && self.are_first.unwrap_or(true);
            header_block::check(block, if is_first { 0 } else { header_block::most_entries() }).is_err()
        })
    }
}
