//! Compression of messages (RFC 7692 §7.2).

use super::extension::Agreement;
use super::frame::ProtocolError;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// What a sync flush ends with, and what the sender of a message leaves out.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// zlib has no smaller window for raw deflate.
const WINDOW_BITS_MIN: u8 = 9;

/// Output is grown by at least this many bytes at a time.
const GROWTH_MIN: usize = 1024;

/// Middle ground: level 1 of zlib-rs gives up dynamic codes, levels above this cost more than a front should spend.
const LEVEL: u32 = 3;

/// Decompresses the client's messages.
#[derive(Debug)]
pub struct Inflater {
    /// Made with the first compressed message: most connections are idle, and the window is 32 KiB.
    stream: Option<Decompress>,
    window_bits: u8,
    reset_after_message: bool,
}

impl Inflater {
    pub fn new(agreement: &Agreement) -> Self {
        Self {
            stream: None,
            window_bits: agreement.client_max_window_bits.max(WINDOW_BITS_MIN),
            reset_after_message: agreement.client_no_context_takeover,
        }
    }

    /// Appends the decompressed form of a piece of a message to `output`, which never grows beyond `limit` bytes.
    pub fn push(&mut self, input: &[u8], output: &mut Vec<u8>, limit: usize) -> Result<(), ProtocolError> {
        let window_bits = self.window_bits;
        let stream = self.stream.get_or_insert_with(|| Decompress::new_with_window_bits(false, window_bits));
        let mut input = input;
        loop {
            if output.len() == output.capacity() {
                // One byte more than the limit, so that reaching the limit exactly is no error.
                let room = limit.saturating_add(1) - output.len();
                let wanted = input.len().saturating_mul(3).max(output.len()).max(GROWTH_MIN);
                output.reserve_exact(wanted.min(room));
            }
            let (read_before, written_before) = (stream.total_in(), output.len());
            let status = stream
                .decompress_vec(input, output, FlushDecompress::Sync)
                .map_err(|_| ProtocolError::BadCompression)?;
            let read = (stream.total_in() - read_before) as usize;
            input = &input[read..];
            if output.len() > limit {
                return Err(ProtocolError::MessageTooBig);
            }
            if status == Status::StreamEnd {
                // A block marked as the last one is allowed (RFC 7692 §7.2.3.4); another stream may follow it.
                stream.reset(false);
            }
            let stuck = read == 0 && output.len() == written_before;
            let full = output.len() == output.capacity();
            if !full && (input.is_empty() || stuck) {
                break;
            }
        }
        if input.is_empty() { Ok(()) } else { Err(ProtocolError::BadCompression) }
    }

    /// Ends a message.
    pub fn finish(&mut self, output: &mut Vec<u8>, limit: usize) -> Result<(), ProtocolError> {
        self.push(&TAIL, output, limit)?;
        if self.reset_after_message {
            self.stream = None;
        }
        Ok(())
    }
}

/// Compresses messages to the client.
#[derive(Debug)]
pub struct Deflater {
    /// Made with the first compressed message: it takes about 256 KiB.
    stream: Option<Compress>,
    window_bits: u8,
    reset_after_message: bool,
}

impl Deflater {
    pub fn new(agreement: &Agreement) -> Self {
        Self {
            stream: None,
            window_bits: agreement.server_max_window_bits.max(WINDOW_BITS_MIN),
            reset_after_message: agreement.server_no_context_takeover,
        }
    }

    /// The compressed form of a whole message.
    pub fn message(&mut self, input: &[u8]) -> Result<Vec<u8>, flate2::CompressError> {
        if input.is_empty() {
            // An empty stored block without its tail (RFC 7692 §7.2.3.6).
            return Ok(vec![0]);
        }
        let window_bits = self.window_bits;
        let stream = self
            .stream
            .get_or_insert_with(|| Compress::new_with_window_bits(Compression::new(LEVEL), false, window_bits));
        let mut output = Vec::with_capacity(input.len() / 2 + 64);
        let mut input = input;
        loop {
            let read_before = stream.total_in();
            stream.compress_vec(input, &mut output, FlushCompress::Sync)?;
            input = &input[(stream.total_in() - read_before) as usize..];
            if input.is_empty() && output.len() < output.capacity() {
                break;
            }
            output.reserve(output.len().max(GROWTH_MIN));
        }
        if output.ends_with(&TAIL) {
            output.truncate(output.len() - TAIL.len());
        }
        if self.reset_after_message {
            self.stream = None;
        }
        Ok(output)
    }
}
