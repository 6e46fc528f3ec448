//! `wsgi.early_hints`: sends a 103 response before the final one (RFC 8297).

use super::head::Head;
use crate::link::Link;
use monoceros_wire::frame::{Kind, StreamId};
use monoceros_wire::message::encode_response;
use pyo3::prelude::*;
use std::sync::{Arc, Mutex, PoisonError};

/// The callable in the environ. One per thread, in the template, so that a request that sends no hints pays nothing;
/// the thread tells it which stream it serves.
#[pyclass(module = "monoceros_worker", frozen)]
pub(super) struct EarlyHints {
    link: Arc<Link>,
    stream: Mutex<Option<StreamId>>,
}

impl EarlyHints {
    pub(super) fn new(link: Arc<Link>) -> Self {
        Self { link, stream: Mutex::new(None) }
    }

    /// The stream that hints belong to from now on; `None` between requests and once a head was sent.
    pub(super) fn set_stream(&self, stream: Option<StreamId>) {
        *self.stream.lock().unwrap_or_else(PoisonError::into_inner) = stream;
    }
}

#[pymethods]
impl EarlyHints {
    /// Takes a list of `(name, value)` tuples. Too late for hints is no error: they are an optimisation.
    fn __call__(&self, py: Python<'_>, headers: &Bound<'_, PyAny>) -> PyResult<()> {
        let head = Head::parse_hint(headers)?;
        let stream = *self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(stream) = stream else { return Ok(()) };
        let encoded = self.link.queue(|out| {
            out.push_with(stream, Kind::Hint, 0, |into| encode_response(into, head.status, head.fields()))
        });
        if encoded.is_ok() {
            crate::wsgi::exchange::ignore_cancelled(self.link.flush(py))?;
        }
        Ok(())
    }
}
