//! Reads a request body before a worker is bound: into memory while it is small, then into a file without a name that
//! the worker gets as a descriptor. A slow upload costs the front a buffer, never a worker.

use bytes::{Bytes, BytesMut};
use http_body::Body as HttpBody;
use http_body_util::BodyExt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use super::incoming::IncomingError;
use crate::upstream::request::RequestBody;
use monoceros_wire::BODY_INLINE_MAX;
use monoceros_wire::message::BodySource;

/// Limits of one body.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Longest body, in bytes. Zero is no limit.
    pub(super) bytes: u64,
    /// Bytes kept in memory; at most [`BODY_INLINE_MAX`].
    pub(super) memory: usize,
    /// Longest pause between two pieces.
    pub(super) timeout: Duration,
}

/// Why a body was not read to its end.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    #[error("the body is longer than {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("no piece of the body arrived for {} s", .0.as_secs())]
    Timeout(Duration),
    /// Malformed framing, or the client has left.
    #[error("the body broke off: {0}")]
    Broken(#[source] IncomingError),
    #[error("the body could not be put into a temporary file: {0}")]
    Storage(#[source] io::Error),
}

impl IntakeError {
    /// What the operator has to know: the others are the client's doing.
    pub(super) fn log(&self) {
        if let Self::Storage(error) = self {
            let directory = std::env::temp_dir();
            tracing::error!("a request body cannot be stored in {} (TMPDIR): {error}", directory.display());
        }
    }
}

/// A body that was read whole.
#[derive(Debug)]
pub(super) struct Intake {
    pub(super) body: RequestBody,
    pub(super) source: BodySource,
    pub(super) length: u64,
}

impl Intake {
    fn inline(bytes: Bytes) -> Self {
        let length = bytes.len() as u64;
        let source = if bytes.is_empty() { BodySource::Empty } else { BodySource::Inline };
        Self { body: RequestBody::Inline(bytes), source, length }
    }
}

/// Reads a body to its end. The announced length is checked first, so that a client that waits for `100 Continue`
/// never sends what would be refused.
pub(super) async fn read<B>(mut body: B, limits: Limits) -> Result<Intake, IntakeError>
where
    B: HttpBody<Data = Bytes, Error = IncomingError> + Unpin,
{
    if body.is_end_stream() {
        return Ok(Intake::inline(Bytes::new()));
    }
    let too_large = |length: u64| limits.bytes > 0 && length > limits.bytes;
    if too_large(body.size_hint().lower()) {
        return Err(IntakeError::TooLarge { limit: limits.bytes });
    }
    let memory = limits.memory.min(BODY_INLINE_MAX);
    let mut collected = Collected::Nothing;
    let mut length = 0;
    while let Some(frame) =
        tokio::time::timeout(limits.timeout, body.frame()).await.map_err(|_| IntakeError::Timeout(limits.timeout))?
    {
        // Trailers of a request are dropped: nothing behind us may mistake them for header fields.
        let Ok(piece) = frame.map_err(IntakeError::Broken)?.into_data() else { continue };
        length += piece.len() as u64;
        if too_large(length) {
            return Err(IntakeError::TooLarge { limit: limits.bytes });
        }
        collected = collected.append(piece, memory).map_err(IntakeError::Storage)?;
    }
    Ok(match collected {
        Collected::Nothing => Intake::inline(Bytes::new()),
        Collected::Piece(bytes) => Intake::inline(bytes),
        Collected::Memory(bytes) => Intake::inline(bytes.freeze()),
        Collected::File { file, length } => {
            Intake { body: RequestBody::File(Arc::new(file.into())), source: BodySource::File { length }, length }
        }
    })
}

/// What was read so far; moves on only when it must.
enum Collected {
    Nothing,
    /// The only piece so far: most small bodies are one, and are never copied.
    Piece(Bytes),
    Memory(BytesMut),
    File {
        file: File,
        length: u64,
    },
}

impl Collected {
    fn append(self, piece: Bytes, memory: usize) -> io::Result<Self> {
        match self {
            Self::Nothing if piece.len() <= memory => Ok(Self::Piece(piece)),
            Self::Nothing => Self::into_file(&[&piece]),
            Self::Piece(first) if first.len() + piece.len() <= memory => {
                let mut bytes = BytesMut::with_capacity((first.len() + piece.len()).max(8 << 10));
                bytes.extend_from_slice(&first);
                bytes.extend_from_slice(&piece);
                Ok(Self::Memory(bytes))
            }
            Self::Piece(first) => Self::into_file(&[&first, &piece]),
            Self::Memory(mut bytes) if bytes.len() + piece.len() <= memory => {
                bytes.extend_from_slice(&piece);
                Ok(Self::Memory(bytes))
            }
            Self::Memory(bytes) => Self::into_file(&[&bytes, &piece]),
            Self::File { file, length } => {
                file.write_all_at(&piece, length)?;
                Ok(Self::File { file, length: length + piece.len() as u64 })
            }
        }
    }

    /// The page cache takes these writes; a thread hop for each would cost more than it hides.
    fn into_file(pieces: &[&[u8]]) -> io::Result<Self> {
        let file = File::from(crate::sys::unnamed_file()?);
        let mut length = 0;
        for piece in pieces {
            file.write_all_at(piece, length)?;
            length += piece.len() as u64;
        }
        Ok(Self::File { file, length })
    }
}
