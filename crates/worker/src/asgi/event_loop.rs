//! The event loop: which one, and the few of its methods that the worker calls often.

use super::stream::lock;
use monoceros_wire::zygote::LoopChoice;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyDict};
use std::sync::Mutex;
use std::time::Duration;

/// A loop that is not yet running, or the running one.
pub(super) struct EventLoop {
    object: Py<PyAny>,
    create_future: Py<PyAny>,
    call_soon: Py<PyAny>,
    task_type: Py<PyAny>,
    eager: bool,
    /// What the main task waits for.
    news: Mutex<Option<Py<PyAny>>>,
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
            news: Mutex::new(None),
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

    /// Calls `callback` after that time.
    pub(super) fn call_later(&self, delay: Duration, callback: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = callback.py();
        self.object.call_method1(py, intern!(py, "call_later"), (delay.as_secs_f64(), callback)).map(drop)
    }

    /// The future for which the main task waits until [`Self::tell_main`].
    pub(super) fn wait_for_news(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let future = self.create_future(py)?;
        // What `Future.__await__` does before it yields itself: the task checks this mark.
        future.setattr(py, intern!(py, "_asyncio_future_blocking"), true)?;
        let before = lock(&self.news).replace(future.clone_ref(py));
        drop(before);
        Ok(future)
    }

    /// Something has happened that the main task may wait for: it looks again.
    pub(super) fn tell_main(&self, py: Python<'_>) {
        let Some(future) = lock(&self.news).take() else { return };
        let told = future.call_method0(py, intern!(py, "done")).and_then(|done| {
            if !done.is_truthy(py)? {
                future.call_method1(py, intern!(py, "set_result"), (py.None(),))?;
            }
            Ok(())
        });
        if let Err(error) = told {
            error.write_unraisable(py, None);
        }
    }

    pub(super) fn run_until_complete(&self, py: Python<'_>, future: &Bound<'_, PyAny>) -> PyResult<()> {
        self.object.call_method1(py, intern!(py, "run_until_complete"), (future,)).map(drop)
    }

    pub(super) fn is_closed(&self, py: Python<'_>) -> PyResult<bool> {
        self.object.call_method0(py, intern!(py, "is_closed"))?.is_truthy(py)
    }
}
