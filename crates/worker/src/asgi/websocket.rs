//! One WebSocket: the `receive` and `send` that its application gets. Framing, masking, pings and compression are the
//! front's; the link carries messages.

use super::awaitable::Pending;
use super::events::Event;
use super::failure::ClientDisconnected;
use super::fields::{Purpose, encode_head};
use super::flow::Flow;
use super::identity::{Ending, Identity};
use super::response::Response;
use super::server::{LinkFault, Server};
use super::stream::{Operation, Outcome, Stream, Waiters, lock};
use bytes::{Bytes, BytesMut};
use monoceros_wire::REQUEST_WINDOW;
use monoceros_wire::codec::DecodeError;
use monoceros_wire::frame::{FLAG_END, FLAG_TEXT, Frame, Kind};
use monoceros_wire::message::{Abort, decode_amount, decode_close, encode_close};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};
use std::collections::VecDeque;
use std::sync::Mutex;

/// RFC 6455 section 7.4.1, and 1012 of the IANA registry.
const CODE_NORMAL: u16 = 1000;
const CODE_ABNORMAL: u16 = 1006;
const CODE_INTERNAL_ERROR: u16 = 1011;
const CODE_RESTART: u16 = 1012;
/// A control frame carries 125 bytes, two of them the code.
const REASON_MAX: usize = 123;

/// How far the handshake and the conversation have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The application has neither accepted nor refused.
    Connecting,
    /// It refuses with a response of its own.
    Denying,
    Open,
    /// Closed by either side, or refused.
    Closed,
}

/// Why nothing more can be received.
struct Disconnect {
    code: u16,
    reason: String,
}

struct Message {
    bytes: Bytes,
    text: bool,
    /// Credit to give back when the application takes it.
    owed: u32,
}

/// A WebSocket in the hands of the application.
#[pyclass(frozen, weakref, module = "monoceros_worker")]
pub(super) struct WebSocketExchange {
    identity: Identity,
    waiters: Waiters,
    state: Mutex<State>,
}

struct State {
    stage: Stage,
    /// `websocket.connect` was received.
    greeted: bool,
    incoming: VecDeque<Message>,
    fragments: BytesMut,
    /// Credit not yet given back for `fragments`.
    owed: u32,
    disconnect: Option<Disconnect>,
    /// Once set, `send` raises: the other side is gone (not: the application itself has closed).
    lost: bool,
    /// The worker drains: an acceptance is followed by a close at once.
    draining: bool,
    flow: Flow,
    denial: Response,
    /// A close that has to wait until the messages before it have left.
    closing: Option<Vec<u8>>,
    returned: bool,
}

impl State {
    fn is_blocked(&mut self) -> bool {
        self.flow.is_blocked() || self.denial.flow().is_blocked()
    }

    /// Credit to give back before a message is whole. A message may be longer than the window, so its rest would
    /// never come otherwise; but only while nothing else waits for the application: a client can fill memory with one
    /// message and one window, not more.
    fn owed_for_fragments(&mut self) -> u32 {
        if self.incoming.is_empty() && self.owed >= REQUEST_WINDOW / 2 { std::mem::take(&mut self.owed) } else { 0 }
    }
}

impl WebSocketExchange {
    pub(super) fn new(identity: Identity) -> Self {
        let stream = identity.place.stream;
        let state = State {
            stage: Stage::Connecting,
            greeted: false,
            incoming: VecDeque::new(),
            fragments: BytesMut::new(),
            owed: 0,
            disconnect: None,
            lost: false,
            draining: false,
            flow: Flow::new(stream),
            denial: Response::new(stream, false),
            closing: None,
            returned: false,
        };
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
    pub(super) fn deliver(&self, py: Python<'_>, frame: &Frame) -> Result<(), LinkFault> {
        match frame.kind {
            Kind::Message => self.message(py, frame)?,
            Kind::Window => self.grant(py, decode_amount(&frame.payload)?),
            Kind::Close => {
                let (code, reason) = decode_close(&frame.payload)?;
                let reason = String::from_utf8_lossy(&reason).into_owned();
                self.lose(py, Disconnect { code, reason });
            }
            Kind::Cancel => self.lose(py, Disconnect { code: CODE_ABNORMAL, reason: String::new() }),
            // A handshake has no body; a front that streams all bodies ends it here.
            Kind::Body => {}
            other => return Err(LinkFault::Unexpected(other)),
        }
        Ok(())
    }

    fn message(&self, py: Python<'_>, frame: &Frame) -> Result<(), LinkFault> {
        let mut state = lock(&self.state);
        state.owed += frame.payload.len() as u32;
        if !frame.is_end() {
            state.fragments.extend_from_slice(&frame.payload);
            let owed = state.owed_for_fragments();
            drop(state);
            self.consumed(py, owed);
            return Ok(());
        }
        let bytes = if state.fragments.is_empty() {
            frame.payload.clone()
        } else {
            let mut whole = std::mem::take(&mut state.fragments);
            whole.extend_from_slice(&frame.payload);
            whole.freeze()
        };
        if frame.is_text() && std::str::from_utf8(&bytes).is_err() {
            return Err(DecodeError::Invalid("text message").into());
        }
        let owed = std::mem::take(&mut state.owed);
        state.incoming.push_back(Message { bytes, text: frame.is_text(), owed });
        drop(state);
        self.waiters.wake(py, Operation::Receive);
        Ok(())
    }

    fn grant(&self, py: Python<'_>, amount: u32) {
        let mut state = lock(&self.state);
        let denying = state.stage == Stage::Denying;
        self.server().with_output(|out| {
            let flow = if denying { state.denial.flow() } else { &mut state.flow };
            flow.grant(py, out, amount);
        });
        let blocked = state.is_blocked();
        let closing = if blocked { None } else { state.closing.take() };
        let lingering = state.returned && !blocked;
        drop(state);
        if let Some(payload) = closing {
            self.server().with_output(|out| out.push(self.identity.place.stream, Kind::Close, FLAG_END, &payload));
        }
        if lingering {
            self.server().end_lingering(py, self.identity.place);
        }
        if !blocked {
            self.waiters.wake(py, Operation::Send);
        }
        self.server().flush_soon(py);
    }

    /// The client has closed or gone.
    fn lose(&self, py: Python<'_>, disconnect: Disconnect) {
        let mut state = lock(&self.state);
        state.disconnect.get_or_insert(disconnect);
        state.lost = true;
        state.stage = Stage::Closed;
        state.flow.clear();
        state.denial.flow().clear();
        state.closing = None;
        let lingering = state.returned;
        drop(state);
        if lingering {
            self.server().end_lingering(py, self.identity.place);
        }
        self.waiters.wake(py, Operation::Receive);
        self.waiters.wake(py, Operation::Send);
    }

    /// The worker stops: clients are asked to come back, to another worker.
    pub(super) fn drain(&self, py: Python<'_>) {
        let mut state = lock(&self.state);
        state.draining = true;
        if state.stage == Stage::Open {
            self.restart(&mut state);
        }
        drop(state);
        self.waiters.wake(py, Operation::Receive);
        self.waiters.wake(py, Operation::Send);
        self.server().flush_soon(py);
    }

    fn restart(&self, state: &mut State) {
        self.close_with(state, CODE_RESTART, "");
        state.lost = true;
    }

    /// Sends a close, after the messages that wait for credit.
    fn close_with(&self, state: &mut State, code: u16, reason: &str) {
        let payload = encode_close(code, reason);
        if state.flow.is_blocked() {
            state.closing = Some(payload);
        } else {
            self.server().with_output(|out| out.push(self.identity.place.stream, Kind::Close, FLAG_END, &payload));
        }
        state.stage = Stage::Closed;
        state.disconnect.get_or_insert_with(|| Disconnect { code, reason: reason.to_owned() });
    }

    pub(super) fn poll_receive(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let mut state = lock(&self.state);
        let event = if !state.greeted {
            state.greeted = true;
            drop(state);
            let event = PyDict::new(py);
            event.set_item(intern!(py, "type"), intern!(py, "websocket.connect"))?;
            event
        } else if let Some(message) = state.incoming.pop_front() {
            let owed = message.owed + state.owed_for_fragments();
            drop(state);
            self.consumed(py, owed);
            receive_event(py, &message)?
        } else if let Some(disconnect) = &state.disconnect {
            let (code, reason) = (disconnect.code, disconnect.reason.clone());
            drop(state);
            let event = PyDict::new(py);
            event.set_item(intern!(py, "type"), intern!(py, "websocket.disconnect"))?;
            event.set_item(intern!(py, "code"), code)?;
            event.set_item(intern!(py, "reason"), reason)?;
            event
        } else {
            return Ok(None);
        };
        Ok(Some(event.into_any().unbind()))
    }

    fn consumed(&self, py: Python<'_>, amount: u32) {
        if amount > 0 {
            self.server().with_output(|out| {
                out.push(self.identity.place.stream, Kind::Consumed, 0, &amount.to_le_bytes());
            });
            self.server().flush_soon(py);
        }
    }

    pub(super) fn poll_send(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let mut state = lock(&self.state);
        if state.lost {
            return Err(ClientDisconnected::new_err("the WebSocket is closed"));
        }
        Ok((!state.is_blocked()).then(|| py.None()))
    }

    pub(super) fn returned(&self, py: Python<'_>, outcome: &Outcome) {
        let mut state = lock(&self.state);
        state.returned = true;
        let lost = state.lost;
        let abort = match state.stage {
            Stage::Open => {
                let code = if matches!(outcome, Outcome::Raised(_)) { CODE_INTERNAL_ERROR } else { CODE_NORMAL };
                self.close_with(&mut state, code, "");
                false
            }
            Stage::Closed => false,
            Stage::Connecting => true,
            Stage::Denying => !state.denial.is_finished(),
        };
        let status = state.denial.status();
        let ending = match outcome {
            _ if !abort && state.is_blocked() => Ending::Lingering,
            _ if !abort => Ending::Done,
            Outcome::Returned => Ending::Abort(Abort::Incomplete),
            Outcome::Raised(_) | Outcome::Cancelled => Ending::Abort(Abort::Raised),
        };
        drop(state);
        self.identity.report(py, outcome, ending, lost, status);
        self.waiters.wake(py, Operation::Receive);
        self.server().ended(py, self.identity.place, ending);
    }

    fn accept(&self, py: Python<'_>, event: &Event<'_>) -> PyResult<()> {
        let subprotocol = event.text(intern!(py, "subprotocol"))?;
        let headers = event.get(intern!(py, "headers"))?;
        let subprotocol = subprotocol.as_ref().map(|name| name.to_str()).transpose()?;
        if subprotocol.is_some_and(|name| name.bytes().any(|byte| !byte.is_ascii_graphic())) {
            return Err(PyValueError::new_err("\"subprotocol\" must consist of visible ASCII characters"));
        }
        let extra = subprotocol.map(|name| (&b"sec-websocket-protocol"[..], name.as_bytes()));
        let head = encode_head(py, Purpose::Acceptance, 101, extra.as_slice(), headers.as_ref())?;
        let mut state = lock(&self.state);
        if state.stage != Stage::Connecting {
            return Err(PyRuntimeError::new_err("websocket.accept must be the first message"));
        }
        state.stage = Stage::Open;
        self.server().with_output(|out| out.push(self.identity.place.stream, Kind::Accept, 0, &head.encoded));
        if state.draining {
            self.restart(&mut state);
            drop(state);
            self.waiters.wake(py, Operation::Receive);
        }
        Ok(())
    }

    fn send_message(&self, py: Python<'_>, event: &Event<'_>) -> PyResult<()> {
        let (bytes, flags) = match (event.bytes(intern!(py, "bytes"))?, event.text(intern!(py, "text"))?) {
            (Some(bytes), _) => (bytes, 0),
            (None, Some(text)) => (PyBytes::new(py, text.to_str()?.as_bytes()), FLAG_TEXT),
            (None, None) => return Err(PyValueError::new_err("websocket.send has neither \"bytes\" nor \"text\"")),
        };
        let mut state = lock(&self.state);
        if state.stage != Stage::Open {
            return Err(PyRuntimeError::new_err(match state.stage {
                Stage::Closed => "websocket.send after websocket.close",
                _ => "websocket.send before websocket.accept",
            }));
        }
        self.server().with_output(|out| state.flow.bytes(out, Kind::Message, &bytes, flags, true));
        Ok(())
    }

    fn close(&self, py: Python<'_>, event: &Event<'_>) -> PyResult<()> {
        let code = event.number(intern!(py, "code"), Some(CODE_NORMAL), 1000..=4999)?;
        let reason = event.text(intern!(py, "reason"))?;
        let reason = reason.as_ref().map_or(Ok(""), |reason| reason.to_str())?;
        if reason.len() > REASON_MAX {
            return Err(PyValueError::new_err(format!("\"reason\" must not exceed {REASON_MAX} bytes")));
        }
        let refusal = encode_head(py, Purpose::Response, 403, &[(b"content-length", b"0")], None)?;
        let mut state = lock(&self.state);
        match state.stage {
            Stage::Open => self.close_with(&mut state, code, reason),
            Stage::Connecting => {
                state.stage = Stage::Closed;
                state.disconnect = Some(Disconnect { code: CODE_ABNORMAL, reason: String::new() });
                self.server()
                    .with_output(|out| out.push(self.identity.place.stream, Kind::Head, FLAG_END, &refusal.encoded));
            }
            Stage::Denying => return Err(PyRuntimeError::new_err("websocket.close after a denial response has begun")),
            Stage::Closed => return Err(PyRuntimeError::new_err("the WebSocket is closed already")),
        }
        drop(state);
        self.waiters.wake(py, Operation::Receive);
        Ok(())
    }

    fn deny_start(&self, py: Python<'_>, event: &Event<'_>) -> PyResult<()> {
        let status = event.number(intern!(py, "status"), None, 200..=999)?;
        let headers = event.get(intern!(py, "headers"))?;
        let head = encode_head(py, Purpose::Response, status, &[], headers.as_ref())?;
        let mut state = lock(&self.state);
        if !matches!(state.stage, Stage::Connecting | Stage::Denying) {
            return Err(PyRuntimeError::new_err("a denial response must come before websocket.accept and close"));
        }
        state.denial.start(status, head, false)?;
        state.stage = Stage::Denying;
        Ok(())
    }

    fn deny_body(&self, py: Python<'_>, event: &Event<'_>) -> PyResult<()> {
        let bytes = event.bytes(intern!(py, "body"))?;
        let more = event.flag(intern!(py, "more_body"))?;
        let mut state = lock(&self.state);
        self.server().with_output(|out| state.denial.body(out, bytes.as_ref(), more))?;
        if state.denial.is_finished() {
            state.disconnect.get_or_insert(Disconnect { code: CODE_ABNORMAL, reason: String::new() });
            drop(state);
            self.waiters.wake(py, Operation::Receive);
        }
        Ok(())
    }
}

#[pymethods]
impl WebSocketExchange {
    fn receive(slf: Py<Self>) -> Pending {
        Pending::new(Stream::WebSocket(slf), Operation::Receive)
    }

    fn send(slf: &Bound<'_, Self>, message: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let this = slf.get();
        let event = Event::new(message)?;
        {
            let state = lock(&this.state);
            if state.lost {
                return Err(ClientDisconnected::new_err("the WebSocket is closed"));
            }
            if state.returned {
                return Err(PyRuntimeError::new_err("the application has returned: its WebSocket is closed"));
            }
        }
        match event.kind()?.to_str()? {
            "websocket.send" => this.send_message(py, &event)?,
            "websocket.accept" => this.accept(py, &event)?,
            "websocket.close" => this.close(py, &event)?,
            "websocket.http.response.start" => this.deny_start(py, &event)?,
            "websocket.http.response.body" => this.deny_body(py, &event)?,
            other => return Err(PyRuntimeError::new_err(format!("unexpected message {other:?} for a WebSocket"))),
        }
        this.server().flush_soon(py);
        let blocked = lock(&this.state).is_blocked();
        if blocked {
            let pending = Pending::new(Stream::WebSocket(slf.clone().unbind()), Operation::Send);
            return Ok(Py::new(py, pending)?.into_any());
        }
        Ok(this.server().completed(py))
    }
}

fn receive_event<'py>(py: Python<'py>, message: &Message) -> PyResult<Bound<'py, PyDict>> {
    let event = PyDict::new(py);
    event.set_item(intern!(py, "type"), intern!(py, "websocket.receive"))?;
    if message.text {
        event.set_item(intern!(py, "text"), PyString::new(py, &String::from_utf8_lossy(&message.bytes)))?;
    } else {
        event.set_item(intern!(py, "bytes"), PyBytes::new(py, &message.bytes))?;
    }
    Ok(event)
}
