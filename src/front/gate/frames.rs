//! Watches the frames of an HTTP/2 connection: what is wrong gets the error code that RFC 9113 has for it, where h2 says
//! `PROTOCOL_ERROR` of nearly everything; and what a client can flood a server with is counted.
//!
//! Every frame that is counted is allowed, and cheap to send; what is not allowed is so many of them that they are the
//! point. Each kind has a budget per window of time; where the client's frames answer ours, ours raise the budget.

use super::framing::{
    Blocks, CONTINUATION, DATA, END_HEADERS, END_STREAM, ErrorCode, Frame, GOAWAY, HEADERS, Headers, PING, RST_STREAM,
    SETTINGS, Streams, Violation, WINDOW_UPDATE, check_settings,
};
use super::header_block;
use std::time::Duration;

/// Budgets are renewed this often.
const WINDOW: Duration = Duration::from_secs(10);

/// A browser that leaves a page resets what it had open. Beyond that, one of two streams must run to its end.
const RESETS: u32 = 100;
const PINGS: u32 = 100;
const SETTINGS_FRAMES: u32 = 50;
const EMPTY_DATA: u32 = 100;
const WINDOW_UPDATES: u32 = 1000;
/// PRIORITY, `PRIORITY_UPDATE` and everything unknown.
const OTHERS: u32 = 500;
/// Frames of one header block: 32 KiB need three.
const CONTINUATIONS: u32 = 16;

/// What the client sends far too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Flood {
    #[error("streams are opened and reset at once")]
    RapidReset,
    #[error("PING frames")]
    Ping,
    #[error("SETTINGS frames")]
    Settings,
    #[error("DATA frames without data")]
    EmptyData,
    #[error("WINDOW_UPDATE frames")]
    WindowUpdate,
    #[error("CONTINUATION frames in one header block")]
    Continuation,
    #[error("PRIORITY or unknown frames")]
    Other,
}

/// What was counted in the current window.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    streams: u32,
    resets: u32,
    pings: u32,
    settings: u32,
    empty_data: u32,
    window_updates: u32,
    others: u32,
    /// DATA frames we sent: pings and window updates may follow from them.
    sent: u32,
}

/// A GOAWAY as h2 and we write it: without debug data.
const GOAWAY_LENGTH: usize = 17;
const GOAWAY_HEADER: [u8; 9] = [0, 0, 8, GOAWAY, 0, 0, 0, 0, 0];

/// Watches both directions of one connection.
#[derive(Debug, Clone)]
pub struct Watch {
    inbound: Headers,
    outbound: Headers,
    /// The frame whose payload is being read.
    frame: Frame,
    /// Its payload so far, where it came in pieces.
    payload: Vec<u8>,
    /// The first frame was SETTINGS.
    is_greeted: bool,
    counts: Counts,
    window: u64,
    continuations: u32,
    in_header_block: bool,
    /// The header block are trailers.
    in_trailers: bool,
    blocks: Blocks,
    streams: Streams,
    opened: u64,
    ended: u64,
    progress: u64,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            inbound: Headers::after_preface(),
            outbound: Headers::default(),
            frame: Frame::default(),
            payload: Vec::new(),
            is_greeted: false,
            counts: Counts::default(),
            window: 0,
            continuations: 0,
            in_header_block: false,
            in_trailers: false,
            blocks: Blocks::default(),
            streams: Streams::default(),
            opened: 0,
            ended: 0,
            progress: 0,
        }
    }
}

impl Watch {
    /// Takes bytes of the client; `age` is how long the connection is open.
    pub fn received(&mut self, mut bytes: &[u8], age: Duration) -> Result<(), Violation> {
        let window = age.as_secs() / WINDOW.as_secs();
        if window != self.window {
            self.window = window;
            self.counts = Counts::default();
        }
        self.blocks.decoded();
        let in_payload = !self.inbound.is_payload_complete();
        self.take_payload(&mut bytes)?;
        while let Some(frame) = self.inbound.next(&mut bytes) {
            // Where one begins, one has ended. CONTINUATION only goes on with what HEADERS began.
            self.ended += u64::from(frame.kind != CONTINUATION);
            self.begin(frame)?;
            self.take_payload(&mut bytes)?;
        }
        if in_payload && self.inbound.is_payload_complete() && !self.in_header_block {
            self.ended += 1;
        }
        Ok(())
    }

    fn begin(&mut self, frame: Frame) -> Result<(), Violation> {
        if !std::mem::replace(&mut self.is_greeted, true) && frame.kind != SETTINGS {
            return Err(Violation::FirstFrame);
        }
        frame.check_length()?;
        self.frame = frame;
        if matches!(frame.kind, DATA | HEADERS) {
            let opens = self.streams.take(frame)?;
            self.in_trailers = frame.kind == HEADERS && !opens;
            self.opened += u64::from(opens);
            self.counts.streams += u32::from(opens);
        }
        Ok(self.count(frame)?)
    }

    /// Takes what is there of the payload of a frame that is looked at, and looks once it is whole.
    fn take_payload(&mut self, bytes: &mut &[u8]) -> Result<(), Violation> {
        if !self.frame.is_kept() {
            return Ok(());
        }
        let piece = self.inbound.payload(bytes);
        if !self.inbound.is_payload_complete() {
            self.payload.extend_from_slice(piece);
            return Ok(());
        }
        let frame = std::mem::take(&mut self.frame);
        if self.payload.is_empty() {
            return self.look(frame, piece);
        }
        let mut payload = std::mem::take(&mut self.payload);
        payload.extend_from_slice(piece);
        self.look(frame, &payload)
    }

    fn look(&mut self, frame: Frame, payload: &[u8]) -> Result<(), Violation> {
        if frame.kind == SETTINGS {
            return check_settings(payload);
        }
        let block = self.blocks.add(frame, payload);
        // h2 drops pseudo-header fields of trailers without a word (RFC 9113 §8.1: malformed).
        if self.in_trailers && block.is_some_and(header_block::has_pseudo_field) {
            return Err(Violation::PseudoTrailer);
        }
        Ok(())
    }

    fn count(&mut self, frame: Frame) -> Result<(), Flood> {
        let counts = &mut self.counts;
        let over = |count: &mut u32, budget: u32| {
            *count += 1;
            *count > budget
        };
        let flood = match frame.kind {
            DATA if frame.length == 0 && frame.flags & END_STREAM == 0 => {
                over(&mut counts.empty_data, EMPTY_DATA).then_some(Flood::EmptyData)
            }
            DATA => None,
            HEADERS => {
                self.in_header_block = frame.flags & END_HEADERS == 0;
                self.continuations = 0;
                None
            }
            CONTINUATION => {
                self.in_header_block &= frame.flags & END_HEADERS == 0;
                over(&mut self.continuations, CONTINUATIONS).then_some(Flood::Continuation)
            }
            RST_STREAM => {
                let over = over(&mut counts.resets, RESETS) && counts.resets > counts.streams / 2;
                over.then_some(Flood::RapidReset)
            }
            PING => over(&mut counts.pings, PINGS + counts.sent).then_some(Flood::Ping),
            SETTINGS => over(&mut counts.settings, SETTINGS_FRAMES).then_some(Flood::Settings),
            WINDOW_UPDATE => over(&mut counts.window_updates, WINDOW_UPDATES + 2 * counts.sent + 2 * counts.streams)
                .then_some(Flood::WindowUpdate),
            _ => over(&mut counts.others, OTHERS).then_some(Flood::Other),
        };
        flood.map_or(Ok(()), Err)
    }

    /// Takes bytes that went out to the client.
    pub fn sent(&mut self, mut bytes: &[u8]) {
        while let Some(frame) = self.outbound.next(&mut bytes) {
            if matches!(frame.kind, DATA | HEADERS) {
                self.progress += 1;
                self.counts.sent = self.counts.sent.saturating_add(1);
            }
        }
    }

    /// The code that belongs into what h2 is about to send, if it ends with a GOAWAY: h2 says `PROTOCOL_ERROR` of a
    /// header block that cannot be decoded, too.
    pub fn better_code(&self, mut bytes: &[u8]) -> Option<ErrorCode> {
        let start = bytes.len().checked_sub(GOAWAY_LENGTH)?;
        let (header, payload) = bytes[start..].split_at(GOAWAY_HEADER.len());
        if header != GOAWAY_HEADER || payload[4..] != [0, 0, 0, ErrorCode::ProtocolError as u8] {
            return None;
        }
        // It may be the end of a body that only looks like one.
        let mut outbound = self.outbound.clone();
        let mut last = 0;
        while outbound.next(&mut bytes).is_some() {
            last = bytes.len();
        }
        (outbound.is_at_boundary() && last == GOAWAY_LENGTH - GOAWAY_HEADER.len() && self.blocks.are_undecodable())
            .then_some(ErrorCode::CompressionError)
    }

    /// A GOAWAY frame.
    pub fn goaway(&self, code: ErrorCode) -> [u8; GOAWAY_LENGTH] {
        let mut frame = [0; GOAWAY_LENGTH];
        frame[..9].copy_from_slice(&GOAWAY_HEADER);
        frame[9..13].copy_from_slice(&self.streams.last().to_be_bytes());
        frame[16] = code as u8;
        frame
    }

    /// Streams the client has opened so far.
    pub fn opened(&self) -> u64 {
        self.opened
    }

    /// Grows with every frame or header block of the client that has ended.
    pub fn ended(&self) -> u64 {
        self.ended
    }

    /// Grows with every frame of an answer that goes out.
    pub fn progress(&self) -> u64 {
        self.progress
    }

    /// The client has begun a frame or a header block and owes the rest.
    pub fn is_inside_message(&self) -> bool {
        self.in_header_block || !self.inbound.is_at_boundary()
    }

    /// Whether a frame of our own may be put in now.
    pub fn may_insert(&self) -> bool {
        self.outbound.is_at_boundary()
    }
}

#[cfg(test)]
mod tests {
    use super::super::framing::{PREFACE_LENGTH, PRIORITY};
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u32).to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], kind, flags];
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    fn watch() -> Watch {
        let mut watch = Watch::default();
        let mut bytes = vec![0; PREFACE_LENGTH];
        bytes.extend(frame(SETTINGS, 0, 0, &[]));
        assert_eq!(watch.received(&bytes, Duration::ZERO), Ok(()));
        // The one that had to be first is not counted below.
        watch.counts = Counts::default();
        watch
    }

    #[test]
    fn each_kind_has_its_budget() {
        let cases: [(u8, u8, &[u8], u32, Flood); 7] = [
            (RST_STREAM, 0, &[0; 4], RESETS, Flood::RapidReset),
            (PING, 0, &[0; 8], PINGS, Flood::Ping),
            (SETTINGS, 0, &[], SETTINGS_FRAMES, Flood::Settings),
            (DATA, 0, &[], EMPTY_DATA, Flood::EmptyData),
            (WINDOW_UPDATE, 0, &[0; 4], WINDOW_UPDATES, Flood::WindowUpdate),
            (CONTINUATION, 0, b"x", CONTINUATIONS, Flood::Continuation),
            (0x2, 0, &[0; 5], OTHERS, Flood::Other),
        ];
        for (kind, flags, payload, budget, flood) in cases {
            let bytes = frame(kind, flags, 1, payload);
            let mut watch = watch();
            assert_eq!(watch.received(&frame(HEADERS, END_HEADERS, 1, &[]), Duration::ZERO), Ok(()));
            watch.counts = Counts::default();
            for _ in 0..budget {
                assert_eq!(watch.received(&bytes, Duration::ZERO), Ok(()), "{flood}");
            }
            assert_eq!(watch.clone().received(&bytes, Duration::ZERO), Err(Violation::Flood(flood)));
            if kind != CONTINUATION {
                assert_eq!(watch.received(&bytes, WINDOW), Ok(()), "{flood}: a new window");
            }
        }
    }

    #[test]
    fn what_answers_our_frames_is_no_flood() {
        let mut watch = watch();
        for _ in 0..10 * WINDOW_UPDATES {
            watch.sent(&frame(DATA, 0, 1, b"data"));
            assert_eq!(watch.received(&frame(WINDOW_UPDATE, 0, 1, &[0; 4]), Duration::ZERO), Ok(()));
        }
        for stream in 0..1000 {
            let id = stream * 2 + 1;
            assert_eq!(watch.received(&frame(HEADERS, END_HEADERS, id, b""), Duration::ZERO), Ok(()));
            if stream % 2 == 1 && stream > 300 {
                assert_eq!(watch.received(&frame(RST_STREAM, 0, id, &[0; 4]), Duration::ZERO), Ok(()));
            }
        }
    }

    #[test]
    fn the_cut_of_the_bytes_does_not_matter() {
        let mut bytes = vec![0; PREFACE_LENGTH];
        bytes.extend(frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 1, 0]));
        bytes.extend(frame(HEADERS, 0, 1, b"block"));
        bytes.extend(frame(CONTINUATION, END_HEADERS, 1, b"rest"));
        bytes.extend(frame(HEADERS, END_HEADERS, 3, b""));
        bytes.extend(frame(DATA, END_STREAM, 3, &[7; 300]));
        for size in 1..bytes.len() {
            let mut watch = Watch::default();
            for piece in bytes.chunks(size) {
                assert_eq!(watch.received(piece, Duration::ZERO), Ok(()));
            }
            assert_eq!((watch.opened(), watch.streams.last(), watch.is_inside_message()), (2, 3, false), "{size}");
        }
    }

    #[test]
    fn the_end_of_a_message_is_seen_where_the_next_has_begun() {
        let data = frame(DATA, 0, 1, &[7; 100]);
        let mut watch = watch();
        assert_eq!(watch.received(&frame(HEADERS, END_HEADERS, 1, b""), Duration::ZERO), Ok(()));
        assert_eq!(watch.received(&data[..50], Duration::ZERO), Ok(()));
        for rest in [50, 3, 9, 100] {
            let before = watch.ended();
            // The rest of one frame and the beginning of the next, up to inside its header or its payload.
            let bytes = [&data[50..], &data[..rest.min(50)]].concat();
            assert_eq!(watch.received(&bytes, Duration::ZERO), Ok(()));
            assert!(watch.ended() > before && watch.is_inside_message(), "{rest}");
            assert_eq!(watch.received(&data[rest.min(50)..50], Duration::ZERO), Ok(()));
        }
        let before = watch.ended();
        assert_eq!(watch.received(&data[50..60], Duration::ZERO), Ok(()));
        assert_eq!(watch.ended(), before, "a frame that only goes on");
    }

    #[test]
    fn a_header_block_is_one_message() {
        let mut watch = watch();
        assert_eq!(watch.received(&frame(HEADERS, 0, 1, b"block"), Duration::ZERO), Ok(()));
        let before = watch.ended();
        assert_eq!(watch.received(&frame(CONTINUATION, 0, 1, b"more"), Duration::ZERO), Ok(()));
        assert_eq!((watch.ended(), watch.is_inside_message()), (before, true));
    }

    #[test]
    fn each_violation_has_its_code() {
        let post = frame(HEADERS, END_HEADERS, 1, b"\x82");
        let get = frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x82");
        let size = |kind, length| Err(Violation::FrameSize { kind, length });
        let closed = Err(Violation::StreamClosed(1));
        let cases = [
            (vec![frame(RST_STREAM, 0, 1, &[0; 3])], size(RST_STREAM, 3)),
            (vec![frame(SETTINGS, 1, 0, &[0; 6])], size(SETTINGS, 6)),
            (vec![frame(SETTINGS, 0, 0, &[0; 5])], size(SETTINGS, 5)),
            (vec![frame(SETTINGS, 1, 0, &[])], Ok(())),
            (vec![frame(PING, 0, 0, &[0; 6])], size(PING, 6)),
            (vec![frame(GOAWAY, 0, 0, &[0; 7])], size(GOAWAY, 7)),
            (vec![frame(WINDOW_UPDATE, 0, 0, &[0; 3])], size(WINDOW_UPDATE, 3)),
            (vec![frame(PRIORITY, 0, 1, &[0; 4])], size(PRIORITY, 4)),
            (vec![frame(HEADERS, 0x20, 1, &[0; 4])], size(HEADERS, 4)),
            (vec![frame(0x42, 0, 1, &[0; 16_385])], size(0x42, 16_385)),
            (vec![frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 1, 0, 4, 0x80, 0, 0, 0])], Err(Violation::InitialWindow)),
            (vec![frame(SETTINGS, 0, 0, &[0, 3, 0x80, 0, 0, 0, 0, 4, 0x7F, 255, 255, 255])], Ok(())),
            (vec![get.clone(), frame(DATA, END_STREAM, 1, b"x")], closed),
            (vec![get.clone(), get.clone()], closed),
            (vec![get.clone(), frame(RST_STREAM, 0, 1, &[0; 4])], Ok(())),
            (vec![post.clone(), frame(DATA, 0, 1, b"x"), frame(DATA, END_STREAM, 1, b"x")], Ok(())),
            (vec![post.clone(), frame(DATA, END_STREAM, 1, b"x"), frame(DATA, 0, 1, b"x")], closed),
            (vec![post.clone(), frame(RST_STREAM, 0, 1, &[0; 4]), frame(DATA, 0, 1, b"x")], Ok(())),
            (vec![post.clone(), frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\0\x01a\x01b")], Ok(())),
            (vec![post, get], Err(Violation::PseudoTrailer)),
        ];
        for (number, (frames, expected)) in cases.into_iter().enumerate() {
            let bytes = frames.concat();
            assert_eq!(watch().received(&bytes, Duration::ZERO), expected, "{number}");
            let mut watch = watch();
            let piecewise = bytes.iter().try_for_each(|byte| watch.received(&[*byte], Duration::ZERO));
            assert_eq!(piecewise, expected, "{number}, byte by byte");
        }
        let mut bytes = vec![0; PREFACE_LENGTH];
        bytes.extend(frame(PING, 0, 0, &[0; 8]));
        assert_eq!(Watch::default().received(&bytes, Duration::ZERO), Err(Violation::FirstFrame));
    }

    #[test]
    fn a_stream_that_was_forgotten_is_left_to_h2() {
        let mut watch = watch();
        for stream in 0..2000 {
            assert_eq!(watch.received(&frame(HEADERS, END_HEADERS, stream * 2 + 1, b""), Duration::ZERO), Ok(()));
        }
        assert_eq!(watch.received(&frame(DATA, 0, 1, b"x"), Duration::ZERO), Ok(()));
    }

    #[test]
    fn only_the_goaway_of_an_undecodable_block_gets_another_code() {
        let goaway = frame(GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 1]);
        let after_ping = [frame(PING, 1, 0, &[0; 8]), goaway.clone()].concat();
        let as_body = frame(DATA, 0, 1, &goaway);
        let cases: [(&[u8], &[u8], bool); 6] = [
            (b"\x80", &goaway, true),
            (b"\x80", &after_ping, true),
            (b"\x80", &as_body, false),
            (b"\x80", &frame(GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 2]), false),
            (b"\x80", &goaway[1..], false),
            (b"\x82", &goaway, false),
        ];
        for (block, sent, expected) in cases {
            let mut watch = watch();
            assert_eq!(watch.received(&frame(HEADERS, END_HEADERS, 1, block), Duration::ZERO), Ok(()));
            assert_eq!(watch.better_code(sent).is_some(), expected, "{block:x?} {sent:x?}");
            // Once h2 has read on, that block was not the reason.
            assert_eq!(watch.received(&[], Duration::ZERO), Ok(()));
            assert_eq!(watch.better_code(sent), None);
        }
    }
}
