//! Processes that the application forks. They inherit the link and the page, and may use neither: the end of the link is
//! how the front learns of a worker's death, and nobody but the worker may answer on it. They inherit our signal
//! handlers, which mean nothing there.

use crate::signals;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::cell::RefCell;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

static IS_CHILD: AtomicBool = AtomicBool::new(false);
/// The zygote forks a worker, and not the application something of its own.
static IS_WORKER_EXPECTED: AtomicBool = AtomicBool::new(false);
static IS_WATCHING: AtomicBool = AtomicBool::new(false);

/// Whether this is a process that the application has forked off its worker.
pub(crate) fn is_child() -> bool {
    IS_CHILD.load(Ordering::Relaxed)
}

/// Whether the next process to be forked is a worker.
pub(crate) fn expect_worker(is_expected: bool) {
    IS_WORKER_EXPECTED.store(is_expected, Ordering::Relaxed);
}

thread_local! {
    /// The signals that were blocked before a fork.
    static BLOCKED: RefCell<Option<Py<PyAny>>> = const { RefCell::new(None) };
}

/// A signal that reaches the child before it is one would be lost in our handler: it has to wait.
#[pyfunction]
fn begin_fork(py: Python<'_>) -> PyResult<()> {
    let blocked = signals::block_ours(py)?;
    BLOCKED.set(Some(blocked));
    Ok(())
}

#[pyfunction]
fn end_fork(py: Python<'_>) -> PyResult<()> {
    match BLOCKED.take() {
        Some(blocked) => signals::block_only(blocked.bind(py)),
        None => Ok(()),
    }
}

#[pyfunction]
fn become_child(py: Python<'_>) -> PyResult<()> {
    if !IS_WORKER_EXPECTED.load(Ordering::Relaxed) {
        IS_CHILD.store(true, Ordering::Relaxed);
        signals::release(py)?;
    }
    end_fork(py)
}

/// Sees to it that every process the application forks from now on knows what it is.
pub(crate) fn watch(py: Python<'_>) -> PyResult<()> {
    if IS_WATCHING.swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    let hooks = PyDict::new(py);
    hooks.set_item("before", wrap_pyfunction!(begin_fork, py)?)?;
    hooks.set_item("after_in_parent", wrap_pyfunction!(end_fork, py)?)?;
    hooks.set_item("after_in_child", wrap_pyfunction!(become_child, py)?)?;
    py.import("os")?.call_method("register_at_fork", (), Some(&hooks)).map(drop)
}

/// Sees to it that in every process forked from now on the number of the socket stands for an empty file.
pub(crate) fn detach(py: Python<'_>, socket: &OwnedFd) -> PyResult<()> {
    let os = py.import("os")?;
    let nothing = os.call_method1("open", ("/dev/null", os.getattr("O_RDWR")?))?;
    let inheritable = false;
    let partial = py.import("functools")?.getattr("partial")?;
    let hooks = PyDict::new(py);
    let replace = partial.call1((os.getattr("dup2")?, nothing, socket.as_raw_fd(), inheritable))?;
    hooks.set_item("after_in_child", replace)?;
    os.call_method("register_at_fork", (), Some(&hooks)).map(drop)
}
