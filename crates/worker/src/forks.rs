//! Processes that the application forks. They inherit the link and the page, and may use neither: the end of the link is
//! how the front learns of a worker's death, and nobody but the worker may answer on it.

use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

static IS_CHILD: AtomicBool = AtomicBool::new(false);

/// Whether this is a process that the application has forked off its worker.
pub(crate) fn is_child() -> bool {
    IS_CHILD.load(Ordering::Relaxed)
}

#[pyfunction]
fn become_child() {
    IS_CHILD.store(true, Ordering::Relaxed);
}

/// Sees to it that in every process forked from now on the number of the socket stands for an empty file.
pub(crate) fn detach(py: Python<'_>, socket: &OwnedFd) -> PyResult<()> {
    let os = py.import("os")?;
    let nothing = os.call_method1("open", ("/dev/null", os.getattr("O_RDWR")?))?;
    let inheritable = false;
    let partial = py.import("functools")?.getattr("partial")?;
    let replace = partial.call1((os.getattr("dup2")?, nothing, socket.as_raw_fd(), inheritable))?;
    for hook in [replace, wrap_pyfunction!(become_child, py)?.into_any()] {
        let arguments = PyDict::new(py);
        arguments.set_item("after_in_child", hook)?;
        os.call_method("register_at_fork", (), Some(&arguments))?;
    }
    Ok(())
}
