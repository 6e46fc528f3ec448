//! What a worker tells about itself when it hangs, and how a thread is asked to return. The work is looking into Python's
//! frames, so it is written in Python (`stacks.py`); this file joins it with the page and the link.

use monoceros_wire::page::Page;
use monoceros_wire::zygote::{SIGNAL_DUMP, SIGNAL_STACKS};
use pyo3::create_exception;
use pyo3::exceptions::PyBaseException;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyModule};
use std::os::fd::{IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

create_exception!(
    monoceros,
    DeadlineExceeded,
    PyBaseException,
    "Raised in the thread of a WSGI request that has passed its time-out, so that its `finally` and `with` blocks run. No \
     `Exception`: `except Exception` is not to keep it."
);

/// Who serves in this process.
struct Served {
    page: Arc<Page>,
    /// The ASGI server, which knows its tasks.
    server: Option<Py<PyAny>>,
}

static SERVED: Mutex<Option<Served>> = Mutex::new(None);
/// A thread was asked to return; what it was told may still be on its way.
static HAS_ASKED: AtomicBool = AtomicBool::new(false);

/// From now on requests are served on this page.
pub(crate) fn begin(page: &Arc<Page>, server: Option<Py<PyAny>>) {
    *SERVED.lock().unwrap_or_else(PoisonError::into_inner) = Some(Served { page: Arc::clone(page), server });
}

/// Looks at the page of the requests that are served here; the second argument is whether an event loop serves them.
pub(crate) fn with_served<R>(look: impl FnOnce(&Page, bool) -> R) -> Option<R> {
    let served = SERVED.lock().unwrap_or_else(PoisonError::into_inner);
    served.as_ref().map(|served| look(&served.page, served.server.is_some()))
}

/// The thread has left the application: what it was told there is not meant for what it does next.
pub(crate) fn forget_asked(thread: u64) {
    if HAS_ASKED.load(Ordering::Relaxed) {
        crate::sys::withdraw_exception(thread);
    }
}

#[pyfunction]
fn take_asked() -> Vec<u64> {
    let served = SERVED.lock().unwrap_or_else(PoisonError::into_inner);
    // Of an event loop no task is asked: it was told that its client has left.
    served.as_ref().filter(|served| served.server.is_none()).map(|served| served.page.take_asked()).unwrap_or_default()
}

/// How many times the event loop has looked at the link: whether it is still where it was when somebody asked.
#[pyfunction]
fn turns() -> u64 {
    let served = SERVED.lock().unwrap_or_else(PoisonError::into_inner);
    served.as_ref().map_or(0, |served| served.page.turns())
}

#[pyfunction]
fn tasks_of_requests(py: Python<'_>) -> PyResult<Py<PyAny>> {
    let server = {
        let served = SERVED.lock().unwrap_or_else(PoisonError::into_inner);
        served.as_ref().and_then(|served| served.server.as_ref().map(|server| server.clone_ref(py)))
    };
    match server {
        Some(server) => server.call_method0(py, "tasks"),
        None => Ok(PyList::empty(py).into_any().unbind()),
    }
}

#[pyfunction]
fn raise_in(thread: u64, exception: &Bound<'_, PyAny>) {
    let is_inside = SERVED
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .as_ref()
        .is_some_and(|served| served.page.entered_by(thread).is_some());
    if is_inside {
        HAS_ASKED.store(true, Ordering::Relaxed);
        crate::sys::raise_in_thread(thread, exception);
    }
}

/// Installs the handlers. The pipe stays open for as long as the process lives.
pub(crate) fn install(py: Python<'_>, pipe: OwnedFd) -> PyResult<()> {
    let code = const { crate::load::c_text(concat!(include_str!("stacks.py"), "\0")) };
    let module = PyModule::from_code(py, code, c"<monoceros>", c"monoceros_stacks")?;
    let arguments = (
        pipe.into_raw_fd(),
        SIGNAL_STACKS,
        SIGNAL_DUMP,
        wrap_pyfunction!(take_asked, py)?,
        wrap_pyfunction!(tasks_of_requests, py)?,
        wrap_pyfunction!(turns, py)?,
        py.get_type::<DeadlineExceeded>(),
        wrap_pyfunction!(raise_in, py)?,
    );
    module.getattr("install")?.call1(arguments).map(drop)
}
