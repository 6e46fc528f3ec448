//! A temporary file without a name: takes an answer off a worker when the client reads slowly.

use bytes::{Bytes, BytesMut};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Largest piece read back at once, in bytes.
const PIECE_MAX: u64 = 128 << 10;

/// A file that is only appended to and read from the front of what was not yet read.
#[derive(Debug)]
pub(super) struct Spool {
    file: File,
    written: u64,
}

impl Spool {
    pub(super) fn create() -> io::Result<Self> {
        Ok(Self { file: File::from(crate::sys::unnamed_file()?), written: 0 })
    }

    /// Appends and returns the offset at which the bytes begin. On an error (disk full) nothing counts as written.
    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<u64> {
        let offset = self.written;
        self.file.write_all_at(bytes, offset)?;
        self.written += bytes.len() as u64;
        Ok(offset)
    }

    /// Reads at most one piece of `length` bytes from `offset`.
    pub(super) fn read(&self, offset: u64, length: u64) -> io::Result<Bytes> {
        let mut bytes = BytesMut::zeroed(length.min(PIECE_MAX) as usize);
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes.freeze())
    }
}
