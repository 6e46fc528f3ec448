//! What `receive()` and `send()` return: objects with the whole coroutine interface, so that `await`, `create_task`,
//! `wait_for` and task groups take them, without a Python frame behind them.

use super::stream::{Operation, Stream, lock};
use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::intern;
use pyo3::prelude::*;
use std::sync::Mutex;

/// The error that `throw(kind, value, traceback)` asks for: the old form with three arguments and the new with one.
pub(super) fn thrown(kind: &Bound<'_, PyAny>, value: Option<&Bound<'_, PyAny>>) -> PyErr {
    match value.filter(|value| !value.is_none()) {
        Some(value) if value.is_instance_of::<pyo3::exceptions::PyBaseException>() => PyErr::from_value(value.clone()),
        Some(value) => match kind.call1((value,)) {
            Ok(error) => PyErr::from_value(error),
            Err(error) => error,
        },
        None if kind.is_instance_of::<pyo3::exceptions::PyBaseException>() => PyErr::from_value(kind.clone()),
        None => match kind.call0() {
            Ok(error) => PyErr::from_value(error),
            Err(error) => error,
        },
    }
}

/// The result of every `send` that need not wait: one object for all, complete from the start.
#[pyclass(frozen, module = "monoceros_worker")]
pub(super) struct Completed;

#[pymethods]
impl Completed {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[expect(clippy::unused_self, reason = "the slot has a receiver")]
    fn __next__(&self) -> Option<Py<PyAny>> {
        None
    }

    #[expect(clippy::unused_self, reason = "the coroutine interface has a receiver")]
    fn send(&self, py: Python<'_>, _value: &Bound<'_, PyAny>) -> PyResult<()> {
        Err(PyStopIteration::new_err(py.None()))
    }

    #[pyo3(signature = (kind, value=None, _traceback=None))]
    #[expect(clippy::unused_self, reason = "the coroutine interface has a receiver")]
    fn throw(
        &self,
        kind: &Bound<'_, PyAny>,
        value: Option<&Bound<'_, PyAny>>,
        _traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        Err(thrown(kind, value))
    }

    #[expect(clippy::unused_self, reason = "the coroutine interface has a receiver")]
    fn close(&self) {}

    #[getter]
    #[expect(clippy::unused_self, reason = "inspect.getcoroutinestate reads it from the object")]
    fn cr_running(&self) -> bool {
        false
    }

    #[getter]
    #[expect(clippy::unused_self, reason = "inspect.getcoroutinestate reads it from the object")]
    fn cr_suspended(&self) -> bool {
        false
    }

    #[getter]
    #[expect(clippy::unused_self, reason = "inspect.getcoroutinestate reads it from the object")]
    fn cr_frame(&self) -> Option<Py<PyAny>> {
        None
    }
}

enum Progress {
    Fresh,
    Waiting(Py<PyAny>),
    Over,
}

/// A `receive()` or a `send()` that may have to wait. Nothing is taken before it is awaited, and the value is taken in
/// the same step in which the awaiting task gets it.
#[pyclass(frozen, module = "monoceros_worker")]
pub(super) struct Pending {
    stream: Stream,
    operation: Operation,
    progress: Mutex<Progress>,
}

impl Pending {
    pub(super) fn new(stream: Stream, operation: Operation) -> Self {
        Self { stream, operation, progress: Mutex::new(Progress::Fresh) }
    }

    /// Leaves the queue of those who wait.
    fn leave(&self, next: Progress) -> PyResult<()> {
        let before = std::mem::replace(&mut *lock(&self.progress), next);
        match before {
            Progress::Fresh => Ok(()),
            Progress::Waiting(future) => {
                self.stream.waiters().remove(self.operation, &future);
                Ok(())
            }
            Progress::Over => Err(PyRuntimeError::new_err("cannot reuse an already awaited receive() or send()")),
        }
    }

    /// Yields a future to wait for, or ends with `StopIteration(value)`.
    fn resume(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.leave(Progress::Over)?;
        if let Some(value) = self.stream.poll(py, self.operation)? {
            return Err(PyStopIteration::new_err((value,)));
        }
        let future = self.stream.create_future(py)?;
        // What `Future.__await__` does before it yields itself: the task checks this mark.
        future.setattr(py, intern!(py, "_asyncio_future_blocking"), true)?;
        self.stream.waiters().add(self.operation, future.clone_ref(py));
        *lock(&self.progress) = Progress::Waiting(future.clone_ref(py));
        Ok(future)
    }
}

#[pymethods]
impl Pending {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.resume(py).map(Some)
    }

    fn send(&self, py: Python<'_>, _value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.resume(py)
    }

    #[pyo3(signature = (kind, value=None, _traceback=None))]
    fn throw(
        &self,
        kind: &Bound<'_, PyAny>,
        value: Option<&Bound<'_, PyAny>>,
        _traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        // Whether it was over already makes no difference to what is raised.
        let _ = self.leave(Progress::Over);
        Err(thrown(kind, value))
    }

    fn close(&self) {
        let _ = self.leave(Progress::Over);
    }

    #[getter]
    #[expect(clippy::unused_self, reason = "inspect.getcoroutinestate reads it from the object")]
    fn cr_running(&self) -> bool {
        false
    }

    #[getter]
    fn cr_suspended(&self) -> bool {
        matches!(&*lock(&self.progress), Progress::Waiting(_))
    }

    #[getter]
    #[expect(clippy::unused_self, reason = "inspect.getcoroutinestate reads it from the object")]
    fn cr_frame(&self) -> Option<Py<PyAny>> {
        None
    }

    #[getter]
    fn cr_await(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        match &*lock(&self.progress) {
            Progress::Waiting(future) => Some(future.clone_ref(py)),
            _ => None,
        }
    }
}
