//! What the front's frames cause: requests are started or queued, everything else goes to its stream.

use super::call::{Call, call_application};
use super::failure::report;
use super::http::HttpExchange;
use super::identity::{Ending, Identity, Place};
use super::request_body::RequestBody;
use super::server::{LinkFault, Queued, Running, Server};
use super::stream::{Outcome, Stream, lock};
use super::websocket::WebSocketExchange;
use bytes::Bytes;
use monoceros_wire::codec::DecodeError;
use monoceros_wire::frame::{Frame, Kind, StreamId};
use monoceros_wire::message::{Abort, Protocol, Request, RequestFacts};
use monoceros_wire::page::Phase;
use monoceros_wire::sys::monotonic_now;
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;

impl Server {
    pub(super) fn handle(slf: &Bound<'_, Self>, frame: Frame) -> Result<(), LinkFault> {
        let py = slf.py();
        let this = slf.get();
        match frame.kind {
            Kind::Request => Self::accept(slf, frame),
            Kind::Drain => {
                this.begin_drain(py);
                Ok(())
            }
            // That it was read is all.
            Kind::Ping => Ok(()),
            Kind::Body | Kind::Cancel | Kind::Window | Kind::Message | Kind::Close => this.deliver(py, frame),
            other => Err(LinkFault::Unexpected(other)),
        }
    }

    /// Starts a request, or queues it where all slots are taken. A worker that ends leaves it to the front.
    fn accept(slf: &Bound<'_, Self>, frame: Frame) -> Result<(), LinkFault> {
        let this = slf.get();
        let full = {
            let table = lock(&this.table);
            if table.is_closed {
                return Ok(());
            }
            table.running >= this.slots || !table.queue.is_empty()
        };
        if full {
            let cell = Request::decode(&frame.payload)?.cell;
            lock(&this.table).queue.push_back(Queued { request: frame, cell, followers: Vec::new() });
            return Ok(());
        }
        Self::start(slf, frame, Vec::new())
    }

    /// Passes a frame on to its stream. One that is over, recalled or unknown is not an error: frames cross.
    fn deliver(&self, py: Python<'_>, frame: Frame) -> Result<(), LinkFault> {
        let running = lock(&self.table).streams.get(&frame.stream).map(|running| running.stream.clone_ref(py));
        let Some(stream) = running else {
            self.deliver_queued(py, frame);
            return Ok(());
        };
        match stream {
            Stream::Http(exchange) => exchange.get().deliver(py, frame),
            Stream::WebSocket(exchange) => exchange.get().deliver(py, &frame),
            Stream::Lifespan(_) => Ok(()),
        }
    }

    /// A frame for a request that still waits for its slot is kept for it, unless it takes the request away.
    fn deliver_queued(&self, py: Python<'_>, frame: Frame) {
        let queued = {
            let mut table = lock(&self.table);
            let position = table.queue.iter().position(|queued| queued.request.stream == frame.stream);
            let Some(position) = position else { return };
            if frame.kind != Kind::Cancel {
                table.queue[position].followers.push(frame);
                return;
            }
            table.queue.remove(position)
        };
        if let Some(queued) = queued {
            self.cancel_queued(py, &queued);
        }
    }

    /// Nobody waits for a request that was not entered: it never will be. A recalled one is the front's already.
    fn cancel_queued(&self, py: Python<'_>, queued: &Queued) {
        let stream = queued.request.stream;
        let handed =
            self.page.read(queued.cell).is_some_and(|cell| cell.stream == stream && cell.phase == Phase::Handed);
        if handed {
            self.with_output(|out| out.push(stream, Kind::Done, 0, &[]));
            self.flush_soon(py);
        }
        self.released(py);
    }

    /// Makes the task of a request; its first step enters the application.
    fn start(slf: &Bound<'_, Self>, mut frame: Frame, followers: Vec<Frame>) -> Result<(), LinkFault> {
        let py = slf.py();
        let this = slf.get();
        let file = frame.descriptor.take();
        let request = Request::decode(&frame.payload)?;
        let body = RequestBody::new(request.facts.body, request.body.clone(), file);
        let body = body.ok_or(DecodeError::MissingDescriptor("request"))?;
        let place = Place { stream: frame.stream, cell: request.cell };
        lock(&this.table).running += 1;
        let stream = match Self::make_exchange(slf, place, &request, body) {
            Ok(stream) => stream,
            Err(error) => {
                report(py, "monoceros: a request could not be started", Some(&error));
                this.ended(py, place, Ending::Abort(Abort::Raised));
                return Ok(());
            }
        };
        let running = Running { stream: stream.clone_ref(py), task: None };
        lock(&this.table).streams.insert(place.stream, running);
        for frame in followers {
            this.deliver(py, frame)?;
        }
        if let Err(error) = this.spawn(py, place.stream, stream.clone_ref(py), frame.payload.clone()) {
            stream.returned(py, &Outcome::Raised(error));
        }
        Ok(())
    }

    fn make_exchange(
        slf: &Bound<'_, Self>,
        place: Place,
        request: &Request<'_>,
        body: RequestBody,
    ) -> PyResult<Stream> {
        let py = slf.py();
        let RequestFacts { method, path, protocol, .. } = request.facts;
        let label = format!("{} {}", String::from_utf8_lossy(method), String::from_utf8_lossy(path));
        let identity = Identity { server: slf.clone().unbind(), place, label: label.into() };
        Ok(match protocol {
            Protocol::Http => Stream::Http(Py::new(py, HttpExchange::new(identity, body, method == b"HEAD"))?),
            Protocol::WebSocket => Stream::WebSocket(Py::new(py, WebSocketExchange::new(identity))?),
        })
    }

    fn spawn(&self, py: Python<'_>, id: StreamId, stream: Stream, request: Bytes) -> PyResult<()> {
        let call = Bound::new(py, Call::handed(stream, request))?;
        let task = self.event_loop.create_task(call.as_any(), &format!("monoceros-request-{id}"))?;
        if let Some(running) = lock(&self.table).streams.get_mut(&id) {
            running.task = Some(task.unbind());
        }
        Ok(())
    }

    /// Calls the application: from here on it is responsible for the request. A recalled one is dropped silently.
    pub(super) fn enter<'py>(
        &self,
        exchange: &Bound<'py, PyAny>,
        place: Place,
        request: &Bytes,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = exchange.py();
        let now = monotonic_now();
        self.flush_before_entering(py, now);
        if !self.page.enter(place.cell, place.stream, now, self.thread) {
            self.recalled(py, place);
            return Ok(None);
        }
        crate::api::enter(py, place.cell, place.stream)?;
        let request = Request::decode(request).map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
        let scope = self.scopes.build(py, &request)?;
        let receive = exchange.getattr(intern!(py, "receive"))?;
        let send = exchange.getattr(intern!(py, "send"))?;
        call_application(self.app.bind(py), (scope.into_any(), receive, send)).map(Some)
    }

    /// Starts what waits for a slot, in order.
    pub(super) fn start_waiting(slf: &Bound<'_, Self>) -> Result<(), LinkFault> {
        let this = slf.get();
        loop {
            let next = {
                let mut table = lock(&this.table);
                if table.running < this.slots { table.queue.pop_front() } else { None }
            };
            let Some(queued) = next else { break };
            Self::start(slf, queued.request, queued.followers)?;
        }
        // Recalled requests leave the queue without ever having run.
        if this.is_drained() {
            this.tell_main(slf.py());
        }
        Ok(())
    }
}
