//! Payloads with a structure. Encoders append to a buffer, decoders borrow from the frame: nothing is copied twice.

use crate::codec::{DecodeError, FieldTooLong, Reader, put_medium, put_short};
use crate::{HEAD_MAX, HEADERS_MAX};
use bytes::{Bytes, BytesMut};

/// One header field: lower-case name, value as received (bytes, not necessarily UTF-8).
pub type Field<'a> = (&'a [u8], &'a [u8]);

/// What the client speaks, seen from the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Protocol {
    Http = 0,
    WebSocket = 1,
}

/// The version of HTTP the client used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum HttpVersion {
    Http10 = 10,
    Http11 = 11,
    Http2 = 20,
}

/// Where the request's body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodySource {
    /// There is none.
    Empty,
    /// The rest of the request frame.
    Inline,
    /// The attached file, from its start, this many bytes long. The receiver rewinds it: the offset is shared with
    /// an earlier receiver when the request was handed out before.
    File { length: u64 },
    /// [`crate::frame::Kind::Body`] frames follow.
    Stream,
}

/// TLS as the client negotiated it (ASGI `tls` extension). Numbers of RFC 8446.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TlsFacts<'a> {
    /// `0x0303` or `0x0304`.
    pub version: u16,
    pub cipher_suite: u16,
    /// Only where clients are asked for certificates.
    pub client: Option<ClientFacts<'a>>,
}

/// What a client has shown, and proven to be its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientFacts<'a> {
    /// RFC 4514, UTF-8.
    pub subject: &'a [u8],
    /// PEM, its own certificate first; empty where it has shown none.
    pub chain: &'a [u8],
}

/// The single certificates of a chain, PEM.
pub fn certificates(chain: &[u8]) -> impl Iterator<Item = &[u8]> {
    const END: &[u8] = b"-----END CERTIFICATE-----\n";
    let mut rest = chain;
    std::iter::from_fn(move || {
        let length = rest.windows(END.len()).position(|window| window == END)? + END.len();
        let (one, others) = rest.split_at(length);
        rest = others;
        Some(one)
    })
}

/// A request without its body. `path` and `query` are as received (percent-encoded), `path` in origin form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestFacts<'a> {
    pub protocol: Protocol,
    pub version: HttpVersion,
    pub is_https: bool,
    pub tls: Option<TlsFacts<'a>>,
    pub body: BodySource,
    pub method: &'a [u8],
    pub path: &'a [u8],
    /// Without the `?`.
    pub query: &'a [u8],
    /// Client IP as text, empty for a Unix socket.
    pub client_address: &'a [u8],
    pub client_port: u16,
    /// Address of the listener as text; the path for a Unix socket, with port 0.
    pub server_address: &'a [u8],
    pub server_port: u16,
}

/// Appends everything after the cell number of a [`crate::frame::Kind::Request`] payload, except the inline body.
/// The cell is not part of it, so that the same bytes can be handed to another worker.
pub fn encode_request<'a>(
    into: &mut BytesMut,
    facts: &RequestFacts<'_>,
    fields: impl IntoIterator<Item = Field<'a>>,
) -> Result<(), FieldTooLong> {
    let start = into.len();
    into.extend_from_slice(&[0; 4]);
    let (body_kind, body_length) = match facts.body {
        BodySource::Empty => (0, 0),
        BodySource::Inline => (1, 0),
        BodySource::File { length } => (2, length),
        BodySource::Stream => (3, 0),
    };
    let client = facts.tls.and_then(|tls| tls.client);
    let flags = u8::from(facts.is_https) | u8::from(facts.tls.is_some()) << 1 | u8::from(client.is_some()) << 2;
    into.extend_from_slice(&[facts.protocol as u8, facts.version as u8, flags, body_kind]);
    into.extend_from_slice(&body_length.to_le_bytes());
    if let Some(tls) = facts.tls {
        into.extend_from_slice(&tls.version.to_le_bytes());
        into.extend_from_slice(&tls.cipher_suite.to_le_bytes());
    }
    if let Some(client) = client {
        put_medium(into, client.subject)?;
        put_medium(into, client.chain)?;
    }
    put_short(into, facts.method)?;
    put_medium(into, facts.path)?;
    put_medium(into, facts.query)?;
    put_short(into, facts.client_address)?;
    into.extend_from_slice(&facts.client_port.to_le_bytes());
    put_short(into, facts.server_address)?;
    into.extend_from_slice(&facts.server_port.to_le_bytes());
    put_fields(into, fields)?;
    let length = (into.len() - start - 4) as u32;
    into[start..start + 4].copy_from_slice(&length.to_le_bytes());
    Ok(())
}

/// A decoded [`crate::frame::Kind::Request`] payload.
#[derive(Debug)]
pub struct Request<'a> {
    /// Index of the request's cell in the worker's [`crate::page::Page`].
    pub cell: u32,
    pub facts: RequestFacts<'a>,
    pub fields: Fields<'a>,
    /// The inline body; empty unless `facts.body` is [`BodySource::Inline`].
    pub body: Bytes,
}

impl<'a> Request<'a> {
    pub fn decode(payload: &'a Bytes) -> Result<Self, DecodeError> {
        let mut outer = Reader::new("request", payload);
        let cell = outer.u32()?;
        let head_length = outer.u32()? as usize;
        if head_length > HEAD_MAX {
            return Err(outer.invalid());
        }
        let reader = &mut outer;
        let protocol = match reader.u8()? {
            0 => Protocol::Http,
            1 => Protocol::WebSocket,
            _ => return Err(reader.invalid()),
        };
        let version = match reader.u8()? {
            10 => HttpVersion::Http10,
            11 => HttpVersion::Http11,
            20 => HttpVersion::Http2,
            _ => return Err(reader.invalid()),
        };
        let flags = reader.u8()?;
        let body_kind = reader.u8()?;
        let body_length = reader.u64()?;
        let body = match body_kind {
            0 => BodySource::Empty,
            1 => BodySource::Inline,
            2 => BodySource::File { length: body_length },
            3 => BodySource::Stream,
            _ => return Err(reader.invalid()),
        };
        let mut tls = None;
        if flags & 2 != 0 {
            let (version, cipher_suite) = (reader.u16()?, reader.u16()?);
            let client = if flags & 4 != 0 {
                Some(ClientFacts { subject: reader.medium()?, chain: reader.medium()? })
            } else {
                None
            };
            tls = Some(TlsFacts { version, cipher_suite, client });
        }
        let facts = RequestFacts {
            protocol,
            version,
            is_https: flags & 1 != 0,
            tls,
            body,
            method: reader.short()?,
            path: reader.medium()?,
            query: reader.medium()?,
            client_address: reader.short()?,
            client_port: reader.u16()?,
            server_address: reader.short()?,
            server_port: reader.u16()?,
        };
        let fields = read_fields(reader)?;
        // The announced length only bounds the head; what decides is where the fields really ended.
        let body = outer.rest();
        if payload.len() - body.len() != head_length + 8 {
            return Err(DecodeError::Invalid("request"));
        }
        Ok(Self { cell, facts, fields, body })
    }
}

/// Header fields inside a payload, decoded one by one. Already checked for bounds.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    count: usize,
    bytes: &'a [u8],
}

impl Fields<'_> {
    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let (name, rest) = split_medium(self.bytes)?;
        let (value, rest) = split_medium(rest)?;
        self.bytes = rest;
        self.count = self.count.saturating_sub(1);
        Some((name, value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.count, Some(self.count))
    }
}

fn split_medium(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))
}

fn put_fields<'a>(into: &mut BytesMut, fields: impl IntoIterator<Item = Field<'a>>) -> Result<(), FieldTooLong> {
    let at = into.len();
    into.extend_from_slice(&[0; 2]);
    let mut count = 0usize;
    for (name, value) in fields {
        put_medium(into, name)?;
        put_medium(into, value)?;
        count += 1;
    }
    let count = u16::try_from(count).map_err(|_| FieldTooLong(count))?;
    into[at..at + 2].copy_from_slice(&count.to_le_bytes());
    Ok(())
}

fn read_fields<'a>(reader: &mut Reader<'a>) -> Result<Fields<'a>, DecodeError> {
    let count = usize::from(reader.u16()?);
    if count > HEADERS_MAX {
        return Err(reader.invalid());
    }
    let start = reader.remaining();
    for _ in 0..count {
        reader.medium()?;
        reader.medium()?;
    }
    let length = start.len() - reader.remaining().len();
    Ok(Fields { count, bytes: &start[..length] })
}

/// Appends status and fields of a response (or of a hint, an acceptance, trailers with status 0), behind their length.
/// The first bytes of the body may follow in the same payload.
pub fn encode_response<'a>(
    into: &mut BytesMut,
    status: u16,
    fields: impl IntoIterator<Item = Field<'a>>,
) -> Result<(), FieldTooLong> {
    let start = into.len();
    into.extend_from_slice(&[0; 4]);
    into.extend_from_slice(&status.to_le_bytes());
    put_fields(into, fields)?;
    let length = (into.len() - start - 4) as u32;
    into[start..start + 4].copy_from_slice(&length.to_le_bytes());
    Ok(())
}

/// A decoded response head and the body bytes that came with it.
#[derive(Debug)]
pub struct ResponseHead<'a> {
    pub status: u16,
    pub fields: Fields<'a>,
    pub body: Bytes,
}

impl<'a> ResponseHead<'a> {
    pub fn decode(payload: &'a Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("response", payload);
        let length = reader.u32()? as usize;
        if length > HEAD_MAX {
            return Err(reader.invalid());
        }
        let status = reader.u16()?;
        let fields = read_fields(&mut reader)?;
        let body = reader.rest();
        if payload.len() - body.len() != length + 4 {
            return Err(DecodeError::Invalid("response"));
        }
        Ok(Self { status, fields, body })
    }
}

/// A range of the file that travels with a [`crate::frame::Kind::File`] frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileRange {
    pub offset: u64,
    pub length: u64,
}

impl FileRange {
    pub fn encode(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.offset.to_le_bytes());
        bytes[8..].copy_from_slice(&self.length.to_le_bytes());
        bytes
    }

    pub fn decode(payload: &Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("file", payload);
        let range = Self { offset: reader.u64()?, length: reader.u64()? };
        if range.offset.checked_add(range.length).is_none() {
            return Err(reader.invalid());
        }
        Ok(range)
    }
}

/// The first frame of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// [`crate::VERSION`] of the worker extension.
    pub version: u32,
    pub pid: u32,
}

impl Hello {
    pub fn encode(self) -> [u8; 8] {
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&self.version.to_le_bytes());
        bytes[4..].copy_from_slice(&self.pid.to_le_bytes());
        bytes
    }

    pub fn decode(payload: &Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("hello", payload);
        Ok(Self { version: reader.u32()?, pid: reader.u32()? })
    }
}

/// The interface an application speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Interface {
    Wsgi = 0,
    Asgi = 1,
}

/// The worker can serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    pub interface: Interface,
    /// Requests this worker can run at the same time.
    pub slots: u32,
}

impl Ready {
    pub fn encode(self) -> [u8; 5] {
        let mut bytes = [0; 5];
        bytes[0] = self.interface as u8;
        bytes[1..].copy_from_slice(&self.slots.to_le_bytes());
        bytes
    }

    pub fn decode(payload: &Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("ready", payload);
        let interface = match reader.u8()? {
            0 => Interface::Wsgi,
            1 => Interface::Asgi,
            _ => return Err(reader.invalid()),
        };
        let slots = reader.u32()?;
        if slots == 0 || slots as usize > crate::CELLS_MAX {
            return Err(reader.invalid());
        }
        Ok(Self { interface, slots })
    }
}

/// Why a worker gave up a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Abort {
    /// The application raised; its traceback is in the worker's log.
    Raised = 0,
    /// The application returned without a (complete) response, or broke the rules of its interface.
    Incomplete = 1,
    /// The worker cannot serve this kind of request (a WebSocket for a WSGI application).
    Unsupported = 2,
}

impl Abort {
    pub fn decode(payload: &Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("abort", payload);
        match reader.u8()? {
            0 => Ok(Self::Raised),
            1 => Ok(Self::Incomplete),
            2 => Ok(Self::Unsupported),
            _ => Err(reader.invalid()),
        }
    }
}

/// The application could not be loaded.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct BootFailure {
    /// What was being done: `import`, `attribute`, `factory`, `interface`, `lifespan`.
    pub stage: String,
    /// One line that says what is wrong.
    pub message: String,
    /// One line that says what to do, or empty.
    pub hint: String,
    /// The application's traceback, or empty where the fault is not the application's.
    pub traceback: String,
}

impl BootFailure {
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub fn decode(payload: &Bytes) -> Result<Self, DecodeError> {
        serde_json::from_slice(payload).map_err(|_| DecodeError::Invalid("boot failure"))
    }
}

/// A `u32` amount ([`crate::frame::Kind::Window`], [`crate::frame::Kind::Consumed`]).
pub fn decode_amount(payload: &Bytes) -> Result<u32, DecodeError> {
    Reader::new("amount", payload).u32()
}

/// Code and reason of a [`crate::frame::Kind::Close`]. The reason is checked to be UTF-8.
pub fn decode_close(payload: &Bytes) -> Result<(u16, Bytes), DecodeError> {
    let mut reader = Reader::new("close", payload);
    let code = reader.u16()?;
    let reason = reader.rest();
    match std::str::from_utf8(&reason) {
        Ok(_) => Ok((code, reason)),
        Err(_) => Err(DecodeError::Invalid("close")),
    }
}

/// Payload of a [`crate::frame::Kind::Close`].
pub fn encode_close(code: u16, reason: &str) -> Vec<u8> {
    let mut bytes = code.to_le_bytes().to_vec();
    bytes.extend_from_slice(reason.as_bytes());
    bytes
}
