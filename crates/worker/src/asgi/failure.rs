//! What is told about an application that failed, and the error it gets when its client has gone.

use pyo3::exceptions::PyOSError;
use pyo3::intern;
use pyo3::prelude::*;

pyo3::create_exception!(
    monoceros_worker,
    ClientDisconnected,
    PyOSError,
    "send() was called after the client had disconnected."
);

/// Deepest chain of causes that is looked through.
const CHAIN_MAX: usize = 16;

/// Writes `line` to standard error, followed by the traceback of `error`, with one call.
pub(super) fn report(py: Python<'_>, line: &str, error: Option<&PyErr>) {
    let traceback = error.map(|error| format_traceback(py, error)).unwrap_or_default();
    let text = format!("{line}\n{traceback}");
    let written = py.import(intern!(py, "sys")).and_then(|sys| {
        let stderr = sys.getattr(intern!(py, "stderr"))?;
        if stderr.is_none() {
            return Ok(());
        }
        stderr.call_method1(intern!(py, "write"), (text,))?;
        stderr.call_method0(intern!(py, "flush")).map(drop)
    });
    // Standard error is closed or full: there is nobody left to tell.
    drop(written);
}

/// The traceback as Python would print it.
pub(super) fn format_traceback(py: Python<'_>, error: &PyErr) -> String {
    let formatted = py.import(intern!(py, "traceback")).and_then(|traceback| {
        let parts = (error.get_type(py), error.value(py), error.traceback(py));
        let lines = traceback.call_method1(intern!(py, "format_exception"), parts)?;
        intern!(py, "").call_method1(intern!(py, "join"), (lines,))?.extract::<String>()
    });
    formatted.unwrap_or_else(|_| error.to_string())
}

/// Whether an error only passes on that the client has gone: it is our own, was raised while handling our own, or is a
/// group of nothing else.
pub(super) fn stems_from_disconnect(py: Python<'_>, error: &PyErr) -> bool {
    is_disconnect(error.value(py).as_any(), CHAIN_MAX)
}

fn is_disconnect(error: &Bound<'_, PyAny>, depth: usize) -> bool {
    if error.is_instance_of::<ClientDisconnected>() {
        return true;
    }
    if depth == 0 {
        return false;
    }
    let py = error.py();
    if let Ok(group) = error.getattr(intern!(py, "exceptions"))
        && let Ok(members) = group.try_iter()
    {
        let mut members = members.peekable();
        return members.peek().is_some()
            && members.all(|member| member.is_ok_and(|member| is_disconnect(&member, depth - 1)));
    }
    [intern!(py, "__cause__"), intern!(py, "__context__")]
        .into_iter()
        .any(|link| error.getattr(link).is_ok_and(|earlier| !earlier.is_none() && is_disconnect(&earlier, depth - 1)))
}

/// Whether a task was cancelled, rather than failed.
pub(super) fn is_cancellation(py: Python<'_>, error: &PyErr) -> bool {
    static CANCELLED: pyo3::sync::PyOnceLock<Py<pyo3::types::PyType>> = pyo3::sync::PyOnceLock::new();
    CANCELLED.import(py, "asyncio", "CancelledError").is_ok_and(|cancelled| error.is_instance(py, cancelled.as_any()))
}
