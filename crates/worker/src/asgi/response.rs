//! The order of an HTTP response: start, body, end, with trailers or a file where announced.

use super::fields::Head;
use super::flow::Flow;
use bytes::BytesMut;
use monoceros_wire::frame::{FLAG_END, Kind, StreamId};
use monoceros_wire::message::FileRange;
use monoceros_wire::outbound::Outbound;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// How far the application has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing was sent.
    Idle,
    /// The head is known and held back for the first bytes of the body.
    Held,
    Body,
    /// The body has ended, trailers were announced.
    Trailers,
    Finished,
}

/// The rules of the interface were broken. The text is for the application's developer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Misuse {
    NotStarted,
    StartedTwice,
    AfterEnd,
    HintAfterStart,
    FileAfterBody,
    TrailersNotAnnounced,
    TrailersExpected,
    TrailersBeforeEnd,
    LongerThanAnnounced,
    ShorterThanAnnounced,
}

impl From<Misuse> for PyErr {
    fn from(misuse: Misuse) -> Self {
        PyRuntimeError::new_err(match misuse {
            Misuse::NotStarted => "the response must begin with a start message",
            Misuse::StartedTwice => "the response was started already",
            Misuse::AfterEnd => "the response is complete: nothing can follow it",
            Misuse::HintAfterStart => "early hints must come before the start of the response",
            Misuse::FileAfterBody => "http.response.pathsend must be the only body message",
            Misuse::TrailersNotAnnounced => "trailers need \"trailers\": True in http.response.start",
            Misuse::TrailersExpected => "the body has ended: only http.response.trailers can follow it",
            Misuse::TrailersBeforeEnd => "trailers must follow the last body message",
            Misuse::LongerThanAnnounced => "the body is longer than its Content-Length",
            Misuse::ShorterThanAnnounced => "the body is shorter than its Content-Length",
        })
    }
}

/// One response on its way to the front.
pub(super) struct Response {
    flow: Flow,
    stage: Stage,
    status: Option<u16>,
    head: BytesMut,
    head_sent: bool,
    /// The request was HEAD: no response has a body.
    to_head: bool,
    /// This response has no body, whatever the application sends.
    bodiless: bool,
    trailers: bool,
    /// Bytes of body that Content-Length still promises.
    promised: Option<u64>,
}

impl Response {
    pub(super) fn new(stream: StreamId, to_head: bool) -> Self {
        Self {
            flow: Flow::new(stream),
            stage: Stage::Idle,
            status: None,
            head: BytesMut::new(),
            head_sent: false,
            to_head,
            bodiless: false,
            trailers: false,
            promised: None,
        }
    }

    /// The application has sent everything that belongs to the response.
    pub(super) fn is_finished(&self) -> bool {
        self.stage == Stage::Finished || (self.bodiless && self.head_sent)
    }

    /// The status, once the response was started.
    pub(super) fn status(&self) -> Option<u16> {
        self.status
    }

    pub(super) fn flow(&mut self) -> &mut Flow {
        &mut self.flow
    }

    pub(super) fn start(&mut self, status: u16, head: Head, trailers: bool) -> Result<(), Misuse> {
        match self.stage {
            Stage::Idle => {}
            Stage::Finished => return Err(Misuse::AfterEnd),
            _ => return Err(Misuse::StartedTwice),
        }
        // RFC 9110 section 6.4.1.
        self.bodiless = self.to_head || matches!(status, 204 | 304);
        self.trailers = trailers && !self.bodiless;
        self.promised = head.content_length.filter(|_| !self.bodiless);
        self.status = Some(status);
        self.head = head.encoded;
        self.stage = Stage::Held;
        Ok(())
    }

    pub(super) fn hint(&mut self, out: &mut Outbound, head: &Head) -> Result<(), Misuse> {
        if self.stage != Stage::Idle {
            return Err(Misuse::HintAfterStart);
        }
        out.push(self.flow.stream(), Kind::Hint, 0, &head.encoded);
        Ok(())
    }

    pub(super) fn body(
        &mut self,
        out: &mut Outbound,
        bytes: Option<&Bound<'_, PyBytes>>,
        more: bool,
    ) -> Result<(), Misuse> {
        self.expect_body()?;
        self.keep_promise(bytes.map_or(0, |bytes| bytes.as_bytes().len()) as u64, more)?;
        let end = !more && !self.trailers;
        if self.stage == Stage::Held {
            let head = self.take_head();
            if self.bodiless {
                self.flow.head(out, &head, None, true);
            } else {
                self.flow.head(out, &head, bytes, end);
            }
        } else if self.bodiless {
            // Its head was its end.
        } else if let Some(bytes) = bytes {
            self.flow.bytes(out, Kind::Data, bytes, 0, end);
        } else if end {
            out.push(self.flow.stream(), Kind::Data, FLAG_END, &[]);
        }
        self.advance(more);
        Ok(())
    }

    /// A whole file as the body.
    pub(super) fn file(&mut self, out: &mut Outbound, file: OwnedFd, length: u64) -> Result<(), Misuse> {
        self.expect_body()?;
        if self.stage != Stage::Held {
            return Err(Misuse::FileAfterBody);
        }
        self.keep_promise(length, false)?;
        let end = !self.trailers;
        let head = self.take_head();
        if self.bodiless || length == 0 {
            self.flow.head(out, &head, None, end);
        } else {
            self.flow.head_of_file(out, &head, end);
            let range = FileRange { offset: 0, length }.encode();
            let flags = if end { FLAG_END } else { 0 };
            out.push_descriptor(self.flow.stream(), Kind::File, flags, &[&range], Arc::new(file));
        }
        self.advance(false);
        Ok(())
    }

    /// Whether trailers can come now; true where they must be sent, false where the response has no place for them.
    pub(super) fn expect_trailers(&self) -> Result<bool, Misuse> {
        match self.stage {
            Stage::Idle => Err(Misuse::NotStarted),
            Stage::Trailers => Ok(true),
            _ if self.bodiless => Ok(false),
            Stage::Finished => Err(Misuse::AfterEnd),
            Stage::Held | Stage::Body if self.trailers => Err(Misuse::TrailersBeforeEnd),
            Stage::Held | Stage::Body => Err(Misuse::TrailersNotAnnounced),
        }
    }

    pub(super) fn trailers(&mut self, out: &mut Outbound, head: Head) -> Result<(), Misuse> {
        if self.expect_trailers()? {
            self.flow.trailers(out, head.encoded);
            self.stage = Stage::Finished;
        }
        Ok(())
    }

    fn expect_body(&self) -> Result<(), Misuse> {
        match self.stage {
            Stage::Held | Stage::Body => Ok(()),
            Stage::Idle => Err(Misuse::NotStarted),
            Stage::Trailers => Err(Misuse::TrailersExpected),
            Stage::Finished => Err(Misuse::AfterEnd),
        }
    }

    fn keep_promise(&mut self, length: u64, more: bool) -> Result<(), Misuse> {
        if let Some(promised) = self.promised {
            let left = promised.checked_sub(length).ok_or(Misuse::LongerThanAnnounced)?;
            if !more && left > 0 {
                return Err(Misuse::ShorterThanAnnounced);
            }
            self.promised = Some(left);
        }
        Ok(())
    }

    fn take_head(&mut self) -> BytesMut {
        self.head_sent = true;
        std::mem::take(&mut self.head)
    }

    fn advance(&mut self, more: bool) {
        self.stage = match (more, self.trailers) {
            (true, _) => Stage::Body,
            (false, true) => Stage::Trailers,
            (false, false) => Stage::Finished,
        };
    }
}
