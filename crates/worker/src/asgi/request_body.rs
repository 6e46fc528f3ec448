//! The body of a request, taken piece by piece.

use bytes::Bytes;
use monoceros_wire::READ_CHUNK;
use monoceros_wire::frame::Frame;
use monoceros_wire::message::BodySource;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// What is left of a request's body.
pub(super) enum RequestBody {
    /// The rest, at once. An empty body is one piece, too.
    Whole(Bytes),
    File {
        file: Arc<OwnedFd>,
        offset: u64,
        length: u64,
    },
    /// Frames that have arrived; the last one carries END.
    Stream(VecDeque<Frame>),
    /// Everything was taken.
    Taken,
}

/// The next piece, and whether more follows.
pub(super) enum Piece {
    Bytes {
        bytes: Bytes,
        more: bool,
        /// The front counts these bytes and wants them acknowledged.
        streamed: bool,
    },
    File {
        file: Arc<OwnedFd>,
        offset: u64,
        length: usize,
        more: bool,
    },
    /// It has not arrived.
    Pending,
    /// There is none.
    None,
}

impl RequestBody {
    /// `None` where a file was announced and did not come.
    pub(super) fn new(source: BodySource, inline: Bytes, file: Option<OwnedFd>) -> Option<Self> {
        Some(match source {
            BodySource::Empty => Self::Whole(Bytes::new()),
            BodySource::Inline => Self::Whole(inline),
            BodySource::File { length } => Self::File { file: Arc::new(file?), offset: 0, length },
            BodySource::Stream => Self::Stream(VecDeque::new()),
        })
    }

    /// A piece of a streamed body has arrived.
    pub(super) fn feed(&mut self, frame: Frame) {
        if let Self::Stream(frames) = self {
            frames.push_back(frame);
        }
    }

    pub(super) fn take(&mut self) -> Piece {
        match self {
            Self::Taken => Piece::None,
            Self::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = Self::Taken;
                Piece::Bytes { bytes, more: false, streamed: false }
            }
            Self::File { file, offset, length } => {
                let (file, start) = (file.clone(), *offset);
                let piece = (*length - start).min(READ_CHUNK as u64);
                *offset += piece;
                let more = *offset < *length;
                if !more {
                    *self = Self::Taken;
                }
                Piece::File { file, offset: start, length: piece as usize, more }
            }
            Self::Stream(frames) => {
                let Some(frame) = frames.pop_front() else { return Piece::Pending };
                let more = !frame.is_end();
                if !more {
                    *self = Self::Taken;
                }
                Piece::Bytes { bytes: frame.payload, more, streamed: true }
            }
        }
    }
}
