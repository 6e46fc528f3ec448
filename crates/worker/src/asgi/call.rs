//! One call of the application, as the coroutine that its task runs.
//!
//! It stands between the task and the application's own coroutine, and so learns of the end in the same step in which
//! the application returns: the last frames of a stream leave together with its response, without a callback one turn
//! of the loop later. Every other attribute (`cr_frame`, `cr_running`, …) is the application's, for debuggers and for
//! `inspect`.

use super::awaitable::thrown;
use super::failure::is_cancellation;
use super::stream::{Outcome, Stream, lock};
use bytes::Bytes;
use pyo3::exceptions::{PyAttributeError, PyGeneratorExit, PyStopIteration};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::iterator::PySendResult;
use pyo3::types::{PyIterator, PyString, PyType};
use std::sync::Mutex;

/// The coroutine of one request, WebSocket or lifespan.
#[pyclass(frozen, weakref, module = "monoceros_worker")]
pub(super) struct Call {
    stream: Stream,
    progress: Mutex<Progress>,
}

enum Progress {
    /// The application was not called: the request frame from which its scope will be made.
    Handed(Bytes),
    /// The application's coroutine.
    Entered(Py<PyAny>),
    Over,
}

impl Call {
    /// A request whose application is called in the task's first step, not before: until then it can be recalled.
    pub(super) fn handed(stream: Stream, request: Bytes) -> Self {
        Self { stream, progress: Mutex::new(Progress::Handed(request)) }
    }

    /// A call whose coroutine exists.
    pub(super) fn entered(stream: Stream, coroutine: Py<PyAny>) -> Self {
        Self { stream, progress: Mutex::new(Progress::Entered(coroutine)) }
    }

    fn inner<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        match &*lock(&self.progress) {
            Progress::Entered(inner) => Some(inner.bind(py).clone()),
            Progress::Handed(_) | Progress::Over => None,
        }
    }

    fn replace(&self, progress: Progress) -> Progress {
        std::mem::replace(&mut *lock(&self.progress), progress)
    }

    /// The application's coroutine, which the first step makes. `None`: the request was recalled, or is over.
    fn enter<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let request = match &mut *lock(&self.progress) {
            Progress::Handed(request) => std::mem::take(request),
            Progress::Entered(inner) => return Ok(Some(inner.bind(py).clone())),
            Progress::Over => return Ok(None),
        };
        let entered = self.stream.enter(py, &request);
        drop(self.replace(match &entered {
            Ok(Some(inner)) => Progress::Entered(inner.clone().unbind()),
            Ok(None) | Err(_) => Progress::Over,
        }));
        entered
    }

    /// Passes on what the application's coroutine yields; tells the stream when it has ended. An error does not go
    /// further, it was reported; only a cancellation does, because the task itself must know of it.
    fn pass(&self, py: Python<'_>, step: PyResult<PySendResult<'_>>) -> PyResult<Option<Py<PyAny>>> {
        let error = match step {
            Ok(PySendResult::Next(value)) => return Ok(Some(value.unbind())),
            Ok(PySendResult::Return(_)) => None,
            Err(error) => Some(error),
        };
        drop(self.replace(Progress::Over));
        match error {
            None => self.stream.returned(py, &Outcome::Returned),
            Some(error) if is_cancellation(py, &error) || error.is_instance_of::<PyGeneratorExit>(py) => {
                self.stream.returned(py, &Outcome::Cancelled);
                return Err(error);
            }
            Some(error) => self.stream.returned(py, &Outcome::Raised(error)),
        }
        Ok(None)
    }

    fn resume(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let inner = match self.enter(py) {
            Ok(Some(inner)) => inner,
            Ok(None) => return Ok(None),
            Err(error) => return self.pass(py, Err(error)),
        };
        #[expect(unsafe_code, reason = "PyIter_Send takes coroutines too, for which there is no checked type")]
        // SAFETY: the only use is `PyIter_Send`, which checks by itself what kind of object it gets.
        let iterator = unsafe { inner.cast_into_unchecked::<PyIterator>() };
        let step = iterator.send(py.None().bind(py));
        drop(iterator);
        self.pass(py, step)
    }
}

#[pymethods]
impl Call {
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
    fn throw(
        &self,
        py: Python<'_>,
        kind: &Bound<'_, PyAny>,
        value: Option<&Bound<'_, PyAny>>,
        _traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let error = thrown(kind, value);
        let Some(inner) = self.inner(py) else {
            if matches!(self.replace(Progress::Over), Progress::Handed(_)) {
                self.stream.returned(py, &Outcome::Cancelled);
            }
            return Err(error);
        };
        let step = match inner.call_method1(intern!(py, "throw"), (error.value(py),)) {
            Ok(value) => Ok(PySendResult::Next(value)),
            Err(error) if error.is_instance_of::<PyStopIteration>(py) => {
                Ok(PySendResult::Return(py.None().into_bound(py)))
            }
            Err(error) => Err(error),
        };
        drop(inner);
        self.pass(py, step)?.ok_or_else(|| PyStopIteration::new_err(py.None()))
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let closed = match self.replace(Progress::Over) {
            Progress::Over => return Ok(()),
            Progress::Handed(_) => Ok(py.None()),
            Progress::Entered(inner) => inner.call_method0(py, intern!(py, "close")),
        };
        self.stream.returned(py, &Outcome::Cancelled);
        closed.map(drop)
    }

    fn __getattr__(&self, py: Python<'_>, name: &Bound<'_, PyString>) -> PyResult<Py<PyAny>> {
        match self.inner(py) {
            Some(inner) => inner.getattr(name).map(Bound::unbind),
            None if name == "cr_running" || name == "cr_suspended" => {
                Ok(false.into_pyobject(py)?.to_owned().into_any().unbind())
            }
            None if name == "cr_frame" || name == "cr_await" => Ok(py.None()),
            None => Err(PyAttributeError::new_err(name.to_string())),
        }
    }
}

/// Calls `app(scope, receive, send)` and returns what a task can drive: a coroutine as it is, of any other awaitable its
/// iterator.
pub(super) fn call_application<'py>(
    app: &Bound<'py, PyAny>,
    arguments: (Bound<'py, PyAny>, Bound<'py, PyAny>, Bound<'py, PyAny>),
) -> PyResult<Bound<'py, PyAny>> {
    let awaitable = app.call1(arguments)?;
    if is_native_coroutine(&awaitable)? {
        return Ok(awaitable);
    }
    awaitable.call_method0(intern!(app.py(), "__await__"))
}

fn is_native_coroutine(awaitable: &Bound<'_, PyAny>) -> PyResult<bool> {
    static COROUTINE: pyo3::sync::PyOnceLock<Py<PyType>> = pyo3::sync::PyOnceLock::new();
    Ok(awaitable.get_type().is(COROUTINE.import(awaitable.py(), "types", "CoroutineType")?))
}
