//! Signals in the zygote and in its workers.
//!
//! The supervisor speaks through the control socket and through Drain frames, not through signals: a Ctrl-C or a
//! service manager's SIGTERM to the whole group must not end the processes below it before it has drained them. The
//! handlers are Python functions and not `SIG_IGN`, because what is ignored stays ignored in every program the
//! application starts. Only SIGQUIT, which nobody sends to a whole group, tells a worker to end at once.

use pyo3::exceptions::PySystemExit;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use rustix::process::{Signal, getpid, kill_process};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

static TERMINATED: AtomicBool = AtomicBool::new(false);
static QUITTING: AtomicBool = AtomicBool::new(false);

/// How long a worker that has to end at once may take for it.
const END_TIME: Duration = Duration::from_secs(2);

/// Every handler that is ours, with the number of its signal. What the application has replaced is not ours any more.
static CLAIMED: Mutex<Vec<(i32, Py<PyAny>)>> = Mutex::new(Vec::new());

/// Whether an operator has sent SIGTERM to this worker: finish what runs, take nothing more, exit 0.
pub(crate) fn is_terminated() -> bool {
    TERMINATED.load(Ordering::Relaxed)
}

/// Whether this worker was told to end at once: nothing is waited for that may not come.
pub(crate) fn is_quitting() -> bool {
    QUITTING.load(Ordering::Relaxed)
}

/// Ends this process in a moment, whatever its threads do until then.
pub(crate) fn end_soon() {
    if !QUITTING.swap(true, Ordering::Relaxed) {
        std::thread::spawn(|| {
            std::thread::sleep(END_TIME);
            let _ = kill_process(getpid(), Signal::KILL);
        });
    }
}

#[pyfunction]
#[pyo3(signature = (_number, _frame))]
fn ignore_signal(_number: i32, _frame: &Bound<'_, PyAny>) {}

#[pyfunction]
#[pyo3(signature = (_number, _frame))]
fn terminate_worker(_number: i32, _frame: &Bound<'_, PyAny>) {
    TERMINATED.store(true, Ordering::Relaxed);
}

/// Leaves the application where it is, so that its `finally` and its exit hooks run.
#[pyfunction]
#[pyo3(signature = (_number, _frame))]
fn quit_worker(_number: i32, _frame: &Bound<'_, PyAny>) -> PyResult<()> {
    end_soon();
    Err(PySystemExit::new_err(0))
}

/// Names of the signals the zygote lives through.
const OURS: [&str; 4] = ["SIGINT", "SIGTERM", "SIGQUIT", "SIGHUP"];

/// Puts the zygote's handlers on its signals. Returns those of the application that they replace, by name: after
/// preloading the workers get them back.
pub(crate) fn prepare_zygote(py: Python<'_>) -> PyResult<Py<PyDict>> {
    let signal = py.import("signal")?;
    let ignore = wrap_pyfunction!(ignore_signal, py)?.into_any();
    let replaced = PyDict::new(py);
    for name in OURS {
        let number = signal.getattr(name)?;
        if !is_ours_or_default(&number)? {
            replaced.set_item(name, signal.call_method1("getsignal", (&number,))?)?;
        }
        signal.call_method1("signal", (&number, &ignore))?;
        claim(&number)?;
    }
    Ok(replaced.unbind())
}

/// A worker's handlers, set before the application is imported so that its own handlers win; those of a preloaded
/// application win for the same reason.
pub(crate) fn prepare_worker(py: Python<'_>, of_application: &Py<PyDict>) -> PyResult<()> {
    let signal = py.import("signal")?;
    let terminate = wrap_pyfunction!(terminate_worker, py)?.into_any();
    let quit = wrap_pyfunction!(quit_worker, py)?.into_any();
    for (name, handler) in [("SIGTERM", &terminate), ("SIGQUIT", &quit)] {
        let number = signal.getattr(name)?;
        signal.call_method1("signal", (&number, handler))?;
        claim(&number)?;
    }
    for (name, handler) in of_application.bind(py) {
        // What was not set from Python cannot be put back.
        if !handler.is_none() {
            signal.call_method1("signal", (signal.getattr(name.extract::<&str>()?)?, handler))?;
        }
    }
    block_only(PyTuple::empty(py).as_any())
}

/// Blocks the signals that are ours in this thread; returns the set that was blocked before.
pub(crate) fn block_ours(py: Python<'_>) -> PyResult<Py<PyAny>> {
    let signal = py.import("signal")?;
    let numbers = OURS.iter().map(|name| signal.getattr(name)).collect::<PyResult<Vec<_>>>()?;
    Ok(signal.call_method1("pthread_sigmask", (signal.getattr("SIG_BLOCK")?, numbers))?.unbind())
}

/// Blocks these signals in this thread and no others.
pub(crate) fn block_only(numbers: &Bound<'_, PyAny>) -> PyResult<()> {
    let signal = numbers.py().import("signal")?;
    signal.call_method1("pthread_sigmask", (signal.getattr("SIG_SETMASK")?, numbers)).map(drop)
}

/// Remembers that the handler which is set now is ours.
pub(crate) fn claim(number: &Bound<'_, PyAny>) -> PyResult<()> {
    let handler = number.py().import("signal")?.call_method1("getsignal", (number,))?.unbind();
    let number = number.extract()?;
    let mut claimed = CLAIMED.lock().unwrap_or_else(PoisonError::into_inner);
    claimed.retain(|(other, _)| *other != number);
    claimed.push((number, handler));
    Ok(())
}

/// Whether the application has no handler of its own for this signal.
pub(crate) fn is_ours_or_default(number: &Bound<'_, PyAny>) -> PyResult<bool> {
    let signal = number.py().import("signal")?;
    let current = signal.call_method1("getsignal", (number,))?;
    let number: i32 = number.extract()?;
    let is_ours = {
        let claimed = CLAIMED.lock().unwrap_or_else(PoisonError::into_inner);
        claimed.iter().any(|(other, handler)| *other == number && handler.is(&current))
    };
    Ok(is_ours || current.is(signal.getattr("default_int_handler")?) || current.eq(signal.getattr("SIG_DFL")?)?)
}

/// In a process that the application has forked: what signals do is Python's default again, and none of them reaches
/// the event loop of the parent through the descriptor that both share.
pub(crate) fn release(py: Python<'_>) -> PyResult<()> {
    let signal = py.import("signal")?;
    signal.call_method1("set_wakeup_fd", (-1,))?;
    let claimed = std::mem::take(&mut *CLAIMED.lock().unwrap_or_else(PoisonError::into_inner));
    for (number, handler) in claimed {
        if signal.call_method1("getsignal", (number,))?.is(&handler) {
            let default = if number == Signal::INT.as_raw() { "default_int_handler" } else { "SIG_DFL" };
            signal.call_method1("signal", (number, signal.getattr(default)?))?;
        }
    }
    Ok(())
}
