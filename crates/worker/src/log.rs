//! The worker's own lines in the log, which is Python's standard error like the application's.

use pyo3::intern;
use pyo3::prelude::*;

/// Writes one line. A log that cannot be written to must not stop the service.
pub(crate) fn complain(py: Python<'_>, message: &str) {
    let _ = py
        .import(intern!(py, "sys"))
        .and_then(|sys| sys.getattr(intern!(py, "stderr")))
        .and_then(|stderr| stderr.call_method1(intern!(py, "write"), (format!("monoceros: {message}\n"),)));
}
