//! Bounds-checked reading and plain writing of the little-endian fields that messages are made of.

use bytes::{Bytes, BytesMut};

/// Why bytes from the other side could not be understood. Always fatal for the link: after one bad length nothing that
/// follows can be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("unknown frame kind {0:#04x}")]
    UnknownKind(u8),
    #[error("frame payload of {length} bytes exceeds the limit of {limit}")]
    PayloadTooLarge { length: usize, limit: usize },
    #[error("frame {0} ends before its last field")]
    Truncated(&'static str),
    #[error("frame {0} has an invalid field")]
    Invalid(&'static str),
    #[error("frame {0} announces a file descriptor that did not arrive")]
    MissingDescriptor(&'static str),
}

/// Reads fields from a payload; every method fails instead of reading past the end.
pub struct Reader<'a> {
    what: &'static str,
    whole: &'a Bytes,
    position: usize,
}

impl<'a> Reader<'a> {
    /// Reads `payload`, naming `what` in errors.
    pub fn new(what: &'static str, payload: &'a Bytes) -> Self {
        Self { what, whole: payload, position: 0 }
    }

    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// `length` bytes, borrowed from the payload.
    pub fn slice(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let end = self.position.checked_add(length).ok_or(DecodeError::Truncated(self.what))?;
        let slice = self.whole.get(self.position..end).ok_or(DecodeError::Truncated(self.what))?;
        self.position = end;
        Ok(slice)
    }

    /// Bytes behind a `u8` length.
    pub fn short(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.u8()?;
        self.slice(usize::from(length))
    }

    /// Bytes behind a `u16` length.
    pub fn medium(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.u16()?;
        self.slice(usize::from(length))
    }

    /// Everything that is left, borrowed; the position does not move.
    pub fn remaining(&self) -> &'a [u8] {
        &self.whole[self.position..]
    }

    /// Everything that is left, sharing the payload's memory.
    pub fn rest(self) -> Bytes {
        self.whole.slice(self.position..)
    }

    /// An error for a field whose value makes no sense.
    pub fn invalid(&self) -> DecodeError {
        DecodeError::Invalid(self.what)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let slice = self.slice(N)?;
        let mut array = [0; N];
        array.copy_from_slice(slice);
        Ok(array)
    }
}

/// A field was too long for its length prefix. Heads are bounded long before (see [`crate::HEAD_MAX`]), so this is a
/// fault of the caller that must not become a corrupt frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a field of {0} bytes does not fit its length prefix")]
pub struct FieldTooLong(pub usize);

/// Appends bytes behind a `u8` length.
pub fn put_short(into: &mut BytesMut, bytes: &[u8]) -> Result<(), FieldTooLong> {
    let length = u8::try_from(bytes.len()).map_err(|_| FieldTooLong(bytes.len()))?;
    into.extend_from_slice(&[length]);
    into.extend_from_slice(bytes);
    Ok(())
}

/// Appends bytes behind a `u16` length.
pub fn put_medium(into: &mut BytesMut, bytes: &[u8]) -> Result<(), FieldTooLong> {
    let length = u16::try_from(bytes.len()).map_err(|_| FieldTooLong(bytes.len()))?;
    into.extend_from_slice(&length.to_le_bytes());
    into.extend_from_slice(bytes);
    Ok(())
}
