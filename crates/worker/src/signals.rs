//! Signals in the zygote and in its workers.
//!
//! The supervisor speaks through the control socket and through Drain frames, not through signals: a Ctrl-C or a
//! service manager's SIGTERM to the whole group must not end the processes below it before it has drained them. The
//! handlers are Python functions and not `SIG_IGN`, because what is ignored stays ignored in every program the
//! application starts.

use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::sync::atomic::{AtomicBool, Ordering};

static TERMINATED: AtomicBool = AtomicBool::new(false);

/// Whether an operator has sent SIGTERM to this worker: finish what runs, take nothing more, exit 0.
pub(crate) fn is_terminated() -> bool {
    TERMINATED.load(Ordering::Relaxed)
}

#[pyfunction]
#[pyo3(signature = (_number, _frame))]
fn ignore_signal(_number: i32, _frame: &Bound<'_, PyAny>) {}

#[pyfunction]
#[pyo3(signature = (_number, _frame))]
fn terminate_worker(_number: i32, _frame: &Bound<'_, PyAny>) {
    TERMINATED.store(true, Ordering::Relaxed);
}

/// Names of the signals the zygote lives through.
const OURS: [&str; 4] = ["SIGINT", "SIGTERM", "SIGQUIT", "SIGHUP"];

/// The zygote's handlers. Returns the handler it put everywhere, for [`prepare_worker`].
pub(crate) fn prepare_zygote(py: Python<'_>) -> PyResult<Py<PyAny>> {
    let signal = py.import("signal")?;
    let ignore = wrap_pyfunction!(ignore_signal, py)?.into_any();
    for name in OURS {
        signal.call_method1("signal", (signal.getattr(name)?, &ignore))?;
    }
    Ok(ignore.unbind())
}

/// A worker's handlers, set before the application is imported so that its own handlers win. What a preloaded
/// application has already installed is left alone for the same reason.
pub(crate) fn prepare_worker(py: Python<'_>, of_zygote: &Py<PyAny>) -> PyResult<()> {
    let signal = py.import("signal")?;
    let default = signal.getattr("SIG_DFL")?;
    let terminate = wrap_pyfunction!(terminate_worker, py)?.into_any();
    for (name, handler) in [("SIGTERM", &terminate), ("SIGQUIT", &default)] {
        let number = signal.getattr(name)?;
        if signal.call_method1("getsignal", (&number,))?.is(of_zygote) {
            signal.call_method1("signal", (number, handler))?;
        }
    }
    signal.call_method1("pthread_sigmask", (signal.getattr("SIG_SETMASK")?, PyTuple::empty(py)))?;
    Ok(())
}
