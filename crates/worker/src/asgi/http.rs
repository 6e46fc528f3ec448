//! One HTTP request: the `receive` and `send` that its application gets.

use super::awaitable::Pending;
use super::events::Event;
use super::failure::ClientDisconnected;
use super::fields::{Head, Purpose, encode_head};
use super::identity::{Ending, Identity};
use super::request_body::{Piece, RequestBody};
use super::response::Response;
use super::server::{LinkFault, Server};
use super::stream::{Operation, Outcome, Stream, Waiters, lock};
use bytes::Bytes;
use monoceros_wire::frame::{Frame, Kind};
use monoceros_wire::message::{Abort, decode_amount};
use monoceros_wire::outbound::Outbound;
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Mutex;

/// An HTTP request in the hands of the application.
#[pyclass(frozen, weakref, module = "monoceros_worker")]
pub(super) struct HttpExchange {
    identity: Identity,
    waiters: Waiters,
    state: Mutex<State>,
}

struct State {
    body: RequestBody,
    response: Response,
    /// Fields of trailers that came in several messages.
    trailers: Vec<Py<PyAny>>,
    /// The client has gone.
    disconnected: bool,
    returned: bool,
}

impl HttpExchange {
    pub(super) fn new(identity: Identity, body: RequestBody, is_head: bool) -> Self {
        let response = Response::new(identity.place.stream, is_head);
        let state = State { body, response, trailers: Vec::new(), disconnected: false, returned: false };
        Self { identity, waiters: Waiters::default(), state: Mutex::new(state) }
    }

    pub(super) fn server(&self) -> &Server {
        self.identity.server.get()
    }

    pub(super) fn enter<'py>(&self, slf: &Bound<'py, Self>, request: &Bytes) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.server().enter(slf.as_any(), self.identity.place, request)
    }

    pub(super) fn waiters(&self) -> &Waiters {
        &self.waiters
    }

    /// A frame of the front for this stream.
    pub(super) fn deliver(&self, py: Python<'_>, frame: Frame) -> Result<(), LinkFault> {
        match frame.kind {
            Kind::Body => {
                lock(&self.state).body.feed(frame);
                self.waiters.wake(py, Operation::Receive);
            }
            Kind::Window => {
                let amount = decode_amount(&frame.payload)?;
                self.grant(py, amount);
            }
            Kind::Cancel => self.cancel(py),
            other => return Err(LinkFault::Unexpected(other)),
        }
        Ok(())
    }

    fn grant(&self, py: Python<'_>, amount: u32) {
        let mut state = lock(&self.state);
        self.server().with_output(|out| state.response.flow().grant(py, out, amount));
        let blocked = state.response.flow().is_blocked();
        let lingering = state.returned;
        drop(state);
        if !blocked {
            if lingering {
                self.server().end_lingering(py, self.identity.place);
            }
            self.waiters.wake(py, Operation::Send);
        }
        self.server().flush_soon(py);
    }

    fn cancel(&self, py: Python<'_>) {
        let mut state = lock(&self.state);
        state.disconnected = true;
        state.response.flow().clear();
        let lingering = state.returned;
        drop(state);
        if lingering {
            self.server().end_lingering(py, self.identity.place);
        }
        self.waiters.wake(py, Operation::Receive);
        self.waiters.wake(py, Operation::Send);
    }

    pub(super) fn poll_receive(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let piece = {
            let mut state = lock(&self.state);
            if state.disconnected || state.returned || state.response.is_finished() {
                drop(state);
                return disconnect_event(py).map(Some);
            }
            state.body.take()
        };
        let (bytes, more) = match piece {
            Piece::Pending | Piece::None => return Ok(None),
            Piece::Bytes { bytes, more, streamed } => {
                if streamed && !bytes.is_empty() {
                    let amount = (bytes.len() as u32).to_le_bytes();
                    self.server().with_output(|out| out.push(self.identity.place.stream, Kind::Consumed, 0, &amount));
                    self.server().flush_soon(py);
                }
                (PyBytes::new(py, &bytes), more)
            }
            Piece::File { file, offset, length, more } => (read_file(py, &file, offset, length)?, more),
        };
        let event = PyDict::new(py);
        event.set_item(intern!(py, "type"), intern!(py, "http.request"))?;
        event.set_item(intern!(py, "body"), bytes)?;
        event.set_item(intern!(py, "more_body"), more)?;
        Ok(Some(event.into_any().unbind()))
    }

    pub(super) fn poll_send(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let mut state = lock(&self.state);
        if state.disconnected {
            return Err(ClientDisconnected::new_err("the client has disconnected"));
        }
        Ok((!state.response.flow().is_blocked()).then(|| py.None()))
    }

    pub(super) fn returned(&self, py: Python<'_>, outcome: &Outcome) {
        let mut state = lock(&self.state);
        state.returned = true;
        let finished = state.response.is_finished();
        let disconnected = state.disconnected;
        let blocked = state.response.flow().is_blocked();
        let trailers = std::mem::take(&mut state.trailers);
        let status = state.response.status();
        drop(state);
        drop(trailers);
        let ending = match outcome {
            _ if disconnected => Ending::Done,
            _ if finished && blocked => Ending::Lingering,
            _ if finished => Ending::Done,
            Outcome::Returned => Ending::Abort(Abort::Incomplete),
            Outcome::Raised(_) | Outcome::Cancelled => Ending::Abort(Abort::Raised),
        };
        self.identity.report(py, outcome, ending, disconnected, status);
        self.waiters.wake(py, Operation::Receive);
        self.server().ended(py, self.identity.place, ending);
    }

    fn start(&self, py: Python<'_>, event: &Event<'_>) -> PyResult<()> {
        let status = event.number(intern!(py, "status"), None, 200..=999)?;
        let trailers = event.flag(intern!(py, "trailers"))?;
        let headers = event.get(intern!(py, "headers"))?;
        let head = encode_head(py, Purpose::Response, status, &[], headers.as_ref())?;
        Ok(lock(&self.state).response.start(status, head, trailers)?)
    }

    fn body(&self, py: Python<'_>, event: &Event<'_>) -> PyResult<()> {
        let bytes = event.bytes(intern!(py, "body"))?;
        let more = event.flag(intern!(py, "more_body"))?;
        self.respond(|response, out| response.body(out, bytes.as_ref(), more))
    }

    fn respond<E: Into<PyErr>>(&self, act: impl FnOnce(&mut Response, &mut Outbound) -> Result<(), E>) -> PyResult<()> {
        let mut state = lock(&self.state);
        self.server().with_output(|out| act(&mut state.response, out)).map_err(Into::into)
    }

    fn early_hint(&self, py: Python<'_>, event: &Event<'_>) -> PyResult<()> {
        let Some(links) = event.get(intern!(py, "links"))? else {
            return Err(PyValueError::new_err("http.response.early_hint has no \"links\""));
        };
        let links: Vec<Bound<'_, PyBytes>> =
            links.try_iter()?.map(|link| Ok(link?.cast_into::<PyBytes>()?)).collect::<PyResult<_>>()?;
        let fields = links.into_iter().map(|link| (PyBytes::new(py, b"link"), link)).collect::<Vec<_>>();
        let head = encode_head(py, Purpose::Response, 103, &[], Some(&fields.into_pyobject(py)?))?;
        self.respond(|response, out| response.hint(out, &head))
    }

    fn pathsend(&self, py: Python<'_>, event: &Event<'_>) -> PyResult<()> {
        let Some(path) = event.get(intern!(py, "path"))? else {
            return Err(PyValueError::new_err("http.response.pathsend has no \"path\""));
        };
        let (file, length) = open_regular(&path.extract::<PathBuf>()?)?;
        self.respond(|response, out| response.file(out, file, length))
    }

    fn trailers(&self, py: Python<'_>, event: &Event<'_>) -> PyResult<()> {
        let headers = event.get(intern!(py, "headers"))?;
        let more = event.flag(intern!(py, "more_trailers"))?;
        let mut state = lock(&self.state);
        let wanted = state.response.expect_trailers()?;
        if let Some(headers) = headers {
            state.trailers.push(headers.unbind());
        }
        let collected = if more { Vec::new() } else { std::mem::take(&mut state.trailers) };
        drop(state);
        if more || !wanted {
            return Ok(());
        }
        let mut fields: Vec<Bound<'_, PyAny>> = Vec::new();
        for list in &collected {
            for field in list.bind(py).try_iter()? {
                fields.push(field?);
            }
        }
        let head: Head = encode_head(py, Purpose::Response, 0, &[], Some(&fields.into_pyobject(py)?))?;
        self.respond(|response, out| response.trailers(out, head))
    }
}

#[pymethods]
impl HttpExchange {
    fn receive(slf: Py<Self>) -> Pending {
        Pending::new(Stream::Http(slf), Operation::Receive)
    }

    fn send(slf: &Bound<'_, Self>, message: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let this = slf.get();
        let event = Event::new(message)?;
        {
            let state = lock(&this.state);
            if state.disconnected {
                return Err(ClientDisconnected::new_err("the client has disconnected"));
            }
            if state.returned {
                return Err(PyRuntimeError::new_err("the application has returned: its response is over"));
            }
        }
        let kind = event.kind()?;
        match kind.to_str()? {
            "http.response.start" => {
                this.start(py, &event)?;
                return Ok(this.server().completed(py));
            }
            "http.response.body" => this.body(py, &event)?,
            "http.response.early_hint" => this.early_hint(py, &event)?,
            "http.response.pathsend" => this.pathsend(py, &event)?,
            "http.response.trailers" => this.trailers(py, &event)?,
            other => return Err(PyRuntimeError::new_err(format!("unexpected message {other:?} for an HTTP request"))),
        }
        this.server().flush_soon(py);
        let (blocked, finished) = {
            let mut state = lock(&this.state);
            (state.response.flow().is_blocked(), state.response.is_finished())
        };
        if finished {
            this.server().answered(this.identity.place);
            this.waiters.wake(py, Operation::Receive);
        }
        if blocked {
            let pending = Pending::new(Stream::Http(slf.clone().unbind()), Operation::Send);
            return Ok(Py::new(py, pending)?.into_any());
        }
        Ok(this.server().completed(py))
    }
}

fn disconnect_event(py: Python<'_>) -> PyResult<Py<PyAny>> {
    let event = PyDict::new(py);
    event.set_item(intern!(py, "type"), intern!(py, "http.disconnect"))?;
    Ok(event.into_any().unbind())
}

/// Reads a piece of a body that the front has put into a file: from memory or the page cache, so it does not wait.
fn read_file<'py>(py: Python<'py>, file: &OwnedFd, offset: u64, length: usize) -> PyResult<Bound<'py, PyBytes>> {
    PyBytes::new_with(py, length, |buffer| {
        let mut read = 0;
        while read < buffer.len() {
            match rustix::io::pread(file, &mut buffer[read..], offset + read as u64) {
                Ok(0) => return Err(PyOSError::new_err("the file of the request's body is shorter than announced")),
                Ok(more) => read += more,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(std::io::Error::from(error).into()),
            }
        }
        Ok(())
    })
}

/// Opens a file to be sent; anything but a regular file is refused, without waiting for the other end of a pipe.
fn open_regular(path: &std::path::Path) -> PyResult<(OwnedFd, u64)> {
    use rustix::fs::{FileType, Mode, OFlags, fstat, open};
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let failed = |error: rustix::io::Errno| {
        let path = String::from_utf8_lossy(path.as_os_str().as_bytes()).into_owned();
        // OSError(errno, text, path) becomes FileNotFoundError and its like.
        PyOSError::new_err((error.raw_os_error(), std::io::Error::from(error).to_string(), path))
    };
    let file = open(path, flags, Mode::empty()).map_err(failed)?;
    let facts = fstat(&file).map_err(failed)?;
    if FileType::from_raw_mode(facts.st_mode) != FileType::RegularFile {
        return Err(PyValueError::new_err(format!("{} is not a regular file", path.display())));
    }
    Ok((file, facts.st_size.try_into().unwrap_or(0)))
}
