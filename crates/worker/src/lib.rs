//! The worker side: an extension module (`monoceros_worker`) that the user's own interpreter loads.

pub mod asgi;
pub mod load;
pub mod wsgi;
pub mod zygote;

use monoceros_wire::frame::{Kind, LINK};
use monoceros_wire::message::Hello;
use monoceros_wire::outbound::Outbound;
use monoceros_wire::page::Page;
use monoceros_wire::zygote::WorkerSettings;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

#[pymodule]
fn monoceros_worker(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(run_worker, module)?)
}

/// Serves `app` on a link until the front drains it; returns the exit code. Owns both descriptors.
#[pyfunction]
fn run_worker(
    py: Python<'_>,
    app: Bound<'_, PyAny>,
    socket_fd: i32,
    page_fd: i32,
    settings_json: &str,
) -> PyResult<i32> {
    let settings: WorkerSettings =
        serde_json::from_str(settings_json).map_err(|error| PyValueError::new_err(error.to_string()))?;
    #[expect(unsafe_code, reason = "descriptors arrive as numbers")]
    // SAFETY: the caller hands over both descriptors and uses neither again.
    let (socket, page) = unsafe { (OwnedFd::from_raw_fd(socket_fd), OwnedFd::from_raw_fd(page_fd)) };
    let page = Page::open(page.as_fd())?;
    let mut outbound = Outbound::default();
    let hello = Hello { version: monoceros_wire::VERSION, pid: std::process::id() };
    outbound.push(LINK, Kind::Hello, 0, &hello.encode());
    outbound.send(socket.as_fd())?;
    asgi::serve(py, app, socket, page, &settings)
}
