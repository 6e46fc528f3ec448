//! The strict scanner of an HTTP/1 connection: it follows the framing of every message and passes only bytes it has
//! understood, so that hyper behind it sees nothing that could be read in two ways.
//!
//! It does no I/O and keeps no bytes. The caller shows it a window that starts at the first byte not passed yet; bytes
//! of a head are passed all at once, when the head is complete and accepted. The verdict does not depend on how the
//! bytes are cut into reads.

use super::Refusal;
use super::chunked::{self, Chunked};
use super::head::{Body, Head, HeadProgress};
use crate::front::limits;

/// What a head may use up.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub target_bytes: usize,
    pub header_bytes: usize,
    pub header_fields: usize,
}

impl From<&limits::Settings> for Limits {
    fn from(settings: &limits::Settings) -> Self {
        Self {
            target_bytes: settings.target_bytes,
            header_bytes: settings.header_bytes,
            header_fields: settings.header_fields,
        }
    }
}

/// Scans one connection.
#[derive(Debug, Clone)]
pub struct Scanner {
    limits: Limits,
    state: State,
    heads: u64,
}

#[derive(Debug, Clone)]
enum State {
    Head(Head),
    /// So many bytes of a body with Content-Length are to come.
    Length(u64),
    Chunked(Chunked),
    /// After a head that asks for a WebSocket: what follows is a tunnel or the next request, as the answer decides.
    Undecided,
    Tunnel,
    Refused(Refusal),
    Broken(Refusal),
}

/// What is to be done with the window shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scan {
    /// So many bytes from the front may go on to hyper.
    pub passed: usize,
    pub verdict: Verdict,
}

/// What is to be done with the rest of the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Keep the rest, if any, and show it again with more bytes behind it.
    More,
    /// The rest waits for the answer to the upgrade request before it.
    Wait,
    /// The head at the start of the rest is refused. Nothing after it is read.
    Refused(Refusal),
    /// The body passed so far cannot go on. Nothing after it is read.
    Broken(Refusal),
}

impl Scanner {
    pub fn new(limits: Limits) -> Self {
        Self { limits, state: State::Head(Head::default()), heads: 0 }
    }

    /// Accepted heads so far.
    pub fn heads(&self) -> u64 {
        self.heads
    }

    /// Between two messages, not one byte of the next one seen in an earlier window.
    pub fn is_between_messages(&self) -> bool {
        matches!(&self.state, State::Head(head) if head.is_untouched())
    }

    /// Waits for the rest of a head.
    pub fn is_in_head(&self) -> bool {
        matches!(self.state, State::Head(_))
    }

    /// The upgrade was answered with 101: everything from here on belongs to the tunnel.
    pub fn accept_upgrade(&mut self) {
        self.state = State::Tunnel;
    }

    /// The upgrade was answered otherwise: the next head follows.
    pub fn decline_upgrade(&mut self) {
        if matches!(self.state, State::Undecided) {
            self.state = State::Head(Head::default());
        }
    }

    /// Gives up on the head that is being waited for.
    pub fn refuse(&mut self, refusal: Refusal) {
        self.state = State::Refused(refusal);
    }

    /// Scans the window.
    pub fn scan(&mut self, window: &[u8]) -> Scan {
        let mut passed = 0;
        let verdict = loop {
            let rest = &window[passed..];
            match &mut self.state {
                State::Refused(refusal) => break Verdict::Refused(*refusal),
                State::Broken(refusal) => break Verdict::Broken(*refusal),
                State::Undecided => break Verdict::Wait,
                State::Tunnel => return Scan { passed: window.len(), verdict: Verdict::More },
                _ if rest.is_empty() => break Verdict::More,
                State::Head(head) => match head.scan(rest, &self.limits) {
                    HeadProgress::Incomplete => break Verdict::More,
                    HeadProgress::Refused(refusal) => self.state = State::Refused(refusal),
                    HeadProgress::Complete { length, body } => {
                        passed += length;
                        self.heads += 1;
                        self.state = match body {
                            Body::None => State::Head(Head::default()),
                            Body::Length(length) => State::Length(length),
                            Body::Chunked => State::Chunked(Chunked::default()),
                            Body::Upgrade => State::Undecided,
                        };
                    }
                },
                State::Length(remaining) => {
                    let taken = rest.len().min(usize::try_from(*remaining).unwrap_or(usize::MAX));
                    passed += taken;
                    *remaining -= taken as u64;
                    if *remaining == 0 {
                        self.state = State::Head(Head::default());
                    }
                }
                State::Chunked(chunked) => {
                    let (taken, progress) = chunked.scan(rest, &self.limits);
                    passed += taken;
                    match progress {
                        chunked::Progress::More => break Verdict::More,
                        chunked::Progress::Done => self.state = State::Head(Head::default()),
                        chunked::Progress::Broken(refusal) => self.state = State::Broken(refusal),
                    }
                }
            }
        };
        Scan { passed, verdict }
    }
}
