//! `import monoceros` in an application: more time for the request that asks for it.
//!
//! The module is found last, so that an installed package of the same name is not hidden. It is made only when an
//! application imports it, and only then does a request of an event loop carry its number in a context variable.

use crate::stacks::with_served;
use monoceros_wire::frame::StreamId;
use monoceros_wire::sys::monotonic_now;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyModule;
use std::sync::atomic::{AtomicBool, Ordering};

/// The application has imported the module.
static IS_WANTED: AtomicBool = AtomicBool::new(false);
/// Holds the cell and the stream of the request that a task, or what it has started, works on.
static REQUEST: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

const FINDER: &str = concat!(include_str!("api_finder.py"), "\0");

/// Makes `import monoceros` work.
pub(crate) fn install(py: Python<'_>) -> PyResult<()> {
    let code = const { crate::load::c_text(FINDER) };
    let module = PyModule::from_code(py, code, c"<monoceros>", c"monoceros_finder")?;
    let want = wrap_pyfunction!(want, py)?;
    module.getattr("install")?.call1((include_str!("api.py"), want)).map(drop)
}

#[pyfunction]
fn want(py: Python<'_>) -> PyResult<()> {
    let variable = py.import("contextvars")?.getattr("ContextVar")?.call1(("monoceros_request",))?;
    let _ = REQUEST.set(py, variable.unbind());
    IS_WANTED.store(true, Ordering::Relaxed);
    Ok(())
}

/// The task that runs now works on this request. Called in the task's first step.
pub(crate) fn enter(py: Python<'_>, cell: u32, stream: StreamId) -> PyResult<()> {
    if IS_WANTED.load(Ordering::Relaxed)
        && let Some(variable) = REQUEST.get(py)
    {
        variable.call_method1(py, "set", ((cell, stream),))?;
    }
    Ok(())
}

/// Gives the request that calls this `seconds` from now, if it does not have more anyway: until then it is not late.
/// Works in the thread of a WSGI request, and in the task of an ASGI request and whatever it has started
/// (`create_task`, `asyncio.to_thread`). Raises `RuntimeError` where there is no such request.
#[pyfunction]
pub(crate) fn extend_deadline(py: Python<'_>, seconds: f64) -> PyResult<()> {
    const MOST: f64 = 24.0 * 3600.0;
    if !(0.0..=MOST).contains(&seconds) {
        return Err(PyValueError::new_err("seconds: a number from 0 to 86400"));
    }
    let thread = crate::sys::thread_ident(py)?;
    let of_task = REQUEST.get(py).map(|variable| variable.call_method1(py, "get", (py.None(),))).transpose()?;
    let of_task = of_task.and_then(|request| request.extract::<(u32, StreamId)>(py).ok());
    let until = monotonic_now() + (seconds * 1e9) as u64;
    let is_extended = with_served(|page, is_asgi| {
        let request = if is_asgi { of_task } else { page.entered_by(thread) };
        request.is_some_and(|(cell, stream)| page.extend(cell, stream, until))
    });
    if is_extended == Some(true) {
        return Ok(());
    }
    Err(PyRuntimeError::new_err("extend_deadline() was called where no request is being worked on"))
}
