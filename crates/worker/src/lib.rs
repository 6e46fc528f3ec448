//! The worker side: an extension module (`monoceros_worker`) that the user's own interpreter loads.
//!
//! `boot.py` loads it and calls [`monoceros_worker::run_zygote`]; the zygote forks workers; a worker loads the
//! application and serves it on its link.

mod api;
pub mod asgi;
mod fields;
mod forks;
mod link;
mod load;
mod log;
mod signals;
mod stacks;
mod sys;
mod worker;
pub mod wsgi;
mod zygote;

use pyo3::prelude::*;

/// What an interpreter sees of the extension.
#[pymodule]
mod monoceros_worker {
    use crate::{load, sys, worker, zygote};
    use monoceros_wire::page::Page;
    use monoceros_wire::zygote::WorkerSettings;
    use pyo3::exceptions::PyValueError;
    use pyo3::prelude::*;
    use std::os::fd::AsFd;

    #[pymodule_export]
    use crate::api::extend_deadline;
    #[pymodule_export]
    use crate::stacks::DeadlineExceeded;
    #[pymodule_export]
    use crate::wsgi::FileWrapper;

    /// Runs the zygote on a control socket, and in its children the workers. Never returns.
    #[pyfunction]
    fn run_zygote(py: Python<'_>, control: i32) -> PyResult<()> {
        match zygote::run(py, sys::adopt(control)?)? {
            zygote::Role::Zygote { code } => worker::exit_now(py, code),
            zygote::Role::Worker(seat) => {
                let code = worker::run(py, *seat);
                worker::run_exit_hooks(py);
                worker::exit_now(py, code)
            }
        }
    }

    /// Serves an application object that is already loaded on a link, as the tests need it; returns the exit code.
    /// Owns both descriptors.
    #[pyfunction]
    fn run_worker(app: Bound<'_, PyAny>, socket: i32, page: i32, settings: &str) -> PyResult<i32> {
        let py = app.py();
        let settings: WorkerSettings =
            serde_json::from_str(settings).map_err(|error| PyValueError::new_err(error.to_string()))?;
        let (socket, page) = (sys::adopt(socket)?, sys::adopt(page)?);
        let page = Page::open(page.as_fd())?;
        worker::greet(&socket)?;
        let application = load::adopt(py, app, &settings)?;
        worker::serve(py, application, socket, page, &settings)
    }
}
