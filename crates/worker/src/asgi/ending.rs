//! How a worker is told to end: it drains, or it ends at once.

use super::life::{CLEAN_UP_TIME, SHUTDOWN_TIME};
use super::server::Server;
use super::stream::{Stream, lock};
use super::websocket::WebSocketExchange;
use crate::signals;
use monoceros_wire::frame::{Kind, LINK};
use pyo3::intern;
use pyo3::prelude::*;
use std::time::{Duration, Instant};

impl Server {
    /// The front hands nothing more over: everything that runs may finish, every WebSocket is closed.
    pub(super) fn begin_drain(&self, py: Python<'_>) {
        let websockets: Vec<Py<WebSocketExchange>> = {
            let mut table = lock(&self.table);
            table.draining = true;
            let streams = table.streams.values();
            streams
                .filter_map(|running| match &running.stream {
                    Stream::WebSocket(exchange) => Some(exchange.clone_ref(py)),
                    _ => None,
                })
                .collect()
        };
        for websocket in websockets {
            websocket.get().drain(py);
        }
        self.tell_main(py);
    }

    /// SIGTERM. The front does not know of it: told, it takes back what was not entered and hands nothing more over.
    pub(super) fn begin_drain_by_signal(&self, py: Python<'_>) {
        if self.is_draining() {
            return;
        }
        self.with_output(|out| out.push(LINK, Kind::Drain, 0, &[]));
        self.flush_soon(py);
        self.begin_drain(py);
    }

    /// SIGQUIT: the requests that run are cancelled, the lifespan has a moment to shut down, and then the process ends,
    /// whatever the application does.
    pub(super) fn end_now(&self, py: Python<'_>) -> PyResult<()> {
        let tasks: Vec<Py<PyAny>> = {
            let mut table = lock(&self.table);
            if table.hurried_at.is_some() {
                return Ok(());
            }
            table.hurried_at = Some(Instant::now());
            let tasks = table.streams.values().filter_map(|running| running.task.as_ref());
            tasks.map(|task| task.clone_ref(py)).collect()
        };
        signals::end_soon();
        self.close_intake();
        self.begin_drain(py);
        for task in tasks {
            task.call_method0(py, intern!(py, "cancel"))?;
        }
        self.look_again_after(py, CLEAN_UP_TIME)?;
        self.look_again_after(py, SHUTDOWN_TIME)
    }

    /// Nothing that was not entered ever will be.
    pub(super) fn close_intake(&self) {
        let queued = {
            let mut table = lock(&self.table);
            table.is_closed = true;
            std::mem::take(&mut table.queue)
        };
        drop(queued);
    }

    /// The worker was told to end at once.
    pub(super) fn has_to_end(&self) -> bool {
        lock(&self.table).hurried_at.is_some()
    }

    /// The worker was told to end at once, at least that long ago.
    pub(super) fn is_hurried(&self, time: Duration) -> bool {
        lock(&self.table).hurried_at.is_some_and(|since| since.elapsed() >= time)
    }

    pub(super) fn is_draining(&self) -> bool {
        lock(&self.table).draining
    }

    /// Draining, and nothing is left to do.
    pub(super) fn is_drained(&self) -> bool {
        let table = lock(&self.table);
        table.draining && table.streams.is_empty() && table.queue.is_empty()
    }

    pub(super) fn tell_main(&self, py: Python<'_>) {
        self.event_loop().tell_main(py);
    }
}
