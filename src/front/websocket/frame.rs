//! Heads of frames (RFC 6455 §5.2) and the codes of close frames (§7.4).

use bytes::{BufMut, BytesMut};

/// Longest payload of a control frame, in bytes (RFC 6455 §5.5).
pub const CONTROL_PAYLOAD_MAX: usize = 125;

const FINAL: u8 = 0x80;
const RESERVED_1: u8 = 0x40;
const RESERVED_2_AND_3: u8 = 0x30;
const MASKED: u8 = 0x80;

/// Why a connection is failed: the client broke the protocol, or sent more than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    #[error("a reserved bit is set")]
    ReservedBit,
    #[error("unknown opcode {0}")]
    UnknownOpcode(u8),
    #[error("the frame is not masked")]
    NotMasked,
    #[error("the length is not encoded in its shortest form")]
    LengthEncoding,
    #[error("a control frame is fragmented or longer than 125 bytes")]
    ControlFrame,
    #[error("a continuation without a message to continue")]
    NothingToContinue,
    #[error("a new message before the end of the last one")]
    MessageInterrupted,
    #[error("a close frame with a payload of one byte, or a code that must not be sent")]
    CloseCode,
    #[error("text that is not UTF-8")]
    NotUtf8,
    #[error("a message larger than accepted")]
    MessageTooBig,
    #[error("compressed data that cannot be decompressed")]
    BadCompression,
}

impl ProtocolError {
    /// The code of the close frame that answers it.
    pub fn close_code(self) -> u16 {
        match self {
            Self::NotUtf8 | Self::BadCompression => close_code::INVALID_PAYLOAD,
            Self::MessageTooBig => close_code::MESSAGE_TOO_BIG,
            _ => close_code::PROTOCOL_ERROR,
        }
    }
}

/// The codes of RFC 6455 §7.4.1 that the front itself uses.
pub mod close_code {
    pub const NORMAL: u16 = 1000;
    /// The server is going down, or a page navigates away.
    pub const GOING_AWAY: u16 = 1001;
    pub const PROTOCOL_ERROR: u16 = 1002;
    /// Never on the wire: the close frame had no code.
    pub const NO_STATUS: u16 = 1005;
    /// Never on the wire: the connection ended without a close frame.
    pub const ABNORMAL: u16 = 1006;
    pub const INVALID_PAYLOAD: u16 = 1007;
    pub const MESSAGE_TOO_BIG: u16 = 1009;
    pub const INTERNAL_ERROR: u16 = 1011;
    /// The server restarts; clients come back later.
    pub const SERVICE_RESTART: u16 = 1012;

    /// Whether a close frame may carry this code (RFC 6455 §7.4, and the IANA registry for 1012 to 1014).
    pub fn may_be_sent(code: u16) -> bool {
        matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    fn from_bits(bits: u8) -> Result<Self, ProtocolError> {
        Ok(match bits {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            other => return Err(ProtocolError::UnknownOpcode(other)),
        })
    }

    fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0,
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
        }
    }

    pub fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// The head of a client's frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    pub last: bool,
    /// The first reserved bit: the message is compressed (RFC 7692 §6).
    pub compressed: bool,
    pub opcode: Opcode,
    pub mask: [u8; 4],
    /// Bytes of payload.
    pub length: u64,
    /// Bytes of the head itself.
    pub head_length: usize,
}

impl Head {
    /// Reads the head at the start of `bytes`; `None` when it is not complete. Everything that can be refused by the
    /// first two bytes is refused by them, so that a client that speaks something else is not waited for.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, ProtocolError> {
        let [first, second, rest @ ..] = bytes else { return Ok(None) };
        if first & RESERVED_2_AND_3 != 0 {
            return Err(ProtocolError::ReservedBit);
        }
        let opcode = Opcode::from_bits(first & 0x0f)?;
        if second & MASKED == 0 {
            return Err(ProtocolError::NotMasked);
        }
        let last = first & FINAL != 0;
        let compressed = first & RESERVED_1 != 0;
        let short = second & 0x7f;
        if opcode.is_control() && (!last || usize::from(short) > CONTROL_PAYLOAD_MAX) {
            return Err(ProtocolError::ControlFrame);
        }
        if compressed && !matches!(opcode, Opcode::Text | Opcode::Binary) {
            return Err(ProtocolError::ReservedBit);
        }
        let Some((length, rest)) = parse_length(short, rest)? else { return Ok(None) };
        let Some((mask, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        Ok(Some(Self { last, compressed, opcode, mask: *mask, length, head_length: bytes.len() - rest.len() }))
    }
}

/// The payload length, and the bytes after it; `None` when it is not complete.
fn parse_length(short: u8, rest: &[u8]) -> Result<Option<(u64, &[u8])>, ProtocolError> {
    let (length, smallest, rest) = match short {
        126 => match rest.split_first_chunk::<2>() {
            Some((bytes, rest)) => (u64::from(u16::from_be_bytes(*bytes)), 126, rest),
            None => return Ok(None),
        },
        127 => match rest.split_first_chunk::<8>() {
            Some((bytes, rest)) => (u64::from_be_bytes(*bytes), 1 << 16, rest),
            None => return Ok(None),
        },
        _ => (u64::from(short), 0, rest),
    };
    if length < smallest || length > i64::MAX.unsigned_abs() {
        return Err(ProtocolError::LengthEncoding);
    }
    Ok(Some((length, rest)))
}

/// Appends the head of a server's frame: never masked.
pub fn write_head(opcode: Opcode, last: bool, compressed: bool, length: usize, output: &mut BytesMut) {
    let first = opcode.bits() | if last { FINAL } else { 0 } | if compressed { RESERVED_1 } else { 0 };
    output.put_u8(first);
    if length < 126 {
        output.put_u8(length as u8);
    } else if let Ok(length) = u16::try_from(length) {
        output.put_u8(126);
        output.put_u16(length);
    } else {
        output.put_u8(127);
        output.put_u64(length as u64);
    }
}
