//! Bodies made of pieces of a file, in constant memory.
//!
//! What is in the page cache is read at once, on the calling thread (`RWF_NOWAIT`); a read that would wait for the disk
//! goes to the blocking pool. A file that shrinks while it is sent breaks the body off; what is appended to it is not
//! sent.

use crate::front::body::{Body, BodyError, Pieces};
use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use rustix::io::{Errno, ReadWriteFlags};
use std::collections::VecDeque;
use std::io::IoSliceMut;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::task::JoinHandle;

/// Files up to this length, in bytes, are sent from one buffer, if they are in the page cache.
const SMALL: u64 = 64 << 10;

/// Bytes read at once from the page cache.
const CHUNK: u64 = 128 << 10;

/// Bytes read at once by the blocking pool: the way there is worth more.
const BLOCKING_CHUNK: u64 = 256 << 10;

/// A piece of a body.
#[derive(Debug)]
pub enum Piece {
    Bytes(Bytes),
    /// Bytes of the file.
    File(Range<u64>),
}

impl Piece {
    /// In bytes.
    pub fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(range) => range.end - range.start,
        }
    }
}

/// A body of `length` bytes of a regular file from `offset` on. Reads do not move the descriptor's own position.
///
/// The body ends early with [`BodyError::FileShrank`] if the file does not have that many bytes.
pub fn file_body(file: OwnedFd, offset: u64, length: u64) -> Body {
    if length == 0 {
        return Body::empty();
    }
    if length <= SMALL
        && let Ok(bytes) = read(&file, offset, length, ReadWriteFlags::NOWAIT)
        && bytes.len() as u64 == length
    {
        return Body::full(bytes);
    }
    pieces_body(file, vec![Piece::File(offset..offset.saturating_add(length))])
}

/// A body of several pieces, one after the other.
pub fn pieces_body(file: OwnedFd, pieces: Vec<Piece>) -> Body {
    let remaining = pieces.iter().map(Piece::length).sum();
    Body::stream(FileBody { file: Arc::new(file), pieces: pieces.into(), remaining, reading: None, limit: u64::MAX })
}

struct FileBody {
    file: Arc<OwnedFd>,
    pieces: VecDeque<Piece>,
    /// Bytes not yet given out.
    remaining: u64,
    reading: Option<JoinHandle<rustix::io::Result<Bytes>>>,
    /// Most bytes to read at once.
    limit: u64,
}

impl Pieces for FileBody {
    fn limit_pieces(mut self: Pin<&mut Self>, bytes: usize) {
        self.limit = bytes as u64;
    }
}

impl FileBody {
    /// The next bytes of the body, or `None` at its end.
    fn poll_bytes(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            let range = match self.pieces.front_mut() {
                None => return Poll::Ready(None),
                Some(piece) if piece.length() == 0 => {
                    self.pieces.pop_front();
                    continue;
                }
                Some(Piece::Bytes(bytes)) => return Poll::Ready(Some(Ok(std::mem::take(bytes)))),
                Some(Piece::File(range)) => range,
            };
            let left = range.end - range.start;
            let result = match &mut self.reading {
                Some(reading) => {
                    let result = ready!(Pin::new(reading).poll(context));
                    self.reading = None;
                    result.map_err(std::io::Error::other)?
                }
                None => read(&self.file, range.start, left.min(CHUNK).min(self.limit), ReadWriteFlags::NOWAIT),
            };
            match result {
                Ok(bytes) if bytes.is_empty() => return Poll::Ready(Some(Err(BodyError::FileShrank))),
                Ok(bytes) => {
                    range.start += bytes.len() as u64;
                    return Poll::Ready(Some(Ok(bytes)));
                }
                Err(Errno::INTR) => {}
                // Not in the page cache, or a file system or sandbox that cannot tell.
                Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::PERM) => {
                    let (file, start) = (Arc::clone(&self.file), range.start);
                    let wanted = left.min(BLOCKING_CHUNK).min(self.limit);
                    self.reading = Some(tokio::task::spawn_blocking(move || read_waiting(&file, start, wanted)));
                }
                Err(error) => return Poll::Ready(Some(Err(BodyError::Io(error.into())))),
            }
        }
    }
}

impl http_body::Body for FileBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let result = ready!(self.poll_bytes(context));
        match &result {
            Some(Ok(bytes)) => self.remaining -= bytes.len() as u64,
            // Nothing follows an error.
            Some(Err(_)) => self.pieces.clear(),
            None => {}
        }
        Poll::Ready(result.map(|result| result.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}

/// Up to `length` bytes from `offset` on.
fn read(file: &OwnedFd, offset: u64, length: u64, flags: ReadWriteFlags) -> rustix::io::Result<Bytes> {
    let mut buffer = BytesMut::zeroed(length as usize);
    let count = rustix::io::preadv2(file, &mut [IoSliceMut::new(&mut buffer)], offset, flags)?;
    buffer.truncate(count);
    Ok(buffer.freeze())
}

/// The same where waiting does not matter. `pread`, which every sandbox allows.
fn read_waiting(file: &OwnedFd, offset: u64, length: u64) -> rustix::io::Result<Bytes> {
    let mut buffer = BytesMut::zeroed(length as usize);
    let count = rustix::io::retry_on_intr(|| rustix::io::pread(file, &mut buffer[..], offset))?;
    buffer.truncate(count);
    Ok(buffer.freeze())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;
    use std::io::Write as _;

    fn file_of(content: &[u8]) -> std::fs::File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file
    }

    fn pattern(length: usize) -> Vec<u8> {
        (0..length).map(|index| (index % 251) as u8).collect()
    }

    #[tokio::test]
    async fn any_part_of_a_small_or_large_file() {
        for length in [0, 1, 64 << 10, (64 << 10) + 1, 1_000_003] {
            let content = pattern(length);
            let file = file_of(&content);
            for (offset, count) in [(0, length), (length / 2, length / 3), (length, 0)] {
                let body = file_body(file.try_clone().unwrap().into(), offset as u64, count as u64);
                assert_eq!(http_body::Body::size_hint(&body).exact(), Some(count as u64));
                let bytes = body.collect().await.unwrap().to_bytes();
                assert!(bytes == content[offset..offset + count], "{length}: {offset} + {count}");
            }
        }
    }

    #[tokio::test]
    async fn pieces_follow_each_other() {
        let file = file_of(b"0123456789");
        let bytes = |bytes: &'static [u8]| Piece::Bytes(Bytes::from_static(bytes));
        let pieces =
            vec![bytes(b"<"), Piece::File(7..9), bytes(b""), Piece::File(3..3), Piece::File(0..2), bytes(b">")];
        let body = pieces_body(file.into(), pieces);
        assert_eq!(body.collect().await.unwrap().to_bytes(), "<7801>");
    }

    #[tokio::test]
    async fn a_file_that_shrinks_breaks_the_body_off() {
        for length in [100, 1 << 20] {
            let file = file_of(&pattern(length));
            file.set_len(length as u64 - 1).unwrap();
            let error = file_body(file.into(), 0, length as u64).collect().await.unwrap_err();
            assert!(matches!(error, BodyError::FileShrank), "{error}");
        }
    }

    #[tokio::test]
    async fn what_is_appended_is_not_sent() {
        let mut file = file_of(&pattern(300_000));
        let body = file_body(file.try_clone().unwrap().into(), 0, 300_000);
        file.write_all(b"more").unwrap();
        assert_eq!(body.collect().await.unwrap().to_bytes().len(), 300_000);
    }

    #[tokio::test]
    async fn chunks_are_bounded() {
        let mut body = file_body(file_of(&pattern(3 << 20)).into(), 0, 3 << 20);
        while let Some(frame) = body.frame().await {
            assert!(frame.unwrap().into_data().unwrap().len() as u64 <= BLOCKING_CHUNK);
        }
    }

    #[test]
    fn waiting_reads_give_the_same_bytes() {
        let file = OwnedFd::from(file_of(&pattern(1000)));
        let quick = read(&file, 10, 500, ReadWriteFlags::empty()).unwrap();
        assert_eq!(read_waiting(&file, 10, 500).unwrap(), quick);
    }
}
