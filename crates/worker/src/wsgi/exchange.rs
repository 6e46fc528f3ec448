//! One request and its response: the `start_response` callable, and the sending of what the application returns.

use super::file_wrapper::FileBody;
use super::head::Head;
use crate::link::{Halt, Link};
use crate::log::complain;
use monoceros_wire::frame::{FLAG_END, FLAG_FILE, Kind, StreamId};
use monoceros_wire::message::{FileRange, encode_response};
use monoceros_wire::{DATA_CHUNK_MAX, RESPONSE_WINDOW};
use pyo3::exceptions::{PyBrokenPipeError, PyRuntimeError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// The state of a response, which is also the `start_response` callable of its request.
#[pyclass(module = "monoceros_worker", name = "start_response")]
pub(super) struct Exchange {
    link: Arc<Link>,
    stream: StreamId,
    cell: u32,
    /// When the application was called, in nanoseconds of the monotonic clock.
    entered_at: u64,
    is_head_request: bool,
    head: Option<Head>,
    is_head_sent: bool,
    /// Hints come too late.
    refuses_hints: bool,
    /// The last frame of the response was queued.
    is_ended: bool,
    /// The application was told that it sends more than it announced.
    is_cut: bool,
    /// Bytes of body sent.
    sent: u64,
    /// Bytes of body that may be sent before the front grants more.
    credit: u32,
}

/// Why a response failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The application raised.
    Raised(PyErr),
    /// The application broke the rules of WSGI; says how.
    Incomplete(String),
    /// Nobody waits for the rest.
    Cancelled,
}

impl From<PyErr> for Failure {
    fn from(error: PyErr) -> Self {
        Self::Raised(error)
    }
}

impl From<Halt> for Failure {
    fn from(halt: Halt) -> Self {
        match halt {
            Halt::Cancelled => Self::Cancelled,
            Halt::Raised(error) => Self::Raised(error),
        }
    }
}

/// A link that ends while hints are sent shows itself again in the response.
fn ignore_cancelled(result: Result<(), Halt>) -> PyResult<()> {
    match result {
        Ok(()) | Err(Halt::Cancelled) => Ok(()),
        Err(Halt::Raised(error)) => Err(error),
    }
}

#[pymethods]
impl Exchange {
    /// `start_response(status, headers, exc_info=None)`; returns the `write` callable.
    #[pyo3(signature = (status, headers, exc_info = None))]
    fn __call__<'py>(
        slf: &Bound<'py, Self>,
        status: &Bound<'py, PyAny>,
        headers: &Bound<'py, PyAny>,
        exc_info: Option<&Bound<'py, PyTuple>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        {
            let mut exchange = slf.try_borrow_mut()?;
            match exc_info {
                // The error page has come too late: the application is to be told of its own error.
                Some(exc_info) if exchange.is_head_sent => return Err(original_error(exc_info)?),
                Some(_) => {}
                None if exchange.head.is_some() => {
                    return Err(PyRuntimeError::new_err("start_response was called twice without exc_info"));
                }
                None => {}
            }
            let head = Head::parse(status, headers)?;
            for name in head.newly_dropped() {
                complain(py, &format!("drops the header field {name:?}: it belongs to the server (PEP 3333)"));
            }
            exchange.head = Some(head);
        }
        slf.getattr(intern!(py, "write"))
    }

    /// The imperative way to send a body, for old applications: what is written leaves at once.
    fn write(&mut self, py: Python<'_>, data: &Bound<'_, PyBytes>) -> PyResult<()> {
        match self.send(py, data.as_bytes(), false) {
            Ok(()) => Ok(()),
            Err(Failure::Raised(error)) => Err(error),
            Err(Failure::Incomplete(message)) => Err(PyRuntimeError::new_err(message)),
            Err(Failure::Cancelled) => Err(PyBrokenPipeError::new_err("the client is gone")),
        }
    }

    /// `wsgi.early_hints`: sends a 103 response before the final one (RFC 8297). Takes a list of `(name, value)` tuples.
    /// Too late for hints is no error, they are an optimisation: also while another thread sends the response.
    fn early_hints(slf: &Bound<'_, Self>, headers: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let head = Head::parse_hint(headers)?;
        let link = {
            let Ok(exchange) = slf.try_borrow() else { return Ok(()) };
            if exchange.refuses_hints {
                return Ok(());
            }
            let encoded = exchange.link.queue(|out| {
                out.push_with(exchange.stream, Kind::Hint, 0, |into| encode_response(into, head.status, head.fields()))
            });
            if encoded.is_err() {
                return Ok(());
            }
            Arc::clone(&exchange.link)
        };
        ignore_cancelled(link.flush(py))
    }
}

/// The exception in an `exc_info` tuple, with its traceback.
fn original_error(exc_info: &Bound<'_, PyTuple>) -> PyResult<PyErr> {
    let value = exc_info.get_item(1)?;
    if value.is_none() {
        return Err(PyTypeError::new_err("exc_info without an exception"));
    }
    Ok(PyErr::from_value(value))
}

impl Exchange {
    pub(super) fn new(link: Arc<Link>, stream: StreamId, cell: u32, is_head: bool) -> Self {
        Self {
            link,
            stream,
            cell,
            entered_at: 0,
            is_head_request: is_head,
            head: None,
            is_head_sent: false,
            refuses_hints: false,
            is_ended: false,
            is_cut: false,
            sent: 0,
            credit: RESPONSE_WINDOW,
        }
    }

    pub(super) fn stream(&self) -> StreamId {
        self.stream
    }

    pub(super) fn set_entered_at(&mut self, nanoseconds: u64) {
        self.entered_at = nanoseconds;
    }

    /// Stores how long the application took, where the front finds it with the last frame.
    fn record_service(&self) {
        let elapsed = monoceros_wire::sys::monotonic_now().saturating_sub(self.entered_at);
        self.link.page.record_service(self.cell, elapsed);
    }

    /// The application has returned: what it has kept of this request is of no use any more.
    pub(super) fn refuse_hints(&mut self) {
        self.refuses_hints = true;
    }

    pub(super) fn is_ended(&self) -> bool {
        self.is_ended
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.link.is_cancelled(self.cell, self.stream)
    }

    /// The head, once `start_response` was called.
    pub(super) fn head_mut(&mut self) -> Option<&mut Head> {
        self.head.as_mut()
    }

    /// Whether the response ends with its head, whatever the application returns.
    pub(super) fn is_bodyless(&self) -> bool {
        self.is_head_request || self.head.as_ref().is_some_and(Head::is_bodyless)
    }

    /// Sends bytes of the body, and the head before the first of them, at once. `is_last`: nothing follows. The
    /// response also ends where the announced length is reached.
    pub(super) fn send(&mut self, py: Python<'_>, chunk: &[u8], is_last: bool) -> Result<(), Failure> {
        if self.is_ended {
            self.complain_about_excess(py, chunk.len());
            return Ok(());
        }
        let Some(head) = self.head.as_mut() else {
            return Err(Failure::Incomplete("the application did not call start_response".to_owned()));
        };
        if self.is_head_request || head.is_bodyless() {
            return self.send_frames(py, &[], true);
        }
        if is_last && !self.is_head_sent {
            head.announce(chunk.len() as u64);
        }
        let Some(announced) = head.content_length else {
            return self.send_frames(py, chunk, is_last);
        };
        let left = announced - self.sent;
        let kept = chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let is_complete = kept as u64 == left;
        if is_last && !is_complete {
            let sent = self.sent + kept as u64;
            let message = format!("the application announced {announced} bytes of body and returned {sent}");
            return Err(Failure::Incomplete(message));
        }
        self.send_frames(py, &chunk[..kept], is_complete)?;
        self.complain_about_excess(py, chunk.len() - kept);
        Ok(())
    }

    /// Sends the response's whole body as a file, if the announced length allows it. False when it does not.
    pub(super) fn send_file(&mut self, py: Python<'_>, file: FileBody) -> Result<bool, Failure> {
        let Some(head) = self.head.as_mut() else { return Ok(false) };
        if self.is_head_sent || head.is_bodyless() || self.is_head_request || file.length == 0 {
            return Ok(false);
        }
        head.announce(file.length);
        let length = head.content_length.unwrap_or(file.length);
        if length == 0 || length > file.length {
            return Ok(false);
        }
        let FileBody { descriptor, offset, .. } = file;
        self.push_head(&[], FLAG_FILE)?;
        self.push_file(descriptor, FileRange { offset, length });
        self.sent = length;
        self.is_ended = true;
        self.record_service();
        self.link.flush(py)?;
        Ok(true)
    }

    /// Queues the frames of one chunk within the credit, waiting for more where it runs out, and flushes them.
    fn send_frames(&mut self, py: Python<'_>, chunk: &[u8], is_last: bool) -> Result<(), Failure> {
        if self.is_cancelled() {
            return Err(Failure::Cancelled);
        }
        let mut rest = chunk;
        loop {
            let size = rest.len().min(DATA_CHUNK_MAX).min(self.credit as usize);
            if size == 0 && !rest.is_empty() {
                self.link.flush(py)?;
                self.credit = self.link.wait_for_credit(py, self.cell, self.stream)?;
                continue;
            }
            let (piece, after) = rest.split_at(size);
            let flags = if is_last && after.is_empty() { FLAG_END } else { 0 };
            if self.is_head_sent {
                self.link.queue(|out| out.push(self.stream, Kind::Data, flags, piece));
            } else {
                self.push_head(piece, flags)?;
            }
            self.credit -= size as u32;
            self.sent += size as u64;
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        self.is_ended = is_last;
        if is_last {
            self.record_service();
        }
        Ok(self.link.flush(py)?)
    }

    fn push_head(&mut self, body: &[u8], flags: u8) -> Result<(), Failure> {
        let Some(head) = self.head.as_ref() else { return Ok(()) };
        self.refuses_hints = true;
        self.link
            .queue(|out| {
                out.push_with(self.stream, Kind::Head, flags, |into| {
                    encode_response(into, head.status, head.fields())?;
                    into.extend_from_slice(body);
                    Ok(())
                })
            })
            .map_err(|error| Failure::Incomplete(error.to_string()))?;
        self.is_head_sent = true;
        Ok(())
    }

    fn push_file(&self, descriptor: OwnedFd, range: FileRange) {
        let parts = range.encode();
        self.link.queue(|out| {
            out.push_descriptor(self.stream, Kind::File, FLAG_END, &[&parts], Arc::new(descriptor));
        });
    }

    fn complain_about_excess(&mut self, py: Python<'_>, excess: usize) {
        if excess > 0 && !self.is_cut && !self.is_bodyless() {
            self.is_cut = true;
            complain(py, "the application returned more than it announced in Content-Length; the rest is cut off");
        }
    }
}
