//! The strict check of a request, before anything acts on it.
//!
//! hyper frames HTTP safely, but it repairs, merges or hides much of what a smuggled request is made of. So two checks
//! stand around it: [`raw`] reads the bytes of an HTTP/1 connection *before* hyper does, and [`meaning`] reads the
//! request head *after* it, for HTTP/1 and HTTP/2 alike. [`frames`] watches HTTP/2.
//! All of it is pure: bytes and heads in, verdicts out.

pub mod chunked;
pub mod frames;
pub mod framing;
pub mod head;
pub mod header_block;
pub mod host;
pub mod meaning;
pub mod path;
pub mod raw;

use super::rescue::Asker;

/// Why a request is not let in. Always the client's fault; the text is shown to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("a line ends with a line feed alone; HTTP/1.1 lines end with carriage return and line feed")]
    BareLineFeed,
    #[error("a carriage return stands inside a line")]
    BareCarriageReturn,
    #[error("more than one empty line stands before the request line")]
    EmptyLines,
    #[error("the request line is not of the form `METHOD target HTTP/1.1`")]
    RequestLine,
    #[error("the method is not a word of upper-case letters, digits and `-`")]
    Method,
    #[error("this version of HTTP is not spoken here")]
    Version,
    #[error("the request target holds a character that must be percent-encoded")]
    TargetCharacter,
    #[error("the request target holds a fragment (`#…`)")]
    Fragment,
    #[error("the request target is neither a path nor an absolute http or https URL")]
    TargetForm,
    #[error("the request target `*` is for OPTIONS only")]
    Asterisk,
    #[error("the request target is longer than {limit} bytes")]
    TargetTooLong { limit: usize },
    #[error("a header field is continued on a second line, or starts with a space")]
    FoldedField,
    #[error("a header line has no colon")]
    FieldWithoutColon,
    #[error("a header field's name is empty or holds a character that is not allowed there")]
    FieldName,
    #[error("a header field's value holds a control character")]
    FieldValue,
    #[error("the request head is longer than {limit} bytes")]
    HeadTooLong { limit: usize },
    #[error("there are more than {limit} header fields")]
    TooManyFields { limit: usize },
    #[error("Content-Length is not one number")]
    ContentLength,
    #[error("Content-Length stands there twice")]
    ContentLengthTwice,
    #[error("Content-Length and Transfer-Encoding stand together")]
    TwoLengths,
    #[error("Transfer-Encoding is malformed")]
    TransferEncoding,
    #[error("Transfer-Encoding stands there twice")]
    TransferEncodingTwice,
    #[error("only the transfer coding `chunked` is understood")]
    TransferCoding,
    #[error("HTTP/1.0 has no Transfer-Encoding")]
    TransferEncodingInHttp10,
    #[error("a chunk's size line is malformed")]
    ChunkSize,
    #[error("a chunk's extension is malformed or too long")]
    ChunkExtension,
    #[error("a chunk's data is not followed by a line end")]
    ChunkEnd,
    #[error("the trailer section is malformed or too long")]
    Trailer,
    #[error("Host is missing")]
    HostMissing,
    #[error("Host stands there twice")]
    HostTwice,
    #[error("Host is not a host name with an optional port")]
    HostInvalid,
    #[error("Host names another host than the request target")]
    HostMismatch,
    #[error("this host has another certificate than this connection; ask on a new one")]
    Misdirected,
    #[error("the path is malformed: {0}")]
    Path(#[from] path::PathError),
    #[error("the method {method} is not allowed")]
    MethodNotAllowed { method: &'static str },
    #[error("this protocol is not spoken over CONNECT")]
    Protocol,
    #[error("the request head did not arrive in time")]
    HeaderTimeout,
}

/// A refused HTTP/1 head: which one on its connection, why, and how its sender wants to be told.
#[derive(Debug, Clone, Copy)]
pub struct Refused {
    /// Counts the heads of the connection, from 1.
    pub number: u64,
    pub refusal: Refusal,
    pub asker: Asker,
}

/// Put into the extensions of a request that asks for a WebSocket: `GET` with `Upgrade: websocket` over HTTP/1.1
/// (RFC 6455), or `CONNECT` with `:protocol: websocket` over HTTP/2 (RFC 8441).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WebSocket;

/// RFC 9110 §5.6.2 `tchar`.
const fn is_token_byte(byte: u8) -> bool {
    matches!(byte,
        b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z')
}

/// [`is_token_byte`] as a table: header names are most of a head's bytes.
static TOKEN: [bool; 256] = {
    let mut bytes = [false; 256];
    let mut index = 0;
    while index < 256 {
        bytes[index] = is_token_byte(index as u8);
        index += 1;
    }
    bytes
};

/// Bytes of a header value: HTAB, visible ASCII, space, and 0x80–0xFF as they are.
static VALUE: [bool; 256] = {
    let mut bytes = [false; 256];
    let mut index = 0;
    while index < 256 {
        bytes[index] = index == 9 || (index >= 0x20 && index != 0x7F);
        index += 1;
    }
    bytes
};

fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| TOKEN[byte as usize])
}

fn is_value(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| VALUE[byte as usize])
}

/// Without the optional whitespace around it (RFC 9110 §5.6.3: SP and HTAB only).
fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}
