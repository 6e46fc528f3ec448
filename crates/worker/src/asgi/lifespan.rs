//! The lifespan of the application: startup before the first request, shutdown after the last (lifespan 2.0).

use super::awaitable::{Completed, Pending};
use super::call::{Call, call_application};
use super::event_loop::EventLoop;
use super::events::Event;
use super::failure::{format_traceback, report};
use super::scope::versions;
use super::stream::{Operation, Outcome, Stream, Waiters, lock};
use monoceros_wire::message::BootFailure;
use monoceros_wire::zygote::{LifespanChoice, TRACEBACK_MAX};
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::sync::{Arc, Mutex};

/// Where the lifespan is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// `lifespan.startup` was not yet received.
    Fresh,
    Starting,
    Running,
    /// `lifespan.shutdown` can be received.
    StopAsked,
    Stopping,
    /// Shut down, failed, or not supported.
    Over,
}

/// How startup went.
#[derive(Debug)]
pub(super) enum Startup {
    Pending,
    /// Started, or the application has no lifespan and need not have one.
    Done,
    Failed(BootFailure),
}

/// The conversation about the application's lifespan.
#[pyclass(frozen, weakref, module = "monoceros_worker")]
pub(super) struct Lifespan {
    event_loop: Arc<EventLoop>,
    required: bool,
    waiters: Waiters,
    state: Mutex<State>,
}

struct State {
    stage: Stage,
    startup: Startup,
    /// Keeps the task alive: the loop itself does not.
    task: Option<Py<PyAny>>,
}

impl Lifespan {
    /// Begins the lifespan of `app`. The main task is told when startup, and later shutdown, is over.
    pub(super) fn begin(
        app: &Bound<'_, PyAny>,
        event_loop: &Arc<EventLoop>,
        choice: LifespanChoice,
        state: &Bound<'_, PyDict>,
    ) -> PyResult<Py<Self>> {
        let py = app.py();
        let required = choice == LifespanChoice::On;
        let fresh = State { stage: Stage::Fresh, startup: Startup::Pending, task: None };
        let this =
            Self { event_loop: event_loop.clone(), required, waiters: Waiters::default(), state: Mutex::new(fresh) };
        let this = Bound::new(py, this)?;
        let scope = PyDict::new(py);
        scope.set_item("type", "lifespan")?;
        scope.set_item("asgi", versions(py, "2.0")?)?;
        scope.set_item("state", state)?;
        let stream = || Stream::Lifespan(this.clone().unbind());
        let arguments = (scope.into_any(), this.getattr("receive")?, this.getattr("send")?);
        match call_application(app, arguments) {
            Ok(coroutine) => {
                let call = Call::entered(stream(), coroutine.unbind());
                let task = event_loop.create_task(Bound::new(py, call)?.as_any(), "monoceros-lifespan")?;
                lock(&this.get().state).task = Some(task.unbind());
            }
            Err(error) => this.get().returned(py, &Outcome::Raised(error)),
        }
        Ok(this.unbind())
    }

    pub(super) fn event_loop(&self) -> &EventLoop {
        &self.event_loop
    }

    pub(super) fn waiters(&self) -> &Waiters {
        &self.waiters
    }

    pub(super) fn is_starting(&self) -> bool {
        matches!(lock(&self.state).startup, Startup::Pending)
    }

    /// How startup went; to be asked once, when it is over.
    pub(super) fn startup(&self) -> Startup {
        std::mem::replace(&mut lock(&self.state).startup, Startup::Done)
    }

    /// Asks the application to shut down. False when there is nothing to wait for.
    pub(super) fn ask_shutdown(&self, py: Python<'_>) -> bool {
        let mut state = lock(&self.state);
        if state.stage != Stage::Running {
            return false;
        }
        state.stage = Stage::StopAsked;
        drop(state);
        self.waiters.wake(py, Operation::Receive);
        true
    }

    pub(super) fn is_stopping(&self) -> bool {
        matches!(lock(&self.state).stage, Stage::StopAsked | Stage::Stopping)
    }

    pub(super) fn poll_receive(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let kind = {
            let mut state = lock(&self.state);
            match state.stage {
                Stage::Fresh => {
                    state.stage = Stage::Starting;
                    intern!(py, "lifespan.startup")
                }
                Stage::StopAsked => {
                    state.stage = Stage::Stopping;
                    intern!(py, "lifespan.shutdown")
                }
                _ => return Ok(None),
            }
        };
        let event = PyDict::new(py);
        event.set_item(intern!(py, "type"), kind)?;
        Ok(Some(event.into_any().unbind()))
    }

    pub(super) fn returned(&self, py: Python<'_>, outcome: &Outcome) {
        let (stage, task) = {
            let mut state = lock(&self.state);
            (std::mem::replace(&mut state.stage, Stage::Over), state.task.take())
        };
        drop(task);
        match (stage, outcome) {
            (Stage::Fresh | Stage::Starting, _) => {
                let startup = self.judge_startup(py, stage, outcome);
                lock(&self.state).startup = startup;
            }
            // What follows a failure repeats it.
            (Stage::Over, _) | (_, Outcome::Returned | Outcome::Cancelled) => {}
            (_, Outcome::Raised(error)) => {
                report(py, "monoceros: the application's lifespan raised an exception", Some(error));
            }
        }
        self.event_loop.tell_main(py);
    }

    /// The application left its lifespan before startup was complete.
    fn judge_startup(&self, py: Python<'_>, stage: Stage, outcome: &Outcome) -> Startup {
        if !self.required {
            // Who raises on the scope itself simply has no lifespan; who has received the event failed at it.
            if let (Stage::Starting, Outcome::Raised(error)) = (stage, outcome) {
                let line = "monoceros: the application raised an exception during startup; serving without lifespan";
                report(py, line, Some(error));
            }
            return Startup::Done;
        }
        Startup::Failed(match outcome {
            Outcome::Raised(error) => BootFailure {
                stage: "lifespan".to_owned(),
                message: format!("the application raised {} during startup", error.value(py).get_type()),
                hint: String::new(),
                traceback: shorten(format_traceback(py, error)),
            },
            Outcome::Returned | Outcome::Cancelled => BootFailure {
                stage: "lifespan".to_owned(),
                message: "the application returned from its lifespan without lifespan.startup.complete".to_owned(),
                hint: "set the lifespan to \"auto\" or \"off\" for an application that has none".to_owned(),
                traceback: String::new(),
            },
        })
    }

    fn advance(&self, py: Python<'_>, kind: &str, message: String) -> PyResult<()> {
        let mut state = lock(&self.state);
        match (kind, state.stage) {
            ("lifespan.startup.complete", Stage::Fresh | Stage::Starting) => {
                state.stage = Stage::Running;
                state.startup = Startup::Done;
            }
            ("lifespan.startup.failed", Stage::Fresh | Stage::Starting) => {
                state.stage = Stage::Over;
                state.startup = Startup::Failed(startup_failed(message));
            }
            ("lifespan.shutdown.complete", Stage::StopAsked | Stage::Stopping) => state.stage = Stage::Over,
            ("lifespan.shutdown.failed", Stage::StopAsked | Stage::Stopping) => {
                state.stage = Stage::Over;
                drop(state);
                report(py, &format!("monoceros: the application's shutdown failed: {message}"), None);
            }
            _ => {
                return Err(PyRuntimeError::new_err(format!(
                    "unexpected message {kind:?} at this point of a lifespan"
                )));
            }
        }
        Ok(())
    }
}

#[pymethods]
impl Lifespan {
    fn receive(slf: Py<Self>) -> Pending {
        Pending::new(Stream::Lifespan(slf), Operation::Receive)
    }

    fn send(&self, py: Python<'_>, message: &Bound<'_, PyAny>) -> PyResult<Completed> {
        let event = Event::new(message)?;
        let text = event.text(intern!(py, "message"))?.map(|text| text.to_string()).unwrap_or_default();
        self.advance(py, event.kind()?.to_str()?, text)?;
        self.event_loop.tell_main(py);
        Ok(Completed)
    }
}

/// Frameworks put the whole traceback into the message: its last line says what happened.
fn startup_failed(message: String) -> BootFailure {
    let last = message.trim().lines().last().unwrap_or_default().trim();
    let reason = if last.is_empty() { String::new() } else { format!(": {last}") };
    BootFailure {
        stage: "lifespan".to_owned(),
        message: format!("the application's startup failed{reason}"),
        hint: String::new(),
        traceback: if message.trim().contains('\n') { shorten(message) } else { String::new() },
    }
}

/// Cuts the middle out of a traceback that is too long for its frame.
fn shorten(traceback: String) -> String {
    if traceback.len() <= TRACEBACK_MAX {
        return traceback;
    }
    let head = traceback.floor_char_boundary(TRACEBACK_MAX / 2);
    let tail = traceback.ceil_char_boundary(traceback.len() - TRACEBACK_MAX / 2);
    format!("{}\n  ...\n{}", &traceback[..head], &traceback[tail..])
}
