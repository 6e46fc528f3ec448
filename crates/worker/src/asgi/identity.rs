//! Which request an exchange is, and how it ends.

use super::failure::{report, stems_from_disconnect};
use super::server::Server;
use super::stream::Outcome;
use monoceros_wire::frame::StreamId;
use monoceros_wire::message::Abort;
use pyo3::prelude::*;

/// Which stream an exchange is, and whose.
pub(super) struct Identity {
    pub(super) server: Py<Server>,
    pub(super) place: Place,
    /// Method and path, for the log.
    pub(super) label: Box<str>,
}

/// Where a request is known: on the link, and in the page.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) stream: StreamId,
    pub(super) cell: u32,
}

/// The last frame of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Done,
    Abort(Abort),
    /// The application has returned, but a part of its response still waits for credit. `Done` comes after it.
    Lingering,
}

impl Identity {
    /// Tells the log about an application that failed.
    pub(super) fn report(&self, py: Python<'_>, outcome: &Outcome, ending: Ending, disconnected: bool) {
        let label = &self.label;
        match (outcome, ending) {
            (Outcome::Raised(error), _) if disconnected && stems_from_disconnect(py, error) => {}
            (Outcome::Raised(error), Ending::Abort(_)) => {
                report(py, &format!("monoceros: the application raised an exception: {label}"), Some(error));
            }
            (Outcome::Raised(error), _) => {
                let line = format!("monoceros: the application raised an exception after its response: {label}");
                report(py, &line, Some(error));
            }
            (Outcome::Returned, Ending::Abort(_)) => {
                let line = format!("monoceros: the application returned without a complete response: {label}");
                report(py, &line, None);
            }
            (Outcome::Cancelled, Ending::Abort(_)) => {
                let line = format!("monoceros: the application's task was cancelled before its response: {label}");
                report(py, &line, None);
            }
            (Outcome::Returned | Outcome::Cancelled, _) => {}
        }
    }
}
