//! Counts what an HTTP/2 client can flood a server with, from the frame headers alone (RFC 9113 §4.1).
//!
//! Every one of these frames is allowed, and cheap to send; what is not allowed is so many of them that they are the
//! point. Each kind has a budget per window of time; where the client's frames answer ours, ours raise the budget.

use std::time::Duration;

/// Budgets are renewed this often.
const WINDOW: Duration = Duration::from_secs(10);
/// The client's connection preface (RFC 9113 §3.4) stands before its first frame.
const PREFACE_LENGTH: usize = 24;
const HEADER_LENGTH: usize = 9;

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const RST_STREAM: u8 = 0x3;
const SETTINGS: u8 = 0x4;
const PING: u8 = 0x6;
const WINDOW_UPDATE: u8 = 0x8;
const CONTINUATION: u8 = 0x9;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

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

/// Finds the frame headers in a stream of bytes, however it is cut.
#[derive(Debug, Clone)]
struct Headers {
    header: [u8; HEADER_LENGTH],
    have: usize,
    /// Bytes to pass over before the next header.
    skip: usize,
}

/// One frame header.
#[derive(Debug, Clone, Copy)]
struct Frame {
    length: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Headers {
    fn next(&mut self, bytes: &mut &[u8]) -> Option<Frame> {
        let skipped = self.skip.min(bytes.len());
        *bytes = &bytes[skipped..];
        self.skip -= skipped;
        let taken = (HEADER_LENGTH - self.have).min(bytes.len());
        self.header[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
        *bytes = &bytes[taken..];
        self.have += taken;
        if self.have < HEADER_LENGTH {
            return None;
        }
        let [a, b, c, kind, flags, stream @ ..] = self.header;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        self.have = 0;
        self.skip = length;
        Some(Frame { length, kind, flags, stream: u32::from_be_bytes(stream) & 0x7FFF_FFFF })
    }

    fn is_at_boundary(&self) -> bool {
        self.have == 0 && self.skip == 0
    }
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

/// Watches both directions of one connection.
#[derive(Debug, Clone)]
pub struct Watch {
    inbound: Headers,
    outbound: Headers,
    counts: Counts,
    window: u64,
    continuations: u32,
    in_header_block: bool,
    last_stream: u32,
    opened: u64,
    progress: u64,
}

impl Default for Watch {
    fn default() -> Self {
        let headers = Headers { header: [0; HEADER_LENGTH], have: 0, skip: 0 };
        Self {
            inbound: Headers { skip: PREFACE_LENGTH, ..headers.clone() },
            outbound: headers,
            counts: Counts::default(),
            window: 0,
            continuations: 0,
            in_header_block: false,
            last_stream: 0,
            opened: 0,
            progress: 0,
        }
    }
}

impl Watch {
    /// Takes bytes of the client; `age` is how long the connection is open.
    pub fn received(&mut self, mut bytes: &[u8], age: Duration) -> Result<(), Flood> {
        let window = age.as_secs() / WINDOW.as_secs();
        if window != self.window {
            self.window = window;
            self.counts = Counts::default();
        }
        while let Some(frame) = self.inbound.next(&mut bytes) {
            self.count(frame)?;
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
                if frame.stream > self.last_stream {
                    self.last_stream = frame.stream;
                    self.opened += 1;
                    counts.streams += 1;
                }
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

    /// Streams the client has opened so far.
    pub fn opened(&self) -> u64 {
        self.opened
    }

    /// The highest stream of the client, for GOAWAY.
    pub fn last_stream(&self) -> u32 {
        self.last_stream
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
        watch.received(&[0; PREFACE_LENGTH], Duration::ZERO).unwrap_or_default();
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
            for _ in 0..budget {
                assert_eq!(watch.received(&bytes, Duration::ZERO), Ok(()), "{flood}");
            }
            assert_eq!(watch.clone().received(&bytes, Duration::ZERO), Err(flood));
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
        bytes.extend(frame(HEADERS, 0, 1, b"block"));
        bytes.extend(frame(CONTINUATION, END_HEADERS, 1, b"rest"));
        bytes.extend(frame(HEADERS, END_HEADERS, 3, b""));
        bytes.extend(frame(DATA, END_STREAM, 3, &[7; 300]));
        for size in 1..bytes.len() {
            let mut watch = Watch::default();
            for piece in bytes.chunks(size) {
                assert_eq!(watch.received(piece, Duration::ZERO), Ok(()));
            }
            assert_eq!((watch.opened(), watch.last_stream(), watch.is_inside_message()), (2, 3, false), "{size}");
        }
    }
}
