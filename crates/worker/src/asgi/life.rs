//! The life of a worker as the main task of its loop: startup, serving, shutdown.
//!
//! The loop runs until this task is complete. Libraries look for such a task and hang on it what shall live as long as
//! the program: anyio keeps the threads of synchronous endpoints until it ends.

use super::awaitable::thrown;
use super::event_loop::EventLoop;
use super::failure::is_cancellation;
use super::lifespan::{Lifespan, Startup};
use super::server::Server;
use super::stream::lock;
use monoceros_wire::zygote::EXIT_APP_LOAD;
use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::intern;
use pyo3::prelude::*;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A worker that was told to end at once: how long its cancelled requests may clean up, and when its lifespan's
/// shutdown is no longer waited for, both from the order on.
pub(super) const CLEAN_UP_TIME: Duration = Duration::from_millis(500);
pub(super) const SHUTDOWN_TIME: Duration = Duration::from_millis(1500);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Starting,
    Serving,
    ShuttingDown,
    Over(i32),
}

/// The coroutine of the main task. It keeps its place: when a task that runs it is cancelled, the next goes on.
#[pyclass(frozen, weakref, module = "monoceros_worker")]
pub(super) struct Life {
    event_loop: Arc<EventLoop>,
    server: Py<Server>,
    lifespan: Option<Py<Lifespan>>,
    stage: Mutex<Stage>,
}

impl Life {
    pub(super) fn new(event_loop: Arc<EventLoop>, server: Py<Server>, lifespan: Option<Py<Lifespan>>) -> Self {
        Self { event_loop, server, lifespan, stage: Mutex::new(Stage::Starting) }
    }

    /// Runs the loop until the worker's life is over; returns the exit code.
    pub(super) fn run(slf: &Bound<'_, Self>) -> PyResult<i32> {
        let py = slf.py();
        let event_loop = &slf.get().event_loop;
        loop {
            let task = event_loop.create_task(slf.as_any(), "monoceros")?;
            let Err(error) = Self::run_task(event_loop, &task) else {
                return Ok(slf.get().code());
            };
            // An application that cancels all tasks of its loop means its own.
            if is_cancellation(py, &error) {
                continue;
            }
            // Somebody's SystemExit. What hangs on the main task is to end with it.
            slf.get().end(1);
            if task.call_method0(intern!(py, "cancel"))?.is_truthy()? {
                drop(event_loop.run_until_complete(py, &task));
            }
            return Err(error);
        }
    }

    /// Runs the loop until the task is complete, also when the application stops the loop, which is not its own.
    fn run_task(event_loop: &EventLoop, task: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = task.py();
        loop {
            let Err(error) = event_loop.run_until_complete(py, task) else { return Ok(()) };
            let was_stopped = error.is_instance_of::<PyRuntimeError>(py)
                && !task.call_method0(intern!(py, "done"))?.is_truthy()?
                && !event_loop.is_closed(py)?;
            if !was_stopped {
                return Err(error);
            }
        }
    }

    fn code(&self) -> i32 {
        match *lock(&self.stage) {
            Stage::Over(code) => code,
            Stage::Starting | Stage::Serving | Stage::ShuttingDown => 1,
        }
    }

    fn end(&self, code: i32) {
        *lock(&self.stage) = Stage::Over(code);
    }

    /// Goes through the stages. False while there is something to wait for.
    fn advance(&self, py: Python<'_>) -> bool {
        loop {
            let stage = *lock(&self.stage);
            let next = match stage {
                Stage::Over(_) => return true,
                Stage::Starting => self.start_up(py),
                Stage::Serving => self.serve(py),
                Stage::ShuttingDown => self.shut_down(),
            };
            let Some(next) = next else { return false };
            *lock(&self.stage) = next;
        }
    }

    /// Only a failure ends the worker; a drain meanwhile ends the wait.
    fn start_up(&self, py: Python<'_>) -> Option<Stage> {
        let server = self.server.get();
        let mut startup = Startup::Done;
        if let Some(lifespan) = &self.lifespan {
            if lifespan.get().is_starting() && server.exit().is_none() && !server.is_draining() {
                return None;
            }
            startup = lifespan.get().startup();
        }
        if let Startup::Failed(failure) = startup {
            server.announce_failure(&failure);
            return Some(Stage::Over(EXIT_APP_LOAD));
        }
        if !server.is_draining() && server.exit().is_none() {
            server.announce(py);
        }
        Some(Stage::Serving)
    }

    fn serve(&self, py: Python<'_>) -> Option<Stage> {
        let server = self.server.get();
        if let Some(code) = server.exit() {
            return Some(Stage::Over(code));
        }
        if !server.is_drained() && !server.is_hurried(CLEAN_UP_TIME) {
            return None;
        }
        // What is handed over from here on is never entered: the front takes it back.
        server.close_intake();
        let asked = self.lifespan.as_ref().is_some_and(|lifespan| lifespan.get().ask_shutdown(py));
        Some(if asked { Stage::ShuttingDown } else { Stage::Over(0) })
    }

    fn shut_down(&self) -> Option<Stage> {
        let server = self.server.get();
        if let Some(code) = server.exit() {
            return Some(Stage::Over(code));
        }
        let is_stopping = self.lifespan.as_ref().is_some_and(|lifespan| lifespan.get().is_stopping());
        if is_stopping && !server.is_hurried(SHUTDOWN_TIME) { None } else { Some(Stage::Over(0)) }
    }

    /// Yields a future to wait for; `None` at the end.
    fn resume(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        if self.advance(py) { Ok(None) } else { self.event_loop.wait_for_news(py).map(Some) }
    }
}

#[pymethods]
impl Life {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.resume(py)
    }

    fn send(&self, py: Python<'_>, _value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.resume(py)?.ok_or_else(|| PyStopIteration::new_err(py.None()))
    }

    #[pyo3(signature = (kind, value=None, _traceback=None))]
    #[expect(clippy::unused_self, reason = "the coroutine interface has a receiver")]
    fn throw(
        &self,
        kind: &Bound<'_, PyAny>,
        value: Option<&Bound<'_, PyAny>>,
        _traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        Err(thrown(kind, value))
    }

    #[expect(clippy::unused_self, reason = "the coroutine interface has a receiver")]
    fn close(&self) {}
}
