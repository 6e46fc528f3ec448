//! The event loop: which one, and the few of its methods that the worker calls often.

use monoceros_wire::zygote::LoopChoice;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyDict};
use std::sync::atomic::{AtomicBool, Ordering};

/// A loop that is not yet running, or the running one.
pub(super) struct EventLoop {
    object: Py<PyAny>,
    create_future: Py<PyAny>,
    call_soon: Py<PyAny>,
    task_type: Py<PyAny>,
    eager: bool,
    closing: AtomicBool,
}

impl EventLoop {
    /// Makes the loop that was asked for and sets it as the thread's own.
    pub(super) fn new(py: Python<'_>, choice: LoopChoice) -> PyResult<Self> {
        let asyncio = py.import("asyncio")?;
        let uvloop = match choice {
            LoopChoice::Asyncio => None,
            LoopChoice::Uvloop => Some(py.import("uvloop")?),
            LoopChoice::Auto => py.import("uvloop").ok(),
        };
        let object = match uvloop {
            Some(uvloop) => uvloop.call_method0("new_event_loop")?,
            None => asyncio.call_method0("new_event_loop")?,
        };
        asyncio.call_method1("set_event_loop", (&object,))?;
        Ok(Self {
            create_future: object.getattr("create_future")?.unbind(),
            call_soon: object.getattr("call_soon")?.unbind(),
            task_type: asyncio.getattr("Task")?.unbind(),
            // Since 3.12 a task can run its first step at once: an application that answers without waiting then
            // costs no turn of the loop.
            eager: py.version_info() >= (3, 12),
            object: object.unbind(),
            closing: AtomicBool::new(false),
        })
    }

    pub(super) fn bind<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.object.bind(py)
    }

    /// Tasks run their first step where they are made.
    pub(super) fn is_eager(&self) -> bool {
        self.eager
    }

    pub(super) fn create_future(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.create_future.call0(py)
    }

    /// Calls `callback` in the next turn, in `context` instead of a copy of the caller's.
    pub(super) fn call_soon(&self, callback: &Bound<'_, PyAny>, context: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = callback.py();
        let keywords = [(intern!(py, "context"), context)].into_py_dict(py)?;
        self.call_soon.bind(py).call((callback,), Some(&keywords)).map(drop)
    }

    /// Runs a coroutine as a task, in a copy of the current context.
    pub(super) fn create_task<'py>(&self, coroutine: &Bound<'py, PyAny>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        let py = coroutine.py();
        let keywords = PyDict::new(py);
        keywords.set_item(intern!(py, "loop"), &self.object)?;
        keywords.set_item(intern!(py, "name"), name)?;
        if self.eager {
            keywords.set_item(intern!(py, "eager_start"), true)?;
        }
        self.task_type.bind(py).call((coroutine,), Some(&keywords))
    }

    /// Ends [`Self::run_forever`].
    pub(super) fn stop(&self, py: Python<'_>) -> PyResult<()> {
        if self.closing.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.object.call_method0(py, intern!(py, "stop")).map(drop)
    }

    pub(super) fn run_forever(&self, py: Python<'_>) -> PyResult<()> {
        self.object.call_method0(py, intern!(py, "run_forever")).map(drop)
    }

    /// From now on the loop only runs until something is complete, and nothing may stop it before.
    pub(super) fn begin_close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    pub(super) fn run_until_complete(&self, py: Python<'_>, future: &Bound<'_, PyAny>) -> PyResult<()> {
        self.object.call_method1(py, intern!(py, "run_until_complete"), (future,)).map(drop)
    }
}
