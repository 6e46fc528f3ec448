//! Bytes to messages and back, as the server sees them (RFC 6455 §5 and §6). No I/O and no clock.

use super::deflate::{Deflater, Inflater};
use super::extension::Agreement;
use super::frame::{self, CONTROL_PAYLOAD_MAX, Head, Opcode, ProtocolError, close_code};
use super::mask;
use bytes::{Buf, Bytes, BytesMut};

/// Shorter messages are not compressed: they would hardly become shorter.
const COMPRESS_MIN: usize = 128;

/// Longer messages are not compressed: the front's thread would serve nobody else meanwhile.
const COMPRESS_MAX: usize = 1 << 20;

/// What a client sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A whole message; valid UTF-8 when it is text.
    Message {
        text: bool,
        data: Bytes,
    },
    Ping(Bytes),
    Pong(Bytes),
    /// The client's close frame, always the last event. The code is `None` for an empty frame.
    Close {
        code: Option<u16>,
        reason: String,
    },
}

/// Cuts what a client sends into messages.
///
/// Bytes are appended to [`Decoder::buffer`]; then [`Decoder::next_event`] is called until it has no more. After an error or
/// a close frame everything further is ignored.
#[derive(Debug)]
pub struct Decoder {
    buffer: BytesMut,
    payload: Option<Payload>,
    message: Option<Message>,
    inflater: Option<Inflater>,
    max_message_bytes: usize,
    ended: bool,
}

/// The data frame whose payload is arriving.
#[derive(Debug)]
struct Payload {
    remaining: u64,
    mask: [u8; 4],
    /// Bytes of payload seen, modulo four.
    position: usize,
    last: bool,
}

/// The message that is put together.
#[derive(Debug)]
struct Message {
    text: bool,
    compressed: bool,
    data: Vec<u8>,
    /// Bytes of `data` known to be whole characters.
    checked: usize,
}

impl Decoder {
    /// A decoder of messages up to `max_message_bytes`; `deflate` is what the handshake agreed on.
    pub fn new(max_message_bytes: usize, deflate: Option<&Agreement>) -> Self {
        Self {
            buffer: BytesMut::new(),
            payload: None,
            message: None,
            inflater: deflate.map(Inflater::new),
            max_message_bytes,
            ended: false,
        }
    }

    /// Where received bytes are appended.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Gives the memory of an empty buffer back; called before a long wait.
    pub fn release_memory(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }

    /// The next thing the client sent; `None` when more bytes are needed.
    pub fn next_event(&mut self) -> Result<Option<Event>, ProtocolError> {
        if self.ended {
            self.buffer.clear();
            return Ok(None);
        }
        let result = self.advance();
        if matches!(result, Err(_) | Ok(Some(Event::Close { .. }))) {
            self.ended = true;
            self.message = None;
        }
        result
    }

    fn advance(&mut self) -> Result<Option<Event>, ProtocolError> {
        loop {
            if let Some(payload) = &mut self.payload {
                let last = payload.last;
                if !self.absorb_payload()? {
                    return Ok(None);
                }
                if last {
                    return self.finish_message().map(Some);
                }
            }
            let Some(head) = Head::parse(&self.buffer)? else { return Ok(None) };
            if head.opcode.is_control() {
                return self.control_frame(&head);
            }
            if let Some(event) = self.begin_data_frame(&head)? {
                return Ok(Some(event));
            }
        }
    }

    fn control_frame(&mut self, head: &Head) -> Result<Option<Event>, ProtocolError> {
        // At most 125: the head was checked.
        let length = head.length as usize;
        if self.buffer.len() < head.head_length + length {
            return Ok(None);
        }
        let payload = self.take_payload(head, length);
        Ok(Some(match head.opcode {
            Opcode::Ping => Event::Ping(payload),
            Opcode::Pong => Event::Pong(payload),
            _ => parse_close(&payload)?,
        }))
    }

    /// Checks a data frame against what came before. Answers the whole message when it lies in the buffer unfragmented
    /// and uncompressed, which saves copying it; otherwise the payload is absorbed piece by piece.
    fn begin_data_frame(&mut self, head: &Head) -> Result<Option<Event>, ProtocolError> {
        match (head.opcode, &self.message) {
            (Opcode::Continuation, None) => return Err(ProtocolError::NothingToContinue),
            (Opcode::Continuation, Some(_)) | (_, None) => {}
            (_, Some(_)) => return Err(ProtocolError::MessageInterrupted),
        }
        if head.compressed && self.inflater.is_none() {
            return Err(ProtocolError::ReservedBit);
        }
        let compressed = self.message.as_ref().map_or(head.compressed, |message| message.compressed);
        let collected = self.message.as_ref().map_or(0, |message| message.data.len());
        if !compressed && head.length > (self.max_message_bytes - collected) as u64 {
            return Err(ProtocolError::MessageTooBig);
        }
        let available = (self.buffer.len() - head.head_length) as u64;
        if self.message.is_none() && head.last && !compressed && head.length <= available {
            let data = self.take_payload(head, head.length as usize);
            let text = head.opcode == Opcode::Text;
            if text && std::str::from_utf8(&data).is_err() {
                return Err(ProtocolError::NotUtf8);
            }
            return Ok(Some(Event::Message { text, data }));
        }
        self.buffer.advance(head.head_length);
        self.message.get_or_insert_with(|| Message {
            text: head.opcode == Opcode::Text,
            compressed,
            data: Vec::new(),
            checked: 0,
        });
        self.payload = Some(Payload { remaining: head.length, mask: head.mask, position: 0, last: head.last });
        Ok(None)
    }

    /// Moves what has arrived of the payload into the message; says whether the frame is complete.
    fn absorb_payload(&mut self) -> Result<bool, ProtocolError> {
        let (Some(payload), Some(message)) = (&mut self.payload, &mut self.message) else { return Ok(true) };
        let available = usize::try_from(payload.remaining).map_or(self.buffer.len(), |all| all.min(self.buffer.len()));
        let piece = &mut self.buffer[..available];
        mask::apply(piece, payload.mask, payload.position);
        payload.position = (payload.position + available) % 4;
        payload.remaining -= available as u64;
        match &mut self.inflater {
            Some(inflater) if message.compressed => {
                inflater.push(piece, &mut message.data, self.max_message_bytes)?;
            }
            _ => message.data.extend_from_slice(piece),
        }
        self.buffer.advance(available);
        message.check_text()?;
        let complete = payload.remaining == 0;
        if complete {
            self.payload = None;
        }
        Ok(complete)
    }

    fn finish_message(&mut self) -> Result<Event, ProtocolError> {
        let Some(mut message) = self.message.take() else { return Err(ProtocolError::NothingToContinue) };
        if message.compressed
            && let Some(inflater) = &mut self.inflater
        {
            inflater.finish(&mut message.data, self.max_message_bytes)?;
            message.check_text()?;
        }
        if message.text && message.checked != message.data.len() {
            return Err(ProtocolError::NotUtf8);
        }
        Ok(Event::Message { text: message.text, data: message.data.into() })
    }

    /// Takes a frame whose payload has arrived out of the buffer.
    fn take_payload(&mut self, head: &Head, length: usize) -> Bytes {
        self.buffer.advance(head.head_length);
        let mut payload = self.buffer.split_to(length);
        mask::apply(&mut payload, head.mask, 0);
        payload.freeze()
    }
}

impl Message {
    /// Refuses text as soon as it cannot become valid UTF-8 any more.
    fn check_text(&mut self) -> Result<(), ProtocolError> {
        if !self.text {
            return Ok(());
        }
        match std::str::from_utf8(&self.data[self.checked..]) {
            Ok(_) => self.checked = self.data.len(),
            Err(error) if error.error_len().is_none() => self.checked += error.valid_up_to(),
            Err(_) => return Err(ProtocolError::NotUtf8),
        }
        Ok(())
    }
}

fn parse_close(payload: &[u8]) -> Result<Event, ProtocolError> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return if payload.is_empty() {
            Ok(Event::Close { code: None, reason: String::new() })
        } else {
            Err(ProtocolError::CloseCode)
        };
    };
    let code = u16::from_be_bytes(*code);
    if !close_code::may_be_sent(code) {
        return Err(ProtocolError::CloseCode);
    }
    let reason = std::str::from_utf8(reason).map_err(|_| ProtocolError::NotUtf8)?;
    Ok(Event::Close { code: Some(code), reason: reason.to_owned() })
}

/// Makes frames for a client.
#[derive(Debug)]
pub struct Encoder {
    deflater: Option<Deflater>,
}

impl Encoder {
    /// `deflate` is what the handshake agreed on.
    pub fn new(deflate: Option<&Agreement>) -> Self {
        Self { deflater: deflate.map(Deflater::new) }
    }

    /// Appends the head of the frame of a message to `output`. The payload, which has to follow it, is `data` itself or
    /// its compressed form.
    pub fn message(&mut self, text: bool, data: Bytes, output: &mut BytesMut) -> Bytes {
        let opcode = if text { Opcode::Text } else { Opcode::Binary };
        let compressed = match &mut self.deflater {
            Some(deflater) if (COMPRESS_MIN..=COMPRESS_MAX).contains(&data.len()) => Some(deflater.message(&data)),
            _ => None,
        };
        // A compressor that failed is in no state to go on; messages need none.
        if let Some(Err(_)) = compressed {
            self.deflater = None;
        }
        let compressed = compressed.and_then(Result::ok);
        let is_compressed = compressed.is_some();
        let payload = compressed.map_or(data, Bytes::from);
        frame::write_head(opcode, true, is_compressed, payload.len(), output);
        payload
    }

    /// Appends a ping with this payload (at most 125 bytes are used).
    pub fn ping(payload: &[u8], output: &mut BytesMut) {
        control(Opcode::Ping, payload, output);
    }

    /// Appends the answer to a ping.
    pub fn pong(payload: &[u8], output: &mut BytesMut) {
        control(Opcode::Pong, payload, output);
    }

    /// Appends a close frame. A code that must not be sent ([`close_code::NO_STATUS`], for one) makes an empty frame;
    /// a reason that is too long is cut between two characters.
    pub fn close(code: u16, reason: &str, output: &mut BytesMut) {
        if !close_code::may_be_sent(code) {
            return control(Opcode::Close, &[], output);
        }
        let mut payload = code.to_be_bytes().to_vec();
        payload.extend_from_slice(&reason.as_bytes()[..reason.floor_char_boundary(CONTROL_PAYLOAD_MAX - 2)]);
        control(Opcode::Close, &payload, output);
    }
}

fn control(opcode: Opcode, payload: &[u8], output: &mut BytesMut) {
    let payload = &payload[..payload.len().min(CONTROL_PAYLOAD_MAX)];
    frame::write_head(opcode, true, false, payload.len(), output);
    output.extend_from_slice(payload);
}
