//! The frame header: `payload length u32 | stream u32 | kind u8 | flags u8 | reserved u16`, little-endian, 12 bytes.

use crate::codec::DecodeError;
use bytes::Bytes;
use std::os::fd::OwnedFd;

/// Length of the header, in bytes.
pub const HEADER_LENGTH: usize = 12;

/// Identifies one request on one link. Zero is the link itself (greeting, drain).
pub type StreamId = u32;

/// The stream that stands for the link as a whole.
pub const LINK: StreamId = 0;

/// The last frame of its direction on this stream (for messages: the last fragment of the message).
pub const FLAG_END: u8 = 1;
/// One file descriptor travels with this frame.
pub const FLAG_DESCRIPTOR: u8 = 2;
/// A WebSocket message is text (valid UTF-8), not binary.
pub const FLAG_TEXT: u8 = 4;

/// The whole body of this response is the file that comes with the next frame, [`Kind::File`].
pub const FLAG_FILE: u8 = 8;

/// What a frame says. The comment names the direction and the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// front → worker: [`crate::message::RequestHead`], then the inline body.
    Request = 1,
    /// front → worker: a piece of a streamed request body; END marks the last (it may be empty).
    Body = 2,
    /// front → worker: nobody waits for this stream any more. Empty.
    Cancel = 3,
    /// front → worker: `u32` more bytes of response may be sent on this stream.
    Window = 4,
    /// both ways: a fragment of a WebSocket message; END on the last fragment, TEXT on every fragment of a text.
    Message = 5,
    /// both ways: the WebSocket is closed: code `u16`, then the reason in UTF-8.
    Close = 6,
    /// front → worker, on the link: finish what was handed over, run the shutdown hooks, exit. Empty.
    /// worker → front, on the link: got a signal and does so; take back what was not entered, hand nothing more over.
    Drain = 7,
    /// front → worker, on the link of an event loop: read this, so that [`crate::page::Page::turns`] grows. Empty.
    Ping = 8,

    /// worker → front, on the link: [`crate::message::Hello`], the first frame of all.
    Hello = 16,
    /// worker → front, on the link: the application is imported and can serve. [`crate::message::Ready`].
    Ready = 17,
    /// worker → front: [`crate::message::ResponseHead`], then the first bytes of the body.
    Head = 18,
    /// worker → front: bytes of the body.
    Data = 19,
    /// worker → front: [`crate::message::FileRange`] of the attached file takes its place in the body.
    File = 20,
    /// worker → front: an informational response (103), [`crate::message::ResponseHead`].
    Hint = 21,
    /// worker → front: trailers, [`crate::message::ResponseHead`] with status 0; always END.
    Trailers = 22,
    /// worker → front: `u32` bytes of the streamed body or of messages were consumed by the application.
    Consumed = 23,
    /// worker → front: the WebSocket is accepted; [`crate::message::ResponseHead`] with the extra header fields.
    Accept = 24,
    /// worker → front: the application failed; no further frame on this stream. [`crate::message::Abort`].
    Abort = 25,
    /// worker → front, on the link: the application could not be loaded. [`crate::message::BootFailure`]; exit follows.
    BootFailed = 26,
    /// worker → front: the application has returned for good, after the response had ended before it (background
    /// work, WebSocket). Sent on every ASGI stream, always the last frame of the stream. Empty.
    Done = 27,
}

impl Kind {
    /// The kind with this number.
    pub fn from_u8(number: u8) -> Result<Self, DecodeError> {
        Ok(match number {
            1 => Self::Request,
            2 => Self::Body,
            3 => Self::Cancel,
            4 => Self::Window,
            5 => Self::Message,
            6 => Self::Close,
            7 => Self::Drain,
            8 => Self::Ping,
            16 => Self::Hello,
            17 => Self::Ready,
            18 => Self::Head,
            19 => Self::Data,
            20 => Self::File,
            21 => Self::Hint,
            22 => Self::Trailers,
            23 => Self::Consumed,
            24 => Self::Accept,
            25 => Self::Abort,
            26 => Self::BootFailed,
            27 => Self::Done,
            other => return Err(DecodeError::UnknownKind(other)),
        })
    }
}

/// A decoded header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Payload length in bytes.
    pub length: u32,
    pub stream: StreamId,
    pub kind: Kind,
    pub flags: u8,
}

impl Header {
    pub fn encode(self) -> [u8; HEADER_LENGTH] {
        let mut bytes = [0; HEADER_LENGTH];
        bytes[0..4].copy_from_slice(&self.length.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.stream.to_le_bytes());
        bytes[8] = self.kind as u8;
        bytes[9] = self.flags;
        bytes
    }

    /// Decodes a header and checks its length against [`crate::FRAME_PAYLOAD_MAX`].
    pub fn decode(bytes: [u8; HEADER_LENGTH]) -> Result<Self, DecodeError> {
        let [l0, l1, l2, l3, s0, s1, s2, s3, kind, flags, _, _] = bytes;
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        if length as usize > crate::FRAME_PAYLOAD_MAX {
            return Err(DecodeError::PayloadTooLarge { length: length as usize, limit: crate::FRAME_PAYLOAD_MAX });
        }
        Ok(Self { length, stream: u32::from_le_bytes([s0, s1, s2, s3]), kind: Kind::from_u8(kind)?, flags })
    }
}

/// A whole frame as the receiver sees it.
#[derive(Debug)]
pub struct Frame {
    pub stream: StreamId,
    pub kind: Kind,
    pub flags: u8,
    pub payload: Bytes,
    pub descriptor: Option<OwnedFd>,
}

impl Frame {
    pub fn is_end(&self) -> bool {
        self.flags & FLAG_END != 0
    }

    pub fn is_text(&self) -> bool {
        self.flags & FLAG_TEXT != 0
    }
}
